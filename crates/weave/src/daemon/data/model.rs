//! `handover.rs` under every schedule with few preemptions: compiled once more, against the locks
//! and atomics of loom, which decides at each of them which thread goes on. A thread that sleeps for
//! ever is a deadlock that it reports.
//!
//! Left to others: that the table is whole (here it is a lock; all loads and stores of arc-swap are
//! SeqCst), that a channel hands on what is sent and ends with its sender, and that a wake of an
//! eventfd lasts until it is read.

use std::cell::Cell;
use std::sync::Arc;

use loom::model::Builder;
use loom::sync::{Condvar, Mutex};
use loom::thread;

#[path = "handover.rs"]
#[allow(
    clippy::duplicate_mod,
    reason = "the same code on other locks is the point"
)]
mod handover;

use handover::{Sides, Waiting, ends};
use sync::{ArcSwap, AtomicBool, Ordering};

/// What `handover` is built on here.
mod sync {
    use std::collections::VecDeque;
    use std::sync::Arc;

    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};

    use super::Monitor;

    pub(super) struct ArcSwap<T>(Monitor<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(super) fn new(value: Arc<T>) -> Self {
            Self(Monitor::new(value))
        }

        pub(super) fn load(&self) -> Arc<T> {
            self.0.change(|value| Arc::clone(value))
        }

        pub(super) fn store(&self, new: Arc<T>) {
            self.0.change(|value| *value = new);
        }
    }

    /// What was sent, and whether the sender is gone.
    type Channel<T> = Arc<Monitor<(VecDeque<T>, bool)>>;

    pub(super) struct Sender<T>(Channel<T>);

    pub(super) struct Receiver<T>(Channel<T>);

    pub(super) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let channel = Arc::new(Monitor::new((VecDeque::new(), false)));
        (Sender(Arc::clone(&channel)), Receiver(channel))
    }

    impl<T> Sender<T> {
        pub(super) fn send(&self, value: T) -> Result<(), ()> {
            self.0.change(|(queue, _)| queue.push_back(value));
            Ok(())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.change(|(_, is_over)| *is_over = true);
        }
    }

    impl<T> Receiver<T> {
        pub(super) fn recv(&self) -> Result<T, ()> {
            self.0.wait(|(queue, is_over)| match queue.pop_front() {
                Some(value) => Some(Ok(value)),
                None => is_over.then_some(Err(())),
            })
        }

        pub(super) fn try_recv(&self) -> Result<T, ()> {
            self.0.change(|(queue, _)| queue.pop_front()).ok_or(())
        }
    }
}

/// Something that threads change and wait for.
struct Monitor<S> {
    state: Mutex<S>,
    changed: Condvar,
}

impl<S> Monitor<S> {
    fn new(state: S) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let result = change(&mut self.state.lock().expect("nobody panics with it"));
        self.changed.notify_all();
        result
    }

    /// Sleeps until there is something, and takes it.
    fn wait<R>(&self, mut take: impl FnMut(&mut S) -> Option<R>) -> R {
        let mut state = self.state.lock().expect("nobody panics with it");
        loop {
            if let Some(result) = take(&mut state) {
                self.changed.notify_all();
                return result;
            }
            state = self.changed.wait(state).expect("nobody panics with it");
        }
    }
}

/// Runs this under every schedule in which a thread is interrupted up to twice.
fn check(what: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(what);
}

/// What the kernel knows: who is to be woken, and what waits.
type Kernel = Monitor<State>;

#[derive(Default)]
struct State {
    /// The receiving thread was woken, or whoever has the sending side.
    receiving: bool,
    sending: bool,
    /// Runs of bulk in the socket.
    bulk: usize,
    /// Set of TAPs or table in force, and the one that the sending side has adopted.
    taps: usize,
    adopted: usize,
    stop: bool,
}

fn kernel() -> Arc<Kernel> {
    Arc::new(Monitor::new(State::default()))
}

impl State {
    /// What the sending side does when it is woken.
    fn send(&mut self) -> bool {
        let was_woken = std::mem::take(&mut self.sending);
        if was_woken {
            self.adopted = self.taps;
        }
        was_woken
    }
}

/// The sending side; there is one.
struct Tx;

/// The receiving thread.
struct Main {
    kernel: Arc<Kernel>,
    watches: bool,
}

impl Sides for Main {
    type Tx = Tx;

    fn watch(&mut self, _: &Tx) {
        self.watches = true;
    }

    fn let_go(&mut self, _: &Tx) {
        self.watches = false;
    }

    fn serve_both(&mut self, _: &mut Tx) -> bool {
        assert!(self.watches, "it would not see what is to be sent");
        self.kernel.wait(|state| {
            let was_woken = std::mem::take(&mut state.receiving);
            let has_sent = state.send();
            let is_bulk = state.bulk > 0;
            state.bulk -= usize::from(is_bulk);
            let is_any = is_bulk || was_woken || has_sent;
            is_any.then_some(is_bulk)
        })
    }

    fn serve_receiving(&mut self) -> bool {
        self.kernel.wait(|state| {
            let was_woken = std::mem::take(&mut state.receiving);
            let is_any = was_woken || std::mem::take(&mut state.bulk) > 0;
            is_any.then_some(was_woken)
        })
    }
}

/// Both threads, and one that changes the set of TAPs while datagrams come, then stops them.
fn lend_and_take_back() {
    let kernel = kernel();
    let (lender, borrower) = ends();
    let helper = {
        let kernel = Arc::clone(&kernel);
        thread::spawn(move || {
            // each time for one look
            let looks = Cell::new(0);
            let is_needed =
                || !kernel.change(|state| state.stop) && looks.replace(looks.get() + 1) % 2 == 0;
            let serve = |_: &mut Tx| {
                kernel.change(|state| {
                    state.send();
                });
            };
            let wake = || kernel.change(|state| state.receiving = true);
            borrower.run(is_needed, serve, wake);
        })
    };
    let main = {
        let kernel = Arc::clone(&kernel);
        thread::spawn(move || {
            let mut sides = Main {
                kernel: Arc::clone(&kernel),
                watches: false,
            };
            lender.run(&mut sides, Tx, || kernel.change(|state| state.stop));
        })
    };
    kernel.change(|state| state.bulk = 1);
    kernel.change(|state| state.taps = 1);
    kernel.change(|state| state.sending = true);
    kernel.change(|state| state.receiving = true);
    // whoever has the sending side adopts them, if nothing else ever happens
    kernel.wait(|state| (state.adopted == 1).then_some(()));
    // a table that frames wait for wakes nobody else
    kernel.change(|state| state.taps = 2);
    kernel.change(|state| state.sending = true);
    kernel.wait(|state| (state.adopted == 2).then_some(()));
    kernel.change(|state| state.stop = true);
    kernel.change(|state| state.sending = true);
    kernel.change(|state| state.receiving = true);
    main.join().expect("it ends");
    helper.join().expect("it ends");
}

/// Frames wait for the last of three tables.
fn wait_for_a_table() {
    const LAST: usize = 2;
    let table = Arc::new(ArcSwap::new(Arc::new(0)));
    let (waiting, kernel) = (Arc::new(Waiting::default()), kernel());
    let wake = |kernel: &Kernel| kernel.change(|state| state.sending = true);
    let sending = {
        let (table, waiting) = (Arc::clone(&table), Arc::clone(&waiting));
        let kernel = Arc::clone(&kernel);
        thread::spawn(move || {
            loop {
                let seen = table.load();
                let waits = *seen != LAST;
                waiting.note(waits, &table, &seen, || wake(&kernel));
                if !waits {
                    return;
                }
                kernel.wait(|state| state.send().then_some(()));
            }
        })
    };
    for new in 1..=LAST {
        waiting.publish(&table, Arc::new(new), || wake(&kernel));
    }
    sending.join().expect("the frames leave");
}

#[test]
fn the_sending_side_is_always_served_and_both_threads_end() {
    check(lend_and_take_back);
}

#[test]
fn no_table_comes_that_waiting_frames_do_not_see() {
    check(wait_for_a_table);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_thread_that_nobody_wakes_is_noticed() {
    // as `Waiting` would be without its second look
    check(|| {
        let (is_awaited, kernel) = (Arc::new(AtomicBool::new(false)), kernel());
        let sleeper = {
            let (is_awaited, kernel) = (Arc::clone(&is_awaited), Arc::clone(&kernel));
            thread::spawn(move || {
                is_awaited.store(true, Ordering::SeqCst);
                kernel.wait(|state| state.send().then_some(()));
            })
        };
        if is_awaited.load(Ordering::SeqCst) {
            kernel.change(|state| state.sending = true);
        }
        sleeper.join().expect("it is woken");
    });
}

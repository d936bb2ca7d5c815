//! How the data threads hand over: the sending side to each other, and a new forwarding table to
//! frames that wait for one.
//!
//! Owns who has the sending side, and that no thread sleeps while something is for it. What the
//! threads do meanwhile is told by whoever uses this. `model.rs` runs this very file under many
//! schedules.

use std::sync::Arc;

use super::sync::{ArcSwap, AtomicBool, Ordering, Receiver, Sender, channel};

/// What the receiving thread does between two hand-overs.
pub(super) trait Sides {
    /// The sending side.
    type Tx;
    /// [`Self::serve_both`] waits for what is to be sent, too.
    fn watch(&mut self, tx: &Self::Tx);
    /// It does so no more.
    fn let_go(&mut self, tx: &Self::Tx);
    /// Waits until there is something on one of both sides or the thread is woken, and serves
    /// both; whether there is bulk.
    fn serve_both(&mut self, tx: &mut Self::Tx) -> bool;
    /// The same for the receiving side alone; whether the thread was woken.
    fn serve_receiving(&mut self) -> bool;
}

/// The end of the thread that receives.
pub(super) struct Lender<T> {
    lend: Sender<T>,
    take_back: Receiver<T>,
}

/// The end of the thread that sends beside a bulk transfer.
pub(super) struct Borrower<T> {
    borrow: Receiver<T>,
    give_back: Sender<T>,
}

/// Both ends.
pub(super) fn ends<T>() -> (Lender<T>, Borrower<T>) {
    let (lend, borrow) = channel();
    let (give_back, take_back) = channel();
    (Lender { lend, take_back }, Borrower { borrow, give_back })
}

impl<T> Lender<T> {
    /// Serves both sides while there is little to do, and one beside bulk. To stop it, it is woken.
    pub(super) fn run(self, sides: &mut impl Sides<Tx = T>, tx: T, stops: impl Fn() -> bool) {
        let mut own = Some(tx);
        while !stops() {
            own = match own {
                Some(tx) => self.both(sides, tx, &stops),
                None => self.receiving(sides),
            };
        }
    }

    /// Serves both sides until there is bulk; gives the sending side if the thread is to stop.
    fn both(
        &self,
        sides: &mut impl Sides<Tx = T>,
        mut tx: T,
        stops: impl Fn() -> bool,
    ) -> Option<T> {
        sides.watch(&tx);
        while !stops() {
            if sides.serve_both(&mut tx) {
                sides.let_go(&tx);
                let _ = self.lend.send(tx);
                return None;
            }
        }
        Some(tx)
    }

    /// Receives while another thread sends, until that gives the sending side back.
    fn receiving(&self, sides: &mut impl Sides<Tx = T>) -> Option<T> {
        while !sides.serve_receiving() {}
        self.take_back.try_recv().ok()
    }
}

impl<T> Borrower<T> {
    /// Sends while that is needed, each time that the sending side is lent; `wake` is to wake the
    /// lender. Ends when that does.
    pub(super) fn run(
        self,
        is_needed: impl Fn() -> bool,
        mut serve: impl FnMut(&mut T),
        wake: impl Fn(),
    ) {
        while let Ok(mut tx) = self.borrow.recv() {
            while is_needed() {
                serve(&mut tx);
            }
            let _ = self.give_back.send(tx);
            wake();
        }
    }
}

/// Whether frames wait for another forwarding table than the one in force.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicBool);

impl Waiting {
    /// Puts another table in force, and wakes the sending side if frames wait for it.
    pub(super) fn publish<T>(&self, table: &ArcSwap<T>, new: Arc<T>, wake: impl FnOnce()) {
        table.store(new);
        if self.0.load(Ordering::SeqCst) {
            wake();
        }
    }

    /// Notes whether frames wait for another table than the one that was looked at.
    pub(super) fn note<T>(
        &self,
        waits: bool,
        table: &ArcSwap<T>,
        seen: &Arc<T>,
        wake: impl FnOnce(),
    ) {
        self.0.store(waits, Ordering::SeqCst);
        // another table may have come before that was seen
        if waits && !Arc::ptr_eq(seen, &table.load()) {
            wake();
        }
    }
}

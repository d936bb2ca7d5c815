//! Datagrams by the batch: a sender that keeps to a rate or floods, a receiver that counts, and the
//! search for the highest rate that gets through.
//!
//! Both ends are threads of this process, on sockets that were made in the namespaces of the stage.
//! The system calls take whole batches, so that the overlay is measured and not its load. Each
//! datagram carries the number of its probe: latecomers of an earlier one are not counted.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{self, MsgFlags, MultiHeaders, sockopt};

/// Datagrams in one system call.
const BATCH: usize = 32;

/// How long a sender that is ahead of its rate sleeps.
const TICK: Duration = Duration::from_micros(50);

/// After so long without a datagram, once the sender has ended, the receiver ends too.
const SILENCE: Duration = Duration::from_millis(100);

/// Buffer of the receiver, bytes: it is not to be what loses.
const RECEIVE_BUFFER: usize = 16 << 20;

/// Room for the largest datagram that is sent.
const ROOM: usize = 2048;

/// A socket at either end of an overlay.
#[derive(Debug)]
pub(super) struct Ends {
    sender: UdpSocket,
    receiver: UdpSocket,
    probes: u32,
}

/// What became of the datagrams of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    sent: u64,
    received: u64,
    /// From the first that was sent to the last that arrived, about.
    took: Duration,
}

/// What a search found, datagrams per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rates {
    /// Received at the highest rate that lost no more than is tolerated; 0 when all did.
    pub(super) loss_free: u64,
    /// Received of a flood.
    pub(super) flood: u64,
}

impl Ends {
    /// # Errors
    /// When a namespace cannot be entered or a socket not be made.
    pub(super) fn open(client: &Path, server: &Path, address: &str) -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let receiver = in_namespace(server, || UdpSocket::bind(any))?;
        socket::setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        receiver.set_read_timeout(Some(SILENCE))?;
        let sender = in_namespace(client, || UdpSocket::bind(any))?;
        let port = receiver.local_addr()?.port();
        sender
            .connect((address, port))
            .context("connect the sender")?;
        Ok(Self {
            sender,
            receiver,
            probes: 0,
        })
    }

    /// Sends datagrams of `size` bytes at `rate` per second, or as fast as possible.
    ///
    /// # Errors
    /// When a socket fails.
    pub(super) fn probe(
        &mut self,
        size: usize,
        rate: Option<u64>,
        duration: Duration,
    ) -> Result<Probe> {
        self.probes += 1;
        let label = self.probes.to_be_bytes();
        let mut datagram = vec![0; size.max(label.len())];
        datagram
            .iter_mut()
            .zip(label)
            .for_each(|(to, from)| *to = from);
        let is_over = AtomicBool::new(false);
        let (sender, receiver) = (&self.sender, &self.receiver);
        thread::scope(|scope| {
            let count = scope.spawn(|| receive(receiver, &label, &is_over));
            let sent = send(sender, &datagram, rate, duration);
            is_over.store(true, Ordering::Relaxed);
            let count = count.join().map_err(|_| anyhow!("the receiver panicked"))?;
            let ((sent, sending), (received, receiving)) = (sent?, count?);
            Ok(Probe {
                sent,
                received,
                took: sending.max(receiving),
            })
        })
    }
}

impl Probe {
    /// Whether less than so many percent were lost.
    fn lost_less_than(self, percent: f64) -> bool {
        let lost = self.sent.saturating_sub(self.received) as f64;
        lost * 100.0 < percent * self.sent as f64
    }

    fn offered(self) -> u64 {
        per_second(self.sent, self.took)
    }

    fn arrived(self) -> u64 {
        per_second(self.received, self.took)
    }
}

/// Looks for the highest rate that loses less than `tolerated` percent: a flood, then `steps` times
/// the middle. A rate that fails is tried once more, as anything on the machine can spoil one probe.
///
/// # Errors
/// When a probe does.
pub(super) fn search(
    steps: u32,
    tolerated: f64,
    mut probe: impl FnMut(Option<u64>) -> Result<Probe>,
) -> Result<Rates> {
    let flood = probe(None)?;
    let mut found = Rates {
        loss_free: 0,
        flood: flood.arrived(),
    };
    if flood.lost_less_than(tolerated) {
        found.loss_free = found.flood;
        return Ok(found);
    }
    let mut low = 0;
    let mut high = flood.offered().min(flood.arrived() * 5 / 4);
    for _ in 0..steps {
        let rate = u64::midpoint(low, high);
        let mut outcome = probe(Some(rate))?;
        if !outcome.lost_less_than(tolerated) {
            outcome = probe(Some(rate))?;
        }
        if outcome.lost_less_than(tolerated) {
            found.loss_free = found.loss_free.max(outcome.arrived());
            low = rate;
        } else {
            high = rate;
        }
    }
    Ok(found)
}

fn per_second(count: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// Runs `work` on a thread that has entered the namespace; sockets keep theirs.
fn in_namespace<T: Send>(netns: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
    let file = File::open(netns).with_context(|| format!("open {}", netns.display()))?;
    let inside = || -> Result<T> {
        setns(file, CloneFlags::CLONE_NEWNET).context("enter a namespace")?;
        work().context("make a socket")
    };
    let joined = thread::scope(|scope| scope.spawn(inside).join());
    joined.map_err(|_| anyhow!("a helper thread panicked"))?
}

/// How many datagrams were sent, and in what time. Those that the kernel had no room for count.
fn send(
    socket: &UdpSocket,
    datagram: &[u8],
    rate: Option<u64>,
    duration: Duration,
) -> Result<(u64, Duration)> {
    let batch = vec![[IoSlice::new(datagram)]; BATCH];
    let to_peer = [None::<()>; BATCH];
    let mut headers = MultiHeaders::preallocate(BATCH, None);
    let mut pace = Pace { sent: 0, waived: 0 };
    let begin = Instant::now();
    loop {
        let elapsed = begin.elapsed();
        if elapsed >= duration {
            return Ok((pace.sent, elapsed));
        }
        let count = rate.map_or(BATCH, |rate| pace.due(rate, elapsed));
        if count == 0 {
            thread::sleep(TICK);
            continue;
        }
        let slices = batch.iter().take(count);
        let flags = MsgFlags::empty();
        let fd = socket.as_raw_fd();
        pace.sent += match socket::sendmmsg(fd, &mut headers, slices, to_peer, [], flags) {
            Ok(taken) => taken.count() as u64,
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::ECONNREFUSED) => count as u64,
            Err(error) => return Err(error).context("send datagrams"),
        };
    }
}

/// How many datagrams with this label arrived, and the time from the first to the last.
fn receive(socket: &UdpSocket, label: &[u8], is_over: &AtomicBool) -> Result<(u64, Duration)> {
    let mut room = vec![0; BATCH * ROOM];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut count = 0;
    let mut times = None;
    loop {
        let mut slices: Vec<_> = room
            .chunks_exact_mut(ROOM)
            .map(|chunk| [IoSliceMut::new(chunk)])
            .collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        let fd = socket.as_raw_fd();
        let arrived = match socket::recvmmsg(fd, &mut headers, slices.iter_mut(), flags, None) {
            Ok(messages) => messages
                .filter(|message| message.iovs().next().is_some_and(|b| b.starts_with(label)))
                .count(),
            Err(Errno::EAGAIN) if is_over.load(Ordering::Relaxed) => break,
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(error) => return Err(error).context("receive datagrams"),
        };
        if arrived > 0 {
            count += arrived as u64;
            let now = Instant::now();
            times = Some(times.map_or((now, now), |(first, _)| (first, now)));
        }
    }
    let span = times.map(|(first, last): (Instant, Instant)| last - first);
    Ok((count, span.unwrap_or_default()))
}

/// Keeps a sender to its rate.
#[derive(Debug)]
struct Pace {
    sent: u64,
    /// Never sent, because the sender was held up when they were due: a burst of them would be lost
    /// for another reason than the rate.
    waived: u64,
}

impl Pace {
    /// How many datagrams are to be sent now.
    fn due(&mut self, rate: u64, elapsed: Duration) -> usize {
        let by_now = u128::from(rate) * elapsed.as_nanos() / 1_000_000_000;
        let by_now = u64::try_from(by_now).unwrap_or(u64::MAX);
        let mut due = by_now.saturating_sub(self.sent + self.waived);
        let most = 2 * BATCH as u64;
        if due > most {
            self.waived += due - most;
            due = most;
        }
        usize::try_from(due).unwrap_or(BATCH).min(BATCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that carries so many per second, and loses what is more.
    fn path(capacity: u64, fastest: u64) -> impl FnMut(Option<u64>) -> Result<Probe> {
        move |rate| {
            let sent = rate.unwrap_or(fastest).min(fastest);
            Ok(Probe {
                sent,
                received: sent.min(capacity),
                took: Duration::from_secs(1),
            })
        }
    }

    #[test]
    fn the_search_comes_close_to_what_a_path_carries() {
        let found = search(8, 0.5, path(70_000, 150_000)).unwrap();
        assert_eq!(found.flood, 70_000);
        assert!((69_000..=70_000).contains(&found.loss_free), "{found:?}");
    }

    #[test]
    fn a_flood_that_arrives_needs_no_search() {
        let mut probes = 0;
        let mut path = path(90_000, 80_000);
        let found = search(8, 0.5, |rate| {
            probes += 1;
            path(rate)
        });
        assert_eq!(found.unwrap().loss_free, 80_000);
        assert_eq!(probes, 1);
    }

    #[test]
    fn a_rate_that_fails_once_is_tried_again() {
        let mut path = path(60_000, 150_000);
        let mut number = 0;
        let found = search(8, 0.5, |rate| {
            number += 1;
            let mut outcome = path(rate)?;
            if number % 2 == 0 {
                outcome.received /= 2;
            }
            Ok(outcome)
        });
        assert!(found.unwrap().loss_free > 58_000);
    }

    #[test]
    fn a_path_that_always_loses_has_no_loss_free_rate() {
        let lossy = |rate: Option<u64>| {
            let sent = rate.unwrap_or(100_000);
            Ok(Probe {
                sent,
                received: sent * 9 / 10,
                took: Duration::from_secs(1),
            })
        };
        assert_eq!(search(6, 0.5, lossy).unwrap().loss_free, 0);
        assert!(search(6, 10.5, lossy).unwrap().loss_free > 0);
    }

    #[test]
    fn a_sender_keeps_to_its_rate_and_waives_what_it_missed() {
        let mut pace = Pace { sent: 0, waived: 0 };
        assert_eq!(pace.due(10_000, Duration::from_micros(250)), 2);
        pace.sent += 2;
        assert_eq!(pace.due(10_000, Duration::from_micros(290)), 0);
        assert_eq!(pace.due(10_000, Duration::from_secs(1)), BATCH);
        pace.sent += 2 * BATCH as u64;
        assert_eq!(pace.due(10_000, Duration::from_secs(1)), 0);
    }

    #[test]
    fn datagrams_are_sent_and_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(SILENCE)).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let mut ends = Ends {
            sender,
            receiver,
            probes: 0,
        };
        let outcome = ends
            .probe(64, Some(2000), Duration::from_millis(200))
            .unwrap();
        assert!((300..=400).contains(&outcome.sent), "{outcome:?}");
        assert_eq!(outcome.received, outcome.sent);
        assert!(outcome.lost_less_than(0.5));
    }
}

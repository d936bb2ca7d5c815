//! When the socket of strangers is read: seldom enough that a flood of theirs leaves the thread to
//! members, and the processor to others.

use std::time::Duration;

use weave_sys::poll::{Poller, Ready};
use weave_sys::udp::{UdpRx, Underlay};
use weave_wire::Time;

/// After as much as one read takes there is none for this long; beside members' traffic there is
/// one this often.
const EVERY: Duration = Duration::from_millis(1);
/// Tells that the socket has something.
const STRANGERS: u64 = 2;

/// The socket of strangers.
#[derive(Debug)]
pub(super) struct Strangers {
    socket: Underlay,
    udp: UdpRx,
    is_ready: bool,
    is_watched: bool,
    looked_at: Time,
    rests_until: Time,
}

impl Strangers {
    /// The second socket of `underlay`, if it has one.
    pub(super) fn new(underlay: &Underlay) -> Option<Self> {
        let socket = underlay.strangers()?;
        Some(Self {
            udp: socket.receiver(),
            socket,
            is_ready: false,
            is_watched: false,
            looked_at: Time::ZERO,
            rests_until: Time::ZERO,
        })
    }

    /// Watches the socket unless it rests. How long `poller` may wait.
    pub(super) fn watch(&mut self, poller: &Poller, now: Time) -> Option<Duration> {
        let rests = now < self.rests_until;
        if rests == self.is_watched {
            let changed = match rests {
                true => poller.remove(&self.socket),
                false => poller.add(&self.socket, STRANGERS),
            };
            match changed {
                Ok(()) => self.is_watched = !rests,
                Err(error) => tracing::error!(%error, "cannot watch the socket of strangers"),
            }
        }
        rests.then(|| self.rests_until.saturating_sub(now))
    }

    /// Takes note of what `poller` found.
    pub(super) fn note(&mut self, ready: &Ready) {
        self.is_ready = ready.tokens().contains(&STRANGERS);
    }

    /// Reads what waits, if it is time for that; gives it if there is something.
    pub(super) fn read(&mut self, now: Time) -> Option<&mut UdpRx> {
        let is_due = self.is_ready || now.saturating_sub(self.looked_at) >= EVERY;
        if !is_due || now < self.rests_until {
            return None;
        }
        self.is_ready = false;
        self.looked_at = now;
        let found = self.udp.recv_batch().is_ok_and(|count| count > 0);
        if self.udp.is_full() {
            self.rests_until = now + EVERY;
        }
        found.then_some(&mut self.udp)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn at(micros: u64) -> Time {
        Time::from_nanos(micros * 1_000)
    }

    #[test]
    fn a_flood_is_read_once_in_a_while_and_wakes_nobody_meanwhile() {
        let underlay = Underlay::bind(0).expect("a port").with_strangers();
        let underlay = underlay.expect("this kernel chooses between sockets");
        underlay.set_known(&[]).expect("a program");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = ("127.0.0.1", underlay.port().expect("a port"));
        let flood = || (0..100).for_each(|_| drop(sender.send_to(b"flood", to)));
        let mut strangers = Strangers::new(&underlay).expect("a second socket");
        let (poller, mut ready) = (Poller::new().expect("a poller"), Ready::new());
        assert_eq!(strangers.watch(&poller, at(5_000)), None);
        flood();
        poller.wait(&mut ready, None).expect("a wait");
        strangers.note(&ready);
        assert!(strangers.read(at(5_000)).is_some());
        // more waits, for a while in vain
        let rest = strangers.watch(&poller, at(5_400));
        assert_eq!(rest, Some(Duration::from_micros(600)));
        poller.wait(&mut ready, rest).expect("a wait");
        assert!(ready.tokens().is_empty());
        assert!(strangers.read(at(5_900)).is_none());
        assert!(strangers.read(at(6_000)).is_some());
        while strangers.read(strangers.rests_until + EVERY).is_some() {}
        let later = strangers.looked_at + EVERY;
        assert_eq!(strangers.watch(&poller, later), None, "nothing more waits");
        flood();
        poller.wait(&mut ready, None).expect("a wait");
        strangers.note(&ready);
        assert!(strangers.read(later).is_some(), "it is read at once again");
    }
}

//! Which handshakes are handed on, and which are dropped where they arrive.
//!
//! Anybody can send something that looks like a handshake, and the control side works on one at a
//! time. So each source has a rate, all strangers together have one, and what has not even the
//! right length goes no further. Memory is fixed: sources that share a bucket share its rate.

use std::hash::BuildHasher as _;
use std::net::SocketAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use weave_crypto::message_len;
use weave_wire::{Circuit, DatagramType, Time};

use super::{DropReason, Fib};
use crate::pace::{Pace, source_of};

/// Buckets of sources.
const BUCKETS: usize = 4_096;
/// Handshake datagrams of one source: those of many peers behind one address, too.
const SOURCE: Pace = Pace::new(Duration::from_millis(10), 200);
/// Handshake datagrams of all strangers.
const STRANGERS: Pace = Pace::new(Duration::from_micros(50), 256);

/// What stands before the control side.
#[derive(Debug)]
pub(super) struct Gate {
    hasher: RandomState,
    sources: Box<[Time]>,
    strangers: Time,
}

impl Gate {
    /// A gate that nobody has come to.
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::default(),
            sources: vec![Time::ZERO; BUCKETS].into(),
            strangers: Time::ZERO,
        }
    }

    /// Lets a datagram of a handshake pass, or not.
    pub(super) fn pass(
        &mut self,
        fib: &Fib,
        from: SocketAddr,
        ty: DatagramType,
        len: usize,
        now: Time,
    ) -> Result<(), DropReason> {
        if message_len(ty).is_some_and(|right| len != right) {
            return Err(DropReason::BadHeader);
        }
        let source = source_of(from);
        let [low, high, ..] = self.hasher.hash_one(source).to_le_bytes();
        let index = usize::from(u16::from_le_bytes([low, high])) % BUCKETS;
        let bucket = self.sources.get_mut(index);
        if !bucket.is_some_and(|bucket| SOURCE.take(bucket, now)) {
            return Err(DropReason::HandshakeRate);
        }
        if is_known(fib, from) || STRANGERS.take(&mut self.strangers, now) {
            return Ok(());
        }
        Err(DropReason::HandshakeRate)
    }
}

/// Whether a member was seen there or is expected there; circuits are made by members.
fn is_known(fib: &Fib, from: SocketAddr) -> bool {
    Circuit::of(&from).is_some() || fib.known.binary_search(&from.ip().to_canonical()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use weave_crypto::INIT_LEN;

    use super::*;

    fn member() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 6783))
    }

    fn fib() -> Fib {
        Fib {
            known: vec![member().ip()],
            ..Fib::default()
        }
    }

    fn stranger(number: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(number.wrapping_mul(0x9e37_79b1).into()), 6783)
    }

    fn passes(gate: &mut Gate, fib: &Fib, from: SocketAddr, now: Time) -> bool {
        gate.pass(fib, from, DatagramType::HandshakeInit, INIT_LEN, now)
            .is_ok()
    }

    #[test]
    fn one_source_does_not_take_what_others_need() {
        let (mut gate, fib) = (Gate::new(), fib());
        let mut passed = 0;
        for microsecond in 0..1_000_000 {
            let now = Time::from_nanos(microsecond * 1_000);
            passed += u32::from(passes(&mut gate, &fib, stranger(1), now));
        }
        assert!((290..=310).contains(&passed), "{passed}");
        let others = (2..12).filter(|other| {
            let now = Time::from_secs(1);
            passes(&mut gate, &fib, stranger(*other), now)
        });
        assert!(others.count() >= 9, "another one may share the bucket");
    }

    #[test]
    fn all_strangers_together_leave_room_for_members() {
        let (mut gate, fib) = (Gate::new(), fib());
        let mut passed = 0;
        for tick in 0..100_000 {
            let now = Time::from_nanos(u64::from(tick) * 10_000);
            passed += u32::from(passes(&mut gate, &fib, stranger(tick), now));
            if tick % 10_000 == 0 {
                assert!(passes(&mut gate, &fib, member(), now));
            }
        }
        assert!((15_000..=20_300).contains(&passed), "{passed} in a second");
        let mapped = SocketAddr::from((std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 1));
        assert!(passes(&mut gate, &fib, mapped, Time::from_secs(1)));
    }

    #[test]
    fn what_has_not_the_length_of_its_type_takes_nothing() {
        let (mut gate, fib) = (Gate::new(), fib());
        let now = Time::from_secs(1);
        for ty in [
            DatagramType::HandshakeInit,
            DatagramType::HandshakeReply,
            DatagramType::CookieReply,
            DatagramType::Reject,
        ] {
            for _ in 0..1_000 {
                let passed = gate.pass(&fib, stranger(1), ty, 17, now);
                assert_eq!(passed, Err(DropReason::BadHeader));
            }
        }
        assert!(passes(&mut gate, &fib, stranger(1), now));
    }
}

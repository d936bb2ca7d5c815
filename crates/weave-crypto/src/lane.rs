//! The sending end of one lane: a key, a counter that only goes up, and a time to stop.

use std::sync::atomic::{AtomicU64, Ordering};

use weave_wire::{
    Lane, PayloadKind, ReceiverIndex, RelayHeader, SEALED_HEADER_LEN, SealedHeader, TAG_LEN, Time,
};

use crate::aead::SealKey;
use crate::replay::ReplayWindow;

/// Why nothing was sealed. The datagram is unchanged in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaneClosed {
    /// The key is too old; a rekey is overdue.
    #[error("the key of this lane is past its last use")]
    Expired,
    /// The key was used 2^60 times.
    #[error("the counter of this lane is used up")]
    Exhausted,
    /// The buffer has no room for header and tag. A bug of the caller.
    #[error("a datagram to seal needs {SEALED_HEADER_LEN} bytes in front and {TAG_LEN} behind")]
    NoRoom,
}

/// Seals the datagrams of one lane of one epoch, for one sending thread; the relay lane for all of
/// them.
///
/// Shared by `Arc`, so that its counter outlives every snapshot that names it. It cannot be
/// cloned: two lanes with one key would use a counter twice.
#[derive(Debug)]
pub struct SendLane {
    key: SealKey,
    version: u8,
    receiver: ReceiverIndex,
    counter: AtomicU64,
    stop_at: Time,
}

impl SendLane {
    /// A lane of a session of this protocol version that has sealed nothing yet. Its key must be
    /// one that no other lane has.
    pub const fn new(key: SealKey, version: u8, receiver: ReceiverIndex, stop_at: Time) -> Self {
        Self {
            key,
            version,
            receiver,
            counter: AtomicU64::new(0),
            stop_at,
        }
    }

    /// The index by which the receiver finds its key.
    pub const fn receiver(&self) -> ReceiverIndex {
        self.receiver
    }

    /// From this time on the lane seals nothing.
    pub const fn stop_at(&self) -> Time {
        self.stop_at
    }

    /// How many counters were taken.
    pub fn sealed(&self) -> u64 {
        self.counter.load(Ordering::Relaxed)
    }

    /// Seals a datagram where it lies: 16 bytes of room for the header, the plaintext, 16 bytes
    /// of room for the tag.
    ///
    /// # Errors
    /// [`LaneClosed`] when the key may not be used any more or the rooms are missing; nothing was
    /// written then.
    pub fn seal(
        &self,
        kind: PayloadKind,
        now: Time,
        datagram: &mut [u8],
    ) -> Result<(), LaneClosed> {
        self.seal_with(now, datagram, |counter| {
            let header = SealedHeader {
                version: self.version,
                kind,
                receiver: self.receiver,
                counter,
            };
            header.encode()
        })
    }

    /// The same for a datagram within which another one lies, for a relay or from it: `slot`
    /// names the circuit at the receiver.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_relayed(
        &self,
        slot: u32,
        now: Time,
        datagram: &mut [u8],
    ) -> Result<(), LaneClosed> {
        let circuit = ReceiverIndex::new(slot, self.receiver.epoch_parity(), Lane::Relay);
        self.seal_with(now, datagram, |counter| {
            let header = RelayHeader {
                version: self.version,
                circuit,
                counter,
            };
            header.encode()
        })
    }

    fn seal_with(
        &self,
        now: Time,
        datagram: &mut [u8],
        encode: impl FnOnce(u64) -> [u8; SEALED_HEADER_LEN],
    ) -> Result<(), LaneClosed> {
        let (header, rest) = datagram
            .split_first_chunk_mut::<SEALED_HEADER_LEN>()
            .ok_or(LaneClosed::NoRoom)?;
        let (plaintext, tag) = rest
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(LaneClosed::NoRoom)?;
        if now >= self.stop_at {
            return Err(LaneClosed::Expired);
        }
        let counter = self.take_counter()?;
        *header = encode(counter);
        *tag = self.key.seal_in_place(counter, header, plaintext);
        Ok(())
    }

    /// Tells keys apart without showing them: the tag at a counter that no lane reaches.
    #[cfg(test)]
    pub(crate) fn fingerprint(&self) -> [u8; 16] {
        self.key.seal_in_place(u64::MAX, b"", &mut [])
    }

    /// Taken atomically although there is one writer: a second one by mistake must not cost the
    /// secrecy of the key.
    fn take_counter(&self) -> Result<u64, LaneClosed> {
        self.counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |counter| {
                (counter < ReplayWindow::COUNTER_LIMIT).then_some(counter + 1)
            })
            .map_err(|_| LaneClosed::Exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chain, OpenKey, Role, Suite};

    fn lane() -> (SendLane, OpenKey) {
        let chain = Chain::first(&[1; 32]);
        let (seal, _) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Initiator, Lane::Data);
        let (_, open) = chain.lane_keys(Suite::ChaCha20Poly1305, Role::Responder, Lane::Data);
        let receiver = ReceiverIndex::new(77, 0, Lane::Data);
        (SendLane::new(seal, 2, receiver, Time::from_secs(180)), open)
    }

    #[test]
    fn a_sealed_datagram_names_its_receiver_and_counts_up() {
        let (lane, open) = lane();
        for counter in 0..3 {
            let mut datagram = [0; 16 + 5 + 16];
            datagram[16..21].copy_from_slice(b"hello");
            assert_eq!(
                lane.seal(PayloadKind::Control, Time::ZERO, &mut datagram),
                Ok(())
            );
            let header = SealedHeader::decode(&datagram).expect("a header");
            assert_eq!(header.receiver, lane.receiver());
            assert_eq!((header.version, header.kind), (2, PayloadKind::Control));
            assert_eq!(header.counter, counter);
            let (aad, sealed) = datagram.split_at_mut(16);
            assert_eq!(open.open_in_place(counter, aad, sealed), Ok(5));
            assert_eq!(&sealed[..5], b"hello");
        }
        assert_eq!(lane.sealed(), 3);
    }

    #[test]
    fn every_byte_of_a_sealed_datagram_is_authenticated() {
        let (lane, open) = lane();
        let mut datagram = [0; 40];
        assert_eq!(
            lane.seal(PayloadKind::Frame, Time::ZERO, &mut datagram),
            Ok(())
        );
        for index in 0..datagram.len() {
            let mut changed = datagram;
            changed[index] ^= 0x10;
            let (aad, sealed) = changed.split_at_mut(16);
            assert_eq!(open.open_in_place(0, aad, sealed), Err(crate::OpenError));
        }
    }

    #[test]
    fn a_lane_stops_on_time_and_leaves_the_datagram_alone() {
        let (lane, _) = lane();
        let mut datagram = [7; 40];
        let stop = lane.seal(PayloadKind::Frame, Time::from_secs(180), &mut datagram);
        assert_eq!(stop, Err(LaneClosed::Expired));
        assert_eq!(datagram, [7; 40]);
        assert_eq!(lane.sealed(), 0);
        let short = lane.seal(PayloadKind::Frame, Time::ZERO, &mut datagram[..31]);
        assert_eq!(short, Err(LaneClosed::NoRoom));
        assert_eq!(datagram, [7; 40]);
    }

    #[test]
    fn a_lane_stops_at_its_last_counter_for_good() {
        let (lane, _) = lane();
        lane.counter
            .store(ReplayWindow::COUNTER_LIMIT - 1, Ordering::Relaxed);
        let mut datagram = [0; 40];
        assert_eq!(
            lane.seal(PayloadKind::Frame, Time::ZERO, &mut datagram),
            Ok(())
        );
        for _ in 0..3 {
            let closed = lane.seal(PayloadKind::Frame, Time::ZERO, &mut datagram);
            assert_eq!(closed, Err(LaneClosed::Exhausted));
        }
    }
}

//! What happens, in order: a hash over all of it, and the last of it to be read.
//!
//! Equal runs have equal hashes. Once something is wrong nothing more is kept to be read.

use std::collections::VecDeque;
use std::net::SocketAddr;

use blake2::{Blake2s256, Digest};
use weave_wire::{DatagramType, Time};

/// Events that are kept to be read.
const KEPT: usize = 200;
/// Bytes kept of each.
const HEAD: usize = 48;

/// What kind of thing happened, and so what the bytes after it mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Datagram = 1,
    Written = 2,
    Timer = 3,
    Answer = 4,
    Fault = 5,
    Work = 6,
    Frame = 7,
}

/// One event, as far as it is kept.
#[derive(Debug)]
struct Kept {
    at: Time,
    step: Step,
    host: usize,
    from: Option<SocketAddr>,
    len: usize,
    head: [u8; HEAD],
}

/// The hash so far, and the last events.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: Blake2s256,
    last: VecDeque<Kept>,
    is_frozen: bool,
}

impl Trace {
    /// Notes one thing that happened to one host.
    pub(crate) fn note(&mut self, at: Time, step: Step, host: usize, bytes: &[u8]) {
        self.add_up(at, step, host, bytes);
        let text = || String::from_utf8_lossy(bytes);
        match step {
            Step::Fault => tracing::info!(at = %clock(at), host, what = %text(), "fault"),
            Step::Answer => {
                tracing::debug!(at = %clock(at), host, what = %text(), "address answered");
            }
            Step::Datagram | Step::Written | Step::Timer | Step::Work | Step::Frame => {}
        }
        self.keep(at, step, host, None, bytes);
    }

    /// Notes a datagram: its ends are enough, for the tag at its end depends on all of it.
    pub(crate) fn note_datagram(&mut self, at: Time, from: SocketAddr, host: usize, bytes: &[u8]) {
        let head = bytes.get(..16).unwrap_or(bytes);
        let tail = bytes
            .get(bytes.len().saturating_sub(16)..)
            .unwrap_or_default();
        self.add_up(at, Step::Datagram, host, head);
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(tail);
        self.keep(at, Step::Datagram, host, Some(from), bytes);
    }

    /// The hash over all that was noted.
    pub(crate) fn finish(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Keeps what there is to be read; what follows is not kept.
    pub(crate) const fn freeze(&mut self) {
        self.is_frozen = true;
    }

    /// The last events in words, oldest first.
    pub(crate) fn told(&self) -> Vec<String> {
        self.last.iter().map(Kept::told).collect()
    }

    fn add_up(&mut self, at: Time, step: Step, host: usize, bytes: &[u8]) {
        self.hash.update(at.as_nanos().to_le_bytes());
        self.hash.update([step as u8]);
        self.hash.update((host as u64).to_le_bytes());
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    fn keep(&mut self, at: Time, step: Step, host: usize, from: Option<SocketAddr>, bytes: &[u8]) {
        if self.is_frozen {
            return;
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        let mut head = [0; HEAD];
        for (to, byte) in head.iter_mut().zip(bytes) {
            *to = *byte;
        }
        let len = bytes.len();
        self.last.push_back(Kept {
            at,
            step,
            host,
            from,
            len,
            head,
        });
    }
}

impl Kept {
    fn told(&self) -> String {
        let (at, host, len) = (clock(self.at), self.host, self.len);
        let text = String::from_utf8_lossy(self.head.get(..len).unwrap_or(&self.head));
        let number = self
            .head
            .first_chunk()
            .map_or(0, |n| u64::from_le_bytes(*n));
        let what = match self.step {
            Step::Datagram => match DatagramType::of(&self.head) {
                Ok(ty) => format!("{ty:?}, {len} bytes"),
                Err(error) => format!("{len} bytes ({error})"),
            },
            Step::Written => "written to disk".to_owned(),
            Step::Timer => "timer".to_owned(),
            Step::Answer => format!("address for {text}"),
            Step::Fault => text.into_owned(),
            Step::Work => format!("address asked for {number}"),
            Step::Frame => format!("frame of {len} bytes for containers"),
        };
        let from = self.from.map(|from| format!(" from {from}"));
        let from = from.unwrap_or_default();
        format!("{at:>12} host {host}: {what}{from}")
    }
}

/// Virtual seconds, for people to read.
pub(crate) fn clock(at: Time) -> String {
    let nanos = at.as_nanos();
    format!("{}.{:06}", nanos / 1_000_000_000, nanos / 1000 % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_before_something_was_wrong_can_be_read() {
        let mut trace = Trace::default();
        for second in 0..KEPT as u64 + 7 {
            trace.note(Time::from_secs(second), Step::Fault, 3, b"crash");
        }
        let from = "172.16.0.1:6783".parse().expect("an address");
        trace.note_datagram(Time::from_millis(1_500), from, 4, &[0x11; 60]);
        trace.freeze();
        let hash = trace.finish();
        trace.note(Time::from_secs(900), Step::Timer, 1, &[]);
        assert_ne!(trace.finish(), hash);
        let told = trace.told();
        assert_eq!(told.len(), KEPT);
        assert_eq!(told[0], "    8.000000 host 3: crash");
        let last = "    1.500000 host 4: HandshakeInit, 60 bytes from 172.16.0.1:6783";
        assert_eq!(told[KEPT - 1], last);
    }
}

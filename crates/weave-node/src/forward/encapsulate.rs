//! From a frame for one session to sealed datagrams: one each, several in one, or several for one.
//!
//! Owns the ids of fragments and a buffer for what must be finished before it can travel. Every
//! payload is copied once, from where the frame lies to where its datagram does, and sealed there.

use weave_crypto::{LaneClosed, ReplayWindow};
use weave_wire::offload::{self, Checksum, Cutter, Gso, Offload};
use weave_wire::{
    FRAGMENT_HEADER_LEN, FRAME_HEADER_LEN, MAX_RECORD, PayloadKind, RECORD_HEADER_LEN, RELAY_LEN,
    RecordHeader, SEALED_HEADER_LEN, SegmentId, TAG_LEN, Time,
};

use super::fragments::Cuts;
use super::{Count, DropReason, Egress, FibSession, Hop};

/// Bytes of a datagram that are not payload.
const SEAL_LEN: usize = SEALED_HEADER_LEN + TAG_LEN;

/// Frames that may share a datagram.
const MOST_SHARED: usize = 32;

/// Where a frame goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'f> {
    pub(super) session: &'f FibSession,
    pub(super) segment: SegmentId,
    pub(super) now: Time,
}

impl Path<'_> {
    /// Longest payload.
    const fn room(&self) -> usize {
        self.session.max_datagram.saturating_sub(SEAL_LEN)
    }

    /// Counts frames that were sealed for the peer.
    fn note_sent(&self, frames: usize, bytes: usize) {
        self.session.traffic.sent.add(Count::new(frames, bytes));
    }

    /// The same of frames that share a payload of this length.
    fn note_shared(&self, frames: usize, len: usize) {
        let headers = FRAME_HEADER_LEN + frames * RECORD_HEADER_LEN;
        self.note_sent(frames, len - headers);
    }
}

/// A frame that is as whole as it has to be to travel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready<'a> {
    bytes: &'a [u8],
    checksum: Checksum,
}

impl<'a> Ready<'a> {
    const EMPTY: Self = Self {
        bytes: &[],
        checksum: Checksum::Complete,
    };

    /// The frame, unless something is to be done before.
    pub(super) fn new(bytes: &'a [u8], offload: Offload) -> Option<Self> {
        let checksum = match offload {
            Offload::Whole => Checksum::Complete,
            Offload::Checksum { start, offset } if offload::is_plain(bytes, start, offset) => {
                Checksum::Partial
            }
            Offload::Checksum { .. } | Offload::Cut { .. } => return None,
        };
        Some(Self { bytes, checksum })
    }

    /// As one of several in a datagram.
    fn record(&self) -> RecordHeader {
        RecordHeader {
            len: u16::try_from(self.bytes.len()).unwrap_or(MAX_RECORD),
            checksum: self.checksum,
        }
    }
}

/// Neighbouring small frames for one session, which share a datagram. They wait for no timer: only
/// for what was read together with them.
#[derive(Debug)]
pub(super) struct Pack<'a> {
    session: usize,
    frames: [Ready<'a>; MOST_SHARED],
    count: usize,
    /// Length of the payload with all of them.
    len: usize,
}

impl<'a> Pack<'a> {
    pub(super) const fn new() -> Self {
        Self {
            session: 0,
            frames: [Ready::EMPTY; MOST_SHARED],
            count: 0,
            len: FRAME_HEADER_LEN,
        }
    }

    /// The session that they are for, unless there are none.
    pub(super) const fn session(&self) -> Option<usize> {
        match self.count {
            0 => None,
            _ => Some(self.session),
        }
    }

    /// Adds a frame for a session; `false` when it does not belong to those that are here.
    pub(super) fn add(&mut self, session: usize, path: Path<'_>, frame: Ready<'a>) -> bool {
        let len = RECORD_HEADER_LEN + frame.bytes.len();
        let is_small = len <= path.room() / 2;
        let fits = self.len + len <= path.room() && self.session().is_none_or(|it| it == session);
        let Some(slot) = self.frames.get_mut(self.count).filter(|_| is_small && fits) else {
            return false;
        };
        *slot = frame;
        self.session = session;
        self.count += 1;
        self.len += len;
        true
    }

    /// Takes all of them out: the frames, and the length of their payload.
    pub(super) fn take(&mut self) -> (&[Ready<'a>], usize) {
        let frames = self.frames.get(..self.count).unwrap_or_default();
        let len = std::mem::replace(&mut self.len, FRAME_HEADER_LEN);
        self.count = 0;
        (frames, len)
    }
}

/// Makes datagrams of frames.
#[derive(Debug, Default)]
pub(super) struct Encapsulator {
    next_fragment_id: u32,
    /// What must be finished before it is cut.
    scratch: Vec<u8>,
}

impl Encapsulator {
    /// Sends a frame with what is left to do for it.
    pub(super) fn send(
        &mut self,
        path: Path<'_>,
        bytes: &[u8],
        offload: Offload,
        egress: &mut impl Egress,
    ) -> Result<(), DropReason> {
        if let Some(frame) = Ready::new(bytes, offload) {
            return self.send_ready(path, frame, egress);
        }
        match offload {
            Offload::Cut { gso, size, start } => {
                self.send_cut(path, bytes, gso, size, start, egress)
            }
            Offload::Checksum { start, offset } => self.with_scratch(|this, scratch| {
                scratch.extend_from_slice(bytes);
                offload::complete(scratch, start, offset)
                    .map_err(|_| DropReason::MalformedFrame)?;
                let frame = Ready {
                    bytes: scratch,
                    checksum: Checksum::Complete,
                };
                this.send_ready(path, frame, egress)
            }),
            Offload::Whole => Ok(()),
        }
    }

    /// Sends frames that share a datagram.
    pub(super) fn send_pack(
        &mut self,
        path: Path<'_>,
        (frames, len): (&[Ready<'_>], usize),
        egress: &mut impl Egress,
    ) -> Result<(), DropReason> {
        if let [frame] = frames {
            return self.send_ready(path, *frame, egress);
        }
        seal(path, PayloadKind::Frames, len, egress, |payload| {
            let mut rest = put(payload, &path.segment.encode());
            for frame in frames {
                rest = put(rest, &frame.record().encode());
                rest = put(rest, frame.bytes);
            }
        })?;
        path.note_shared(frames.len(), len);
        Ok(())
    }

    /// Sends a frame in one datagram, or in fragments.
    fn send_ready(
        &mut self,
        path: Path<'_>,
        frame: Ready<'_>,
        egress: &mut impl Egress,
    ) -> Result<(), DropReason> {
        let len = FRAME_HEADER_LEN + frame.bytes.len();
        if len > path.room() {
            return self.send_fragments(path, frame, egress);
        }
        let kind = match frame.checksum {
            Checksum::Complete => PayloadKind::Frame,
            Checksum::Partial => PayloadKind::UnsummedFrame,
        };
        seal(path, kind, len, egress, |payload| {
            put(put(payload, &path.segment.encode()), frame.bytes);
        })?;
        path.note_sent(1, frame.bytes.len());
        Ok(())
    }

    fn send_fragments(
        &mut self,
        path: Path<'_>,
        frame: Ready<'_>,
        egress: &mut impl Egress,
    ) -> Result<(), DropReason> {
        let room = path.room().saturating_sub(FRAGMENT_HEADER_LEN);
        let cuts = Cuts::new(path.segment, self.next_fragment_id, frame.bytes, room)
            .ok_or(DropReason::TooBig)?;
        self.next_fragment_id = self.next_fragment_id.wrapping_add(1);
        let kind = match frame.checksum {
            Checksum::Complete => PayloadKind::Fragment,
            Checksum::Partial => PayloadKind::UnsummedFragment,
        };
        for (header, part) in cuts {
            let len = FRAGMENT_HEADER_LEN + part.len();
            seal(path, kind, len, egress, |payload| {
                put(put(payload, &header.encode()), part);
            })?;
        }
        path.note_sent(1, frame.bytes.len());
        Ok(())
    }

    /// Sends a super-frame in segments, shorter ones where the path is narrow, several in a
    /// datagram where it is wide.
    fn send_cut(
        &mut self,
        path: Path<'_>,
        bytes: &[u8],
        gso: Gso,
        size: usize,
        start: usize,
        egress: &mut impl Egress,
    ) -> Result<(), DropReason> {
        let cutter =
            Cutter::new(bytes, gso, size, start).map_err(|_| DropReason::MalformedFrame)?;
        let room = path.room().saturating_sub(FRAME_HEADER_LEN);
        let Some(cutter) = cutter.narrowed(room) else {
            return self.send_in_fragments(path, &cutter, egress);
        };
        let shared = (room / (RECORD_HEADER_LEN + cutter.longest())).min(cutter.count());
        for first in (0..cutter.count()).step_by(shared.max(1)) {
            if shared < 2 {
                send_segment(path, &cutter, first, egress)?;
            } else {
                send_segments(path, &cutter, first, shared, egress)?;
            }
        }
        Ok(())
    }

    /// Datagrams of UDP that do not fit the path: each in fragments.
    fn send_in_fragments(
        &mut self,
        path: Path<'_>,
        cutter: &Cutter<'_>,
        egress: &mut impl Egress,
    ) -> Result<(), DropReason> {
        self.with_scratch(|this, scratch| {
            for index in 0..cutter.count() {
                scratch.resize(cutter.len_of(index), 0);
                cutter.write(index, scratch);
                let frame = Ready {
                    bytes: scratch,
                    checksum: Checksum::Partial,
                };
                this.send_ready(path, frame, egress)?;
            }
            Ok(())
        })
    }

    fn with_scratch<T>(&mut self, work: impl FnOnce(&mut Self, &mut Vec<u8>) -> T) -> T {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let result = work(self, &mut scratch);
        self.scratch = scratch;
        result
    }
}

fn send_segment(
    path: Path<'_>,
    cutter: &Cutter<'_>,
    index: usize,
    egress: &mut impl Egress,
) -> Result<(), DropReason> {
    let len = FRAME_HEADER_LEN + cutter.len_of(index);
    seal(path, PayloadKind::UnsummedFrame, len, egress, |payload| {
        cutter.write(index, put(payload, &path.segment.encode()));
    })?;
    path.note_sent(1, len - FRAME_HEADER_LEN);
    Ok(())
}

/// Several segments, from the `first` on, in one datagram.
fn send_segments(
    path: Path<'_>,
    cutter: &Cutter<'_>,
    first: usize,
    count: usize,
    egress: &mut impl Egress,
) -> Result<(), DropReason> {
    let indexes = first..(first + count).min(cutter.count());
    let frames = indexes.len();
    let lens = indexes.clone().map(|index| cutter.len_of(index));
    let len = FRAME_HEADER_LEN + lens.map(|len| RECORD_HEADER_LEN + len).sum::<usize>();
    seal(path, PayloadKind::Frames, len, egress, |payload| {
        let mut rest = put(payload, &path.segment.encode());
        for index in indexes {
            let len = cutter.len_of(index);
            let record = RecordHeader {
                len: u16::try_from(len).unwrap_or(MAX_RECORD),
                checksum: Checksum::Partial,
            };
            rest = put(rest, &record.encode());
            let (segment, left) = rest.split_at_mut(len.min(rest.len()));
            cutter.write(index, segment);
            rest = left;
        }
    })?;
    path.note_shared(frames, len);
    Ok(())
}

/// Copies bytes to the front of a buffer; gives what is behind them.
fn put<'b>(buffer: &'b mut [u8], bytes: &[u8]) -> &'b mut [u8] {
    let len = bytes.len().min(buffer.len());
    let (front, rest) = buffer.split_at_mut(len);
    front.copy_from_slice(bytes.get(..len).unwrap_or_default());
    rest
}

/// Takes room for a datagram, lets its payload be written there, and seals it there.
fn seal(
    path: Path<'_>,
    kind: PayloadKind,
    len: usize,
    egress: &mut impl Egress,
    write: impl FnOnce(&mut [u8]),
) -> Result<(), DropReason> {
    // Room that was taken is sent, so whether the lane still seals is asked before.
    let session = path.session;
    let lane = &session.data;
    if path.now >= lane.stop_at() || lane.sealed() >= ReplayWindow::COUNTER_LIMIT {
        return Err(DropReason::LaneClosed);
    }
    let hops = session.hops.len();
    let datagram = egress
        .datagram(session.addr, SEAL_LEN + len + hops * RELAY_LEN)
        .ok_or(DropReason::EgressFull)?;
    let sealed = {
        let innermost = inner(datagram, hops);
        let payload = innermost.get_mut(SEALED_HEADER_LEN..SEALED_HEADER_LEN + len);
        write(payload.unwrap_or_default());
        lane.seal(kind, path.now, innermost)
    };
    let wrapped = match sealed {
        Ok(()) if hops > 0 => wrap(&session.hops, path.now, datagram),
        other => other,
    };
    wrapped.map_err(|_| {
        datagram.fill(0);
        DropReason::LaneClosed
    })
}

/// Seals a datagram, which lies within room for all hops, for each of them.
pub(crate) fn wrap(hops: &[Hop], now: Time, datagram: &mut [u8]) -> Result<(), LaneClosed> {
    let outside = (0..hops.len()).rev();
    hops.iter().zip(outside).try_for_each(|(hop, outside)| {
        hop.lane
            .seal_relayed(hop.slot, now, inner(datagram, outside))
    })
}

/// What lies within the room of so many hops.
pub(crate) fn inner(datagram: &mut [u8], hops: usize) -> &mut [u8] {
    if hops == 0 {
        return datagram;
    }
    let len = datagram.len();
    let range = hops * SEALED_HEADER_LEN..len.saturating_sub(hops * TAG_LEN);
    datagram.get_mut(range).unwrap_or_default()
}

//! Against a reference that builds every segment from nothing and sums all of it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::headers::{CWR, FIN, PSH};
use super::*;

/// A connection or flow, and what one super-frame of it carries.
#[derive(Debug, Clone)]
struct Sent {
    gso: Gso,
    is_v6: bool,
    tags: usize,
    /// In units of 4 bytes: IPv4 options, TCP options.
    options: (usize, usize),
    id: u16,
    sequence: u32,
    flags: u8,
    payload: Vec<u8>,
    size: usize,
}

impl Sent {
    /// Offset of the TCP or UDP header.
    fn start(&self) -> usize {
        let network = 14 + 4 * self.tags;
        let len = if self.is_v6 {
            40
        } else {
            20 + 4 * self.options.0
        };
        network + len
    }

    /// A packet with this part of the payload, and the sum of its pseudo-header.
    fn packet(&self, index: usize, flags: u8, payload: &[u8]) -> (Vec<u8>, u32) {
        let at = u32::try_from(index * self.size).unwrap();
        let mut transport = match self.gso {
            Gso::Tcp => {
                let mut header = vec![0; 20 + 4 * self.options.1];
                header[..4].copy_from_slice(&[0x12, 0x34, 0x00, 0x50]);
                header[4..8].copy_from_slice(&self.sequence.wrapping_add(at).to_be_bytes());
                header[8..12].copy_from_slice(&[9; 4]);
                header[12] = u8::try_from(5 + self.options.1).unwrap() << 4;
                header[13] = flags;
                header[20..].fill(1);
                header
            }
            Gso::Udp => {
                let len = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
                vec![0x12, 0x34, 0x00, 0x35, len[0], len[1], 0, 0]
            }
        };
        transport.extend(payload);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for _ in 0..self.tags {
            frame.extend([0x81, 0, 0, 5]);
        }
        let number = if self.gso == Gso::Tcp { 6 } else { 17 };
        let len = u16::try_from(transport.len()).unwrap();
        let addresses: Vec<u8> = (1..=if self.is_v6 { 32 } else { 8 }).collect();
        if self.is_v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([number, 64]);
            frame.extend(&addresses);
        } else {
            let mut header = vec![0x45 + u8::try_from(self.options.0).unwrap(), 0];
            let total = u16::try_from(20 + 4 * self.options.0).unwrap() + len;
            header.extend(total.to_be_bytes());
            header.extend(
                self.id
                    .wrapping_add(u16::try_from(index).unwrap())
                    .to_be_bytes(),
            );
            header.extend([0x40, 0, 64, number, 0, 0]);
            header.extend(&addresses);
            header.extend(vec![1; 4 * self.options.0]);
            let sum = fold(sum(&header));
            header[10..12].copy_from_slice(&(!sum).to_be_bytes());
            frame.extend([0x08, 0x00]);
            frame.extend(header);
        }
        frame.extend(transport);
        (frame, sum(&addresses) + u32::from(number) + u32::from(len))
    }

    /// As the kernel gives it: one frame with a partial checksum.
    fn super_frame(&self) -> Vec<u8> {
        let (mut frame, pseudo) = self.packet(0, self.flags, &self.payload);
        let at = self.start() + checksum_offset(self.gso);
        frame[at..at + 2].copy_from_slice(&fold(pseudo).to_be_bytes());
        frame
    }

    /// As it should leave: every segment, finished.
    fn segments(&self) -> Vec<Vec<u8>> {
        let chunks: Vec<_> = self.payload.chunks(self.size).collect();
        let last = chunks.len() - 1;
        let segments = chunks.iter().enumerate().map(|(index, chunk)| {
            let mut flags = self.flags;
            if index > 0 {
                flags &= !CWR;
            }
            if index < last {
                flags &= !(FIN | PSH);
            }
            let (mut frame, pseudo) = self.packet(index, flags, chunk);
            let total = pseudo + sum(&frame[self.start()..]);
            write_checksum(&mut frame, self.start(), self.gso, fold(total));
            frame
        });
        segments.collect()
    }

    /// As [`Cutter`] makes them: not finished.
    fn cut(&self) -> Vec<Vec<u8>> {
        let frame = self.super_frame();
        let cutter = Cutter::new(&frame, self.gso, self.size, self.start()).unwrap();
        cut_all(&cutter)
    }
}

fn cut_all(cutter: &Cutter<'_>) -> Vec<Vec<u8>> {
    let segments = (0..cutter.count()).map(|index| {
        let mut segment = vec![0xee; cutter.len_of(index)];
        cutter.write(index, &mut segment);
        segment
    });
    segments.collect()
}

fn checksum_offset(gso: Gso) -> usize {
    match gso {
        Gso::Tcp => 16,
        Gso::Udp => 6,
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks(2);
    pairs.fold(0, |sum, pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        sum + u32::from(u16::from_be_bytes([pair[0], low]))
    })
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Zero means "no checksum" in UDP: RFC 768.
fn write_checksum(frame: &mut [u8], start: usize, gso: Gso, sum: u16) {
    let checksum = if sum == 0xffff && gso == Gso::Udp {
        0xffff
    } else {
        !sum
    };
    let at = start + checksum_offset(gso);
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// What a kernel or card does with a partial checksum.
fn finished(mut frame: Vec<u8>, start: usize, gso: Gso) -> Vec<u8> {
    let total = fold(sum(&frame[start..]));
    write_checksum(&mut frame, start, gso, total);
    frame
}

fn sent() -> impl Strategy<Value = Sent> {
    let gso = prop_oneof![Just(Gso::Tcp), Just(Gso::Udp)];
    let shape = (
        gso,
        any::<bool>(),
        0..=2_usize,
        (0..=10_usize, 0..=10_usize),
    );
    let numbers = (any::<u16>(), any::<u32>(), any::<u8>());
    (shape, numbers, vec(any::<u8>(), 1..4_000), 1..1_500_usize).prop_map(
        |((gso, is_v6, tags, options), (id, sequence, flags), payload, size)| Sent {
            gso,
            is_v6,
            tags,
            options,
            id,
            sequence,
            flags,
            // no more segments than the kernel ever makes
            size: size.max(payload.len() / 60 + 1),
            payload,
        },
    )
}

/// Joins as many as follow one another; gives the frame, and how many it was made of.
fn join(segments: &[Vec<u8>]) -> (Vec<u8>, VnetHeader, usize) {
    let mut whole = segments[0].clone();
    let Some(mut joiner) = Joiner::begin(&segments[0]) else {
        return (whole, VnetHeader::default(), 0);
    };
    for segment in &segments[1..] {
        let Some(payload) = joiner.add(&segments[0], segment) else {
            break;
        };
        whole.extend(&segment[payload]);
    }
    let vnet = joiner.finish(&mut whole);
    (whole, vnet, joiner.segments())
}

proptest! {
    #[test]
    fn segments_are_those_that_the_reference_builds_from_nothing(sent in sent()) {
        let segments = sent.cut();
        let finished: Vec<_> =
            segments.into_iter().map(|one| finished(one, sent.start(), sent.gso)).collect();
        prop_assert_eq!(finished, sent.segments());
    }

    #[test]
    fn any_run_of_neighbours_joins_to_a_super_frame_that_is_cut_to_the_same(
        sent in sent(), from: prop::sample::Index, to: prop::sample::Index,
    ) {
        let segments = sent.cut();
        let (from, to) = (from.index(segments.len()), to.index(segments.len()));
        let run = &segments[from.min(to)..=from.max(to)];
        let (whole, vnet, count) = join(run);
        prop_assert_eq!(count, run.len());
        let again = match vnet.offload().unwrap() {
            Offload::Cut { gso, size, start } => {
                prop_assert_eq!((gso, start), (sent.gso, sent.start()));
                prop_assert_eq!(vnet.hdr_len as usize, run[0].len() - size);
                cut_all(&Cutter::new(&whole, gso, size, start).unwrap())
            }
            Offload::Checksum { start, .. } => {
                prop_assert_eq!((count, start), (1, sent.start()));
                vec![whole]
            }
            Offload::Whole => panic!("its checksum is partial"),
        };
        let of = |frames: &[Vec<u8>]| -> Vec<_> {
            let frames = frames.iter().cloned();
            frames.map(|one| finished(one, sent.start(), sent.gso)).collect()
        };
        prop_assert_eq!(of(&again), of(run));
    }

    #[test]
    fn a_gap_a_repetition_or_another_flow_is_not_joined(
        sent in sent(), other in sent(), at: prop::sample::Index,
    ) {
        let segments = sent.cut();
        let at = at.index(segments.len());
        let mut joiner = Joiner::begin(&segments[0]).unwrap();
        let foreign = other.cut();
        let same_flow = (other.is_v6, other.gso, other.tags) == (sent.is_v6, sent.gso, sent.tags);
        prop_assert!(same_flow || joiner.add(&segments[0], &foreign[0]).is_none());
        // datagrams without an id do not say in what order they were sent
        prop_assume!(sent.gso == Gso::Tcp || !sent.is_v6);
        if at != 1 {
            prop_assert_eq!(joiner.add(&segments[0], &segments[at]), None);
        }
    }

    #[test]
    fn what_ends_a_run_is_not_followed(sent in sent()) {
        let segments = sent.cut();
        let last = segments.last().unwrap();
        let mut joiner = Joiner::begin(last).unwrap();
        let mut next = sent.clone();
        next.sequence = sent.sequence.wrapping_add(u32::try_from(sent.payload.len()).unwrap());
        next.id = sent.id.wrapping_add(u16::try_from(segments.len()).unwrap());
        let next = next.cut();
        let ends = sent.gso == Gso::Tcp && sent.flags & (FIN | PSH) != 0;
        let longer = next[0].len() > last.len();
        if ends || longer {
            prop_assert_eq!(joiner.add(last, &next[0]), None);
        }
    }

    #[test]
    fn arbitrary_bytes_are_cut_or_joined_or_refused(
        frame in vec(any::<u8>(), 0..200), other in vec(any::<u8>(), 0..200),
        header: [u8; VNET_HEADER_LEN], size in 0..300_usize, start in 0..300_usize,
    ) {
        let _ = VnetHeader::decode(&header).offload();
        for gso in [Gso::Tcp, Gso::Udp] {
            if let Ok(cutter) = Cutter::new(&frame, gso, size, start) {
                cut_all(&cutter);
            }
        }
        if let Some(mut joiner) = Joiner::begin(&frame) {
            joiner.add(&frame, &other);
            joiner.finish(&mut frame.clone());
        }
    }

    #[test]
    fn bytes_that_are_almost_right_are_cut_or_joined_or_refused(
        sent in sent(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in 0..120_usize,
    ) {
        let mut frame = sent.super_frame();
        for (index, value) in changes {
            let len = frame.len().min(110);
            frame[index.index(len)] = value;
        }
        frame.truncate(frame.len().saturating_sub(cut).max(1));
        if let Ok(cutter) = Cutter::new(&frame, sent.gso, sent.size, sent.start()) {
            let segments = cut_all(&cutter);
            join(&segments);
        }
    }

    #[test]
    fn a_virtio_header_survives(header: [u8; VNET_HEADER_LEN]) {
        prop_assert_eq!(VnetHeader::decode(&header).encode(), header);
    }
}

#[test]
fn what_no_tap_of_ours_gives_is_refused() {
    let with = |flags, gso_type, gso_size| VnetHeader {
        flags,
        gso_type,
        gso_size,
        csum_start: 34,
        csum_offset: 16,
        hdr_len: 54,
    };
    assert_eq!(with(0, 0, 0).offload(), Ok(Offload::Whole));
    assert_eq!(with(2, 0, 0).offload(), Ok(Offload::Whole), "DATA_VALID");
    let checksum = Offload::Checksum {
        start: 34,
        offset: 16,
    };
    assert_eq!(with(1, 0, 0).offload(), Ok(checksum));
    let cut = Offload::Cut {
        gso: Gso::Tcp,
        size: 1330,
        start: 34,
    };
    assert_eq!(with(1, 0x81, 1330).offload(), Ok(cut));
    assert_eq!(
        with(1, 3, 1330).offload(),
        Err(OffloadError::Unknown),
        "UFO"
    );
    assert_eq!(with(1, 1, 0).offload(), Err(OffloadError::Size));
    assert_eq!(with(0, 1, 1330).offload(), Err(OffloadError::Headers));
}

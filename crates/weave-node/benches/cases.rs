//! What is measured of the data path, by the clock (`data_path.rs`) and by instructions
//! (`instructions.rs`).
//!
//! A case is two halves: what is made ready before each turn, which is not measured, and the turn.
//! A turn handles so many items of the case's kind and allocates nothing.

mod ends;
mod frames;

use std::cell::RefCell;

use weave_crypto::Suite;
use weave_wire::PayloadKind;
use weave_wire::offload::{Cutter, Gso, Joiner, VnetHeader};

use ends::{Ends, NOW};
use frames::{GSO_SIZE, HEADERS_LEN, TCP_HEADER_AT, frame, super_frame, to_be_cut};

/// Every case.
pub(crate) const NAMES: [&str; 13] = [
    "seal_chacha20_poly1305",
    "seal_aes_256_gcm",
    "open_chacha20_poly1305",
    "open_aes_256_gcm",
    "segment",
    "coalesce",
    "forward_frame",
    "forward_super_frame",
    "forward_small_frames",
    "forward_fragments",
    "receive_segments",
    "receive_small_frames",
    "receive_fragments",
];

/// A frame that needs three datagrams.
const LONG: usize = 4000;
const SMALL: usize = 64;
const PAGE: usize = 4096;

/// One thing to measure.
pub(crate) struct Case {
    /// Frames, segments or datagrams of one turn.
    pub(crate) items: usize,
    prepare: Box<dyn Fn() -> Batch>,
    turn: Box<dyn Fn(&mut Batch)>,
}

impl Case {
    /// The case of this name in [`NAMES`].
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "seal_chacha20_poly1305" => seal(Suite::ChaCha20Poly1305),
            "seal_aes_256_gcm" => seal(Suite::Aes256Gcm),
            "open_chacha20_poly1305" => receive(Ends::new(Suite::ChaCha20Poly1305), one(1400), 1),
            "open_aes_256_gcm" => receive(Ends::new(Suite::Aes256Gcm), one(1400), 1),
            "segment" => segment(),
            "coalesce" => coalesce(),
            "forward_frame" => forward(one(1400), 1),
            "forward_super_frame" => forward(unfinished(), 1),
            "forward_small_frames" => forward(small(64), 64),
            "forward_fragments" => forward(one(LONG), 1),
            "receive_segments" => receive(Ends::without_cipher(), unfinished(), segments()),
            "receive_small_frames" => receive(Ends::without_cipher(), small(13), 13),
            "receive_fragments" => receive(Ends::without_cipher(), one(LONG), 1),
            _ => panic!("no case `{name}`"),
        }
    }

    fn new(
        items: usize,
        prepare: impl Fn() -> Batch + 'static,
        turn: impl Fn(&mut Batch) + 'static,
    ) -> Self {
        let (prepare, turn) = (Box::new(prepare), Box::new(turn));
        Self {
            items,
            prepare,
            turn,
        }
    }

    /// What the next turn works on.
    pub(crate) fn prepare(&self) -> Batch {
        (self.prepare)()
    }

    /// What is measured.
    pub(crate) fn turn(&self, batch: &mut Batch) {
        (self.turn)(batch);
    }
}

/// Datagrams or frames, one behind the other, in room that is there from the start.
///
/// The first begins a page: the cost of copying and comparing depends on addresses.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where each begins, and where the last ends.
    bounds: Vec<usize>,
}

impl Batch {
    /// Room for so many bytes, all of them touched.
    fn with_room(room: usize) -> Self {
        let bytes = vec![0xaa; PAGE + room];
        let mut bounds = Vec::with_capacity(64);
        bounds.push(bytes.as_ptr().align_offset(PAGE));
        Self { bytes, bounds }
    }

    /// The next so many bytes.
    fn add(&mut self, len: usize) -> &mut [u8] {
        let start = self.bounds.last().copied().unwrap_or_default();
        self.bounds.push(start + len);
        &mut self.bytes[start..start + len]
    }

    fn is_empty(&self) -> bool {
        self.bounds.len() < 2
    }

    /// Each of them, in order.
    fn parts(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut rest = &mut self.bytes[self.bounds[0]..];
        self.bounds.windows(2).map(move |bounds| {
            let len = bounds[1] - bounds[0];
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(len);
            rest = behind;
            part
        })
    }
}

type Frames = Vec<(VnetHeader, Vec<u8>)>;

fn one(len: usize) -> Frames {
    vec![(VnetHeader::default(), frame(len))]
}

fn small(count: usize) -> Frames {
    vec![(VnetHeader::default(), frame(SMALL)); count]
}

fn unfinished() -> Frames {
    vec![(to_be_cut(), super_frame())]
}

/// Of a super-frame.
fn segments() -> usize {
    (super_frame().len() - HEADERS_LEN).div_ceil(GSO_SIZE)
}

/// Room for what leaves for these frames.
fn room(frames: &Frames) -> usize {
    let bytes: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
    bytes + bytes.div_ceil(GSO_SIZE) * (HEADERS_LEN + 64) + 2048
}

fn seal(suite: Suite) -> Case {
    let ends = Ends::new(suite);
    let prepare = || {
        let mut batch = Batch::with_room(1400);
        batch.add(1400);
        batch
    };
    Case::new(1, prepare, move |batch| {
        for datagram in batch.parts() {
            let sealed = ends.lane().seal(PayloadKind::Frame, NOW, datagram);
            sealed.expect("a lane that is open");
        }
    })
}

fn segment() -> Case {
    let frames = unfinished();
    let room = room(&frames);
    Case::new(
        segments(),
        move || Batch::with_room(room),
        move |batch| cut(&frames[0].1, batch),
    )
}

fn cut(frame: &[u8], batch: &mut Batch) {
    let cutter = Cutter::new(frame, Gso::Tcp, GSO_SIZE, TCP_HEADER_AT).expect("a super-frame");
    for index in 0..cutter.count() {
        cutter.write(index, batch.add(cutter.len_of(index)));
    }
}

fn coalesce() -> Case {
    let frames = unfinished();
    let prepare = move || {
        let mut batch = Batch::with_room(room(&frames));
        cut(&frames[0].1, &mut batch);
        batch
    };
    Case::new(segments(), prepare, |batch| {
        let mut parts = batch.parts();
        let first = parts.next().expect("segments");
        let mut joiner = Joiner::begin(first).expect("a segment that others follow");
        for segment in parts {
            joiner.add(first, segment).expect("a neighbour");
        }
        assert_eq!(usize::from(joiner.finish(first).gso_size), GSO_SIZE);
    })
}

fn forward(frames: Frames, items: usize) -> Case {
    let ends = RefCell::new(Ends::without_cipher());
    let room = room(&frames);
    Case::new(
        items,
        move || Batch::with_room(room),
        move |batch| {
            ends.borrow_mut().forward(&frames, batch);
            assert!(!batch.is_empty(), "something leaves");
        },
    )
}

fn receive(ends: Ends, frames: Frames, items: usize) -> Case {
    let delivered = if frames[0].0 == to_be_cut() {
        segments()
    } else {
        frames.len()
    };
    let ends = std::rc::Rc::new(RefCell::new(ends));
    let sender = ends.clone();
    let prepare = move || {
        let mut batch = Batch::with_room(room(&frames));
        sender.borrow_mut().forward(&frames, &mut batch);
        batch
    };
    Case::new(items, prepare, move |batch| {
        assert_eq!(ends.borrow_mut().receive(batch), delivered);
    })
}

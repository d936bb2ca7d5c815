//! Builds the golden vectors of `proto/wire.md` anew and compares, in both directions: every
//! vector of the document is checked, and none that is checked is missing there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost::Message as _;
use weave_wire::offload::Checksum;
use weave_wire::proto::{
    ControlMessage, LoanReturn, PathProbe, PathProbeAck, Ping, control_message::Body,
};
use weave_wire::{
    Cidr, DatagramType, FragmentHeader, HandshakeHeader, Lane, PayloadKind, PeerId, ReceiverIndex,
    RecordHeader, RelayHeader, SealedHeader, SegmentId, decode_control, decode_frame,
};

/// Vectors that other crates check carry this in front of their name.
const ELSEWHERE: &str = "crypto/";

fn documented() -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/wire.md");
    let text = fs::read_to_string(path).expect("proto/wire.md is readable");
    let mut vectors = BTreeMap::new();
    for block in text.split("```vector ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a name ends its line");
        let (hex, _) = rest.split_once("```").expect("a block ends");
        let bytes = hex
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
        let before = vectors.insert(name.to_owned(), bytes.collect());
        assert!(before.is_none(), "{name} stands there twice");
    }
    vectors.retain(|name, _| !name.starts_with(ELSEWHERE));
    vectors
}

fn segment(subnet: &str) -> SegmentId {
    SegmentId::of_subnet(subnet.parse::<Cidr>().expect("a subnet"))
}

fn sealed(kind: PayloadKind, epoch: u32, lane: Lane, counter: u64) -> SealedHeader {
    SealedHeader {
        version: 1,
        kind,
        receiver: ReceiverIndex::new(0x12_3456, epoch, lane),
        counter,
    }
}

fn handshake(ty: DatagramType, receiver: u32) -> HandshakeHeader {
    HandshakeHeader {
        ty,
        generation: 2,
        sender: 0x12_3456,
        receiver,
    }
}

fn fragment() -> FragmentHeader {
    FragmentHeader {
        segment: segment("10.32.0.0/12"),
        id: 0x0102_0304,
        index: 2,
        count: 4,
    }
}

fn control(body: Body) -> Vec<u8> {
    ControlMessage { body: Some(body) }.encode_to_vec()
}

fn record(len: u16, checksum: Checksum) -> [u8; 2] {
    RecordHeader { len, checksum }.encode()
}

fn computed() -> BTreeMap<String, Vec<u8>> {
    let key = std::array::from_fn(|index| u8::try_from(index).expect("a small index"));
    let genesis: Vec<u8> = (0..16).collect();
    let mut vectors = vec![
        ("peer-name", PeerId(key).name().0.to_vec()),
        (
            "sealed-frame",
            sealed(PayloadKind::Frame, 3, Lane::Data, 7)
                .encode()
                .to_vec(),
        ),
        (
            "sealed-fragment",
            sealed(PayloadKind::Fragment, 3, Lane::Data, 7)
                .encode()
                .to_vec(),
        ),
        (
            "sealed-frames",
            sealed(PayloadKind::Frames, 3, Lane::Data, 7)
                .encode()
                .to_vec(),
        ),
        (
            "sealed-unsummed-frame",
            sealed(PayloadKind::UnsummedFrame, 3, Lane::Data, 7)
                .encode()
                .to_vec(),
        ),
        (
            "sealed-unsummed-fragment",
            sealed(PayloadKind::UnsummedFragment, 3, Lane::Data, 7)
                .encode()
                .to_vec(),
        ),
        (
            "sealed-control",
            sealed(PayloadKind::Control, 0, Lane::Control, (1 << 40) + 1)
                .encode()
                .to_vec(),
        ),
        (
            "payload-frames",
            [
                &segment("10.32.0.0/12").encode()[..],
                &record(1, Checksum::Complete),
                &[0xff],
                &record(2, Checksum::Partial),
                &[0xee, 0xdd],
            ]
            .concat(),
        ),
        (
            "payload-frame",
            [&segment("10.32.0.0/12").encode()[..], &[0xff]].concat(),
        ),
        (
            "payload-fragment",
            [&fragment().encode()[..], &[0xff]].concat(),
        ),
        (
            "control-ping",
            control(Body::Ping(Ping {
                nonce: 1,
                observed: None,
            })),
        ),
        (
            "control-loan-return",
            control(Body::LoanReturn(LoanReturn {
                genesis,
                address: vec![10, 32, 0, 1],
            })),
        ),
        (
            "control-path-probe",
            control(Body::PathProbe(PathProbe {
                nonce: 1,
                padding: vec![0; 2],
            })),
        ),
        (
            "control-path-probe-ack",
            control(Body::PathProbeAck(PathProbeAck { nonce: 1 })),
        ),
        (
            "relay",
            RelayHeader {
                version: 1,
                circuit: ReceiverIndex::new(9, 1, Lane::Relay),
                counter: 1,
            }
            .encode()
            .to_vec(),
        ),
        (
            "handshake-init",
            handshake(DatagramType::HandshakeInit, 0).encode().to_vec(),
        ),
        (
            "handshake-reply",
            handshake(DatagramType::HandshakeReply, 10)
                .encode()
                .to_vec(),
        ),
        (
            "handshake-finish",
            handshake(DatagramType::HandshakeFinish, 10)
                .encode()
                .to_vec(),
        ),
        (
            "cookie-reply",
            handshake(DatagramType::CookieReply, 10).encode().to_vec(),
        ),
        (
            "reject",
            handshake(DatagramType::Reject, 10).encode().to_vec(),
        ),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .collect::<BTreeMap<_, _>>();
    for subnet in ["10.32.0.0/12", "192.168.7.0/24", "fd00:77::/64"] {
        vectors.insert(
            format!("segment-{subnet}"),
            segment(subnet).encode().to_vec(),
        );
    }
    vectors
}

#[test]
fn the_document_shows_what_is_sent() {
    let (documented, computed) = (documented(), computed());
    for (name, bytes) in &documented {
        assert_eq!(computed.get(name), Some(bytes), "{name}");
    }
    assert!(
        documented.keys().eq(computed.keys()),
        "a vector is missing in the document"
    );
}

#[test]
fn the_documented_bytes_are_read_as_what_they_were_made_of() {
    let vectors = documented();
    let header = SealedHeader::decode(&vectors["sealed-control"]).expect("a header");
    assert_eq!(
        header,
        sealed(PayloadKind::Control, 0, Lane::Control, (1 << 40) + 1)
    );
    let (header, part) = FragmentHeader::decode(&vectors["payload-fragment"]).expect("a fragment");
    assert_eq!((header, part), (fragment(), &[0xff][..]));
    let mut payload = vectors["payload-frame"].clone();
    let (found, frame) = decode_frame(&mut payload).expect("a frame");
    assert_eq!((found, &*frame), (segment("10.32.0.0/12"), &[0xff][..]));
    let mut payload = vectors["payload-frames"].clone();
    let (_, records) = decode_frame(&mut payload).expect("frames");
    let (header, frame, records) = RecordHeader::take(records).expect("the first");
    assert_eq!(
        (header.checksum, &*frame),
        (Checksum::Complete, &[0xff][..])
    );
    let (header, frame, records) = RecordHeader::take(records).expect("the second");
    let expected = (Checksum::Partial, &[0xee, 0xdd][..]);
    assert_eq!(((header.checksum, &*frame), records.len()), (expected, 0));
    let reject = HandshakeHeader::decode(&vectors["reject"]).expect("a header");
    assert_eq!(reject, handshake(DatagramType::Reject, 10));
    let relay = RelayHeader::decode(&vectors["relay"]).expect("a header");
    assert_eq!(relay.circuit.slot(), 9);
    let ping = decode_control(&vectors["control-ping"]).expect("a message");
    assert_eq!(
        ping.body,
        Some(Body::Ping(Ping {
            nonce: 1,
            observed: None
        }))
    );
}

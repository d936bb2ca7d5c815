//! Everything that reads bytes without a state: headers, control messages, log batches, and views
//! of frames. What was read is written again and must read the same.

use prost::Message as _;
use weave_wire::codec::check_entry;
use weave_wire::ether::{
    ArpView, EthernetView, Ipv4View, Ipv6View, NdView, arp_reply, flow_hash, is_dhcp_server,
};
use weave_wire::offload::{Cutter, Gso, Joiner, Offload};
use weave_wire::{
    Cidr, DatagramType, FragmentHeader, HandshakeHeader, InterfaceAddr, Mac, RelayHeader,
    SealedHeader, decode_batch, decode_control,
};

pub(crate) fn run(data: &[u8]) {
    headers(data);
    messages(data);
    frames(data);
    if let Ok(text) = std::str::from_utf8(data) {
        texts(text);
    }
}

fn headers(data: &[u8]) {
    let Ok(kind) = DatagramType::of(data) else {
        return;
    };
    let written = match kind {
        DatagramType::Sealed => SealedHeader::decode(data).map(|header| header.encode()),
        DatagramType::Relay => RelayHeader::decode(data).map(|header| header.encode()),
        DatagramType::HandshakeInit
        | DatagramType::HandshakeReply
        | DatagramType::HandshakeFinish
        | DatagramType::CookieReply
        | DatagramType::Reject => HandshakeHeader::decode(data).map(|header| header.encode()),
    };
    if let Ok(written) = written {
        assert!(data.starts_with(&written), "a header is not what it was");
    }
}

fn messages(data: &[u8]) {
    if let Ok(message) = decode_control(data) {
        let written = message.encode_to_vec();
        // unknown fields are gone and numbers are as short as can be: what is left fits
        assert_eq!(decode_control(&written).as_ref(), Ok(&message));
    }
    if let Ok(batch) = decode_batch(data) {
        for entry in &batch.entries {
            let _ = check_entry(entry);
        }
        assert_eq!(decode_batch(&batch.encode_to_vec()).as_ref(), Ok(&batch));
    }
    if let Ok((header, part)) = FragmentHeader::decode(data) {
        assert!(data.starts_with(&header.encode()) && data.ends_with(part));
    }
}

fn frames(data: &[u8]) {
    let _ = flow_hash(data);
    let Some(frame) = EthernetView::parse(data) else {
        return;
    };
    let _ = (frame.is_link_local(), is_dhcp_server(&frame));
    if let Some(arp) = ArpView::of(&frame) {
        let reply = arp_reply(&arp, frame.src(), Mac::default());
        let reply = EthernetView::parse(&reply).expect("a reply is a frame");
        assert!(ArpView::of(&reply).is_some(), "a reply is ARP");
    }
    let _ = Ipv4View::of(&frame);
    if let Some(packet) = Ipv6View::of(&frame) {
        let _ = (NdView::of(&packet), packet.upper());
    }
    offloads(data);
}

/// The frame as a super-frame: its segments, made one again, are as long as it was.
fn offloads(frame: &[u8]) {
    let Ok(header) = Joiner::alone(frame) else {
        return;
    };
    let start = usize::from(header.csum_start);
    for gso in [Gso::Tcp, Gso::Udp] {
        let Ok(cutter) = Cutter::new(frame, gso, 1 + frame.len() / 4, start) else {
            continue;
        };
        let segments: Vec<Vec<u8>> = (0..cutter.count())
            .map(|index| {
                let mut segment = vec![0; cutter.len_of(index)];
                cutter.write(index, &mut segment);
                segment
            })
            .collect();
        joined(&segments, frame);
    }
}

fn joined(segments: &[Vec<u8>], frame: &[u8]) {
    let Some((first, others)) = segments.split_first() else {
        panic!("a frame without segments");
    };
    let mut joiner = Joiner::begin(first).expect("a segment begins a run");
    let mut whole = first.clone();
    for other in others {
        let Some(payload) = joiner.add(first, other) else {
            return;
        };
        whole.extend_from_slice(&other[payload]);
    }
    let header = joiner.finish(&mut whole);
    assert_eq!(whole.len(), frame.len(), "nothing is lost between");
    let offload = header.offload().expect("what is joined can be cut");
    assert_eq!(matches!(offload, Offload::Cut { .. }), segments.len() > 1);
}

fn texts(text: &str) {
    if let Ok(cidr) = text.parse::<Cidr>() {
        assert_eq!(cidr.to_string().parse(), Ok(cidr));
    }
    if let Ok(addr) = text.parse::<InterfaceAddr>() {
        assert_eq!(addr.to_string().parse(), Ok(addr));
    }
    if let Ok(mac) = text.parse::<Mac>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
}

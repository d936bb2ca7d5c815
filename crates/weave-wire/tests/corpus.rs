//! Replays the inputs under `tests/corpus`: shapes that parsers get wrong, and all that fuzzing
//! has ever found. Nothing may panic, and each answer stands here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use weave_wire::ether::{
    ArpView, EthernetView, Ipv4View, Ipv6View, NdView, arp_reply, is_dhcp_server,
};
use weave_wire::{
    DatagramError, DatagramType, HandshakeHeader, Mac, RelayHeader, SealedHeader, decode_batch,
    decode_control,
};

fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(target);
    let files: BTreeMap<_, _> = fs::read_dir(dir)
        .expect("the corpus is readable")
        .map(|file| {
            let path = file.expect("a directory entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read(path).expect("a readable file"))
        })
        .collect();
    assert!(!files.is_empty(), "no corpus for {target}");
    files
}

fn describe_datagram(bytes: &[u8]) -> Result<&'static str, DatagramError> {
    match DatagramType::of(bytes)? {
        DatagramType::Sealed => SealedHeader::decode(bytes).map(|_| "sealed"),
        DatagramType::Relay => RelayHeader::decode(bytes).map(|_| "relay"),
        DatagramType::HandshakeInit
        | DatagramType::HandshakeReply
        | DatagramType::HandshakeFinish
        | DatagramType::CookieReply
        | DatagramType::Reject => HandshakeHeader::decode(bytes).map(|_| "handshake"),
    }
}

fn describe_frame(bytes: &[u8]) -> &'static str {
    let Some(frame) = EthernetView::parse(bytes) else {
        return "nothing";
    };
    if frame.is_link_local() {
        return "link-local";
    }
    if is_dhcp_server(&frame) {
        return "DHCP server";
    }
    if let Some(arp) = ArpView::of(&frame) {
        assert!(EthernetView::parse(&arp_reply(&arp, frame.src(), Mac::default())).is_some());
        return "ARP";
    }
    if Ipv4View::of(&frame).is_some() {
        return "IPv4";
    }
    match Ipv6View::of(&frame).map(|packet| NdView::of(&packet)) {
        Some(Some(NdView::RouterAdvertisement)) => "router advertisement",
        Some(Some(NdView::NeighbourSolicitation { .. })) => "solicitation",
        Some(Some(NdView::NeighbourAdvertisement { .. } | NdView::Redirect)) => "other discovery",
        Some(None) => "IPv6",
        None => "other",
    }
}

#[test]
fn datagrams_are_told_apart() {
    let answers = corpus("datagram")
        .iter()
        .map(|(name, bytes)| format!("{name}: {:?}", describe_datagram(bytes)))
        .collect::<Vec<_>>();
    let expected = [
        "counter-at-its-end: Ok(\"sealed\")",
        "dns-query: Err(Version)",
        "empty: Err(TooShort)",
        "handshake-init-header-only: Ok(\"handshake\")",
        "header-only: Ok(\"sealed\")",
        "later-version: Ok(\"sealed\")",
        "one-byte: Err(TooShort)",
        "relay: Ok(\"relay\")",
        "reserved-bytes-set: Err(Reserved)",
        "reserved-kind: Ok(\"sealed\")",
        "short-tag: Ok(\"sealed\")",
        "tag-but-no-payload: Ok(\"sealed\")",
        "unknown-kind: Err(Kind)",
        "unknown-lane: Err(Kind)",
        "unknown-type: Err(Type)",
        "version-0: Err(Version)",
    ];
    assert_eq!(answers, expected);
}

#[test]
fn frames_are_told_apart() {
    let answers = corpus("frame")
        .iter()
        .map(|(name, bytes)| format!("{name}: {}", describe_frame(bytes)))
        .collect::<Vec<_>>();
    let expected = [
        "arp-behind-vlan: ARP",
        "arp-cut-short: other",
        "arp-of-infiniband: other",
        "arp-request: ARP",
        "dhcp-offer: DHCP server",
        "empty: nothing",
        "header-only: other",
        "ipv4-header-length-beyond-the-end: other",
        "ipv4-header-length-too-small: other",
        "ipv6-endless-options: IPv6",
        "ipv6-option-length-beyond-the-end: IPv6",
        "neighbour-solicitation: solicitation",
        "neighbour-solicitation-cut-short: IPv6",
        "router-advertisement-behind-options: router advertisement",
        "spanning-tree: link-local",
        "thirteen-bytes: nothing",
        "three-vlan-tags: nothing",
    ];
    assert_eq!(answers, expected);
}

#[test]
fn control_messages_are_read_or_refused() {
    let good: Vec<_> = corpus("control")
        .into_iter()
        .filter(|(_, bytes)| decode_control(bytes).is_ok())
        .collect();
    let names: Vec<_> = good.iter().map(|(name, _)| name.as_str()).collect();
    let readable = [
        "empty",
        "ping",
        "probe-of-9184-bytes",
        "two-bodies",
        "unknown-field",
    ];
    assert_eq!(names, readable);
}

#[test]
fn batches_are_read_or_refused() {
    let good: Vec<_> = corpus("batch")
        .into_iter()
        .filter(|(_, bytes)| decode_batch(bytes).is_ok())
        .collect();
    let names: Vec<_> = good.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["many-entries", "one-removal"]);
}

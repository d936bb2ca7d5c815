//! Frames of one station to another.

use weave_wire::Mac;
use weave_wire::offload::VnetHeader;

pub(super) const FROM: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(super) const TO: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// Payload of a segment that just fits a datagram of 1,472 bytes.
pub(super) const GSO_SIZE: usize = 1382;
/// Where the TCP header begins.
pub(super) const TCP_HEADER_AT: usize = 34;
/// Ethernet, IPv4 and TCP.
pub(super) const HEADERS_LEN: usize = 54;

/// A frame with a TCP segment, of so many bytes.
pub(super) fn frame(len: usize) -> Vec<u8> {
    let packet_len = u16::try_from(len - 14).expect("a packet's length");
    let [high, low] = packet_len.to_be_bytes();
    let ip = [
        0x45, 0, high, low, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    let mut tcp = [0; 20];
    tcp[12] = 0x50;
    let mut frame = [&TO.0[..], &FROM.0, &[8, 0], &ip, &tcp].concat();
    frame.resize(len, 0x5a);
    frame
}

/// The longest frame that there can be.
pub(super) fn super_frame() -> Vec<u8> {
    frame(14 + 65_535)
}

/// Says that a frame is to be cut, and its checksum is partial.
pub(super) fn to_be_cut() -> VnetHeader {
    let short = |len: usize| u16::try_from(len).expect("a length of 16 bits");
    VnetHeader {
        flags: 1,
        gso_type: 1,
        hdr_len: short(HEADERS_LEN),
        gso_size: short(GSO_SIZE),
        csum_start: short(TCP_HEADER_AT),
        csum_offset: 16,
    }
}

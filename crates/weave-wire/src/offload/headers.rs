//! Where the headers of a TCP or UDP frame are, and the fields in them that a segment has for
//! itself.

use super::Gso;
use crate::ether::{EtherType, EthernetView};

/// TCP header fields (RFC 9293, 3.1), as offsets in it.
const TCP_SEQUENCE: usize = 4;
const TCP_DATA_OFFSET: usize = 12;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: u16 = 16;
/// UDP header fields (RFC 768).
const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: u16 = 6;
const UDP_HEADER_LEN: usize = 8;
/// IPv4 header fields (RFC 791, 3.1).
const V4_LENGTH: usize = 2;
const V4_ID: usize = 4;
const V4_CHECKSUM: usize = 10;
/// IPv6 header fields (RFC 8200, 3).
const V6_LENGTH: usize = 4;
const V6_HEADER_LEN: usize = 40;

pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
pub(super) const CWR: u8 = 0x80;

/// Offsets in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) gso: Gso,
    pub(super) is_v6: bool,
    /// The IP header.
    pub(super) network: usize,
    /// The TCP or UDP header.
    pub(super) transport: usize,
    /// The payload: the length of all headers.
    pub(super) payload: usize,
}

impl Layout {
    /// The layout of a frame whose TCP or UDP header is at `transport`. The packet fills the frame.
    fn read(frame: &[u8], gso: Gso, transport: usize) -> Option<Self> {
        let view = EthernetView::parse(frame)?;
        let network = frame.len() - view.payload().len();
        let packet_len = frame.len() - network;
        let is_v6 = match view.ethertype() {
            EtherType::IPV4 => false,
            EtherType::IPV6 => true,
            _ => return None,
        };
        let first = *frame.get(network)?;
        let (header_len, said) = match is_v6 {
            false => (
                usize::from(first & 0x0f) * 4,
                usize::from(word(frame, network + V4_LENGTH)?),
            ),
            true => (
                V6_HEADER_LEN,
                usize::from(word(frame, network + V6_LENGTH)?) + V6_HEADER_LEN,
            ),
        };
        let version = if is_v6 { 6 } else { 4 };
        let is_inside = match is_v6 {
            // options are part of the header, extension headers follow it
            false => header_len >= 20 && transport == network + header_len,
            true => transport >= network + header_len,
        };
        if first >> 4 != version || !is_inside || said != packet_len {
            return None;
        }
        let len = match gso {
            Gso::Tcp => usize::from(frame.get(transport + TCP_DATA_OFFSET)? >> 4) * 4,
            Gso::Udp => UDP_HEADER_LEN,
        };
        let payload = transport.checked_add(len)?;
        (payload <= frame.len() && (gso == Gso::Udp || len >= 20)).then_some(Self {
            gso,
            is_v6,
            network,
            transport,
            payload,
        })
    }

    /// What protocol the header at `transport` is of, by what the packet says; `None` where it is
    /// neither TCP nor UDP, or the packet is a fragment.
    pub(super) fn found(frame: &[u8]) -> Option<Self> {
        let view = EthernetView::parse(frame)?;
        let (number, rest) = match view.ethertype() {
            EtherType::IPV4 => {
                let packet = crate::ether::Ipv4View::of(&view)?;
                let network = frame.len() - view.payload().len();
                // neither later nor first fragment
                if word(frame, network + 6)? & 0x3fff != 0 {
                    return None;
                }
                (packet.proto, packet.payload)
            }
            EtherType::IPV6 => crate::ether::Ipv6View::of(&view)?.upper()?,
            _ => return None,
        };
        let gso = match number {
            6 => Gso::Tcp,
            17 => Gso::Udp,
            _ => return None,
        };
        Self::read(frame, gso, frame.len() - rest.len())
    }

    /// Offset of the checksum from the beginning of its header.
    pub(super) const fn checksum_offset(&self) -> u16 {
        match self.gso {
            Gso::Tcp => TCP_CHECKSUM,
            Gso::Udp => UDP_CHECKSUM,
        }
    }

    /// Makes the headers in front of `frame` those of a packet with so much payload, whose
    /// checksum is partial. They were those of one with `former` bytes of payload.
    pub(super) fn set_payload_len(&self, frame: &mut [u8], former: usize, len: usize) {
        let transport_len = |payload: usize| length(self.payload - self.transport + payload);
        match self.is_v6 {
            false => {
                let total = length(self.payload - self.network + len);
                put(frame, self.network + V4_LENGTH, total);
            }
            true => {
                let total = length(self.payload - self.network - V6_HEADER_LEN + len);
                put(frame, self.network + V6_LENGTH, total);
            }
        }
        if self.gso == Gso::Udp {
            put(frame, self.transport + UDP_LENGTH, transport_len(len));
        }
        let checksum = self.transport + usize::from(self.checksum_offset());
        if let Some(sum) = word(frame, checksum) {
            let without = add(sum, !transport_len(former));
            put(frame, checksum, add(without, transport_len(len)));
        }
    }

    /// Sums an IPv4 header anew.
    pub(super) fn finish_network(&self, frame: &mut [u8]) {
        if self.is_v6 {
            return;
        }
        put(frame, self.network + V4_CHECKSUM, 0);
        let header = frame.get(self.network..self.transport).unwrap_or_default();
        let sum = header.chunks_exact(2).fold(0, |sum, pair| {
            add(sum, u16::from_be_bytes([pair[0], pair[1]]))
        });
        put(frame, self.network + V4_CHECKSUM, !sum);
    }

    pub(super) fn id(&self, frame: &[u8]) -> u16 {
        match self.is_v6 {
            false => word(frame, self.network + V4_ID).unwrap_or(0),
            true => 0,
        }
    }

    pub(super) fn set_id(&self, frame: &mut [u8], id: u16) {
        if !self.is_v6 {
            put(frame, self.network + V4_ID, id);
        }
    }

    pub(super) fn sequence(&self, frame: &[u8]) -> u32 {
        let at = self.transport + TCP_SEQUENCE;
        let bytes = frame.get(at..).and_then(<[u8]>::first_chunk::<4>);
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    pub(super) fn set_sequence(&self, frame: &mut [u8], sequence: u32) {
        let at = self.transport + TCP_SEQUENCE;
        if let Some(bytes) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *bytes = sequence.to_be_bytes();
        }
    }

    pub(super) fn tcp_flags(&self, frame: &[u8]) -> u8 {
        frame.get(self.transport + TCP_FLAGS).copied().unwrap_or(0)
    }

    pub(super) fn set_tcp_flags(&self, frame: &mut [u8], flags: u8) {
        if let Some(byte) = frame.get_mut(self.transport + TCP_FLAGS) {
            *byte = flags;
        }
    }

    /// Whether two frames of this layout are alike in all that segments of one super-frame share:
    /// all of the headers but lengths, checksums, IPv4 id, TCP sequence number and flags.
    pub(super) fn is_alike(&self, one: &[u8], other: &[u8]) -> bool {
        let (network, transport) = (self.network, self.transport);
        let between = match self.is_v6 {
            false => [network + 6..network + 10, network + 12..transport + 4],
            true => [network + 6..network + 6, network + 6..transport + 4],
        };
        let first = 0..network + if self.is_v6 { V6_LENGTH } else { V4_LENGTH };
        let behind = match self.gso {
            Gso::Tcp => [
                transport + 8..transport + TCP_FLAGS,
                transport + TCP_FLAGS + 1..transport + 16,
                transport + 18..self.payload,
            ],
            Gso::Udp => [0..0, 0..0, self.payload..self.payload],
        };
        let mut shared = [first].into_iter().chain(between).chain(behind);
        shared.all(|part| {
            let one = one.get(part.clone());
            one.is_some() && one == other.get(part)
        })
    }
}

/// One's complement addition (RFC 1071).
pub(super) const fn add(a: u16, b: u16) -> u16 {
    let (sum, carried) = a.overflowing_add(b);
    sum + carried as u16
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    let bytes = frame.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    if let Some(bytes) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
        *bytes = value.to_be_bytes();
    }
}

/// Lengths beyond 16 bits do not occur: the packet's own length field bounds them.
fn length(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

//! The frames that containers send each other.

use std::net::Ipv4Addr;

use weave_wire::Mac;

/// What every frame carries, so that it is seen where it can be read.
const MARKER: &[u8; 16] = b"nobody reads it!";
/// What the names of all containers end with.
const NAME_MARKER: &[u8] = b".weave.local";
const IPV4_HEADER: usize = 20;
/// Protocol number for experiments (RFC 3692).
const PROTOCOL: u8 = 253;

/// One end of a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Station {
    pub(crate) mac: Mac,
    pub(crate) ip: Ipv4Addr,
}

/// A frame with an IPv4 packet that carries this number, and `padding` bytes more.
pub(crate) fn ping(from: Station, to: Station, number: u64, padding: usize) -> Vec<u8> {
    let payload = 8 + MARKER.len() + padding;
    let total = u16::try_from(IPV4_HEADER + payload).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(14 + usize::from(total));
    frame.extend(to.mac.0);
    frame.extend(from.mac.0);
    frame.extend([0x08, 0x00]);
    let mut header = [0; IPV4_HEADER];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[8] = 64;
    header[9] = PROTOCOL;
    header[12..16].copy_from_slice(&from.ip.octets());
    header[16..20].copy_from_slice(&to.ip.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    frame.extend(number.to_be_bytes());
    frame.extend(MARKER);
    frame.extend(std::iter::repeat_n(0xa5, padding));
    frame
}

/// Whether something that only peers may read stands in a datagram as it is.
pub(crate) fn is_readable(datagram: &[u8]) -> bool {
    contains(datagram, MARKER) || contains(datagram, NAME_MARKER)
}

fn contains(datagram: &[u8], marker: &[u8]) -> bool {
    let mut parts = datagram.windows(marker.len());
    // mostly the first byte tells
    parts.any(|part| part.first() == marker.first() && part == marker)
}

/// The number of a frame made by [`ping`], and the MAC that it is for.
pub(crate) fn read_ping(frame: &[u8]) -> Option<(u64, Mac)> {
    let dst = frame.first_chunk::<6>()?;
    if frame.get(12..14)? != [0x08, 0x00] || *frame.get(14 + 9)? != PROTOCOL {
        return None;
    }
    let number = frame.get(14 + IPV4_HEADER..)?.first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), Mac(*dst)))
}

/// Who has this address?
pub(crate) fn arp_request(from: Station, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(Mac::BROADCAST.0);
    frame.extend(from.mac.0);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(from.mac.0);
    frame.extend(from.ip.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// The MAC and address that an ARP reply tells.
pub(crate) fn read_arp_reply(frame: &[u8]) -> Option<(Mac, Ipv4Addr)> {
    if frame.get(12..14)? != [0x08, 0x06] || frame.get(20..22)? != [0, 2] {
        return None;
    }
    let mac = frame.get(22..)?.first_chunk::<6>()?;
    let ip = frame.get(28..)?.first_chunk::<4>()?;
    Some((Mac(*mac), Ipv4Addr::from(*ip)))
}

fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_ping_can_be_read_back() {
        let station = |n| Station {
            mac: Mac([2, 0, 0, 0, 0, n]),
            ip: Ipv4Addr::new(10, 32, 0, n),
        };
        let frame = ping(station(1), station(2), 77, 1300);
        assert_eq!(read_ping(&frame), Some((77, station(2).mac)));
        assert!(is_readable(&frame) && !is_readable(&frame[..40]));
        assert_eq!(
            checksum(&frame[14..34]),
            0,
            "RFC 1071: the sum over all is zero"
        );
        let request = arp_request(station(1), station(2).ip);
        assert_eq!(read_ping(&request), None);
        assert_eq!(read_arp_reply(&request), None);
    }
}

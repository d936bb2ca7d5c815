//! Which frames belong together.

use super::{EtherType, EthernetView, Ipv4View, Ipv6View};

/// A number that all frames of a flow share, and few others have: of their stations, addresses,
/// protocol and ports. Later fragments of a packet have no ports, and count as another flow.
pub fn flow_hash(frame: &[u8]) -> u32 {
    let stations = frame.get(..12).unwrap_or_default();
    let hash = mix(0x9e37_79b9, stations);
    let Some(view) = EthernetView::parse(frame) else {
        return hash;
    };
    let [high, low] = view.ethertype().0.to_be_bytes();
    let hash = mix(hash, &[high, low]);
    match view.ethertype() {
        EtherType::IPV4 => Ipv4View::of(&view).map_or(hash, |packet| {
            let hash = mix(mix(hash, &packet.src.octets()), &packet.dst.octets());
            transport(hash, packet.proto, packet.payload)
        }),
        EtherType::IPV6 => Ipv6View::of(&view).map_or(hash, |packet| {
            let hash = mix(mix(hash, &packet.src.octets()), &packet.dst.octets());
            packet.upper().map_or(hash, |(protocol, payload)| {
                transport(hash, protocol, payload)
            })
        }),
        EtherType(_) => hash,
    }
}

fn transport(hash: u32, protocol: u8, payload: &[u8]) -> u32 {
    let hash = mix(hash, &[protocol]);
    match (protocol, payload.first_chunk::<4>()) {
        (6 | 17, Some(ports)) => mix(hash, ports),
        _ => hash,
    }
}

/// Words of four bytes, multiplied by a large odd number and folded.
fn mix(hash: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(4).fold(hash, |hash, chunk| {
        let word = chunk
            .iter()
            .fold(0, |word: u32, byte| word << 8 | u32::from(*byte));
        let product = u64::from(hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u32::try_from((product >> 32) ^ (product & 0xffff_ffff)).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(ports: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(ports);
        frame.extend(payload);
        frame
    }

    proptest! {
        #[test]
        fn a_flow_is_known_by_its_ports_and_not_by_its_payload(
            ports: [u8; 4], other: [u8; 4], one: Vec<u8>, two: Vec<u8>,
        ) {
            let hash = flow_hash(&frame(ports, &one));
            prop_assert_eq!(hash, flow_hash(&frame(ports, &two)));
            prop_assert_eq!(hash == flow_hash(&frame(other, &one)), ports == other);
        }

        #[test]
        fn no_frame_panics(bytes: Vec<u8>) {
            let _ = flow_hash(&bytes);
        }
    }
}

//! The header before each frame of a TAP that was opened with IFF_VNET_HDR: `virtio_net_hdr`
//! (virtio 1.2, 5.1.6), 10 bytes, in the byte order of the host.

use super::OffloadError;

/// Length of the header, in bytes.
pub const VNET_HEADER_LEN: usize = 10;

/// VIRTIO_NET_HDR_F_NEEDS_CSUM.
const NEEDS_CHECKSUM: u8 = 1;
/// VIRTIO_NET_HDR_GSO_ECN, beside a type.
const ECN: u8 = 0x80;
const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;

/// What the kernel left to do for a frame, as it says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// NEEDS_CSUM, DATA_VALID.
    pub flags: u8,
    /// GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4; 0x80 beside it for a first segment with CWR.
    pub gso_type: u8,
    /// Length of all headers; only a hint.
    pub hdr_len: u16,
    /// Payload of each segment but the last, in bytes.
    pub gso_size: u16,
    /// Where the summed part begins, from the beginning of the frame.
    pub csum_start: u16,
    /// Where the sum belongs, from there.
    pub csum_offset: u16,
}

/// What is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    /// A TCP super-frame.
    Tcp,
    /// A UDP super-frame: datagrams of one sender to one receiver.
    Udp,
}

/// What the kernel left to do for a frame, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Nothing: the frame is finished.
    Whole,
    /// The checksum is partial.
    Checksum {
        /// Where the summed part begins, from the beginning of the frame.
        start: usize,
        /// Where the sum belongs, from there.
        offset: usize,
    },
    /// The same, and the frame is to be cut.
    Cut {
        /// What it is.
        gso: Gso,
        /// Payload of each segment but the last, in bytes; not 0.
        size: usize,
        /// Offset of the TCP or UDP header in the frame.
        start: usize,
    },
}

impl VnetHeader {
    /// The header as the kernel wrote it.
    pub const fn decode(bytes: &[u8; VNET_HEADER_LEN]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// The header as the kernel reads it.
    pub const fn encode(&self) -> [u8; VNET_HEADER_LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// What is left to do.
    ///
    /// # Errors
    /// When it is nothing that a TAP with TUN_F_CSUM, TUN_F_TSO4/6 and TUN_F_USO4/6 gives.
    pub fn offload(&self) -> Result<Offload, OffloadError> {
        let start = usize::from(self.csum_start);
        let partial = self.flags & NEEDS_CHECKSUM != 0;
        let gso = match self.gso_type & !ECN {
            GSO_NONE if partial => {
                let offset = usize::from(self.csum_offset);
                return Ok(Offload::Checksum { start, offset });
            }
            GSO_NONE => return Ok(Offload::Whole),
            GSO_TCP_V4 | GSO_TCP_V6 => Gso::Tcp,
            GSO_UDP => Gso::Udp,
            _ => return Err(OffloadError::Unknown),
        };
        match usize::from(self.gso_size) {
            0 => Err(OffloadError::Size),
            _ if !partial => Err(OffloadError::Headers),
            size => Ok(Offload::Cut { gso, size, start }),
        }
    }

    /// Says that the checksum of the header at `start` is partial.
    pub(super) fn checksum(start: usize, offset: u16) -> Self {
        Self {
            flags: NEEDS_CHECKSUM,
            csum_start: u16::try_from(start).unwrap_or(u16::MAX),
            csum_offset: offset,
            ..Self::default()
        }
    }

    /// Says that the frame is to be cut.
    pub(super) fn cut(self, gso: Gso, is_v6: bool, has_cwr: bool, len: usize, size: usize) -> Self {
        let kind = match (gso, is_v6) {
            (Gso::Tcp, false) => GSO_TCP_V4,
            (Gso::Tcp, true) => GSO_TCP_V6,
            (Gso::Udp, _) => GSO_UDP,
        };
        Self {
            gso_type: kind | if has_cwr { ECN } else { 0 },
            hdr_len: u16::try_from(len).unwrap_or(u16::MAX),
            gso_size: u16::try_from(size).unwrap_or(u16::MAX),
            ..self
        }
    }
}

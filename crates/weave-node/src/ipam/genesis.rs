//! The founding of an address range: what everybody's grants and loans refer to.
//!
//! A genesis is identified by a hash over its record and its founder, so nobody can claim
//! another's. Its chunks are numbered from 0 along the range.

use std::net::{IpAddr, Ipv6Addr};

use blake2::digest::consts::U16;
use blake2::{Blake2s, Blake2s256, Digest};
use prost::Message as _;
use weave_wire::proto::{self, GenesisRecord};
use weave_wire::{Cidr, PeerId, SegmentId};

use super::span::Span;
use super::store::peer_of;

/// Identity of a genesis: BLAKE2s-128 of its encoded record followed by the founder's key.
pub(crate) type GenesisId = [u8; 16];

/// Most bits by which chunks are smaller than their range.
const MAX_SPLIT: u8 = 26;

/// One founding of an address range.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Genesis {
    pub(crate) id: GenesisId,
    pub(crate) founder: PeerId,
    pub(crate) range: Cidr,
    pub(crate) record: GenesisRecord,
    span: Span,
    chunk_prefix_len: u8,
}

impl Genesis {
    /// The founding of `range` by this peer, at its own idea of the time in Unix milliseconds.
    pub(crate) fn found(founder: PeerId, range: Cidr, founded_at: u64) -> Option<Self> {
        let (network, prefix_len) = range.v4()?;
        let record = GenesisRecord {
            range_ip: network.octets().to_vec(),
            range_prefix_len: u32::from(prefix_len),
            founded_at,
            chunk_prefix_len: u32::from(chunk_prefix_len(prefix_len)),
        };
        Self::from_record(founder, record)
    }

    /// Reads a record of this peer's log; nothing when it makes no sense.
    pub(crate) fn from_record(founder: PeerId, record: GenesisRecord) -> Option<Self> {
        let ip = <[u8; 4]>::try_from(record.range_ip.as_slice()).ok()?;
        let prefix_len = u8::try_from(record.range_prefix_len).ok()?;
        let chunk_prefix_len = u8::try_from(record.chunk_prefix_len).ok()?;
        let range = Cidr::new(IpAddr::from(ip), prefix_len).ok()?;
        let split = chunk_prefix_len.checked_sub(prefix_len)?;
        if chunk_prefix_len > 32 || chunk_prefix_len == 0 || split > MAX_SPLIT {
            return None;
        }
        let mut hash = Blake2s::<U16>::new();
        hash.update(record.encode_to_vec());
        hash.update(founder.as_bytes());
        let id = hash.finalize().into();
        Some(Self {
            id,
            founder,
            range,
            record,
            span: Span::of(range)?,
            chunk_prefix_len,
        })
    }

    /// As told by somebody that takes part in it; nothing when it makes no sense.
    pub(crate) fn told(founding: &proto::Founding) -> Option<Self> {
        Self::from_record(peer_of(&founding.founder)?, founding.genesis.clone()?)
    }

    /// What somebody says that takes part in it.
    pub(crate) fn to_tell(&self) -> Box<proto::Founding> {
        Box::new(proto::Founding {
            founder: self.founder.0.to_vec(),
            genesis: Some(self.record.clone()),
        })
    }

    /// What decides between two foundings: the lower one stays. A fixed label, not a time.
    pub(crate) fn label(&self) -> (u64, [u8; 32]) {
        (
            self.record.founded_at,
            Blake2s256::digest(self.founder.as_bytes()).into(),
        )
    }

    /// The IPv6 subnet that goes with an IPv4 one unless somebody chose another: unique local
    /// (RFC 4193), with the beginning of our id as the global id, and a number of 16 bits that
    /// follows from the IPv4 subnet.
    pub(crate) fn ipv6_subnet(&self, subnet: Cidr) -> Option<Cidr> {
        let [a, b, c, d, e, ..] = self.id;
        let [f, g, ..] = SegmentId::of_subnet(subnet).0.to_be_bytes();
        let prefix = [0xfd, a, b, c, d, e, f, g].map(u128::from);
        let prefix = prefix.into_iter().fold(0, |bits, byte| bits << 8 | byte) << 64;
        Cidr::new(Ipv6Addr::from_bits(prefix).into(), 64).ok()
    }

    /// Number of chunks in the range.
    pub(crate) const fn chunks(&self) -> u32 {
        1 << (self.chunk_prefix_len - self.range.prefix_len())
    }

    /// Number of addresses in a chunk.
    pub(crate) const fn chunk_size(&self) -> u32 {
        1 << (32 - self.chunk_prefix_len)
    }

    /// The addresses of the whole range.
    #[cfg(test)]
    pub(crate) const fn span(&self) -> Span {
        self.span
    }

    /// The chunk of an address of the range.
    pub(crate) fn chunk_of(&self, ip: u32) -> Option<u32> {
        let size = self.chunk_size();
        self.span
            .contains(ip)
            .then(|| (ip - self.span.first) / size)
    }

    /// The addresses of a run of chunks.
    pub(crate) const fn addresses(&self, chunks: Span) -> Span {
        let first = self.span.first + chunks.first * self.chunk_size();
        let last = self.span.first + chunks.last * self.chunk_size() + (self.chunk_size() - 1);
        Span { first, last }
    }

    /// The chunks that lie wholly within these addresses.
    pub(crate) fn whole_chunks(&self, within: Span) -> Option<Span> {
        let within = within.intersect(self.span)?;
        let size = u64::from(self.chunk_size());
        let start = u64::from(within.first - self.span.first).div_ceil(size);
        let end = (u64::from(within.last - self.span.first) + 1) / size;
        let (first, end) = (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
        (first < end).then(|| Span {
            first,
            last: end - 1,
        })
    }

    /// The chunks that share an address with these.
    pub(crate) fn touched_chunks(&self, within: Span) -> Option<Span> {
        let within = within.intersect(self.span)?;
        Some(Span {
            first: self.chunk_of(within.first)?,
            last: self.chunk_of(within.last)?,
        })
    }

    /// Whether address space of this subnet goes from peer to peer address by address only:
    /// it is so small that whole chunks would soon be stranded.
    pub(crate) fn lends_only(&self, subnet: Span) -> bool {
        let whole = self.whole_chunks(subnet).map_or(0, Span::len);
        whole < 4 || self.chunk_size() < 8
    }
}

/// Chunks are /26, or smaller so that a small range still has sixteen.
const fn chunk_prefix_len(range_prefix_len: u8) -> u8 {
    let wanted = range_prefix_len + 4;
    if wanted < 26 {
        26
    } else if wanted > 32 {
        32
    } else {
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn genesis(range: &str) -> Genesis {
        let range = range.parse().expect("a range");
        Genesis::found(PeerId([7; 32]), range, 1_700_000_000_000).expect("an IPv4 range")
    }

    fn span(net: &str) -> Span {
        Span::of(net.parse().expect("a network")).expect("IPv4")
    }

    #[test]
    fn chunks_are_26_bits_or_a_sixteenth_of_a_small_range() {
        let sizes = [
            "10.32.0.0/12",
            "10.0.0.0/22",
            "10.0.0.0/24",
            "10.0.0.0/29",
            "10.0.0.0/30",
        ]
        .map(|range| (genesis(range).chunks(), genesis(range).chunk_size()));
        assert_eq!(sizes, [(16384, 64), (16, 64), (16, 16), (8, 1), (4, 1)]);
    }

    #[test]
    fn chunks_partition_the_range() {
        for range in [
            "10.32.0.0/12",
            "10.0.0.0/25",
            "10.0.0.8/29",
            "255.255.255.0/24",
        ] {
            let genesis = genesis(range);
            let all = Span {
                first: 0,
                last: genesis.chunks() - 1,
            };
            assert_eq!(genesis.addresses(all), genesis.span());
            let mut next = genesis.span().first;
            for chunk in 0..genesis.chunks().min(100) {
                let addresses = genesis.addresses(Span::one(chunk));
                assert_eq!(addresses.first, next);
                assert_eq!(genesis.chunk_of(addresses.first), Some(chunk));
                assert_eq!(genesis.chunk_of(addresses.last), Some(chunk));
                next = addresses.last.wrapping_add(1);
            }
        }
    }

    #[test]
    fn a_subnet_smaller_than_a_chunk_has_no_whole_one() {
        let genesis = genesis("10.32.0.0/12");
        assert_eq!(genesis.whole_chunks(span("10.32.0.0/29")), None);
        assert_eq!(
            genesis.touched_chunks(span("10.32.0.64/29")),
            Some(Span::one(1))
        );
        assert_eq!(
            genesis.whole_chunks(span("10.32.1.0/24")),
            Some(Span { first: 4, last: 7 })
        );
        assert_eq!(genesis.whole_chunks(span("10.48.0.0/24")), None);
        assert!(genesis.lends_only(span("10.32.0.0/25")));
        assert!(!genesis.lends_only(span("10.32.0.0/24")));
    }

    #[test]
    fn the_identity_depends_on_founder_and_record() {
        let one = genesis("10.32.0.0/12");
        let record = one.record.clone();
        assert_eq!(
            Genesis::from_record(one.founder, record.clone()),
            Some(one.clone())
        );
        let other = Genesis::from_record(PeerId([8; 32]), record).expect("a record");
        assert_ne!(one.id, other.id);
        assert_ne!(one.id, genesis("10.0.0.0/12").id);
    }

    #[test]
    fn ipv6_subnets_are_unique_local_and_differ_by_founding_and_by_subnet() {
        let (one, other) = (genesis("10.32.0.0/12"), genesis("10.0.0.0/12"));
        let of = |genesis: &Genesis, subnet: &str| {
            let subnet = subnet.parse().expect("a network");
            genesis.ipv6_subnet(subnet).expect("a subnet")
        };
        let net = of(&one, "10.40.0.0/16");
        assert_eq!(net.prefix_len(), 64);
        assert!("fd00::/8".parse::<Cidr>().expect("a network").covers(&net));
        assert_eq!(net, of(&genesis("10.32.0.0/12"), "10.40.0.0/16"));
        assert_ne!(net, of(&other, "10.40.0.0/16"));
        assert_ne!(net, of(&one, "10.40.0.0/24"));
        let global = |net: Cidr| Cidr::containing(net.first(), 48).expect("a length");
        assert_eq!(global(net), global(of(&one, "10.41.0.0/16")));
    }

    #[test]
    fn records_that_make_no_sense_are_refused() {
        let good = genesis("10.32.0.0/12").record;
        let founder = PeerId([7; 32]);
        for (range_prefix_len, chunk_prefix_len) in
            [(33, 33), (12, 11), (12, 33), (0, 0), (2, 26), (0, 32)]
        {
            let record = GenesisRecord {
                range_prefix_len,
                chunk_prefix_len,
                ..good.clone()
            };
            assert_eq!(Genesis::from_record(founder, record), None);
        }
        let record = GenesisRecord {
            range_ip: vec![10, 32],
            ..good
        };
        assert_eq!(Genesis::from_record(founder, record), None);
    }
}

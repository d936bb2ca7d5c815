//! How the address tables lie in the node's key-value store.
//!
//! Each record has a key of its own, so that a change writes only what changed. Keys sort by
//! kind, then by chunk or address.

use prost::Message as _;
use std::net::{IpAddr, Ipv4Addr};
use weave_wire::proto::{GenesisRecord, GrantRecord, LoanRecord};
use weave_wire::{Cidr, PeerId, ip_from_bytes, number_of};

use super::chunks::Grant;
use super::genesis::{Genesis, GenesisId};
use super::pool::{Held, Loan, Phase};
use super::span::Span;

/// What all keys of this module begin with.
pub(crate) const PREFIX: &[u8] = b"ipam/";

/// Layout of held addresses, in case it ever changes.
const HELD_VERSION: u8 = 1;

/// One write to the store: the key, and the value or nothing to remove it.
pub(crate) type Write = (Vec<u8>, Option<Vec<u8>>);

/// A record read back.
#[derive(Debug, PartialEq)]
pub(crate) enum Stored {
    Genesis(Genesis),
    /// A grant we made.
    Granted(GrantRecord),
    /// A loan we made.
    Lent(LoanRecord),
    /// Chunks granted to us: the length of their chain, and where in it they were taken last.
    Owned(Span, u32, u32),
    Held(u32, Held),
    /// When there was contact with whom our space comes from, in Unix milliseconds.
    Contact(u64),
}

/// Key of the founding that all other records refer to.
pub(crate) fn genesis_key() -> Vec<u8> {
    b"ipam/genesis".to_vec()
}

/// The founding in force, to be written along with the first thing that depends on it.
pub(crate) fn genesis_write(genesis: &Genesis) -> Write {
    let mut value = genesis.founder.as_bytes().to_vec();
    value.extend(genesis.record.encode_to_vec());
    (genesis_key(), Some(value))
}

/// Key of a grant of ours.
pub(crate) fn granted_key(first_chunk: u32, serial: u32) -> Vec<u8> {
    format!("ipam/grant/{first_chunk:08x}/{serial:08x}").into_bytes()
}

/// Key of a loan of ours.
pub(crate) fn lent_key(ip: u32) -> Vec<u8> {
    format!("ipam/loan/{ip:08x}").into_bytes()
}

/// Key of chunks granted to us.
pub(crate) fn owned_key(first_chunk: u32, serial: u32) -> Vec<u8> {
    format!("ipam/owned/{first_chunk:08x}/{serial:08x}").into_bytes()
}

/// Key of an address of a container of ours.
pub(crate) fn held_key(ip: u32) -> Vec<u8> {
    format!("ipam/held/{ip:08x}").into_bytes()
}

/// Chunks granted to us.
pub(crate) fn owned_write(receipt: &Grant) -> Write {
    let last = receipt.chunks.last.to_be_bytes();
    (
        owned_key(receipt.chunks.first, receipt.serial),
        Some([last, receipt.taken_at.to_be_bytes()].concat()),
    )
}

/// An address of a container of ours.
pub(crate) fn held_write(ip: u32, held: &Held) -> Write {
    let mut value = vec![HELD_VERSION];
    let (network, prefix_len) = held
        .subnet
        .v4()
        .map_or((Ipv4Addr::UNSPECIFIED, 0), |(network, len)| (network, len));
    value.extend(network.octets());
    value.push(prefix_len);
    match &held.loan {
        Some(loan) => {
            value.push(1);
            value.extend(loan.lender.as_bytes());
            value.extend(loan.request_id.to_be_bytes());
        }
        None => value.push(0),
    }
    value.extend(held.owner.as_bytes());
    (held_key(ip), Some(value))
}

/// The record of a grant of ours.
pub(crate) fn grant_record(genesis: GenesisId, grant: &Grant, request_id: u64) -> GrantRecord {
    let taken_from = grant.taken_from.map(|peer| peer.as_bytes().to_vec());
    GrantRecord {
        genesis: genesis.to_vec(),
        grantee: grant.grantee.as_bytes().to_vec(),
        first_chunk: grant.chunks.first,
        chunk_count: grant.chunks.last - grant.chunks.first + 1,
        serial: grant.serial,
        request_id,
        taken_from: taken_from.unwrap_or_default(),
        number: grant.number,
        taken_at: grant.taken_at,
    }
}

/// When there was contact with whom our space comes from, in Unix milliseconds.
pub(crate) fn contact_write(wall_ms: u64) -> Write {
    (
        b"ipam/contact".to_vec(),
        Some(wall_ms.to_be_bytes().to_vec()),
    )
}

/// What a record in this peer's log grants; nothing when it makes no sense.
pub(crate) fn grant_of(grantor: PeerId, record: &GrantRecord) -> Option<Grant> {
    Some(Grant {
        serial: record.serial,
        taken_from: taken_from(record),
        grantor,
        grantee: peer_of(&record.grantee)?,
        chunks: granted_chunks(record)?,
        number: record.number,
        taken_at: record.taken_at,
    })
}

/// Whom the chunks of a grant are taken from.
pub(crate) fn taken_from(record: &GrantRecord) -> Option<PeerId> {
    peer_of(&record.taken_from)
}

/// The record of a loan of ours.
pub(crate) fn loan_record(
    genesis: GenesisId,
    borrower: PeerId,
    ip: u32,
    request_id: u64,
) -> LoanRecord {
    LoanRecord {
        genesis: genesis.to_vec(),
        borrower: borrower.as_bytes().to_vec(),
        ip: ip.to_be_bytes().to_vec(),
        request_id,
    }
}

/// The chunks of a grant, when it names any.
pub(crate) fn granted_chunks(grant: &GrantRecord) -> Option<Span> {
    let more = grant.chunk_count.checked_sub(1)?;
    Some(Span {
        first: grant.first_chunk,
        last: grant.first_chunk.checked_add(more)?,
    })
}

/// The four bytes of an IPv4 address as a number.
pub(crate) fn ip_bits(bytes: &[u8]) -> Option<u32> {
    <[u8; 4]>::try_from(bytes).ok().map(u32::from_be_bytes)
}

/// The number that an announced address takes up in the range: that of an IPv4 address, and the one
/// that an IPv6 address ends in.
pub(crate) fn number_bits(bytes: &[u8]) -> Option<u32> {
    ip_from_bytes(bytes).ok().map(|ip| number_of(ip).to_bits())
}

/// A peer's key.
pub(crate) fn peer_of(bytes: &[u8]) -> Option<PeerId> {
    <[u8; 32]>::try_from(bytes).ok().map(PeerId)
}

/// Reads a record back; nothing when it is damaged or of an unknown kind.
pub(crate) fn read(key: &[u8], value: &[u8]) -> Option<Stored> {
    let key = std::str::from_utf8(key).ok()?;
    let mut parts = key.strip_prefix("ipam/")?.split('/');
    let kind = parts.next()?;
    match kind {
        "genesis" => {
            let (founder, record) = value.split_at_checked(32)?;
            let record = GenesisRecord::decode(record).ok()?;
            Genesis::from_record(peer_of(founder)?, record).map(Stored::Genesis)
        }
        "grant" => {
            let grant = GrantRecord::decode(value).ok()?;
            granted_chunks(&grant)?;
            peer_of(&grant.grantee)?;
            Some(Stored::Granted(grant))
        }
        "loan" => {
            let loan = LoanRecord::decode(value).ok()?;
            ip_bits(&loan.ip)?;
            peer_of(&loan.borrower)?;
            Some(Stored::Lent(loan))
        }
        "owned" => {
            let first = u32::from_str_radix(parts.next()?, 16).ok()?;
            let serial = u32::from_str_radix(parts.next()?, 16).ok()?;
            let (last, taken_at) = value.split_at_checked(4)?;
            let last = ip_bits(last)?;
            // older ones do not say
            let taken_at = match taken_at {
                [] => serial,
                taken_at => ip_bits(taken_at)?,
            };
            (first <= last).then_some(Stored::Owned(Span { first, last }, serial, taken_at))
        }
        "held" => {
            let ip = u32::from_str_radix(parts.next()?, 16).ok()?;
            Some(Stored::Held(ip, read_held(value)?))
        }
        "contact" => {
            let at = <[u8; 8]>::try_from(value).ok()?;
            Some(Stored::Contact(u64::from_be_bytes(at)))
        }
        _ => None,
    }
}

fn read_held(value: &[u8]) -> Option<Held> {
    let (head, rest) = value.split_at_checked(7)?;
    let &[version, a, b, c, d, prefix_len, borrowed] = head else {
        return None;
    };
    if version != HELD_VERSION {
        return None;
    }
    let subnet = Cidr::new(IpAddr::from([a, b, c, d]), prefix_len).ok()?;
    let (loan, owner) = match borrowed {
        0 => (None, rest),
        1 => {
            let (lender, rest) = rest.split_at_checked(32)?;
            let (request_id, owner) = rest.split_first_chunk::<8>()?;
            let request_id = u64::from_be_bytes(*request_id);
            (
                Some(Loan {
                    lender: peer_of(lender)?,
                    request_id,
                }),
                owner,
            )
        }
        _ => return None,
    };
    let owner = std::str::from_utf8(owner).ok()?.to_owned();
    Some(Held {
        owner,
        subnet,
        loan,
        ticket: None,
        phase: Phase::Kept,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_back(write: Write) -> Option<Stored> {
        read(&write.0, &write.1?)
    }

    #[test]
    fn every_kind_of_record_survives_the_disk() {
        let range = "10.32.0.0/12".parse().expect("a range");
        let genesis = Genesis::found(PeerId([1; 32]), range, 5).expect("IPv4");
        assert_eq!(
            read_back(genesis_write(&genesis)),
            Some(Stored::Genesis(genesis.clone()))
        );
        let span = Span { first: 3, last: 9 };
        let receipt = Grant::receipt(PeerId([1; 32]), span, 2, 1);
        assert_eq!(
            read_back(owned_write(&receipt)),
            Some(Stored::Owned(span, 2, 1))
        );
        assert_eq!(
            read(&owned_key(3, 2), &9u32.to_be_bytes()),
            Some(Stored::Owned(span, 2, 2)),
            "of an earlier version"
        );
        for taken_from in [None, Some(PeerId([3; 32]))] {
            let grant = Grant {
                serial: 1,
                taken_from,
                grantor: PeerId([1; 32]),
                grantee: PeerId([2; 32]),
                chunks: span,
                number: 4,
                taken_at: 0,
            };
            let grant = grant_record(genesis.id, &grant, 77);
            let write = (granted_key(3, 1), Some(grant.encode_to_vec()));
            assert_eq!(read_back(write), Some(Stored::Granted(grant)));
        }
        assert_eq!(read_back(contact_write(5)), Some(Stored::Contact(5)));
        let loan = loan_record(genesis.id, PeerId([2; 32]), 0x0a20_0001, 78);
        let write = (lent_key(0x0a20_0001), Some(loan.encode_to_vec()));
        assert_eq!(read_back(write), Some(Stored::Lent(loan)));
        for loan in [
            None,
            Some(Loan {
                lender: PeerId([9; 32]),
                request_id: 1 << 40,
            }),
        ] {
            let owner = "web é".to_owned();
            let held = Held {
                owner,
                subnet: range,
                loan,
                ticket: None,
                phase: Phase::Kept,
            };
            assert_eq!(read_back(held_write(7, &held)), Some(Stored::Held(7, held)));
        }
    }

    proptest! {
        #[test]
        fn a_damaged_store_never_panics(
            kind in "genesis|grant/1/1|loan/1|owned/00000001/00000001|held/0a000001|contact|x",
            value in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = read(format!("ipam/{kind}").as_bytes(), &value);
            let _ = read(&value, &value);
        }
    }
}

//! Reading control messages and log batches within the limits of the protocol, and the
//! conversions between their byte fields and typed values.
//!
//! [`decode_control`] and [`decode_batch`] check sizes, counts and the lengths of the fields that
//! every reader relies on. What a single log entry holds is checked by [`check_entry`], apart:
//! one bad entry must not hold up the rest of a log. Unknown fields and unknown cases are no
//! errors; they come out as an absent body.

use std::net::{IpAddr, SocketAddr};

use prost::Message as _;

use crate::proto::{
    Batch, CircuitReply, CircuitRequest, ControlMessage, Delta, Digest, Entry, Finding,
    GenesisRecord, Hello, Inquiry, InquiryReply, LoanReturn, LogVersion, PathProbe, Ping, Pong,
    Pull, RekeyReply, RekeyRequest, SignedBatch, SocketAddress, SpaceReply, SpaceRequest, Summary,
    control_message::Body, entry,
};
use crate::{Mac, PeerId, ReceiverIndex, SEALED_HEADER_LEN, TAG_LEN, WireError};

/// A control message is at most this long, in bytes: with all headers it fits an underlay with
/// the smallest MTU of IPv6.
pub const MAX_CONTROL_LEN: usize = 1200;
/// Except a path probe, which with header and tag fills a datagram of up to 9,216 bytes.
pub const MAX_PROBE_LEN: usize = 9216 - SEALED_HEADER_LEN - TAG_LEN;
/// The payload of a signed batch is at most this long, in bytes.
pub const MAX_BATCH_LEN: usize = 1024;
/// A batch holds at most this many entries.
pub const MAX_BATCH_ENTRIES: usize = 512;
/// A message holds at most this many batches.
pub const MAX_BATCHES: usize = 16;
/// A digest or pull names at most this many logs.
pub const MAX_LOG_VERSIONS: usize = 64;
/// A summary has at most this many sums.
pub const MAX_SUMS: usize = 64;
/// A peer record names at most this many addresses.
pub const MAX_PEER_ADDRESSES: usize = 8;
/// A peer record names at most this many neighbours.
pub const MAX_NEIGHBOURS: usize = 16;
/// An endpoint has at most this many addresses.
pub const MAX_ENDPOINT_IPS: usize = 8;
/// A name is at most this long, in bytes, as in the DNS.
pub const MAX_NAME_LEN: usize = 253;
/// Any other text for people is at most this long, in bytes.
pub const MAX_TEXT_LEN: usize = 255;

/// First byte of an encoded path probe: field 14 with a length.
const PATH_PROBE_KEY: u8 = 14 << 3 | 2;

/// Reads one control message.
///
/// A message of a kind that this version does not know has no body.
///
/// # Errors
/// When it is longer than [`MAX_CONTROL_LEN`] ([`MAX_PROBE_LEN`] for a path probe), not valid
/// protobuf, or one of its fields breaks a limit.
pub fn decode_control(bytes: &[u8]) -> Result<ControlMessage, WireError> {
    let begins_as_probe = bytes.first() == Some(&PATH_PROBE_KEY);
    let most = if begins_as_probe {
        MAX_PROBE_LEN
    } else {
        MAX_CONTROL_LEN
    };
    at_most("control message", bytes.len(), most)?;
    let message = ControlMessage::decode(bytes)?;
    if !matches!(message.body, Some(Body::PathProbe(_))) {
        at_most("control message", bytes.len(), MAX_CONTROL_LEN)?;
    }
    if let Some(body) = &message.body {
        check_body(body)?;
    }
    Ok(message)
}

/// A path probe of exactly `len` bytes, for lengths of 200 to [`MAX_PROBE_LEN`].
pub fn encode_path_probe(nonce: u64, len: usize) -> Vec<u8> {
    let probe = |padding| ControlMessage {
        body: Some(Body::PathProbe(PathProbe {
            nonce,
            padding: vec![0; padding],
        })),
    };
    let around = probe(len).encoded_len().saturating_sub(len);
    probe(len.saturating_sub(around)).encode_to_vec()
}

/// Reads the payload of a signed batch. The signature is not looked at.
///
/// # Errors
/// When it is longer than [`MAX_BATCH_LEN`], not valid protobuf, has no proper origin, holds no
/// or too many entries, or its sequence numbers start at 0 or run over.
pub fn decode_batch(payload: &[u8]) -> Result<Batch, WireError> {
    at_most("batch", payload.len(), MAX_BATCH_LEN)?;
    let batch = Batch::decode(payload)?;
    exactly::<32>("origin", &batch.origin)?;
    at_most("entries", batch.entries.len(), MAX_BATCH_ENTRIES)?;
    let entries = u64::try_from(batch.entries.len()).unwrap_or(u64::MAX);
    if entries == 0 {
        return Err(WireError::FieldValue { field: "entries" });
    }
    if batch.first_seq == 0 || batch.first_seq.checked_add(entries).is_none() {
        return Err(WireError::FieldValue { field: "first_seq" });
    }
    Ok(batch)
}

/// Checks that a log entry holds what its readers rely on: field lengths, counts, text lengths.
///
/// # Errors
/// Names the first field that is wrong. The entry must then be treated like an absent one.
pub fn check_entry(entry: &Entry) -> Result<(), WireError> {
    use entry::Body as Log;
    let Some(body) = &entry.body else {
        return Ok(());
    };
    match body {
        Log::Peer(peer) => check_peer_record(peer),
        Log::Subnet(subnet) => {
            let ip = ip_from_bytes(&subnet.ip)?;
            prefix(ip, subnet.prefix_len)?;
            if !subnet.ipv6.is_empty() {
                exactly::<16>("ipv6", &subnet.ipv6)?;
            }
            Ok(())
        }
        Log::Endpoint(endpoint) => {
            mac_from_bytes(&endpoint.mac)?;
            at_most("ips", endpoint.ips.len(), MAX_ENDPOINT_IPS)?;
            at_most("container", endpoint.container.len(), MAX_TEXT_LEN)?;
            endpoint
                .ips
                .iter()
                .try_for_each(|ip| ip_from_bytes(ip).map(drop))
        }
        Log::Name(name) => {
            at_most("name", name.name.len(), MAX_NAME_LEN)?;
            at_most("container", name.container.len(), MAX_TEXT_LEN)?;
            ip_from_bytes(&name.ip).map(drop)
        }
        Log::Genesis(genesis) => check_genesis(genesis),
        Log::Grant(grant) => {
            exactly::<16>("genesis", &grant.genesis)?;
            if !grant.taken_from.is_empty() {
                exactly::<32>("taken_from", &grant.taken_from)?;
            }
            exactly::<32>("grantee", &grant.grantee).map(drop)
        }
        Log::Loan(loan) => {
            exactly::<16>("genesis", &loan.genesis)?;
            exactly::<4>("ip", &loan.ip)?;
            exactly::<32>("borrower", &loan.borrower).map(drop)
        }
        Log::Ban(ban) => {
            at_most("reason", ban.reason.len(), MAX_TEXT_LEN)?;
            if !ban.by.is_empty() {
                exactly::<32>("by", &ban.by)?;
            }
            exactly::<32>("peer", &ban.peer).map(drop)
        }
    }
}

/// The message form of a socket address; scope and flow of IPv6 are left out.
pub fn proto_addr(addr: SocketAddr) -> SocketAddress {
    SocketAddress {
        ip: ip_bytes(addr.ip()),
        port: u32::from(addr.port()),
    }
}

/// The socket address of a message.
///
/// # Errors
/// When the address is neither 4 nor 16 bytes long, or the port is 0 or too large.
pub fn from_proto_addr(addr: &SocketAddress) -> Result<SocketAddr, WireError> {
    let ip = ip_from_bytes(&addr.ip)?;
    match u16::try_from(addr.port) {
        Ok(port) if port != 0 => Ok(SocketAddr::new(ip, port)),
        _ => Err(WireError::FieldValue { field: "port" }),
    }
}

/// The bytes of an address in network order: 4 or 16.
pub fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The address of 4 or 16 bytes in network order.
///
/// # Errors
/// When there are neither 4 nor 16.
pub fn ip_from_bytes(bytes: &[u8]) -> Result<IpAddr, WireError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    <[u8; 16]>::try_from(bytes)
        .map(IpAddr::from)
        .map_err(|_| WireError::FieldLen {
            field: "ip",
            len: bytes.len(),
            expected: "4 or 16",
        })
}

/// The Ethernet address of 6 bytes.
///
/// # Errors
/// When there are not 6.
pub fn mac_from_bytes(bytes: &[u8]) -> Result<Mac, WireError> {
    exactly::<6>("mac", bytes).map(Mac)
}

/// The peer of 32 bytes.
///
/// # Errors
/// When there are not 32.
pub fn peer_id_from_bytes(bytes: &[u8]) -> Result<PeerId, WireError> {
    exactly::<32>("peer", bytes).map(PeerId)
}

fn check_body(body: &Body) -> Result<(), WireError> {
    match body {
        Body::Hello(hello) => check_hello(hello),
        Body::FoundRequest(_) | Body::PathProbe(_) | Body::PathProbeAck(_) => Ok(()),
        Body::Ping(Ping { observed, .. }) | Body::Pong(Pong { observed, .. }) => {
            check_addr(observed.as_ref())
        }
        Body::Goodbye(goodbye) => at_most("reason", goodbye.reason.len(), MAX_TEXT_LEN),
        Body::RekeyRequest(request) => check_rekey_request(request),
        Body::RekeyReply(RekeyReply {
            public_key,
            kem_ciphertext,
            ..
        }) => {
            exactly::<32>("public_key", public_key)?;
            if kem_ciphertext.is_empty() {
                return Ok(());
            }
            exactly::<1088>("kem_ciphertext", kem_ciphertext).map(drop)
        }
        Body::Delta(Delta { batches }) => check_batches(batches),
        Body::Summary(Summary { sums }) => at_most("sums", sums.len(), MAX_SUMS),
        Body::Digest(Digest {
            logs, from, last, ..
        }) => {
            at_most("from", from.len(), 32)?;
            at_most("last", last.len(), 32)?;
            check_versions("logs", logs)
        }
        Body::Pull(Pull { have }) => check_versions("have", have),
        Body::SpaceRequest(request) => check_space_request(request),
        Body::SpaceReply(SpaceReply {
            holder,
            address,
            batches,
            ..
        }) => {
            at_most("holder", holder.len(), MAX_TEXT_LEN)?;
            optional_ip(address)?;
            check_batches(batches)
        }
        Body::LoanReturn(LoanReturn { genesis, address }) => {
            exactly::<16>("genesis", genesis)?;
            ip_from_bytes(address).map(drop)
        }
        Body::CircuitRequest(CircuitRequest { target, slot, .. }) => {
            exactly::<32>("target", target)?;
            check_slot(*slot)
        }
        Body::CircuitReply(CircuitReply { slot, .. }) => check_slot(*slot),
        Body::Inquiry(Inquiry { ip, .. }) => optional_ip(ip),
        Body::InquiryReply(InquiryReply {
            bridge,
            station,
            stand_in,
            ..
        }) => {
            optional_ip(stand_in)?;
            [bridge, station].into_iter().try_for_each(check_finding)
        }
    }
}

fn check_finding(finding: &Option<Finding>) -> Result<(), WireError> {
    let detail = finding.as_ref().map_or("", |finding| &finding.detail);
    at_most("detail", detail.len(), MAX_TEXT_LEN)
}

fn check_hello(hello: &Hello) -> Result<(), WireError> {
    exactly::<32>("peer", &hello.peer)?;
    exactly::<64>("signature", &hello.signature)?;
    at_most("nickname", hello.nickname.len(), MAX_TEXT_LEN)?;
    at_most("version", hello.version.len(), MAX_TEXT_LEN)?;
    check_addr(hello.observed.as_ref())
}

/// One key is in it: both do not fit a message.
fn check_rekey_request(request: &RekeyRequest) -> Result<(), WireError> {
    if request.kem_key.is_empty() {
        return exactly::<32>("public_key", &request.public_key).map(drop);
    }
    at_most("public_key", request.public_key.len(), 0)?;
    exactly::<1184>("kem_key", &request.kem_key).map(drop)
}

fn check_space_request(request: &SpaceRequest) -> Result<(), WireError> {
    exactly::<16>("genesis", &request.genesis)?;
    let subnet = ip_from_bytes(&request.subnet_ip)?;
    prefix(subnet, request.subnet_prefix_len)?;
    optional_ip(&request.address)
}

fn check_batches(batches: &[SignedBatch]) -> Result<(), WireError> {
    at_most("batches", batches.len(), MAX_BATCHES)?;
    batches.iter().try_for_each(|batch| {
        at_most("payload", batch.payload.len(), MAX_BATCH_LEN)?;
        exactly::<64>("signature", &batch.signature).map(drop)
    })
}

fn check_versions(field: &'static str, logs: &[LogVersion]) -> Result<(), WireError> {
    at_most(field, logs.len(), MAX_LOG_VERSIONS)?;
    logs.iter()
        .try_for_each(|log| exactly::<32>("origin", &log.origin).map(drop))
}

fn check_genesis(genesis: &GenesisRecord) -> Result<(), WireError> {
    let ip = exactly::<4>("range_ip", &genesis.range_ip)?;
    prefix(ip.into(), genesis.range_prefix_len)?;
    prefix(ip.into(), genesis.chunk_prefix_len)
}

fn check_peer_record(peer: &crate::proto::PeerRecord) -> Result<(), WireError> {
    exactly::<32>("static_key", &peer.static_key)?;
    at_most("nickname", peer.nickname.len(), MAX_TEXT_LEN)?;
    at_most("version", peer.version.len(), MAX_TEXT_LEN)?;
    at_most("addresses", peer.addresses.len(), MAX_PEER_ADDRESSES)?;
    at_most("neighbours", peer.neighbours.len(), MAX_NEIGHBOURS)?;
    if let Some(founding) = &peer.founding {
        exactly::<32>("founder", &founding.founder)?;
        let genesis = founding.genesis.as_ref();
        check_genesis(genesis.ok_or(WireError::FieldValue { field: "genesis" })?)?;
    }
    peer.addresses
        .iter()
        .try_for_each(|addr| check_addr(Some(addr)))?;
    peer.neighbours
        .iter()
        .try_for_each(|short| exactly::<8>("neighbour", short).map(drop))
}

fn check_addr(addr: Option<&SocketAddress>) -> Result<(), WireError> {
    addr.map_or(Ok(()), |addr| from_proto_addr(addr).map(drop))
}

fn check_slot(slot: u32) -> Result<(), WireError> {
    if slot >= ReceiverIndex::SLOT_LIMIT {
        return Err(WireError::FieldValue { field: "slot" });
    }
    Ok(())
}

fn optional_ip(bytes: &[u8]) -> Result<(), WireError> {
    if bytes.is_empty() {
        Ok(())
    } else {
        ip_from_bytes(bytes).map(drop)
    }
}

fn prefix(ip: IpAddr, given: u32) -> Result<(), WireError> {
    let most = if ip.is_ipv4() { 32 } else { 128 };
    if given > u32::from(most) {
        return Err(WireError::PrefixLen { given, most });
    }
    Ok(())
}

fn at_most(field: &'static str, len: usize, most: usize) -> Result<(), WireError> {
    if len > most {
        return Err(WireError::TooMany { field, len, most });
    }
    Ok(())
}

fn exactly<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    let expected = match N {
        4 => "4",
        6 => "6",
        8 => "8",
        16 => "16",
        32 => "32",
        64 => "64",
        1088 => "1088",
        1184 => "1184",
        _ => "another length",
    };
    bytes.try_into().map_err(|_| WireError::FieldLen {
        field,
        len: bytes.len(),
        expected,
    })
}

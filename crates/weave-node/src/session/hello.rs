//! How two peers introduce themselves: the `Hello` in handshake message 3 and in the first
//! control message of the responder.
//!
//! A `Hello` is believed when it is signed for this very handshake by the key it names. What it
//! says beyond that key, the boot number and the capabilities is for people and decides nothing.

use std::net::SocketAddr;

use prost::Message as _;
use weave_crypto::{HelloContext, sign_hello, verify_hello};
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{ControlMessage, Hello};
use weave_wire::{PeerId, decode_control, from_proto_addr, peer_id_from_bytes, proto_addr};

use super::config::SessionConfig;
use crate::post_quantum::PostQuantum;

/// Texts of peers are cut to this many bytes.
const SHOWN_LEN: usize = 64;

/// What a peer proved and said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Introduction {
    /// Who it is; proven.
    pub(super) peer: PeerId,
    /// Number of its start.
    pub(super) boot: u64,
    /// What it calls itself.
    pub(super) nickname: String,
    /// Version of its program.
    pub(super) version: String,
    /// Whether its keys are to withstand quantum computers.
    pub(super) pq: PostQuantum,
    /// Where it sees us.
    pub(super) observed: Option<SocketAddr>,
}

/// Our own introduction to a peer that we see at `to`.
pub(super) fn introduce(config: &SessionConfig, context: &HelloContext, to: SocketAddr) -> Body {
    let identity = &config.handshake.identity;
    Body::Hello(Hello {
        peer: identity.peer_id().as_bytes().to_vec(),
        signature: sign_hello(identity, context).to_vec(),
        boot: config.boot,
        nickname: shown(&config.nickname),
        observed: Some(proto_addr(to)),
        max_protocol: config.handshake.versions.highest.into(),
        capabilities: config.pq.capabilities() | crate::inquiries::ANSWERS,
        version: shown(&config.version),
    })
}

/// A control message as it is sealed or carried by a handshake.
pub(super) fn encode(body: Body) -> Vec<u8> {
    ControlMessage { body: Some(body) }.encode_to_vec()
}

/// Reads a `Hello` that must belong to the peer, handshake and role of `context`.
pub(super) fn check_encoded(bytes: &[u8], context: &HelloContext) -> Option<Introduction> {
    let Some(Body::Hello(hello)) = decode_control(bytes).ok()?.body else {
        return None;
    };
    check(&hello, context)
}

/// Checks that `hello` belongs to the peer, handshake and role of `context`.
pub(super) fn check(hello: &Hello, context: &HelloContext) -> Option<Introduction> {
    let peer = peer_id_from_bytes(&hello.peer).ok()?;
    let signature = hello.signature.as_slice().try_into().ok()?;
    let HelloContext {
        handshake_hash,
        role,
        static_public,
    } = context;
    verify_hello(&peer, signature, handshake_hash, *role, static_public).ok()?;
    Some(Introduction {
        peer,
        boot: hello.boot,
        nickname: shown(&hello.nickname),
        version: shown(&hello.version),
        pq: PostQuantum::announced(hello.capabilities),
        observed: hello
            .observed
            .as_ref()
            .and_then(|addr| from_proto_addr(addr).ok()),
    })
}

/// A text of a stranger, fit to be shown: of bounded length, on one line.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for char in text.chars().filter(|char| !char.is_control()) {
        if shown.len() + char.len_utf8() > SHOWN_LEN {
            break;
        }
        shown.push(char);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_peers_are_cut_and_stay_on_one_line() {
        assert_eq!(shown("host\n\u{1b}[31m1"), "host[31m1");
        assert_eq!(shown(&"ü".repeat(1_000)), "ü".repeat(32));
    }
}

//! Cookies: under load, a responder computes only for addresses that showed they receive.
//!
//! The responder keeps nothing per address: a cookie is a keyed hash of the address, and the key
//! changes every two minutes.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use rand_core::RngCore;
use subtle::ConstantTimeEq;
use weave_wire::{DatagramType, HANDSHAKE_HEADER_LEN, HandshakeHeader, Time};
use zeroize::Zeroizing;

use crate::handshake::{
    COOKIE_REPLY_LEN, HandshakeError, Init, MAC1_RANGE, MAC2_RANGE, header, mesh_key,
};
use crate::kdf;

/// How long a responder hands out the same cookie to an address.
const ROTATE_EVERY: Duration = Duration::from_secs(120);
const COOKIE_LEN: usize = 16;
const NONCE_LEN: usize = 24;

/// What to do with a first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Answer it: [`crate::respond`].
    Proceed,
    /// Send this cookie instead, and keep nothing.
    Challenge(Vec<u8>),
    /// Not for this mesh, or no first message at all. Stay silent.
    Drop,
}

/// The responder's side: decides which first messages are worth computing for.
pub struct CookieJar {
    mesh_name: String,
    secret: Zeroizing<[u8; 32]>,
    /// Good for one more period, so that no cookie expires on its way.
    previous: Zeroizing<[u8; 32]>,
    rotate_at: Time,
}

impl CookieJar {
    /// A jar with fresh secrets.
    pub fn new(mesh_name: &str, now: Time, rng: &mut impl RngCore) -> Self {
        let (secret, previous) = (fresh(rng), fresh(rng));
        Self {
            mesh_name: mesh_name.to_owned(),
            secret,
            previous,
            rotate_at: now + ROTATE_EVERY,
        }
    }

    /// Decides about a first message that came from this address.
    pub fn admit(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        under_load: bool,
        now: Time,
        rng: &mut impl RngCore,
    ) -> Admission {
        let Ok(init) = Init::parse(&self.mesh_name, datagram) else {
            return Admission::Drop;
        };
        if !under_load {
            return Admission::Proceed;
        }
        self.rotate_if_due(now, rng);
        let known = [&self.secret, &self.previous]
            .map(|secret| mac2(&bake(secret, from), init.before_mac2).ct_eq(init.mac2));
        if known.into_iter().any(bool::from) {
            return Admission::Proceed;
        }
        self.challenge(&init, from, rng)
    }

    fn challenge(&self, init: &Init<'_>, from: SocketAddr, rng: &mut impl RngCore) -> Admission {
        let header = HandshakeHeader {
            ty: DatagramType::CookieReply,
            generation: init.header.generation,
            sender: 0,
            receiver: init.header.sender,
        };
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let mut cookie = bake(&self.secret, from);
        let aad = aad(&header.encode(), init.mac1);
        let cipher = XChaCha20Poly1305::new(&cipher_key(&self.mesh_name).into());
        match cipher.encrypt_in_place_detached(&nonce.into(), &aad, &mut cookie) {
            Ok(tag) => Admission::Challenge([&header.encode()[..], &nonce, &cookie, &tag].concat()),
            Err(_) => Admission::Drop,
        }
    }

    fn rotate_if_due(&mut self, now: Time, rng: &mut impl RngCore) {
        if now < self.rotate_at {
            return;
        }
        let overdue = now.saturating_sub(self.rotate_at) >= ROTATE_EVERY;
        self.previous = std::mem::replace(&mut self.secret, fresh(rng));
        if overdue {
            self.previous = fresh(rng);
        }
        self.rotate_at = now + ROTATE_EVERY;
    }
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar")
            .field("rotate_at", &self.rotate_at)
            .finish_non_exhaustive()
    }
}

/// The dialler's side: what a responder gave to our address.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie {
    bytes: [u8; COOKIE_LEN],
    fresh_until: Time,
}

impl Cookie {
    /// Whether the responder still accepts it. Worth a try only for the same responder.
    pub fn is_fresh(&self, now: Time) -> bool {
        now < self.fresh_until
    }

    /// Shows the cookie in a first message.
    pub(crate) fn stamp(&self, init: &mut [u8]) {
        let mac = mac2(&self.bytes, &init[..MAC2_RANGE.start]);
        init[MAC2_RANGE].copy_from_slice(&mac);
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookie")
            .field("fresh_until", &self.fresh_until)
            .finish_non_exhaustive()
    }
}

/// Reads a cookie that answers the first message `init`.
pub(crate) fn open(
    mesh_name: &str,
    my_slot: u32,
    init: &[u8],
    datagram: &[u8],
    now: Time,
) -> Result<Cookie, HandshakeError> {
    let addressed = header(datagram, DatagramType::CookieReply)?;
    if datagram.len() != COOKIE_REPLY_LEN {
        return Err(HandshakeError::Malformed("length"));
    }
    if addressed.receiver != my_slot {
        return Err(HandshakeError::OtherHandshake);
    }
    let (header, rest) = datagram.split_at(HANDSHAKE_HEADER_LEN);
    let (nonce, rest) = rest
        .split_first_chunk::<NONCE_LEN>()
        .ok_or(HandshakeError::Malformed("length"))?;
    let (cookie, tag) = rest
        .split_first_chunk::<COOKIE_LEN>()
        .ok_or(HandshakeError::Malformed("length"))?;
    let mut bytes = *cookie;
    XChaCha20Poly1305::new(&cipher_key(mesh_name).into())
        .decrypt_in_place_detached(
            nonce.into(),
            &aad(header, &init[MAC1_RANGE]),
            &mut bytes,
            tag.into(),
        )
        .map_err(|_| HandshakeError::OtherHandshake)?;
    Ok(Cookie {
        bytes,
        fresh_until: now + ROTATE_EVERY,
    })
}

/// Hides the cookie from whoever does not know the name of the mesh.
fn cipher_key(mesh_name: &str) -> [u8; 32] {
    *kdf::derive(&mesh_key(mesh_name), "weave/v1 cookie reply", &[])
}

/// A cookie answers one first message only.
fn aad(header: &[u8], mac1: &[u8]) -> Vec<u8> {
    [header, mac1].concat()
}

fn bake(secret: &[u8; 32], from: SocketAddr) -> [u8; COOKIE_LEN] {
    let (ip, port) = (from.ip().to_canonical(), from.port().to_le_bytes());
    let ip = match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    kdf::authenticate(secret, "weave/v1 cookie", &[&ip, &port])
}

fn mac2(cookie: &[u8; COOKIE_LEN], covered: &[u8]) -> [u8; COOKIE_LEN] {
    let mut key = [0; 32];
    key[..COOKIE_LEN].copy_from_slice(cookie);
    kdf::authenticate(&key, "weave/v1 mac2", &[covered])
}

fn fresh(rng: &mut impl RngCore) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    rng.fill_bytes(secret.as_mut_slice());
    secret
}

#[cfg(test)]
mod tests;

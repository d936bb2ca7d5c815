//! The Noise pattern of the handshake, `XXpsk3`, on top of snow: our X25519 that refuses weak
//! keys, and ephemeral keys that are given instead of drawn.
//!
//! A state can be built again from the same keys and messages. This is how a handshake survives a
//! forged message: snow does not restore its cipher after one whose first part was genuine.

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::handshake::HandshakeError;
use crate::identity::Identity;
use crate::x25519::EphemeralKey;

/// The whole protocol, as snow and the published vectors name it.
pub(crate) const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";

/// Where the pattern mixes in the key of the password exchange.
pub(crate) const PSK_POSITION: usize = 3;

/// What the pattern adds to the payload of messages 1, 2 and 3, in bytes.
pub(crate) const OVERHEAD: [usize; 3] = [32 + 16, 32 + 48 + 16, 48 + 16];

/// A seed for the ephemeral key of one handshake.
pub(crate) type EphemeralSeed = Zeroizing<[u8; 32]>;

/// The state of the side that dials, and the first message.
pub(crate) fn begin(
    identity: &Identity,
    prologue: &[u8],
    ephemeral: &EphemeralSeed,
    payload: &[u8],
) -> (HandshakeState, Vec<u8>) {
    let built = builder(PATTERN, identity.static_private(), prologue, ephemeral)
        .and_then(Builder::build_initiator);
    let mut state = fixed(built);
    let first = fixed(write(&mut state, payload));
    (state, first)
}

/// The state of the side that answers.
pub(crate) fn responder(
    identity: &Identity,
    prologue: &[u8],
    ephemeral: &EphemeralSeed,
) -> HandshakeState {
    fixed(
        builder(PATTERN, identity.static_private(), prologue, ephemeral)
            .and_then(Builder::build_responder),
    )
}

/// Writes the next message.
///
/// # Errors
/// When the other side's keys are weak, or a state is used out of order.
pub(crate) fn write(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, snow::Error> {
    let mut message = vec![0; payload.len() + 128];
    let length = noise.write_message(payload, &mut message)?;
    message.truncate(length);
    Ok(message)
}

/// Reads the next message and answers its payload.
///
/// # Errors
/// When the message is not genuine; the state is then of no further use.
pub(crate) fn read(noise: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, snow::Error> {
    let mut payload = vec![0; message.len()];
    let length = noise.read_message(message, &mut payload)?;
    payload.truncate(length);
    Ok(payload)
}

/// Writes the third message, which the password protects.
///
/// # Errors
/// See [`write`].
pub(crate) fn write_with_psk(
    noise: &mut HandshakeState,
    psk: &[u8; 32],
    payload: &[u8],
) -> Result<Vec<u8>, snow::Error> {
    noise.set_psk(PSK_POSITION, psk)?;
    write(noise, payload)
}

/// Reads the third message, which the password protects.
///
/// # Errors
/// See [`read`].
pub(crate) fn read_with_psk(
    noise: &mut HandshakeState,
    psk: &[u8; 32],
    message: &[u8],
) -> Result<Vec<u8>, snow::Error> {
    noise.set_psk(PSK_POSITION, psk)?;
    read(noise, message)
}

/// The static key that the other side has shown.
///
/// # Errors
/// Before it has shown one.
pub(crate) fn remote_static(noise: &HandshakeState) -> Result<[u8; 32], HandshakeError> {
    let key = noise.get_remote_static().and_then(<[u8]>::first_chunk);
    key.copied()
        .ok_or(HandshakeError::Malformed("no static key"))
}

/// The hash over everything so far.
pub(crate) fn transcript_hash(noise: &HandshakeState) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(noise.get_handshake_hash());
    hash
}

/// A state before its role is chosen.
pub(crate) fn builder<'a>(
    pattern: &str,
    private: &'a [u8; 32],
    prologue: &'a [u8],
    ephemeral: &EphemeralSeed,
) -> Result<Builder<'a>, snow::Error> {
    Builder::with_resolver(pattern.parse()?, Box::new(Resolver(ephemeral.clone())))
        .local_private_key(private)?
        .prologue(prologue)
}

/// For what depends on nothing that a peer sent, and is exercised by every handshake.
fn fixed<T>(result: Result<T, snow::Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => unreachable!("the Noise pattern is a constant: {error}"),
    }
}

struct Resolver(EphemeralSeed);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneKey(Some(self.0.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Gives out one key, once. A pattern draws nothing else.
struct OneKey(Option<EphemeralSeed>);

impl Random for OneKey {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let seed = self.0.take().ok_or(snow::Error::Rng)?;
        if dest.len() != seed.len() {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(seed.as_slice());
        Ok(())
    }
}

#[derive(Default)]
struct X25519 {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        self.public.len()
    }

    fn priv_len(&self) -> usize {
        self.private.len()
    }

    fn set(&mut self, private: &[u8]) {
        self.private.copy_from_slice(private);
        self.public = EphemeralKey::from_bytes(&self.private).public();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut private = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(private.as_mut_slice())?;
        self.set(private.as_slice());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.private.as_slice()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = public.first_chunk().ok_or(snow::Error::Dh)?;
        let secret = EphemeralKey::from_bytes(&self.private)
            .agree(public)
            .map_err(|_| snow::Error::Dh)?;
        out.get_mut(..secret.len())
            .ok_or(snow::Error::Dh)?
            .copy_from_slice(secret.as_slice());
        Ok(())
    }
}

#[cfg(test)]
mod tests;

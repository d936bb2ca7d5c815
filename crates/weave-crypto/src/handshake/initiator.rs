//! The side that dials.

use std::fmt;

use rand_core::RngCore;
use weave_wire::{DatagramType, HANDSHAKE_HEADER_LEN, HandshakeHeader, Time};
use zeroize::Zeroizing;

use super::message::{self, InitPayload, MAX_HELLO_LEN, REPLY_LEN, ReplyPayload};
use super::{
    Completed, GivenBack, HandshakeConfig, HandshakeError, RejectReason, first_chain, psk, reject,
};
use crate::chain::Role;
use crate::cookie::{self, Cookie};
use crate::cpace::{Half, Share};
use crate::identity::HelloContext;
use crate::noise::{self, EphemeralSeed};
use crate::password::StretchedPassword;
use crate::x25519::EphemeralKey;

/// Begins a handshake with the password in use. The datagram goes to the address that is
/// dialled; answers to it carry `my_slot`.
pub fn initiate(
    cfg: &HandshakeConfig,
    my_slot: u32,
    cookie: Option<&Cookie>,
    rng: &mut impl RngCore,
) -> (ExpectReply, Vec<u8>) {
    let (generation, password) = cfg.passwords.first();
    begin(cfg, generation, password, my_slot, cookie, rng)
}

/// Begins a handshake with the password of another generation; none if that is not held.
pub fn initiate_with(
    cfg: &HandshakeConfig,
    generation: u16,
    my_slot: u32,
    rng: &mut impl RngCore,
) -> Option<(ExpectReply, Vec<u8>)> {
    let password = cfg.passwords.of(generation)?;
    Some(begin(cfg, generation, password, my_slot, None, rng))
}

fn begin(
    cfg: &HandshakeConfig,
    generation: u16,
    password: &StretchedPassword,
    my_slot: u32,
    cookie: Option<&Cookie>,
    rng: &mut impl RngCore,
) -> (ExpectReply, Vec<u8>) {
    let header = HandshakeHeader {
        ty: DatagramType::HandshakeInit,
        generation,
        sender: my_slot,
        receiver: 0,
    };
    let clear = message::clear(header, cfg.versions, cfg.offered_suites());
    let context = cfg.context(&clear);
    let seed = random(rng);
    let mut sid = [0; 16];
    rng.fill_bytes(&mut sid);
    let half = Half::new(password.as_bytes(), &context, sid, &random(rng));
    let init_payload = InitPayload {
        sid,
        share: half.share(),
    }
    .encode();
    let (_, first) = noise::begin(&cfg.identity, &context, &seed, &init_payload);
    let state = ExpectReply {
        my_slot,
        generation,
        ephemeral: EphemeralKey::from_bytes(&seed).public(),
        seed,
        context,
        half,
        init_payload,
        datagram: message::init(&cfg.mesh_name, &clear, &first),
    };
    let datagram = state.datagram(cookie);
    (state, datagram)
}

/// We sent the first message, and wait for the second.
///
/// Holds the keys from which the Noise state is built anew for each candidate, so that whatever
/// arrives leaves no trace unless it is good.
pub struct ExpectReply {
    my_slot: u32,
    generation: u16,
    ephemeral: [u8; 32],
    seed: EphemeralSeed,
    context: Vec<u8>,
    half: Half,
    init_payload: Vec<u8>,
    datagram: Vec<u8>,
}

impl ExpectReply {
    /// The slot under which an answer finds this handshake.
    pub const fn local_slot(&self) -> u32 {
        self.my_slot
    }

    /// Generation of the password that it is made with.
    pub const fn generation(&self) -> u16 {
        self.generation
    }

    /// The first datagram once more, with the cookie that was asked for.
    pub fn datagram(&self, cookie: Option<&Cookie>) -> Vec<u8> {
        let mut datagram = self.datagram.clone();
        if let Some(cookie) = cookie {
            cookie.stamp(&mut datagram);
        }
        datagram
    }

    /// Takes the second message and makes the third. `hello` is called when the second is good,
    /// and gives the bytes of our `Hello`.
    ///
    /// # Errors
    /// Gives the state back unchanged, with what was wrong.
    pub fn handle_reply(
        self,
        cfg: &HandshakeConfig,
        datagram: &[u8],
        hello: impl FnOnce(&HelloContext) -> Vec<u8>,
    ) -> Result<(ExpectConfirm, Vec<u8>), GivenBack<Self>> {
        match self.read_reply(cfg, datagram, hello) {
            Ok((completed, finish)) => {
                let confirm = ExpectConfirm {
                    ephemeral: self.ephemeral,
                    completed,
                };
                Ok((confirm, finish))
            }
            Err(error) => Err(Box::new((self, error))),
        }
    }

    /// Takes a cookie from a responder under load. Send [`Self::datagram`] with it.
    ///
    /// # Errors
    /// When it does not belong to this handshake.
    pub fn handle_cookie_reply(
        &self,
        cfg: &HandshakeConfig,
        datagram: &[u8],
        now: Time,
    ) -> Result<Cookie, HandshakeError> {
        cookie::open(&cfg.mesh_name, self.my_slot, &self.datagram, datagram, now)
    }

    /// The reason, if this datagram refuses this handshake. The handshake goes on: anyone who saw
    /// the first message can forge a refusal.
    pub fn check_reject(&self, cfg: &HandshakeConfig, datagram: &[u8]) -> Option<RejectReason> {
        reject::decode(cfg, &self.ephemeral, self.my_slot, datagram)
    }

    fn read_reply(
        &self,
        cfg: &HandshakeConfig,
        datagram: &[u8],
        hello: impl FnOnce(&HelloContext) -> Vec<u8>,
    ) -> Result<(Completed, Vec<u8>), HandshakeError> {
        let header = message::header(datagram, DatagramType::HandshakeReply)?;
        if datagram.len() != REPLY_LEN {
            return Err(HandshakeError::Malformed("length"));
        }
        if header.receiver != self.my_slot || header.generation != self.generation {
            return Err(HandshakeError::OtherHandshake);
        }
        let (mut state, _) =
            noise::begin(&cfg.identity, &self.context, &self.seed, &self.init_payload);
        let payload = noise::read(&mut state, &datagram[HANDSHAKE_HEADER_LEN..])
            .map_err(HandshakeError::from_noise)?;
        let remote_static = noise::remote_static(&state)?;
        if remote_static == cfg.identity.static_public() {
            return Err(HandshakeError::Ourself);
        }
        let reply = ReplyPayload::decode(&payload)?;
        self.check_choice(cfg, &reply, header)?;
        let share = Share::decode(&reply.share).map_err(|_| HandshakeError::InvalidKey)?;
        let isk = self
            .half
            .finish_initiator(&share)
            .map_err(|_| HandshakeError::InvalidKey)?;
        let handshake_hash = noise::transcript_hash(&state);
        let context = HelloContext {
            handshake_hash,
            role: Role::Initiator,
            static_public: cfg.identity.static_public(),
        };
        let hello = hello(&context);
        if hello.len() > MAX_HELLO_LEN {
            return Err(HandshakeError::HelloTooLong(hello.len()));
        }
        let third = noise::write_with_psk(&mut state, &psk(&isk), &hello)
            .map_err(HandshakeError::from_noise)?;
        let finish = HandshakeHeader {
            ty: DatagramType::HandshakeFinish,
            generation: self.generation,
            sender: self.my_slot,
            receiver: reply.slot,
        };
        let completed = Completed {
            remote_static,
            chain: first_chain(&mut state),
            role: Role::Initiator,
            suite: reply.suite,
            version: reply.version,
            generation: self.generation,
            remote_slot: reply.slot,
            local_slot: self.my_slot,
            handshake_hash,
            payload: Vec::new(),
        };
        Ok((completed, [&finish.encode()[..], &third].concat()))
    }

    /// The header of the second message is bound only by what its sealed part repeats.
    fn check_choice(
        &self,
        cfg: &HandshakeConfig,
        reply: &ReplyPayload,
        header: HandshakeHeader,
    ) -> Result<(), HandshakeError> {
        if reply.slot != header.sender || reply.slot >= weave_wire::ReceiverIndex::SLOT_LIMIT {
            return Err(HandshakeError::OtherHandshake);
        }
        let offered = cfg.offered_suites() & reply.suite.bit() != 0;
        if !offered || !cfg.versions.contains(reply.version) {
            return Err(HandshakeError::NotOffered);
        }
        Ok(())
    }
}

impl fmt::Debug for ExpectReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectReply")
            .field("my_slot", &self.my_slot)
            .finish_non_exhaustive()
    }
}

/// We sent the third message. The keys are complete, but whether the other side knows the
/// password shows only when something of it was opened with them: send it no data before.
#[derive(Debug)]
pub struct ExpectConfirm {
    ephemeral: [u8; 32],
    completed: Completed,
}

impl ExpectConfirm {
    /// The session as it will be, for opening the other side's `Hello`.
    pub const fn completed(&self) -> &Completed {
        &self.completed
    }

    /// The session, once something of the other side was opened.
    pub fn into_completed(self) -> Completed {
        self.completed
    }

    /// See [`ExpectReply::check_reject`].
    pub fn check_reject(&self, cfg: &HandshakeConfig, datagram: &[u8]) -> Option<RejectReason> {
        reject::decode(cfg, &self.ephemeral, self.completed.local_slot, datagram)
    }
}

fn random(rng: &mut impl RngCore) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    rng.fill_bytes(bytes.as_mut_slice());
    bytes
}

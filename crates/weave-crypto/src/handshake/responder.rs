//! The side that listens.

use std::fmt;

use rand_core::RngCore;
use snow::HandshakeState;
use weave_wire::{DatagramType, HANDSHAKE_HEADER_LEN, HandshakeHeader};
use zeroize::Zeroizing;

use super::message::{InitPayload, MAX_HELLO_LEN, ReplyPayload};
use super::{
    Completed, GivenBack, HandshakeConfig, HandshakeError, Init, RejectReason, first_chain,
    message, psk, reject,
};
use crate::aead::Suite;
use crate::chain::Role;
use crate::cpace::{Half, Share};
use crate::noise::{self, EphemeralSeed};
use crate::password::StretchedPassword;

/// Answers a first message. Costs three curve operations; ask [`crate::CookieJar`] before.
///
/// # Errors
/// [`HandshakeError::Refused`] carries an answer for the dialler; everything else is dropped in
/// silence.
pub fn respond(
    cfg: &HandshakeConfig,
    my_slot: u32,
    datagram: &[u8],
    rng: &mut impl RngCore,
) -> Result<(ExpectFinish, Vec<u8>), HandshakeError> {
    let init = Init::parse(&cfg.mesh_name, datagram)?;
    let password = password_of(cfg, &init)?;
    let (version, suite) = choose(cfg, &init)?;
    let context = cfg.context(init.clear);
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(seed.as_mut_slice());
    let mut state = noise::responder(&cfg.identity, &context, &seed);
    let payload = noise::read(&mut state, init.noise).map_err(HandshakeError::from_noise)?;
    let payload = InitPayload::decode(&payload)?;
    let their_share = Share::decode(&payload.share).map_err(|_| HandshakeError::InvalidKey)?;
    let mut random = Zeroizing::new([0; 32]);
    rng.fill_bytes(random.as_mut_slice());
    let half = Half::new(password.as_bytes(), &context, payload.sid, &random);
    let reply_payload = ReplyPayload {
        version,
        suite,
        slot: my_slot,
        share: half.share(),
    }
    .encode();
    let second = noise::write(&mut state, &reply_payload).map_err(HandshakeError::from_noise)?;
    let header = HandshakeHeader {
        ty: DatagramType::HandshakeReply,
        generation: init.header.generation,
        sender: my_slot,
        receiver: init.header.sender,
    };
    let expect = ExpectFinish {
        header,
        version,
        suite,
        ephemeral: *init.ephemeral,
        handshake_hash: noise::transcript_hash(&state),
        first: init.noise.to_vec(),
        state: Some(Box::new(state)),
        seed,
        context,
        half,
        their_share,
        reply_payload,
    };
    Ok((expect, [&header.encode()[..], &second].concat()))
}

/// The password of the generation that the dialler names.
fn password_of<'a>(
    cfg: &'a HandshakeConfig,
    init: &Init<'_>,
) -> Result<&'a StretchedPassword, HandshakeError> {
    let held = cfg.passwords.generations();
    let password = cfg.passwords.of(init.header.generation);
    password.ok_or_else(|| refuse(cfg, init, RejectReason::Generation { held }))
}

fn choose(cfg: &HandshakeConfig, init: &Init<'_>) -> Result<(u8, Suite), HandshakeError> {
    let version = cfg.versions.common(init.versions).ok_or_else(|| {
        let (ours, theirs) = (cfg.versions, init.versions);
        refuse(cfg, init, RejectReason::Version { ours, theirs })
    })?;
    let suite = cfg
        .choose_suite(init.suites)
        .ok_or_else(|| refuse(cfg, init, RejectReason::Suite))?;
    Ok((version, suite))
}

fn refuse(cfg: &HandshakeConfig, init: &Init<'_>, reason: RejectReason) -> HandshakeError {
    let header = HandshakeHeader {
        ty: DatagramType::Reject,
        generation: init.header.generation,
        sender: 0,
        receiver: init.header.sender,
    };
    let reply = reject::encode(cfg, init.ephemeral, header, reason);
    HandshakeError::Refused { reason, reply }
}

/// We sent the second message, and wait for the third.
pub struct ExpectFinish {
    /// Header of the second message.
    header: HandshakeHeader,
    version: u8,
    suite: Suite,
    ephemeral: [u8; 32],
    handshake_hash: [u8; 32],
    /// Gone after a forged third message; built again from what follows.
    state: Option<Box<HandshakeState>>,
    first: Vec<u8>,
    seed: EphemeralSeed,
    context: Vec<u8>,
    half: Half,
    their_share: Share,
    reply_payload: Vec<u8>,
}

impl ExpectFinish {
    /// The slot under which the third message finds this handshake.
    pub const fn local_slot(&self) -> u32 {
        self.header.sender
    }

    /// Generation of the password that it is made with.
    pub const fn generation(&self) -> u16 {
        self.header.generation
    }

    /// Takes the third message. The dialler is then known to have the password and its static
    /// key; its `Hello` is in [`Completed::payload`], still to be verified.
    ///
    /// # Errors
    /// Gives the state back, as good as before. [`HandshakeError::Authentication`] counts as a
    /// guess of the password; [`Self::reject`] tells the dialler.
    pub fn handle_finish(
        mut self,
        cfg: &HandshakeConfig,
        datagram: &[u8],
    ) -> Result<Completed, GivenBack<Self>> {
        match self.read_finish(cfg, datagram) {
            Ok(completed) => Ok(completed),
            Err(error) => Err(Box::new((self, error))),
        }
    }

    /// A refusal to send to the dialler.
    pub fn reject(&self, cfg: &HandshakeConfig, reason: RejectReason) -> Vec<u8> {
        reject::encode(cfg, &self.ephemeral, self.header, reason)
    }

    fn read_finish(
        &mut self,
        cfg: &HandshakeConfig,
        datagram: &[u8],
    ) -> Result<Completed, HandshakeError> {
        let header = message::header(datagram, DatagramType::HandshakeFinish)?;
        let ours = HandshakeHeader {
            ty: DatagramType::HandshakeFinish,
            sender: self.header.receiver,
            receiver: self.header.sender,
            ..self.header
        };
        if header != ours {
            return Err(HandshakeError::OtherHandshake);
        }
        let third = &datagram[HANDSHAKE_HEADER_LEN..];
        if third.len() > MAX_HELLO_LEN + noise::OVERHEAD[2] {
            return Err(HandshakeError::Malformed("length"));
        }
        let mut state = self.take_state(cfg)?;
        let isk = self
            .half
            .finish_responder(&self.their_share)
            .map_err(|_| HandshakeError::InvalidKey)?;
        let payload = noise::read_with_psk(&mut state, &psk(&isk), third)
            .map_err(HandshakeError::from_noise)?;
        Ok(Completed {
            remote_static: noise::remote_static(&state)?,
            chain: first_chain(&mut state),
            role: Role::Responder,
            suite: self.suite,
            version: self.version,
            generation: self.header.generation,
            remote_slot: self.header.receiver,
            local_slot: self.header.sender,
            handshake_hash: self.handshake_hash,
            payload,
        })
    }

    fn take_state(&mut self, cfg: &HandshakeConfig) -> Result<Box<HandshakeState>, HandshakeError> {
        if let Some(state) = self.state.take() {
            return Ok(state);
        }
        let mut state = noise::responder(&cfg.identity, &self.context, &self.seed);
        noise::read(&mut state, &self.first).map_err(HandshakeError::from_noise)?;
        noise::write(&mut state, &self.reply_payload).map_err(HandshakeError::from_noise)?;
        Ok(Box::new(state))
    }
}

impl fmt::Debug for ExpectFinish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectFinish")
            .field("my_slot", &self.header.sender)
            .field("remote_slot", &self.header.receiver)
            .finish_non_exhaustive()
    }
}

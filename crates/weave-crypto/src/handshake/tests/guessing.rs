//! Nobody can test guesses of the password on what he has seen or taken part in.
//!
//! Each attacker below brings everything he holds, and for each guess of a list that contains the
//! password computes all keys he can make of it and tries them wherever a key fits. He finds the
//! password if any guess gives another outcome than one that is certainly wrong. That the same
//! attackers do find it is shown on the plain scheme, where the key of the pattern is a hash of
//! the password, and on the one guess that an impostor has to commit to.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use snow::HandshakeState;
use weave_wire::HANDSHAKE_HEADER_LEN;
use zeroize::Zeroizing;

use super::*;
use crate::cpace::{self, Half, Share};
use crate::handshake::message::{InitPayload, ReplyPayload};
use crate::noise::EphemeralSeed;

mod generations;

type Guess = [u8; 32];

const PASSWORD: &str = "3UnFh4jhahFC";
/// The guess to compare all others with.
const WRONG: &str = "certainly wrong";
/// The guess that an impostor made his share of.
const COMMITTED: &str = "hunter2";
const GUESSES: [&str; 6] = ["123456", "password", "qwerty", PASSWORD, "letmein", "weave"];

/// Stretching costs the attacker time, no knowledge; a hash stands for it.
fn stretched(password: &str) -> Guess {
    kdf::public_key("stretched", &[password.as_bytes()])
}

fn member(seed: u8) -> HandshakeConfig {
    with(seed, |cfg| {
        cfg.passwords = Passwords::new(0, StretchedPassword::from_bytes(stretched(PASSWORD)));
    })
}

/// The guesses that an attacker can tell from a wrong one.
fn found(outcome: impl Fn(&Guess) -> Vec<bool>) -> Vec<&'static str> {
    let wrong = outcome(&stretched(WRONG));
    GUESSES
        .into_iter()
        .filter(|guess| outcome(&stretched(guess)) != wrong)
        .collect()
}

/// The key of the plain scheme.
fn plain_key(guess: &Guess) -> Guess {
    *kdf::derive(guess, "plain psk", &[])
}

/// What an attacker knows of one password exchange: both shares, and his own scalar if one of
/// the shares is his.
struct Exchange {
    context: Vec<u8>,
    sid: [u8; 16],
    ya: [u8; 32],
    yb: [u8; 32],
    scalar: Option<Scalar>,
    /// The shares that are not his.
    theirs: Vec<[u8; 32]>,
}

impl Exchange {
    /// Every point that he can compute for a guess, as the secret of the exchange.
    fn points(&self, guess: &Guess) -> Vec<RistrettoPoint> {
        let decode = |bytes: [u8; 32]| CompressedRistretto(bytes).decompress().expect("a point");
        let (ya, yb) = (decode(self.ya), decode(self.yb));
        let generator = cpace::calculate_generator(guess, &self.context, &self.sid);
        let mut points = vec![
            generator,
            ya,
            yb,
            ya + yb,
            ya - yb,
            ya - generator,
            yb - generator,
        ];
        if let Some(scalar) = self.scalar {
            let inverse = scalar.invert();
            let known: Vec<_> = points.clone();
            points.extend(known.iter().map(|point| point * scalar));
            points.extend(known.iter().map(|point| point * inverse));
        }
        points
    }

    /// Every key of the pattern that he can compute for a guess.
    fn keys(&self, guess: &Guess) -> Vec<Guess> {
        let of_point = |point: RistrettoPoint| {
            let secret = point.compress().to_bytes();
            *psk(&cpace::isk_of(&self.sid, &secret, &self.ya, &self.yb))
        };
        let mut keys: Vec<_> = self.points(guess).into_iter().map(of_point).collect();
        keys.extend([plain_key(guess), *guess]);
        keys
    }

    /// Whether a share of someone else shows anything of the guess by itself.
    fn shares_fit(&self, guess: &Guess) -> Vec<bool> {
        let points = self.points(guess);
        let fits = |share: [u8; 32]| {
            let point = CompressedRistretto(share).decompress();
            let known: Vec<_> = points.iter().map(|known| point == Some(*known)).collect();
            [vec![point.is_some()], known].concat()
        };
        self.theirs.iter().flat_map(|share| fits(*share)).collect()
    }
}

fn state(pattern: &str, role: Role, prologue: &[u8], seed: &EphemeralSeed) -> HandshakeState {
    let private = [66; 32];
    let builder = noise::builder(pattern, &private, prologue, seed).expect("a builder");
    match role {
        Role::Initiator => builder.build_initiator(),
        Role::Responder => builder.build_responder(),
    }
    .expect("a state")
}

/// Sets a candidate for the key wherever the pattern could take one.
fn set_key(noise: &mut HandshakeState, key: &Guess) {
    for position in 0..4 {
        noise.set_psk(position, key).expect("a position");
    }
}

const PLAIN_FIRST: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const PLAIN_SECOND: &str = "Noise_XXpsk2_25519_ChaChaPoly_BLAKE2s";

fn seed(byte: u8) -> EphemeralSeed {
    Zeroizing::new([byte; 32])
}

/// Recorded a whole handshake, and holds no key of it.
struct Eavesdropper {
    pattern: &'static str,
    exchange: Option<Exchange>,
    prologue: Vec<u8>,
    first: Vec<u8>,
    second: Vec<u8>,
    third: Vec<u8>,
}

impl Eavesdropper {
    fn outcome(&self, guess: &Guess) -> Vec<bool> {
        let keys = self
            .exchange
            .as_ref()
            .map_or_else(|| vec![plain_key(guess)], |exchange| exchange.keys(guess));
        let mut outcome: Vec<bool> = keys.iter().flat_map(|key| self.try_key(key)).collect();
        outcome.extend(
            self.exchange
                .iter()
                .flat_map(|exchange| exchange.shares_fit(guess)),
        );
        outcome
    }

    /// Reads along on both sides, with ephemeral keys of his own where he lacks the real ones.
    fn try_key(&self, key: &Guess) -> Vec<bool> {
        let mut listener = state(self.pattern, Role::Responder, &self.prologue, &seed(1));
        let mut dialler = state(self.pattern, Role::Initiator, &self.prologue, &seed(2));
        set_key(&mut listener, key);
        set_key(&mut dialler, key);
        let reads_first = noise::read(&mut listener, &self.first).is_ok();
        let answers = noise::write(&mut listener, &[0; 40]).is_ok();
        let reads_third = noise::read(&mut listener, &self.third).is_ok();
        let writes = noise::write(&mut dialler, &[0; 48]).is_ok();
        let reads_second = noise::read(&mut dialler, &self.second).is_ok();
        vec![reads_first, answers, reads_third, writes, reads_second]
    }
}

#[test]
fn a_recorded_handshake_gives_no_test_of_a_guess() {
    let (a, b) = (member(1), member(2));
    let run = dialled(&a, &b);
    assert!(found_in_recorded(&a, &run).is_empty());
}

/// The guesses that someone finds who recorded a whole handshake of `a`.
fn found_in_recorded(a: &HandshakeConfig, run: &Dialled) -> Vec<&'static str> {
    let init = Init::parse("weave", &run.init).expect("a first message");
    let context = a.context(init.clear);
    let (share_a, sid) = clear_share(&context, init.noise);
    let recorded = |yb| Eavesdropper {
        pattern: noise::PATTERN,
        exchange: Some(Exchange {
            context: context.clone(),
            sid,
            ya: share_a,
            yb,
            scalar: None,
            theirs: vec![share_a, yb],
        }),
        prologue: context.clone(),
        first: init.noise.to_vec(),
        second: run.reply[HANDSHAKE_HEADER_LEN..].to_vec(),
        third: run.finish[HANDSHAKE_HEADER_LEN..].to_vec(),
    };
    // He cannot read the listener's share; even given it, he gets nowhere.
    let (_, share_b) = listener_share(a, run);
    let shares = [share_a, share_b];
    let found = shares.map(|share| found(|guess| recorded(share).outcome(guess)));
    found.concat()
}

#[test]
fn control_a_recorded_plain_handshake_does_give_one() {
    let mut dialler = state(PLAIN_FIRST, Role::Initiator, b"", &seed(3));
    let mut listener = state(PLAIN_FIRST, Role::Responder, b"", &seed(4));
    set_key(&mut dialler, &plain_key(&stretched(PASSWORD)));
    set_key(&mut listener, &plain_key(&stretched(PASSWORD)));
    let first = noise::write(&mut dialler, &[]).expect("message 1");
    assert!(noise::read(&mut listener, &first).is_ok());
    let second = noise::write(&mut listener, &[]).expect("message 2");
    let eavesdropper = Eavesdropper {
        pattern: PLAIN_FIRST,
        exchange: None,
        prologue: Vec::new(),
        first,
        second,
        third: Vec::new(),
    };
    assert_eq!(found(|guess| eavesdropper.outcome(guess)), [PASSWORD]);
}

/// Was dialled by a member, and answered with a share made from the guess he committed to.
struct ImpostorListener {
    prologue: Vec<u8>,
    first: Vec<u8>,
    reply: Vec<u8>,
    third: Vec<u8>,
    exchange: Exchange,
}

impl ImpostorListener {
    /// Lets a member dial him. `third` makes the member's third message.
    fn dialled(committed: &str, third: impl FnOnce(&[u8], &[u8]) -> Vec<u8>) -> Self {
        let (_, init) = dial(&member(1));
        let init = Init::parse("weave", &init).expect("a first message");
        let context = member(1).context(init.clear);
        let (ya, sid) = clear_share(&context, init.noise);
        let random = [5; 32];
        let half = Half::new(&stretched(committed), &context, sid, &random);
        let payload = ReplyPayload {
            version: 1,
            suite: Suite::ChaCha20Poly1305,
            slot: THEIR_SLOT,
            share: half.share(),
        };
        let reply = payload.encode();
        let scalar = Some(cpace::sample_scalar(&random));
        let exchange = Exchange {
            context: context.clone(),
            sid,
            ya,
            yb: half.share(),
            scalar,
            theirs: vec![ya],
        };
        let first = init.noise.to_vec();
        let mut this = Self {
            prologue: context,
            first,
            reply,
            third: Vec::new(),
            exchange,
        };
        let second = noise::write(&mut this.after_first(), &this.reply).expect("message 2");
        this.third = third(&this.first, &second);
        this
    }

    fn after_first(&self) -> HandshakeState {
        let mut noise = state(noise::PATTERN, Role::Responder, &self.prologue, &seed(6));
        noise::read(&mut noise, &self.first).expect("message 1");
        noise
    }

    /// Whether he can read the third message with any key that he can compute for a guess.
    fn reads(&self, guess: &Guess) -> Vec<bool> {
        let reads = |key: Guess| {
            let mut noise = self.after_first();
            noise::write(&mut noise, &self.reply).expect("message 2");
            set_key(&mut noise, &key);
            noise::read(&mut noise, &self.third).is_ok()
        };
        self.exchange.keys(guess).into_iter().map(reads).collect()
    }

    fn outcome(&self, guess: &Guess) -> Vec<bool> {
        [self.reads(guess), self.exchange.shares_fit(guess)].concat()
    }
}

/// The third message of a member that dialled with [`dial`].
fn genuine_third(_: &[u8], second: &[u8]) -> Vec<u8> {
    let cfg = member(1);
    let (state, _) = dial(&cfg);
    let header = weave_wire::HandshakeHeader {
        ty: weave_wire::DatagramType::HandshakeReply,
        generation: 0,
        sender: THEIR_SLOT,
        receiver: MY_SLOT,
    };
    let reply = [&header.encode()[..], second].concat();
    let (_, finish) = state
        .handle_reply(&cfg, &reply, hello)
        .expect("a reply he believes");
    finish[HANDSHAKE_HEADER_LEN..].to_vec()
}

#[test]
fn an_impostor_who_is_dialled_can_test_no_guess_afterwards() {
    let impostor = ImpostorListener::dialled(COMMITTED, genuine_third);
    assert!(found(|guess| impostor.outcome(guess)).is_empty());
}

#[test]
fn control_he_learns_whether_the_guess_he_committed_to_was_right_and_no_more() {
    let lucky = ImpostorListener::dialled(PASSWORD, genuine_third);
    assert!(lucky.reads(&stretched(PASSWORD)).contains(&true));
    let unlucky = ImpostorListener::dialled(COMMITTED, genuine_third);
    for guess in GUESSES {
        assert!(!unlucky.reads(&stretched(guess)).contains(&true), "{guess}");
    }
}

#[test]
fn control_he_does_test_all_guesses_when_the_key_is_a_hash_of_the_password() {
    let plain_third = |first: &[u8], second: &[u8]| {
        let cfg = member(1);
        let (_, init) = dial(&cfg);
        let context = cfg.context(Init::parse("weave", &init).expect("a message").clear);
        let (ephemeral, payload) = dialler_secrets(&cfg, &context);
        let private = cfg.identity.static_private();
        let builder = noise::builder(noise::PATTERN, private, &context, &ephemeral);
        let mut noise = builder
            .and_then(snow::Builder::build_initiator)
            .expect("a state");
        assert_eq!(noise::write(&mut noise, &payload).as_deref(), Ok(first));
        noise::read(&mut noise, second).expect("message 2");
        let key = plain_key(&stretched(PASSWORD));
        noise::write_with_psk(&mut noise, &key, b"hello").expect("message 3")
    };
    let impostor = ImpostorListener::dialled(COMMITTED, plain_third);
    assert_eq!(found(|guess| impostor.outcome(guess)), [PASSWORD]);
}

/// Dialled a member with a share made from the guess he committed to, and got its answer.
struct ImpostorDialler {
    pattern: &'static str,
    prologue: Vec<u8>,
    payload: Vec<u8>,
    second: Vec<u8>,
    exchange: Option<Exchange>,
}

impl ImpostorDialler {
    fn begin(&self) -> HandshakeState {
        let mut noise = state(self.pattern, Role::Initiator, &self.prologue, &seed(7));
        if self.pattern != noise::PATTERN {
            set_key(&mut noise, &[0; 32]);
        }
        noise::write(&mut noise, &self.payload).expect("message 1");
        noise
    }

    fn outcome(&self, guess: &Guess) -> Vec<bool> {
        let keys = self
            .exchange
            .as_ref()
            .map_or_else(|| vec![plain_key(guess)], |exchange| exchange.keys(guess));
        let reads = |key: &Guess| {
            let mut noise = self.begin();
            set_key(&mut noise, key);
            noise::read(&mut noise, &self.second).is_ok()
        };
        let mut outcome: Vec<_> = keys.iter().map(reads).collect();
        outcome.extend(
            self.exchange
                .iter()
                .flat_map(|exchange| exchange.shares_fit(guess)),
        );
        outcome
    }
}

#[test]
fn an_impostor_who_dials_can_test_no_guess_afterwards() {
    for committed in [COMMITTED, PASSWORD] {
        impostor_dials(&member(2), 0, committed, committed == PASSWORD);
    }
}

/// Dials a member with a guess of the password of this generation: whatever was guessed, no guess
/// can be tested on the answer, and only the right one is admitted.
fn impostor_dials(cfg: &HandshakeConfig, generation: u16, committed: &str, is_right: bool) {
    let header = weave_wire::HandshakeHeader {
        ty: weave_wire::DatagramType::HandshakeInit,
        generation,
        sender: MY_SLOT,
        receiver: 0,
    };
    let clear = message::clear(header, cfg.versions, cfg.offered_suites());
    let context = cfg.context(&clear);
    let half = Half::new(&stretched(committed), &context, [8; 16], &[5; 32]);
    let payload = InitPayload {
        sid: [8; 16],
        share: half.share(),
    }
    .encode();
    let mut attacker = ImpostorDialler {
        pattern: noise::PATTERN,
        prologue: context.clone(),
        payload,
        second: Vec::new(),
        exchange: None,
    };
    let mut noise = state(noise::PATTERN, Role::Initiator, &context, &seed(7));
    let first = noise::write(&mut noise, &attacker.payload).expect("message 1");
    let (listener, reply) = answer(cfg, &message::init("weave", &clear, &first));
    attacker.second = reply[HANDSHAKE_HEADER_LEN..].to_vec();
    let opened = noise::read(&mut noise, &attacker.second).expect("message 2");
    let yb = ReplyPayload::decode(&opened).expect("a payload").share;
    let scalar = Some(cpace::sample_scalar(&[5; 32]));
    let exchange = Exchange {
        context,
        sid: [8; 16],
        ya: half.share(),
        yb,
        scalar,
        theirs: vec![yb],
    };
    attacker.exchange = Some(exchange);
    // Even the right commitment shows nothing until he risks a third message.
    assert!(
        found(|guess| attacker.outcome(guess)).is_empty(),
        "committed to {committed}"
    );
    // The third message is his one guess, and the listener sees it.
    let share = Share::decode(&yb).expect("a share");
    let key = psk(&half.finish_initiator(&share).expect("a key"));
    let third = noise::write_with_psk(&mut noise, &key, b"").expect("message 3");
    let header = weave_wire::HandshakeHeader {
        ty: weave_wire::DatagramType::HandshakeFinish,
        generation,
        sender: MY_SLOT,
        receiver: THEIR_SLOT,
    };
    let finish = [&header.encode()[..], &third].concat();
    assert_eq!(
        listener.handle_finish(cfg, &finish).is_ok(),
        is_right,
        "committed to {committed}"
    );
}

#[test]
fn control_he_does_test_all_guesses_when_the_answer_uses_a_hash_of_the_password() {
    let mut attacker = ImpostorDialler {
        pattern: PLAIN_SECOND,
        prologue: Vec::new(),
        payload: vec![0; 48],
        second: Vec::new(),
        exchange: None,
    };
    let mut dialler = state(PLAIN_SECOND, Role::Initiator, b"", &seed(7));
    let first = noise::write(&mut dialler, &attacker.payload).expect("message 1");
    let mut member = state(PLAIN_SECOND, Role::Responder, b"", &seed(8));
    set_key(&mut member, &plain_key(&stretched(PASSWORD)));
    noise::read(&mut member, &first).expect("message 1");
    attacker.second = noise::write(&mut member, &[0; 40]).expect("message 2");
    assert_eq!(found(|guess| attacker.outcome(guess)), [PASSWORD]);
}

/// The dialler's share and session id: everybody can read them.
fn clear_share(context: &[u8], first: &[u8]) -> ([u8; 32], [u8; 16]) {
    let mut anybody = state(noise::PATTERN, Role::Responder, context, &seed(9));
    let payload = noise::read(&mut anybody, first).expect("message 1");
    let payload = InitPayload::decode(&payload).expect("a payload");
    (payload.share, payload.sid)
}

/// The listener's share, which only the dialler can read.
fn listener_share(cfg: &HandshakeConfig, run: &Dialled) -> (u32, [u8; 32]) {
    let init = Init::parse("weave", &run.init).expect("a first message");
    let context = cfg.context(init.clear);
    let (ephemeral, payload) = dialler_secrets(cfg, &context);
    let (mut noise, _) = noise::begin(&cfg.identity, &context, &ephemeral, &payload);
    let opened = noise::read(&mut noise, &run.reply[HANDSHAKE_HEADER_LEN..]).expect("message 2");
    let reply = ReplyPayload::decode(&opened).expect("a payload");
    (reply.slot, reply.share)
}

/// What [`dial`] drew, in the order in which [`initiate`] draws.
fn dialler_secrets(cfg: &HandshakeConfig, context: &[u8]) -> (EphemeralSeed, Vec<u8>) {
    use rand_core::RngCore;
    let mut rng = rng(1);
    let (mut ephemeral, mut sid, mut random) = ([0; 32], [0; 16], [0; 32]);
    rng.fill_bytes(&mut ephemeral);
    rng.fill_bytes(&mut sid);
    rng.fill_bytes(&mut random);
    let half = Half::new(secret(cfg), context, sid, &random);
    (
        Zeroizing::new(ephemeral),
        InitPayload {
            sid,
            share: half.share(),
        }
        .encode(),
    )
}

//! Two peers in the middle of a handshake, for tests and fuzzing to throw datagrams at.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use weave_crypto::{
    Admission, CookieJar, ExpectFinish, ExpectReply, HandshakeConfig, HandshakeError, Identity,
    Passwords, RejectReason, StretchedPassword, initiate, initiator_ephemeral, respond,
};
use weave_wire::{Time, Versions};

fn rng(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

fn config(seed: u8) -> HandshakeConfig {
    HandshakeConfig {
        identity: Arc::new(Identity::from_seed(&[seed; 32])),
        passwords: Passwords::new(0, StretchedPassword::from_bytes([42; 32])),
        mesh_name: "weave".to_owned(),
        prefer_aes: true,
        versions: Versions::SPOKEN,
    }
}

/// Two peers in the middle of a handshake, and the datagrams that would complete it.
pub(crate) struct Victims {
    dialler: HandshakeConfig,
    listener: HandshakeConfig,
    reply_expected: ExpectReply,
    finish_expected: ExpectFinish,
    jar: CookieJar,
    /// Init, reply, finish, reject, cookie reply.
    pub(crate) genuine: [Vec<u8>; 5],
}

impl Victims {
    pub(crate) fn new() -> Self {
        let (dialler, listener) = (config(1), config(2));
        let (reply_expected, init) = initiate(&dialler, 5, None, &mut rng(1));
        let (finish_expected, reply) = respond(&listener, 6, &init, &mut rng(2)).expect("a reply");
        let (twin, _) = initiate(&dialler, 5, None, &mut rng(1));
        let hello = |_: &_| b"hello".to_vec();
        let (_, finish) = twin
            .handle_reply(&dialler, &reply, hello)
            .expect("a finish");
        let reject = finish_expected.reject(&listener, RejectReason::WrongPassword);
        let mut jar = CookieJar::new("weave", Time::ZERO, &mut rng(3));
        let from = "192.0.2.1:6783".parse().expect("an address");
        let Admission::Challenge(cookie) = jar.admit(from, &init, true, Time::ZERO, &mut rng(4))
        else {
            panic!("expected a challenge");
        };
        let genuine = [init, reply, finish, reject, cookie];
        Self {
            dialler,
            listener,
            reply_expected,
            finish_expected,
            jar,
            genuine,
        }
    }

    /// Gives a datagram to everything that takes one. Answers what a listener says to it.
    pub(crate) fn feed(mut self, datagram: &[u8]) -> (Self, Result<(), HandshakeError>) {
        let _ = initiator_ephemeral(datagram);
        let from = "[2001:db8::1]:6783".parse().expect("an address");
        for load in [false, true] {
            let _ = self
                .jar
                .admit(from, datagram, load, Time::ZERO, &mut rng(5));
        }
        let answer = respond(&self.listener, 7, datagram, &mut rng(6)).map(|_| ());
        let _ = self.reply_expected.check_reject(&self.dialler, datagram);
        let _ = self
            .reply_expected
            .handle_cookie_reply(&self.dialler, datagram, Time::ZERO);
        if datagram != self.genuine[1] {
            let hello = |_: &_| panic!("believed a forged reply");
            let refused = self
                .reply_expected
                .handle_reply(&self.dialler, datagram, hello);
            self.reply_expected = refused.expect_err("a forged reply").0;
        }
        if datagram != self.genuine[2] {
            let refused = self.finish_expected.handle_finish(&self.listener, datagram);
            self.finish_expected = refused.expect_err("a forged finish").0;
        }
        (self, answer)
    }

    /// Completes the handshake as if nothing had been.
    pub(crate) fn complete(self) {
        let [_, reply, finish, ..] = &self.genuine;
        let hello = |_: &_| b"hello".to_vec();
        let done = self
            .reply_expected
            .handle_reply(&self.dialler, reply, hello);
        assert_eq!(&done.expect("the genuine reply").1, finish);
        let done = self.finish_expected.handle_finish(&self.listener, finish);
        assert_eq!(done.expect("the genuine finish").payload, b"hello");
    }
}

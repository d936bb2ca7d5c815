use std::sync::Arc;

use weave_wire::Versions;

use super::*;
use crate::handshake::{ExpectReply, HandshakeConfig, INIT_LEN, initiate};
use crate::identity::Identity;
use crate::password::StretchedPassword;
use crate::passwords::Passwords;
use crate::testing::rng;

fn config() -> HandshakeConfig {
    HandshakeConfig {
        identity: Arc::new(Identity::from_seed(&[1; 32])),
        passwords: Passwords::new(0, StretchedPassword::from_bytes([2; 32])),
        mesh_name: "weave".to_owned(),
        prefer_aes: false,
        versions: Versions::SPOKEN,
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Asks with this datagram under load and answers the challenge, if it is one.
fn challenge(jar: &mut CookieJar, from: SocketAddr, datagram: &[u8], now: Time) -> Option<Vec<u8>> {
    match jar.admit(from, datagram, true, now, &mut rng(9)) {
        Admission::Challenge(reply) => Some(reply),
        Admission::Proceed => None,
        Admission::Drop => panic!("dropped a good first message"),
    }
}

fn dial(cookie: Option<&Cookie>) -> (ExpectReply, Vec<u8>) {
    initiate(&config(), 5, cookie, &mut rng(3))
}

#[test]
fn without_load_every_first_message_of_the_mesh_proceeds() {
    let mut jar = CookieJar::new("weave", Time::ZERO, &mut rng(1));
    let (_, init) = dial(None);
    let from = addr("10.0.0.1:6783");
    assert_eq!(
        jar.admit(from, &init, false, Time::ZERO, &mut rng(2)),
        Admission::Proceed
    );
}

#[test]
fn another_mesh_gets_silence_with_or_without_load() {
    let mut jar = CookieJar::new("other", Time::ZERO, &mut rng(1));
    let (_, init) = dial(None);
    for load in [false, true] {
        let admission = jar.admit(addr("10.0.0.1:1"), &init, load, Time::ZERO, &mut rng(2));
        assert_eq!(admission, Admission::Drop);
    }
}

#[test]
fn under_load_a_cookie_admits_the_same_and_a_new_message_from_that_address_only() {
    let mut jar = CookieJar::new("weave", Time::ZERO, &mut rng(1));
    let (state, init) = dial(None);
    let from = addr("10.0.0.1:6783");
    let reply = challenge(&mut jar, from, &init, Time::ZERO).expect("a challenge");
    assert_eq!(reply.len(), COOKIE_REPLY_LEN);
    let cookie = state
        .handle_cookie_reply(&config(), &reply, Time::ZERO)
        .expect("a cookie");
    let again = state.datagram(Some(&cookie));
    assert_eq!(again[..INIT_LEN - 16], init[..INIT_LEN - 16]);
    assert_eq!(challenge(&mut jar, from, &again, Time::ZERO), None);
    assert_eq!(
        challenge(&mut jar, addr("[::ffff:10.0.0.1]:6783"), &again, Time::ZERO),
        None
    );
    let (_, new) = initiate(&config(), 6, Some(&cookie), &mut rng(4));
    assert_eq!(challenge(&mut jar, from, &new, Time::ZERO), None);
    for other in ["10.0.0.1:6784", "10.0.0.2:6783", "[2001:db8::1]:6783"] {
        assert!(challenge(&mut jar, addr(other), &again, Time::ZERO).is_some());
    }
}

#[test]
fn a_cookie_lasts_as_long_as_its_holder_thinks_and_not_much_longer() {
    let mut jar = CookieJar::new("weave", Time::ZERO, &mut rng(1));
    let (state, init) = dial(None);
    let from = addr("10.0.0.1:6783");
    let baked = Time::from_secs(119);
    let reply = challenge(&mut jar, from, &init, baked).expect("a challenge");
    let cookie = state
        .handle_cookie_reply(&config(), &reply, baked)
        .expect("a cookie");
    let shown = state.datagram(Some(&cookie));
    for second in [119, 121, 200, 238] {
        let now = Time::from_secs(second);
        assert!(cookie.is_fresh(now));
        assert_eq!(
            challenge(&mut jar, from, &shown, now),
            None,
            "after {second} s"
        );
    }
    assert!(!cookie.is_fresh(Time::from_secs(239)));
    assert!(challenge(&mut jar, from, &shown, Time::from_secs(600)).is_some());
}

#[test]
fn a_long_quiet_jar_forgets_all_cookies() {
    let mut jar = CookieJar::new("weave", Time::ZERO, &mut rng(1));
    let (state, init) = dial(None);
    let from = addr("10.0.0.1:6783");
    let reply = challenge(&mut jar, from, &init, Time::ZERO).expect("a challenge");
    let cookie = state
        .handle_cookie_reply(&config(), &reply, Time::ZERO)
        .expect("a cookie");
    let shown = state.datagram(Some(&cookie));
    assert!(challenge(&mut jar, from, &shown, Time::from_secs(3600)).is_some());
}

#[test]
fn a_cookie_reply_is_good_for_its_first_message_only_and_every_byte_counts() {
    let mut jar = CookieJar::new("weave", Time::ZERO, &mut rng(1));
    let (state, init) = dial(None);
    let reply = challenge(&mut jar, addr("10.0.0.1:1"), &init, Time::ZERO).expect("a challenge");
    let (other, _) = initiate(&config(), 5, None, &mut rng(8));
    assert!(
        other
            .handle_cookie_reply(&config(), &reply, Time::ZERO)
            .is_err()
    );
    for index in 0..reply.len() {
        let mut changed = reply.clone();
        changed[index] ^= 1;
        let opened = state.handle_cookie_reply(&config(), &changed, Time::ZERO);
        assert!(opened.is_err(), "byte {index}");
    }
    for len in 0..reply.len() {
        assert!(
            state
                .handle_cookie_reply(&config(), &reply[..len], Time::ZERO)
                .is_err()
        );
    }
    assert!(
        state
            .handle_cookie_reply(&config(), &reply, Time::ZERO)
            .is_ok()
    );
}

#[test]
fn debug_output_holds_no_secret() {
    let jar = CookieJar::new("weave", Time::ZERO, &mut rng(1));
    assert!(!format!("{jar:?}").contains("secret"));
    let cookie = Cookie {
        bytes: [0xab; 16],
        fresh_until: Time::ZERO,
    };
    assert!(!format!("{cookie:?}").contains("171"));
}

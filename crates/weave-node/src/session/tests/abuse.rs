//! Floods, forgeries and garbage.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use weave_crypto::{HandshakeConfig, Identity, Passwords, StretchedPassword, initiate};
use weave_wire::proto::FoundRequest;
use weave_wire::proto::control_message::Body;
use weave_wire::{DatagramType, HandshakeHeader, Lane, ReceiverIndex};

use super::net::{Event, Faults, Net, RIGHT, WRONG, addr_of};
use crate::session::{ConnectionState, SessionDrop};

const SECOND: Duration = Duration::from_secs(1);

/// A first message that is good in every respect.
fn valid_init(rng: &mut ChaCha12Rng) -> Vec<u8> {
    let config = HandshakeConfig {
        identity: Arc::new(Identity::from_seed(&[99; 32])),
        passwords: Passwords::new(0, StretchedPassword::from_bytes(WRONG)),
        mesh_name: String::from("weave"),
        prefer_aes: false,
        versions: weave_wire::Versions::SPOKEN,
    };
    let slot = rng.next_u32() % ReceiverIndex::SLOT_LIMIT;
    initiate(&config, slot, None, rng).1
}

fn stranger(rng: &mut ChaCha12Rng) -> SocketAddr {
    SocketAddr::from((rng.next_u32().to_be_bytes(), 6783))
}

#[test]
fn a_flood_of_first_messages_hurts_no_session_and_keeps_no_member_out() {
    let mut net = Net::new(3, Faults::NONE, 1);
    net.target(0, 1);
    net.run(SECOND);
    net.assert_pair(0, 1);
    net.traffic = true;
    let mut rng = ChaCha12Rng::seed_from_u64(4);
    let mut joined = None;
    // 1,000 good first messages and as much garbage per second, from everywhere, for 8 s.
    for tick in 0..800 {
        for _ in 0..10 {
            let (from, init) = (stranger(&mut rng), valid_init(&mut rng));
            net.inject(from, 0, init);
            let mut garbage = vec![0; 1 + rng.next_u32() as usize % 400];
            rng.fill_bytes(&mut garbage);
            let [kind, ..] = rng.next_u32().to_le_bytes();
            garbage[0] = (1 + kind % 5) << 4 | 1;
            if let (true, Some(header)) = (rng.next_u32() % 2 == 0, garbage.get_mut(..16)) {
                header[1] = 0;
                header[12..].fill(0);
            }
            net.inject(stranger(&mut rng), 0, garbage);
        }
        net.run(Duration::from_millis(10));
        assert!(net.hosts[0].sessions.inbound.half_open_count() <= 128);
        if tick == 200 {
            net.target(2, 0);
        }
        if joined.is_none() && net.hosts[2].connected().len() == 1 {
            joined = Some(tick);
        }
    }
    assert!(
        joined.is_some_and(|tick| tick < 400),
        "a member gets in within 2 s: {joined:?}"
    );
    let drops = net.hosts[0].sessions.drops();
    assert!(drops.of(SessionDrop::NoCookie) > 5_000, "{drops:?}");
    for reason in [
        SessionDrop::Malformed,
        SessionDrop::Stranger,
        SessionDrop::UnknownSlot,
    ] {
        assert!(drops.of(reason) > 200, "{reason}: {drops:?}");
    }
    net.run(SECOND);
    for host in [1, 2] {
        net.assert_pair(0, host);
        assert_eq!(net.hosts[0].count(Event::Lost(net.hosts[host].id)), 0);
    }
    let frames = net.hosts[1].data_slots.len();
    assert!(frames > 85, "frames went on: {frames}");
}

#[test]
fn answers_are_never_longer_than_what_caused_them() {
    let mut net = Net::new(1, Faults::NONE, 1);
    let mut rng = ChaCha12Rng::seed_from_u64(5);
    for _ in 0..300 {
        let (from, init) = (stranger(&mut rng), valid_init(&mut rng));
        let (asked, before) = (init.len(), net.sent.len());
        net.inject(from, 0, init);
        let answered: usize = net.sent[before..]
            .iter()
            .map(|(_, _, datagram)| datagram.len())
            .sum();
        assert!(answered <= asked, "{answered} for {asked}");
    }
}

#[test]
fn a_repeated_first_message_is_answered_by_the_same_bytes() {
    let mut net = Net::new(1, Faults::NONE, 1);
    let mut rng = ChaCha12Rng::seed_from_u64(6);
    let init = valid_init(&mut rng);
    for _ in 0..3 {
        net.inject(addr_of(30), 0, init.clone());
    }
    assert_eq!(net.sent.len(), 3);
    assert!(net.sent.iter().all(|packet| *packet == net.sent[0]));
    assert_eq!(net.hosts[0].sessions.inbound.half_open_count(), 1);
    net.run(6 * SECOND);
    assert_eq!(net.hosts[0].sessions.inbound.half_open_count(), 0);
}

#[test]
fn one_source_cannot_use_up_what_others_need() {
    let mut net = Net::new(2, Faults::NONE, 1);
    let mut rng = ChaCha12Rng::seed_from_u64(7);
    for _ in 0..90 {
        let init = valid_init(&mut rng);
        net.inject(addr_of(30), 0, init);
    }
    assert!(net.hosts[0].sessions.drops().of(SessionDrop::SourceRate) >= 40);
    net.target(1, 0);
    assert!(net.run_until(SECOND, Net::is_full_mesh).is_some());
}

#[test]
fn last_messages_that_do_not_verify_are_computed_for_at_a_rate_and_keep_nobody_out() {
    let mut net = Net::new(2, Faults::NONE, 1);
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    let init = valid_init(&mut rng);
    net.inject(addr_of(30), 0, init);
    let reply = HandshakeHeader::decode(&net.sent[0].2).expect("it was answered");
    assert_eq!(reply.ty, DatagramType::HandshakeReply);
    let header = HandshakeHeader {
        ty: DatagramType::HandshakeFinish,
        receiver: reply.sender,
        ..reply
    };
    // 5,000 a second, each another one
    for tick in 0..1_000_u32 {
        if tick == 500 {
            net.target(1, 0);
        }
        for number in 0..5 {
            let mut finish = header.encode().to_vec();
            finish.resize(250, 7);
            finish[20..24].copy_from_slice(&(tick * 5 + number).to_be_bytes());
            net.inject(addr_of(30), 0, finish);
        }
        net.run(Duration::from_millis(1));
    }
    let drops = net.hosts[0].sessions.drops();
    let computed = drops.of(SessionDrop::HandshakeInvalid) + drops.of(SessionDrop::WrongPassword);
    assert!((250..=400).contains(&computed), "{computed} in a second");
    assert!(drops.of(SessionDrop::FinishRate) > 4_000, "{drops:?}");
    // one of the newcomer's is as good as any other, and it sends it again
    assert!(net.run_until(3 * SECOND, Net::is_full_mesh).is_some());
}

#[test]
fn passwords_cannot_be_tried_quickly() {
    let mut net = Net::new(2, Faults::NONE, 1);
    net.restart(1, WRONG);
    for _ in 0..200 {
        net.with(1, |sessions, now| sessions.attempt(addr_of(0), now));
        net.run(Duration::from_millis(100));
    }
    let tried = net.hosts[0].sessions.drops().of(SessionDrop::WrongPassword);
    assert!((20..=40).contains(&tried), "{tried} guesses in 20 s");
    assert!(net.hosts[0].sessions.drops().of(SessionDrop::GuessRate) > 100);
}

#[test]
fn a_banned_peer_that_tries_again_and_again_is_soon_dropped_unread() {
    let mut net = Net::new(2, Faults::NONE, 1);
    let banned = net.hosts[1].id;
    net.with(0, |sessions, now| sessions.ban(banned, now));
    for _ in 0..200 {
        net.with(1, |sessions, now| sessions.attempt(addr_of(0), now));
        net.run(Duration::from_millis(100));
    }
    let refused = net.hosts[0].sessions.drops().of(SessionDrop::Banned);
    assert!((20..=40).contains(&refused), "{refused} refusals in 20 s");
    assert!(net.hosts[0].sessions.drops().of(SessionDrop::GuessRate) > 100);
    assert!(net.hosts[0].connected().is_empty());
}

#[test]
fn a_forged_refusal_aborts_nothing() {
    let mut net = Net::new(2, Faults::NONE, 1);
    net.target(0, 1);
    net.run(Duration::from_millis(15));
    // Replies are on their way; a refusal with the right header and a guessed end comes first.
    let (_, _, init) = net.sent[0].clone();
    let mut reject = vec![
        5 << 4 | 1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        init[4],
        init[5],
        init[6],
        init[7],
    ];
    reject.resize(40, 0);
    net.inject(addr_of(1), 0, reject);
    net.run(SECOND);
    net.assert_pair(0, 1);
}

#[test]
fn a_genuine_refusal_by_a_bystander_does_not_keep_the_right_peer_out() {
    // Host 2 has a password of another generation, and gets a copy of the first message.
    let mut net = Net::new(3, Faults::NONE, 1);
    let other = Passwords::new(7, StretchedPassword::from_bytes(RIGHT));
    net.hosts[2].sessions.config.handshake.passwords = other;
    net.target(0, 1);
    let init = net.sent[0].2.clone();
    net.inject(addr_of(0), 2, init);
    let (from, _, reject) = net.sent[1].clone();
    assert_eq!(DatagramType::of(&reject), Ok(DatagramType::Reject));
    net.inject(from, 0, reject);
    assert_eq!(
        net.status(0, addr_of(1)).info,
        "refused: password of another generation: it has 7"
    );
    assert_ne!(net.status(0, addr_of(1)).state, ConnectionState::Failed);
    net.run(SECOND);
    net.assert_pair(0, 1);
}

#[test]
fn a_handshake_of_another_mesh_is_not_answered() {
    let mut net = Net::new(1, Faults::NONE, 1);
    let mut rng = ChaCha12Rng::seed_from_u64(8);
    let mut init = valid_init(&mut rng);
    init[60] ^= 1;
    net.inject(addr_of(30), 0, init);
    assert!(net.sent.is_empty());
    assert_eq!(net.hosts[0].sessions.drops().of(SessionDrop::Stranger), 1);
}

/// Every datagram that two hosts exchange while they connect and rekey.
fn recorded() -> Vec<Vec<u8>> {
    let mut net = Net::connected_pair();
    net.run(3 * SECOND);
    net.sent
        .into_iter()
        .map(|(_, _, datagram)| datagram)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_end_a_session_or_panic(
        inputs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
        kinds in prop::collection::vec(1_u8..=5, 20),
    ) {
        let mut net = Net::connected_pair();
        let peer = net.hosts[1].id;
        let slot = net.hosts[0].slot_in_use(peer).expect("connected");
        for (input, kind) in inputs.iter().zip(kinds) {
            net.inject(addr_of(1), 0, input.clone());
            let mut typed = input.clone();
            if let Some(first) = typed.first_mut() {
                *first = kind << 4 | 1;
            }
            net.inject(addr_of(30), 0, typed);
            // What a peer may seal, except that it takes its leave.
            let leaves = weave_wire::decode_control(input).is_ok_and(|message| {
                matches!(message.body, Some(Body::Goodbye(_)))
            });
            if !leaves {
                let index = ReceiverIndex::new(slot, 0, Lane::Control);
                net.with(0, |sessions, now| {
                    sessions.handle_control(index, addr_of(1), input, now);
                });
            }
        }
        net.run(3 * SECOND);
        net.assert_pair(0, 1);
        prop_assert_eq!(net.hosts[0].count(Event::Lost(peer)), 0);
        prop_assert_eq!(net.status(0, addr_of(1)).state, ConnectionState::Established);
    }

    #[test]
    fn no_changed_or_repeated_datagram_keeps_two_peers_apart(
        choices in prop::collection::vec((any::<prop::sample::Index>(), any::<u16>(), any::<u8>()), 1..40),
    ) {
        let recorded = recorded();
        let mut net = Net::new(2, Faults::NONE, 7);
        net.target(0, 1);
        for (index, at, change) in choices {
            let mut datagram = index.get(&recorded).clone();
            let at = usize::from(at) % datagram.len();
            datagram[at] ^= change;
            for (host, from) in [(0, addr_of(1)), (1, addr_of(0))] {
                net.inject(from, host, datagram.clone());
            }
            net.run(Duration::from_millis(3));
        }
        net.run(8 * SECOND);
        net.assert_pair(0, 1);
        prop_assert!(net.is_full_mesh());
    }
}

#[test]
fn garbage_of_every_type_is_counted() {
    let mut net = Net::connected_pair();
    for first in 0..=255 {
        net.inject(addr_of(1), 0, vec![first; 40]);
    }
    net.inject(addr_of(1), 0, Vec::new());
    let drops = net.hosts[0].sessions.drops();
    let total: u64 = drops.iter().map(|(_, count)| count).sum();
    let handshakes =
        (0..=255).filter(|first| DatagramType::of(&[*first]).is_ok_and(DatagramType::is_handshake));
    assert_eq!(total, handshakes.count() as u64);
    net.assert_pair(0, 1);
    let index = ReceiverIndex::new(1, 0, Lane::Control);
    let nobody = net.with(0, |sessions, now| {
        sessions.handle_control(index, addr_of(1), b"", now)
    });
    assert_eq!(nobody, None);
    assert_eq!(
        net.hosts[0].sessions.drops().of(SessionDrop::UnknownSlot),
        1
    );
}

#[test]
fn whoever_only_sends_our_first_message_back_is_not_taken_for_ourselves() {
    let mut net = Net::new(2, Faults::NONE, 1);
    net.target(0, 1);
    let (_, to, init) = net.sent[0].clone();
    assert_eq!(to, addr_of(1));
    net.inject(addr_of(1), 0, init);
    let (_, _, reply) = net.sent.last().cloned().expect("we answer anybody");
    net.inject(addr_of(1), 0, reply);
    assert_eq!(net.hosts[0].sessions.drops().of(SessionDrop::Ourself), 1);
    assert!(net.run_until(SECOND, Net::is_full_mesh).is_some());
}

#[test]
fn frames_do_not_follow_what_somebody_sends_on() {
    let mut net = Net::connected_pair();
    let (thief, sent) = (addr_of(66), net.sent.len());
    net.set_cut(0, 1, true);
    net.with(1, |sessions, now| {
        let everyone: Vec<_> = sessions.peers.keys().copied().collect();
        assert!(sessions.send(&everyone[0], Body::FoundRequest(FoundRequest {}), now));
    });
    let (_, _, datagram) = net.sent[sent].clone();
    net.inject(thief, 0, datagram);
    let (_, asked, _) = net.sent.last().cloned().expect("whoever is there is asked");
    assert_eq!(asked, thief);
    net.run(SECOND);
    let peer = addr_of(1);
    assert!(
        net.hosts[0]
            .sessions
            .in_use()
            .all(|session| session.addr == peer)
    );
}

#[test]
fn a_peer_seen_at_ever_other_addresses_is_not_asked_at_each() {
    let mut net = Net::connected_pair();
    net.set_cut(0, 1, true);
    let sent = net.sent.len();
    for _ in 0..20 {
        net.with(1, |sessions, now| {
            let everyone: Vec<_> = sessions.peers.keys().copied().collect();
            assert!(sessions.send(&everyone[0], Body::FoundRequest(FoundRequest {}), now));
        });
    }
    let datagrams = net.sent[sent..].to_vec();
    let sent = net.sent.len();
    for (number, (_, _, datagram)) in (100..).zip(datagrams) {
        net.inject(addr_of(number), 0, datagram);
    }
    let asked = net.sent[sent..]
        .iter()
        .filter(|(_, to, _)| *to != addr_of(1));
    assert_eq!(asked.count(), 1);
}

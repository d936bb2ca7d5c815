//! Key exchanges with an ML-KEM half: where they happen, and what comes of peers without.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{RekeyReply, RekeyRequest};
use weave_wire::{DatagramType, Lane, SealedHeader};

use super::net::{Event, Faults, Net, Packet, addr_of};
use crate::post_quantum::PostQuantum::{self, Off, Prefer, Require};
use crate::session::{ConnectionState, SessionDrop};

const SECOND: Duration = Duration::from_secs(1);

/// Two hosts, the first of which dials.
fn net(dialler: PostQuantum, listener: PostQuantum, faults: Faults, seed: u64) -> Net {
    let mut net = Net::new(2, faults, seed);
    net.hosts[0].sessions.config.pq = dialler;
    net.hosts[1].sessions.config.pq = listener;
    net.target(0, 1);
    net
}

fn shown(net: &Net) -> [Option<bool>; 2] {
    [(0, 1), (1, 0)].map(|(host, other)| net.status(host, addr_of(other)).pq)
}

fn is_sealed(datagram: &[u8]) -> bool {
    DatagramType::of(datagram) == Ok(DatagramType::Sealed)
}

/// A datagram of frames: lane and parity of the epoch it is sealed in.
fn data_parity(datagram: &[u8]) -> Option<u32> {
    let receiver = SealedHeader::decode(datagram).ok()?.receiver;
    (receiver.lane() == Some(Lane::Data)).then(|| receiver.epoch_parity())
}

/// Part of a rekey with a KEM, by its length.
fn is_kem_part((_, _, datagram): &Packet) -> bool {
    (1_100..=1_232).contains(&datagram.len()) && is_sealed(datagram)
}

#[test]
fn where_both_have_it_it_is_used_at_once_and_at_every_rekey() {
    for (dialler, listener) in [(Prefer, Prefer), (Prefer, Require), (Require, Require)] {
        let mut net = net(dialler, listener, Faults::NONE, 1);
        net.run(Duration::from_millis(100));
        net.assert_pair(0, 1);
        assert_eq!(shown(&net), [Some(true); 2]);
        net.traffic = true;
        net.run(400 * SECOND);
        net.assert_pair(0, 1);
        assert_eq!(shown(&net), [Some(true); 2]);
        let parts = net.sent.iter().filter(|packet| is_kem_part(packet)).count();
        assert!(parts >= 2 * 4, "{parts} parts of rekeys");
    }
}

#[test]
fn where_one_has_it_not_keys_change_as_ever() {
    for (dialler, listener) in [(Off, Prefer), (Prefer, Off), (Off, Off)] {
        let mut net = net(dialler, listener, Faults::NONE, 1);
        net.traffic = true;
        net.run(150 * SECOND);
        net.assert_pair(0, 1);
        assert_eq!(shown(&net), [Some(false); 2]);
        let parities = net.sent.iter().filter_map(|packet| data_parity(&packet.2));
        let parities: Vec<_> = parities.collect();
        assert_eq!(parities.first(), Some(&0));
        assert_eq!(parities.last(), Some(&1), "there was a rekey");
        assert!(!net.sent.iter().any(is_kem_part));
    }
}

fn data_parities(net: &Net) -> Vec<u32> {
    let sent = net.sent.iter();
    sent.filter_map(|packet| data_parity(&packet.2)).collect()
}

#[test]
fn where_one_requires_it_frames_of_both_wait_and_none_is_lost() {
    for (dialler, listener) in [(Prefer, Require), (Require, Prefer), (Require, Require)] {
        let mut net = net(dialler, listener, Faults::NONE, 1);
        net.filter = Some(Box::new(is_kem_part));
        net.traffic = true;
        net.run(5 * SECOND);
        assert!(data_parities(&net).is_empty());
        for (host, other) in [(0, 1), (1, 0)] {
            let line = net.status(host, addr_of(other));
            assert_eq!(line.state, ConnectionState::Pending);
            assert_eq!(line.info, "waits for the post-quantum key exchange");
        }
        net.filter = None;
        net.run(2 * SECOND);
        assert_eq!(shown(&net), [Some(true); 2]);
        net.traffic = false;
        net.run(SECOND);
        let sent = data_parities(&net);
        assert!(
            sent.len() > 10 && sent.iter().all(|parity| *parity == 1),
            "{sent:?}"
        );
        let received = net.hosts.iter().map(|host| host.data_slots.len());
        assert_eq!(received.sum::<usize>(), sent.len());
    }
}

#[test]
fn frames_stay_with_the_session_before_while_a_new_one_waits() {
    let mut net = net(Require, Prefer, Faults::NONE, 1);
    net.run(20 * SECOND);
    let slots = [0, 1].map(|host| net.hosts[host].slot_in_use(net.hosts[1 - host].id));
    net.filter = Some(Box::new(is_kem_part));
    net.traffic = true;
    net.with(1, |sessions, now| sessions.try_at(addr_of(0), now));
    net.run(5 * SECOND);
    for (host, other) in [(0, 1), (1, 0)] {
        let peer = net.hosts[usize::from(other)].id;
        assert_ne!(net.hosts[host].slot_in_use(peer), slots[host]);
        assert_eq!(net.hosts[host].sends_to_slot(peer), slots[1 - host]);
        let line = net.status(host, addr_of(other));
        assert_eq!(line.state, ConnectionState::Established);
    }
    net.filter = None;
    net.run(2 * SECOND);
    net.assert_pair(0, 1);
    net.traffic = false;
    net.run(SECOND);
    let received = net.hosts.iter().map(|host| host.data_slots.len());
    assert_eq!(received.sum::<usize>(), data_parities(&net).len());
}

#[test]
fn where_one_requires_what_the_other_has_not_nobody_gets_a_session_and_both_know_why() {
    let lacks =
        "refused: it has no post-quantum key exchange, which this router requires (--pq require)";
    let required = "refused: it requires the post-quantum key exchange, this router has --pq off";
    for (dialler, listener, words) in [(Require, Off, lacks), (Off, Require, required)] {
        let mut net = net(dialler, listener, Faults::NONE, 1);
        net.run(SECOND);
        let line = net.status(0, addr_of(1));
        assert_eq!(line.info, words);
        assert_ne!(line.state, ConnectionState::Established);
        net.run(100 * SECOND);
        for host in [0, 1] {
            let established = Event::Established(net.hosts[1 - host].id);
            assert_eq!(net.hosts[host].count(established), 0);
        }
        assert!(net.hosts[1].sessions.drops().of(SessionDrop::PqUnfit) > 1);
        net.hosts[1].sessions.config.pq = Prefer;
        assert!(net.run_until(40 * SECOND, Net::is_full_mesh).is_some());
    }
}

#[test]
fn a_peer_that_knows_of_no_requirement_is_left() {
    let mut net = net(Prefer, Off, Faults::NONE, 1);
    net.run(Duration::from_millis(25));
    // as if the listener were of a version that does not look at it
    net.hosts[0].sessions.config.pq = Require;
    net.run(Duration::from_millis(300));
    let line = net.status(0, addr_of(1));
    assert_eq!(line.state, ConnectionState::Failed);
    assert!(line.info.starts_with("refused: it has no post-quantum"));
    assert_eq!(net.hosts[1].count(Event::Lost(net.hosts[0].id)), 1);
    assert!(net.hosts.iter().all(|host| host.connected().is_empty()));
    assert_eq!(net.hosts[0].sessions.drops().of(SessionDrop::PqUnfit), 1);
}

#[test]
fn required_or_not_it_withstands_a_bad_network() {
    for (seed, pq) in (0..6).zip([Prefer, Require].into_iter().cycle()) {
        let mut net = net(Require, pq, Faults::BAD, seed);
        let took = net.run_until(60 * SECOND, Net::is_full_mesh);
        assert!(took.is_some(), "seed {seed}");
        net.traffic = true;
        net.run(Duration::from_secs(10 * 60));
        net.settle_pair(0, 1);
        assert_eq!(shown(&net), [Some(true); 2], "seed {seed}");
        for host in 0..2 {
            let lost = Event::Lost(net.hosts[1 - host].id);
            assert_eq!(net.hosts[host].count(lost), 0, "seed {seed}");
        }
    }
}

/// The first datagram that fits.
fn sent_first(net: &Net, fits: impl Fn(&Packet) -> bool) -> Vec<u8> {
    let packet = net.sent.iter().find(|packet| fits(packet));
    packet.expect("it was sent").2.clone()
}

/// Lets a datagram arrive with each of its bytes changed.
fn inject_altered(net: &mut Net, from: u8, to: usize, datagram: &[u8]) {
    for at in 0..datagram.len() {
        let mut altered = datagram.to_vec();
        altered[at] ^= 1 << (at % 8);
        net.inject(addr_of(from), to, altered);
    }
}

#[test]
fn who_is_between_two_peers_cannot_take_it_away() {
    let mut net = net(Prefer, Prefer, Faults::NONE, 1);
    net.filter = Some(Box::new(|(_, _, datagram)| {
        DatagramType::of(datagram) == Ok(DatagramType::HandshakeFinish) || is_sealed(datagram)
    }));
    net.run(Duration::from_millis(100));
    let finish = sent_first(&net, |(_, _, datagram)| {
        DatagramType::of(datagram) == Ok(DatagramType::HandshakeFinish)
    });
    inject_altered(&mut net, 0, 1, &finish);
    assert!(net.hosts[1].connected().is_empty());
    // so many at once are more than is computed for
    net.run(SECOND);
    net.inject(addr_of(0), 1, finish);
    let dialler = net.hosts[0].id;
    assert!(net.hosts[1].slot_in_use(dialler).is_some());
    let hello = sent_first(&net, |(from, _, datagram)| {
        *from == addr_of(1) && is_sealed(datagram)
    });
    inject_altered(&mut net, 1, 0, &hello);
    assert!(net.hosts[0].connected().is_empty());
    net.filter = None;
    net.inject(addr_of(1), 0, hello);
    net.run(SECOND);
    net.assert_pair(0, 1);
    assert_eq!(shown(&net), [Some(true); 2]);
}

fn ask(epoch: u32, public_key: &[u8], kem_key: &[u8]) -> Body {
    Body::RekeyRequest(RekeyRequest {
        epoch,
        public_key: public_key.to_vec(),
        kem_key: kem_key.to_vec(),
    })
}

fn reply(epoch: u32, public_key: &[u8], kem_ciphertext: &[u8]) -> Body {
    Body::RekeyReply(RekeyReply {
        epoch,
        public_key: public_key.to_vec(),
        kem_ciphertext: kem_ciphertext.to_vec(),
    })
}

#[test]
fn keys_and_ciphertexts_that_are_none_are_counted_and_harm_no_session() {
    for victim in [0, 1] {
        let mut net = Net::connected_pair();
        let peer = net.hosts[victim].id;
        let send = |net: &mut Net, bodies: &[Body]| {
            for body in bodies {
                let body = body.clone();
                net.with(1 - victim, |sessions, now| sessions.send(&peer, body, now));
            }
            net.run(SECOND);
        };
        let dropped = |net: &Net, reason| net.hosts[victim].sessions.drops().of(reason);
        let malformed = [
            ask(2, &[9; 31], &[]),
            ask(2, &[], &[0; 1]),
            ask(2, &[], &[0; 1_183]),
            ask(2, &[], &[0; 1_185]),
            ask(2, &[9; 1], &[0; 1_184]),
            ask(2, &[], &[]),
            reply(2, &[9; 32], &[0; 1]),
            reply(2, &[9; 32], &[0; 1_087]),
            reply(2, &[9; 32], &[0; 1_089]),
            reply(2, &[9; 31], &[0; 1_088]),
        ];
        send(&mut net, &malformed);
        assert_eq!(dropped(&net, SessionDrop::BadControl), 10);
        let invalid = [
            ask(2, &[9; 32], &[]),
            ask(2, &[], &[0xff; 1_184]),
            ask(2, &[], &[0xff; 1_184]),
            ask(2, &[0; 32], &[]),
            ask(7, &[], &[0; 1_184]),
            reply(2, &[9; 32], &[0; 1_088]),
            reply(7, &[9; 32], &[]),
        ];
        send(&mut net, &invalid);
        assert_eq!(dropped(&net, SessionDrop::BadRekey), 5);
        // The same keys again and again are no work, for the first part is missing.
        send(&mut net, &vec![ask(2, &[], &[1; 1_184]); 100]);
        assert_eq!(dropped(&net, SessionDrop::BadRekey), 5);
        assert_eq!(
            net.hosts[victim].count(Event::Lost(net.hosts[1 - victim].id)),
            0
        );
        assert_eq!(shown(&net), [Some(true); 2]);
    }
}

#[test]
fn rekey_messages_of_any_content_end_nothing_but_the_session_of_their_sender() {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let mut bytes = |lens: [usize; 3]| {
        let len = lens[rng.next_u32() as usize % 3];
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let mut net = Net::connected_pair();
    let peer = net.hosts[0].id;
    for round in 0..300_u32 {
        let (key, kem) = (bytes([32, 32, 0]), bytes([1_184, 0, 0]));
        let body = match round % 2 {
            0 => ask(round % 5, &key, &kem),
            _ => reply(round % 5, &key, &bytes([1_088, 0, 5])),
        };
        net.with(1, |sessions, now| sessions.send(&peer, body, now));
        net.run(Duration::from_millis(500));
    }
    assert!(net.run_until(60 * SECOND, Net::is_full_mesh).is_some());
}

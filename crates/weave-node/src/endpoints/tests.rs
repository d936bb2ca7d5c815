//! Who owns an address: claims, moves, conflicts, members of segments.

use proptest::prelude::*;
use weave_wire::proto::SubnetRecord;

use super::*;

const LOW: PeerId = PeerId([1; 32]);
const ME: PeerId = PeerId([5; 32]);
const HIGH: PeerId = PeerId([9; 32]);
const SEGMENT: SegmentId = SegmentId(7);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn spec(id: &str, mac: Mac, ips: &[&str]) -> EndpointSpec {
    let ips = ips.iter().map(|text| ip(text)).collect();
    EndpointSpec {
        id: id.into(),
        segment: SEGMENT,
        mac,
        ips,
        container: String::new(),
    }
}

fn theirs(mac: Mac, ips: &[&str], claim: u64) -> entry::Body {
    entry::Body::Endpoint(record(&spec("", mac, ips), claim))
}

fn with_live(live: &[PeerId]) -> Endpoints {
    let mut endpoints = Endpoints::new(ME);
    endpoints.set_live(&live.iter().copied().collect());
    endpoints
}

fn owner_of_mac(endpoints: &Endpoints, mac: Mac) -> Option<PeerId> {
    endpoints
        .macs()
        .find(|(_, held, _)| *held == mac)
        .map(|(_, _, owner)| owner)
}

fn owner_of_ip(endpoints: &Endpoints, text: &str) -> Option<(Mac, PeerId)> {
    let found = endpoints.ips().find(|(_, held, _, _)| *held == ip(text));
    found.map(|(_, _, mac, owner)| (mac, owner))
}

fn actions(endpoints: &mut Endpoints) -> Vec<EndpointAction> {
    std::iter::from_fn(|| endpoints.poll_action()).collect()
}

fn claim_of(action: &EndpointAction) -> u64 {
    let EndpointAction::SetEntry {
        body: Some(entry::Body::Endpoint(record)),
        ..
    } = action
    else {
        panic!("no announcement: {action:?}");
    };
    record.claim
}

#[test]
fn an_announcement_counts_here_at_once() {
    let mut endpoints = with_live(&[]);
    endpoints
        .announce(spec("a", MAC, &["10.32.0.1"]))
        .expect("announced");
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(ME));
    assert_eq!(owner_of_ip(&endpoints, "10.32.0.1"), Some((MAC, ME)));
    let actions = actions(&mut endpoints);
    assert_eq!(actions.len(), 1);
    assert_eq!(claim_of(&actions[0]), 1);
    assert!(endpoints.take_changed() && !endpoints.take_changed());
}

#[test]
fn the_same_announcement_again_is_no_change() {
    let mut endpoints = with_live(&[]);
    endpoints
        .announce(spec("a", MAC, &["10.32.0.1"]))
        .expect("announced");
    actions(&mut endpoints);
    endpoints
        .announce(spec("a", MAC, &["10.32.0.1"]))
        .expect("announced");
    assert!(actions(&mut endpoints).is_empty());
}

#[test]
fn a_container_that_moves_here_is_ours_though_the_old_host_still_announces_it() {
    let mut endpoints = with_live(&[LOW]);
    endpoints.apply(LOW, 4, Some(&theirs(MAC, &["10.32.0.1"], 3)));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(LOW));
    endpoints
        .announce(spec("a", MAC, &["10.32.0.1"]))
        .expect("announced");
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(ME));
    assert_eq!(owner_of_ip(&endpoints, "10.32.0.1"), Some((MAC, ME)));
    let actions = actions(&mut endpoints);
    assert_eq!(claim_of(&actions[0]), 4);
}

#[test]
fn a_container_that_moves_away_is_withdrawn_and_reported_here() {
    let mut endpoints = with_live(&[HIGH]);
    endpoints
        .announce(spec("a", MAC, &["10.32.0.1"]))
        .expect("announced");
    actions(&mut endpoints);
    endpoints.apply(HIGH, 4, Some(&theirs(MAC, &["10.32.0.1"], 2)));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(HIGH));
    let actions = actions(&mut endpoints);
    let gone = EndpointAction::SetEntry {
        key: "endpoint/a".into(),
        body: None,
    };
    let [first, EndpointAction::Conflict(conflict)] = &actions[..] else {
        panic!("expected a withdrawal and its report, got {actions:?}");
    };
    assert_eq!(
        (first, conflict.what, conflict.with, conflict.is_lost),
        (&gone, Contested::Mac(MAC), HIGH, true)
    );
    assert_eq!(endpoints.own.len(), 0);
}

#[test]
fn of_equal_claims_each_keeps_what_it_knew_first_and_both_report_it() {
    for other in [LOW, HIGH] {
        let mut endpoints = with_live(&[other]);
        let ours = spec("a", MAC, &["10.32.0.1"]);
        endpoints.announce(ours.clone()).expect("announced");
        actions(&mut endpoints);
        endpoints.apply(other, 4, Some(&theirs(MAC, &["10.32.0.1"], 1)));
        assert_eq!(owner_of_mac(&endpoints, MAC), Some(ME));
        let told = actions(&mut endpoints).into_iter().map(|action| {
            let EndpointAction::Conflict(conflict) = action else {
                panic!("expected a report, got {action:?}");
            };
            assert_eq!((conflict.with, conflict.is_lost), (other, false));
            conflict.what
        });
        let ip = Contested::Ip(ip("10.32.0.1"));
        assert_eq!(told.collect::<Vec<_>>(), [Contested::Mac(MAC), ip]);
    }
}

#[test]
fn of_equal_claims_of_others_the_one_known_first_stays_in_force_as_long_as_it_is_there() {
    let mut endpoints = with_live(&[LOW, HIGH]);
    endpoints.apply(HIGH, 1, Some(&theirs(MAC, &["10.32.0.1"], 1)));
    endpoints.apply(LOW, 1, Some(&theirs(MAC, &["10.32.0.1"], 1)));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(HIGH));
    // said anew, with one address more
    endpoints.apply(HIGH, 1, Some(&theirs(MAC, &["10.32.0.1", "10.32.0.2"], 1)));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(HIGH));
    assert_eq!(owner_of_ip(&endpoints, "10.32.0.1"), Some((MAC, HIGH)));
    endpoints.apply(HIGH, 1, None);
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(LOW));
    assert_eq!(owner_of_ip(&endpoints, "10.32.0.1"), Some((MAC, LOW)));
    endpoints.apply(HIGH, 2, Some(&theirs(MAC, &["10.32.0.1"], 1)));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(LOW));
    endpoints.apply(HIGH, 2, Some(&theirs(MAC, &["10.32.0.1"], 2)));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(HIGH));
}

#[test]
fn losing_one_address_leaves_the_endpoint_its_others() {
    let mut endpoints = with_live(&[HIGH]);
    endpoints
        .announce(spec("a", MAC, &["10.32.0.1", "10.32.0.2"]))
        .expect("announced");
    actions(&mut endpoints);
    endpoints.apply(HIGH, 4, Some(&theirs(OTHER_MAC, &["10.32.0.2"], 5)));
    assert_eq!(
        owner_of_ip(&endpoints, "10.32.0.2"),
        Some((OTHER_MAC, HIGH))
    );
    assert_eq!(owner_of_ip(&endpoints, "10.32.0.1"), Some((MAC, ME)));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(ME));
    let actions = actions(&mut endpoints);
    assert_eq!(actions.len(), 2);
    let EndpointAction::Conflict(conflict) = &actions[1] else {
        panic!("not reported: {actions:?}");
    };
    assert_eq!(conflict.what, Contested::Ip(ip("10.32.0.2")));
    assert!(
        conflict.to_string().contains("address 10.32.0.2 of `a`"),
        "{conflict}"
    );
}

#[test]
fn what_an_old_announcement_took_comes_back_when_that_is_withdrawn() {
    let mut endpoints = with_live(&[HIGH]);
    let whole = spec("a", MAC, &["10.32.0.1", "10.32.0.2"]);
    endpoints.announce(whole.clone()).expect("announced");
    endpoints.apply(HIGH, 4, Some(&theirs(OTHER_MAC, &["10.32.0.1"], 8)));
    assert_eq!(
        owner_of_ip(&endpoints, "10.32.0.1"),
        Some((OTHER_MAC, HIGH))
    );
    endpoints.apply(HIGH, 5, Some(&theirs(MAC, &[], 8)));
    assert_eq!(endpoints.own.len(), 0, "the MAC is lost too");
    endpoints.apply(HIGH, 4, None);
    assert_eq!(endpoints.own.len(), 0);
    actions(&mut endpoints);
    endpoints.apply(HIGH, 5, None);
    assert_eq!(
        endpoints.own.values().next().map(|own| &own.spec),
        Some(&whole)
    );
    assert_eq!(owner_of_ip(&endpoints, "10.32.0.1"), Some((MAC, ME)));
    assert_eq!(
        actions(&mut endpoints).len(),
        1,
        "announced again, and once"
    );
}

#[test]
fn what_the_dead_took_comes_back_unless_it_was_withdrawn_here() {
    let mut endpoints = with_live(&[HIGH]);
    for (id, mac) in [("a", MAC), ("b", OTHER_MAC)] {
        endpoints.announce(spec(id, mac, &[])).expect("announced");
    }
    endpoints.apply(HIGH, 4, Some(&theirs(MAC, &[], 8)));
    endpoints.apply(HIGH, 5, Some(&theirs(OTHER_MAC, &[], 8)));
    endpoints.withdraw("b");
    endpoints.set_live(&BTreeSet::new());
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(ME));
    assert_eq!(owner_of_mac(&endpoints, OTHER_MAC), None);
}

#[test]
fn an_announcement_of_a_dead_peer_takes_nothing_until_it_is_back() {
    let mut endpoints = with_live(&[]);
    endpoints
        .announce(spec("a", MAC, &["10.32.0.1"]))
        .expect("announced");
    actions(&mut endpoints);
    endpoints.apply(HIGH, 4, Some(&theirs(MAC, &[], 9)));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(ME));
    assert!(actions(&mut endpoints).is_empty());
    endpoints.set_live(&BTreeSet::from([ME, HIGH]));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(HIGH));
    assert_eq!(actions(&mut endpoints).len(), 2);
}

#[test]
fn claims_of_dead_peers_still_count_towards_the_next_number() {
    let mut endpoints = with_live(&[]);
    endpoints.apply(HIGH, 4, Some(&theirs(MAC, &[], 9)));
    endpoints.announce(spec("a", MAC, &[])).expect("announced");
    assert_eq!(claim_of(&actions(&mut endpoints)[0]), 10);
    endpoints.set_live(&BTreeSet::from([ME, HIGH]));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(ME));
}

#[test]
fn when_the_owner_dies_the_next_claim_is_in_force_again() {
    let mut endpoints = with_live(&[LOW, HIGH]);
    endpoints.apply(LOW, 4, Some(&theirs(MAC, &["10.32.0.1"], 1)));
    endpoints.apply(HIGH, 4, Some(&theirs(MAC, &["10.32.0.1"], 2)));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(HIGH));
    endpoints.set_live(&BTreeSet::from([ME, LOW]));
    assert_eq!(owner_of_mac(&endpoints, MAC), Some(LOW));
    endpoints.apply(LOW, 4, None);
    assert_eq!(owner_of_mac(&endpoints, MAC), None);
    assert_eq!(owner_of_ip(&endpoints, "10.32.0.1"), None);
}

#[test]
fn two_peers_that_each_hear_the_other_agree_on_the_owner() {
    let claims = [(LOW, 3), (ME, 3), (HIGH, 4)];
    let mut answers = BTreeSet::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut endpoints = Endpoints::new(PeerId([77; 32]));
        endpoints.set_live(&BTreeSet::from([LOW, ME, HIGH]));
        for index in order {
            let (peer, claim) = claims[index];
            endpoints.apply(peer, 4, Some(&theirs(MAC, &["10.32.0.1"], claim)));
        }
        answers.insert((
            owner_of_mac(&endpoints, MAC),
            owner_of_ip(&endpoints, "10.32.0.1"),
        ));
    }
    assert_eq!(answers, BTreeSet::from([(Some(HIGH), Some((MAC, HIGH)))]));
}

#[test]
fn the_same_address_in_another_segment_is_another_address() {
    let mut endpoints = with_live(&[HIGH]);
    endpoints
        .announce(spec("a", MAC, &["10.32.0.1"]))
        .expect("announced");
    let elsewhere = EndpointSpec {
        segment: SegmentId(8),
        ..spec("", MAC, &["10.32.0.1"])
    };
    endpoints.apply(HIGH, 4, Some(&entry::Body::Endpoint(record(&elsewhere, 9))));
    assert_eq!(endpoints.macs().count(), 2);
    assert_eq!(endpoints.own.len(), 1);
}

#[test]
fn what_no_station_can_have_is_refused() {
    let mut endpoints = with_live(&[HIGH]);
    let nine: Vec<String> = (1..10).map(|last| format!("10.32.0.{last}")).collect();
    let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
    assert!(endpoints.announce(spec("a", MAC, &nine)).is_err());
    assert!(endpoints.announce(spec("a", Mac::BROADCAST, &[])).is_err());
    endpoints.apply(HIGH, 4, Some(&theirs(Mac::BROADCAST, &["10.32.0.1"], 1)));
    assert_eq!(endpoints.ips().count(), 0);
}

fn subnet(text: &str, strict: bool) -> (SegmentId, entry::Body) {
    let cidr: Cidr = text.parse().expect("a network");
    let segment = SegmentId::of_subnet(cidr);
    let ip = ip_bytes(cidr.first());
    let prefix_len = u32::from(cidr.prefix_len());
    (
        segment,
        entry::Body::Subnet(SubnetRecord {
            ip,
            prefix_len,
            segment: segment.0,
            strict,
            ..Default::default()
        }),
    )
}

#[test]
fn the_ipv6_subnet_of_a_network_is_what_the_lowest_live_peer_has() {
    let mut endpoints = with_live(&[HIGH]);
    let cidr: Cidr = "10.32.0.0/12".parse().expect("a network");
    let with = |ipv6: &str, ipv6_prefix_len| {
        let (_, body) = subnet("10.32.0.0/12", false);
        let entry::Body::Subnet(record) = body else {
            panic!("no subnet");
        };
        let ipv6 = ip_bytes(ipv6.parse().expect("an address"));
        entry::Body::Subnet(SubnetRecord {
            ipv6,
            ipv6_prefix_len,
            ..record
        })
    };
    endpoints.apply(LOW, 4, Some(&with("fd00:1::", 64)));
    endpoints.apply(HIGH, 4, Some(&with("fd00:2::", 64)));
    let beside = |endpoints: &Endpoints| endpoints.ipv6_beside(cidr).map(|(peer, _)| peer);
    assert_eq!(beside(&endpoints), Some(HIGH), "only who is live counts");
    endpoints.set_live(&BTreeSet::from([ME, LOW, HIGH]));
    assert_eq!(beside(&endpoints), Some(LOW));
    for (ipv6, len) in [
        ("fd00:1::", 97),
        ("fd00:1::1", 64),
        ("10.0.0.0", 8),
        ("fd00:1::", 1000),
    ] {
        endpoints.apply(LOW, 4, Some(&with(ipv6, len)));
        assert_eq!(beside(&endpoints), Some(HIGH), "{ipv6}/{len} is none");
    }
    let other = "10.32.0.0/16".parse().expect("a network");
    assert_eq!(endpoints.ipv6_beside(other), None);
}

#[test]
fn members_of_a_segment_are_the_live_peers_that_have_its_subnet() {
    let mut endpoints = with_live(&[LOW]);
    let (segment, body) = subnet("10.32.0.0/12", false);
    for peer in [LOW, HIGH] {
        endpoints.apply(peer, 4, Some(&body));
    }
    let cidr = "10.32.0.0/12".parse().expect("a network");
    endpoints.add_subnet(segment, cidr, false);
    let view = endpoints.segments()[&segment].clone();
    assert_eq!(view.members, BTreeSet::from([LOW, ME]));
    assert!(view.local && !view.strict);
    endpoints.set_live(&BTreeSet::from([ME, HIGH]));
    endpoints.remove_subnet(cidr);
    let view = endpoints.segments()[&segment].clone();
    assert_eq!(view.members, BTreeSet::from([HIGH]));
    assert!(!view.local);
}

#[test]
fn our_own_word_on_strictness_goes_before_that_of_others() {
    let (segment, strict) = subnet("10.32.0.0/12", true);
    let mut endpoints = with_live(&[LOW, HIGH]);
    endpoints.apply(LOW, 4, Some(&strict));
    assert!(endpoints.segments()[&segment].strict);
    let cidr = "10.32.0.0/12".parse().expect("a network");
    endpoints.add_subnet(segment, cidr, false);
    endpoints.apply(HIGH, 4, Some(&strict));
    assert!(!endpoints.segments()[&segment].strict);
}

#[test]
fn a_segment_that_does_not_follow_from_its_subnet_is_ignored() {
    let mut endpoints = with_live(&[LOW]);
    let (_, mut body) = subnet("10.32.0.0/12", false);
    if let entry::Body::Subnet(record) = &mut body {
        record.segment ^= 1;
    }
    endpoints.apply(LOW, 4, Some(&body));
    assert!(endpoints.segments().is_empty());
}

/// What one of several peers does: announce or withdraw an endpoint, or hear the next change of
/// another one.
#[derive(Debug, Clone)]
enum Step {
    Announce(usize, u8),
    Withdraw(usize, u8),
    Hear(usize, usize),
}

const PEERS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..PEERS, 0..4_u8).prop_map(|(peer, number)| Step::Announce(peer, number)),
        (0..PEERS, 0..4_u8).prop_map(|(peer, number)| Step::Withdraw(peer, number)),
        (0..PEERS, 0..PEERS).prop_map(|(peer, from)| Step::Hear(peer, from)),
    ]
}

/// Several peers, and how much each has heard of what each other one wrote.
struct Mesh {
    peers: Vec<Endpoints>,
    written: Vec<Vec<(u64, Option<entry::Body>)>>,
    heard: [[usize; PEERS]; PEERS],
}

impl Mesh {
    fn new() -> Self {
        let ids: BTreeSet<_> = (0..PEERS).map(id_of).collect();
        let peers = (0..PEERS).map(|index| {
            let mut endpoints = Endpoints::new(id_of(index));
            endpoints.set_live(&ids);
            endpoints
        });
        let peers = peers.collect();
        Self {
            peers,
            written: vec![Vec::new(); PEERS],
            heard: [[0; PEERS]; PEERS],
        }
    }

    fn step(&mut self, step: &Step) {
        let numbered = |number: u8| {
            // two endpoints share each MAC, and three each address
            let mac = Mac([2, 0, 0, 0, 0, number / 2]);
            spec(
                &number.to_string(),
                mac,
                &[["10.32.0.1", "10.32.0.2"][usize::from(number / 3)]],
            )
        };
        match *step {
            Step::Announce(peer, number) => {
                self.peers[peer]
                    .announce(numbered(number))
                    .expect("announced");
                self.write(peer);
            }
            Step::Withdraw(peer, number) => {
                self.peers[peer].withdraw(&number.to_string());
                self.write(peer);
            }
            Step::Hear(peer, from) => {
                let next = self.written[from].get(self.heard[peer][from]).cloned();
                let Some((slot, body)) = next.filter(|_| peer != from) else {
                    return;
                };
                self.heard[peer][from] += 1;
                self.peers[peer].apply(id_of(from), slot, body.as_ref());
                self.write(peer);
            }
        }
    }

    fn write(&mut self, peer: usize) {
        for action in actions(&mut self.peers[peer]) {
            if let EndpointAction::SetEntry { key, body } = action {
                let number: u64 = key.strip_prefix("endpoint/").unwrap().parse().unwrap();
                self.written[peer].push((number, body));
            }
        }
    }

    fn hear_everything(&mut self) {
        for _ in 0..200 {
            for peer in 0..PEERS {
                (0..PEERS).for_each(|from| self.step(&Step::Hear(peer, from)));
            }
        }
        for peer in 0..PEERS {
            for from in (0..PEERS).filter(|from| *from != peer) {
                assert_eq!(self.heard[peer][from], self.written[from].len());
            }
        }
    }
}

fn id_of(index: usize) -> PeerId {
    PeerId([u8::try_from(index).unwrap(); 32])
}

proptest! {
    #[test]
    fn once_all_is_heard_all_follow_the_highest_claim_and_nobody_announces_what_that_took(
        steps in prop::collection::vec(step(), 0..80)
    ) {
        let mut mesh = Mesh::new();
        steps.iter().for_each(|step| mesh.step(step));
        mesh.hear_everything();
        // who announces each address with the highest number of all
        let mut macs: BTreeMap<Mac, (u64, BTreeSet<PeerId>)> = BTreeMap::new();
        let mut ips: BTreeMap<IpAddr, (u64, BTreeSet<PeerId>)> = BTreeMap::new();
        for (index, peer) in mesh.peers.iter().enumerate() {
            for own in peer.own.values() {
                note(macs.entry(own.spec.mac).or_default(), own.claim, id_of(index));
                for ip in &own.spec.ips {
                    note(ips.entry(*ip).or_default(), own.claim, id_of(index));
                }
            }
        }
        for (index, peer) in mesh.peers.iter().enumerate() {
            let seen: BTreeMap<_, _> = peer.macs().map(|(_, mac, owner)| (mac, owner)).collect();
            prop_assert!(seen.keys().eq(macs.keys()));
            for (mac, owner) in seen {
                prop_assert!(macs[&mac].1.contains(&owner));
            }
            let seen: BTreeMap<_, _> = peer.ips().map(|(_, ip, _, owner)| (ip, owner)).collect();
            prop_assert!(seen.keys().eq(ips.keys()));
            for (ip, owner) in seen {
                prop_assert!(ips[&ip].1.contains(&owner));
            }
            for own in peer.own.values() {
                prop_assert!(macs[&own.spec.mac].1.contains(&id_of(index)));
                prop_assert!(own.spec.ips.iter().all(|ip| ips[ip].1.contains(&id_of(index))));
            }
        }
    }
}

fn note((highest, who): &mut (u64, BTreeSet<PeerId>), claim: u64, peer: PeerId) {
    if claim > *highest {
        (*highest, *who) = (claim, BTreeSet::new());
    }
    if claim == *highest {
        who.insert(peer);
    }
}

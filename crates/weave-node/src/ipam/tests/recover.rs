//! A disk that came back older than it was.

use weave_wire::proto::EndpointRecord;

use super::*;

/// What the peers hold of a host's log, in the form that a start is given it.
fn former(host: &Host) -> Vec<entry::Body> {
    host.log.values().cloned().collect()
}

/// The disk of a host that was set back to `before`, started again by its peers' leave.
fn set_back(number: u8, before: &BTreeMap<Vec<u8>, Vec<u8>>) -> Host {
    let mut host = Host::with(number, RANGE, before);
    host.ipam.await_former(host.now);
    host
}

fn adopt(host: &mut Host, former: Vec<entry::Body>) {
    host.ipam.adopt_former(former, 9, host.now);
    host.drain();
}

#[test]
fn until_the_former_log_is_heard_requests_are_refused_with_that_reason() {
    let mut before = Host::new(1);
    before.allocate(1, "10.32.0.0/24", None);
    let mut host = set_back(1, &before.disk);
    let refusal = host.refusal(7, "10.32.0.0/24", None);
    assert!(refusal.contains("hears from its peers first"), "{refusal}");
    assert!(host.ipam.is_recovering());
    host.ask(8, "10.32.0.0/24", None);
    assert!(!host.answers.contains_key(&8), "it waits");
    adopt(&mut host, former(&before));
    assert_eq!(host.answers[&8], Ok(ip("10.32.0.2")));
    assert_eq!(host.ipam.status().recovered, None, "nothing was forgotten");
}

#[test]
fn a_loan_that_the_disk_forgot_is_honoured_and_stored_again() {
    let (mut owner, mut borrower) = pair();
    let disk = owner.disk.clone();
    borrower.ask(2, RANGE, Some("10.40.0.6"));
    converse(&mut owner, &mut borrower);
    assert!(borrower.answers[&2].is_ok());
    let log = former(&owner);
    let mut owner = set_back(1, &disk);
    adopt(&mut owner, log.clone());
    let refusal = owner.refusal(7, RANGE, Some("10.40.0.6"));
    assert!(
        refusal.contains("in use by a container of peer"),
        "{refusal}"
    );
    let told = owner.ipam.status().recovered.unwrap();
    assert!(told.contains("1 loan(s)"), "{told}");
    assert_eq!(former(&owner), log, "our log says the same again");
    let mut again = owner.restarted(1);
    let refusal = again.refusal(8, RANGE, Some("10.40.0.6"));
    assert!(refusal.contains("in use"), "{refusal}");
}

#[test]
fn a_grant_that_the_disk_forgot_stays_granted() {
    let (mut owner, mut grantee) = pair();
    let disk = owner.disk.clone();
    grantee.ask(2, RANGE, None);
    converse(&mut owner, &mut grantee);
    let granted = *grantee.answers[&2].as_ref().unwrap();
    let log = former(&owner);
    let mut owner = set_back(1, &disk);
    adopt(&mut owner, log.clone());
    let refusal = owner.refusal(7, RANGE, Some(&granted.to_string()));
    assert!(refusal.contains("belongs to peer"), "{refusal}");
    assert_eq!(former(&owner), log);
}

#[test]
fn a_borrower_that_forgot_its_loan_keeps_it_while_a_container_uses_it() {
    let (mut owner, mut borrower) = pair();
    let disk = borrower.disk.clone();
    borrower.ask(2, RANGE, Some("10.40.0.6"));
    converse(&mut owner, &mut borrower);
    let mut borrower = set_back(2, &disk);
    borrower.now = Time::from_secs(9);
    owner.now = borrower.now;
    borrower
        .ipam
        .claim("web", net(RANGE), ip("10.40.0.6"), borrower.now);
    borrower.reach(&[1]);
    converse(&mut owner, &mut borrower);
    adopt(&mut borrower, Vec::new());
    converse(&mut owner, &mut borrower);
    let held = borrower.ipam.lookup("web");
    assert_eq!(held.first().and_then(|held| held.lender), Some(id(1)));
    assert_eq!(owner.ipam.status().shares[0].lent, 1, "it was not returned");
    borrower.release(RANGE, ip("10.40.0.6"));
    converse(&mut owner, &mut borrower);
    assert_eq!(owner.ipam.status().shares[0].lent, 0);
}

#[test]
fn what_containers_of_this_host_use_is_held_again_and_can_be_released() {
    let mut before = Host::new(1);
    before.allocate(1, "10.32.0.0/24", None);
    let disk = before.disk.clone();
    let second = before.allocate(2, "10.32.0.0/24", None);
    let mut host = set_back(1, &disk);
    host.ipam
        .claim("web", net("10.32.0.0/24"), second, host.now);
    adopt(&mut host, former(&before));
    assert_ne!(host.allocate(3, "10.32.0.0/24", None), second);
    assert_eq!(host.ipam.lookup("web").len(), 1);
    assert!(host.disk.keys().any(|key| key.ends_with(b"held/0a200002")));
    host.release("10.32.0.0/24", second);
    assert!(host.ipam.lookup("web").is_empty());
}

/// The former log of a host whose endpoint has 10.32.0.2.
fn former_with_endpoint(before: &Host) -> Vec<entry::Body> {
    let mut log = former(before);
    log.push(entry::Body::Subnet(proto::SubnetRecord {
        ip: vec![10, 32, 0, 0],
        prefix_len: 24,
        segment: 5,
        strict: false,
        ..Default::default()
    }));
    log.push(entry::Body::Endpoint(EndpointRecord {
        segment: 5,
        mac: vec![2, 0, 0, 0, 0, 1],
        ips: vec![vec![10, 32, 0, 2]],
        claim: 1,
        container: "web".to_owned(),
    }));
    log
}

#[test]
fn what_the_former_log_announced_for_endpoints_is_not_given_to_others() {
    let mut before = Host::new(1);
    before.allocate(1, "10.32.0.0/24", None);
    let mut host = set_back(1, &before.disk);
    adopt(&mut host, former_with_endpoint(&before));
    assert_eq!(host.allocate(3, "10.32.0.0/24", None), ip("10.32.0.3"));
}

#[test]
fn numbers_of_ipv6_addresses_of_the_former_log_are_held_again_in_the_range() {
    let mut before = Host::new(1);
    before.allocate(1, "10.32.0.0/24", None);
    let mut log = former_with_endpoint(&before);
    let v6 = "fd00:5::a20:103".parse::<std::net::Ipv6Addr>();
    let v6 = v6.expect("an address").octets().to_vec();
    if let Some(entry::Body::Endpoint(record)) = log.last_mut() {
        record.ips.push(v6);
    }
    let mut host = set_back(1, &before.disk);
    adopt(&mut host, log);
    let held = host.ipam.lookup(NUMBER_OF_IPV6);
    let held: Vec<_> = held.iter().map(|held| (held.ip, held.subnet)).collect();
    assert_eq!(held, [(ip("10.32.1.3"), net(RANGE))]);
    assert!(
        host.refusal(3, "10.32.1.0/24", Some("10.32.1.3"))
            .contains("in use"),
        "it is given to nobody else"
    );
}

#[test]
fn what_was_released_since_the_start_is_free_whatever_the_former_log_says() {
    let mut before = Host::new(1);
    before.allocate(1, "10.32.0.0/24", None);
    assert_eq!(
        before.allocate(2, "10.32.0.0/24", None),
        ip("10.32.0.2"),
        "the endpoint's"
    );
    let mut host = set_back(1, &before.disk);
    host.release("10.32.0.0/24", ip("10.32.0.2"));
    adopt(&mut host, former_with_endpoint(&before));
    assert_eq!(host.ipam.status().recovered, None);
    let again = host.allocate(3, "10.32.0.0/24", Some("10.32.0.2"));
    assert_eq!(again, ip("10.32.0.2"));
}

#[test]
fn an_address_in_use_that_is_another_peers_is_reported() {
    let (mut owner, mut host) = pair();
    host.ipam
        .claim("web", net(RANGE), ip("10.40.0.9"), host.now);
    converse(&mut owner, &mut host);
    host.pass(1000);
    let notes = host.ipam.status().notes;
    assert!(
        notes.iter().any(|note| note.contains("10.40.0.9 of `web`")),
        "{notes:?}"
    );
}

#[test]
fn what_a_container_of_a_peer_has_is_given_to_nobody_though_the_disk_forgot_to_whom_it_was_lent() {
    let mut owner = Host::new(1);
    assert_eq!(owner.allocate(1, "10.41.0.0/28", None), ip("10.41.0.1"));
    let endpoint = entry::Body::Endpoint(EndpointRecord {
        ips: vec![ip("10.41.0.2").octets().to_vec()],
        ..EndpointRecord::default()
    });
    let now = owner.now;
    owner.ipam.apply(id(2), 5, None, Some(&endpoint), now);
    assert_eq!(owner.allocate(2, "10.41.0.0/28", None), ip("10.41.0.3"));
    let refusal = owner.refusal(3, "10.41.0.0/28", Some("10.41.0.2"));
    assert!(
        refusal.contains("in use by a container of peer"),
        "{refusal}"
    );
    owner.ask(4, "10.41.0.0/28", Some("10.41.0.2"));
    assert!(!owner.answers.contains_key(&4), "it may have moved here");
    let now = owner.now;
    owner.ipam.apply(id(2), 5, Some(&endpoint), None, now);
    owner.ipam.handle_timeout(now);
    owner.drain();
    assert_eq!(owner.answers[&4], Ok(ip("10.41.0.2")));
}

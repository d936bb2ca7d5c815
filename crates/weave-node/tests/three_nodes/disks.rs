//! What must be on disk before anything else happens.

use weave_node::check_stored;

use super::*;

#[test]
fn an_address_is_answered_only_once_it_is_durable() {
    let mut mesh = Mesh::connected();
    mesh.with(0, |node, now| node.allocate(1, "first", range(), None, now));
    mesh.run_until(5 * SECOND, |mesh| mesh.answer(0, 1).is_some());
    assert!(matches!(mesh.answer(0, 1), Some(Ok(_))));

    mesh.set_disk(0, Disk::Stalls);
    mesh.with(0, |node, now| {
        node.allocate(2, "second", range(), None, now);
    });
    mesh.run(2 * SECOND);
    assert_eq!(mesh.answer(0, 2), None);
    assert!(
        !mesh.hosts[0].out.to_persist.is_empty(),
        "it waits for the disk"
    );
    mesh.set_disk(0, Disk::Works);
    mesh.run(SECOND);
    let Some(Ok(second)) = mesh.answer(0, 2).cloned() else {
        panic!("{:?}", mesh.answer(0, 2));
    };

    mesh.set_disk(0, Disk::Refuses);
    mesh.with(0, |node, now| node.allocate(3, "third", range(), None, now));
    mesh.run(5 * SECOND);
    assert!(matches!(
        mesh.answer(0, 3),
        Some(Err(IpamError::Storage { .. }))
    ));
    let held: Vec<_> = mesh.hosts[0].node.allocated().collect();
    assert_eq!(held.len(), 2, "{held:?}");
    assert!(held.iter().any(|held| IpAddr::V4(held.ip) == second));
}

#[test]
fn nothing_is_sent_before_the_boot_counter_is_durable() {
    let mut mesh = Mesh::new([Disk::Stalls, Disk::Works, Disk::Works]);
    mesh.run(10 * SECOND);
    assert!(
        mesh.hosts[1].out.sent > 0 && mesh.hosts[2].out.sent > 0,
        "it was dialled"
    );
    assert!(!mesh.hosts[0].node.is_started());
    assert_eq!(mesh.hosts[0].out.sent, 0);
    mesh.set_disk(0, Disk::Works);
    assert!(mesh.hosts[0].node.is_started());
    mesh.run_until(60 * SECOND, Mesh::is_full);

    let mut refused = Mesh::new([Disk::Works, Disk::Refuses, Disk::Works]);
    refused.run(60 * SECOND);
    assert!(!refused.hosts[1].node.is_started());
    assert_eq!(refused.hosts[1].out.sent, 0);
    assert_eq!(refused.status(0).peers.len(), 2);
}

#[test]
fn without_its_identity_or_boot_counter_no_other_peer_is_begun_in_silence() {
    let record = |key: &str, value: &[u8]| (key.as_bytes().to_vec(), value.to_vec());
    let identity = record("identity", &[7; 32]);
    let boot = record("boot", &[1, 0, 0, 0, 0, 0, 0, 0]);
    let held = record("ipam/held/0a200001", b"x");
    assert_eq!(check_stored(&[]), Ok(()));
    let whole = [identity.clone(), boot.clone(), held.clone()];
    assert_eq!(check_stored(&whole), Ok(()));
    for (stored, text) in [
        (vec![boot.clone(), held.clone()], "`identity` is missing"),
        (vec![identity.clone(), held], "`boot` is missing"),
        (
            vec![identity, record("boot", b"1")],
            "`boot` is damaged: put back a copy",
        ),
        (vec![record("identity", b""), boot], "`identity` is damaged"),
    ] {
        let error = check_stored(&stored).expect_err("refused").to_string();
        assert!(error.contains(text), "{error}");
    }
}

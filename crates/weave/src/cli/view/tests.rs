//! Golden text of every view.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::types::{
    BannedBy, Counters, PasswordStatus, PluginStatus, ProcessStatus, TapStatus, Traffic,
};

use super::*;

const NYC: (&str, &str) = ("4a:0f:f6:ec:1c:93", "nyc");
const LON: (&str, &str) = ("7e:21:4a:70:2f:45", "lon");
const MAC: (&str, &str) = ("7e:ae:cd:d5:23:8d", "mac");

fn bare(address: &str, outbound: bool, state: ConnectionState) -> ConnectionStatus {
    ConnectionStatus {
        address: address.to_owned(),
        outbound,
        state,
        peer: None,
        nickname: None,
        path: None,
        info: None,
        retry_in_ms: None,
        protocol_version: None,
        password_generation: None,
        cipher: None,
        pq: None,
        rtt_us: None,
        age_ms: None,
        rekeys: None,
        mtu: None,
        offloads: Vec::new(),
    }
}

fn all_connections() -> Vec<ConnectionStatus> {
    let established = ConnectionStatus {
        peer: Some(LON.0.to_owned()),
        nickname: Some(LON.1.to_owned()),
        path: Some("direct".to_owned()),
        cipher: Some("aes-256-gcm".to_owned()),
        pq: Some(true),
        rtt_us: Some(412),
        mtu: Some(1410),
        offloads: vec!["gso".to_owned(), "gro".to_owned()],
        ..bare("192.0.2.12:33866", false, ConnectionState::Established)
    };
    let silent = ConnectionStatus {
        address: "192.0.2.17:6783".to_owned(),
        outbound: true,
        info: Some("no answer on UDP 6783".to_owned()),
        pq: Some(false),
        rtt_us: Some(1_020_000),
        ..established.clone()
    };
    let relayed = ConnectionStatus {
        path: Some(format!("relay {}({})", LON.0, LON.1)),
        peer: Some(MAC.0.to_owned()),
        nickname: Some(MAC.1.to_owned()),
        info: Some("no direct path: no answer on UDP 6783".to_owned()),
        ..established.clone()
    };
    let retrying = ConnectionStatus {
        info: Some("refused: wrong password?".to_owned()),
        retry_in_ms: Some(3100),
        ..bare("192.0.2.14:6783", true, ConnectionState::Retrying)
    };
    let failed = ConnectionStatus {
        info: Some("cannot connect to ourselves".to_owned()),
        ..bare("[2001:db8::1]:6783", true, ConnectionState::Failed)
    };
    let pending = ConnectionStatus {
        peer: Some(MAC.0.to_owned()),
        nickname: Some(MAC.1.to_owned()),
        ..bare("192.0.2.13:6783", true, ConnectionState::Pending)
    };
    let connecting = bare("node9.example.com", true, ConnectionState::Connecting);
    vec![
        established,
        silent,
        relayed,
        pending,
        retrying,
        failed,
        connecting,
    ]
}

fn generation(generation: u16, held: bool, in_use: bool, sessions: u64) -> PasswordStatus {
    PasswordStatus {
        generation,
        held,
        in_use,
        empty: false,
        sessions,
    }
}

fn peer(id: (&str, &str), others: &[(&str, &str)], sessions: u32) -> PeerStatus {
    let connections = others.iter().enumerate().map(|(i, other)| PeerConnection {
        name: other.0.to_owned(),
        nickname: other.1.to_owned(),
        address: (i == 0).then(|| "192.0.2.12:6783".parse().unwrap()),
        outbound: Some(i == 0),
        established: i < 2,
    });
    PeerStatus {
        name: id.0.to_owned(),
        nickname: id.1.to_owned(),
        version: "0.1.0".to_owned(),
        sessions,
        connections: connections.collect(),
        traffic: (id != NYC).then_some(Traffic {
            frames_sent: 60,
            bytes_sent: 90_000,
            frames_received: 50,
            bytes_received: 5_000,
        }),
    }
}

fn owner(id: (&str, &str), size: u64, own: bool, reachable: bool) -> IpamOwner {
    IpamOwner {
        peer: id.0.to_owned(),
        nickname: id.1.to_owned(),
        size,
        own,
        reachable,
    }
}

fn entry(hostname: &str, address: &str, container: &str) -> DnsEntry {
    DnsEntry {
        hostname: hostname.to_owned(),
        address: address.parse().unwrap(),
        container: container.to_owned(),
        origin: NYC.0.to_owned(),
    }
}

/// With everything that a router can have.
pub(crate) fn full() -> StatusReport {
    StatusReport {
        ready: true,
        waiting_for: None,
        version: "0.1.0".to_owned(),
        router: RouterStatus {
            protocol: "weave".to_owned(),
            protocol_min_version: 1,
            protocol_max_version: 1,
            password: true,
            passwords: vec![generation(0, true, true, 2)],
            peer_discovery: true,
            name: NYC.0.to_owned(),
            nickname: NYC.1.to_owned(),
            port: 6783,
            targets: vec!["192.0.2.12".to_owned(), "node9.example.com".to_owned()],
            connections: all_connections(),
            peers: vec![
                peer(NYC, &[LON, MAC], 2),
                peer(LON, &[NYC, MAC, ("ee:ee:ee:ee:ee:ee", "")], 2),
                peer(MAC, &[NYC], 2),
            ],
            warnings: vec![
                "more than one host uses the identity of this host: run `weave reset` on the one \
                 that got a copy of the disk"
                    .to_owned(),
            ],
            banned: Vec::new(),
        },
        ipam: Some(IpamStatus {
            status: "ready".to_owned(),
            range: "10.32.0.0/12".to_owned(),
            range_size: 1 << 20,
            active: 3,
            pending_allocates: 1,
            pending_claims: 2,
            default_subnet: "10.32.0.0/12".to_owned(),
            entries: vec![
                owner(MAC, 64, false, false),
                owner(LON, 262_144, false, true),
                owner(NYC, 786_368, true, true),
            ],
        }),
        dns: Some(DnsStatus {
            domain: "weave.local.".to_owned(),
            upstream: vec!["192.0.2.53".to_owned(), "2001:db8::53".to_owned()],
            address: vec!["172.17.0.1:53".to_owned()],
            ttl: 1,
            entries: vec![
                entry("nyc.weave.local.", "10.32.0.1", "a1b2c3d4e5f60718"),
                entry(
                    "a-rather-long-name.weave.local.",
                    "10.40.0.1",
                    "a1b2c3d4e5f6",
                ),
                entry("printer.weave.local.", "192.168.7.9", "weave:extern"),
            ],
        }),
        plugin: Some(PluginStatus {
            driver_name: "weavemesh".to_owned(),
        }),
        process: Some(ProcessStatus {
            open_files: 40,
            open_files_limit: 1024,
            resident_bytes: 12 << 20,
            cpu_ms: 1_500,
            started_s: 1_700_000_000,
        }),
        offloads: Some(OffloadStatus {
            udp: vec!["gso".to_owned(), "gro".to_owned()],
            taps: vec![TapStatus {
                name: "weave-tap".to_owned(),
                offloads: ["tso", "uso", "checksum"].map(str::to_owned).to_vec(),
                reason: None,
            }],
        }),
        drops: BTreeMap::from([
            ("no_session".to_owned(), 3),
            ("session_wrong_password".to_owned(), 2),
            ("gossip_known".to_owned(), 5),
        ]),
        counters: Some(Counters {
            frames_sent: 100,
            bytes_sent: 150_000,
            frames_received: 90,
            bytes_received: 9_000,
            sessions_made: 7,
            sessions_lost: 4,
            batches_taken: 12,
            dns_queries: BTreeMap::from([("answered".to_owned(), 8), ("failed".to_owned(), 1)]),
        }),
    }
}

/// Neither plugin nor DNS nor password, not ready, alone.
fn alone() -> StatusReport {
    let mut report = full();
    report.ready = false;
    report.waiting_for = Some("Docker".to_owned());
    report.dns = None;
    report.plugin = None;
    report.ipam = None;
    report.router.password = false;
    report.router.passwords.clear();
    report.router.targets.clear();
    report.router.connections.clear();
    report.router.peers = vec![peer(NYC, &[], 0)];
    report
}

#[test]
fn status_of_a_mesh_of_three() {
    insta::assert_snapshot!(status(&full()));
}

#[test]
fn status_of_a_router_alone_without_password_says_what_it_waits_for() {
    insta::assert_snapshot!(status(&alone()));
}

#[test]
fn status_fits_a_screen() {
    assert!(status(&full()).lines().count() < 35);
}

/// Whatever can be wrong is.
fn troubled() -> StatusReport {
    let mut report = full();
    report.ready = false;
    report.router.passwords.push(generation(1, true, false, 0));
    report.router.warnings = (0..40).map(|number| format!("trouble {number}")).collect();
    report.router.banned = vec![ban(NYC, "")];
    report
}

#[test]
fn a_status_full_of_trouble_fits_a_screen_too() {
    let text = status(&troubled());
    assert!(text.lines().count() < 35, "{text}");
    assert!(text.contains("39 more, see"), "{text}");
}

#[test]
fn the_first_line_is_a_verdict_that_names_the_worst_problem() {
    let first = |report: &StatusReport| status(report).lines().next().unwrap().to_owned();
    let mut report = full();
    report.router.connections.truncate(3);
    report.router.warnings.clear();
    if let Some(ipam) = &mut report.ipam {
        ipam.entries.retain(|owner| owner.reachable);
    }
    let mut verdicts = vec![first(&report)];
    report.router.peers.truncate(2);
    verdicts.push(first(&report));
    report.router.peers.truncate(1);
    verdicts.push(first(&report));
    report.router.targets.clear();
    verdicts.push(first(&report));
    if let Some(ipam) = &mut report.ipam {
        ipam.status = "waiting for 2 of 3 targets; a note".to_owned();
    }
    verdicts.push(first(&report));
    verdicts.extend([first(&alone()), first(&full()), first(&troubled())]);
    insta::assert_snapshot!(verdicts.join("\n"));
}

#[test]
fn labels_and_their_order_are_those_of_weave_net() {
    let text = status(&full());
    let labels = text
        .lines()
        .filter_map(|line| line.split_once(": ").map(|(label, _)| label.trim()));
    let ours = ["well", "not well", "Warning", "Offloads"];
    let labels: Vec<_> = labels.filter(|label| !ours.contains(label)).collect();
    assert_eq!(
        labels,
        [
            "Version",
            "Service",
            "Protocol",
            "Name",
            "Encryption",
            "PeerDiscovery",
            "Targets",
            "Connections",
            "Peers",
            "TrustedSubnets",
            "Service",
            "Status",
            "Range",
            "DefaultSubnet",
            "Service",
            "Domain",
            "Upstream",
            "TTL",
            "Entries",
            "Service",
            "DriverName",
        ]
    );
    assert!(
        text.contains("          Peers: 3 (with 6 established connections)\n"),
        "{text}"
    );
}

#[test]
fn labels_end_at_column_15() {
    for line in status(&full())
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
    {
        assert_eq!(line.find(": "), Some(LABEL_WIDTH), "{line}");
    }
}

#[test]
fn targets_as_typed() {
    insta::assert_snapshot!(targets(&full().router.targets));
}

#[test]
fn connections_with_the_reason_for_each_that_is_not_up() {
    insta::assert_snapshot!(connections(&all_connections()));
}

#[test]
fn a_mesh_whose_password_is_being_changed_shows_how_far_that_is() {
    let mut report = full();
    report.router.passwords = vec![
        PasswordStatus {
            empty: true,
            ..generation(0, true, false, 1)
        },
        generation(1, true, true, 12),
        generation(2, true, false, 0),
        generation(65_535, false, false, 1),
    ];
    report.router.connections.truncate(2);
    for (connection, generation) in report.router.connections.iter_mut().zip([0, 1]) {
        connection.password_generation = Some(generation);
    }
    let refused = "stays on password generation 0, refused: wrong password?";
    report.router.connections[0].info = Some(refused.to_owned());
    let status = status(&report);
    let line = status.lines().find(|line| line.contains("Passwords"));
    let lists = passwords(&report.router.passwords) + &connections(&report.router.connections);
    insta::assert_snapshot!(format!("{}\n\n{lists}", line.unwrap()));
}

#[test]
fn peers_with_their_connections() {
    let mut router = full().router;
    let hub = peer(("66:66:66:66:66:66", "hub"), &[NYC, LON], 40);
    router.peers.push(hub);
    insta::assert_snapshot!(peers(&router));
}

fn ban(who: (&str, &str), reason: &str) -> BannedPeer {
    BannedPeer {
        name: who.0.to_owned(),
        nickname: who.1.to_owned(),
        key: "0123456789abcdef".repeat(4),
        banned: BannedBy {
            by: LON.0.to_owned(),
            nickname: LON.1.to_owned(),
            reason: reason.to_owned(),
        },
    }
}

#[test]
fn the_banned_come_last_with_who_banned_them_and_why() {
    let mut router = full().router;
    router.peers.truncate(1);
    router.banned = vec![ban(MAC, "stolen \u{1b}[31mfrom the van"), ban(("", ""), "")];
    insta::assert_snapshot!(peers(&router), @r"
    4a:0f:f6:ec:1c:93(nyc)
       -> 192.0.2.12:6783       7e:21:4a:70:2f:45(lon)                established
       <- -                     7e:ae:cd:d5:23:8d(mac)                established
    7e:ae:cd:d5:23:8d(mac) banned by 7e:21:4a:70:2f:45(lon): stolen ?[31mfrom the van
       key 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    () banned by 7e:21:4a:70:2f:45(lon)
       key 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    ");
    let json = serde_json::to_value(router.all_peers()).unwrap();
    let words = |index: usize, field: &str| json[index]["banned"][field].clone();
    assert_eq!(
        (words(0, "by"), words(1, "by")),
        (Value::Null, LON.0.into())
    );
    assert_eq!(words(2, "reason"), "");
}

#[test]
fn status_says_that_somebody_is_banned_and_when_it_is_this_host() {
    let mut report = full();
    let line = |report: &StatusReport| {
        let text = status(report);
        let line = text.lines().find(|line| line.contains("Banned:"));
        line.map(|line| line.trim().to_owned())
    };
    assert_eq!(line(&report), None);
    report.router.banned = vec![ban(MAC, "stolen")];
    let expected = "Banned: 1 (see `weave status peers`)";
    assert_eq!(line(&report).as_deref(), Some(expected));
    report.router.banned.push(ban(NYC, "stolen"));
    let expected = "Banned: this host, by 7e:21:4a:70:2f:45(lon): stolen; `weave reset` and \
                    another launch make a new peer of it";
    assert_eq!(line(&report).as_deref(), Some(expected));
}

#[test]
fn rmpeer_says_what_it_did_and_what_to_do_besides() {
    let mut answer = BanAnswer {
        peer: ban(MAC, "stolen"),
        was_banned: false,
        is_known: true,
        ips: 64,
    };
    insta::assert_snapshot!(banned(&answer), @r"
    7e:ae:cd:d5:23:8d(mac) is banned: all peers end their sessions with it
    key 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    64 IPs taken over from 7e:ae:cd:d5:23:8d(mac)
    whoever has that host knows the password of the mesh: change it, see `weave password --help`
    ");
    answer.was_banned = true;
    answer.is_known = false;
    answer.ips = 0;
    insta::assert_snapshot!(banned(&answer), @r"
    7e:ae:cd:d5:23:8d(mac) is banned already, by 7e:21:4a:70:2f:45(lon): stolen
    nothing has been heard of such a peer since this router started
    key 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    ");
}

#[test]
fn names_without_their_domain() {
    insta::assert_snapshot!(dns(full().dns.as_ref()));
    insta::assert_snapshot!(dns(None), @"DNS is off: the router was launched with --no-dns");
}

#[test]
fn names_of_hosts_with_another_domain_are_shown_whole_and_counted() {
    let mut report = full();
    let status = report.dns.as_mut().unwrap();
    status.domain = "Corp.weave.local.".to_owned();
    status.entries.truncate(2);
    "db.corp.Weave.local.".clone_into(&mut status.entries[0].hostname);
    insta::assert_snapshot!(dns(report.dns.as_ref()), @r"
    db           10.32.0.1       a1b2c3d4e5f6 4a:0f:f6:ec:1c:93
    a-rather-long-name.weave.local. 10.40.0.1       a1b2c3d4e5f6 4a:0f:f6:ec:1c:93
    ");
    let text = super::status(&report);
    assert!(
        text.contains("Elsewhere: 1 of them outside of the domain"),
        "{text}"
    );
    assert!(!super::status(&full()).contains("Elsewhere"));
}

#[test]
fn owners_of_addresses_ourselves_first() {
    let mut status = full().ipam.unwrap();
    insta::assert_snapshot!(ipam(Some(&status)));
    let without = ipam(Some(&status));
    status.status = "ready; conflict: address 10.32.0.1; another".to_owned();
    let with = format!("{without}conflict: address 10.32.0.1\nanother\n");
    assert_eq!(ipam(Some(&status)), with);
    status.entries.clear();
    status.status = "idle".to_owned();
    insta::assert_snapshot!(ipam(Some(&status)), @"no addresses are owned yet: idle");
}

#[test]
fn local_endpoints() {
    let entry = |container: &str, addresses: &[&str]| PsEntry {
        container: container.to_owned(),
        name: None,
        mac: "7a:42:86:d6:fb:0f".to_owned(),
        addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
        traffic: None,
    };
    insta::assert_snapshot!(ps(&[
        entry(
            "0123456789abcdef0123456789abcdef",
            &["10.32.0.1/12", "10.2.1.1/24"]
        ),
        entry("/run/netns/a-namespace", &[]),
    ]));
}

#[test]
fn one_session_is_one_connection() {
    let mut report = alone();
    report.router.peers = vec![peer(NYC, &[LON], 1)];
    assert_eq!(
        count_peers(&report.router),
        "1 (with 1 established connection)"
    );
}

#[test]
fn a_nickname_cannot_play_with_the_terminal() {
    let mut report = alone();
    report.router.nickname = "a\x1b[2J\nb\u{202e}".to_owned();
    let text = status(&report);
    assert!(text.contains("(a?[2J?b?)"), "{text}");
}

#[test]
fn a_report_survives_json() {
    for report in [full(), alone()] {
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<StatusReport>(&json).unwrap(), report);
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&alone()).unwrap());
}

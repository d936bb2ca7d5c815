use proptest::prelude::*;

use super::*;
use crate::api::types::PeerConnection;

const NYC: (&str, &str) = ("4a:0f:f6:ec:1c:93", "nyc");
const LON: (&str, &str) = ("2e:77:01:aa:00:01", "lon");
const MAC: (&str, &str) = ("9c:77:01:aa:00:02", "mac");
const ODD: (&str, &str) = ("c0:77:01:aa:00:03", "<o>\"d\\d\u{1b}[2J");

fn peer((name, nickname): (&str, &str), sessions: u32, named: &[(&str, &str)]) -> PeerStatus {
    let connection = |(name, nickname): &(&str, &str)| PeerConnection {
        name: (*name).to_owned(),
        nickname: (*nickname).to_owned(),
        address: None,
        outbound: None,
        established: true,
    };
    PeerStatus {
        name: name.to_owned(),
        nickname: nickname.to_owned(),
        version: "1".to_owned(),
        sessions,
        connections: named.iter().map(connection).collect(),
        traffic: None,
    }
}

fn line(address: &str, peer: Option<(&str, &str)>, rest: serde_json::Value) -> ConnectionStatus {
    let mut line = serde_json::json!({"address": address, "outbound": true, "state": "failed"});
    if let Some((name, nickname)) = peer {
        line["peer"] = name.into();
        line["nickname"] = nickname.into();
    }
    for (key, value) in rest.as_object().into_iter().flatten() {
        line[key] = value.clone();
    }
    serde_json::from_value(line).unwrap()
}

fn router(connections: Vec<ConnectionStatus>, peers: Vec<PeerStatus>) -> RouterStatus {
    RouterStatus {
        protocol: "weave".to_owned(),
        protocol_min_version: 1,
        protocol_max_version: 1,
        password: true,
        passwords: Vec::new(),
        peer_discovery: true,
        name: NYC.0.to_owned(),
        nickname: NYC.1.to_owned(),
        port: 6783,
        targets: Vec::new(),
        connections,
        peers,
        warnings: Vec::new(),
        banned: Vec::new(),
    }
}

/// One of each: direct, through a relay, of others, silent.
fn mixed() -> Graph {
    let relay = format!("relay {}({})", LON.0, LON.1);
    Graph::of(&router(
        vec![
            line(
                "192.0.2.2:6783",
                Some(LON),
                serde_json::json!({"state": "established", "path": "direct", "rtt_us": 412}),
            ),
            line(
                "192.0.2.2:6783",
                Some(MAC),
                serde_json::json!({"state": "established", "path": relay}),
            ),
            line(
                "192.0.2.4:6783",
                Some(ODD),
                serde_json::json!({"info": "no answer on UDP 6783"}),
            ),
            line(
                "192.0.2.9:6783",
                None,
                serde_json::json!({"info": "refused: wrong password?"}),
            ),
        ],
        vec![
            peer(ODD, 1, &[LON]),
            peer(MAC, 3, &[LON]),
            peer(NYC, 3, &[LON]),
            peer(LON, 3, &[NYC, MAC, ODD]),
        ],
    ))
}

#[test]
fn hosts_and_paths_as_text() {
    insta::assert_snapshot!(draw::text(&mixed()));
}

#[test]
fn hosts_and_paths_for_graphviz() {
    insta::assert_snapshot!(draw::dot(&mixed()));
}

#[test]
fn hosts_and_paths_as_a_picture() {
    insta::assert_snapshot!(draw::svg(&mixed()));
}

#[test]
fn a_host_alone_is_a_picture_too() {
    let alone = alone();
    assert_eq!(
        draw::text(&alone),
        "1 host\n4a:0f:f6:ec:1c:93(nyc)  this host\n"
    );
    assert!(draw::svg(&alone).ends_with("</svg>\n"));
}

#[test]
fn the_order_of_the_report_changes_nothing() {
    let mut router = router(
        Vec::new(),
        vec![
            peer(NYC, 1, &[LON]),
            peer(LON, 1, &[NYC]),
            peer(MAC, 0, &[]),
        ],
    );
    let one = Graph::of(&router);
    router.peers.reverse();
    assert_eq!(one, Graph::of(&router));
}

#[test]
fn where_a_peer_names_only_some_of_its_sessions_nothing_is_made_up() {
    let named: Vec<_> = (0..16).map(|_| LON).collect();
    let (one, other) = (peer(MAC, 40, &named), peer(ODD, 40, &named));
    assert_eq!(path_of_others(&one, &other, 50), None);
}

proptest! {
    #[test]
    fn a_nickname_cannot_break_out_of_a_picture(nickname: String) {
        let graph = Graph::of(&router(Vec::new(), vec![peer((NYC.0, &nickname), 0, &[])]));
        let svg = draw::svg(&graph);
        // tags of an empty picture, and not one more
        prop_assert_eq!(svg.matches('<').count(), draw::svg(&alone()).matches('<').count());
        let dot = draw::dot(&graph);
        let bare = dot.replace("\\\\", "").replace("\\\"", "");
        prop_assert_eq!(bare.matches('"').count(), 4);
        let text = draw::text(&graph);
        prop_assert_eq!(text.chars().filter(|char| char.is_control()).count(), 2, "two ends of lines");
    }
}

fn alone() -> Graph {
    Graph::of(&router(Vec::new(), vec![peer(NYC, 0, &[])]))
}

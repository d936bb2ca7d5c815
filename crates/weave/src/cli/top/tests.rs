//! Rates of two looks, and how they are shown.

use proptest::prelude::*;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::api::types::{ConnectionState, PsEntry, Traffic};
use crate::cli::top::rates::Rate;
use crate::cli::view::tests::full;

const SECOND: Duration = Duration::from_secs(1);

fn traffic(sent: u64, received: u64) -> Traffic {
    Traffic {
        frames_sent: sent / 1000,
        bytes_sent: sent,
        frames_received: received / 1000,
        bytes_received: received,
    }
}

fn container(id: &str, mac: u8, traffic: Option<Traffic>) -> PsEntry {
    PsEntry {
        container: id.to_owned(),
        name: None,
        mac: format!("02:77:0a:20:00:{mac:02x}"),
        addresses: vec![format!("10.32.0.{mac}/12"), format!("fd00:5::{mac}/64")],
        traffic,
    }
}

/// A mesh of three with some containers; `step` says how much has passed.
fn at(step: u64) -> Look {
    let mut report = full();
    let counters = [
        None,
        Some(traffic(
            1_000_000 + step * 25_000_000,
            2_000_000 + step * 1_250,
        )),
        Some(traffic(7_000_000_000, 900 + step * 125_000_000)),
    ];
    for (peer, counters) in report.router.peers.iter_mut().zip(counters) {
        peer.traffic = counters;
    }
    let mut attached = container("b0b0b0b0b0b0", 3, Some(traffic(0, 0)));
    attached.name = Some("web".to_owned());
    let containers = vec![
        container("weave:expose", 1, None),
        container(
            "a1b2c3d4e5f60718",
            2,
            Some(traffic(step * 500, step * 125_000)),
        ),
        attached,
        container(
            "/run/netns/lab",
            4,
            Some(traffic(9_000 + step * 1_000_000, 9_000)),
        ),
    ];
    Look { report, containers }
}

fn measured() -> Rates {
    let mut rates = Rates::between(&at(1), &at(2), SECOND);
    rates.sort(Order::Rate);
    rates
}

fn peer<'a>(rates: &'a Rates, nickname: &str) -> &'a rates::Peer {
    let found = rates.peers.iter().find(|peer| peer.nickname == nickname);
    found.unwrap()
}

#[test]
fn a_rate_is_what_came_to_pass_divided_by_the_time_it_took() {
    let rates = Rates::between(&at(1), &at(2), SECOND * 2);
    let lon = peer(&rates, "lon");
    let sent = Rate {
        bits_per_second: 100_000_000,
        frames_per_second: 12_500,
        bytes: 51_000_000,
        frames: 51_000,
    };
    assert_eq!(lon.sent, sent);
    assert_eq!(lon.received.bits_per_second, 5_000);
    assert_eq!(rates.seconds, 2.0);
    let none = Rates::between(&at(1), &at(1), Duration::ZERO);
    let rate = peer(&none, "lon").sent;
    assert_eq!((rate.bits_per_second, rate.bytes), (0, 26_000_000));
}

#[test]
fn a_counter_that_began_anew_counts_from_zero() {
    let mut after = at(0);
    after.report.router.peers[1].traffic = Some(traffic(125_000, 0));
    let rates = Rates::between(&at(5), &after, SECOND);
    let lon = peer(&rates, "lon");
    assert_eq!(lon.sent.bits_per_second, 1_000_000);
    assert_eq!(lon.received.bits_per_second, 0);
}

#[test]
fn who_was_not_there_before_has_no_rate_yet() {
    let (mut before, after) = (at(1), at(2));
    before.report.router.peers.truncate(2);
    before.containers.remove(3);
    let rates = Rates::between(&before, &after, SECOND);
    let mac = peer(&rates, "mac");
    assert_eq!(
        (mac.sent.bits_per_second, mac.received.bits_per_second),
        (0, 0)
    );
    assert_eq!(mac.sent.bytes, 7_000_000_000);
    let lab = rates
        .containers
        .iter()
        .find(|it| it.container == "/run/netns/lab");
    assert_eq!(lab.unwrap().sent.bits_per_second, 0);
    // a router of an earlier version counts nothing
    let mut silent = after;
    silent
        .report
        .router
        .peers
        .iter_mut()
        .for_each(|peer| peer.traffic = None);
    let rates = Rates::between(&silent, &silent, SECOND);
    assert_eq!(peer(&rates, "lon").sent, Rate::default());
}

#[test]
fn a_peer_is_shown_with_the_connection_that_is_up() {
    let rates = measured();
    let paths = ["lon", "mac"].map(|nickname| peer(&rates, nickname).path.clone());
    let relay = "relay 7e:21:4a:70:2f:45(lon)";
    assert_eq!(paths, [Some("direct".to_owned()), Some(relay.to_owned())]);
    assert_eq!(peer(&rates, "lon").rtt_us, Some(412));
    let mut look = at(1);
    look.report
        .router
        .connections
        .retain(|it| it.state == ConnectionState::Pending);
    let rates = Rates::between(&look, &look, SECOND);
    assert_eq!(peer(&rates, "mac").path.as_deref(), Some("pending"));
    assert_eq!(peer(&rates, "lon").path, None);
}

#[test]
fn containers_go_by_the_name_that_they_have_here() {
    let rates = measured();
    let called: Vec<_> = rates
        .containers
        .iter()
        .map(rates::Container::called)
        .collect();
    assert_eq!(called, ["/run/netns/lab", "nyc", "web"]);
    let mut look = at(1);
    for entry in &mut look.report.dns.as_mut().unwrap().entries {
        entry.origin = "7e:21:4a:70:2f:45".to_owned();
    }
    let rates = Rates::between(&look, &look, SECOND);
    assert_eq!(rates.containers[0].called(), "a1b2c3d4e5f60718");
}

#[test]
fn the_order_is_by_rate_total_or_name() {
    let mut rates = measured();
    let mut nicknames = |order| {
        rates.sort(order);
        let peers = rates.peers.iter().map(|peer| peer.nickname.clone());
        peers.collect::<Vec<_>>()
    };
    assert_eq!(nicknames(Order::Rate), ["mac", "lon"]);
    assert_eq!(nicknames(Order::Name), ["lon", "mac"]);
    assert_eq!(nicknames(Order::Total), ["mac", "lon"]);
}

#[test]
fn one_table_as_text() {
    insta::assert_snapshot!(table::text(&measured()));
}

#[test]
fn one_look_as_json() {
    let rates = measured();
    insta::assert_snapshot!(serde_json::to_string_pretty(&rates).unwrap());
}

#[test]
fn a_number_has_three_digits_that_count() {
    let mut look = at(1);
    let mut shown = |bytes| {
        look.report.router.peers[1].traffic = Some(traffic(bytes, 0));
        let rates = Rates::between(&look, &look, SECOND);
        table::peers(&rates).rows[0].last().cloned().unwrap()
    };
    for (bytes, text) in [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (123_456_789, "123 MB"),
        (u64::MAX, "18447 PB"),
    ] {
        assert_eq!(shown(bytes), text);
    }
}

fn drawn(screen: &Screen, width: u16, height: u16) -> String {
    let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    terminal.backend().to_string()
}

fn press(screen: &mut Screen, code: KeyCode) -> bool {
    screen.press(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn the_screen_has_both_tables_the_busiest_first() {
    insta::assert_snapshot!(drawn(&Screen::new(measured(), SECOND), 90, 16));
}

#[test]
fn a_narrow_screen_keeps_the_numbers() {
    insta::assert_snapshot!(drawn(&Screen::new(measured(), SECOND), 60, 12));
}

#[test]
fn the_screen_says_why_there_are_no_newer_rates_until_there_are() {
    let mut screen = Screen::new(measured(), SECOND);
    screen.complain("error: the router is not running\nhint: start it".to_owned());
    let said = "error: the router is not running; hint: start it";
    assert!(drawn(&screen, 90, 16).contains(said));
    screen.show(measured());
    assert!(!drawn(&screen, 90, 16).contains("error"));
}

#[test]
fn keys_end_it_sort_and_scroll() {
    let mut screen = Screen::new(measured(), SECOND);
    let first = |screen: &Screen, line| drawn(screen, 90, 16).lines().nth(line).unwrap().to_owned();
    assert!(first(&screen, 3).contains("mac"));
    assert!(press(&mut screen, KeyCode::Char('s')));
    assert!(drawn(&screen, 90, 16).contains("now by total"));
    press(&mut screen, KeyCode::Char('s'));
    assert!(first(&screen, 3).contains("lon"), "by name");
    // no further than to the last line, and back from there
    for _ in 0..5 {
        press(&mut screen, KeyCode::Down);
    }
    assert!(first(&screen, 3).contains("mac"));
    assert!(!drawn(&screen, 90, 16).contains("│lon"));
    press(&mut screen, KeyCode::Up);
    assert!(first(&screen, 3).contains("lon"));
    press(&mut screen, KeyCode::Tab);
    press(&mut screen, KeyCode::PageDown);
    assert!(first(&screen, 3).contains("lon"), "peers stay");
    assert!(drawn(&screen, 90, 16).contains("web"));
    assert!(!drawn(&screen, 90, 16).contains("/run/netns/lab"));
    press(&mut screen, KeyCode::Char('c'));
    press(&mut screen, KeyCode::PageUp);
    assert!(drawn(&screen, 90, 16).contains("/run/netns/lab"));
    press(&mut screen, KeyCode::Char('p'));
    press(&mut screen, KeyCode::Down);
    assert!(first(&screen, 3).contains("mac"));
    for code in [KeyCode::Char('q'), KeyCode::Esc] {
        assert!(!press(&mut screen, code));
    }
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(!screen.press(interrupt));
}

#[test]
fn what_peers_call_themselves_does_not_move_the_cursor() {
    let mut look = at(1);
    look.report.router.peers[1].nickname = "\u{1b}[2Jlon".to_owned();
    let rates = Rates::between(&look, &look, SECOND);
    assert!(table::text(&rates).contains("?[2Jlon"));
    assert!(drawn(&Screen::new(rates, SECOND), 90, 16).contains("?[2Jlon"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_counter_and_no_size_is_too_much(
        before in any::<[u64; 2]>(), after in any::<[u64; 2]>(), nanos in any::<u64>(),
        width in 1..200u16, height in 1..60u16,
    ) {
        let look = |[sent, received]: [u64; 2]| {
            let mut look = at(1);
            look.report.router.peers[1].traffic = Some(traffic(sent, received));
            look
        };
        let (before, after) = (look(before), look(after));
        let rates = Rates::between(&before, &after, Duration::from_nanos(nanos));
        drawn(&Screen::new(rates, SECOND), width, height);
    }
}

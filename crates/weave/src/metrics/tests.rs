//! The text is what the format says, and the dashboard asks for nothing else.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::cli::view::tests::full;

const DASHBOARD: &str = include_str!("../../../../docs/grafana.json");

/// One sample: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads the text as strictly as the specification of OpenMetrics 1.0 is written, for the types
/// that there are here.
fn read(text: &str) -> Result<Vec<Sample>, String> {
    let (mut samples, mut families) = (Vec::new(), BTreeSet::new());
    let mut family: Option<(String, Option<String>, Option<String>)> = None;
    let Some(text) = text.strip_suffix("# EOF\n") else {
        return Err("no # EOF at the end".to_owned());
    };
    let mut seen = BTreeSet::new();
    for line in text.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (kind, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let said = words
                .next()
                .ok_or_else(|| format!("incomplete: {line}"))?
                .to_owned();
            check_name(name)?;
            if !matches!(&family, Some((current, _, _)) if current == name) {
                if !families.insert(name.to_owned()) {
                    return Err(format!("{name} comes twice"));
                }
                family = Some((name.to_owned(), None, None));
            }
            let Some((_, of_type, help)) = &mut family else {
                return Err("no family".to_owned());
            };
            let slot = match kind {
                "TYPE" => of_type,
                "HELP" => help,
                other => return Err(format!("# {other}")),
            };
            if slot.replace(said).is_some() {
                return Err(format!("{kind} of {name} comes twice"));
            }
            continue;
        }
        let sample = read_sample(line)?;
        let Some((name, Some(of_type), Some(help))) = &family else {
            return Err(format!("no type or help: {line}"));
        };
        if !help.ends_with('.') || help.len() < 10 {
            return Err(format!("no sentence as help of {name}: {help}"));
        }
        let expected = match of_type.as_str() {
            "counter" => format!("{name}_total"),
            "gauge" => name.clone(),
            other => return Err(format!("type {other}")),
        };
        if sample.0 != expected {
            return Err(format!("{} in the family {name}", sample.0));
        }
        if of_type == "counter" && !(sample.2 >= 0.0 && sample.2.is_finite()) {
            return Err(format!("{line} counts down"));
        }
        if !seen.insert((sample.0.clone(), sample.1.clone())) {
            return Err(format!("{line} comes twice"));
        }
        samples.push(sample);
    }
    Ok(samples)
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    match begins && name.chars().all(plain) {
        true => Ok(()),
        false => Err(format!("`{name}` is no name")),
    }
}

fn read_sample(line: &str) -> Result<Sample, String> {
    let (name, labels, value) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = read_labels(rest)?;
            (name, labels, value)
        }
        None => {
            let (name, value) = line
                .split_once(' ')
                .ok_or_else(|| format!("no value: {line}"))?;
            (name, BTreeMap::new(), value)
        }
    };
    check_name(name)?;
    let value = value
        .parse()
        .map_err(|_| format!("`{value}` is no number: {line}"))?;
    Ok((name.to_owned(), labels, value))
}

/// `a="b",c="d"} 1`: the labels, and what stands behind them.
fn read_labels(text: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let (mut labels, mut rest) = (BTreeMap::new(), text);
    loop {
        let (name, behind) = rest
            .split_once("=\"")
            .ok_or_else(|| format!("no label: {rest}"))?;
        check_name(name)?;
        let (mut value, mut letters) = (String::new(), behind.char_indices());
        let end = loop {
            match letters.next().ok_or("a label without end")? {
                (at, '"') => break at,
                (_, '\\') => match letters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, letter @ ('\\' | '"'))) => value.push(letter),
                    other => return Err(format!("escape {other:?}")),
                },
                (_, letter) => value.push(letter),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("the label {name} comes twice"));
        }
        rest = behind.get(end + 1..).unwrap_or_default();
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    let value = rest
        .strip_prefix("} ")
        .ok_or_else(|| format!("no value: {rest}"))?;
    Ok((labels, value))
}

fn samples(report: StatusReport) -> Vec<Sample> {
    let text = text(report).unwrap();
    read(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

fn value(samples: &[Sample], name: &str, wanted: &[(&str, &str)]) -> f64 {
    let mut found = samples.iter().filter(|(known, labels, _)| {
        let fits = |(label, value): &(&str, &str)| labels.get(*label).is_some_and(|it| it == value);
        known == name && wanted.iter().all(fits)
    });
    let one = found
        .next()
        .unwrap_or_else(|| panic!("no {name} {wanted:?}"));
    assert!(found.next().is_none(), "{name} {wanted:?}");
    one.2
}

#[test]
fn the_metrics_of_a_mesh_of_three() {
    insta::assert_snapshot!(text(full()).unwrap());
}

#[test]
fn the_metrics_of_weave_net_keep_their_names() {
    let samples = samples(full());
    for (name, labels, expected) in [
        (
            "weave_connections",
            &[
                ("state", "established"),
                ("type", "direct"),
                ("encryption", "yes"),
            ][..],
            2.0,
        ),
        (
            "weave_connections",
            &[("state", "established"), ("type", "relay")],
            1.0,
        ),
        ("weave_connections", &[("state", "failed")], 1.0),
        ("weave_connection_terminations_total", &[], 4.0),
        ("weave_ips", &[("state", "local-used")], 3.0),
        ("weave_max_ips", &[], 1_048_576.0),
        ("weave_dns_entries", &[], 3.0),
        ("weave_ipam_unreachable_count", &[], 1.0),
        (
            "weave_ipam_unreachable_percentage",
            &[],
            64.0 * 100.0 / 1_048_576.0,
        ),
        ("weave_ipam_pending_allocates", &[], 1.0),
        ("weave_ipam_pending_claims", &[], 2.0),
    ] {
        assert_eq!(value(&samples, name, labels), expected, "{name}");
    }
}

#[test]
fn what_is_off_has_no_metrics_and_that_is_no_error() {
    let mut report = full();
    (report.ipam, report.dns, report.process, report.counters) = (None, None, None, None);
    let names: BTreeSet<_> = samples(report)
        .into_iter()
        .map(|(name, _, _)| name)
        .collect();
    assert!(names.contains("weave_connections"));
    for gone in [
        "weave_max_ips",
        "weave_dns_entries",
        "process_open_fds",
        "weave_frames_total",
    ] {
        assert!(!names.contains(gone), "{gone}");
    }
}

#[test]
fn peers_cannot_make_more_than_so_many_series() {
    let mut report = full();
    let one = report.router.connections[0].clone();
    report.router.connections = (0..1000)
        .map(|number| ConnectionStatus {
            peer: Some(format!(
                "4a:0f:f6:ec:{:02x}:{:02x}",
                number / 256,
                number % 256
            )),
            ..one.clone()
        })
        .collect();
    let peer = report.router.peers[1].clone();
    let peers = report
        .router
        .connections
        .iter()
        .map(|connection| PeerStatus {
            name: connection.peer.clone().unwrap(),
            ..peer.clone()
        });
    report.router.peers = peers.collect();
    let samples = samples(report);
    let count = |wanted| samples.iter().filter(|(name, _, _)| name == wanted).count();
    assert_eq!(count("weave_peer_rtt_seconds"), MOST_PEERS);
    assert_eq!(count("weave_peer_frames_total"), 2 * MOST_PEERS);
    assert_eq!(count("weave_peer_frame_bytes_total"), 2 * MOST_PEERS);
}

#[test]
fn the_strict_reader_refuses_what_is_wrong() {
    let good = "# HELP a Some words here.\n# TYPE a counter\na_total{b=\"c\\\"\"} 1\n# EOF\n";
    assert!(read(good).is_ok(), "{:?}", read(good));
    for (part, bad) in [
        ("# EOF\n", ""),
        ("# EOF\n", "# EOF\nmore 1\n"),
        ("# HELP a Some words here.\n", ""),
        ("# TYPE a counter\n", ""),
        ("Some words here.", "x"),
        ("a_total", "a"),
        ("a_total", "b_total"),
        (" 1\n", " one\n"),
        (" 1\n", " -1\n"),
        (" 1\n", "\n"),
        ("\\\"", "\\x"),
        ("{b=\"c\\\"\"} 1\n", "{b=\"c\"} 1\na_total{b=\"c\"} 2\n"),
        ("{b", "{b-c"),
        (
            "# EOF\n",
            "# TYPE x gauge\n# HELP x Some words here.\nx 1\n# TYPE a counter\n# EOF\n",
        ),
    ] {
        let text = good.replacen(part, bad, 1);
        assert!(read(&text).is_err(), "{text}");
    }
}

/// Names in a query that are metrics: what is no function, keyword or label.
fn metrics_of(query: &str) -> Vec<String> {
    let mut rest = String::new();
    let mut depth = 0;
    for letter in query.chars() {
        match letter {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ if depth == 0 => rest.push(letter),
            _ => {}
        }
    }
    let plain = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let words = rest.split(plain).filter(|word| word.contains('_'));
    words
        .filter(|word| *word != "histogram_quantile")
        .map(str::to_owned)
        .collect()
}

fn queries(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(query) if name == "expr" => found.push(query.to_owned()),
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut asked = Vec::new();
    queries(&dashboard, &mut asked);
    assert!(asked.len() >= 10, "{asked:?}");
    let known: BTreeSet<_> = samples(full())
        .into_iter()
        .map(|(name, _, _)| name)
        .collect();
    for query in &asked {
        let metrics = metrics_of(query);
        assert!(!metrics.is_empty(), "{query}");
        for metric in metrics {
            assert!(known.contains(&metric), "no {metric}: {query}");
        }
    }
    let ids: Vec<_> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    let unique: BTreeSet<_> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(ids.len(), unique.len());
}

proptest! {
    #[test]
    fn whatever_peers_call_themselves_the_text_stays_sound(
        name in any::<String>(),
        version in any::<String>(),
        reason in any::<String>(),
        count in any::<u64>(),
    ) {
        let mut report = full();
        report.version = version.clone();
        report.router.connections[0].peer = Some(name);
        report.drops = BTreeMap::from([(reason.clone(), count)]);
        let samples = samples(report);
        let is_drop = |(name, labels, _): &&Sample| {
            name == "weave_drops_total" && labels.get("reason") == Some(&reason)
        };
        prop_assert!(samples.iter().any(|sample| is_drop(&sample)));
        let info = samples.iter().find(|(name, _, _)| name == "weave_build_info").unwrap();
        prop_assert_eq!(&info.1["version"], &version);
    }
}

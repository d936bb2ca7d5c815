//! Rates in words: two tables, for the screen and as plain text.

use super::super::view::{clean, millis};
use super::rates::{Container, Peer, Rate, Rates};

/// A table. The first columns are texts, the others numbers.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) header: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
    /// How many columns are texts.
    pub(super) texts: usize,
}

/// A line for each peer.
pub(super) fn peers(rates: &Rates) -> Table {
    Table {
        header: [&["PEER", "PATH"][..], &["RTT"], &RATE].concat(),
        rows: rates.peers.iter().map(peer).collect(),
        texts: 2,
    }
}

/// A line for each container.
pub(super) fn containers(rates: &Rates) -> Table {
    Table {
        header: [&["CONTAINER", "ADDRESS"][..], &RATE].concat(),
        rows: rates.containers.iter().map(container).collect(),
        texts: 2,
    }
}

/// Both tables, a blank line between them.
pub(super) fn text(rates: &Rates) -> String {
    format!("{}\n{}", plain(&peers(rates)), plain(&containers(rates)))
}

/// Seen from here, or from the container. Packets and total are of both directions.
const RATE: [&str; 4] = ["IN bit/s", "OUT bit/s", "packets/s", "total"];

fn peer(peer: &Peer) -> Vec<String> {
    let rtt = peer.rtt_us.map(millis);
    let path = peer.path.as_deref().map(short);
    let texts = [
        clean(&peer.called()),
        path.map_or_else(|| "-".to_owned(), |path| clean(&path)),
        rtt.unwrap_or_else(|| "-".to_owned()),
    ];
    texts
        .into_iter()
        .chain(cells(&peer.received, &peer.sent))
        .collect()
}

fn container(container: &Container) -> Vec<String> {
    let addresses = container.addresses.iter();
    let addresses = addresses.map(|it| it.split('/').next().unwrap_or(it));
    let addresses: Vec<_> = addresses.collect();
    [clean(&container.called()), clean(&addresses.join(" "))]
        .into_iter()
        .chain(cells(&container.received, &container.sent))
        .collect()
}

fn cells(received: &Rate, sent: &Rate) -> [String; 4] {
    let packets = received
        .frames_per_second
        .saturating_add(sent.frames_per_second);
    let bytes = received.bytes.saturating_add(sent.bytes);
    [
        scaled(received.bits_per_second),
        scaled(sent.bits_per_second),
        scaled(packets),
        format!("{}B", scaled(bytes)),
    ]
}

/// `relay lon` of `relay 7e:21:4a:70:2f:45(lon)`.
fn short(path: &str) -> String {
    let relay = path.strip_prefix("relay ");
    let relay = relay.and_then(|relay| relay.strip_suffix(')')?.split_once('('));
    match relay {
        Some((_, nickname)) if !nickname.is_empty() => format!("relay {nickname}"),
        Some(_) | None => path.to_owned(),
    }
}

/// `0 `, `999 `, `1.00 k`, `12.3 M`: three digits that count, and what a unit may follow.
fn scaled(value: u64) -> String {
    if value < 1000 {
        return format!("{value} ");
    }
    let (mut rest, mut prefixes) = (value as f64 / 1e3, ["k", "M", "G", "T", "P"].iter());
    let mut prefix = prefixes.next();
    while rest >= 999.5
        && let Some(next) = prefixes.next()
    {
        (rest, prefix) = (rest / 1e3, Some(next));
    }
    let digits = match rest {
        rest if rest < 9.995 => 2,
        rest if rest < 99.95 => 1,
        _ => 0,
    };
    format!("{rest:.digits$} {}", prefix.copied().unwrap_or_default())
}

/// Texts to the left, numbers to the right.
fn plain(table: &Table) -> String {
    let header = table.header.iter().map(|it| (*it).to_owned()).collect();
    let widths = table.widths();
    let lines = std::iter::once(&header).chain(&table.rows);
    let lines = lines.map(|row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(at, (cell, width))| match at < table.texts {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

impl Table {
    /// How wide each column is, in characters.
    pub(super) fn widths(&self) -> Vec<usize> {
        let columns = self.header.iter().enumerate();
        let widths = columns.map(|(at, title)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let widest = cells.map(|cell| cell.chars().count()).max();
            widest.unwrap_or(0).max(title.chars().count())
        });
        widths.collect()
    }
}

//! A graph as text, DOT and SVG. The same graph gives the same bytes.
//!
//! Names that peers chose are untrusted: they are cleaned, and escaped as each form asks.

use std::f64::consts::TAU;
use std::fmt::Write as _;

use super::super::view::clean;
use super::{Graph, Host, Kind, Pair};

/// Distance between two hosts on the circle, pixels.
const APART: f64 = 150.0;
/// The circle is at least this large, pixels.
const LEAST_RADIUS: f64 = 160.0;
/// Room around it, for labels, pixels.
const MARGIN: f64 = 110.0;

/// For a terminal: each pair once, under the host that comes first.
pub(super) fn text(graph: &Graph) -> String {
    let mut text = format!("{}\n", summary(graph));
    for (index, host) in graph.hosts.iter().enumerate() {
        let own = if host.own { "  this host" } else { "" };
        let _ = writeln!(text, "{}{own}", shown(host));
        let pairs = graph.paths.iter().filter(|pair| pair.from == index);
        text.extend(pairs.map(|pair| text_of(graph, pair)));
    }
    text
}

fn text_of(graph: &Graph, pair: &Pair) -> String {
    let line = match pair.kind {
        Kind::Direct => "──",
        Kind::Relay => "╌╌",
        Kind::Broken => "─╳",
    };
    let to = graph.hosts.get(pair.to).map(shown).unwrap_or_default();
    let (kind, info) = (pair.kind.word(), clean(&pair.info));
    let text = format!("  {line} {kind:<6}  {to}  {info}");
    format!("{}\n", text.trim_end())
}

/// `3 hosts; 2 direct, 1 relay`.
fn summary(graph: &Graph) -> String {
    let counts: Vec<_> = Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let count = graph.paths.iter().filter(|pair| pair.kind == kind).count();
            (count > 0).then(|| format!("{count} {}", kind.word()))
        })
        .collect();
    let hosts = match graph.hosts.len() {
        1 => "1 host".to_owned(),
        count => format!("{count} hosts"),
    };
    match counts.as_slice() {
        [] => hosts,
        counts => format!("{hosts}; paths: {}", counts.join(", ")),
    }
}

fn shown(host: &Host) -> String {
    match host.nickname.as_str() {
        "" => clean(&host.name),
        nickname => clean(&format!("{}({nickname})", host.name)),
    }
}

/// For Graphviz.
pub(super) fn dot(graph: &Graph) -> String {
    let mut text = String::from("graph weave {\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for (index, host) in graph.hosts.iter().enumerate() {
        let bold = if host.own { ", style=bold" } else { "" };
        let label = labels(host).map(|label| quoted(&label)).join("\\n");
        let _ = writeln!(text, "  h{index} [label=\"{label}\"{bold}];");
    }
    for pair in &graph.paths {
        let (from, to, color) = (pair.from, pair.to, color(pair.kind));
        let style = match pair.kind {
            Kind::Direct => "solid",
            Kind::Relay => "dashed",
            Kind::Broken => "dotted",
        };
        let told = quoted(&told(pair));
        let _ = writeln!(
            text,
            "  h{from} -- h{to} [color=\"{color}\", style={style}, tooltip=\"{told}\"];"
        );
    }
    text.push_str("}\n");
    text
}

/// `relay through …`.
fn told(pair: &Pair) -> String {
    let told = format!("{} {}", pair.kind.word(), clean(&pair.info));
    told.trim_end().to_owned()
}

/// Nickname and name, on two lines.
fn labels(host: &Host) -> [String; 2] {
    [clean(&host.nickname), clean(&host.name)]
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Direct => "#2e7d32",
        Kind::Relay => "#ef6c00",
        Kind::Broken => "#c62828",
    }
}

/// For a browser: hosts on a circle, this one at the top, the others by name.
pub(super) fn svg(graph: &Graph) -> String {
    let places = places(graph.hosts.len());
    let size = places.size;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" font-family=\"sans-serif\" font-size=\"12\" text-anchor=\"middle\">\n<rect width=\"{size}\" height=\"{size}\" fill=\"white\"/>\n"
    );
    for pair in &graph.paths {
        let (Some(from), Some(to)) = (places.of.get(pair.from), places.of.get(pair.to)) else {
            continue;
        };
        text.push_str(&svg_line(pair, *from, *to));
    }
    for (host, place) in graph.hosts.iter().zip(&places.of) {
        text.push_str(&svg_host(host, *place));
    }
    for (kind, y) in Kind::ALL.into_iter().zip([20, 38, 56]) {
        let (color, word) = (color(kind), kind.word());
        let _ = writeln!(
            text,
            "<text x=\"12\" y=\"{y}\" fill=\"{color}\" text-anchor=\"start\">{word}</text>"
        );
    }
    text.push_str("</svg>\n");
    text
}

fn svg_line(pair: &Pair, (x1, y1): (i64, i64), (x2, y2): (i64, i64)) -> String {
    let dashes = match pair.kind {
        Kind::Direct => "",
        Kind::Relay => " stroke-dasharray=\"8 4\"",
        Kind::Broken => " stroke-dasharray=\"2 4\"",
    };
    let (color, told) = (color(pair.kind), escaped(&told(pair)));
    format!(
        "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{color}\" stroke-width=\"2\"{dashes}><title>{told}</title></line>\n"
    )
}

fn svg_host(host: &Host, (x, y): (i64, i64)) -> String {
    let width = if host.own { 3 } else { 1 };
    let [nickname, name] = [&host.nickname, &host.name].map(|text| escaped(text));
    let (left, top, above, below) = (x - 75, y - 20, y - 3, y + 13);
    format!(
        "<rect x=\"{left}\" y=\"{top}\" width=\"150\" height=\"40\" rx=\"6\" fill=\"#f5f5f5\" stroke=\"#424242\" stroke-width=\"{width}\"/>\n<text x=\"{x}\" y=\"{above}\" font-weight=\"bold\">{nickname}</text>\n<text x=\"{x}\" y=\"{below}\">{name}</text>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for char in clean(text).chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Where hosts stand, in whole pixels.
struct Places {
    size: i64,
    of: Vec<(i64, i64)>,
}

fn places(hosts: usize) -> Places {
    let count = f64::from(u32::try_from(hosts.max(1)).unwrap_or(u32::MAX));
    let radius = (count * APART / TAU).max(LEAST_RADIUS);
    let middle = radius + MARGIN;
    let of = (0..u32::try_from(hosts).unwrap_or(u32::MAX)).map(|index| {
        let angle = f64::from(index) / count * TAU;
        let (x, y) = (middle + radius * angle.sin(), middle - radius * angle.cos());
        (whole(x), whole(y))
    });
    Places {
        size: whole(2.0 * middle),
        of: of.collect(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a picture is no larger than some thousand hosts make it"
)]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

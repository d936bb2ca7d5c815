//! The report as a picture: three bar charts beside each other, in SVG.

use std::fmt::Write;

use super::figures::Figure;
use super::report::{Entry, Report};
use super::table::number;

const CHARTS: [(&str, Figure); 3] = [
    ("TCP, 1 stream, Gbit/s", Figure::Tcp1Gbits),
    ("Round trip beside a stream, µs", Figure::RttBulkP50Micros),
    ("CPU of the daemons, s/GB", Figure::CpuSecondsPerGigabyte),
];

/// Pixels: the names, one chart, its longest bar, one row, what is above the rows.
const NAMES: f64 = 120.0;
const CHART: f64 = 270.0;
const LONGEST: f64 = 190.0;
const ROW: f64 = 22.0;
const TOP: f64 = 40.0;

/// One row for each overlay that was measured; thin lines go from the smallest to the largest value.
pub(super) fn render(report: &Report) -> String {
    let entries: Vec<_> = report
        .entries
        .iter()
        .filter(|entry| !entry.samples.is_empty())
        .collect();
    let rows = f64::from(u32::try_from(entries.len()).unwrap_or_default());
    let (width, height) = (NAMES + 3.0 * CHART, TOP + rows * ROW + 10.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (entry, y) in rows_of(&entries) {
        let (x, y) = (NAMES - 8.0, y + 15.0);
        let name = escape(&entry.overlay.name);
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{name}</text>"
        );
    }
    let mut left = NAMES;
    for (title, figure) in CHARTS {
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"24\" font-weight=\"bold\">{title}</text>"
        );
        chart(&mut svg, &entries, figure, left);
        left += CHART;
    }
    svg.push_str("</svg>\n");
    svg
}

fn rows_of<'a>(entries: &'a [&'a Entry]) -> impl Iterator<Item = (&'a Entry, f64)> {
    let mut y = TOP - ROW;
    entries.iter().map(move |entry| {
        y += ROW;
        (*entry, y)
    })
}

fn chart(svg: &mut String, entries: &[&Entry], figure: Figure, left: f64) {
    let spreads = entries.iter().filter_map(|entry| entry.spread(figure));
    let largest = spreads.map(|spread| spread.max).fold(0.0, f64::max);
    let scale = if largest > 0.0 {
        LONGEST / largest
    } else {
        0.0
    };
    for (entry, y) in rows_of(entries) {
        let Some(spread) = entry.spread(figure) else {
            continue;
        };
        let fill = if entry.overlay.uses_weave {
            "#c2410c"
        } else {
            "#64748b"
        };
        let long = spread.median * scale;
        let (from, to) = (left + spread.min * scale, left + spread.max * scale);
        let (bar, line, text) = (y + 4.0, y + 11.0, y + 15.0);
        let label = to + 5.0;
        let value = number(spread.median);
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{bar}\" width=\"{long:.1}\" height=\"14\" fill=\"{fill}\"/>\
             <path d=\"M{from:.1} {line}H{to:.1}\" stroke=\"#0f172a\"/>\
             <text x=\"{label:.1}\" y=\"{text}\">{value}</text>"
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::testing::example;

    #[test]
    fn each_measured_overlay_has_a_bar_for_each_figure_it_has() {
        let svg = render(&example());
        assert_eq!(svg.matches("fill=\"#64748b\"").count(), 2);
        assert_eq!(svg.matches("fill=\"#c2410c\"").count(), 2);
        assert!(svg.contains(">4.50</text>") && svg.contains(">9.00</text>"));
        assert!(!svg.contains("broken"));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn the_longest_bar_ends_at_the_largest_value() {
        let svg = render(&example());
        // 10 Gbit/s are 190 pixels, so the median of vxlan, 9, is 171
        assert!(svg.contains("width=\"171.0\""), "{svg}");
        assert!(svg.contains("M272.0 51H310.0"), "{svg}");
    }
}

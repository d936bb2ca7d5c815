//! The overlays that can be measured: the headers of the files in benches/overlays.
//!
//! What a file must hold is said in benches/lib.sh. Only its header is read here; bash runs it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Where the traffic is sent and taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// The hosts themselves, over the underlay.
    None,
    /// Containers behind a bridge on each host.
    L2,
    /// The hosts themselves, over the overlay's device.
    L3,
}

/// A command that an overlay needs, and what gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Need {
    pub(super) command: String,
    pub(super) package: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Overlay {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) mode: Mode,
    #[serde(skip)]
    pub(super) debian: Vec<Need>,
    #[serde(skip)]
    pub(super) crates: Vec<Need>,
    #[serde(skip)]
    pub(super) uses_weave: bool,
}

/// Those that the report begins with; the others follow by name.
const FIRST: [&str; 4] = ["raw", "vxlan", "weave", "weave-chacha"];

/// All overlays, in the order of the report.
///
/// # Errors
/// When the directory cannot be read or a file has no proper header.
pub(super) fn read_all(directory: &Path) -> Result<Vec<Overlay>> {
    let entries = std::fs::read_dir(directory);
    let mut overlays = Vec::new();
    for entry in entries.with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some(name) = name.strip_suffix(".sh") else {
            continue;
        };
        let read = std::fs::read_to_string(&path);
        let text = read.with_context(|| format!("read {}", path.display()))?;
        overlays.push(parse(name, &text).with_context(|| format!("in {}", path.display()))?);
    }
    let place = |overlay: &Overlay| FIRST.iter().position(|first| *first == overlay.name);
    overlays.sort_by_key(|overlay| {
        let place = place(overlay).unwrap_or(FIRST.len());
        (place, overlay.name.clone())
    });
    Ok(overlays)
}

/// # Errors
/// When description or mode are missing, or something is written in another form.
pub(super) fn parse(name: &str, text: &str) -> Result<Overlay> {
    let mode = match field(text, "MODE") {
        Some("none") => Mode::None,
        Some("l2") => Mode::L2,
        Some("l3") => Mode::L3,
        Some(other) => bail!("MODE is `{other}`, not none, l2 or l3"),
        None => bail!("no line MODE=\"…\""),
    };
    let description = field(text, "DESCRIPTION").context("no line DESCRIPTION=\"…\"")?;
    Ok(Overlay {
        name: name.to_owned(),
        description: description.to_owned(),
        mode,
        debian: needs(field(text, "DEBIAN").unwrap_or_default())?,
        crates: needs(field(text, "CRATES").unwrap_or_default())?,
        uses_weave: name == "weave" || name.starts_with("weave-"),
    })
}

/// The value of a line `KEY="value"`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix('=')?;
        value.trim_end().strip_prefix('"')?.strip_suffix('"')
    })
}

fn needs(list: &str) -> Result<Vec<Need>> {
    let need = |entry: &str| {
        let split = entry.split_once(':');
        let (command, package) = split.with_context(|| format!("`{entry}` has no colon"))?;
        Ok(Need {
            command: command.to_owned(),
            package: package.to_owned(),
        })
    };
    list.split_whitespace().map(need).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_an_overlay_is_and_needs() {
        let text = "# shellcheck shell=bash\nDESCRIPTION=\"a tunnel\"\nMODE=\"l3\"\nMTU=\"1400\"\n\
                    DEBIAN=\"wg:wireguard-tools ip:iproute2\"\nCRATES=\"tun:tun-cli@0.7\"\nstart() { :; }\n";
        let overlay = parse("tunnel", text).unwrap();
        assert_eq!(overlay.name, "tunnel");
        assert_eq!(overlay.description, "a tunnel");
        assert_eq!(overlay.mode, Mode::L3);
        let packages = |needs: &[Need]| {
            let pairs = needs.iter().map(|need| (&*need.command, &*need.package));
            pairs.map(|(c, p)| format!("{c} {p}")).collect::<Vec<_>>()
        };
        assert_eq!(
            packages(&overlay.debian),
            ["wg wireguard-tools", "ip iproute2"]
        );
        assert_eq!(packages(&overlay.crates), ["tun tun-cli@0.7"]);
        assert!(!overlay.uses_weave);
        assert!(parse("weave-chacha", text).unwrap().uses_weave);
    }

    #[test]
    fn a_header_that_lacks_something_is_refused() {
        for text in [
            "",
            "MODE=\"l2\"",
            "DESCRIPTION=\"x\"",
            "DESCRIPTION=\"x\"\nMODE=\"l4\"",
            "DESCRIPTION=\"x\"\nMODE=\"l2\"\nDEBIAN=\"wg\"",
        ] {
            assert!(parse("x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_files_of_this_project_have_proper_headers() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/overlays");
        let overlays = read_all(&directory).unwrap();
        let names: Vec<_> = overlays.iter().map(|overlay| &*overlay.name).collect();
        assert_eq!(names.get(..4).unwrap(), FIRST);
    }
}

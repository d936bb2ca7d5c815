//! The options of the last launch, on disk: what a launch is compared with, and repeats.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use weave_docker::DEFAULT_DOMAIN;
use weave_node::CONN_LIMIT;

use super::{DEFAULT_STATUS, Options, parse_domain, parse_status, status_text};
use crate::cli::choices::{CipherChoice, LogLevel, PqChoice};
use crate::cli::host;

fn default_conn_limit() -> usize {
    CONN_LIMIT
}

/// Name of the file in the state directory.
const FILE: &str = "launch.json";

/// The options of the last launch, on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    peers: Vec<String>,
    nickname: String,
    range: String,
    default_subnet: String,
    port: u16,
    #[serde(default = "default_status")]
    status_addr: String,
    #[serde(default)]
    cipher: CipherChoice,
    #[serde(default)]
    pq: PqChoice,
    #[serde(default = "default_domain")]
    dns_domain: String,
    no_dns: bool,
    #[serde(default)]
    no_offloads: bool,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    no_guard: bool,
    #[serde(default)]
    no_discovery: bool,
    #[serde(default = "default_conn_limit")]
    conn_limit: usize,
    #[serde(default)]
    log_level: LogLevel,
    #[serde(default)]
    no_restart: bool,
}

fn default_domain() -> String {
    DEFAULT_DOMAIN.to_owned()
}

/// What was not kept before there was a choice.
fn default_status() -> String {
    DEFAULT_STATUS.to_string()
}

/// Keeps the options of a launch.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn save(state_dir: &Path, options: &Options) -> Result<()> {
    let saved = Saved {
        peers: options.peers.clone(),
        nickname: options.nickname.clone(),
        range: options.range.to_string(),
        default_subnet: options.default_subnet.to_string(),
        port: options.port,
        status_addr: status_text(options.status_addr),
        cipher: options.cipher,
        pq: options.pq,
        dns_domain: options.dns_domain.clone(),
        no_dns: options.no_dns,
        no_offloads: options.no_offloads,
        strict: options.strict,
        no_guard: options.no_guard,
        no_discovery: options.no_discovery,
        conn_limit: options.conn_limit,
        log_level: options.log_level,
        no_restart: options.no_restart,
    };
    let path = state_dir.join(FILE);
    host::write_private(&path, &serde_json::to_vec_pretty(&saved)?)
        .with_context(|| format!("keep the launch options in {}", path.display()))
}

/// The options of the last launch, if they are there and sound.
pub(crate) fn load(state_dir: &Path) -> Option<Options> {
    let text = std::fs::read(state_dir.join(FILE)).ok()?;
    let saved: Saved = serde_json::from_slice(&text).ok()?;
    Some(Options {
        peers: saved.peers,
        nickname: saved.nickname,
        range: saved.range.parse().ok()?,
        default_subnet: saved.default_subnet.parse().ok()?,
        take_back: None,
        port: saved.port,
        status_addr: parse_status(&saved.status_addr).ok()?,
        cipher: saved.cipher,
        pq: saved.pq,
        dns_domain: parse_domain(&saved.dns_domain).ok()?,
        no_dns: saved.no_dns,
        no_offloads: saved.no_offloads,
        strict: saved.strict,
        no_guard: saved.no_guard,
        no_discovery: saved.no_discovery,
        conn_limit: saved.conn_limit,
        log_level: saved.log_level,
        no_restart: saved.no_restart,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{flags, resolved};
    use super::*;

    #[test]
    fn options_that_a_newer_weave_kept_are_read_without_what_it_added() {
        let directory = tempfile::tempdir().unwrap();
        let options = resolved(&flags("nyc"));
        save(directory.path(), &options).unwrap();
        let path = directory.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let newer = text.replacen('{', "{ \"of-a-newer-weave\": [1],", 1);
        std::fs::write(&path, newer).unwrap();
        assert_eq!(load(directory.path()), Some(options));
    }

    #[test]
    fn options_kept_before_the_status_address_was_one_have_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let options = resolved(&flags("nyc"));
        save(directory.path(), &options).unwrap();
        let path = directory.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let former = text.replace("\"status_addr\": \"127.0.0.1:6782\",", "");
        assert_ne!(former, text);
        std::fs::write(&path, former).unwrap();
        assert_eq!(load(directory.path()), Some(options));
    }

    #[test]
    fn options_come_back_from_disk_and_name_their_differences() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), None);
        let mut given = flags("a");
        given.peers = vec!["b".to_owned(), "a".to_owned()];
        let running = resolved(&given);
        save(dir.path(), &running).unwrap();
        let running = load(dir.path()).unwrap();
        given.peers.reverse();
        assert_eq!(running.differences(&resolved(&given)), Vec::<String>::new());
        let mut other = flags("b");
        other.ipalloc_range = Some("10.2.0.0/16".to_owned());
        other.ipalloc_default_subnet = Some("10.2.1.0/24".to_owned());
        other.port = Some(7000);
        other.dns_domain = Some("corp.example".to_owned());
        other.no_dns = true;
        other.no_offloads = true;
        other.strict = true;
        other.no_guard = true;
        other.status_addr = Some("off".to_owned());
        other.cipher = Some(CipherChoice::ChaCha20Poly1305);
        other.pq = Some(PqChoice::Off);
        insta::assert_snapshot!(running.differences(&resolved(&other)).join("\n"));
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(load(dir.path()), None);
    }
}

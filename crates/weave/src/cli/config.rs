//! `/etc/weave/weave.toml`: defaults for options that are neither given as a
//! flag nor in the environment. Every key is named like its flag.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::choices::{CipherChoice, LogLevel, PqChoice};
use super::failure::Failure;

/// Where the file is.
const PATH: &str = "/etc/weave/weave.toml";

/// Socket of the router unless named otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/weave/weave.sock";

/// State of the router unless named otherwise.
pub(crate) const DEFAULT_STATE_DIR: &str = "/var/lib/weave";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Settings {
    /// `--socket`.
    pub(crate) socket: Option<PathBuf>,
    /// `--state-dir` of `weave router`.
    pub(crate) state_dir: Option<PathBuf>,
    /// `--password-file`.
    pub(crate) password_file: Option<PathBuf>,
    /// `--password-generation`.
    pub(crate) password_generation: Option<u16>,
    /// `--nickname`.
    pub(crate) nickname: Option<String>,
    /// `--ipalloc-range`.
    pub(crate) ipalloc_range: Option<String>,
    /// `--ipalloc-default-subnet`.
    pub(crate) ipalloc_default_subnet: Option<String>,
    /// `--port`.
    pub(crate) port: Option<u16>,
    /// `--status-addr`.
    pub(crate) status_addr: Option<String>,
    /// `--cipher`.
    pub(crate) cipher: Option<CipherChoice>,
    /// `--pq`.
    pub(crate) pq: Option<PqChoice>,
    /// `--dns-domain`.
    pub(crate) dns_domain: Option<String>,
    /// `--no-dns`.
    pub(crate) no_dns: bool,
    /// `--no-offloads`.
    pub(crate) no_offloads: bool,
    /// `--strict`.
    pub(crate) strict: bool,
    /// `--no-guard`.
    pub(crate) no_guard: bool,
    /// `--no-discovery`.
    pub(crate) no_discovery: bool,
    /// `--conn-limit`.
    pub(crate) conn_limit: Option<usize>,
    /// `--log-level`.
    pub(crate) log_level: Option<LogLevel>,
    /// Peers of `launch` and `router` when none is named.
    pub(crate) peers: Vec<String>,
}

impl Settings {
    /// The socket: what the command line or environment says, else the file.
    pub(crate) fn socket(&self, given: Option<&Path>) -> PathBuf {
        let socket = given.map(Path::to_owned).or_else(|| self.socket.clone());
        socket.unwrap_or_else(|| DEFAULT_SOCKET.into())
    }
}

/// Reads the file; without one there are no settings.
///
/// # Errors
/// When it cannot be read or understood.
pub(crate) fn load() -> anyhow::Result<Settings> {
    let text = match std::fs::read_to_string(PATH) {
        Ok(text) => text,
        // Without the right to read it, the command decides what it may do.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(Settings::default());
        }
        Err(error) => return Err(Failure::new(format!("cannot read {PATH}: {error}")).into()),
    };
    Ok(parse(&text)?)
}

fn parse(text: &str) -> Result<Settings, Failure> {
    toml::from_str(text).map_err(|error| {
        Failure::new(format!(
            "cannot understand {PATH}: {}",
            error.message().trim()
        ))
        .with_hint("each key is named like its flag, such as `port = 6783`")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_key_is_named_like_its_flag() {
        let settings = parse(
            "socket = '/a'\nstate-dir = '/b'\npassword-file = '/c'\npassword-generation = 2\nnickname = 'n'\n\
             ipalloc-range = '10.2.0.0/16'\nipalloc-default-subnet = '10.2.1.0/24'\n\
             port = 7000\nstatus-addr = 'off'\ncipher = 'aes-256-gcm'\n\
             pq = 'require'\ndns-domain = 'corp.example.'\nno-dns = true\nno-offloads = true\nstrict = true\nno-guard = true\npeers = ['192.0.2.1']\n",
        )
        .unwrap();
        assert_eq!(settings.socket(None), Path::new("/a"));
        assert_eq!(settings.socket(Some(Path::new("/x"))), Path::new("/x"));
        assert_eq!(settings.port, Some(7000));
        assert_eq!(settings.password_generation, Some(2));
        assert_eq!(settings.status_addr.as_deref(), Some("off"));
        assert_eq!(settings.cipher, Some(CipherChoice::Aes256Gcm));
        assert_eq!(settings.pq, Some(PqChoice::Require));
        assert_eq!(settings.dns_domain.as_deref(), Some("corp.example."));
        assert!(settings.strict && settings.no_guard);
        assert_eq!(settings.peers, ["192.0.2.1"]);
        assert_eq!(Settings::default().socket(None), Path::new(DEFAULT_SOCKET));
    }

    #[test]
    fn a_mistyped_key_is_named() {
        let error = parse("prot = 7000").unwrap_err().to_string();
        let begin = "cannot understand /etc/weave/weave.toml: unknown field `prot`";
        assert!(error.starts_with(begin), "{error}");
        assert!(parse("port = 'x'").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_understood_or_refused(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}

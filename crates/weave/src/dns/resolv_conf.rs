//! The host's resolv.conf: which servers it names, read again when it changes.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file is looked at no more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// More servers than this are ignored, as libc ignores more than three.
const MAX_SERVERS: usize = 8;

/// What tells one state of a file from another.
type Stamp = (u64, i64, i64, u64);

/// Name servers of a resolv.conf.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    looked: Option<Instant>,
    stamp: Option<Stamp>,
    servers: Vec<IpAddr>,
}

impl ResolvConf {
    /// Reads nothing yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            looked: None,
            stamp: None,
            servers: Vec::new(),
        }
    }

    /// The servers in the order of the file. A file that is gone names none.
    pub(super) fn servers(&mut self, now: Instant) -> &[IpAddr] {
        if self
            .looked
            .is_none_or(|at| now.duration_since(at) >= LOOK_EVERY)
        {
            self.looked = Some(now);
            self.reload();
        }
        &self.servers
    }

    fn reload(&mut self) {
        let stamp = stamp(&self.path);
        if stamp.is_some() && stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        let text = std::fs::read(&self.path).unwrap_or_default();
        let servers = parse(&String::from_utf8_lossy(&text));
        if servers != self.servers {
            tracing::info!(path = %self.path.display(), ?servers, "upstream DNS servers");
            self.servers = servers;
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

/// Name servers of the text of a resolv.conf; lines of no meaning are skipped.
fn parse(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(server) = words.next().and_then(parse_server) else {
            continue;
        };
        if !servers.contains(&server) && servers.len() < MAX_SERVERS {
            servers.push(server);
        }
    }
    servers
}

/// An address; a scope (`fe80::1%eth0`) cannot be used without its interface.
fn parse_server(word: &str) -> Option<IpAddr> {
    let ip: IpAddr = word.parse().ok()?;
    match ip {
        // resolv.conf(5): 0.0.0.0 means this host.
        IpAddr::V4(v4) if v4.is_unspecified() => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V4(_) | IpAddr::V6(_) => Some(ip),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ips(text: &[&str]) -> Vec<IpAddr> {
        text.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn servers_keep_their_order_and_other_lines_are_skipped() {
        let text = "# comment\nsearch lan\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \n\
                    nameserver nonsense\nnameserver 192.0.2.1\noptions edns0\n;nameserver 8.8.8.8\n";
        assert_eq!(parse(text), ips(&["192.0.2.1", "2001:db8::1"]));
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_removed_one_names_no_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let mut conf = ResolvConf::new(path.clone());
        let start = Instant::now();
        assert_eq!(conf.servers(start), ips(&["192.0.2.1"]));
        std::fs::write(&path, "nameserver 192.0.2.2\nnameserver 192.0.2.3\n").unwrap();
        assert_eq!(
            conf.servers(start),
            ips(&["192.0.2.1"]),
            "not looked at so soon"
        );
        let later = start + LOOK_EVERY;
        assert_eq!(conf.servers(later), ips(&["192.0.2.2", "192.0.2.3"]));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(conf.servers(later + LOOK_EVERY), ips(&[]));
    }

    proptest! {
        #[test]
        fn any_text_names_few_servers_and_does_not_panic(text in any::<String>()) {
            prop_assert!(parse(&text).len() <= MAX_SERVERS);
        }
    }
}

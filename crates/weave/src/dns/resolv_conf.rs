//! The host's resolv.conf: which servers it names, read again and again.
//!
//! It is opened anew each time: it may be replaced, or be a link that leads elsewhere now.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::OpenFile;

/// The file is read no more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// More servers than this are ignored, as libc ignores more than three.
const MAX_SERVERS: usize = 8;

/// No more of the file is read, in bytes.
const MAX_LEN: u64 = 64 << 10;

/// Name servers of a resolv.conf.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    open: OpenFile,
    looked: Option<Instant>,
    servers: Vec<IpAddr>,
}

impl ResolvConf {
    /// Reads nothing yet.
    pub(super) fn new(path: PathBuf, open: OpenFile) -> Self {
        Self {
            path,
            open,
            looked: None,
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
        let mut text = Vec::new();
        if let Some(file) = (self.open)(&self.path)
            && let Err(error) = file.take(MAX_LEN).read_to_end(&mut text)
        {
            tracing::debug!(path = %self.path.display(), %error, "cannot read DNS servers");
            return;
        }
        let servers = parse(&String::from_utf8_lossy(&text));
        if servers != self.servers {
            tracing::info!(path = %self.path.display(), ?servers, "upstream DNS servers");
            self.servers = servers;
        }
    }
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
    use std::fs::File;
    use std::path::Path;

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

    fn conf_at(path: &Path) -> ResolvConf {
        ResolvConf::new(path.to_owned(), |path| File::open(path).ok())
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_removed_one_names_no_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let mut conf = conf_at(&path);
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
        std::fs::write(&path, "nameserver 192.0.2.4\n").unwrap();
        assert_eq!(conf.servers(later + LOOK_EVERY * 2), ips(&["192.0.2.4"]));
        std::fs::write(&path, "").unwrap();
        assert_eq!(conf.servers(later + LOOK_EVERY * 3), ips(&[]));
    }

    #[test]
    fn a_file_that_is_replaced_is_followed_and_so_is_a_link_that_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, ip: &str| {
            std::fs::write(at(name), format!("nameserver {ip}\n")).unwrap();
        };
        write("stub", "127.0.0.53");
        write("real", "192.0.2.1");
        std::os::unix::fs::symlink(at("stub"), at("resolv.conf")).unwrap();
        let mut conf = conf_at(&at("resolv.conf"));
        let mut now = Instant::now();
        let mut servers = || {
            now += LOOK_EVERY;
            conf.servers(now).to_vec()
        };
        assert_eq!(servers(), ips(&["127.0.0.53"]));
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        std::fs::rename(at("link"), at("resolv.conf")).unwrap();
        assert_eq!(servers(), ips(&["192.0.2.1"]), "another link");
        write("new", "192.0.2.2");
        std::fs::rename(at("new"), at("real")).unwrap();
        assert_eq!(servers(), ips(&["192.0.2.2"]), "another file behind it");
        // as long as before, and as old
        let real = File::options().write(true).open(at("real")).unwrap();
        let then = real.metadata().unwrap().modified().unwrap();
        write("real", "192.0.2.3");
        real.set_modified(then).unwrap();
        assert_eq!(servers(), ips(&["192.0.2.3"]), "other text");
        std::fs::remove_file(at("real")).unwrap();
        assert_eq!(servers(), ips(&[]), "a link that leads nowhere");
        std::fs::remove_file(at("resolv.conf")).unwrap();
        write("new", "192.0.2.4");
        std::fs::rename(at("new"), at("resolv.conf")).unwrap();
        assert_eq!(servers(), ips(&["192.0.2.4"]), "a file in its place");
        std::fs::remove_file(at("resolv.conf")).unwrap();
        std::fs::create_dir(at("resolv.conf")).unwrap();
        assert_eq!(
            servers(),
            ips(&["192.0.2.4"]),
            "what cannot be read says nothing"
        );
    }

    proptest! {
        #[test]
        fn any_text_names_few_servers_and_does_not_panic(text in any::<String>()) {
            prop_assert!(parse(&text).len() <= MAX_SERVERS);
        }
    }
}

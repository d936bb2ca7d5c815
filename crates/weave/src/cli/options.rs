//! What a router is started with: flags, environment and file made into one
//! validated whole, and how two of them differ.

mod saved;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use weave_docker::DEFAULT_DOMAIN;
use weave_node::CONN_LIMIT;
use weave_wire::{Cidr, PORT};

use super::args::RouterOptions;
use super::choices::{CipherChoice, LogLevel, PqChoice, name};
use super::config::Settings;
use super::failure::Failure;
use super::host;

pub(crate) use saved::{load, save};

/// Range unless named otherwise; Weave Net's.
const DEFAULT_RANGE: &str = "10.32.0.0/12";

/// Where the state can be read by HTTP unless named otherwise: Weave Net's.
const DEFAULT_STATUS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6782);

/// In place of an address: none.
const OFF: &str = "off";

/// Longest nickname, in bytes.
const MAX_NICKNAME: usize = 64;

/// Smallest range or subnet: /30 has two addresses for containers.
const MAX_PREFIX_LEN: u8 = 30;

/// What a router is started with, but for the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Peers as typed.
    pub(crate) peers: Vec<String>,
    /// Name of this host for people.
    pub(crate) nickname: String,
    /// Range of all addresses.
    pub(crate) range: Cidr,
    /// Subnet of the Docker network `weave`, within the range.
    pub(crate) default_subnet: Cidr,
    /// Seconds after which space of hosts that are gone is taken back, where not the usual.
    pub(crate) take_back: Option<u64>,
    /// UDP port of the mesh.
    pub(crate) port: u16,
    /// Where the state can be read by HTTP, if anywhere.
    pub(crate) status_addr: Option<SocketAddr>,
    /// Cipher of the traffic between hosts.
    pub(crate) cipher: CipherChoice,
    /// Key exchange that withstands quantum computers.
    pub(crate) pq: PqChoice,
    /// Domain that names lie in: lower case, no dot at its end.
    pub(crate) dns_domain: String,
    /// Serve no DNS.
    pub(crate) no_dns: bool,
    /// Leave nothing to the kernel.
    pub(crate) no_offloads: bool,
    /// Let only what was announced into the networks.
    pub(crate) strict: bool,
    /// Let containers send with any address.
    pub(crate) no_guard: bool,
    /// Connect to the given peers only.
    pub(crate) no_discovery: bool,
    /// Hosts up to which each is connected to each; 0: no limit.
    pub(crate) conn_limit: usize,
    /// How much the router says in its log.
    pub(crate) log_level: LogLevel,
    /// Docker does not start the router again.
    pub(crate) no_restart: bool,
}

impl Options {
    /// Flags (with the environment already taken in) over the file over defaults.
    ///
    /// # Errors
    /// Usage errors that name the option.
    pub(crate) fn resolve(flags: &RouterOptions, file: &Settings) -> Result<Self> {
        let range = flags
            .ipalloc_range
            .as_deref()
            .or(file.ipalloc_range.as_deref());
        let range = parse_range("--ipalloc-range", range.unwrap_or(DEFAULT_RANGE))?;
        let subnet = flags
            .ipalloc_default_subnet
            .as_deref()
            .or(file.ipalloc_default_subnet.as_deref());
        let default_subnet = match subnet {
            Some(subnet) => parse_range("--ipalloc-default-subnet", subnet)?,
            None => range,
        };
        if !range.covers(&default_subnet) {
            return Err(Failure::usage(format!(
                "--ipalloc-default-subnet {default_subnet} is not within --ipalloc-range {range}"
            ))
            .with_hint("give a subnet of the range, the same on every host")
            .into());
        }
        let nickname = flags.nickname.clone().or_else(|| file.nickname.clone());
        let nickname = match nickname {
            Some(nickname) => check_nickname(nickname)?,
            None => host::name()?,
        };
        let given = if flags.peers.is_empty() {
            &file.peers
        } else {
            &flags.peers
        };
        let peers = unique(given);
        peers.iter().try_for_each(|peer| check_peer(peer))?;
        let status = flags.status_addr.as_deref();
        let status = status.or(file.status_addr.as_deref());
        let domain = flags.dns_domain.as_deref().or(file.dns_domain.as_deref());
        Ok(Self {
            peers,
            nickname,
            range,
            default_subnet,
            take_back: flags.ipalloc_take_back,
            port: flags.port.or(file.port).unwrap_or(PORT),
            status_addr: status.map_or(Ok(Some(DEFAULT_STATUS)), parse_status)?,
            cipher: flags.cipher.or(file.cipher).unwrap_or_default(),
            pq: flags.pq.or(file.pq).unwrap_or_default(),
            dns_domain: parse_domain(domain.unwrap_or(DEFAULT_DOMAIN))?,
            no_dns: flags.no_dns || file.no_dns,
            no_offloads: flags.no_offloads || file.no_offloads,
            strict: flags.strict || file.strict,
            no_guard: flags.no_guard || file.no_guard,
            no_discovery: flags.no_discovery || file.no_discovery,
            conn_limit: flags.conn_limit.or(file.conn_limit).unwrap_or(CONN_LIMIT),
            log_level: flags.log_level.or(file.log_level).unwrap_or_default(),
            no_restart: false,
        })
    }

    /// Arguments of `weave router` that mean the same. No secret is among them. Without a launch
    /// those peers count that `connect` added before, too.
    pub(crate) fn router_args(&self, launch_id: Option<&str>) -> Vec<String> {
        let mut args = vec!["router".to_owned()];
        args.extend(launch_id.map(|id| format!("--launch-id={id}")));
        args.extend([
            format!("--nickname={}", self.nickname),
            format!("--ipalloc-range={}", self.range),
            format!("--ipalloc-default-subnet={}", self.default_subnet),
            format!("--port={}", self.port),
        ]);
        if self.status_addr != Some(DEFAULT_STATUS) {
            args.push(format!("--status-addr={}", status_text(self.status_addr)));
        }
        if let Some(seconds) = self.take_back {
            args.push(format!("--ipalloc-take-back={seconds}"));
        }
        if self.cipher != CipherChoice::Auto {
            args.push(format!("--cipher={}", name(self.cipher)));
        }
        if self.pq != PqChoice::Prefer {
            args.push(format!("--pq={}", name(self.pq)));
        }
        if self.dns_domain != DEFAULT_DOMAIN {
            args.push(format!("--dns-domain={}", self.dns_domain));
        }
        if self.no_dns {
            args.push("--no-dns".to_owned());
        }
        if self.no_offloads {
            args.push("--no-offloads".to_owned());
        }
        if self.strict {
            args.push("--strict".to_owned());
        }
        if self.no_guard {
            args.push("--no-guard".to_owned());
        }
        if self.no_discovery {
            args.push("--no-discovery".to_owned());
        }
        if self.conn_limit != CONN_LIMIT {
            args.push(format!("--conn-limit={}", self.conn_limit));
        }
        if self.log_level != LogLevel::Info {
            args.push(format!("--log-level={}", name(self.log_level)));
        }
        args.push("--".to_owned());
        args.extend(self.peers.iter().cloned());
        args
    }

    /// Options that another host of the mesh must be given as well.
    pub(crate) fn shared_args(&self) -> String {
        let mut args = String::new();
        if self.range.to_string() != DEFAULT_RANGE {
            args.push_str(&format!(" --ipalloc-range {}", self.range));
        }
        if self.default_subnet != self.range {
            args.push_str(&format!(
                " --ipalloc-default-subnet {}",
                self.default_subnet
            ));
        }
        if self.dns_domain != DEFAULT_DOMAIN {
            args.push_str(&format!(" --dns-domain {}", self.dns_domain));
        }
        if self.pq == PqChoice::Require {
            args.push_str(" --pq require");
        }
        if self.strict {
            args.push_str(" --strict");
        }
        if self.port != PORT {
            args.push_str(&format!(" --port {}", self.port));
        }
        args
    }

    /// One line per option that differs; `self` is running, `new` is wanted.
    pub(crate) fn differences(&self, new: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut compare = |option: &str, running: String, wanted: String| {
            if running != wanted {
                lines.push(format!("{option}: running with {running}, now {wanted}"));
            }
        };
        compare("--nickname", self.nickname.clone(), new.nickname.clone());
        compare(
            "--ipalloc-range",
            self.range.to_string(),
            new.range.to_string(),
        );
        compare(
            "--ipalloc-default-subnet",
            self.default_subnet.to_string(),
            new.default_subnet.to_string(),
        );
        compare("--port", self.port.to_string(), new.port.to_string());
        compare(
            "--status-addr",
            status_text(self.status_addr),
            status_text(new.status_addr),
        );
        compare("--cipher", name(self.cipher), name(new.cipher));
        compare("--pq", name(self.pq), name(new.pq));
        compare(
            "--dns-domain",
            self.dns_domain.clone(),
            new.dns_domain.clone(),
        );
        compare("--no-dns", yes_no(self.no_dns), yes_no(new.no_dns));
        compare(
            "--no-offloads",
            yes_no(self.no_offloads),
            yes_no(new.no_offloads),
        );
        compare("--strict", yes_no(self.strict), yes_no(new.strict));
        compare("--no-guard", yes_no(self.no_guard), yes_no(new.no_guard));
        compare(
            "--no-discovery",
            yes_no(self.no_discovery),
            yes_no(new.no_discovery),
        );
        compare(
            "--conn-limit",
            self.conn_limit.to_string(),
            new.conn_limit.to_string(),
        );
        compare("--log-level", name(self.log_level), name(new.log_level));
        compare(
            "--no-restart",
            yes_no(self.no_restart),
            yes_no(new.no_restart),
        );
        compare("peers", list(&self.peers), list(&new.peers));
        lines
    }
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn list(peers: &[String]) -> String {
    let mut sorted = peers.to_vec();
    sorted.sort();
    if sorted.is_empty() {
        "none".to_owned()
    } else {
        sorted.join(" ")
    }
}

fn unique(peers: &[String]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for peer in peers {
        if !seen.contains(peer) {
            seen.push(peer.clone());
        }
    }
    seen
}

fn parse_range(option: &str, text: &str) -> Result<Cidr> {
    let usage = |why: String| {
        Failure::usage(format!("{option}: {why}")).with_hint("give a network such as 10.32.0.0/12")
    };
    let cidr: Cidr = text
        .parse()
        .map_err(|error: weave_wire::WireError| usage(error.to_string()))?;
    if cidr.v4().is_none() {
        return Err(usage(format!("`{text}` is no IPv4 network")).into());
    }
    if cidr.prefix_len() > MAX_PREFIX_LEN {
        return Err(usage(format!("`{text}` is too small: /{MAX_PREFIX_LEN} at least")).into());
    }
    Ok(cidr)
}

fn status_text(status: Option<SocketAddr>) -> String {
    status.map_or_else(|| OFF.to_owned(), |address| address.to_string())
}

fn parse_status(text: &str) -> Result<Option<SocketAddr>> {
    match text {
        OFF | "" => Ok(None),
        address => match address.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(Failure::usage(format!(
                "--status-addr: `{}` is no address and port",
                text.escape_debug()
            ))
            .with_hint(format!("give one such as {DEFAULT_STATUS}, or `{OFF}`"))
            .into()),
        },
    }
}

/// Longest domain, in bytes: a label and a dot still fit before it (RFC 1035 section 2.3.4).
const MAX_DOMAIN: usize = 253 - 2;

fn parse_domain(text: &str) -> Result<String> {
    let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let legal =
        |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.';
    let is_arpa = domain == "arpa" || domain.ends_with(".arpa");
    if domain.len() <= MAX_DOMAIN
        && domain.bytes().all(legal)
        && weave_node::names::is_valid(&domain)
        && !is_arpa
    {
        return Ok(domain);
    }
    let why = match is_arpa {
        true => "is where addresses have their names",
        false => "is no DNS domain",
    };
    Err(
        Failure::usage(format!("--dns-domain: `{}` {why}", text.escape_debug()))
            .with_hint("give one that no other DNS server has, such as weave.local")
            .into(),
    )
}

fn check_nickname(nickname: String) -> Result<String> {
    let fits = (1..=MAX_NICKNAME).contains(&nickname.len());
    if fits
        && !nickname
            .chars()
            .any(|c| c.is_control() || c.is_whitespace())
    {
        return Ok(nickname);
    }
    Err(Failure::usage(format!(
        "--nickname: `{}` is no name: 1 to {MAX_NICKNAME} characters without spaces",
        nickname.escape_debug()
    ))
    .into())
}

fn check_peer(peer: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if peer.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[' || c == ':')
        && peer.chars().all(legal)
    {
        return Ok(());
    }
    Err(
        Failure::usage(format!("`{}` is no peer", peer.escape_debug()))
            .with_hint("a peer is HOST[:PORT], such as 192.0.2.1 or node1.example.com:6783")
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::failure::{exit_code, render};
    use super::*;

    pub(super) fn flags(nickname: &str) -> RouterOptions {
        RouterOptions {
            nickname: Some(nickname.to_owned()),
            ..RouterOptions::default()
        }
    }

    pub(super) fn resolved(flags: &RouterOptions) -> Options {
        Options::resolve(flags, &Settings::default()).unwrap()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = Settings {
            port: Some(7000),
            nickname: Some("file".to_owned()),
            peers: vec!["192.0.2.9".to_owned()],
            ..Settings::default()
        };
        let options = Options::resolve(&flags("flag"), &file).unwrap();
        assert_eq!(options.nickname, "flag");
        assert_eq!(options.port, 7000);
        assert_eq!(options.peers, ["192.0.2.9"]);
        assert_eq!(options.range.to_string(), "10.32.0.0/12");
        assert_eq!(options.default_subnet, options.range);
    }

    #[test]
    fn the_router_is_given_the_same_options_and_no_secret() {
        let mut given = flags("a");
        given.password = Some("do-not-show-me".to_owned());
        given.peers = vec!["192.0.2.1".to_owned(), "192.0.2.1".to_owned()];
        given.dns_domain = Some("Corp.Example.".to_owned());
        given.no_dns = true;
        given.no_offloads = true;
        given.strict = true;
        given.no_guard = true;
        given.status_addr = Some("off".to_owned());
        given.cipher = Some(CipherChoice::Aes256Gcm);
        given.pq = Some(PqChoice::Require);
        given.ipalloc_range = Some("10.2.0.0/16".to_owned());
        let args = resolved(&given).router_args(Some("7f"));
        insta::assert_snapshot!(args.join(" "), @"router --launch-id=7f --nickname=a --ipalloc-range=10.2.0.0/16 --ipalloc-default-subnet=10.2.0.0/16 --port=6783 --status-addr=off --cipher=aes-256-gcm --pq=require --dns-domain=corp.example --no-dns --no-offloads --strict --no-guard -- 192.0.2.1");
        assert_eq!(
            resolved(&given).shared_args(),
            " --ipalloc-range 10.2.0.0/16 --dns-domain corp.example --pq require --strict"
        );
    }

    #[test]
    fn the_state_is_read_on_loopback_unless_another_address_or_none_was_chosen() {
        let chosen = |text: Option<&str>| {
            let mut given = flags("a");
            given.status_addr = text.map(str::to_owned);
            resolved(&given)
                .status_addr
                .map(|address| address.to_string())
        };
        assert_eq!(chosen(None).as_deref(), Some("127.0.0.1:6782"));
        assert_eq!(chosen(Some("off")), None);
        assert_eq!(chosen(Some("")), None);
        assert_eq!(chosen(Some("[::]:80")).as_deref(), Some("[::]:80"));
        for wrong in ["6782", "localhost:6782", "127.0.0.1", "127.0.0.1:70000"] {
            let mut given = flags("a");
            given.status_addr = Some(wrong.to_owned());
            let error = Options::resolve(&given, &Settings::default()).unwrap_err();
            assert_eq!(exit_code(&error), 2);
            let begin = format!("error: --status-addr: `{wrong}` is no address and port\n");
            assert!(render(&error).starts_with(&begin), "{error}");
        }
    }

    #[test]
    fn the_domain_is_the_same_with_a_dot_at_its_end_and_without_and_in_any_case() {
        let chosen = |text: Option<&str>| {
            let mut given = flags("a");
            given.dns_domain = text.map(str::to_owned);
            Options::resolve(&given, &Settings::default()).map(|options| options.dns_domain)
        };
        assert_eq!(chosen(None).unwrap(), "weave.local");
        for (text, domain) in [
            ("weave.local.", "weave.local"),
            ("Corp.Example", "corp.example"),
            ("a.b.corp.example.", "a.b.corp.example"),
            ("mesh", "mesh"),
        ] {
            assert_eq!(chosen(Some(text)).unwrap(), domain);
        }
        let long = ["abc"; 64].join(".");
        for wrong in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "weavé.local",
            "10.in-addr.arpa",
            &long,
        ] {
            let error = chosen(Some(wrong)).unwrap_err();
            assert_eq!(exit_code(&error), 2, "{wrong}");
            assert!(render(&error).contains("--dns-domain"), "{error}");
        }
    }

    #[test]
    fn bad_options_are_usage_errors_that_name_the_option() {
        let mut errors = Vec::new();
        for (range, subnet, nickname, peer) in [
            ("10.32.0.1/12", None, "a", "b"),
            ("nonsense", None, "a", "b"),
            ("fd00::/8", None, "a", "b"),
            ("10.32.0.0/31", None, "a", "b"),
            ("10.32.0.0/12", Some("10.48.0.0/16"), "a", "b"),
            ("10.32.0.0/12", None, "a b", "b"),
            ("10.32.0.0/12", None, "", "b"),
            ("10.32.0.0/12", None, "a", "192.0.2.1/24"),
            ("10.32.0.0/12", None, "a", ""),
        ] {
            let given = RouterOptions {
                ipalloc_range: Some(range.to_owned()),
                ipalloc_default_subnet: subnet.map(str::to_owned),
                nickname: Some(nickname.to_owned()),
                peers: vec![peer.to_owned()],
                ..RouterOptions::default()
            };
            let error = Options::resolve(&given, &Settings::default()).unwrap_err();
            assert_eq!(exit_code(&error), 2);
            errors.push(render(&error));
        }
        insta::assert_snapshot!(errors.join("\n"));
    }
}

//! Status as text for people, in the shapes of Weave Net.
//!
//! Pure: a report gives the text. Names that peers chose for themselves are
//! untrusted: control characters in them never reach the terminal.

mod diagnosis;
mod verdict;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::api::types::{
    BanAnswer, BannedPeer, ConnectionState, ConnectionStatus, DnsEntry, DnsStatus, IpamOwner,
    IpamStatus, OffloadStatus, PasswordStatus, PeerConnection, PeerStatus, PsEntry, RouterStatus,
    StatusReport,
};

pub(crate) use diagnosis::{findings, round, rounds, tested};

/// Column at which labels end.
const LABEL_WIDTH: usize = 15;

/// `weave status`: a verdict, then blocks with a blank line before and after as Weave Net has it.
pub(crate) fn status(report: &StatusReport) -> String {
    let mut text = format!("{}\n\n", clean(&verdict::verdict(report)));
    line(&mut text, "Version", &report.version);
    text.push('\n');
    router(&mut text, report);
    if let Some(ipam) = &report.ipam {
        text.push('\n');
        line(&mut text, "Service", "ipam");
        line(&mut text, "Status", &ipam.status);
        line(&mut text, "Range", &ipam.range);
        line(&mut text, "DefaultSubnet", &ipam.default_subnet);
    }
    if let Some(dns) = &report.dns {
        text.push('\n');
        line(&mut text, "Service", "dns");
        line(&mut text, "Domain", &dns.domain);
        line(&mut text, "Upstream", &or_none(&dns.upstream.join(", ")));
        line(&mut text, "TTL", &dns.ttl.to_string());
        line(&mut text, "Entries", &dns.entries.len().to_string());
        if let Some(elsewhere) = elsewhere(dns) {
            line(&mut text, "Elsewhere", &elsewhere);
        }
    }
    if let Some(plugin) = &report.plugin {
        text.push('\n');
        line(&mut text, "Service", "plugin");
        line(&mut text, "DriverName", &plugin.driver_name);
    }
    text.push('\n');
    text
}

fn router(text: &mut String, report: &StatusReport) {
    let router = &report.router;
    line(text, "Service", "router");
    if !report.ready {
        let waiting_for = report.waiting_for.as_deref().unwrap_or("its start");
        line(text, "Status", &format!("waiting for {waiting_for}"));
    }
    let (min, max) = (router.protocol_min_version, router.protocol_max_version);
    line(
        text,
        "Protocol",
        &format!("{} {min}..{max}", router.protocol),
    );
    line(text, "Name", &named(&router.name, &router.nickname));
    let encryption = if router.password {
        "enabled"
    } else {
        "encrypted, but no password: anyone may join"
    };
    line(text, "Encryption", encryption);
    let is_plain = router.passwords.iter().all(|one| one.generation == 0);
    if !is_plain {
        line(text, "Passwords", &count_passwords(&router.passwords));
    }
    let discovery = if router.peer_discovery {
        "enabled"
    } else {
        "disabled"
    };
    line(text, "PeerDiscovery", discovery);
    line(text, "Targets", &router.targets.len().to_string());
    line(text, "Connections", &count_connections(&router.connections));
    line(text, "Peers", &count_peers(router));
    // so that the status fits a screen
    let shown = if router.warnings.len() > 2 { 1 } else { 2 };
    for warning in router.warnings.iter().take(shown) {
        line(text, "Warning", warning);
    }
    if let Some(more) = router.warnings.len().checked_sub(shown)
        && more > 0
    {
        line(
            text,
            "Warning",
            &format!("{more} more, see `weave report -f router.warnings`"),
        );
    }
    if !router.banned.is_empty() {
        line(text, "Banned", &bans(router));
    }
    line(text, "TrustedSubnets", "none");
    if let Some(offloads) = &report.offloads {
        line(text, "Offloads", &self::offloads(offloads));
    }
}

/// `tso uso checksum gso gro`, or what is missing and why.
fn offloads(status: &OffloadStatus) -> String {
    let plain = status.taps.iter().find(|tap| tap.offloads.is_empty());
    let taps = match (plain, status.taps.first()) {
        (Some(tap), _) => {
            let reason = tap.reason.as_deref().unwrap_or("unknown");
            vec![format!("none on {}: {reason};", tap.name)]
        }
        (None, Some(tap)) => tap.offloads.clone(),
        (None, None) => Vec::new(),
    };
    or_none(&[taps, status.udp.clone()].concat().join(" "))
}

fn line(text: &mut String, label: &str, value: &str) {
    let _ = writeln!(text, "{label:>LABEL_WIDTH$}: {}", clean(value));
}

/// `5 (1 established, 1 pending, 1 retrying, 1 failed, 1 connecting)`.
fn count_connections(connections: &[ConnectionStatus]) -> String {
    let counts: Vec<String> = ConnectionState::ALL
        .into_iter()
        .filter_map(|state| {
            let count = connections.iter().filter(|c| c.state == state).count();
            (count > 0).then(|| format!("{count} {}", state.word()))
        })
        .collect();
    let total = connections.len();
    if counts.is_empty() {
        return total.to_string();
    }
    format!("{total} ({})", counts.join(", "))
}

/// `0 (1 session), 1 in use (2 sessions)`.
fn count_passwords(passwords: &[PasswordStatus]) -> String {
    let words = passwords.iter().map(|one| {
        let state = match (one.held, one.in_use) {
            (_, true) => " in use",
            (true, false) => "",
            (false, false) => " removed",
        };
        let sessions = count_sessions(one.sessions);
        format!("{}{state} ({sessions})", one.generation)
    });
    words.collect::<Vec<_>>().join(", ")
}

fn count_sessions(sessions: u64) -> String {
    match sessions {
        1 => "1 session".to_owned(),
        _ => format!("{sessions} sessions"),
    }
}

/// `weave password list`: the lowest generation first.
pub(crate) fn passwords(passwords: &[PasswordStatus]) -> String {
    passwords.iter().map(password).collect()
}

fn password(password: &PasswordStatus) -> String {
    let state = match (password.held, password.in_use) {
        (_, true) => "in use",
        (true, false) => "accepted",
        (false, false) => "removed",
    };
    let note = match password.empty {
        true => "  no password: anyone may join",
        false => "",
    };
    let sessions = count_sessions(password.sessions);
    format!("{:>5}  {state:<8}  {sessions}{note}\n", password.generation)
}

/// Each peer counts its own sessions: one between two peers counts twice.
fn count_peers(router: &RouterStatus) -> String {
    let peers = router.peers.len();
    let sessions: u64 = router
        .peers
        .iter()
        .map(|peer| u64::from(peer.sessions))
        .sum();
    match sessions {
        0 => peers.to_string(),
        1 => format!("{peers} (with 1 established connection)"),
        _ => format!("{peers} (with {sessions} established connections)"),
    }
}

/// `2 (see `weave status peers`)`, or that it is this host.
fn bans(router: &RouterStatus) -> String {
    match router.banned.iter().find(|ban| ban.name == router.name) {
        Some(ban) => format!(
            "this host, {}; `weave reset` and another launch make a new peer of it",
            banned_by(ban)
        ),
        None => format!("{} (see `weave status peers`)", router.banned.len()),
    }
}

/// `by 4a:0f:f6:ec:1c:93(nyc): stolen`.
fn banned_by(ban: &BannedPeer) -> String {
    let by = named(&ban.banned.by, &ban.banned.nickname);
    match ban.banned.reason.as_str() {
        "" => format!("by {by}"),
        reason => format!("by {by}: {}", clean(reason)),
    }
}

/// `weave status targets`: one per line, as typed.
pub(crate) fn targets(targets: &[String]) -> String {
    targets
        .iter()
        .map(|target| format!("{}\n", clean(target)))
        .collect()
}

/// `weave status connections`.
pub(crate) fn connections(connections: &[ConnectionStatus]) -> String {
    connections.iter().map(connection).collect()
}

fn connection(connection: &ConnectionStatus) -> String {
    let mut words = vec![format!(
        "{} {:<21} {:<11}",
        arrow(connection.outbound),
        clean(&connection.address),
        connection.state.word()
    )];
    if let Some(path) = &connection.path {
        words.push(format!("{path:<6}"));
    }
    if let Some(peer) = &connection.peer {
        words.push(named(
            peer,
            connection.nickname.as_deref().unwrap_or_default(),
        ));
    }
    if let Some(info) = reason(connection) {
        words.push(info);
    }
    words.extend(attributes(connection));
    format!("{}\n", clean(words.join(" ").trim_end()))
}

fn reason(connection: &ConnectionStatus) -> Option<String> {
    let retry = match (connection.state, connection.retry_in_ms) {
        (ConnectionState::Failed, None) => Some("retry: never".to_owned()),
        (_, Some(ms)) => Some(format!("retry in {} s", ms.div_ceil(1000))),
        (_, None) => None,
    };
    let parts: Vec<String> = connection.info.clone().into_iter().chain(retry).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn attributes(connection: &ConnectionStatus) -> Vec<String> {
    let mut attributes = Vec::new();
    if let Some(cipher) = &connection.cipher {
        attributes.push(format!("cipher={cipher}"));
    }
    if let Some(pq) = connection.pq {
        attributes.push(format!("pq={}", if pq { "yes" } else { "no" }));
    }
    if let Some(generation) = connection.password_generation.filter(|one| *one > 0) {
        attributes.push(format!("password={generation}"));
    }
    if let Some(mtu) = connection.mtu {
        attributes.push(format!("mtu={mtu}"));
    }
    if let Some(rtt) = connection.rtt_us {
        attributes.push(format!("rtt={}.{:02}ms", rtt / 1000, rtt % 1000 / 10));
    }
    if !connection.offloads.is_empty() {
        attributes.push(format!("offloads={}", connection.offloads.join(",")));
    }
    attributes
}

/// `weave status peers`: each peer, and the connections that it names; then who is banned.
pub(crate) fn peers(router: &RouterStatus) -> String {
    let mut text: String = router.peers.iter().map(peer).collect();
    for ban in &router.banned {
        let who = named(&ban.name, &ban.nickname);
        let _ = writeln!(text, "{who} banned {}", banned_by(ban));
        let _ = writeln!(text, "   key {}", ban.key);
    }
    text
}

/// `weave rmpeer`: what was done, and what to do besides.
pub(crate) fn banned(answer: &BanAnswer) -> String {
    let ban = &answer.peer;
    let who = named(&ban.name, &ban.nickname);
    let mut text = String::new();
    if answer.was_banned {
        let _ = writeln!(text, "{who} is banned already, {}", banned_by(ban));
    } else {
        let _ = writeln!(
            text,
            "{who} is banned: all peers end their sessions with it"
        );
    }
    if !answer.is_known {
        text.push_str("nothing has been heard of such a peer since this router started\n");
    }
    let _ = writeln!(text, "key {}", ban.key);
    if answer.ips > 0 {
        let _ = writeln!(text, "{} IPs taken over from {who}", answer.ips);
    }
    if !answer.was_banned {
        text.push_str(
            "whoever has that host knows the password of the mesh: change it, see `weave password --help`\n",
        );
    }
    text
}

fn peer(peer: &PeerStatus) -> String {
    let mut text = format!("{}\n", named(&peer.name, &peer.nickname));
    for connection in &peer.connections {
        text.push_str(&peer_connection(connection));
    }
    let named = peer.connections.iter().filter(|c| c.established).count();
    let more = usize::try_from(peer.sessions)
        .unwrap_or(0)
        .saturating_sub(named);
    if more > 0 {
        let _ = writeln!(text, "   and {more} more established");
    }
    text
}

fn peer_connection(connection: &PeerConnection) -> String {
    let address = connection
        .address
        .map_or_else(|| "-".to_owned(), |a| a.to_string());
    let state = if connection.established {
        "established"
    } else {
        "pending"
    };
    format!(
        "   {} {address:<21} {:<37} {state}\n",
        arrow(connection.outbound.unwrap_or(true)),
        named(&connection.name, &connection.nickname),
    )
}

/// `weave status dns`.
pub(crate) fn dns(dns: Option<&DnsStatus>) -> String {
    let Some(dns) = dns else {
        return "DNS is off: the router was launched with --no-dns\n".to_owned();
    };
    dns.entries
        .iter()
        .map(|entry| dns_entry(entry, &dns.domain))
        .collect()
}

/// What hosts of another domain announce: nobody is given it here, where their domain is not ours.
fn elsewhere(dns: &DnsStatus) -> Option<String> {
    let entries = dns.entries.iter();
    let count = entries
        .filter(|entry| host_in(entry, &dns.domain).is_none())
        .count();
    (count > 0).then(|| {
        format!(
            "{count} of them outside of the domain, not answered here: give all hosts the same --dns-domain"
        )
    })
}

/// The name of an entry without the domain, if it lies in it.
fn host_in<'a>(entry: &'a DnsEntry, domain: &str) -> Option<&'a str> {
    let end = entry.hostname.len().checked_sub(domain.len())?;
    let (host, rest) = entry.hostname.split_at_checked(end)?;
    let host = host.strip_suffix('.')?;
    rest.eq_ignore_ascii_case(domain).then_some(host)
}

/// Options of `docker run` for containers of other networks: they reach the server where it
/// listens on Docker's bridge.
pub(crate) fn dns_args(dns: &DnsStatus) -> Option<String> {
    let ip = dns_server(dns)?.ip();
    let domain = dns.domain.trim_end_matches('.');
    Some(format!("--dns={ip} --dns-search={domain}"))
}

/// Where the server listens on Docker's bridge.
pub(crate) fn dns_server(dns: &DnsStatus) -> Option<SocketAddr> {
    let mut addresses = dns.address.iter().filter_map(|at| at.parse().ok());
    addresses.find(|at: &SocketAddr| !matches!(at.ip(), IpAddr::V4(ip) if ip.is_link_local()))
}

fn dns_entry(entry: &DnsEntry, domain: &str) -> String {
    let host = host_in(entry, domain).unwrap_or(&entry.hostname);
    let container: String = entry.container.chars().take(12).collect();
    let text = format!(
        "{host:<12} {:<15} {container:>12} {}",
        entry.address, entry.origin
    );
    format!("{}\n", clean(&text))
}

/// `weave status ipam`: this peer first.
pub(crate) fn ipam(ipam: Option<&IpamStatus>) -> String {
    let Some(ipam) = ipam else {
        return "this router allocates no addresses\n".to_owned();
    };
    let mut owners: Vec<&IpamOwner> = ipam.entries.iter().collect();
    owners.sort_by(|a, b| b.own.cmp(&a.own).then_with(|| a.peer.cmp(&b.peer)));
    if owners.is_empty() {
        return format!("no addresses are owned yet: {}\n", clean(&ipam.status));
    }
    let mut text: String = owners.iter().map(|owner| ipam_owner(owner, ipam)).collect();
    // what is to be told beside the state, each on a line of its own
    for note in ipam.status.split("; ").skip(1) {
        let _ = writeln!(text, "{}", clean(note));
    }
    text
}

fn ipam_owner(owner: &IpamOwner, ipam: &IpamStatus) -> String {
    let tenths = (owner.size * 1000)
        .checked_div(ipam.range_size)
        .unwrap_or(0);
    let note = match (owner.own, owner.reachable) {
        (true, _) => format!(" ({} active)", ipam.active),
        (false, true) => String::new(),
        (false, false) => " - unreachable!".to_owned(),
    };
    format!(
        "{:<37} {:>8} IPs ({:02}.{}% of total){note}\n",
        named(&owner.peer, &owner.nickname),
        owner.size,
        tenths / 10,
        tenths % 10,
    )
}

/// `weave ps`: `<container> <MAC> [<cidr> ...]`.
pub(crate) fn ps(entries: &[PsEntry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let container = short_id(&entry.container);
        let words: Vec<&str> = [container, &entry.mac]
            .into_iter()
            .chain(entry.addresses.iter().map(String::as_str))
            .collect();
        let _ = writeln!(text, "{}", clean(&words.join(" ")));
    }
    text
}

/// Ids of containers are cut as Docker cuts them; paths are not.
fn short_id(container: &str) -> &str {
    let is_id = container.len() > 12 && container.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { &container[..12] } else { container }
}

fn arrow(outbound: bool) -> &'static str {
    if outbound { "->" } else { "<-" }
}

fn named(name: &str, nickname: &str) -> String {
    clean(&format!("{name}({nickname})"))
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "none" } else { text }.to_owned()
}

/// Microseconds as `1.23 ms`.
pub(super) fn millis(us: u64) -> String {
    format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
}

/// Replaces what could move the cursor or hide text.
pub(super) fn clean(text: &str) -> String {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if is_odd(c) { '?' } else { c })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;

//! Keeps containers from speaking for others, where their frames enter the bridge.
//!
//! One table of ours, `bridge weave`, made by the host's own `nft`. What a host end of ours takes
//! in must have the MAC and an address of its container; routers' and DHCP servers' messages and
//! everything but IPv4, ARP and IPv6 are dropped. Which container has what stands in sets, so a
//! frame costs the same however many containers there are. A port that no set knows passes
//! nothing: one that is plugged in before it is [protected](Guard::protect) is not open meanwhile.
//!
//! What goes up to the host itself from a bridge does not reach the ports of the router.
//!
//! All calls block for some milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::program::{finish, output_of};
use crate::linkname::{self, HOST_VETH_PREFIX};
use crate::{Error, MacBytes, NetNs, Result, host};

const PROGRAM: &str = "nft";
/// Family and name of the table.
const TABLE: &str = "bridge weave";

/// Sets of the table, and what is in them. The last one holds the same as the one before it, in the
/// only form in which nft compares the target of an advertisement.
const SETS: [(&str, &str); 5] = [
    ("open", "type ifname"),
    ("macs", "type ifname . ether_addr"),
    ("ipv4", "type ifname . ether_addr . ipv4_addr"),
    ("ipv6", "type ifname . ether_addr . ipv6_addr"),
    ("targets", "typeof iifname . @th,64,128"),
];

/// A container's port on a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedPort {
    /// The host end of its veth.
    pub name: String,
    /// The container's hardware address.
    pub mac: MacBytes,
    /// Its addresses, link-local ones included.
    pub ips: Vec<IpAddr>,
    /// It may send what it likes.
    pub open: bool,
}

/// Ports of the host itself that no container reaches through a bridge of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedPorts {
    /// UDP port of the mesh.
    pub udp: u16,
    /// TCP port of the state, where others than the host itself could reach it.
    pub tcp: Option<u16>,
}

/// Keeper of the table in one namespace, the host's.
#[derive(Debug)]
pub struct Guard {
    netns: NetNs,
    closed: ClosedPorts,
    wanted: BTreeMap<String, BTreeSet<Element>>,
    /// The table without its elements, as nft shows it after we made it; `None`: not made yet.
    made: Option<String>,
    /// Frames that tables dropped which somebody removed since.
    dropped_before: Drops,
    dropped: Drops,
}

type Drops = BTreeMap<String, u64>;

/// A set of the table, and what is in it.
type Element = (&'static str, String);

impl Guard {
    /// Nothing is made yet.
    pub fn new(netns: &NetNs, closed: ClosedPorts) -> Self {
        Self {
            netns: netns.clone(),
            closed,
            wanted: BTreeMap::new(),
            made: None,
            dropped_before: Drops::new(),
            dropped: Drops::new(),
        }
    }

    /// Notes what a port may send; in force at once where the table stands, else with
    /// [`ensure`](Self::ensure).
    ///
    /// # Errors
    /// What nft said. It is in force after the next [`ensure`](Self::ensure) that succeeds.
    pub fn protect(&mut self, port: &GuardedPort) -> Result<()> {
        linkname::validate(&port.name)?;
        let elements = elements(port);
        let former = self.wanted.insert(port.name.clone(), elements.clone());
        self.change(&former.unwrap_or_default(), &elements)
    }

    /// Forgets a port. Unknown ones are no error.
    ///
    /// # Errors
    /// As [`protect`](Self::protect).
    pub fn release(&mut self, name: &str) -> Result<()> {
        match self.wanted.remove(name) {
            Some(former) => self.change(&former, &BTreeSet::new()),
            None => Ok(()),
        }
    }

    /// Whether a port is known.
    pub fn knows(&self, name: &str) -> bool {
        self.wanted.contains_key(name)
    }

    /// Makes the table hold just what it shall, in one transaction; says whether anything had to
    /// be changed.
    ///
    /// # Errors
    /// [`Error::NoProgram`] on a host without nft, otherwise what nft said.
    pub fn ensure(&mut self) -> Result<bool> {
        let wanted: BTreeSet<_> = self.wanted.values().flatten().cloned().collect();
        if let Some(found) = self.look()? {
            // not what a router before us let it count; and somebody may have removed a rule with
            // its count
            if self.made.is_some() {
                for (label, count) in found.dropped {
                    let seen = self.dropped.entry(label).or_default();
                    *seen = count.max(*seen);
                }
            }
            if self.made.as_ref() == Some(&found.rules) && found.elements == wanted {
                return Ok(false);
            }
        }
        run(
            &self.netns,
            &["-f", "-"],
            Some(&table(self.closed, &wanted)),
        )?;
        for (label, count) in std::mem::take(&mut self.dropped) {
            *self.dropped_before.entry(label).or_default() += count;
        }
        self.made = self.look()?.map(|found| found.rules);
        Ok(true)
    }

    /// Frames dropped until the last [`ensure`](Self::ensure), by reason.
    pub fn dropped(&self) -> BTreeMap<String, u64> {
        let mut dropped = self.dropped_before.clone();
        for (label, count) in &self.dropped {
            *dropped.entry(label.clone()).or_default() += count;
        }
        dropped
    }

    /// Removes the table; says whether there was one. A host without nft has none.
    ///
    /// # Errors
    /// What nft said.
    pub fn remove(netns: &NetNs) -> Result<bool> {
        match run(netns, &["delete", "table", "bridge", "weave"], None) {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn change(&mut self, former: &BTreeSet<Element>, now: &BTreeSet<Element>) -> Result<()> {
        let lines = |verb: &str, elements: Vec<&Element>| -> String {
            let lines = elements
                .into_iter()
                .map(|(set, element)| format!("{verb} element {TABLE} {set} {{ {element} }}\n"));
            lines.collect()
        };
        let script = lines("delete", former.difference(now).collect())
            + &lines("add", now.difference(former).collect());
        if self.made.is_none() || script.is_empty() {
            return Ok(());
        }
        match run(&self.netns, &["-f", "-"], Some(&script)) {
            Ok(_) => Ok(()),
            // somebody may have removed the table, or an element
            Err(_) => self.ensure().map(|_| ()),
        }
    }

    fn look(&self) -> Result<Option<Listing>> {
        match run(&self.netns, &["list", "table", "bridge", "weave"], None) {
            Ok(text) => Ok(Some(Listing::parse(&text))),
            Err(error @ Error::NoProgram { .. }) => Err(error),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn run(netns: &NetNs, arguments: &[&str], input: Option<&str>) -> Result<String> {
    let mut command = host::command(PROGRAM, Some(netns))?;
    command.args(arguments);
    let output = output_of(&mut command, PROGRAM, input)?;
    finish(&output, PROGRAM, arguments)
}

/// There is no such table, or no nft that could have made one.
fn is_absent(error: &Error) -> bool {
    matches!(error, Error::NoProgram { .. })
        || matches!(error, Error::CommandFailed { stderr, .. } if stderr.contains("No such file or directory"))
}

/// What the sets say of a port, in the very form in which nft shows it.
fn elements(port: &GuardedPort) -> BTreeSet<Element> {
    let name = format!("\"{}\"", port.name);
    if port.open {
        return BTreeSet::from([("open", name)]);
    }
    let [a, b, c, d, e, f] = port.mac;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    let station = format!("{name} . {mac}");
    let mut elements = BTreeSet::from([("macs", station.clone())]);
    for ip in &port.ips {
        match ip {
            IpAddr::V4(ip) => elements.extend([("ipv4", format!("{station} . {ip}"))]),
            IpAddr::V6(ip) => elements.extend([
                ("ipv6", format!("{station} . {ip}")),
                ("targets", format!("{name} . 0x{:032x}", ip.to_bits())),
            ]),
        }
    }
    elements
}

/// Script that makes the table anew, whatever there was.
fn table(closed: ClosedPorts, elements: &BTreeSet<Element>) -> String {
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    for (set, kind) in SETS {
        text += &format!("set {set} {{\n{kind}\n");
        let inside = elements.iter().filter(|(name, _)| *name == set);
        let inside: Vec<_> = inside.map(|(_, element)| element.as_str()).collect();
        if !inside.is_empty() {
            text += &format!("elements = {{ {} }}\n", inside.join(",\n"));
        }
        text += "}\n";
    }
    let status = closed.tcp.map_or_else(String::new, |port| {
        format!("tcp dport {port} counter drop comment \"router_port\"\n")
    });
    // before Docker's br_netfilter, which has priority 0
    text += &format!(
        "chain prerouting {{
            type filter hook prerouting priority -300; policy accept;
            iifname \"{HOST_VETH_PREFIX}*\" iifname != @open goto container
        }}
        chain input {{
            type filter hook input priority -300; policy accept;
            iifname \"{HOST_VETH_PREFIX}*\" goto router
            iifname \"{}*\" goto router
        }}
        chain router {{
            udp dport {} counter drop comment \"router_port\"
            {status}
        }}
        {CONTAINER}
        }}\n",
        linkname::DEFAULT_BRIDGE,
        closed.udp
    );
    text
}

/// What a container may send. A frame with a VLAN tag is of type 802.1Q.
const CONTAINER: &str = "
    chain container {
        ether type vmap { ip : goto container_ipv4, arp : goto container_arp, ip6 : goto container_ipv6 }
        counter drop comment \"protocol\"
    }
    chain container_ipv4 {
        iifname . ether saddr . ip saddr != @ipv4 counter drop comment \"ipv4_source\"
        udp sport 67 udp dport 68 counter drop comment \"dhcp_server\"
        accept
    }
    chain container_arp {
        @nh,0,48 != 0x000108000604 counter drop comment \"arp_hardware\"
        iifname . ether saddr != @macs counter drop comment \"mac\"
        iifname . arp saddr ether != @macs counter drop comment \"arp_sender\"
        arp saddr ip 0.0.0.0 arp operation request accept
        iifname . ether saddr . arp saddr ip != @ipv4 counter drop comment \"arp_sender\"
        accept
    }
    chain container_ipv6 {
        iifname . ether saddr != @macs counter drop comment \"mac\"
        icmpv6 type { nd-router-advert, nd-redirect } counter drop comment \"router\"
        udp sport 547 udp dport 546 counter drop comment \"dhcp_server\"
        icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets counter drop comment \"neighbour\"
        ip6 saddr :: icmpv6 type { nd-neighbor-solicit, mld-listener-report, mld-listener-done, mld2-listener-report } accept
        iifname . ether saddr . ip6 saddr != @ipv6 counter drop comment \"ipv6_source\"
        accept
    }";

/// What `nft list table` prints, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listing {
    /// Everything but elements and counts.
    rules: String,
    elements: BTreeSet<Element>,
    dropped: Drops,
}

impl Listing {
    fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        let (mut set, mut within) = (None, false);
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("set ") {
                let name = name.trim_end_matches(" {");
                set = SETS
                    .iter()
                    .map(|(known, _)| *known)
                    .find(|known| *known == name);
            }
            let first = line.strip_prefix("elements = {");
            if first.is_some() || within {
                let elements = first.unwrap_or(line);
                within = !elements.ends_with('}');
                let elements = elements.trim_end_matches('}').split(',').map(str::trim);
                let elements = elements.filter(|element| !element.is_empty());
                listing
                    .elements
                    .extend(elements.map(|element| (set.unwrap_or_default(), element.to_owned())));
                continue;
            }
            listing.rule(line);
        }
        listing
    }

    fn rule(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let counted = words.iter().position(|word| *word == "counter");
        let Some(at) = counted else {
            self.rules.push_str(line);
            self.rules.push('\n');
            return;
        };
        // counter packets N bytes M drop comment "reason"
        let (before, after) = words.split_at(at);
        let count = after.get(2).and_then(|count| count.parse::<u64>().ok());
        let reason = words.last().map_or("", |reason| reason.trim_matches('"'));
        *self.dropped.entry(reason.to_owned()).or_default() += count.unwrap_or(0);
        for word in before.iter().chain(after.iter().skip(5)) {
            self.rules.push_str(word);
            self.rules.push(' ');
        }
        self.rules.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(open: bool) -> GuardedPort {
        GuardedPort {
            name: "vethwl0a1b2c3d4".to_owned(),
            mac: [2, 0x77, 10, 32, 0, 1],
            ips: ["10.32.0.1", "fd00::1", "fe80::77:aff:fe20:1"]
                .map(|ip| ip.parse().unwrap())
                .to_vec(),
            open,
        }
    }

    fn list(elements: &BTreeSet<Element>) -> Vec<String> {
        let lines = elements.iter().map(|(set, text)| format!("{set}: {text}"));
        lines.collect()
    }

    #[test]
    fn a_port_may_send_with_its_addresses_and_the_link_local_one_of_its_mac() {
        assert_eq!(
            list(&elements(&port(false))),
            [
                r#"ipv4: "vethwl0a1b2c3d4" . 02:77:0a:20:00:01 . 10.32.0.1"#,
                r#"ipv6: "vethwl0a1b2c3d4" . 02:77:0a:20:00:01 . fd00::1"#,
                r#"ipv6: "vethwl0a1b2c3d4" . 02:77:0a:20:00:01 . fe80::77:aff:fe20:1"#,
                r#"macs: "vethwl0a1b2c3d4" . 02:77:0a:20:00:01"#,
                r#"targets: "vethwl0a1b2c3d4" . 0xfd000000000000000000000000000001"#,
                r#"targets: "vethwl0a1b2c3d4" . 0xfe8000000000000000770afffe200001"#,
            ]
        );
        assert_eq!(list(&elements(&port(true))), [r#"open: "vethwl0a1b2c3d4""#]);
    }

    #[test]
    fn the_port_of_the_state_is_closed_only_where_it_is_open_to_others() {
        let closed = |tcp| table(ClosedPorts { udp: 6783, tcp }, &BTreeSet::new());
        assert!(closed(None).contains("udp dport 6783") && !closed(None).contains("tcp dport"));
        assert!(closed(Some(6782)).contains("tcp dport 6782 counter drop"));
    }

    #[test]
    fn a_listing_is_taken_apart_into_rules_elements_and_counts() {
        let text = "table bridge weave {\n\tset macs {\n\t\ttype ifname . ether_addr\n\
                    \t\telements = { \"vethwl1\" . 02:00:00:00:00:01,\n\
                    \t\t\t     \"vethwl2\" . 02:00:00:00:00:02 }\n\t}\n\n\tset open {\n\
                    \t\ttype ifname\n\t\telements = { \"vethwl3\" }\n\t}\n\n\tchain arp {\n\
                    \t\tarp htype != 1 counter packets 3 bytes 126 drop comment \"arp\"\n\
                    \t\tcounter packets 4 bytes 9 drop comment \"arp\"\n\t\taccept\n\t}\n}\n";
        let listing = Listing::parse(text);
        let [one, two] = ["1", "2"].map(|n| format!("\"vethwl{n}\" . 02:00:00:00:00:0{n}"));
        let elements = [
            ("macs", one),
            ("macs", two),
            ("open", "\"vethwl3\"".to_owned()),
        ];
        assert_eq!(listing.elements, BTreeSet::from(elements));
        assert_eq!(listing.dropped, Drops::from([("arp".to_owned(), 7)]));
        let recounted = Listing::parse(&text.replace("packets 3", "packets 5"));
        assert_eq!(recounted.rules, listing.rules);
        let changed = Listing::parse(&text.replace("htype != 1", "htype != 2"));
        assert_ne!(changed.rules, listing.rules);
        assert_ne!(
            Listing::parse(&text.replace("drop", "accept")).rules,
            listing.rules
        );
    }
}

//! Answers for the domain of the mesh and for reverse names.
//!
//! Pure: a query and the names that are live now give a [`Verdict`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hickory_proto::op::Query;
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::{NameSource, TTL};

/// The domain is no domain name.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no DNS domain")]
#[non_exhaustive]
pub(crate) struct InvalidDomain(String);

/// Where addresses have their names.
const REVERSE: [&str; 2] = ["in-addr.arpa", "ip6.arpa"];

/// What becomes of a query.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// These records, in any order.
    Answer(Vec<Record>),
    /// The name exists, but nothing of this type: no error, no answer.
    NoData,
    /// There is no such name.
    NoSuchName,
    /// Not ours to say.
    Refuse,
    /// Somebody else knows.
    Forward,
}

/// The domain of the mesh.
#[derive(Debug)]
pub(super) struct Zone {
    apex: Name,
    /// Lower case, no dot at its end.
    suffix: String,
}

/// Where a name lies.
enum Place {
    Apex,
    /// Within the domain; the key of the name table.
    Within(String),
    Reverse,
    Outside,
}

impl Zone {
    /// The zone of this domain, with or without a dot at its end.
    pub(super) fn new(domain: &str) -> Result<Self, InvalidDomain> {
        let suffix = domain.trim_end_matches('.').to_ascii_lowercase();
        let invalid = || InvalidDomain(domain.to_owned());
        if suffix.is_empty() || !suffix.is_ascii() {
            return Err(invalid());
        }
        let apex = Name::from_str(&format!("{suffix}.")).map_err(|_| invalid())?;
        Ok(Self { apex, suffix })
    }

    /// The domain with a dot at its end.
    pub(super) fn domain(&self) -> String {
        format!("{}.", self.suffix)
    }

    /// Key in the name table of a name that a user typed; none outside the domain.
    pub(super) fn key_of_text(&self, name: &str) -> Option<String> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() {
            return None;
        }
        if !name.contains('.') {
            return Some(format!("{name}.{}", self.suffix));
        }
        is_below(&name, &self.suffix).then_some(name)
    }

    /// What becomes of this query.
    pub(super) fn judge(&self, query: &Query, names: &dyn NameSource) -> Verdict {
        let place = self.place(&query.name);
        if !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) {
            return match place {
                Place::Apex | Place::Within(_) => Verdict::Refuse,
                Place::Reverse | Place::Outside => Verdict::Forward,
            };
        }
        match place {
            Place::Apex => self.judge_apex(query),
            Place::Within(key) => judge_host(query, names.addresses(&key)),
            Place::Reverse => judge_reverse(query, names),
            Place::Outside => Verdict::Forward,
        }
    }

    /// Whether a name that is not there yet would change the verdict.
    pub(super) fn is_doubtful(&self, verdict: &Verdict, query: &Query) -> bool {
        match verdict {
            Verdict::NoSuchName => true,
            Verdict::Forward => matches!(self.place(&query.name), Place::Reverse),
            Verdict::Answer(_) | Verdict::NoData | Verdict::Refuse => false,
        }
    }

    /// The record that goes with a negative answer (RFC 2308): whose word it is, and how long it
    /// may be kept.
    pub(super) fn soa_of(&self, name: &Name) -> Record {
        let text = text_of(name);
        let tree = REVERSE.iter().find(|tree| is_below(&text, tree));
        match tree.and_then(|tree| Name::from_ascii(format!("{tree}.")).ok()) {
            Some(tree) => self.soa(tree),
            None => self.soa(self.apex.clone()),
        }
    }

    fn soa(&self, owner: Name) -> Record {
        let mname = self.within("ns");
        let rname = self.within("hostmaster");
        let ttl = i32::try_from(TTL).unwrap_or(1);
        let soa = SOA::new(mname, rname, 1, ttl, ttl, ttl, TTL);
        Record::from_rdata(owner, TTL, RData::SOA(soa))
    }

    fn within(&self, label: &str) -> Name {
        self.apex
            .prepend_label(label)
            .unwrap_or_else(|_| self.apex.clone())
    }

    fn judge_apex(&self, query: &Query) -> Verdict {
        if matches!(query.query_type, RecordType::SOA | RecordType::ANY) {
            return Verdict::Answer(vec![self.soa(self.apex.clone())]);
        }
        Verdict::NoData
    }

    fn place(&self, name: &Name) -> Place {
        let text = text_of(name);
        if text.is_empty() {
            return Place::Outside;
        }
        if text == self.suffix {
            return Place::Apex;
        }
        if name.num_labels() == 1 && name.iter().len() == 1 {
            return Place::Within(format!("{text}.{}", self.suffix));
        }
        if is_below(&text, &self.suffix) {
            return Place::Within(text);
        }
        if REVERSE.iter().any(|tree| is_below(&text, tree)) {
            return Place::Reverse;
        }
        Place::Outside
    }
}

/// Lower case, no dot at its end.
fn text_of(name: &Name) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !label.iter().all(is_plain) {
            return escaped_text_of(name);
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(
            label
                .iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
    }
    text
}

/// The same of any name; slow.
fn escaped_text_of(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.truncate(text.trim_end_matches('.').len());
    text.make_ascii_lowercase();
    text
}

fn is_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone)
        .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn judge_host(query: &Query, addresses: Vec<IpAddr>) -> Verdict {
    if addresses.is_empty() {
        return Verdict::NoSuchName;
    }
    // RFC 8482 section 4.1: one kind of records is answer enough to ANY
    let asked = if query.query_type != RecordType::ANY {
        query.query_type
    } else if addresses.iter().any(IpAddr::is_ipv4) {
        RecordType::A
    } else {
        RecordType::AAAA
    };
    let records: Vec<Record> = addresses
        .into_iter()
        .filter_map(|ip| address_data(asked, ip))
        .map(|data| Record::from_rdata(query.name.clone(), TTL, data))
        .collect();
    if records.is_empty() {
        return Verdict::NoData;
    }
    Verdict::Answer(records)
}

fn address_data(asked: RecordType, ip: IpAddr) -> Option<RData> {
    match (asked, ip) {
        (RecordType::A, IpAddr::V4(ip)) => Some(RData::A(A(ip))),
        (RecordType::AAAA, IpAddr::V6(ip)) => Some(RData::AAAA(AAAA(ip))),
        _ => None,
    }
}

/// A reverse name of an address of ours is answered; other sound ones are
/// upstream's, which alone knows the zones between.
fn judge_reverse(query: &Query, names: &dyn NameSource) -> Verdict {
    let ip = match parse_reverse(&query.name) {
        Reverse::Malformed => return Verdict::NoSuchName,
        Reverse::Zone => return Verdict::Forward,
        Reverse::Address(ip) => ip,
    };
    let Some(name) = names.name_of(ip) else {
        return Verdict::Forward;
    };
    if !matches!(query.query_type, RecordType::PTR | RecordType::ANY) {
        return Verdict::NoData;
    }
    match Name::from_ascii(format!("{}.", name.trim_end_matches('.'))) {
        Ok(target) => Verdict::Answer(vec![Record::from_rdata(
            query.name.clone(),
            TTL,
            RData::PTR(PTR(target)),
        )]),
        Err(_) => Verdict::NoData,
    }
}

#[derive(Debug, PartialEq)]
enum Reverse {
    Address(IpAddr),
    /// A zone above addresses, such as `10.in-addr.arpa`.
    Zone,
    Malformed,
}

fn parse_reverse(name: &Name) -> Reverse {
    let text = text_of(name);
    if let Some(labels) = text.strip_suffix(".in-addr.arpa") {
        return parse_v4(labels);
    }
    match text.strip_suffix(".ip6.arpa") {
        Some(labels) => parse_v6(labels),
        None => Reverse::Malformed,
    }
}

fn parse_v4(labels: &str) -> Reverse {
    let mut octets = [0u8; 4];
    let mut count = 0;
    for label in labels.rsplit('.') {
        let is_number =
            label == "0" || (label.bytes().all(|b| b.is_ascii_digit()) && !label.starts_with('0'));
        let (Some(octet), Ok(value), true) = (octets.get_mut(count), label.parse(), is_number)
        else {
            return Reverse::Malformed;
        };
        *octet = value;
        count += 1;
    }
    match count {
        4 => Reverse::Address(IpAddr::V4(Ipv4Addr::from(octets))),
        _ => Reverse::Zone,
    }
}

fn parse_v6(labels: &str) -> Reverse {
    let mut value = 0u128;
    let mut count = 0u32;
    for label in labels.rsplit('.') {
        let mut chars = label.chars();
        let digit = chars.next().and_then(|c| c.to_digit(16));
        let (Some(digit), None, true) = (digit, chars.next(), count < 32) else {
            return Reverse::Malformed;
        };
        value = (value << 4) | u128::from(digit);
        count += 1;
    }
    match count {
        32 => Reverse::Address(IpAddr::V6(Ipv6Addr::from(value))),
        _ => Reverse::Zone,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::Names;
    use super::*;

    fn judge(name: &str, kind: RecordType) -> Verdict {
        let names = Names::of(&[
            ("Web.weave.local", "10.32.0.1"),
            ("web.Weave.local", "10.32.0.2"),
            ("a.b.weave.local", "10.32.0.3"),
            ("six.weave.local", "fd00::1"),
        ]);
        let zone = Zone::new("weave.local.").unwrap();
        zone.judge(&Query::query(Name::from_ascii(name).unwrap(), kind), &names)
    }

    fn answers(verdict: &Verdict) -> Vec<String> {
        let Verdict::Answer(records) = verdict else {
            panic!("no answer: {verdict:?}");
        };
        let text = |r: &Record| format!("{} {} {}", r.name, r.ttl, r.data);
        records.iter().map(text).collect()
    }

    #[test]
    fn a_known_name_answers_all_its_addresses_under_the_case_asked() {
        assert_eq!(
            answers(&judge("wEb.weave.LOCAL.", RecordType::A)),
            [
                "wEb.weave.LOCAL. 1 10.32.0.1",
                "wEb.weave.LOCAL. 1 10.32.0.2"
            ]
        );
        assert_eq!(
            answers(&judge("a.b.weave.local.", RecordType::A)),
            ["a.b.weave.local. 1 10.32.0.3"]
        );
    }

    #[test]
    fn a_bare_label_is_taken_within_the_domain_and_never_forwarded() {
        assert_eq!(answers(&judge("WEB.", RecordType::A)).len(), 2);
        assert_eq!(judge("com.", RecordType::A), Verdict::NoSuchName);
        assert_eq!(judge("com.", RecordType::NS), Verdict::NoSuchName);
    }

    #[test]
    fn other_types_of_a_known_name_are_no_error() {
        assert_eq!(judge("web.weave.local.", RecordType::AAAA), Verdict::NoData);
        assert_eq!(judge("web.weave.local.", RecordType::MX), Verdict::NoData);
        assert_eq!(judge("six.weave.local.", RecordType::A), Verdict::NoData);
        assert_eq!(
            answers(&judge("six.weave.local.", RecordType::AAAA)),
            ["six.weave.local. 1 fd00::1"]
        );
    }

    #[test]
    fn a_question_for_anything_is_answered_with_one_kind_of_records() {
        let names = Names::of(&[
            ("both.weave.local", "fd00::1"),
            ("both.weave.local", "10.32.0.1"),
            ("six.weave.local", "fd00::2"),
        ]);
        let zone = Zone::new("weave.local").unwrap();
        let any = |name| {
            let name = Name::from_ascii(name).unwrap();
            zone.judge(&Query::query(name, RecordType::ANY), &names)
        };
        assert_eq!(
            answers(&any("both.weave.local.")),
            ["both.weave.local. 1 10.32.0.1"]
        );
        assert_eq!(
            answers(&any("six.weave.local.")),
            ["six.weave.local. 1 fd00::2"]
        );
        assert_eq!(any("none.weave.local."), Verdict::NoSuchName);
        assert_eq!(answers(&any("weave.local.")).len(), 1);
        assert_eq!(answers(&any("1.0.32.10.in-addr.arpa.")).len(), 1);
    }

    #[test]
    fn who_denies_a_name_is_the_zone_above_it() {
        let zone = Zone::new("weave.local").unwrap();
        let owner = |name| {
            zone.soa_of(&Name::from_ascii(name).unwrap())
                .name
                .to_string()
        };
        assert_eq!(owner("none.weave.local."), "weave.local.");
        assert_eq!(owner("none."), "weave.local.", "it was looked for there");
        assert_eq!(owner("x.0.32.10.IN-ADDR.arpa."), "in-addr.arpa.");
        assert_eq!(owner("x.ip6.arpa."), "ip6.arpa.");
    }

    #[test]
    fn the_domain_ends_at_a_label() {
        assert_eq!(
            judge("none.weave.local.", RecordType::A),
            Verdict::NoSuchName
        );
        assert_eq!(judge("weave.local.", RecordType::A), Verdict::NoData);
        assert_eq!(answers(&judge("weave.local.", RecordType::SOA)).len(), 1);
        assert_eq!(judge("notweave.local.", RecordType::A), Verdict::Forward);
        assert_eq!(judge("local.", RecordType::A), Verdict::NoSuchName);
        assert_eq!(judge("example.com.", RecordType::A), Verdict::Forward);
        assert_eq!(judge(".", RecordType::NS), Verdict::Forward);
    }

    #[test]
    fn reverse_names_of_ours_are_answered_with_the_stored_case_and_others_go_upstream() {
        assert_eq!(
            answers(&judge("1.0.32.10.In-Addr.ARPA.", RecordType::PTR)),
            ["1.0.32.10.In-Addr.ARPA. 1 Web.weave.local."]
        );
        assert_eq!(
            judge("1.0.32.10.in-addr.arpa.", RecordType::TXT),
            Verdict::NoData
        );
        assert_eq!(
            judge("9.0.32.10.in-addr.arpa.", RecordType::PTR),
            Verdict::Forward
        );
        assert_eq!(
            judge("32.10.in-addr.arpa.", RecordType::SOA),
            Verdict::Forward
        );
        assert_eq!(
            judge("x.0.32.10.in-addr.arpa.", RecordType::PTR),
            Verdict::NoSuchName
        );
        for malformed in ["01.0.32.10", "256.0.32.10", "1..32.10", "-1.0.32.10"] {
            let Ok(name) = Name::from_ascii(format!("{malformed}.in-addr.arpa.")) else {
                continue;
            };
            let verdict = judge(&name.to_string(), RecordType::PTR);
            assert_eq!(verdict, Verdict::NoSuchName, "{malformed}");
        }
        assert_eq!(
            judge("1.1.0.32.10.in-addr.arpa.", RecordType::PTR),
            Verdict::NoSuchName
        );
        let six = format!("1.{}d.f.ip6.arpa.", "0.".repeat(29));
        assert_eq!(answers(&judge(&six, RecordType::PTR)).len(), 1);
        assert_eq!(judge("8.b.d.ip6.arpa.", RecordType::NS), Verdict::Forward);
    }

    #[test]
    fn other_classes_are_refused_within_the_domain() {
        let zone = Zone::new("weave.local").unwrap();
        let mut query = Query::query(Name::from_ascii("web.weave.local.").unwrap(), RecordType::A);
        query.query_class = DNSClass::CH;
        assert_eq!(zone.judge(&query, &Names::of(&[])), Verdict::Refuse);
    }

    #[test]
    fn typed_names_may_lack_the_domain_or_the_dot() {
        let zone = Zone::new("weave.local").unwrap();
        let key = Some("web.weave.local".to_owned());
        assert_eq!(zone.key_of_text("Web"), key);
        assert_eq!(zone.key_of_text("web.weave.local."), key);
        assert_eq!(zone.key_of_text("web.example.com"), None);
        assert_eq!(zone.key_of_text(""), None);
    }

    #[test]
    fn a_domain_that_is_none_is_refused() {
        for domain in ["", ".", "a..b", "weavé.local"] {
            assert!(Zone::new(domain).is_err(), "{domain}");
        }
    }

    #[test]
    fn what_is_no_domain_is_named() {
        let long = "a".repeat(64);
        for domain in ["", ".", "a..b", "wéave.local", &long] {
            let error = Zone::new(domain).unwrap_err().to_string();
            assert_eq!(error, format!("`{domain}` is no DNS domain"));
        }
        for domain in ["weave.local.", "my_mesh.local", "xn--a.example"] {
            assert!(Zone::new(domain).is_ok(), "{domain}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_name_has_the_same_text_the_fast_way(labels in prop::collection::vec("[a-zA-Z0-9][a-zA-Z0-9_-]{0,11}", 0..6)) {
            let name = Name::from_labels(labels.iter().map(|label| label.as_bytes())).unwrap();
            prop_assert_eq!(text_of(&name), escaped_text_of(&name));
        }

        #[test]
        fn any_labels_get_a_verdict(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8), kind: u16) {
            let Ok(name) = Name::from_labels(labels.iter().map(Vec::as_slice)) else {
                return Ok(());
            };
            for suffix in ["", "weave.local.", "in-addr.arpa.", "ip6.arpa."] {
                let suffix = Name::from_ascii(suffix).unwrap();
                let Ok(name) = name.clone().append_domain(&suffix) else { continue };
                let zone = Zone::new("weave.local").unwrap();
                let query = Query::query(name, RecordType::from(kind));
                zone.judge(&query, &Names::of(&[("web.weave.local", "10.32.0.1")]));
            }
        }
    }
}

//! The books that no peer has: who was promised which address, which frame went where.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use weave_node::ipam::IpamError;
use weave_node::names::{NameEntry, NameTable};
use weave_wire::{Cidr, PeerId, Time};

/// A run with this many violations is not worth going on with.
const HOPELESS: usize = 20;

/// A request is answered after this long at the latest: 5 s on the slowest clock.
const ANSWER_WITHIN: Duration = Duration::from_micros(5_001_100);

/// A request for an address that is not answered yet.
#[derive(Debug)]
struct Request {
    host: usize,
    subnet: Cidr,
    wanted: Option<Ipv4Addr>,
    since: Time,
}

/// Who uses an address.
#[derive(Debug)]
struct Holder {
    host: usize,
    container: u64,
}

/// When a container began and ended, in the order of such moments.
#[derive(Debug)]
struct Times {
    began: u64,
    ended: Option<u64>,
}

/// What is known from outside, and what was found wrong.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    violations: Vec<String>,
    requests: BTreeMap<u64, Request>,
    holders: BTreeMap<Ipv4Addr, Holder>,
    /// The host that somebody has banned.
    out: Option<usize>,
    containers: BTreeMap<u64, Times>,
    moment: u64,
    /// The latest beginning that a host has shown of an origin, in each life of its router.
    latest: BTreeMap<(usize, u64, PeerId), u64>,
    next_frame: u64,
    /// Arrivals of frames at hosts: at their receiver, and anywhere else.
    arrivals: BTreeMap<(u64, usize), (u32, u32)>,
}

impl Oracle {
    pub(crate) fn violation(&mut self, text: String) {
        tracing::error!("{text}");
        if self.violations.len() < HOPELESS {
            self.violations.push(text);
        }
    }

    pub(crate) fn into_violations(self) -> Vec<String> {
        self.violations
    }

    /// Whether anything is wrong.
    pub(crate) const fn is_broken(&self) -> bool {
        !self.violations.is_empty()
    }

    /// Whether so much is wrong that the run can end.
    pub(crate) const fn is_hopeless(&self) -> bool {
        self.violations.len() >= HOPELESS
    }

    /// A container asked for an address.
    pub(crate) fn asked(
        &mut self,
        number: u64,
        host: usize,
        subnet: Cidr,
        wanted: Option<Ipv4Addr>,
        now: Time,
    ) {
        self.requests.insert(
            number,
            Request {
                host,
                subnet,
                wanted,
                since: now,
            },
        );
    }

    /// A request was answered; the address, if it was given.
    pub(crate) fn answered(
        &mut self,
        number: u64,
        host: usize,
        result: &Result<IpAddr, IpamError>,
        now: Time,
    ) -> Option<(Cidr, Ipv4Addr)> {
        let Some(request) = self.requests.remove(&number) else {
            self.violation(format!("host {host} answered request {number} again"));
            return None;
        };
        self.check_time(number, &request, now);
        let Ok(IpAddr::V4(ip)) = result else {
            return None;
        };
        let (ip, subnet) = (*ip, request.subnet);
        if !subnet.contains(ip.into()) || request.wanted.is_some_and(|wanted| wanted != ip) {
            self.violation(format!("host {host} gave {ip} for {request:?}"));
        }
        let holder = Holder {
            host,
            container: number,
        };
        // what a banned host has is others' to give out, and it may not know that yet
        let Some(before) = self.holders.insert(ip, holder) else {
            return Some((subnet, ip));
        };
        if self.out == Some(host) {
            self.holders.insert(ip, before);
        } else if self.out != Some(before.host) {
            self.violation(format!(
                "{ip} given to container {number} on host {host} while container {} on host {} \
                 has it",
                before.container, before.host
            ));
        }
        Some((subnet, ip))
    }

    /// Somebody has banned this host.
    pub(crate) const fn banned(&mut self, host: usize) {
        self.out = Some(host);
    }

    /// A container begins, or goes on while its router starts anew.
    pub(crate) fn announced(&mut self, number: u64) {
        self.moment += 1;
        let times = Times {
            began: self.moment,
            ended: None,
        };
        self.containers.entry(number).or_insert(times);
    }

    /// A container ended and gave its address back.
    pub(crate) fn ended(&mut self, number: u64, ip: Ipv4Addr) {
        let is_its = |holder: &Holder| holder.container == number;
        if self.holders.get(&ip).is_some_and(is_its) {
            self.holders.remove(&ip);
        }
        self.moment += 1;
        if let Some(times) = self.containers.get_mut(&number) {
            times.ended = Some(self.moment);
        }
    }

    /// A host shows these names from now on, and what it showed before. Of each origin it must
    /// never go back to what was before something that it has shown already.
    pub(crate) fn shown(&mut self, host: usize, life: u64, before: &NameTable, names: &NameTable) {
        if self.containers.is_empty() {
            return;
        }
        let known: Vec<(&NameEntry, &Times)> = names
            .added_since(before)
            .filter_map(|entry| Some((entry, self.containers.get(&number_of(&entry.name)?)?)))
            .collect();
        for (entry, times) in &known {
            let latest = self.latest.entry((host, life, entry.origin)).or_default();
            *latest = times.began.max(*latest);
        }
        let gone_back = known.iter().find_map(|(entry, times)| {
            let latest = self.latest.get(&(host, life, entry.origin))?;
            (times.ended? < *latest).then(|| entry.name.clone())
        });
        if let Some(name) = gone_back {
            self.violation(format!(
                "host {host} went back to an older log and shows {name} again"
            ));
        }
    }

    /// A router does nothing for so long, and cannot answer meanwhile.
    pub(crate) fn paused(&mut self, host: usize, time: Duration) {
        for request in self.requests.values_mut() {
            if request.host == host {
                request.since += time;
            }
        }
    }

    /// A router is gone, and so is what it had not answered.
    pub(crate) fn router_gone(&mut self, host: usize) {
        self.requests.retain(|_, request| request.host != host);
    }

    /// Whether any request is open that should have been answered.
    pub(crate) fn check_overdue(&mut self, now: Time) {
        for (number, request) in std::mem::take(&mut self.requests) {
            self.check_time(number, &request, now);
            self.requests.insert(number, request);
        }
    }

    /// A number for a frame.
    pub(crate) const fn next_frame(&mut self) -> u64 {
        self.next_frame += 1;
        self.next_frame
    }

    /// A frame arrived at a host, which must not see it twice.
    pub(crate) fn delivered(&mut self, number: u64, host: usize, is_here: bool) {
        let (right, wrong) = self.arrivals.entry((number, host)).or_default();
        *right += u32::from(is_here);
        *wrong += u32::from(!is_here);
        if *right + *wrong > 1 {
            self.violation(format!("frame {number} arrived twice at host {host}"));
        }
    }

    /// How often a frame arrived at its receiver, and elsewhere.
    pub(crate) fn arrivals(&self, number: u64) -> (u32, u32) {
        let all = self.arrivals.range((number, 0)..=(number, usize::MAX));
        all.fold((0, 0), |sum, (_, (right, wrong))| {
            (sum.0 + right, sum.1 + wrong)
        })
    }

    fn check_time(&mut self, number: u64, request: &Request, now: Time) {
        let took = now.saturating_sub(request.since);
        if took > ANSWER_WITHIN {
            let host = request.host;
            self.violation(format!("request {number} on host {host} took {took:?}"));
        }
    }
}

/// The number of the container whose own name this is.
fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix('c')?.split('.').next()?.parse().ok()
}

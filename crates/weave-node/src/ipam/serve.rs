//! Requests of this host's containers: from own space where possible, else by asking.

use std::collections::BTreeSet;

use weave_wire::{Cidr, PeerId, Time};

use super::ask::{AskKey, Verdict};
use super::genesis::Genesis;
use super::pool::{Loan, Phase, Pick};
use super::span::{Span, ip_of, subtract, total};
use super::stage::Staged;
use super::{ANSWER_WITHIN, Ipam, IpamError};

/// How long a request waits for an owner without a session.
const UNREACHABLE_GRACE: std::time::Duration = std::time::Duration::from_secs(2);
/// How long more space is looked for when addresses in quarantine would do.
const SPARE_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// A request that has not been decided.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) ticket: u64,
    pub(super) owner: String,
    pub(super) subnet: Cidr,
    pub(super) wanted: Option<u32>,
    pub(super) since: Time,
}

impl Pending {
    /// When it must be answered.
    pub(super) fn deadline(&self) -> Time {
        self.since + ANSWER_WITHIN
    }

    /// When to look at it again, if nothing else happens.
    pub(super) fn wake_at(&self, now: Time) -> Time {
        let times = [self.since + SPARE_GRACE, self.since + UNREACHABLE_GRACE];
        times
            .into_iter()
            .find(|at| *at > now)
            .unwrap_or_else(|| self.deadline())
    }

    /// What has to be asked of others for it.
    pub(super) const fn ask_key(&self) -> AskKey {
        match self.wanted {
            Some(ip) => AskKey::Address(self.subnet, ip),
            None => AskKey::Subnet(self.subnet),
        }
    }

    /// What it is for, in words.
    fn what(&self) -> String {
        match self.wanted {
            Some(ip) => format!("address {}", ip_of(ip)),
            None => format!("the free space of subnet {}", self.subnet),
        }
    }
}

/// What becomes of a request for now.
enum Step {
    Wait,
    Refuse(IpamError),
    Take { ip: u32, loan: Option<Loan> },
}

impl Ipam {
    /// Whether a request can be served at all.
    pub(super) fn check(
        &self,
        subnet: Cidr,
        wanted: Option<std::net::Ipv4Addr>,
    ) -> Result<(), IpamError> {
        let range = self.config.range.ok_or(IpamError::Disabled)?;
        if let Some(why) = &self.fault {
            return Err(IpamError::NotReady { why: why.clone() });
        }
        if !range.covers(&subnet) {
            return Err(IpamError::OutOfRange { subnet, range });
        }
        if subnet.prefix_len() > 30 {
            return Err(IpamError::TooSmall { subnet });
        }
        let Some(ip) = wanted else { return Ok(()) };
        let refuse = |why: String| Err(IpamError::NotUsable { ip, why });
        if !subnet.contains(ip.into()) {
            return refuse(format!("it is not in subnet {subnet}"));
        }
        if let Some(role) = reserved_role(subnet, ip.to_bits()) {
            return refuse(format!("it is the {role} of subnet {subnet}"));
        }
        match self
            .ledger
            .subnets_inside(subnet)
            .find(|inner| inner.contains(ip.into()))
        {
            Some(inner) => refuse(format!("it belongs to the network {inner} inside {subnet}")),
            None => Ok(()),
        }
    }

    /// Whether this request is known already; if it was served, serves the same again.
    pub(super) fn repeats(&mut self, ticket: u64) -> bool {
        if self.pending.iter().any(|pending| pending.ticket == ticket) {
            return true;
        }
        let known = self
            .pool
            .held
            .iter()
            .find(|(_, held)| held.ticket == Some(ticket));
        let Some((ip, held)) = known else {
            return false;
        };
        let ip = *ip;
        if held.phase == Phase::Kept {
            self.answer(ticket, Ok(ip_of(ip)));
        }
        true
    }

    /// Decides every waiting request that can be decided.
    pub(super) fn serve(&mut self) {
        if self.genesis.is_none() || self.is_unsettled() {
            return;
        }
        for pending in std::mem::take(&mut self.pending) {
            match self.step(&pending) {
                Step::Wait => self.pending.push(pending),
                Step::Refuse(why) => self.answer(pending.ticket, Err(why)),
                Step::Take { ip, loan } => {
                    self.offers.remove(&ip);
                    self.stage_hold(&pending, ip, loan);
                }
            }
        }
    }

    /// Refuses what has waited for too long, with the reason.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        for pending in std::mem::take(&mut self.pending) {
            if now < pending.deadline() {
                self.pending.push(pending);
                continue;
            }
            let why = self.reason(&pending);
            self.answer(pending.ticket, Err(why));
        }
        let mut late = Vec::new();
        for staged in self.staged.values_mut() {
            if let Staged::Hold {
                ticket, deadline, ..
            } = staged
                && now >= *deadline
            {
                late.extend(ticket.take());
            }
        }
        for ticket in late {
            let why = "the disk is too slow, it took over five seconds".to_owned();
            self.answer(ticket, Err(IpamError::Storage { why }));
        }
    }

    /// Addresses of our own chunks that belong to this subnet and may be given to hosts.
    pub(super) fn own_space(&self, subnet: Cidr) -> Vec<Span> {
        let Some(genesis) = &self.genesis else {
            return Vec::new();
        };
        let Some(within) = Span::of(subnet) else {
            return Vec::new();
        };
        let owned = self
            .usable_runs()
            .filter_map(|run| genesis.addresses(run.chunks).intersect(within))
            .collect();
        let inner = self.ledger.subnets_inside(subnet).filter_map(Span::of);
        subtract(owned, inner.chain(reserved(within).map(Span::one)))
    }

    /// Asks for more space ahead of need where little of ours is left.
    pub(super) fn prefetch(&mut self) {
        for subnet in std::mem::take(&mut self.low) {
            let Some(within) = Span::of(subnet) else {
                continue;
            };
            let may = self
                .genesis
                .as_ref()
                .is_some_and(|genesis| !genesis.lends_only(within))
                && self
                    .prefetch_after
                    .get(&subnet)
                    .is_none_or(|after| *after <= self.now);
            if !may {
                continue;
            }
            let space = self.own_space(subnet);
            let size = total(&space);
            let free = size.saturating_sub(self.pool.busy_within(&space));
            if size > 0 && free * 4 < size {
                self.start_prefetch(subnet);
            }
        }
    }

    /// The best address of ours to give out: none that a peer's container has, for our disk may
    /// have come back older than it was and lack a grant or loan.
    pub(super) fn pick(&self, space: &[Span]) -> Option<Pick> {
        let others_use = |ip| self.user_of(ip).is_some();
        self.pool.pick(space, others_use, self.now)
    }

    fn step(&mut self, pending: &Pending) -> Step {
        match pending.wanted {
            Some(ip) => self.step_wanted(pending, ip),
            None => self.step_any(pending),
        }
    }

    fn step_any(&mut self, pending: &Pending) -> Step {
        let offered = self
            .offers
            .iter()
            .find(|(ip, _)| self.is_usable(pending.subnet, **ip));
        if let Some((ip, loan)) = offered {
            return Step::Take {
                ip: *ip,
                loan: Some(*loan),
            };
        }
        let space = self.own_space(pending.subnet);
        let spare = match self.pick(&space) {
            Some(Pick::Free(ip)) => return Step::Take { ip, loan: None },
            Some(Pick::Quarantined(ip)) => Some(Step::Take { ip, loan: None }),
            None => None,
        };
        let asked_long = spare.is_some() && self.now >= pending.since + SPARE_GRACE;
        match self.verdict(pending.ask_key(), pending.since) {
            None if !asked_long => Step::Wait,
            None => spare.unwrap_or(Step::Wait),
            Some(verdict) => spare.unwrap_or_else(|| match self.fenced_note() {
                Some(why) => Step::Refuse(IpamError::NotReady { why }),
                None => self.conclude(pending, verdict),
            }),
        }
    }

    fn step_wanted(&mut self, pending: &Pending, ip: u32) -> Step {
        if let Some(loan) = self.offers.get(&ip).copied().or_else(|| self.keep_loan(ip)) {
            return Step::Take {
                ip,
                loan: Some(loan),
            };
        }
        let taken = |holder: String| {
            Step::Refuse(IpamError::Taken {
                ip: ip_of(ip),
                holder,
            })
        };
        if let Some(held) = self.pool.held.get(&ip) {
            return match held.phase {
                Phase::Storing | Phase::Kept => taken(held.owner.clone()),
                // it is being freed, perhaps for this very request
                Phase::Leaving => Step::Wait,
            };
        }
        if let Some(lent) = self.pool.lent.get(&ip) {
            return taken(format!(
                "a container of peer {}",
                self.ledger.label(lent.borrower)
            ));
        }
        if let Some(run) = self.run_at(ip).filter(|run| run.owner == self.me) {
            if let Some(why) = self.fenced_note() {
                return Step::Refuse(IpamError::NotReady { why });
            }
            if !self.is_surely_ours(run) {
                return Step::Wait;
            }
            return match self.user_of(ip) {
                None => Step::Take { ip, loan: None },
                Some(user) if self.now >= pending.since + SPARE_GRACE => {
                    taken(format!("a container of peer {}", self.ledger.label(user)))
                }
                // it may have moved here
                Some(_) => Step::Wait,
            };
        }
        match self.verdict(pending.ask_key(), pending.since) {
            None => Step::Wait,
            Some(verdict) => self.conclude(pending, verdict),
        }
    }

    /// What a request comes to when asking others has ended like this.
    fn conclude(&self, pending: &Pending, verdict: Verdict) -> Step {
        match verdict {
            Verdict::Full => Step::Refuse(IpamError::Full {
                subnet: pending.subnet,
            }),
            Verdict::Taken { holder } => {
                let ip = ip_of(pending.wanted.unwrap_or_default());
                Step::Refuse(IpamError::Taken { ip, holder })
            }
            Verdict::Unreachable(_) if self.now < pending.since + UNREACHABLE_GRACE => Step::Wait,
            Verdict::Unreachable(owners) => {
                let heirs = owners.into_iter().flat_map(|owner| self.heirs_of(owner));
                let heirs: BTreeSet<PeerId> = heirs.collect();
                Step::Refuse(IpamError::OwnerUnreachable {
                    what: pending.what(),
                    owner: self.labels(&heirs.into_iter().collect::<Vec<_>>()),
                })
            }
        }
    }

    /// Why a request got no answer in its time.
    fn reason(&self, pending: &Pending) -> IpamError {
        if self.genesis.is_none() || self.is_unsettled() {
            return IpamError::NotReady {
                why: self.not_ready(),
            };
        }
        let silent = self.asks.get(&pending.ask_key()).map(|ask| ask.unheard());
        match silent {
            Some(peers) if !peers.is_empty() => IpamError::NoAnswer {
                what: pending.what(),
                owner: self.labels(&peers),
            },
            Some(_) | None => {
                let why = "the peers do not agree yet on who owns it: try again";
                IpamError::NotReady {
                    why: format!("{}: {why}", pending.what()),
                }
            }
        }
    }

    fn labels(&self, peers: &[PeerId]) -> String {
        let labels: Vec<String> = peers.iter().map(|peer| self.ledger.label(*peer)).collect();
        labels.join(", ")
    }

    /// Whether an address may be given to a host of this subnet.
    fn is_usable(&self, subnet: Cidr, ip: u32) -> bool {
        subnet.contains(ip_of(ip).into())
            && reserved_role(subnet, ip).is_none()
            && !self
                .ledger
                .subnets_inside(subnet)
                .any(|inner| inner.contains(ip_of(ip).into()))
            && !self.pool.is_busy(ip)
    }

    /// Whether a waiting request could use this address.
    pub(super) fn is_awaited(&self, ip: u32) -> bool {
        self.pending.iter().any(|pending| match pending.wanted {
            Some(wanted) => wanted == ip,
            None => self.is_usable(pending.subnet, ip),
        })
    }

    /// Whether anybody still waits for what this ask is about.
    pub(super) fn is_needed(&self, key: AskKey) -> bool {
        let is_foundling = |ip: &u32| self.foundlings.contains_key(ip);
        matches!(key, AskKey::Address(_, ip) if is_foundling(&ip)) || self.is_waited_for(key)
    }

    /// Whether a request waits for what this ask is about.
    pub(super) fn is_waited_for(&self, key: AskKey) -> bool {
        self.pending.iter().any(|pending| pending.ask_key() == key)
    }
}

/// The addresses of a subnet that are given to no host: network, gateway, broadcast.
pub(super) fn reserved(subnet: Span) -> impl Iterator<Item = u32> {
    [subnet.first, subnet.last.saturating_sub(1), subnet.last].into_iter()
}

fn reserved_role(subnet: Cidr, ip: u32) -> Option<&'static str> {
    let span = Span::of(subnet)?;
    if ip == span.first {
        Some("network address")
    } else if ip == span.last {
        Some("broadcast address")
    } else if ip == span.last - 1 {
        Some("gateway")
    } else {
        None
    }
}

/// How many whole chunks of this subnet we own.
pub(super) fn whole_chunks_owned(genesis: &Genesis, owned: &[Span], subnet: Span) -> u64 {
    let Some(whole) = genesis.whole_chunks(subnet) else {
        return 0;
    };
    owned
        .iter()
        .filter_map(|chunks| chunks.intersect(whole))
        .map(Span::len)
        .sum()
}

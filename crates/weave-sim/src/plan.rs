//! What a seed decides beforehand: the shape of the mesh, the network, the faults.

use std::fmt;
use std::time::Duration;

use weave_node::CONN_LIMIT;
use weave_node::PostQuantum;
use weave_wire::Versions;

use crate::chance::Chance;
use crate::nat::{NatFiltering, NatKind, NatMapping};

/// Unix milliseconds at the start of a run, about.
const WALL_MS: u64 = 1_750_000_000_000;
/// As far as a host may be off that: three years.
const WALL_OFF_MS: u64 = 3 * 365 * 86_400_000;

/// What a run is asked to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of hosts.
    pub peers: usize,
    /// Decides everything else.
    pub seed: u64,
    /// How long work and faults go on, in virtual time.
    pub churn: Duration,
    /// With more live peers than this there is not a session with each; without it, the seed
    /// decides.
    pub conn_limit: Option<usize>,
    /// A bug put into every node.
    #[cfg(feature = "seeded-bugs")]
    pub bug: Option<weave_node::seeded::SeededBug>,
}

impl Options {
    /// A run of the usual length.
    pub const fn new(peers: usize, seed: u64) -> Self {
        Self {
            peers,
            seed,
            churn: Duration::from_secs(20),
            conn_limit: None,
            #[cfg(feature = "seeded-bugs")]
            bug: None,
        }
    }

    /// These options with those of a line such as `7,peers=5,seconds=20` in their place; the
    /// first word is the seed.
    ///
    /// # Errors
    /// The word that is none.
    pub fn with(mut self, line: &str) -> Result<Self, BadOptions> {
        for word in line.split(',') {
            let bad = || BadOptions(word.to_owned());
            let (name, value) = word.split_once('=').unwrap_or(("seed", word));
            match name {
                "seed" => self.seed = value.parse().map_err(|_| bad())?,
                "peers" => self.peers = value.parse().map_err(|_| bad())?,
                "seconds" => {
                    let seconds = value.parse().map_err(|_| bad())?;
                    self.churn = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
                }
                "conn-limit" => self.conn_limit = Some(value.parse().map_err(|_| bad())?),
                _ => return Err(bad()),
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Options {
    /// As [`Options::with`] reads them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.churn.as_secs_f64();
        write!(f, "{},peers={},seconds={seconds}", self.seed, self.peers)?;
        match self.conn_limit {
            None => Ok(()),
            Some(limit) => write!(f, ",conn-limit={limit}"),
        }
    }
}

/// Not what a run can be asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOptions(String);

impl fmt::Display for BadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = &self.0;
        write!(
            f,
            "`{word}` is none of SEED, peers=N, seconds=S, conn-limit=N"
        )
    }
}

impl std::error::Error for BadOptions {}

/// Who is told of whom at launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All of the first host.
    Star,
    /// Each of the one before it.
    Chain,
    /// Each of some earlier one.
    Tree,
}

/// Loss in bursts, in thousandths for each datagram in one direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bursts {
    /// A burst begins.
    pub begin_permille: u64,
    /// A burst ends.
    pub end_permille: u64,
    /// The datagram is lost while a burst goes on.
    pub loss_permille: u64,
}

/// Everything that the seed decided beforehand.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of hosts.
    pub peers: usize,
    /// The seed.
    pub seed: u64,
    /// Who is told of whom at launch.
    pub shape: Shape,
    /// How long work and faults go on.
    pub churn: Duration,
    /// Datagrams lost until the network heals, of a thousand.
    pub loss_permille: u64,
    /// Loss in bursts beside it, until the network heals.
    pub bursts: Option<Bursts>,
    /// Datagrams with flipped bits, of a thousand, until the network heals.
    pub corrupt_permille: u64,
    /// Bits that are flipped in one of them, at most.
    pub corrupt_bits: u64,
    /// Datagrams doubled, of a thousand, to the very end.
    pub double_permille: u64,
    /// How much later the second one comes at most until the network heals, in milliseconds.
    pub double_ms: u64,
    /// Datagrams held back, of a thousand, to the very end.
    pub reorder_permille: u64,
    /// For how long at most until the network heals, in milliseconds.
    pub reorder_ms: u64,
    /// Longest one-way delay of a link, in milliseconds.
    pub delay_ms: u64,
    /// Writes refused by the disks, of a thousand.
    pub disk_permille: u64,
    /// Longest time that a write takes, in milliseconds.
    pub disk_ms: u64,
    /// Writes that a crash meets on their way, of a thousand.
    pub power_cut_permille: u64,
    /// Time between faults, about.
    pub fault_every: Duration,
    /// Time between things that containers do, about.
    pub work_every: Duration,
    /// Time between changes of the MTU of some link, about.
    pub mtu_every: Duration,
    /// Datagrams longer than a link's MTU get lost, instead of being fragmented.
    pub loses_fragments: bool,
    /// Hosts whose program is one version newer at first, of a thousand.
    pub newer_permille: u64,
    /// Starts at which the program of a host is replaced by the other version, of a thousand.
    pub replaced_permille: u64,
    /// Every host requires the post-quantum key exchange.
    pub requires_pq: bool,
    /// Hosts that have it off otherwise, of a thousand.
    pub no_pq_permille: u64,
    /// Hosts that never come back.
    pub dead: usize,
    /// Hosts behind a NAT: the last ones, so that nobody is told to connect to them.
    pub nats: Vec<(usize, NatKind)>,
    /// A host is banned this long after faults began.
    pub ban_after: Option<Duration>,
    /// Time between datagrams of the stranger, if there is one.
    pub attack_every: Option<Duration>,
    /// How far the clocks are off at most, in millionths.
    pub clock_ppm: u64,
    /// With more live peers than this there is not a session with each.
    pub conn_limit: usize,
    /// Networks that containers are on.
    pub subnets: Vec<&'static str>,
}

/// How many hosts a seed takes where nobody says: mostly few, for more of them fit in the time.
pub fn peers_of(seed: u64) -> usize {
    let mut chance = Chance::new(seed, 15);
    let below = match chance.below(100) {
        0..70 => 7,
        70..97 => 13,
        _ => 51,
    };
    3 + chance.index(below - 3)
}

/// What a seed takes for the limit: in a quarter of the meshes fewer sessions than peers.
fn conn_limit(peers: usize, seed: u64) -> usize {
    const FEWEST: usize = 3;
    let mut chance = Chance::new(seed, 13);
    match chance.permille(250) && peers > FEWEST + 1 {
        true => FEWEST + chance.index(peers - FEWEST),
        false => CONN_LIMIT,
    }
}

/// What a seed puts before hosts: in half of the meshes some NATs. Of the others, who can relay,
/// one is left when two never come back and one is banned.
fn nats(peers: usize, seed: u64) -> Vec<(usize, NatKind)> {
    const OTHERS: usize = 4;
    const MOST: usize = 5;
    let mut chance = Chance::new(seed, 14);
    let most = peers.saturating_sub(OTHERS).min(MOST);
    let count = match chance.permille(500) && most > 0 {
        true => 1 + chance.index(most),
        false => 0,
    };
    let kind = |chance: &mut Chance| NatKind {
        mapping: match chance.permille(400) {
            true => NatMapping::AddressAndPortDependent,
            false => NatMapping::EndpointIndependent,
        },
        filtering: match chance.below(3) {
            0 => NatFiltering::EndpointIndependent,
            1 => NatFiltering::AddressDependent,
            _ => NatFiltering::AddressAndPortDependent,
        },
        idle: Duration::from_secs(30 + chance.below(271)),
    };
    (peers - count..peers)
        .map(|host| (host, kind(&mut chance)))
        .collect()
}

impl Plan {
    /// What the seed of these options decides.
    pub(crate) fn of(options: &Options) -> Self {
        let mut chance = Chance::new(options.seed, 1);
        let mut chance_of_mtu = Chance::new(options.seed, 6);
        let mut chance_of_ban = Chance::new(options.seed, 7);
        let is_ban = options.peers > 2 && chance_of_ban.permille(500);
        let churn_ms = u64::try_from(options.churn.as_millis()).unwrap_or(u64::MAX);
        let mut chance_of_pq = Chance::new(options.seed, 10);
        let mut of_network = Chance::new(options.seed, 8);
        let shapes = [Shape::Star, Shape::Chain, Shape::Tree];
        let crowd = u32::try_from(options.peers).unwrap_or(u32::MAX);
        let mut subnets = vec!["10.32.0.0/12"];
        for more in ["10.40.1.0/24", "10.41.0.0/28"] {
            if chance.permille(600) {
                subnets.push(more);
            }
        }
        let mut plan = Self {
            peers: options.peers,
            seed: options.seed,
            shape: chance.pick(&shapes).copied().unwrap_or(Shape::Star),
            churn: options.churn,
            loss_permille: chance.below(201),
            bursts: of_network.permille(500).then(|| Bursts {
                begin_permille: 1 + of_network.below(20),
                end_permille: 50 + of_network.below(300),
                loss_permille: 500 + of_network.below(501),
            }),
            corrupt_permille: of_network.below(31),
            corrupt_bits: 1 + of_network.below(16),
            double_permille: chance.below(50),
            double_ms: of_network.pick(&[0, 50, 8000]).copied().unwrap_or(0),
            reorder_permille: chance.below(50),
            reorder_ms: of_network.pick(&[300, 300, 3000]).copied().unwrap_or(300),
            delay_ms: 1 + chance.below(60),
            disk_permille: if chance.permille(300) { 20 } else { 0 },
            disk_ms: if chance.permille(250) { 120 } else { 15 },
            power_cut_permille: chance.below(20),
            fault_every: Duration::from_millis(700 + chance.below(3000)),
            // what one host does costs all others: keep their share of work the same
            work_every: Duration::from_millis(40 + chance.below(120)) * (1 + crowd / 16),
            mtu_every: Duration::from_millis(500 + chance_of_mtu.below(5000)),
            loses_fragments: chance_of_mtu.permille(300),
            newer_permille: chance.below(1001),
            replaced_permille: if chance.permille(700) { 500 } else { 0 },
            ban_after: is_ban.then(|| chance_of_ban.millis(0, churn_ms)),
            requires_pq: chance_of_pq.permille(250),
            no_pq_permille: chance_of_pq.below(501),
            attack_every: Some(Duration::from_millis(20 + of_network.below(180))),
            clock_ppm: of_network.pick(&[0, 50, 200]).copied().unwrap_or(0),
            dead: chance.index(3).min(options.peers.saturating_sub(2)),
            nats: nats(options.peers, options.seed),
            conn_limit: options
                .conn_limit
                .unwrap_or_else(|| conn_limit(options.peers, options.seed)),
            subnets,
        };
        // through a relay the post-quantum exchange passes no narrow path (docs/adr/0011)
        if plan.loses_fragments && plan.requires_pq {
            plan.nats.clear();
        }
        plan
    }

    /// A network without any fault, of hosts of one version that are told of the first one.
    pub(crate) fn quiet(peers: usize, seed: u64) -> Self {
        Self {
            shape: Shape::Star,
            loss_permille: 0,
            bursts: None,
            corrupt_permille: 0,
            double_permille: 0,
            reorder_permille: 0,
            disk_permille: 0,
            disk_ms: 5,
            power_cut_permille: 0,
            loses_fragments: false,
            newer_permille: 0,
            replaced_permille: 0,
            dead: 0,
            nats: Vec::new(),
            requires_pq: false,
            no_pq_permille: 0,
            ban_after: None,
            attack_every: None,
            clock_ppm: 0,
            conn_limit: CONN_LIMIT,
            subnets: vec!["10.32.0.0/12"],
            ..Self::of(&Options::new(peers, seed))
        }
    }

    /// What the program of each host speaks at first.
    pub(crate) fn versions(&self) -> Vec<Versions> {
        let mut chance = Chance::new(self.seed, 4);
        let mut versions = || match chance.permille(self.newer_permille) {
            true => Versions::NEXT,
            false => Versions::SPOKEN,
        };
        (0..self.peers).map(|_| versions()).collect()
    }

    /// Whether so many live peers may make a mesh in which not everybody has a session with each.
    pub(crate) const fn is_large(&self, live: usize) -> bool {
        live > self.conn_limit * 4 / 5
    }

    /// Whether this host has the post-quantum key exchange.
    pub(crate) fn pq_of(&self, host: usize) -> PostQuantum {
        let mut chance = Chance::new(self.seed, 1_000_000 + host as u64);
        match chance.permille(self.no_pq_permille) {
            _ if self.requires_pq => PostQuantum::Require,
            true => PostQuantum::Off,
            false => PostQuantum::Prefer,
        }
    }

    /// For each host: what its clock counts in a million, and its Unix milliseconds at the start.
    pub(crate) fn clocks(&self) -> Vec<(u64, u64)> {
        let mut chance = Chance::new(self.seed, 9);
        let mut clock = || {
            let rate = 1_000_000 - self.clock_ppm + chance.below(2 * self.clock_ppm + 1);
            (rate, WALL_MS - WALL_OFF_MS + chance.below(2 * WALL_OFF_MS))
        };
        (0..self.peers).map(|_| clock()).collect()
    }

    /// The host that this one is told of at every launch.
    pub(crate) fn target_of(&self, host: usize) -> Option<usize> {
        let before = host.checked_sub(1)?;
        let target = match self.shape {
            Shape::Star => 0,
            Shape::Chain => before,
            Shape::Tree => Chance::new(self.seed, 100 + host as u64).index(host),
        };
        let last_in_the_open = self.peers.saturating_sub(self.nats.len() + 1);
        Some(target.min(last_in_the_open))
    }

    /// Whether some host is told of no other than this one.
    pub(crate) fn is_needed(&self, host: usize) -> bool {
        (0..self.peers).any(|other| self.target_of(other) == Some(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_they_are_printed() {
        let base = Options::new(50, 1);
        let options = base.clone().with("7,peers=5,seconds=2.5").expect("options");
        assert_eq!((options.seed, options.peers), (7, 5));
        assert_eq!(options.churn, Duration::from_millis(2500));
        assert_eq!(options.to_string(), "7,peers=5,seconds=2.5");
        let only_seed = base.clone().with("12").expect("options");
        assert_eq!(only_seed.to_string(), "12,peers=50,seconds=20");
        for bad in ["", "x", "7,peers=", "7,seconds=-1", "7,bug=1"] {
            assert!(base.clone().with(bad).is_err(), "{bad}");
        }
    }
}

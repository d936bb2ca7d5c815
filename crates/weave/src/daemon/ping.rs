//! `weave ping`: what is between here and a container or peer, layer by layer.
//!
//! Each layer is looked at only when the one before it works.

use std::net::IpAddr;
use std::time::Duration;

use weave_node::{
    About, ConnectionState, ConnectionStatus, Finding, InquiryError, NodeStatus, Outcome, Station,
};
use weave_wire::{PeerId, SegmentId};

use super::admin::{self, Admin};
use super::banning;
use super::inquiries::{self, AskError};
use super::networks::millis;
use crate::api::types::{Layer, LayerState, PingReport, PingRequest};
use crate::api::{ApiError, ApiErrorKind};

/// In a large mesh a session is made on demand: how often, and how many times, it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS: u32 = 20;

/// What each layer is called.
const LAYERS: [&str; 6] = ["name", "address", "path", "router", "bridge", "container"];

/// What a target turned out to be.
enum Target {
    /// An address, and how it was found.
    Address(IpAddr, String),
    /// A peer.
    Peer(PeerId),
}

/// Looks at all layers.
///
/// # Errors
/// When the text may mean several peers, or the router is going down. A layer that fails is no
/// error.
pub(super) async fn ping(admin: &Admin, request: PingRequest) -> Result<PingReport, ApiError> {
    let mut probe = Probe::new(admin, request.target).await?;
    if let Err(stop) = probe.look().await {
        match stop {
            Stop::Failed => {}
            Stop::Error(error) => return Err(error),
        }
    }
    Ok(probe.finish())
}

/// Has a peer lend a station to test with.
///
/// # Errors
/// When there is not just one such peer, or it cannot or does not.
pub(super) async fn stand_in(admin: &Admin, text: &str) -> Result<IpAddr, ApiError> {
    let control = admin.networks.control();
    let wanted = text.to_owned();
    let (found, status) = control
        .call(move |node, now| (node.find_peers(&wanted), node.status(now)))
        .await?;
    let peer = banning::one(text, &found, &status)?;
    match inquiries::ask(control, peer, About::StandIn).await {
        Ok((answer, _)) => answer.stand_in.ok_or_else(|| {
            let why = match answer.station.detail.as_str() {
                "" => "no reason was given",
                why => why,
            };
            ApiError::new(
                ApiErrorKind::Unavailable,
                format!("it lends no station to test with: {why}"),
            )
        }),
        Err(error) => Err(ApiError::new(ApiErrorKind::Unavailable, error.to_string())),
    }
}

/// Why no further layer is looked at.
enum Stop {
    /// One failed, and is noted.
    Failed,
    /// Nothing can be said.
    Error(ApiError),
}

impl From<super::control::Stopped> for Stop {
    fn from(stopped: super::control::Stopped) -> Self {
        Self::Error(stopped.into())
    }
}

struct Probe<'a> {
    admin: &'a Admin,
    status: NodeStatus,
    report: PingReport,
}

impl<'a> Probe<'a> {
    async fn new(admin: &'a Admin, target: String) -> Result<Self, ApiError> {
        let control = admin.networks.control();
        let status = control.call(|node, now| node.status(now)).await?;
        Ok(Self {
            admin,
            status,
            report: PingReport {
                target,
                address: None,
                peer: None,
                layers: Vec::new(),
                rtt_us: None,
            },
        })
    }

    async fn look(&mut self) -> Result<(), Stop> {
        let (peer, about) = match self.find_target().await? {
            Target::Peer(peer) => (peer, None),
            Target::Address(ip, how) => {
                self.ok(&how);
                self.report.address = Some(ip);
                let station = self.find_station(ip).await?;
                (station.peer, Some((station.segment, ip)))
            }
        };
        self.report.peer = Some(self.named(&peer));
        if peer == self.status.peer {
            self.skip("path", "this very host");
            self.skip("router", "this very host");
            return self.look_here(about).await;
        }
        self.find_path(peer).await?;
        self.ask_router(peer).await?;
        match about {
            Some(about) => self.ask_station(peer, about).await,
            None => Ok(()),
        }
    }

    /// Layers that were not come to are noted as such.
    fn finish(mut self) -> PingReport {
        let failed = self.report.failed().map(|layer| layer.layer.clone());
        let why = match failed {
            Some(layer) => format!("the {layer} comes first"),
            None => "no container was asked for".to_owned(),
        };
        for layer in LAYERS.iter().skip(self.report.layers.len()) {
            self.note(layer, LayerState::NotReached, &why, None);
        }
        self.report
    }

    async fn find_target(&mut self) -> Result<Target, Stop> {
        let text = self.report.target.clone();
        let names = self.admin.names.load();
        if let Ok(ip) = text.parse::<IpAddr>() {
            let mut known: Vec<_> = names.reverse(ip).map(|one| &*one.name).collect();
            known.sort_unstable();
            known.dedup();
            let how = match known.as_slice() {
                [] => "an address without a name".to_owned(),
                known => format!("{} has it", known.join(", ")),
            };
            return Ok(Target::Address(ip, how));
        }
        let mut addresses = self.admin.dns.lookup(&text);
        addresses.sort_unstable();
        if let [ip, others @ ..] = addresses.as_slice() {
            return Ok(Target::Address(*ip, self.found_by_name(*ip, others.len())));
        }
        let wanted = text.clone();
        let control = self.admin.networks.control();
        let peers = control
            .call(move |node, _| node.find_peers(&wanted))
            .await?;
        if peers.is_empty() {
            return Err(self.fail(
                &format!("no host of the mesh announces the name `{text}`, and no peer has it"),
                Some(
                    "`weave status dns` lists all names: the container must run, and be on a network of weave",
                ),
            ));
        }
        let peer = banning::one(&text, &peers, &self.status).map_err(Stop::Error)?;
        self.skip("name", "a peer was named");
        self.skip("address", "a peer was named");
        Ok(Target::Peer(peer))
    }

    fn found_by_name(&self, ip: IpAddr, others: usize) -> String {
        let names = self.admin.names.load();
        let mut origins: Vec<_> = names
            .reverse(ip)
            .map(|entry| self.named(&entry.origin))
            .collect();
        origins.sort_unstable();
        origins.dedup();
        let more = match others {
            0 => String::new(),
            1 => " and one more address".to_owned(),
            more => format!(" and {more} more addresses"),
        };
        format!("{ip}{more}, says {}", origins.join(", "))
    }

    /// Who has the address, by the tables that all peers hold.
    async fn find_station(&mut self, ip: IpAddr) -> Result<Station, Stop> {
        let control = self.admin.networks.control();
        let stations = control.call(move |node, _| node.stations(ip)).await?;
        let Some(station) = stations.first().copied() else {
            let range = self.admin.networks.range();
            let (why, hint) = if range.contains(ip) {
                (
                    format!("no live host announces {ip}"),
                    "`weave ps` on a host lists what it announces; `weave status peers` shows which hosts are live",
                )
            } else {
                (
                    format!("{ip} is outside the range of this mesh, {range}"),
                    "the name was given by `weave dns-add` to an address that is none of weave's",
                )
            };
            return Err(self.fail(&why, Some(hint)));
        };
        let twice = match stations.len() {
            1 => String::new(),
            more => format!(", and {} networks more have it, too", more - 1),
        };
        let (mac, owner) = (station.mac, self.named(&station.peer));
        self.ok(&format!("{ip} is {mac} on {owner}{twice}"));
        Ok(station)
    }

    async fn find_path(&mut self, peer: PeerId) -> Result<(), Stop> {
        let control = self.admin.networks.control();
        let mut lines = Vec::new();
        for look in 0..LOOKS {
            let fresh = control.call(move |node, now| {
                node.handle_wanted(peer, now);
                node.connections(now)
            });
            lines = fresh.await?;
            lines.retain(|line| line.peer == Some(peer));
            let is_up = lines.iter().any(is_established);
            // only a session that is made on demand is worth waiting for
            let is_coming = lines.iter().any(|line| {
                matches!(
                    line.state,
                    ConnectionState::Connecting | ConnectionState::Resting
                )
            });
            if is_up || (!is_coming && look > 0) {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let Some(line) = lines.iter().find(|line| is_established(line)) else {
            let why = why_not(&lines);
            let hint = "`weave doctor`, here and on that host, says what is in the way";
            return Err(self.fail(&why, Some(hint)));
        };
        let detail = describe(line, |peer| self.named(peer));
        let slow = line.relay.is_some().then(|| {
            let direct = lines.iter().find(|line| !is_established(line));
            let why = direct.map_or("", |line| line.info.as_str());
            match why {
                "" => "no direct path is known: `weave doctor` says why".to_owned(),
                why => format!("not direct: {why}; `weave doctor` says more"),
            }
        });
        self.note("path", LayerState::Ok, &detail, slow);
        Ok(())
    }

    async fn ask_router(&mut self, peer: PeerId) -> Result<(), Stop> {
        let control = self.admin.networks.control();
        match inquiries::ask(control, peer, About::Host).await {
            Ok((_, took)) => {
                self.report.rtt_us = u64::try_from(took.as_micros()).ok();
                self.ok(&format!("answers in {}", millis(took)));
                Ok(())
            }
            Err(AskError::Inquiry(InquiryError::TooOld)) => {
                for layer in ["router", "bridge", "container"] {
                    let why = InquiryError::TooOld.to_string();
                    let hint = "upgrade weave on that host to see more".to_owned();
                    self.note(layer, LayerState::NotReached, &why, Some(hint));
                }
                Err(Stop::Failed)
            }
            Err(AskError::Stopped(stopped)) => Err(stopped.into()),
            Err(error @ (AskError::Silent | AskError::Inquiry(_))) => Err(self.fail(
                &error.to_string(),
                Some("it may be going down, or too busy: `weave status connections` shows whether it is heard"),
            )),
        }
    }

    async fn ask_station(&mut self, peer: PeerId, about: (SegmentId, IpAddr)) -> Result<(), Stop> {
        let control = self.admin.networks.control();
        match inquiries::ask(control, peer, About::Station(about.0, about.1)).await {
            Ok((answer, _)) => self.take(&answer.bridge, &answer.station),
            Err(AskError::Stopped(stopped)) => Err(stopped.into()),
            Err(error @ (AskError::Silent | AskError::Inquiry(_))) => {
                Err(self.fail(&error.to_string(), None))
            }
        }
    }

    async fn look_here(&mut self, about: Option<(SegmentId, IpAddr)>) -> Result<(), Stop> {
        let Some((segment, ip)) = about else {
            return Ok(());
        };
        let (bridge, station) = self.admin.networks.look_at(segment, ip).await;
        self.take(&bridge, &station)
    }

    fn take(&mut self, bridge: &Finding, station: &Finding) -> Result<(), Stop> {
        self.take_one(bridge, "`weave doctor` on that host says more; its router puts back what is missing within seconds")?;
        self.take_one(
            station,
            "look into the container: is its process up, and does a firewall in it drop ping?",
        )
    }

    fn take_one(&mut self, finding: &Finding, hint: &str) -> Result<(), Stop> {
        let detail = finding.detail.as_str();
        match finding.outcome {
            Outcome::Fine => {
                self.ok(detail);
                Ok(())
            }
            Outcome::Failed => Err(self.fail(detail, Some(hint))),
            Outcome::Untried => {
                if let Some(layer) = self.next() {
                    self.skip(layer, "only IPv4 containers are asked");
                }
                Ok(())
            }
        }
    }

    fn next(&self) -> Option<&'static str> {
        LAYERS.get(self.report.layers.len()).copied()
    }

    /// The next layer works.
    fn ok(&mut self, detail: &str) {
        if let Some(layer) = self.next() {
            self.note(layer, LayerState::Ok, detail, None);
        }
    }

    /// The next layer does not.
    fn fail(&mut self, why: &str, hint: Option<&str>) -> Stop {
        if let Some(layer) = self.next() {
            self.note(layer, LayerState::Failed, why, hint.map(str::to_owned));
        }
        Stop::Failed
    }

    fn skip(&mut self, layer: &str, why: &str) {
        self.note(layer, LayerState::NotReached, why, None);
    }

    fn note(&mut self, layer: &str, state: LayerState, detail: &str, hint: Option<String>) {
        self.report.layers.push(Layer {
            layer: layer.to_owned(),
            state,
            detail: detail.to_owned(),
            hint,
        });
    }

    fn named(&self, peer: &PeerId) -> String {
        admin::named(&self.status, peer)
    }
}

fn is_established(line: &ConnectionStatus) -> bool {
    line.state == ConnectionState::Established
}

/// `direct by 192.0.2.1:6783, rtt 0.31 ms, mtu 1500`.
fn describe(line: &ConnectionStatus, named: impl Fn(&PeerId) -> String) -> String {
    let mut words = match &line.relay {
        Some(relay) => format!("through the relay {}", named(relay)),
        None => format!("direct, {}", line.address),
    };
    if let Some(rtt) = line.rtt {
        words.push_str(&format!(", rtt {}", millis(rtt)));
    }
    if let Some(mtu) = line.mtu {
        words.push_str(&format!(", mtu {mtu}"));
    }
    words
}

/// Why there is no session, by the lines of the attempts at one.
fn why_not(lines: &[ConnectionStatus]) -> String {
    let said = lines.iter().filter(|line| !line.info.is_empty());
    let said: Vec<_> = said
        .map(|line| format!("{}: {}", line.address, line.info))
        .collect();
    match said.as_slice() {
        [] => "there is no session with that host".to_owned(),
        said => said.join("; "),
    }
}

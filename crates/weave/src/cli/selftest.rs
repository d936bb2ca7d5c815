//! `weave test`: real traffic between a throw-away namespace of this host and a stand-in that each
//! peer lends, and one table of what came through.
//!
//! Owns the order of things and cleaning up, also when interrupted; the traffic is [`traffic`]'s.
//! Whatever ends this without a chance to clean up: the router forgets a namespace that is gone
//! within seconds, and stand-ins end by themselves.

mod traffic;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use weave_sys::NetNs;

use super::args::TestArgs;
use super::failure::Failure;
use super::progress::Progress;
use super::{block_on, host, output, view};
use crate::api::client::Client;
use crate::api::types::{
    AddressSpec, AttachRequest, DetachRequest, PeerStatus, Sandbox, StandInRequest, StatusReport,
};
use traffic::Traffic;

/// What came through to a peer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Tested {
    /// Its name and nickname.
    pub(crate) peer: String,
    /// Why nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Round trip of the fastest ping, microseconds; nothing: none was answered.
    pub(crate) ping_us: Option<u64>,
    /// Whether a packet as long as the MTU of containers came through whole.
    pub(crate) whole: bool,
    /// Of a hundred UDP datagrams, how many came back.
    pub(crate) udp: u32,
    /// Whether a datagram to a group came there and was answered.
    pub(crate) multicast: bool,
    /// TCP, Mbit/s; nothing: no connection came about.
    pub(crate) mbits: Option<u64>,
}

impl Tested {
    /// Whether all of it came through; some datagrams may get lost.
    pub(crate) fn is_well(&self) -> bool {
        self.ping_us.is_some()
            && self.whole
            && self.udp >= traffic::UDP_WELL
            && self.multicast
            && self.mbits.is_some()
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Results {
    address: IpAddr,
    /// Whether names are answered in the namespace; nothing where DNS is off.
    dns: Option<bool>,
    peers: Vec<Tested>,
}

/// Tests all peers, or those named, and fails if something does not come through.
///
/// # Errors
/// Without root's rights or a router, when there is no peer, or when something failed.
pub(crate) fn run(args: &TestArgs, socket: &Path) -> Result<()> {
    host::require_root("test")?;
    let client = Client::new(socket);
    let results = block_on(async { guarded(&client, args).await })?;
    if args.json {
        output::json(&results)?;
    } else {
        output::out_raw(&view::tested(results.dns, &results.peers));
    }
    Ok(verdict(&results)?)
}

fn verdict(results: &Results) -> Result<(), Failure> {
    let failed = results.peers.iter().filter(|peer| !peer.is_well()).count();
    match (failed, results.dns) {
        (0, Some(true) | None) => Ok(()),
        (0, Some(false)) => Err(Failure::new("names are not answered")),
        (failed, _) => Err(Failure::new(format!(
            "{failed} of {} peers are not reached as they should be",
            results.peers.len()
        ))
        .with_hint("`weave ping PEER` and `weave doctor` say what is in the way")),
    }
}

/// Joins, tests, and leaves, whatever happens meanwhile.
async fn guarded(client: &Client, args: &TestArgs) -> Result<Results> {
    let report: StatusReport = client.fetch("/report").await?;
    let peers = wanted(&report, &args.peers)?;
    let netns = NetNs::unnamed()?;
    let fd = netns.as_fd().as_raw_fd();
    let path = PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id()));
    let sandbox = Sandbox::Netns(path);
    let interrupted = tokio::signal::ctrl_c();
    let tests = tests(client, &netns, &sandbox, &report, &peers);
    let results = tokio::select! {
        results = tests => results,
        _ = interrupted => Err(Failure::new("interrupted").into()),
    };
    let left: Result<Vec<IpAddr>, _> = client
        .post(
            "/detach",
            &DetachRequest {
                addresses: Vec::new(),
                sandbox,
            },
        )
        .await;
    let results = results?;
    left.context("leave the network")?;
    Ok(results)
}

fn wanted(report: &StatusReport, named: &[String]) -> Result<Vec<PeerStatus>> {
    let others = report.router.peers.iter();
    let others = others.filter(|peer| peer.name != report.router.name);
    let is_meant = |peer: &&PeerStatus| {
        named.is_empty()
            || named
                .iter()
                .any(|text| *text == peer.name || *text == peer.nickname)
    };
    let peers: Vec<_> = others.filter(is_meant).cloned().collect();
    if peers.is_empty() {
        return Err(Failure::new("there is no such peer to test with")
            .with_hint("`weave status peers` shows who is there")
            .into());
    }
    Ok(peers)
}

async fn tests(
    client: &Client,
    netns: &NetNs,
    sandbox: &Sandbox,
    report: &StatusReport,
    peers: &[PeerStatus],
) -> Result<Results> {
    let progress = Progress::new();
    let request = AttachRequest {
        addresses: vec![AddressSpec::DefaultSubnet],
        sandbox: sandbox.clone(),
    };
    let given: Vec<IpAddr> = client.post("/attach", &request).await?;
    let own = first_ipv4(&given)?;
    let mut results = Results {
        address: own.into(),
        dns: None,
        peers: Vec::new(),
    };
    let traffic = Traffic::new(netns.clone(), own);
    if let Some(dns) = &report.dns {
        let (traffic, domain) = (traffic.clone(), dns.domain.clone());
        results.dns = Some(blocking(move || traffic.dns(&domain)).await?);
    }
    for peer in peers {
        let who = format!("{}({})", peer.name, peer.nickname);
        progress.step(&format!("testing {who}"));
        results.peers.push(test(client, &traffic, peer, who).await?);
    }
    Ok(results)
}

fn first_ipv4(given: &[IpAddr]) -> Result<Ipv4Addr, Failure> {
    match given.first() {
        Some(IpAddr::V4(ip)) => Ok(*ip),
        Some(IpAddr::V6(_)) | None => Err(Failure::new("no IPv4 address was given")),
    }
}

async fn test(
    client: &Client,
    traffic: &Traffic,
    peer: &PeerStatus,
    who: String,
) -> Result<Tested> {
    let request = StandInRequest {
        peer: peer.name.clone(),
    };
    let tested = Tested {
        peer: who,
        ..Tested::default()
    };
    let ip: Ipv4Addr = match client.post("/stand-in", &request).await {
        Ok(IpAddr::V4(ip)) => ip,
        Ok(IpAddr::V6(ip)) => {
            let error = Some(format!("it lent {ip}, which is not IPv4"));
            return Ok(Tested { error, ..tested });
        }
        Err(error) => {
            let error = Some(error.to_string());
            return Ok(Tested { error, ..tested });
        }
    };
    let traffic = traffic.clone();
    blocking(move || traffic.with(ip, tested)).await
}

/// Runs what blocks beside the wait for an interrupt.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("run a test")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(dns: Option<bool>, multicast: &[bool]) -> Results {
        let peer = |multicast: &bool| Tested {
            ping_us: Some(200),
            whole: true,
            udp: 100,
            multicast: *multicast,
            mbits: Some(900),
            ..Tested::default()
        };
        Results {
            address: Ipv4Addr::new(10, 32, 0, 9).into(),
            dns,
            peers: multicast.iter().map(peer).collect(),
        }
    }

    #[test]
    fn one_thing_that_does_not_come_through_fails_the_test() {
        assert!(verdict(&results(Some(true), &[true, true])).is_ok());
        assert!(verdict(&results(None, &[true])).is_ok());
        let said = |results: &Results| verdict(results).unwrap_err().to_string();
        assert_eq!(
            said(&results(Some(false), &[true])),
            "names are not answered"
        );
        assert_eq!(
            said(&results(Some(false), &[true, false, false])),
            "2 of 3 peers are not reached as they should be"
        );
    }

    #[test]
    fn an_address_that_is_not_ipv4_is_of_no_use() {
        let four = Ipv4Addr::new(10, 32, 0, 9);
        assert_eq!(first_ipv4(&[four.into()]).unwrap(), four);
        for given in [&[][..], &["fd00::9".parse().unwrap()]] {
            let error = first_ipv4(given).unwrap_err();
            assert_eq!(error.to_string(), "no IPv4 address was given");
        }
    }
}

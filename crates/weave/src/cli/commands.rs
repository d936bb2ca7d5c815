//! The commands that only ask the running router.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::api::client::{Client, ClientError, escape};
use crate::api::format::{Format, FormatError};
use crate::api::types::{
    AddressSpec, AttachRequest, BanAnswer, BanRequest, ConnectRequest, DetachRequest,
    ExposeRequest, ForgetRequest, HideRequest, NameRequest, PeerResult, PsEntry, StatusReport,
};

use super::args::{
    AttachArgs, ConnectArgs, DnsLookupArgs, DnsNameArgs, ExposeArgs, ForgetArgs, HideArgs,
    PrimeArgs, PsArgs, RmpeerArgs, StatusArgs, StatusView,
};
use super::failure::Failure;
use super::progress::Progress;
use super::{address, block_on, failure, output, view};

/// How often it is asked whether something has come about.
const ASKED_EVERY: Duration = Duration::from_millis(250);
/// What takes longer is said.
const SAID_AFTER: Duration = Duration::from_secs(1);
/// Version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Asks the router, and says so when that takes long.
///
/// # Errors
/// When the router does not run, or refuses.
pub(super) fn ask(socket: &Path, work: impl AsyncFnOnce(&Client) -> Result<()>) -> Result<()> {
    let client = Client::new(socket);
    block_on(async {
        let mut work = std::pin::pin!(work(&client));
        match tokio::time::timeout(SAID_AFTER, work.as_mut()).await {
            Ok(done) => done,
            Err(_) => {
                Progress::new().step("waiting for the router");
                work.await
            }
        }
    })
}

async fn fetch_report(client: &Client) -> Result<StatusReport> {
    Ok(client.fetch("/report").await?)
}

/// All of it, or fields of it.
pub(super) async fn report(client: &Client, format: Option<&str>) -> Result<()> {
    let Some(format) = format else {
        return output::json(&fetch_report(client).await?);
    };
    let usage = |error: FormatError| Failure::usage(error.to_string()).with_hint(error.hint());
    let format = Format::parse(format).map_err(usage)?;
    // as the router says it, fields of a later version included
    let report: serde_json::Value = client.fetch("/report").await?;
    output::out(&format.fill(&report).map_err(usage)?);
    Ok(())
}

pub(super) async fn connect(client: &Client, args: ConnectArgs) -> Result<()> {
    let ConnectArgs {
        replace,
        peers,
        json,
    } = args;
    let request = ConnectRequest { peers, replace };
    check_each(client.post("/connect", &request).await?, json)
}

pub(super) async fn forget(client: &Client, args: ForgetArgs) -> Result<()> {
    let ForgetArgs { peers, json } = args;
    check_each(
        client.post("/forget", &ForgetRequest { peers }).await?,
        json,
    )
}

/// Each peer by itself: one that cannot be banned keeps no other from it.
pub(super) async fn rmpeer(client: &Client, args: RmpeerArgs) -> Result<()> {
    let (mut last, mut answers) = (None, Vec::new());
    for peer in args.peers {
        let reason = args.reason.clone();
        let request = BanRequest { peer, reason };
        match client.post::<BanAnswer>("/rmpeer", &request).await {
            Ok(answer) if args.json => answers.push(answer),
            Ok(answer) => output::out_raw(&view::banned(&answer)),
            Err(error) => {
                if let Some(before) = last.replace(anyhow::Error::from(error)) {
                    output::err(&failure::render(&before));
                }
            }
        }
    }
    if args.json {
        output::json(&answers)?;
    }
    last.map_or(Ok(()), Err)
}

/// Silence if all went well; else every failure but the last is printed here.
fn check_each(results: Vec<PeerResult>, json: bool) -> Result<()> {
    if json {
        output::json(&results)?;
    }
    let mut failures: Vec<Failure> = results.into_iter().filter_map(failed).collect();
    let Some(last) = failures.pop() else {
        return Ok(());
    };
    for failure in failures {
        output::err(&failure::render(&failure.into()));
    }
    Err(last.into())
}

fn failed(result: PeerResult) -> Option<Failure> {
    let error = result.error?;
    let message = if error.contains(&result.peer) {
        error
    } else {
        format!("{}: {error}", result.peer)
    };
    let failure = Failure::new(message);
    Some(match result.hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    })
}

pub(super) async fn status(client: &Client, args: &StatusArgs) -> Result<()> {
    let report = fetch_report(client).await?;
    let Some(part) = args.view else {
        return show(args.json, &report, || view::status(&report));
    };
    let router = &report.router;
    match part {
        StatusView::Targets => show(args.json, &router.targets, || {
            view::targets(&router.targets)
        }),
        StatusView::Connections => {
            let connections = &router.connections;
            show(args.json, connections, || view::connections(connections))
        }
        StatusView::Peers => show(args.json, &router.all_peers(), || view::peers(router)),
        StatusView::Dns => show(args.json, &report.dns, || view::dns(report.dns.as_ref())),
        StatusView::Ipam => show(args.json, &report.ipam, || view::ipam(report.ipam.as_ref())),
    }
}

fn show(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
    if json {
        return output::json(value);
    }
    output::out_raw(&text());
    Ok(())
}

pub(super) async fn ps(client: &Client, args: &PsArgs) -> Result<()> {
    let query: Vec<String> = args
        .containers
        .iter()
        .map(|container| format!("container={}", escape(container)))
        .collect();
    let entries: Vec<PsEntry> = client.fetch(&format!("/ps?{}", query.join("&"))).await?;
    show(args.json, &entries, || view::ps(&entries))
}

pub(super) async fn attach(client: &Client, args: &AttachArgs) -> Result<()> {
    let (mut addresses, sandbox) = address::split(args)?;
    if addresses.is_empty() {
        addresses.push(AddressSpec::DefaultSubnet);
    }
    let request = AttachRequest { addresses, sandbox };
    let given: Vec<IpAddr> = client.post("/attach", &request).await?;
    show(args.json, &given, || on_one_line(&given))
}

pub(super) async fn detach(client: &Client, args: &AttachArgs) -> Result<()> {
    let (addresses, sandbox) = address::split(args)?;
    let request = DetachRequest { addresses, sandbox };
    let taken: Vec<IpAddr> = client.post("/detach", &request).await?;
    show(args.json, &taken, || on_one_line(&taken))
}

pub(super) async fn expose(client: &Client, args: ExposeArgs) -> Result<()> {
    let mut addresses = address::all(&args.addresses)?;
    if addresses.is_empty() {
        addresses.push(AddressSpec::DefaultSubnet);
    }
    let request = ExposeRequest {
        addresses,
        names: args.names,
        masquerade: !args.without_masquerade,
    };
    let given: Vec<IpAddr> = client.post("/expose", &request).await?;
    show(args.json, &given, || on_one_line(&given))
}

pub(super) async fn hide(client: &Client, args: &HideArgs) -> Result<()> {
    let addresses = address::all(&args.addresses)?;
    let request = HideRequest { addresses };
    let taken: Vec<IpAddr> = client.post("/hide", &request).await?;
    show(args.json, &taken, || on_one_line(&taken))
}

/// Without prefix, so that `$(weave attach …)` is of use. Nothing where there are none.
fn on_one_line(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return String::new();
    }
    let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    format!("{}\n", words.join(" "))
}

/// For `docker run $(weave dns-args)`.
pub(super) async fn dns_args(client: &Client, json: bool) -> Result<()> {
    let report = fetch_report(client).await?;
    if json {
        let dns = report.dns.as_ref();
        let server = dns.and_then(view::dns_server).map(|at| at.ip());
        let domain = dns.map(|dns| dns.domain.trim_end_matches('.'));
        return output::json(&serde_json::json!({ "dns": server, "dns_search": domain }));
    }
    if let Some(args) = report.dns.as_ref().and_then(view::dns_args) {
        output::out(&args);
    }
    Ok(())
}

/// Waits until addresses can be given out; says for what.
pub(super) fn prime(args: &PrimeArgs, socket: &Path) -> Result<()> {
    block_on(primed(&Client::new(socket), args))
}

async fn primed(client: &Client, args: &PrimeArgs) -> Result<()> {
    let (began, limit) = (Instant::now(), Duration::from_secs(args.timeout));
    let (progress, mut said) = (Progress::new(), String::new());
    while let Some(awaited) = client.post::<Option<String>>("/prime", &()).await? {
        if began.elapsed() >= limit {
            let seconds = args.timeout;
            let message = format!("no addresses can be given out after {seconds} s: {awaited}");
            return Err(Failure::new(message)
                .with_hint("`weave status` shows who is connected")
                .into());
        }
        if began.elapsed() >= SAID_AFTER && awaited != said {
            progress.step(&awaited);
            said = awaited;
        }
        tokio::time::sleep(ASKED_EVERY).await;
    }
    Ok(())
}

pub(super) async fn dns_add(client: &Client, args: DnsNameArgs) -> Result<()> {
    let request = name_request(args)?;
    if request.container.is_none() && (request.names.is_empty() || request.addresses.is_empty()) {
        return Err(
            Failure::usage("neither a container, nor an address and a name")
                .with_hint("weave dns-add CONTAINER, or weave dns-add IP -h NAME")
                .into(),
        );
    }
    Ok(client.post("/dns-add", &request).await?)
}

pub(super) async fn dns_remove(client: &Client, args: DnsNameArgs) -> Result<()> {
    let request = name_request(args)?;
    if request.container.is_none() && request.names.is_empty() && request.addresses.is_empty() {
        return Err(
            Failure::usage("neither a container, nor an address or a name")
                .with_hint("weave dns-remove CONTAINER, or weave dns-remove -h NAME")
                .into(),
        );
    }
    Ok(client.post("/dns-remove", &request).await?)
}

fn name_request(args: DnsNameArgs) -> Result<NameRequest, Failure> {
    let mut request = NameRequest {
        addresses: Vec::new(),
        container: None,
        names: args.names,
    };
    for operand in args.operands {
        if let Ok(ip) = operand.parse() {
            request.addresses.push(ip);
        } else if operand.contains(['/', ':']) {
            let message = format!("`{operand}` is no address");
            return Err(Failure::usage(message)
                .with_hint("an address stands here without its length, such as 10.32.0.1"));
        } else if let Some(first) = request.container.replace(operand.clone()) {
            return Err(Failure::usage(format!(
                "two containers named: `{first}` and `{operand}`"
            )));
        }
    }
    Ok(request)
}

/// An unknown name has no addresses: nothing is printed, as `dig +short` does.
pub(super) async fn dns_lookup(client: &Client, args: &DnsLookupArgs) -> Result<()> {
    let addresses: Vec<IpAddr> = client
        .fetch(&format!("/name/{}", escape(&args.name)))
        .await
        .with_context(|| format!("look up `{}`", args.name))?;
    show(args.json, &addresses, || {
        addresses.iter().map(|ip| format!("{ip}\n")).collect()
    })
}

/// The versions of both ends.
#[derive(Debug, Serialize)]
struct Versions {
    weave: &'static str,
    /// `null` while no router runs.
    router: Option<String>,
}

pub(super) async fn version(client: &Client, json: bool) -> Result<()> {
    let router = match fetch_report(client).await {
        Ok(report) => Some(report.version),
        Err(error) if is_not_running(&error) => None,
        Err(error) => return Err(error),
    };
    let versions = Versions {
        weave: VERSION,
        router,
    };
    show(json, &versions, || {
        let router = versions.router.as_deref().unwrap_or("not running");
        format!("weave {VERSION}\nrouter {router}\n")
    })
}

fn is_not_running(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<ClientError>();
    matches!(
        error,
        Some(ClientError::NotRunning(_) | ClientError::NotPermitted(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(peer: &str, error: Option<&str>) -> PeerResult {
        PeerResult {
            peer: peer.to_owned(),
            error: error.map(str::to_owned),
            hint: error.map(|_| "check the name".to_owned()),
        }
    }

    #[test]
    fn peers_that_failed_are_named_once() {
        assert!(check_each(vec![result("a", None), result("b", None)], false).is_ok());
        let error = check_each(
            vec![result("a", None), result("b", Some("unknown name"))],
            false,
        );
        let text = failure::render(&error.unwrap_err());
        assert_eq!(text, "error: b: unknown name\nhint: check the name");
        let error = check_each(vec![result("b.org", Some("cannot resolve `b.org`"))], false);
        let text = failure::render(&error.unwrap_err());
        assert_eq!(text, "error: cannot resolve `b.org`\nhint: check the name");
    }
}

//! `weave ping`: asks the router for every layer, as often as told to.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::Instant;

use super::args::PingArgs;
use super::failure::Failure;
use super::{block_on, output, view};
use crate::api::client::Client;
use crate::api::types::{PingReport, PingRequest};

/// Between the beginnings of two rounds.
const EVERY: Duration = Duration::from_millis(500);

/// All rounds together.
#[derive(Debug, Serialize)]
struct Rounds {
    /// The first that failed, else the last one.
    #[serde(flatten)]
    report: PingReport,
    /// How many there were.
    sent: u32,
    /// How many of them found no layer that fails.
    answered: u32,
    /// How long the router of that peer took in each round, microseconds.
    rtts_us: Vec<u64>,
}

/// Looks, and fails if a layer does in any round.
///
/// # Errors
/// When no router runs, the target may mean several peers, or a layer fails.
pub(crate) fn run(args: &PingArgs, socket: &Path) -> Result<()> {
    let client = Client::new(socket);
    let rounds = block_on(async { rounds(&client, args).await })?;
    if args.json {
        output::json(&rounds)?;
    } else {
        output::out_raw(&view::rounds(rounds.sent, rounds.answered, &rounds.rtts_us));
    }
    match rounds.report.failed() {
        Some(layer) => {
            let (target, layer) = (&rounds.report.target, &layer.layer);
            Err(Failure::new(format!("`{target}` is not reached: the {layer} fails")).into())
        }
        None => Ok(()),
    }
}

async fn rounds(client: &Client, args: &PingArgs) -> Result<Rounds> {
    let mut next = Instant::now() + EVERY;
    let mut rounds = add(None, round(client, args, true).await?);
    for _ in 1..args.count {
        tokio::time::sleep_until(next).await;
        next = Instant::now() + EVERY;
        rounds = add(Some(rounds), round(client, args, false).await?);
    }
    Ok(rounds)
}

async fn round(client: &Client, args: &PingArgs, is_first: bool) -> Result<PingReport> {
    let target = args.target.clone();
    let report: PingReport = client.post("/ping", &PingRequest { target }).await?;
    if !args.json {
        output::out_raw(&view::round(&report, is_first));
    }
    Ok(report)
}

fn add(rounds: Option<Rounds>, report: PingReport) -> Rounds {
    let answered = u32::from(report.failed().is_none());
    let rtts_us: Vec<_> = report.rtt_us.into_iter().collect();
    let Some(before) = rounds else {
        return Rounds {
            report,
            sent: 1,
            answered,
            rtts_us,
        };
    };
    let failed_before = before.report.failed().is_some();
    Rounds {
        report: if failed_before { before.report } else { report },
        sent: before.sent + 1,
        answered: before.answered + answered,
        rtts_us: [before.rtts_us, rtts_us].concat(),
    }
}

//! Questions of this host and of its peers about how they are: asks them, and answers them.
//!
//! Owns how long an answer is waited for, and how many questions are looked into at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use weave_node::{About, Answer, Finding, Inquiry, InquiryError};
use weave_wire::PeerId;

use super::clock::wall_ms;
use super::control::{Control, Stopped};
use super::networks::Networks;
use super::stand_in::StandIns;

/// Questions of peers that are looked into at a time.
const AT_A_TIME: usize = 8;
/// Questions of peers that wait, at most.
pub(super) const WAITING: usize = 256;
/// How long a peer has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Shifts the clock that peers are told, in seconds: for tests of what is said about clocks.
const SHIFT: &str = "WEAVE_TEST_CLOCK_SHIFT";

/// Why a peer did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AskError {
    /// It cannot be asked.
    #[error(transparent)]
    Inquiry(#[from] InquiryError),
    /// It was asked, and nothing came.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// The router is going down.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Asks a peer how it is, and how a station of its own is; with how long the answer took.
///
/// # Errors
/// When it cannot be asked, or does not answer.
pub(crate) async fn ask(
    control: &Control,
    peer: PeerId,
    about: About,
) -> Result<(Answer, Duration), AskError> {
    let begun = Instant::now();
    let receiver = control.inquire(peer, about).await??;
    match tokio::time::timeout(PATIENCE, receiver).await {
        Ok(Ok(answer)) => Ok((answer, begun.elapsed())),
        Ok(Err(_)) => Err(Stopped.into()),
        Err(_) => Err(AskError::Silent),
    }
}

/// Answers what peers ask, for ever.
pub(crate) async fn serve(
    networks: Arc<Networks>,
    stand_ins: Arc<StandIns>,
    mut inquiries: mpsc::Receiver<Inquiry>,
) {
    let permits = Arc::new(Semaphore::new(AT_A_TIME));
    while let Some(inquiry) = inquiries.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let (networks, stand_ins) = (Arc::clone(&networks), Arc::clone(&stand_ins));
        tokio::spawn(async move {
            let answer = look(&networks, &stand_ins, &inquiry).await;
            networks
                .control()
                .post(move |node, now| node.answer(&inquiry, answer, now));
            drop(permit);
        });
    }
}

async fn look(networks: &Networks, stand_ins: &Arc<StandIns>, inquiry: &Inquiry) -> Answer {
    let mut answer = Answer {
        wall_ms: told_ms(),
        ..Answer::default()
    };
    match inquiry.about {
        About::Host => {}
        About::Station(segment, ip) => {
            (answer.bridge, answer.station) = networks.look_at(segment, ip).await;
        }
        About::StandIn => match stand_ins.lend().await {
            Ok(ip) => answer.stand_in = Some(ip),
            Err(error) => answer.station = Finding::failed(error.to_string()),
        },
    }
    answer
}

/// What peers are told of the clock of this host, in Unix milliseconds.
pub(crate) fn told_ms() -> u64 {
    let now = i64::try_from(wall_ms()).unwrap_or(i64::MAX);
    let shift = std::env::var(SHIFT).ok();
    let shift: i64 = shift.and_then(|text| text.parse().ok()).unwrap_or(0);
    let shifted = now.saturating_add(shift.saturating_mul(1_000));
    u64::try_from(shifted).unwrap_or(0)
}

//! Keeps the names of this host's containers right, and tells what networks Docker has.
//!
//! Docker's events only say where to look; what is reported always comes from inspecting the
//! container afterwards, so lost, late or repeated events cannot make it wrong for longer than
//! one reconcile interval. While Docker is down the last state stands: containers may well go on
//! running.

mod tracker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::query_parameters::EventsOptions;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::tracker::{Notice, Tracker};
use crate::client::{DockerClient, translate};
use crate::container::{ContainerInfo, ContainerNames};
use crate::error::Error;
use crate::network::NetworkInfo;

/// Inspections that may run at once.
const PARALLEL: usize = 8;
const BACKOFF: Duration = Duration::from_millis(100);
/// Short: names of containers that dockerd starts wait for it.
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// How far back events are asked for, so that none is lost between two connections.
const OVERLAP: Duration = Duration::from_secs(2);

/// What to watch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherConfig {
    /// Docker's socket; `None` tries the usual places.
    pub socket: Option<PathBuf>,
    /// Networks of this driver count.
    pub driver: String,
    /// Domain of the names.
    pub domain: String,
    /// How often everything is looked at again.
    pub reconcile: Duration,
}

/// News from Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The container has these names now, and no others.
    Set(ContainerNames),
    /// The container has no names any more.
    Removed {
        /// First 12 characters of its id.
        container: String,
    },
    /// The container runs, and is on no network of ours: it has no names by itself.
    Other {
        /// First 12 characters of its id.
        container: String,
    },
    /// All containers that there were at the first look have been reported; or Docker is away.
    Complete,
    /// A look at all networks of the driver, with the containers on them.
    Looked {
        /// The networks.
        networks: Vec<NetworkInfo>,
        /// Docker has just been reached: it, or we, may have been away.
        reconnected: bool,
    },
}

/// Watches Docker and sends changes, starting from nothing known, until the receiver is gone.
///
/// Docker need not run yet, and may go away and come back.
pub async fn watch_docker(config: WatcherConfig, changes: mpsc::Sender<Change>) {
    let mut tracker = Tracker::new(&config.driver, &config.domain);
    let mut backoff = BACKOFF;
    let mut is_away = false;
    let mut is_complete = false;
    while !changes.is_closed() {
        let began = backoff;
        let mut watch = Watch {
            config: &config,
            tracker: &mut tracker,
            changes: &changes,
            backoff: &mut backoff,
            is_complete: &mut is_complete,
        };
        match watch.connected().await {
            Ok(()) => return,
            // once for each time that it is away
            Err(error) if !is_away || backoff < began => {
                tracing::info!(%error, "no news from Docker for now; trying again");
            }
            Err(error) => tracing::debug!(%error, "still no news from Docker"),
        }
        is_away = true;
        if !std::mem::replace(&mut is_complete, true) {
            // whoever waits for names of containers that Docker has yet to start waits in vain
            let _ = changes.send(Change::Complete).await;
        }
        tokio::select! {
            () = changes.closed() => return,
            () = tokio::time::sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

/// One connection's worth of watching.
struct Watch<'a> {
    config: &'a WatcherConfig,
    tracker: &'a mut Tracker,
    changes: &'a mpsc::Sender<Change>,
    backoff: &'a mut Duration,
    is_complete: &'a mut bool,
}

impl Watch<'_> {
    /// `Ok` when the receiver is gone.
    async fn connected(&mut self) -> Result<(), Error> {
        let client = match &self.config.socket {
            Some(socket) => DockerClient::connect(socket).await?,
            None => DockerClient::connect_default().await?,
        };
        let mut events = pin!(client.api().events(Some(events_since_now())));
        let mut reconcile = tokio::time::interval(self.config.reconcile);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut inspections = FuturesUnordered::new();
        self.tracker.forget_inspections();
        let mut reconnected = true;
        loop {
            while inspections.len() < PARALLEL
                && let Some(id) = self.tracker.next_inspection()
            {
                inspections.push(inspect(client.clone(), id).boxed());
            }
            if !reconnected && inspections.is_empty() && !std::mem::replace(self.is_complete, true)
            {
                self.send(Change::Complete).await;
            }
            tokio::select! {
                biased;
                () = self.changes.closed() => return Ok(()),
                Some((id, result)) = inspections.next() => self.take_in(&id, result).await,
                _ = reconcile.tick() => {
                    let networks = client.networks_with_containers(&self.config.driver).await?;
                    self.tracker.handle_snapshot(&networks);
                    *self.backoff = BACKOFF;
                    let reconnected = std::mem::take(&mut reconnected);
                    self.send(Change::Looked { networks, reconnected }).await;
                }
                event = events.next() => {
                    let what = || "watch Docker's events".to_owned();
                    let ended = || Error::Broken { what: what(), message: "they ended".to_owned() };
                    let event = event.ok_or_else(ended)?.map_err(|error| translate(what(), error))?;
                    if let Some(notice) = Notice::read(event) {
                        self.tracker.handle_notice(notice);
                    }
                }
            }
        }
    }

    async fn take_in(&mut self, id: &str, result: Result<Option<ContainerInfo>, Error>) {
        match result {
            Ok(info) => {
                if let Some(change) = self.tracker.handle_inspected(id, info.as_ref()) {
                    self.send(change).await;
                }
            }
            Err(error) => {
                tracing::debug!(container = id, %error, "cannot look at a container");
                self.tracker.handle_failed(id);
            }
        }
    }

    /// If the receiver is gone, the next round ends.
    async fn send(&self, change: Change) {
        let _ = self.changes.send(change).await;
    }
}

/// `Ok(None)` when the container is gone.
async fn inspect(
    client: DockerClient,
    id: String,
) -> (String, Result<Option<ContainerInfo>, Error>) {
    let result = match client.container(&id).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    };
    (id, result)
}

fn events_since_now() -> EventsOptions {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let list = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    EventsOptions {
        since: Some(now.saturating_sub(OVERLAP).as_secs().to_string()),
        until: None,
        filters: Some(HashMap::from([
            ("type".to_owned(), list(&["container", "network"])),
            ("event".to_owned(), list(&tracker::ACTIONS)),
        ])),
    }
}

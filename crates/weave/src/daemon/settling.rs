//! After a start: when the names are complete, so that a name that is not there does not exist.
//!
//! Complete are they when Docker has told of all its containers, and a peer of all it knows. Until
//! then the DNS server denies nothing; in the end it does, whoever has not answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use weave_node::Node;

use super::control::Control;

/// Who has not answered by then may well be down.
const AT_MOST: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What is lacking may be found out bit by bit: so many looks in a row must find nothing.
const LOOKS: u32 = 3;

/// What names have yet to come.
#[derive(Debug, Clone)]
pub(crate) struct Settling {
    containers: Arc<AtomicBool>,
}

impl Settling {
    /// Begins. The receiver is told when the names are complete. Without Docker no containers
    /// are waited for.
    pub(crate) fn start(control: Control, has_docker: bool) -> (Self, watch::Receiver<bool>) {
        let settling = Self {
            containers: Arc::new(AtomicBool::new(!has_docker)),
        };
        let (sender, receiver) = watch::channel(false);
        let containers = Arc::clone(&settling.containers);
        tokio::spawn(async move {
            let since = Instant::now();
            let _ = tokio::time::timeout(AT_MOST, complete(&control, &containers)).await;
            tracing::debug!(after = ?since.elapsed(), "names are complete");
            let _ = sender.send(true);
        });
        (settling, receiver)
    }

    /// All containers of this host have their names.
    pub(crate) fn containers_are_named(&self) {
        self.containers.store(true, Ordering::Relaxed);
    }
}

async fn complete(control: &Control, containers: &AtomicBool) {
    let mut looks = 0;
    while looks < LOOKS {
        tokio::time::sleep(LOOK_EVERY).await;
        let is_complete = containers.load(Ordering::Relaxed)
            && control
                .call(|node: &mut Node, _| node.has_caught_up())
                .await
                .unwrap_or(true);
        looks = if is_complete { looks + 1 } else { 0 };
    }
}

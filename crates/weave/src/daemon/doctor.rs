//! What the router itself finds for `weave doctor`: what only it knows.
//!
//! Owns which looks there are. The command line looks at the rest of the host, also where no
//! router runs.

mod host;
mod paths;
mod peers;

use weave_node::{Node, NodeStatus};
use weave_wire::Time;

use super::admin::Admin;
use crate::api::ApiError;
use crate::api::types::Finding;

/// Everything that is wrong, as far as this router can tell.
///
/// # Errors
/// When the router is going down.
pub(super) async fn findings(admin: &Admin) -> Result<Vec<Finding>, ApiError> {
    let control = admin.networks.control();
    let (status, knocks) = control
        .call(|node, now| (expecting(node, now), node.knocks(now)))
        .await?;
    // peers are asked while the kernel is looked at
    let (answers, mut findings) = tokio::join!(
        peers::ask_all(control, &status),
        host::findings(admin, &status)
    );
    findings.extend(paths::findings(&status, &knocks, &answers));
    findings.extend(peers::findings(&status, &answers));
    Ok(findings)
}

/// The state of a node, with who is expected where nobody has proven to be.
fn expecting(node: &Node, now: Time) -> NodeStatus {
    let mut status = node.status(now);
    for line in &mut status.connections {
        if line.peer.is_none()
            && let Ok(addr) = line.address.parse()
        {
            line.peer = node.expected_at(addr);
        }
    }
    status
}

//! `weave rmpeer`: from what an operator typed to a ban that is in force.

use std::time::Duration;

use weave_node::{Ban, BanProgress, ConnectionState, Node, NodeStatus};
use weave_wire::PeerId;

use super::admin::{self, nickname_of};
use super::control::Control;
use crate::api::types::{BanAnswer, BanRequest, BannedBy, BannedPeer};
use crate::api::{ApiError, ApiErrorKind};

/// How often, and how many times, it is looked whether the ban is durable.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS: u32 = 225;
/// Candidates that are named where a text means several.
const MAX_NAMED: usize = 8;

/// Bans whom the request names, and waits until that is durable.
pub(super) async fn rmpeer(control: &Control, request: BanRequest) -> Result<BanAnswer, ApiError> {
    let BanRequest { peer: text, reason } = request;
    let (peer, was_banned, ips) = control
        .call(move |node, now| {
            let status = node.status(now);
            let peer = one_peer(node, &text, &status)?;
            let was_banned = node.bans().any(|ban| ban.peer == peer);
            // as soon as the ban is in force they are somebody else's
            let shares = status.ipam.shares.iter();
            let owned = shares.filter(|share| share.peer == peer);
            let ips = owned.map(|share| share.ips).sum();
            node.ban(peer, &reason, now);
            Ok::<_, ApiError>((peer, was_banned, ips))
        })
        .await??;
    let ban = await_ban(control, peer).await?;
    let (status, is_known) = control
        .call(move |node, now| (node.status(now), node.has_heard_of(&peer)))
        .await?;
    Ok(BanAnswer {
        peer: banned(&ban, &status),
        was_banned,
        is_known,
        ips,
    })
}

/// Takes this host out of the mesh for good, and waits until its peers know.
pub(super) async fn leave(control: &Control, force: bool) -> Result<(), ApiError> {
    let (me, before, is_cloned) = control
        .call(|node, now| {
            let (me, before) = (node.id(), node.status(now));
            let is_cloned = before.clones.iter().any(|clone| clone.peer == me);
            if !is_cloned {
                node.leave(now);
            }
            (me, before, is_cloned)
        })
        .await?;
    if is_cloned {
        // the other host with this identity stays
        return Ok(());
    }
    await_ban(control, me).await?;
    let had_peers = established(&before) > 0;
    for _ in 0..LOOKS {
        let status = control.call(|node, now| node.status(now)).await?;
        let is_alone = status.ipam.shares.iter().all(|share| share.peer == me);
        if established(&status) == 0 && (had_peers || is_alone || force) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if force {
        return Ok(());
    }
    Err(ApiError::new(
        ApiErrorKind::Unavailable,
        "no peer has acknowledged that this host leaves, so its address space would stay with it",
    )
    .with_hint("connect it and try again; or `weave reset --force`, then `weave rmpeer` on a peer"))
}

fn established(status: &NodeStatus) -> usize {
    let connections = status.connections.iter();
    let open = connections.filter(|it| it.state == ConnectionState::Established);
    open.count()
}

/// All bans, as people see them.
pub(super) fn all(status: &NodeStatus) -> Vec<BannedPeer> {
    let bans = status.bans.iter();
    bans.map(|ban| banned(ban, status)).collect()
}

fn banned(ban: &Ban, status: &NodeStatus) -> BannedPeer {
    BannedPeer {
        name: ban.peer.name().to_string(),
        nickname: nickname_of(status, &ban.peer),
        key: ban.peer.to_string(),
        banned: BannedBy {
            by: ban.by.name().to_string(),
            nickname: nickname_of(status, &ban.by),
            reason: ban.reason.clone(),
        },
    }
}

/// The one peer that a text means, if it may be banned from here.
fn one_peer(node: &Node, text: &str, status: &NodeStatus) -> Result<PeerId, ApiError> {
    let peer = one(text, &node.find_peers(text), status)?;
    if peer == node.id() {
        return Err(ApiError::new(
            ApiErrorKind::BadRequest,
            format!("`{text}` is this host itself, which does not ban itself"),
        )
        .with_hint("`weave reset` takes it out of the mesh; type `weave rmpeer` on another host"));
    }
    Ok(peer)
}

/// The one peer that was found by a text.
///
/// # Errors
/// When it is none, or several: who they are.
pub(super) fn one(text: &str, found: &[PeerId], status: &NodeStatus) -> Result<PeerId, ApiError> {
    match found {
        [peer] => Ok(*peer),
        _ => Err(not_one(text, found, status)),
    }
}

fn not_one(text: &str, found: &[PeerId], status: &NodeStatus) -> ApiError {
    if found.is_empty() {
        return ApiError::new(ApiErrorKind::NotFound, format!("no peer `{text}` is known"))
            .with_hint(
                "`weave status peers` shows names and nicknames; the key of a peer, 64 digits, is \
                 taken even if nothing has been heard of it since this router started",
            );
    }
    let named = found.iter().take(MAX_NAMED);
    let named: Vec<String> = named
        .map(|peer| format!("{} with key {peer}", admin::named(status, peer)))
        .collect();
    let more = found.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    ApiError::new(
        ApiErrorKind::Conflict,
        format!("`{text}` may be any of {}{more}", named.join(", ")),
    )
    .with_hint("give the whole key")
}

async fn await_ban(control: &Control, peer: PeerId) -> Result<Ban, ApiError> {
    for _ in 0..LOOKS {
        let looked = control.call(move |node, _| {
            let ban = node.bans().find(|ban| ban.peer == peer).cloned();
            ban.ok_or_else(|| node.ban_progress(&peer))
        });
        match looked.await? {
            Ok(ban) => return Ok(ban),
            Err(Some(BanProgress::Failed(why))) => {
                let what = format!("the ban cannot be stored, and nobody was told of it: {why}");
                return Err(ApiError::new(ApiErrorKind::Internal, what)
                    .with_hint("make room on the disk, or type it on another host"));
            }
            Err(Some(BanProgress::Storing | BanProgress::InForce) | None) => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
    Err(ApiError::new(
        ApiErrorKind::Unavailable,
        "the disk has not taken the ban yet; it will be in force once it has",
    )
    .with_hint("`weave status peers` shows when it is"))
}

#[cfg(test)]
mod tests {
    use weave_node::ipam::IpamStatus;

    use super::*;

    #[test]
    fn who_is_meant_by_several_is_asked_for_the_key_and_shown_them() {
        let status = node_status();
        let found: Vec<_> = (1..=10).map(|number| PeerId([number; 32])).collect();
        assert_eq!(one("web", &found[..1], &status).unwrap(), found[0]);
        let error = one("web", &found, &status).unwrap_err();
        assert_eq!(error.kind, ApiErrorKind::Conflict);
        let name = found[0].name();
        let begin = format!("`web` may be any of {name}(web) with key 0101");
        assert!(error.message.starts_with(&begin), "{error}");
        assert!(error.message.ends_with(" and 2 more"), "{error}");
        let error = one("wbe", &[], &status).unwrap_err();
        assert_eq!(error.kind, ApiErrorKind::NotFound);
        assert_eq!(error.message, "no peer `wbe` is known");
        assert!(
            error
                .hint
                .is_some_and(|hint| hint.contains("weave status peers"))
        );
    }

    fn node_status() -> NodeStatus {
        let nicknames = [(PeerId([1; 32]), "web".to_owned())];
        NodeStatus {
            peer: PeerId([9; 32]),
            boot: 1,
            targets: Vec::new(),
            connections: Vec::new(),
            passwords: Vec::new(),
            peers: Vec::new(),
            nicknames: nicknames.into(),
            bans: Vec::new(),
            clones: Vec::new(),
            ipam: IpamStatus {
                range: None,
                default_subnet: None,
                state: String::new(),
                notes: Vec::new(),
                recovered: None,
                founder: None,
                total_ips: 0,
                owned_ips: 0,
                active_ips: 0,
                borrowed_ips: 0,
                pending: 0,
                pending_claims: 0,
                shares: Vec::new(),
            },
            drops: std::collections::BTreeMap::new(),
            counts: weave_node::NodeCounts::default(),
        }
    }
}

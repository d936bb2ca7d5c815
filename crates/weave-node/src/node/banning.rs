//! What a ban does: the peer is out at once, here, and stays out.
//!
//! The log of a banned peer is held and passed on like any other: the founding of the address
//! range, and grants that the space of others rests on, may stand in it. Nothing else in it
//! counts, for its origin is never live. Its address space is taken
//! over by others (`ipam/succession.rs`).

use weave_wire::proto::entry;
use weave_wire::{PeerId, Time};

use super::{Event, Node, PersistToken, TokenOwner};
use crate::bans::{Ban, BanProgress, ban_entry, of_body};
use crate::config::NodeConfig;

/// The reason in the ban of a peer that left.
const LEFT: &str = "left the mesh";

impl Node {
    /// Bans a peer from the mesh, for ever, once that is durable: [`Node::ban_progress`] tells.
    /// Nobody bans itself by this; a peer that is banned already stays so.
    pub fn ban(&mut self, peer: PeerId, reason: &str, now: Time) {
        if peer != self.me {
            self.bans.ask(peer, reason);
        }
        self.route(now);
    }

    /// Takes this peer out of the mesh, for ever: it bans itself, so that others take its address
    /// space over at once. [`Node::ban_progress`] tells when that is durable; peers that hear of it
    /// end their sessions.
    pub fn leave(&mut self, now: Time) {
        self.bans.ask(self.me, LEFT);
        self.route(now);
    }

    /// How far [`Node::ban`] has come; none when nobody asked for it.
    pub fn ban_progress(&self, peer: &PeerId) -> Option<BanProgress> {
        self.bans.progress(peer)
    }

    /// All bans that are known here, by key.
    pub fn bans(&self) -> impl Iterator<Item = &Ban> {
        self.bans.iter()
    }

    /// Has the bans stored that are not, one batch at a time.
    pub(super) fn save_bans(&mut self, now: Time) {
        if let Some(writes) = self.bans.take_unsaved(now) {
            self.events.push_back(Event::Persist {
                token: PersistToken(TokenOwner::Bans),
                writes,
            });
        }
    }

    /// What was asked for here is durable, and may be told.
    pub(super) fn bans_saved(&mut self, now: Time) {
        for ban in self.bans.saved() {
            self.say_ban(&ban, now);
            // first the news, while the banned peer itself can hear them: it can say so then
            self.logs.flush(now);
            self.route(now);
            self.shut_out(ban.peer, now);
        }
    }

    /// After a start our log says again what it said before.
    pub(super) fn repeat_bans(&mut self, now: Time) {
        for ban in self.bans.own().cloned().collect::<Vec<_>>() {
            self.say_ban(&ban, now);
        }
        self.bans.look_for_orphans(now);
        if self.bans.contains(&self.me) {
            self.shut_out(self.me, now);
        }
    }

    /// Says what our disk has forgotten that we said.
    pub(super) fn recover_bans(&mut self, former: &[entry::Body], now: Time) {
        let me = self.me;
        for ban in former.iter().filter_map(|body| of_body(me, body)) {
            self.say_ban(&ban, now);
            if let Some(banned) = self.bans.learn(ban) {
                self.shut_out(banned, now);
            }
        }
    }

    /// Says what nobody says any more.
    pub(super) fn pass_on_bans(&mut self, now: Time) {
        for ban in self.bans.take_orphans(now) {
            if self.reached.is_empty() {
                return;
            }
            self.say_ban(&ban, now);
        }
    }

    /// Ends everything there is with a banned peer.
    pub(super) fn shut_out(&mut self, peer: PeerId, now: Time) {
        let name = peer.name();
        if peer == self.me {
            tracing::warn!(
                "this host is banned from the mesh: `weave reset` makes a new peer of it"
            );
            return;
        }
        tracing::warn!(peer = %name, "the peer is banned from the mesh");
        self.sessions.ban(peer, now);
        self.ipam.ban(peer, now);
        self.dirty.edges_changed();
    }

    fn say_ban(&mut self, ban: &Ban, now: Time) {
        let (key, body) = ban_entry(&self.me, ban);
        self.write(&key, Some(body), now);
    }
}

/// What is stored, as far as bans are read from it.
#[cfg_attr(
    not(feature = "seeded-bugs"),
    expect(unused_variables, reason = "bugs are seeded")
)]
pub(super) fn stored_bans<'a>(
    config: &NodeConfig,
    stored: &'a [(Vec<u8>, Vec<u8>)],
) -> &'a [(Vec<u8>, Vec<u8>)] {
    #[cfg(feature = "seeded-bugs")]
    if config.seeded_bug == Some(crate::seeded::SeededBug::Ban) {
        return &[];
    }
    stored
}

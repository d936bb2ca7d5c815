//! The keys of one session, and the ends of its lanes in the shape the data path takes them.
//!
//! Owns no policy: when to rekey and when to stop is decided by [`Epochs`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_core::RngCore;
use weave_crypto::{
    Chain, EpochAction, Epochs, OfferPart, RekeyAnswer, RekeyError, SendLane, SessionShape, Suite,
};
use weave_wire::{
    Lane, PayloadKind, PeerId, ReceiverIndex, SEALED_HEADER_LEN, TAG_LEN, Time, codec,
};

use super::path_mtu::Probe;
use crate::forward::{OpenLane, Traffic};

/// Lanes whose datagrams are opened.
const OPENED: [Lane; 3] = [Lane::Data, Lane::Control, Lane::Relay];

/// The keys of one session.
#[derive(Debug)]
pub(super) struct Keys {
    epochs: Epochs,
    version: u8,
    peer: PeerId,
    /// Frames wait for keys that were agreed on with a KEM.
    kem_required: bool,
    /// Receiving ends, with the epoch each belongs to.
    open: Vec<(u32, Arc<OpenLane>)>,
    /// When something of the peer was last opened, in nanoseconds; 0 before.
    heard: Arc<AtomicU64>,
    /// Frames of the peer, in whichever session.
    traffic: Arc<Traffic>,
}

impl Keys {
    /// The keys that a handshake ended with.
    pub(super) fn new(
        shape: SessionShape,
        chain: Chain,
        peer: PeerId,
        traffic: Arc<Traffic>,
        kem_required: bool,
        now: Time,
        rng: &mut impl RngCore,
    ) -> Self {
        let epochs = Epochs::new(shape, chain, now, rng);
        let mut keys = Self {
            epochs,
            version: shape.version,
            peer,
            kem_required,
            open: Vec::new(),
            heard: Arc::default(),
            traffic,
        };
        keys.refresh();
        keys
    }

    /// The protocol version that was chosen.
    pub(super) const fn version(&self) -> u8 {
        self.version
    }

    /// The cipher that was chosen.
    pub(super) const fn suite(&self) -> Suite {
        self.epochs.suite()
    }

    /// Whether the keys that seal now were agreed on with a KEM.
    pub(super) fn has_kem(&self) -> bool {
        self.epochs.current().has_kem()
    }

    /// How often the keys were changed; where there is a KEM, the first time at once.
    pub(super) fn rekeys(&self) -> u32 {
        self.epochs.current().number()
    }

    /// Whether frames may be sealed.
    pub(super) fn carries_frames(&self) -> bool {
        !self.kem_required || self.has_kem()
    }

    /// Where frames are sealed, if [`Self::carries_frames`].
    pub(super) fn data(&self) -> &Arc<SendLane> {
        self.epochs.current_send(Lane::Data)
    }

    /// Counts the frames of the peer.
    pub(super) const fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Where datagrams are sealed that the peer is to relay, or that it is relayed.
    pub(super) fn relay(&self) -> &Arc<SendLane> {
        self.epochs.current_send(Lane::Relay)
    }

    /// Everything that may be opened.
    pub(super) fn open_lanes(&self) -> impl Iterator<Item = &Arc<OpenLane>> {
        self.open.iter().map(|(_, lane)| lane)
    }

    /// Seals a control message into a datagram; none when it is too long or no key is left.
    pub(super) fn seal(&self, message: &[u8], now: Time) -> Option<Vec<u8>> {
        if message.len() > codec::MAX_CONTROL_LEN {
            return None;
        }
        self.seal_whole(message, now)
    }

    /// Seals a path probe into a datagram of the size it is for.
    pub(super) fn seal_probe(&self, probe: Probe, now: Time) -> Option<Vec<u8>> {
        let len = usize::from(probe.size).checked_sub(SEALED_HEADER_LEN + TAG_LEN)?;
        self.seal_whole(&codec::encode_path_probe(probe.nonce, len), now)
    }

    fn seal_whole(&self, message: &[u8], now: Time) -> Option<Vec<u8>> {
        let mut datagram = vec![0; SEALED_HEADER_LEN];
        datagram.extend_from_slice(message);
        datagram.extend_from_slice(&[0; TAG_LEN]);
        let lane = self.epochs.current_send(Lane::Control);
        lane.seal(PayloadKind::Control, now, &mut datagram).ok()?;
        Some(datagram)
    }

    /// Notes that something of the peer was opened under `index`. Returns whether the lanes
    /// have changed.
    pub(super) fn opened(
        &mut self,
        index: ReceiverIndex,
        now: Time,
        rng: &mut impl RngCore,
    ) -> bool {
        self.heard.fetch_max(now.as_nanos(), Ordering::Relaxed);
        let epoch = self.epochs.epoch_of(index);
        let changed = epoch.is_some_and(|epoch| self.epochs.opened(epoch, now, rng));
        if changed {
            self.refresh();
        }
        changed
    }

    /// When the peer was last heard; nothing before the first time.
    pub(super) fn heard(&self) -> Option<Time> {
        let heard = self.heard.load(Ordering::Relaxed);
        (heard != 0).then(|| Time::from_nanos(heard))
    }

    /// Takes a part of the peer's rekey request and gives the answer to send, once it has all.
    /// The lanes have changed then.
    pub(super) fn handle_request(
        &mut self,
        epoch: u32,
        part: OfferPart,
        now: Time,
        rng: &mut impl RngCore,
    ) -> Result<Option<RekeyAnswer>, RekeyError> {
        let answer = self.epochs.handle_request(epoch, part, now, rng)?;
        self.refresh();
        Ok(answer)
    }

    /// Takes the answer to our rekey request. The lanes have changed.
    pub(super) fn handle_reply(
        &mut self,
        reply: &RekeyAnswer,
        now: Time,
        rng: &mut impl RngCore,
    ) -> Result<(), RekeyError> {
        self.epochs.handle_reply(reply, now, rng)?;
        self.refresh();
        Ok(())
    }

    /// When [`Keys::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.epochs.poll_timeout()
    }

    /// What is due, one thing per call.
    pub(super) fn handle_timeout(
        &mut self,
        now: Time,
        rng: &mut impl RngCore,
    ) -> Option<EpochAction> {
        let action = self.epochs.handle_timeout(now, rng);
        self.refresh();
        action
    }

    /// Brings the receiving ends up to date; those of an epoch that stays remain the same.
    fn refresh(&mut self) {
        let mut known = std::mem::take(&mut self.open);
        for epoch in self.epochs.receivable() {
            let kept = known.extract_if(.., |(number, _)| *number == epoch.number());
            let before = self.open.len();
            self.open.extend(kept);
            if self.open.len() > before {
                continue;
            }
            let waits = self.kem_required && !epoch.has_kem();
            for lane in OPENED
                .into_iter()
                .filter(|lane| !waits || *lane != Lane::Data)
            {
                let open = OpenLane {
                    version: self.version,
                    key: epoch.open_key(lane).clone(),
                    receiver: epoch.receiver(lane),
                    peer: self.peer,
                    lane,
                    heard: Arc::clone(&self.heard),
                    traffic: Arc::clone(&self.traffic),
                };
                self.open.push((epoch.number(), Arc::new(open)));
            }
        }
    }
}

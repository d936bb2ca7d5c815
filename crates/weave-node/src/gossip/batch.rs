//! Signed batches: reading, checking and writing them.
//!
//! A batch is kept and forwarded as the very bytes that its origin signed.

use prost::Message as _;
use weave_crypto::Identity;
use weave_wire::codec::{MAX_BATCH_ENTRIES, MAX_BATCH_LEN, check_entry};
use weave_wire::proto::{Batch, Entry, SignedBatch, entry};
use weave_wire::{PeerId, WireError, decode_batch, peer_id_from_bytes};

use super::version::{RunId, Version};
use crate::next_format;

/// Keeps signatures of batches apart from all others of the same key.
const DOMAIN: &str = "weave/v1 batch";
/// The fields of a batch around its entries are at most this long, in bytes.
const ENVELOPE_LEN: usize = 80;
/// An entry is at most this long encoded, in bytes, so that it fits a batch.
pub(super) const MAX_ENTRY_LEN: usize = MAX_BATCH_LEN - ENVELOPE_LEN - 8;
/// A table has at most this many slots in use.
pub(super) const MAX_TABLE: usize = 65_536;
/// No origin starts this often; there is always a later start to go on with.
const MAX_BOOT: u64 = 1 << 62;

/// A batch as read, its signature not yet checked.
#[derive(Debug)]
pub(super) struct ParsedBatch {
    pub(super) origin: PeerId,
    pub(super) run: RunId,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) snapshot_len: u64,
    pub(super) entries: Vec<Entry>,
    /// Number of entries whose content was no good; they count as removals of their slot.
    pub(super) bad_entries: usize,
}

impl ParsedBatch {
    /// Reads a batch.
    ///
    /// # Errors
    /// When it breaks a limit of the format, or counts in a way that no honest origin does.
    pub(super) fn read(signed: &SignedBatch) -> Result<Self, WireError> {
        let batch = decode_batch(&signed.payload)?;
        let entries = u64::try_from(batch.entries.len()).unwrap_or(u64::MAX);
        let most = u64::try_from(MAX_TABLE).unwrap_or(u64::MAX);
        if batch.snapshot_len == 0 || batch.snapshot_len > most {
            return Err(WireError::FieldValue {
                field: "snapshot_len",
            });
        }
        if batch.boot >= MAX_BOOT {
            return Err(WireError::FieldValue { field: "boot" });
        }
        let last_seq = batch
            .first_seq
            .checked_add(entries)
            .and_then(|end| end.checked_sub(1))
            .ok_or(WireError::FieldValue { field: "first_seq" })?;
        let mut parsed = Self {
            origin: peer_id_from_bytes(&batch.origin)?,
            run: RunId {
                boot: batch.boot,
                snapshot: batch.snapshot,
            },
            first_seq: batch.first_seq,
            last_seq,
            snapshot_len: batch.snapshot_len,
            entries: batch.entries,
            bad_entries: 0,
        };
        parsed.clear_bad_entries();
        Ok(parsed)
    }

    /// The state of the log once this batch is applied.
    pub(super) fn version(&self) -> Version {
        Version {
            run: self.run,
            seq: self.last_seq,
        }
    }

    /// Whether the origin has signed these bytes.
    pub(super) fn is_signed(&self, signed: &SignedBatch) -> bool {
        <[u8; 64]>::try_from(signed.signature.as_slice()).is_ok_and(|signature| {
            weave_crypto::verify(&self.origin, DOMAIN, &signed.payload, &signature).is_ok()
        })
    }

    fn clear_bad_entries(&mut self) {
        for entry in &mut self.entries {
            if check_entry(entry).is_err() {
                entry.body = None;
                self.bad_entries += 1;
            }
        }
    }
}

/// A run being written by ourselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing {
    pub(super) run: RunId,
    pub(super) first_seq: u64,
    pub(super) snapshot_len: u64,
}

/// Signs changes as batches of consecutive entries, as few as fit.
pub(super) fn write(
    identity: &Identity,
    at: Writing,
    changes: Vec<(u64, Option<entry::Body>)>,
) -> Vec<SignedBatch> {
    let mut batches = Vec::new();
    let mut next = empty_batch(identity, at, at.first_seq);
    let mut room = MAX_BATCH_LEN - ENVELOPE_LEN;
    for (seq, (slot, body)) in (at.first_seq..).zip(changes) {
        let entry = Entry { slot, body };
        let len = entry.encoded_len() + 4;
        if len > room || next.entries.len() == MAX_BATCH_ENTRIES {
            batches.push(sign(identity, &next));
            next = empty_batch(identity, at, seq);
            room = MAX_BATCH_LEN - ENVELOPE_LEN;
        }
        room = room.saturating_sub(len);
        next.entries.push(entry);
    }
    if !next.entries.is_empty() {
        batches.push(sign(identity, &next));
    }
    batches
}

/// Signs one batch.
pub(super) fn sign(identity: &Identity, batch: &Batch) -> SignedBatch {
    let payload = batch.encode_to_vec();
    let signature = identity.sign(DOMAIN, &payload).to_vec();
    SignedBatch { payload, signature }
}

/// Adds to batches of ours what older peers do not know.
pub(super) fn extend(identity: &Identity, batches: &mut [SignedBatch]) {
    for signed in batches {
        next_format::extend(&mut signed.payload);
        signed.signature = identity.sign(DOMAIN, &signed.payload).to_vec();
    }
}

fn empty_batch(identity: &Identity, at: Writing, first_seq: u64) -> Batch {
    Batch {
        origin: identity.peer_id().0.to_vec(),
        boot: at.run.boot,
        snapshot: at.run.snapshot,
        first_seq,
        snapshot_len: at.snapshot_len,
        entries: Vec::new(),
    }
}

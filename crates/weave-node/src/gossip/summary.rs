//! What is held, in short: one sum for each part of the key space.
//!
//! Two peers whose sums of a part are equal hold the same there. Only members of the mesh could
//! make two different states look alike, and only by their own logs.

use blake2::{Blake2s256, Digest as _};
use weave_wire::PeerId;

use super::version::Version;

/// Parts of the key space: by the first six bits.
const PARTS: usize = 64;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Sums([u64; PARTS]);

impl Sums {
    pub(super) const EMPTY: Self = Self([0; PARTS]);

    /// Notes that a log is held to another state.
    pub(super) fn replace(&mut self, origin: &PeerId, old: Version, new: Version) {
        if let Some(sum) = self.0.get_mut(usize::from(origin.0[0] >> 2)) {
            *sum ^= state(origin, old) ^ state(origin, new);
        }
    }

    /// The sums in order of the keys.
    pub(super) fn sums(&self) -> Vec<u64> {
        self.0.to_vec()
    }

    /// The parts, as bits, in which a peer with these sums holds something else.
    pub(super) fn differing(&self, sums: &[u64]) -> u64 {
        let pairs = self.0.iter().zip(sums).enumerate();
        pairs
            .filter(|(_, (ours, theirs))| ours != theirs)
            .fold(0, |parts, (part, _)| parts | 1 << part)
    }
}

/// The part that a log belongs to.
pub(super) fn part_of(origin: &PeerId) -> u32 {
    u32::from(origin.0[0] >> 2)
}

/// The lowest key of a part.
pub(super) fn first_key(part: u32) -> PeerId {
    let mut key = [0; 32];
    key[0] = u8::try_from(part << 2).unwrap_or(u8::MAX);
    PeerId(key)
}

/// The highest key of a part.
pub(super) fn last_key(part: u32) -> PeerId {
    let mut key = [u8::MAX; 32];
    key[0] = first_key(part).0[0] | 3;
    PeerId(key)
}

fn state(origin: &PeerId, version: Version) -> u64 {
    if version == Version::NONE {
        return 0;
    }
    let mut hash = Blake2s256::new();
    hash.update(origin.0);
    hash.update(version.run.boot.to_le_bytes());
    hash.update(version.run.snapshot.to_le_bytes());
    hash.update(version.seq.to_le_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::super::version::RunId;
    use super::*;

    fn version(seq: u64) -> Version {
        let run = RunId {
            boot: 3,
            snapshot: 0,
        };
        Version { run, seq }
    }

    #[test]
    fn sums_depend_on_what_is_held_not_on_how_it_came() {
        let (a, b) = (PeerId([9; 32]), PeerId([10; 32]));
        let mut one = Sums::EMPTY;
        one.replace(&a, Version::NONE, version(7));
        one.replace(&b, Version::NONE, version(2));
        let mut other = Sums::EMPTY;
        other.replace(&b, Version::NONE, version(1));
        other.replace(&a, Version::NONE, version(7));
        assert_eq!(one.differing(&other.sums()), 1 << part_of(&b));
        other.replace(&b, version(1), version(2));
        assert_eq!(one.differing(&other.sums()), 0);
        one.replace(&a, version(7), Version::NONE);
        one.replace(&b, version(2), Version::NONE);
        assert_eq!(one.differing(&Sums::EMPTY.sums()), 0);
    }

    #[test]
    fn the_parts_cover_all_keys() {
        assert_eq!(
            (first_key(0), last_key(63)),
            (PeerId([0; 32]), PeerId([255; 32]))
        );
        for part in 0..64 {
            assert_eq!(
                (part_of(&first_key(part)), part_of(&last_key(part))),
                (part, part)
            );
        }
    }
}

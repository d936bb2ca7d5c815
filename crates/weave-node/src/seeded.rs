//! Faults that are built in on purpose, so that the simulator can prove its oracles.
//!
//! Compiled only with the feature `seeded-bugs`; no release build has it.

/// One deliberate fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeededBug {
    /// A log of an older start of its origin replaces a newer one.
    Merge,
    /// The address allocator forgets what it gave out.
    Allocator,
    /// Owners go on without contact, for ever.
    Fence,
    /// Nobody takes back what peers that are gone own.
    KeepsSpaceOfTheGone,
    /// An address is given out before that is on disk.
    AnswersBeforeTheDisk,
    /// A start does not ask its peers what it said before.
    Resync,
    /// Names of peers that are gone stay visible.
    NameExpiry,
    /// A start does not read from its disk who is banned.
    Ban,
    /// A path that has narrowed is not noticed.
    PathMtu,
    /// A refusal that proves nothing ends the session with the peer that it seems to come from.
    Reject,
    /// Control messages leave unsealed, too.
    Plaintext,
    /// A datagram that was received before is received again.
    Replay,
}

//! Protocol versions: which are spoken here, and which one two peers have in common.

use std::fmt;

/// The versions that a peer speaks: the lowest, the highest, and all between.
///
/// A version travels in four bits, so it is at most 15; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Versions {
    /// The oldest version still spoken.
    pub lowest: u8,
    /// The newest version spoken.
    pub highest: u8,
}

impl Versions {
    /// What this program speaks.
    pub const SPOKEN: Self = Self::new(1, 1);

    /// What a program of the next version will speak, for tests of the two side by side.
    pub const NEXT: Self = Self::new(Self::SPOKEN.highest, Self::SPOKEN.highest + 1);

    /// All versions from the lowest to the highest.
    pub const fn new(lowest: u8, highest: u8) -> Self {
        Self { lowest, highest }
    }

    /// Whether this version is one of them.
    pub const fn contains(self, version: u8) -> bool {
        self.lowest <= version && version <= self.highest
    }

    /// The highest version that both speak.
    pub fn common(self, other: Self) -> Option<u8> {
        let version = self.highest.min(other.highest);
        (self.contains(version) && other.contains(version)).then_some(version)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lowest == self.highest {
            return write!(f, "{}", self.lowest);
        }
        write!(f, "{} to {}", self.lowest, self.highest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_shown_as_one_or_as_a_range() {
        assert_eq!(Versions::new(1, 1).to_string(), "1");
        assert_eq!(Versions::new(1, 3).to_string(), "1 to 3");
    }

    proptest! {
        #[test]
        fn both_sides_find_the_same_highest_common_version(a: (u8, u8), b: (u8, u8)) {
            let (a, b) = (Versions::new(a.0, a.1), Versions::new(b.0, b.1));
            let best = (0..=u8::MAX).rev().find(|one| a.contains(*one) && b.contains(*one));
            prop_assert_eq!(a.common(b), best);
            prop_assert_eq!(b.common(a), best);
        }
    }
}

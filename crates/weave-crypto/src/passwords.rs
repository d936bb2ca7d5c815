//! The passwords that a peer holds while they are rotated: several, told apart by a number.
//!
//! The number, the generation, travels in clear: it is counted, never derived from the password,
//! which it would give a test of. Invariants: exactly one generation is in use; there are at most
//! [`Passwords::MOST`], so that a refusal can name all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::password::StretchedPassword;

/// The passwords of a mesh that are accepted here, by generation. One of them is dialled with.
#[derive(Debug, Clone)]
pub struct Passwords {
    in_use: (u16, StretchedPassword),
    others: BTreeMap<u16, StretchedPassword>,
}

impl Passwords {
    /// So many generations are held at once.
    pub const MOST: usize = 4;

    /// One password, in use.
    pub const fn new(generation: u16, password: StretchedPassword) -> Self {
        Self {
            in_use: (generation, password),
            others: BTreeMap::new(),
        }
    }

    /// The generation that is dialled with.
    pub const fn in_use(&self) -> u16 {
        self.in_use.0
    }

    /// Accepts one more password; a generation that is held already gets this one. Returns
    /// whether there was room.
    pub fn add(&mut self, generation: u16, password: StretchedPassword) -> bool {
        if generation == self.in_use.0 {
            self.in_use.1 = password;
            return true;
        }
        let has_room = self.others.len() + 1 < Self::MOST || self.others.contains_key(&generation);
        if has_room {
            self.others.insert(generation, password);
        }
        has_room
    }

    /// Dials with another generation from now on; whether it is held.
    pub fn choose(&mut self, generation: u16) -> bool {
        if generation == self.in_use.0 {
            return true;
        }
        let Some(password) = self.others.remove(&generation) else {
            return false;
        };
        let (former, password) = std::mem::replace(&mut self.in_use, (generation, password));
        self.others.insert(former, password);
        true
    }

    /// Accepts a generation no more. Returns whether it was held and not in use; that in use
    /// stays.
    pub fn remove(&mut self, generation: u16) -> bool {
        self.others.remove(&generation).is_some()
    }

    /// The password of a generation.
    pub fn of(&self, generation: u16) -> Option<&StretchedPassword> {
        if generation == self.in_use.0 {
            return Some(&self.in_use.1);
        }
        self.others.get(&generation)
    }

    /// The password in use, with its generation.
    pub(crate) const fn first(&self) -> (u16, &StretchedPassword) {
        (self.in_use.0, &self.in_use.1)
    }

    /// Whether a generation is held.
    pub fn holds(&self, generation: u16) -> bool {
        self.of(generation).is_some()
    }

    /// All of them, the lowest generation first.
    pub fn all(&self) -> impl Iterator<Item = (u16, &StretchedPassword)> {
        let (lower, higher) = (
            self.others.range(..self.in_use.0),
            self.others.range(self.in_use.0..),
        );
        let in_use = (&self.in_use.0, &self.in_use.1);
        let all = lower.chain([in_use]).chain(higher);
        all.map(|(generation, password)| (*generation, password))
    }

    /// Which generations are held, as a refusal names them.
    pub(crate) fn generations(&self) -> Generations {
        let mut held = [self.in_use.0; Self::MOST];
        for (place, generation) in held.iter_mut().skip(1).zip(self.others.keys()) {
            *place = *generation;
        }
        Generations(held)
    }
}

/// Generations that a peer holds: that in use first, and again where there are fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generations(pub(crate) [u16; Passwords::MOST]);

impl Generations {
    /// The highest one that is held here, too.
    pub fn highest_common(&self, held: &Passwords) -> Option<u16> {
        self.0.into_iter().filter(|one| held.holds(*one)).max()
    }
}

/// `0, 2`.
impl fmt::Display for Generations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: BTreeSet<_> = self.0.into_iter().collect();
        let words: Vec<_> = all.iter().map(u16::to_string).collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests;

//! The passwords of the mesh that this host holds: stretched, with their generations, and how they
//! are written down.
//!
//! ```text
//!   0   32       the password of generation 0 while it is held, else the one in use: what a
//!                weave takes for the password that knows of no generations
//!                nothing else, where generation 0 is all that there ever was
//!  32    4       `gen1`
//!  36    2       highest generation that was ever held
//!  38    2       generation in use
//!  40    1       number of passwords
//!  41   35 each  generation 2, 1 for the empty password or else 0, stretched 32
//! ```
//!
//! Numbers are little-endian; what follows the last password is left to later versions. Invariant:
//! a number that was given out is not given out again, so that it means one password on all hosts.

use std::collections::BTreeSet;

use weave_crypto::{Passwords, StretchError, StretchedPassword};
use zeroize::Zeroizing;

use crate::cli::password::MESH_NAME;

const MAGIC: &[u8; 4] = b"gen1";

/// The passwords of the mesh that this host holds.
#[derive(Debug, Clone)]
pub(crate) struct PasswordSet {
    passwords: Passwords,
    /// The generations whose password is empty: with them anyone may join.
    empty: BTreeSet<u16>,
    /// The highest generation that was ever held.
    highest: u16,
}

/// Why a change of the passwords is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PasswordError {
    /// The password is held already.
    #[error("this password is held already, as generation {0}")]
    Known(u16),
    /// The generation has another password.
    #[error("generation {0} has another password")]
    Taken(u16),
    /// No more passwords can be held.
    #[error("{} passwords are held, and no more can be", Passwords::MOST)]
    Full,
    /// There is no higher number.
    #[error("the numbers of generations are used up")]
    NoNumber,
    /// There is no such generation.
    #[error("no password of generation {0} is held")]
    NotHeld(u16),
    /// It is the one that is dialled with.
    #[error("generation {0} is in use")]
    InUse(u16),
}

impl PasswordError {
    /// What the user can do about it.
    pub(crate) fn hint(self) -> String {
        match self {
            Self::Known(generation) => {
                format!("`weave password use {generation}` dials with it")
            }
            Self::Taken(_) => {
                "without --generation it gets the next number; `weave password list` shows all"
                    .to_owned()
            }
            Self::Full => "`weave password remove` one that no host needs any more".to_owned(),
            Self::NoNumber => "give a free one by --generation".to_owned(),
            Self::NotHeld(_) => "`weave password list` shows those that are".to_owned(),
            Self::InUse(_) => "`weave password use` another one first".to_owned(),
        }
    }
}

impl PasswordSet {
    /// One password.
    pub(crate) const fn new(generation: u16, password: StretchedPassword) -> Self {
        Self {
            passwords: Passwords::new(generation, password),
            empty: BTreeSet::new(),
            highest: generation,
        }
    }

    /// The empty password, which everybody knows.
    ///
    /// # Errors
    /// When the memory is missing to stretch it.
    pub(crate) fn open() -> Result<Self, StretchError> {
        let password = StretchedPassword::stretch("", MESH_NAME)?;
        Ok(Self {
            empty: BTreeSet::from([0]),
            ..Self::new(0, password)
        })
    }

    /// All of them, as handshakes take them.
    pub(crate) const fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// Whether anyone may join.
    pub(crate) fn is_open(&self) -> bool {
        !self.empty.is_empty()
    }

    /// Whether the password of a generation is the empty one.
    pub(crate) fn is_empty(&self, generation: u16) -> bool {
        self.empty.contains(&generation)
    }

    /// The generation of a password, if it is held.
    pub(crate) fn find(&self, password: &StretchedPassword) -> Option<u16> {
        let mut all = self.passwords.all();
        let found = all.find(|(_, held)| held.as_bytes() == password.as_bytes());
        found.map(|(generation, _)| generation)
    }

    /// `0, 2`.
    pub(crate) fn generations(&self) -> String {
        let all = self.passwords.all();
        let words: Vec<_> = all.map(|(generation, _)| generation.to_string()).collect();
        words.join(", ")
    }

    /// Accepts one more password, as this generation or the next. Returns its generation.
    ///
    /// # Errors
    /// When it or its number is held already, or there is no room.
    pub(crate) fn add(
        &mut self,
        generation: Option<u16>,
        password: StretchedPassword,
    ) -> Result<u16, PasswordError> {
        if let Some(known) = self.find(&password) {
            return Err(PasswordError::Known(known));
        }
        let next = generation.or_else(|| self.highest.checked_add(1));
        let generation = next.ok_or(PasswordError::NoNumber)?;
        if self.passwords.holds(generation) {
            return Err(PasswordError::Taken(generation));
        }
        if !self.passwords.add(generation, password) {
            return Err(PasswordError::Full);
        }
        self.highest = self.highest.max(generation);
        Ok(generation)
    }

    /// Dials with this generation from now on.
    ///
    /// # Errors
    /// When it is not held.
    pub(crate) fn choose(&mut self, generation: u16) -> Result<(), PasswordError> {
        let is_held = self.passwords.choose(generation);
        is_held
            .then_some(())
            .ok_or(PasswordError::NotHeld(generation))
    }

    /// Accepts this generation no more.
    ///
    /// # Errors
    /// When it is in use or not held.
    pub(crate) fn remove(&mut self, generation: u16) -> Result<(), PasswordError> {
        if generation == self.passwords.in_use() {
            return Err(PasswordError::InUse(generation));
        }
        if !self.passwords.remove(generation) {
            return Err(PasswordError::NotHeld(generation));
        }
        self.empty.remove(&generation);
        Ok(())
    }

    /// The set as it is stored. As secret as the passwords.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let held: Vec<_> = self.passwords.all().collect();
        let in_use = self.passwords.in_use();
        let is_first = |wanted: u16| held.iter().find(|(generation, _)| *generation == wanted);
        let Some((_, first)) = is_first(0).or_else(|| is_first(in_use)) else {
            unreachable!("the generation in use is held");
        };
        // whole at once: a vector that grows leaves copies of what it held
        let mut bytes = Zeroizing::new(Vec::with_capacity(41 + Passwords::MOST * 35));
        bytes.extend_from_slice(first.as_bytes());
        if self.highest == 0 && !self.is_open() {
            return bytes;
        }
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.highest.to_le_bytes());
        bytes.extend_from_slice(&in_use.to_le_bytes());
        bytes.push(u8::try_from(held.len()).unwrap_or(u8::MAX));
        for (generation, password) in held {
            bytes.extend_from_slice(&generation.to_le_bytes());
            bytes.push(self.is_empty(generation).into());
            bytes.extend_from_slice(password.as_bytes());
        }
        bytes
    }

    /// The set that was stored; none when it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        if rest.is_empty() {
            return Some(Self::new(0, StretchedPassword::from_bytes(*first)));
        }
        let rest = rest.strip_prefix(MAGIC)?;
        let ([a, b, c, d, count], mut rest) = rest.split_first_chunk()?;
        let (highest, in_use) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
        let (mut all, mut empty) = (Vec::new(), BTreeSet::new());
        for _ in 0..*count {
            let ([low, high, is_empty], after) = rest.split_first_chunk()?;
            let (password, after) = after.split_first_chunk()?;
            let generation = u16::from_le_bytes([*low, *high]);
            all.push((generation, StretchedPassword::from_bytes(*password)));
            if *is_empty == 1 {
                empty.insert(generation);
            }
            rest = after;
        }
        let mut all = all.into_iter();
        let (generation, password) = all.next()?;
        let mut set = Self::new(generation, password);
        for (generation, password) in all {
            set.add(Some(generation), password).ok()?;
        }
        set.choose(in_use).ok()?;
        set.empty = empty;
        set.highest = set.highest.max(highest);
        Some(set)
    }
}

#[cfg(test)]
mod tests;

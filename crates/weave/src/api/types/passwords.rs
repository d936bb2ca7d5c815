//! What the admin API says of the passwords of the mesh, and takes to change them.

use std::fmt;

use serde::{Deserialize, Serialize};
use weave_crypto::StretchedPassword;

/// A generation of the password. The password itself is never told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PasswordStatus {
    /// Its number.
    pub(crate) generation: u16,
    /// Whether peers may join with it; else it was removed.
    pub(crate) held: bool,
    /// Whether this router dials with it.
    pub(crate) in_use: bool,
    /// Whether it is the empty password, so that anyone may join.
    pub(crate) empty: bool,
    /// Number of established sessions that rest on it.
    pub(crate) sessions: u64,
}

/// `POST /passwords`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PasswordChange {
    /// Accept one more password.
    Add {
        /// Its number; absent: the next one.
        generation: Option<u16>,
        /// The password.
        stretched: Stretched,
    },
    /// Dial with this generation.
    Use {
        /// Its number.
        generation: u16,
    },
    /// Accept this generation no more.
    Remove {
        /// Its number.
        generation: u16,
        /// Also if sessions rest on it.
        force: bool,
    },
}

/// A stretched password on its way to the router: as secret as the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stretched([u8; 32]);

impl From<&StretchedPassword> for Stretched {
    fn from(password: &StretchedPassword) -> Self {
        Self(*password.as_bytes())
    }
}

impl From<Stretched> for StretchedPassword {
    fn from(stretched: Stretched) -> Self {
        Self::from_bytes(stretched.0)
    }
}

impl fmt::Debug for Stretched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stretched(..)")
    }
}

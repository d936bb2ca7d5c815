//! The password of the mesh, stretched once: every guess costs 64 MiB of memory.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest};
use zeroize::ZeroizeOnDrop;

/// RFC 9106 argon2id: 64 MiB, three passes, one lane.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// The system could not give the memory that stretching needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot stretch the password: 64 MiB of memory are needed, or it is over 4 GiB long")]
pub struct StretchError;

/// What a mesh stores instead of its password. As secret as the password itself.
#[derive(Clone, ZeroizeOnDrop)]
pub struct StretchedPassword([u8; 32]);

impl StretchedPassword {
    /// Stretches a password, for about a fifth of a second; keep the result. The empty password
    /// is one like any other, which everybody knows.
    ///
    /// # Errors
    /// [`StretchError`] when the memory is missing.
    pub fn stretch(password: &str, mesh_name: &str) -> Result<Self, StretchError> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).map_err(|_| StretchError)?;
        let mut stretched = Self([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password.as_bytes(), &salt(mesh_name), &mut stretched.0)
            .map_err(|_| StretchError)?;
        Ok(stretched)
    }

    /// A password stretched before.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For storing; keep it as safe as the password.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// There is no server that could hold a random salt; a mesh of another name has another one.
fn salt(mesh_name: &str) -> [u8; 16] {
    let mut hash = Blake2b::<U16>::new();
    hash.update(b"weave/v1 password salt");
    hash.update(mesh_name.as_bytes());
    hash.finalize().into()
}

impl fmt::Debug for StretchedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StretchedPassword(..)")
    }
}

#[cfg(test)]
mod tests;

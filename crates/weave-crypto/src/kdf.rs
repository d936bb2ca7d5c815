//! The one keyed hash behind every derived key and every short authenticator: BLAKE2s with a
//! label and length-prefixed parts, so that no two uses can ever hash the same bytes.

use blake2::digest::{FixedOutput, KeyInit, Mac, Update};
use blake2::{Blake2s256, Blake2sMac256, Digest};
use zeroize::Zeroizing;

/// Derives 32 secret bytes from a key, bound to a label and to the parts.
pub(crate) fn derive(key: &[u8; 32], label: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = <Blake2sMac256 as KeyInit>::new(key.into());
    feed(label, parts, |bytes| Mac::update(&mut mac, bytes));
    Zeroizing::new(mac.finalize_fixed().into())
}

/// An authenticator of 16 bytes over the parts, for what is not sealed.
pub(crate) fn authenticate(key: &[u8; 32], label: &str, parts: &[&[u8]]) -> [u8; 16] {
    let [tag @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *derive(key, label, parts);
    tag
}

/// A key that everyone knows who knows the parts.
pub(crate) fn public_key(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    feed(label, parts, |bytes| Update::update(&mut hash, bytes));
    hash.finalize().into()
}

/// Joins parts so that no other list of parts gives the same bytes.
pub(crate) fn join(label: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut joined = Vec::new();
    feed(label, parts, |bytes| joined.extend_from_slice(bytes));
    joined
}

fn feed(label: &str, parts: &[&[u8]], mut sink: impl FnMut(&[u8])) {
    for part in std::iter::once(label.as_bytes()).chain(parts.iter().copied()) {
        sink(&(part.len() as u64).to_le_bytes());
        sink(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_run_into_each_other() {
        let key = [7; 32];
        let joined = derive(&key, "a", &[b"bc"]);
        assert_ne!(joined, derive(&key, "ab", &[b"c"]));
        assert_ne!(joined, derive(&key, "a", &[b"b", b"c"]));
        assert_ne!(joined, derive(&key, "a", &[b"bc", b""]));
        assert_ne!(joined, derive(&[8; 32], "a", &[b"bc"]));
        assert_eq!(authenticate(&key, "a", &[b"bc"]), joined[..16]);
        assert_eq!(joined, derive(&key, "a", &[b"bc"]));
    }
}

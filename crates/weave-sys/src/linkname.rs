//! Interface names: at most 15 bytes, and the same for the same thing at every start.

use crate::{Error, Result};

/// Longest name that Linux takes (IFNAMSIZ without the terminating zero).
pub const MAX_LEN: usize = 15;

/// Bridge of the default network.
pub const DEFAULT_BRIDGE: &str = "weave";

/// TAP of the default network.
pub const DEFAULT_TAP: &str = "weave-tap";

/// Prefix of the host end of a container's veth.
pub const HOST_VETH_PREFIX: &str = "vethwl";

/// Prefix of the container end, before it is moved and renamed.
pub const GUEST_VETH_PREFIX: &str = "vethwg";

/// Refuses what the kernel would refuse, with the reason.
///
/// # Errors
/// [`Error::BadName`].
pub fn validate(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_LEN {
        "it is longer than 15 characters"
    } else if name == "." || name == ".." {
        "it is a directory name"
    } else if name
        .bytes()
        .any(|b| b == b'/' || b == b':' || b.is_ascii_whitespace() || b == 0)
    {
        "it has a character that is not allowed"
    } else {
        return Ok(());
    };
    Err(Error::BadName {
        name: name.to_owned(),
        reason,
    })
}

/// `prefix` and as much of the hash of `id` as fits: 15 characters at most, always the same.
///
/// `prefix` should be at most 7 characters, so that 32 bits of the hash or more remain.
pub fn derived(prefix: &str, id: &str) -> String {
    let mut name = format!("{prefix}{:016x}", fnv1a(id.as_bytes()));
    name.truncate(MAX_LEN);
    name
}

/// Names of the host end and the guest end of the veth of endpoint `id`.
///
/// A Docker endpoint id gives its own first nine digits, as users know from Weave Net; any other
/// text its hash.
pub fn veth_pair(id: &str) -> (String, String) {
    let looks_like_id = id.len() >= 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if looks_like_id && let Some(start) = id.get(..9) {
        return (
            format!("{HOST_VETH_PREFIX}{start}"),
            format!("{GUEST_VETH_PREFIX}{start}"),
        );
    }
    (
        derived(HOST_VETH_PREFIX, id),
        derived(GUEST_VETH_PREFIX, id),
    )
}

/// FNV-1a, 64 bits: stable across builds, which the standard library's hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_docker_endpoint_id_shows_in_its_veth_names() {
        let id = "12140fcfa41d5c8e9a7b12140fcfa41d5c8e9a7b12140fcfa41d5c8e9a7b1234";
        assert_eq!(
            veth_pair(id),
            ("vethwl12140fcfa".into(), "vethwg12140fcfa".into())
        );
    }

    #[test]
    fn names_the_kernel_would_refuse_are_refused_with_a_reason() {
        for bad in ["", "a-name-of-16-byt", "a/b", "a b", "..", "a:1"] {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
        assert!(validate("weave").is_ok());
    }

    proptest! {
        #[test]
        fn derived_names_are_valid_and_stable(id in ".*") {
            let name = derived("wbr-", &id);
            prop_assert!(validate(&name).is_ok());
            prop_assert_eq!(&name, &derived("wbr-", &id));
            let (host, guest) = veth_pair(&id);
            prop_assert!(validate(&host).is_ok() && validate(&guest).is_ok());
            prop_assert_ne!(host, guest);
        }
    }
}

//! What a router leaves in the kernel and on disk, and its removal.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use weave_sys::firewall::{BridgeRules, Guard};
use weave_sys::{Netlink, linkname};

/// Runtime directory: the socket's.
const RUN_DIR: &str = "/run/weave";

/// Beginnings of the names of our veths: containers' host ends, their other
/// ends before they are moved, and those of the DNS server.
const VETH_PREFIXES: [&str; 3] = [
    linkname::HOST_VETH_PREFIX,
    linkname::GUEST_VETH_PREFIX,
    "vethwd",
];

/// Removes bridges, TAPs, veths and firewall rules.
///
/// # Errors
/// The kernel's, iptables' or nft's refusal.
pub(super) async fn remove_from_kernel() -> Result<()> {
    let netlink = Netlink::here()?;
    let rules = BridgeRules::new(netlink.netns());
    for link in netlink.links().await? {
        if !is_ours(&link.name, link.kind.as_deref()) {
            continue;
        }
        if link.kind.as_deref() == Some("bridge") {
            rules.remove(&link.name)?;
        }
        // The other end of a pair is gone with the first.
        netlink.delete_link(&link.name).await?;
    }
    // Also after somebody else removed the bridge.
    rules.remove(linkname::DEFAULT_BRIDGE)?;
    rules.ensure_exposed(&[])?;
    Guard::remove(netlink.netns())?;
    Ok(())
}

/// Bridges and TAPs are called `weave…`; veths begin as [`VETH_PREFIXES`] say.
fn is_ours(name: &str, kind: Option<&str>) -> bool {
    match kind {
        Some("bridge" | "tun") => name.starts_with(linkname::DEFAULT_BRIDGE),
        Some("veth") => VETH_PREFIXES.iter().any(|prefix| name.starts_with(prefix)),
        Some(_) | None => false,
    }
}

/// Removes the state, the socket and the plugin socket.
///
/// # Errors
/// When a file cannot be removed.
pub(super) fn remove_from_disk(state_dir: &Path) -> Result<()> {
    remove_tree(state_dir)?;
    remove_tree(Path::new(RUN_DIR))?;
    weave_docker::plugin::remove_stale(&weave_docker::plugin_socket())?;
    Ok(())
}

/// Removes a directory's content, and the directory unless something is mounted there.
fn remove_tree(dir: &Path) -> Result<()> {
    let what = || format!("remove {}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(what),
    };
    for entry in entries {
        let entry = entry.with_context(what)?;
        let path = entry.path();
        if entry.file_type().with_context(what)?.is_dir() {
            std::fs::remove_dir_all(&path).with_context(what)?;
        } else {
            std::fs::remove_file(&path).with_context(what)?;
        }
    }
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
        result => result.with_context(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interfaces_that_weave_makes_are_removed() {
        for (name, kind) in [
            ("weave", "bridge"),
            ("weave-tap", "tun"),
            ("vethwl0123456789", "veth"),
            ("vethwd01234567", "veth"),
        ] {
            assert!(is_ours(name, Some(kind)), "{name}");
        }
        for (name, kind) in [
            ("docker0", Some("bridge")),
            ("veth1234567", Some("veth")),
            ("weave", Some("vlan")),
            ("tap0", Some("tun")),
            ("weave0", None),
        ] {
            assert!(!is_ours(name, kind), "{name}");
        }
    }

    #[test]
    fn a_tree_is_removed_whole_and_a_missing_one_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("weave");
        std::fs::create_dir_all(state.join("sub")).unwrap();
        std::fs::write(state.join("sub/file"), "x").unwrap();
        std::fs::write(state.join("password"), "x").unwrap();
        remove_tree(&state).unwrap();
        assert!(!state.exists());
        remove_tree(&state).unwrap();
    }
}

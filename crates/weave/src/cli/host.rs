//! Small facts and deeds of this host that several commands need.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use weave_sys::Netlink;

use super::failure::Failure;

/// The host name.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn name() -> Result<String> {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the host name")?;
    Ok(name.trim().to_owned())
}

/// Refuses to go on without root's rights.
///
/// # Errors
/// Says which command needs them.
pub(crate) fn require_root(command: &str) -> Result<()> {
    if weave_sys::preflight::check_net_admin().is_ok() {
        return Ok(());
    }
    Err(
        Failure::new(format!("`weave {command}` must be run by root"))
            .with_hint(format!("sudo weave {command} …"))
            .into(),
    )
}

/// An address under which other hosts likely reach this one: that of the
/// default route, else the first of a link that is no bridge, veth or the like.
pub(crate) async fn outward_address() -> Option<IpAddr> {
    match routed_address() {
        Some(address) => Some(address),
        None => first_address().await.ok().flatten(),
    }
}

/// No packet is sent: the kernel chooses an address for the route.
fn routed_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // TEST-NET-1 (RFC 5737): routed like any other address.
    let anywhere: SocketAddr = ([192, 0, 2, 1], 9).into();
    socket.connect(anywhere).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

async fn first_address() -> Result<Option<IpAddr>> {
    let netlink = Netlink::here()?;
    let links = netlink.links().await?;
    let is_uplink = |index: u32| {
        let virtual_kinds = ["bridge", "veth", "tun", "dummy"];
        links.iter().any(|link| {
            let kind = link.kind.as_deref().unwrap_or_default();
            // The end of a veth that has the same name as a card is one to its namespace.
            let is_card = !virtual_kinds.contains(&kind) || link.name.starts_with("eth");
            link.index == index && link.up && is_card
        })
    };
    let addresses = netlink.addresses().await?;
    let usable = addresses
        .into_iter()
        .filter(|a| !a.link_local && !a.ip.is_loopback() && is_uplink(a.link));
    Ok(usable.map(|a| a.ip).min())
}

/// Makes a directory for root alone, with its parents.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn create_private_dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make the directory {}", path.display()))
}

/// Writes a file for its owner alone: whole and durable, or not at all.
///
/// # Errors
/// When it cannot be written; a file that was there before stays as it was.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = Path::new(&fresh);
    let written = write_new(fresh, content).and_then(|()| std::fs::rename(fresh, path));
    if written.is_err() {
        // Best effort: the error that counts is the first one.
        let _ = std::fs::remove_file(fresh);
    }
    written?;
    File::open(parent)?.sync_all()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_replaced_whole_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "old and longer").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("content"), "x").unwrap();
        assert!(write_private(&path, b"new").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_host_has_a_name() {
        assert!(!name().unwrap().is_empty());
    }
}

//! What must hold on this host before a router is started.

use anyhow::{Context, Result};
use weave_sys::udp::Underlay;
use weave_sys::{Netlink, linkname, preflight};

use super::super::failure::Failure;
use super::super::options::Options;

/// This very program.
///
/// # Errors
/// When it cannot be read.
pub(super) fn own_binary() -> Result<Vec<u8>> {
    std::fs::read("/proc/self/exe").context("read this program")
}

/// Kernel, devices, port and routes.
///
/// # Errors
/// The first thing that is missing or in the way.
pub(super) async fn host(options: &Options) -> Result<()> {
    check_kernel(preflight::kernel_version()?)?;
    preflight::check_tun()?;
    // Free again at once: the router binds it in a moment.
    drop(Underlay::bind(options.port)?);
    range_is_free(options).await
}

fn check_kernel((major, minor): (u32, u32)) -> Result<(), Failure> {
    let (old_major, old_minor) = preflight::OLDEST_KERNEL;
    if (major, minor) >= (old_major, old_minor) {
        return Ok(());
    }
    Err(
        Failure::new(format!("this kernel, {major}.{minor}, is too old")).with_hint(format!(
            "weave needs Linux {old_major}.{old_minor} or newer"
        )),
    )
}

/// A range that the host reaches otherwise would be cut off, or cut us off.
/// Routes through bridges of our own are none.
async fn range_is_free(options: &Options) -> Result<()> {
    let netlink = Netlink::here()?;
    let links = netlink.links().await?;
    let ours: Vec<&str> = links
        .iter()
        .map(|link| link.name.as_str())
        .filter(|name| name.starts_with(linkname::DEFAULT_BRIDGE))
        .collect();
    let range = options.range;
    let conflict =
        preflight::route_conflict(&netlink, range.network(), range.prefix_len(), &ours).await?;
    let Some(conflict) = conflict else {
        return Ok(());
    };
    Err(Failure::new(format!(
        "the range {range} overlaps the route of this host to {}/{} by {}",
        conflict.network, conflict.prefix_len, conflict.link
    ))
    .with_hint("choose another range with --ipalloc-range, the same on every host")
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_is_refused() {
        let (major, minor) = preflight::OLDEST_KERNEL;
        assert!(check_kernel((major, minor)).is_ok());
        assert!(check_kernel((major + 1, 0)).is_ok());
        let error = check_kernel((3, 10)).unwrap_err();
        assert_eq!(error.to_string(), "this kernel, 3.10, is too old");
    }
}

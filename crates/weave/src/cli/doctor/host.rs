//! The host itself: kernel, firewall programs, routes, clock, disk.

use std::path::Path;
use std::time::{Duration, SystemTime};

use weave_sys::firewall::{self, Backends};
use weave_sys::{NetNs, Netlink, linkname, preflight};
use weave_wire::Cidr;

use crate::api::types::{Finding, StatusReport};
use crate::cli::config::DEFAULT_STATE_DIR;
use crate::cli::options;

/// No host was built with this program before, seconds since 1970: 1 January 2025.
const NOT_BEFORE: Duration = Duration::from_secs(1_735_689_600);

/// What is wrong with this host.
pub(super) async fn findings(report: Option<&StatusReport>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(kernel());
    findings.extend(backends());
    findings.extend(clock(SystemTime::now()));
    if let Some(range) = range(report) {
        findings.extend(routes(range).await);
    }
    findings
}

/// Whether what a router would have to write can be written; for where none runs that would say.
pub(super) fn state(directory: &Path) -> Option<Finding> {
    if !directory.exists() {
        return None;
    }
    let file = directory.join(format!(".doctor.{}", std::process::id()));
    let written = std::fs::write(&file, [0; 4_096]);
    // it is there only if it was written
    let _ = std::fs::remove_file(&file);
    let error = written.err()?;
    let message = format!("{} cannot be written: {error}", directory.display());
    Some(Finding::disk(message))
}

fn kernel() -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = preflight::check_tun() {
        let fix = error.hint().unwrap_or("modprobe tun");
        findings.push(Finding::error("kernel", error.to_string()).with_fix(fix));
    }
    if let Ok((major, minor)) = preflight::kernel_version()
        && (major, minor) < preflight::OLDEST_KERNEL
    {
        let (old_major, old_minor) = preflight::OLDEST_KERNEL;
        let message = format!("this kernel, {major}.{minor}, is too old");
        let fix = format!("weave needs Linux {old_major}.{old_minor} or newer");
        findings.push(Finding::error("kernel", message).with_fix(fix));
    }
    findings
}

fn backends() -> Option<Finding> {
    let netns = NetNs::current().ok()?;
    let (used, other) = match firewall::backends(&netns).ok()? {
        Backends::One => return None,
        Backends::Both { used, other } => (used, other),
    };
    let message = format!(
        "this host has firewall rules of two programs, which see nothing of each other: iptables is {used}, and `{other}` shows further ones"
    );
    Some(Finding::warning("firewall-backends", message).with_fix(
        "decide for one: `update-alternatives --config iptables`, reboot, and see that only one of `iptables-save` and that shows rules",
    ))
}

fn clock(now: SystemTime) -> Option<Finding> {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    if since >= NOT_BEFORE {
        return None;
    }
    let message = "the clock of this host is years behind; the mesh works all the same, but certificates and logs do not";
    Some(Finding::info("clock", message).with_fix("`timedatectl set-ntp true`"))
}

/// The range in force, else that of the last launch.
fn range(report: Option<&StatusReport>) -> Option<Cidr> {
    match report.and_then(|report| report.ipam.as_ref()) {
        Some(ipam) => ipam.range.parse().ok(),
        None => options::load(Path::new(DEFAULT_STATE_DIR)).map(|options| options.range),
    }
}

async fn routes(range: Cidr) -> Option<Finding> {
    let netlink = Netlink::here().ok()?;
    let links = netlink.links().await.ok()?;
    let ours: Vec<&str> = links
        .iter()
        .map(|link| link.name.as_str())
        .filter(|name| name.starts_with(linkname::DEFAULT_BRIDGE))
        .collect();
    let conflict = preflight::route_conflict(&netlink, range.network(), range.prefix_len(), &ours);
    let conflict = conflict.await.ok()??;
    let (network, len, link) = (conflict.network, conflict.prefix_len, &conflict.link);
    let what = match link.starts_with("br-") || link == "docker0" {
        true => format!("the Docker network on {link} has {network}/{len}"),
        false => format!("this host has a route to {network}/{len} by {link}"),
    };
    let message = format!(
        "{what}, which overlaps the range {range} of the mesh: what has one of those addresses on the other side is not reached"
    );
    Some(Finding::error("route-clash", message).with_fix(format!(
        "remove it (`ip route del {network}/{len} dev {link}`, or `docker network rm` and another --subnet), or launch every host with another --ipalloc-range"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_there_was_such_a_program_is_told() {
        assert!(clock(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).is_some());
        assert!(clock(SystemTime::UNIX_EPOCH - Duration::from_secs(1)).is_some());
        assert!(clock(SystemTime::UNIX_EPOCH + NOT_BEFORE).is_none());
    }

    #[test]
    fn a_directory_that_can_be_written_is_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(state(directory.path()), None);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        assert_eq!(state(&directory.path().join("none")), None);
    }
}

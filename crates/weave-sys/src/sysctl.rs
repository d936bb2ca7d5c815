//! Kernel settings under /proc/sys, per network namespace.
//!
//! Keys are given with slashes (`net/ipv4/conf/weave/rp_filter`), since interface names may hold
//! dots. A setting that this kernel does not have is no error: IPv6 may be compiled out.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::{Error, NetNs, Result};

/// Our own view first; the host's when ours is mounted read-only.
const ROOTS: [&str; 2] = ["/proc/sys", "/proc/1/root/proc/sys"];

/// The trimmed value of `key`; `None` where the kernel has no such setting.
///
/// # Errors
/// When it exists and cannot be read, or the namespace cannot be entered.
pub fn read(netns: &NetNs, key: &str) -> Result<Option<String>> {
    netns.run_in(|| match fs::read_to_string(file(ROOTS[0], key)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(Error::os("read kernel setting", key, source)),
    })?
}

/// Sets `key`, and says whether this kernel has it.
///
/// # Errors
/// When it exists and cannot be written, or the namespace cannot be entered.
pub fn write(netns: &NetNs, key: &str, value: &str) -> Result<bool> {
    Ok(write_all(netns, &[(key, value)])? == 1)
}

/// Sets several keys in one visit to the namespace; gives how many of them this kernel has.
///
/// # Errors
/// As [`write()`]; settings before the failing one stay set.
pub fn write_all<K, V>(netns: &NetNs, settings: &[(K, V)]) -> Result<usize>
where
    K: AsRef<str> + Sync,
    V: AsRef<str> + Sync,
{
    netns.run_in(|| {
        let mut present = 0;
        for (key, value) in settings {
            present += usize::from(write_here(key.as_ref(), value.as_ref())?);
        }
        Ok(present)
    })?
}

fn write_here(key: &str, value: &str) -> Result<bool> {
    let mut result = fs::write(file(ROOTS[0], key), value);
    if result
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
    {
        result = fs::write(file(ROOTS[1], key), value);
    }
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(source) => Err(Error::os("write kernel setting", key, source)),
    }
}

fn file(root: &str, key: &str) -> PathBuf {
    PathBuf::from(root).join(key)
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

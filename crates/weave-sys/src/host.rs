//! The host as seen from the router, which may run in a container with the host's pid namespace.
//!
//! Process 1 is the host's init: its root directory and mount namespace are the host's. Where we
//! run outside any container both are simply our own.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::netns::{self, NetNs};
use crate::{Error, Result};

/// Where programs of the host are looked for.
const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:\
                         /run/current-system/sw/bin";

/// The host's root directory, through its init.
const HOST_ROOT: &str = "/proc/1/root";

/// The host's mount namespace, likewise.
const HOST_MOUNTS: &str = "/proc/1/ns/mnt";

/// Whether our file system is not the host's: we run in a container, or in a service with a mount
/// namespace of its own.
///
/// Without the right to look at process 1 (CAP_SYS_PTRACE) there is no way to the host's files,
/// and our own are taken for them.
pub fn in_container() -> bool {
    let inode = |path: &str| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    match (inode(HOST_MOUNTS), inode("/proc/self/ns/mnt")) {
        (Ok(host), Ok(own)) => host != own,
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "cannot look at process 1; taking our files for the host's");
            false
        }
    }
}

/// The path under which a file of the host is found from here. Absolute symbolic links in it
/// would still lead to our own files: use [`open`] to follow them on the host.
pub fn path(host_path: impl AsRef<Path>) -> PathBuf {
    let host_path = host_path.as_ref();
    if !in_container() {
        return host_path.to_owned();
    }
    Path::new(HOST_ROOT).join(host_path.strip_prefix("/").unwrap_or(host_path))
}

/// Opens a file of the host for reading; symbolic links are followed as the host would.
///
/// # Errors
/// When it is not there or may not be read.
pub fn open(host_path: impl AsRef<Path>) -> Result<File> {
    let host_path = host_path.as_ref();
    let opened = if in_container() {
        open_below(Path::new(HOST_ROOT), host_path)
    } else {
        File::open(host_path)
    };
    opened.map_err(|source| Error::os("open", host_path.display().to_string(), source))
}

/// A text file of the host, for example `/etc/resolv.conf`.
///
/// # Errors
/// When it is not there, may not be read, or is not UTF-8.
pub fn read_to_string(host_path: impl AsRef<Path>) -> Result<String> {
    let host_path = host_path.as_ref();
    let mut text = String::new();
    open(host_path)?
        .read_to_string(&mut text)
        .map_err(|source| Error::os("read", host_path.display().to_string(), source))?;
    Ok(text)
}

/// The host's mount namespace; `None` where [`in_container`] says that it is our own.
///
/// # Errors
/// When it cannot be opened.
pub fn mount_namespace() -> Result<Option<OwnedFd>> {
    if !in_container() {
        return Ok(None);
    }
    let file = File::open(HOST_MOUNTS);
    let file = file.map_err(|source| Error::os("open mount namespace", HOST_MOUNTS, source))?;
    Ok(Some(file.into()))
}

/// A command that runs the host's own `program` on the host's files, and in `netns` where one is
/// given, else in our own network namespace.
///
/// # Errors
/// When the host's mount namespace cannot be opened.
pub fn command(program: impl AsRef<OsStr>, netns: Option<&NetNs>) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", HOST_PATH)
        .env("LC_ALL", "C")
        .current_dir("/");
    if let Some(netns) = netns {
        netns.apply_to(&mut command);
    }
    if let Some(mounts) = mount_namespace()? {
        let mounts = Arc::new(mounts);
        // SAFETY: the closure runs in the forked child, which has its own file-system state, and
        // makes one system call on a descriptor that it owns: no allocation, no lock.
        unsafe {
            command.pre_exec(move || netns::enter(mounts.as_fd(), libc::CLONE_NEWNS));
        }
    }
    Ok(command)
}

/// Opens `path` as a process whose root is `root` would: absolute links stay below it.
fn open_below(root: &Path, path: &Path) -> io::Result<File> {
    let root_dir = File::open(root)?;
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: open_how is plain old data for which all zeroes is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((libc::O_RDONLY | libc::O_CLOEXEC).cast_unsigned());
    how.resolve = libc::RESOLVE_IN_ROOT;
    // SAFETY: name and how live across the call, and the size given is that of how.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root_dir.as_raw_fd(),
            name.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    if fd >= 0 {
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel just gave us this descriptor, nobody else knows it.
        return Ok(unsafe { File::from_raw_fd(fd) });
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // A kernel before 5.6, or a seccomp profile that does not know the call.
        Some(libc::ENOSYS | libc::EPERM) => {
            File::open(root.join(path.strip_prefix("/").unwrap_or(path)))
        }
        Some(_) | None => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_links_stay_below_the_given_root() {
        let root = std::env::temp_dir().join(format!("weave-sys-root-{}", std::process::id()));
        std::fs::create_dir_all(root.join("run")).unwrap();
        std::fs::create_dir_all(root.join("var")).unwrap();
        std::fs::write(root.join("run/marker"), "inside").unwrap();
        std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
        let mut text = String::new();
        let opened = open_below(&root, Path::new("/var/run/marker"));
        std::fs::remove_dir_all(&root).unwrap();
        opened.unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
    }

    #[test]
    fn a_missing_host_file_is_named_in_the_error() {
        let error = read_to_string("/no/such/file").unwrap_err();
        assert!(error.to_string().contains("/no/such/file"), "{error}");
    }
}

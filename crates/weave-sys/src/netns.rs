//! Network namespaces: a handle that keeps one alive, and ways to do things inside.
//!
//! The thread that calls never changes its own namespace: work inside runs on a helper thread
//! that enters, works and ends. So no thread of a runtime can be left in the wrong namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::{Error, Result, host};

/// `_IO(0xb7, 0x3)`: which kind of namespace an nsfs descriptor is.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// A network namespace, held open: it lives at least as long as this handle or a clone of it.
#[derive(Debug, Clone)]
pub struct NetNs {
    fd: Arc<OwnedFd>,
    label: Arc<str>,
}

impl NetNs {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn current() -> Result<Self> {
        Self::open(
            "/proc/thread-self/ns/net".as_ref(),
            "the current network namespace",
        )
    }

    /// The namespace of a process, by its pid as we see it.
    ///
    /// # Errors
    /// When there is no such process, or it may not be looked at.
    pub fn of_pid(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        Self::open(
            path.as_ref(),
            &format!("the network namespace of process {pid}"),
        )
    }

    /// A namespace by path: `/run/netns/x`, `/proc/PID/ns/net`, or Docker's SandboxKey.
    ///
    /// The path is the host's, also when we run in a container.
    ///
    /// # Errors
    /// When the path is not there or is no network namespace.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.starts_with("/proc") {
            return Self::open(path, &path.display().to_string());
        }
        let file = host::open(path)?;
        Self::from_file(file, path, &path.display().to_string())
    }

    /// A fresh namespace without a name, its loopback down. It ends with the last handle (and the
    /// last socket and process in it).
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn unnamed() -> Result<Self> {
        on_helper_thread(|| {
            // SAFETY: unshare with this flag only changes the namespace of this helper thread,
            // which ends right after.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(Error::last_os("create", "a network namespace"));
            }
            Self::open(
                "/proc/thread-self/ns/net".as_ref(),
                "an unnamed network namespace",
            )
        })
    }

    /// Runs `work` inside the namespace, on a thread of its own, and waits for it.
    ///
    /// Sockets and descriptors opened there stay in that namespace. A panic in `work` is carried
    /// on in the caller.
    ///
    /// # Errors
    /// When the namespace cannot be entered (CAP_SYS_ADMIN); `work` then did not run.
    pub fn run_in<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_helper_thread(|| {
            enter(self.fd.as_fd(), libc::CLONE_NEWNET)
                .map_err(|source| Error::os("enter", &*self.label, source))?;
            Ok(work())
        })
    }

    /// Makes `command` run inside this namespace, once it is spawned.
    pub fn apply_to(&self, command: &mut Command) {
        let ns = Arc::clone(&self.fd);
        // SAFETY: the closure runs in the forked child and makes one system call on a descriptor
        // that it owns: no allocation, no lock.
        unsafe { command.pre_exec(move || enter(ns.as_fd(), libc::CLONE_NEWNET)) };
    }

    /// Whether both handles are the same namespace.
    pub fn is_same(&self, other: &Self) -> bool {
        match (inode(&self.fd), inode(&other.fd)) {
            (Ok(mine), Ok(theirs)) => mine == theirs,
            (Err(_), _) | (_, Err(_)) => false,
        }
    }

    fn open(path: &Path, label: &str) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::os("open", label, source))?;
        Self::from_file(file, path, label)
    }

    fn from_file(file: File, path: &Path, label: &str) -> Result<Self> {
        // SAFETY: the request takes no argument and only reads the descriptor's kind.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(Error::NotANetworkNamespace {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            fd: Arc::new(file.into()),
            label: label.into(),
        })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Moves the calling thread (or forked child) into a namespace.
pub(crate) fn enter(ns: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that the caller keeps open.
    match unsafe { libc::setns(ns.as_raw_fd(), kind) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Device and inode, which tell namespaces apart.
pub(crate) fn inode(fd: &impl AsFd) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = File::from(fd.as_fd().try_clone_to_owned()?).metadata()?;
    Ok((meta.dev(), meta.ino()))
}

fn on_helper_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let helper = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .map_err(|source| Error::os("start", "a helper thread", source))?;
        match helper.join() {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    })
}

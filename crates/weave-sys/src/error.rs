//! The error of this crate: what was tried, on what, why it failed and what to do about it.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call into the kernel, or to the host's `iptables` or `nft`, failed.
///
/// No variant says that state is half changed: composite operations undo what they made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {operation} {object}: {source}")]
    Os {
        /// What was tried, as a verb.
        operation: &'static str,
        /// What it was tried on.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("cannot {operation} {object}: {source}")]
    Netlink {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The link, address or route.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No link of that name in the namespace.
    #[error("no network interface {name:?}")]
    NoSuchLink {
        /// The name looked for.
        name: String,
    },
    /// A link of that name exists, and is not of the kind we make.
    #[error("network interface {name:?} exists and is a {found}, not a {wanted}")]
    WrongKind {
        /// The name in question.
        name: String,
        /// Kind that we would have made.
        wanted: &'static str,
        /// Kind that is there.
        found: String,
    },
    /// Another process holds the TAP device.
    #[error("TAP device {name:?} is in use by another process")]
    TapBusy {
        /// The TAP's name.
        name: String,
    },
    /// `/dev/net/tun` is not there.
    #[error("cannot open /dev/net/tun: {source}")]
    NoTunDevice {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The underlay port is taken.
    #[error("UDP port {port} is already in use")]
    PortTaken {
        /// The port asked for.
        port: u16,
    },
    /// An interface name that Linux would refuse.
    #[error("bad interface name {name:?}: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A path that is no network namespace.
    #[error("{path:?} is not a network namespace")]
    NotANetworkNamespace {
        /// The path given.
        path: PathBuf,
    },
    /// The host has no such program.
    #[error("the host has no {program}")]
    NoProgram {
        /// For example `iptables`.
        program: String,
    },
    /// A program of the host failed.
    #[error("{command} failed ({status}): {stderr}")]
    CommandFailed {
        /// The command line.
        command: String,
        /// Exit status in words.
        status: String,
        /// What it wrote on stderr.
        stderr: String,
    },
    /// A capability is missing.
    #[error("missing capability {capability}")]
    MissingCapability {
        /// For example `CAP_NET_ADMIN`.
        capability: &'static str,
    },
    /// Called outside a tokio runtime.
    #[error("netlink needs a tokio runtime: {0}")]
    NoRuntime(#[from] tokio::runtime::TryCurrentError),
}

impl Error {
    /// What the operator can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Os { source, .. } | Self::Netlink { source, .. } => errno_hint(source),
            Self::NoSuchLink { .. } => Some("is the router running? `weave launch` makes it again"),
            Self::WrongKind { .. } => Some("remove or rename that interface, then try again"),
            Self::TapBusy { .. } => Some("another router runs on this host: `weave stop` it first"),
            Self::NoTunDevice { .. } => Some("load the module on the host: `modprobe tun`"),
            Self::PortTaken { .. } => {
                Some("`ss -ulpn` names the process; stop it or choose another --port")
            }
            Self::BadName { .. } => Some("1 to 15 characters, without `/`, `:` or white space"),
            Self::NotANetworkNamespace { .. } => {
                Some("give a path as in /run/netns or /proc/PID/ns/net")
            }
            Self::NoProgram { program } if program == "nft" => Some(
                "install nftables on the host; in a container, pid=host and SYS_PTRACE are needed",
            ),
            Self::NoProgram { .. } => Some(
                "install iptables on the host; in a container, pid=host and SYS_PTRACE are needed",
            ),
            Self::CommandFailed { .. } => None,
            Self::MissingCapability { .. } => Some("run as root"),
            Self::NoRuntime(_) => None,
        }
    }

    /// The errno behind it, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Os { source, .. }
            | Self::Netlink { source, .. }
            | Self::NoTunDevice { source } => source.raw_os_error(),
            Self::NoSuchLink { .. } => Some(libc::ENODEV),
            Self::TapBusy { .. } => Some(libc::EBUSY),
            Self::PortTaken { .. } => Some(libc::EADDRINUSE),
            Self::WrongKind { .. }
            | Self::BadName { .. }
            | Self::NotANetworkNamespace { .. }
            | Self::NoProgram { .. }
            | Self::CommandFailed { .. }
            | Self::MissingCapability { .. }
            | Self::NoRuntime(_) => None,
        }
    }

    /// The thing is gone already: what a clean-up treats as success.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENXIO)
        )
    }

    pub(crate) fn os(
        operation: &'static str,
        object: impl Into<String>,
        source: io::Error,
    ) -> Self {
        Self::Os {
            operation,
            object: object.into(),
            source,
        }
    }

    /// The calling thread's errno.
    pub(crate) fn last_os(operation: &'static str, object: impl Into<String>) -> Self {
        Self::os(operation, object, io::Error::last_os_error())
    }
}

fn errno_hint(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error()? {
        libc::EPERM | libc::EACCES => Some(
            "run as root; in a container: NET_ADMIN, SYS_ADMIN, SYS_PTRACE and no AppArmor profile",
        ),
        libc::EROFS => Some("/proc/sys is read-only: start the container without ReadonlyPaths"),
        libc::EMFILE | libc::ENFILE => Some("raise the limit of open files (ulimit -n)"),
        libc::EOPNOTSUPP | libc::EPROTONOSUPPORT => {
            Some("this kernel lacks a needed module or is too old; Linux 4.18 or newer is needed")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_os_error_names_operation_object_and_reason() {
        let error = Error::os(
            "create bridge",
            "weave",
            io::Error::from_raw_os_error(libc::EPERM),
        );
        let text = error.to_string();
        assert!(text.starts_with("cannot create bridge weave: "), "{text}");
        assert!(error.hint().is_some_and(|hint| hint.contains("root")));
    }

    #[test]
    fn a_link_that_is_gone_counts_as_absent_and_a_refusal_does_not() {
        assert!(Error::NoSuchLink { name: "x".into() }.is_absent());
        assert!(!Error::PortTaken { port: 1 }.is_absent());
    }
}

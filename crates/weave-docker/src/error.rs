//! What can go wrong between us and Docker, and what the operator can do about it.
//!
//! Errors that a driver returns to dockerd are [`crate::DriverError`], not these.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use weave_wire::Cidr;

/// A failed conversation with Docker. None of these leaves state of ours changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing listens on Docker's socket.
    #[error("Docker does not answer on {}: {reason}", socket.display())]
    NotRunning {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the connection attempt said.
        reason: String,
    },
    /// Docker's socket exists but may not be opened.
    #[error("no permission to use Docker's socket {}", socket.display())]
    NotPermitted {
        /// The socket that was tried.
        socket: PathBuf,
    },
    /// Docker accepted the call and then stayed silent.
    #[error("{what}: Docker did not answer within {} s", limit.as_secs())]
    TimedOut {
        /// The call, as verb and object.
        what: String,
        /// How long it was given.
        limit: Duration,
    },
    /// The container, network or image does not exist.
    #[error("{what}: {message}")]
    NotFound {
        /// The call, as verb and object.
        what: String,
        /// Docker's own words.
        message: String,
    },
    /// Docker refused the call.
    #[error("{what}: {message}")]
    Refused {
        /// The call, as verb and object.
        what: String,
        /// HTTP status of the answer.
        status: u16,
        /// Docker's own words.
        message: String,
    },
    /// The connection broke, or the answer made no sense.
    #[error("{what}: {message}")]
    Broken {
        /// The call, as verb and object.
        what: String,
        /// What broke.
        message: String,
    },
    /// A container named like the router exists that is not the router.
    #[error("a container named {name:?} exists that weave did not make")]
    NameTaken {
        /// The name both want.
        name: String,
    },
    /// A network named like ours exists with another driver.
    #[error("a Docker network named {name:?} exists with driver {driver:?}")]
    ForeignNetwork {
        /// The name both want.
        name: String,
        /// The driver it has.
        driver: String,
    },
    /// A network named like ours exists with another subnet.
    #[error("the Docker network {name:?} exists with subnet {has}, not {wanted}")]
    OtherSubnet {
        /// The name of the network.
        name: String,
        /// The subnets it has.
        has: String,
        /// The subnet it should have.
        wanted: Cidr,
    },
    /// The program needs a dynamic loader, which an image of it alone does not have.
    #[error("this weave binary is dynamically linked (it wants {interpreter})")]
    NotStatic {
        /// The loader named in the ELF file.
        interpreter: String,
    },
    /// The program is no ELF file that could be understood.
    #[error("the weave binary is not a readable ELF file: {reason}")]
    NotElf {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another process answers on the plugin socket.
    #[error("{} is served by another process", path.display())]
    SocketBusy {
        /// The plugin socket.
        path: PathBuf,
    },
    /// Something that is not a socket stands where the plugin socket belongs.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The plugin socket's path.
        path: PathBuf,
    },
    /// A file or socket could not be made, read or removed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// Verb of what was tried.
        what: &'static str,
        /// The path it was tried on.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// What the operator can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRunning { .. } => Some(
                "is Docker running? try `systemctl start docker`, or run without it: `weave router --no-docker`",
            ),
            Self::NotPermitted { .. } => Some("run weave as root (sudo)"),
            Self::TimedOut { .. } => Some("is dockerd stuck? see `journalctl -u docker`"),
            Self::NameTaken { .. } => Some("remove or rename that container, then try again"),
            Self::ForeignNetwork { .. } | Self::OtherSubnet { .. } => {
                Some("remove that network with `docker network rm`, then launch again")
            }
            Self::NotStatic { .. } | Self::NotElf { .. } => {
                Some("build the static binary with `cargo build --release` and use that one")
            }
            Self::SocketBusy { .. } => Some("another router is running; stop it with `weave stop`"),
            Self::NotASocket { .. } => Some("remove that file, then try again"),
            Self::NotFound { .. }
            | Self::Refused { .. }
            | Self::Broken { .. }
            | Self::Io { .. } => None,
        }
    }

    /// Whether the thing asked for does not exist.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether Docker is not there at all, as opposed to refusing something.
    pub const fn is_not_running(&self) -> bool {
        matches!(self, Self::NotRunning { .. })
    }
}

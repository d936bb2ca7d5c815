//! Everything that talks to Docker: the network and IPAM plugin that dockerd calls, and a client
//! of Docker's own API.
//!
//! Owns the shapes of both protocols and turns them into plain typed values. It knows nothing of
//! meshes, bridges or address allocation: whoever implements [`plugin::Driver`] does.
//!
//! Invariant: nothing in [`plugin`] ever calls Docker's API. dockerd holds locks while it waits
//! for a plugin, so a call back would deadlock.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

pub mod client;
pub mod container;
pub mod error;
mod given_up;
pub mod image;
pub mod network;
pub mod plugin;
pub mod resolv;
pub mod router_container;
pub mod watcher;

pub use client::DockerClient;
pub use container::{ContainerInfo, ContainerNames, ContainerNetwork, names_of};
pub use error::Error;
pub use network::{AttachedContainer, NetworkInfo, NetworkSpec};
pub use plugin::{Driver, DriverError, PluginSocket};
pub use resolv::{dockerd_upstreams, host_resolv_conf_path};
pub use router_container::{RouterSpec, RouterState};
pub use watcher::{Change, WatcherConfig, watch_docker};

/// Name of the network and IPAM driver, and of its socket under [`PLUGIN_DIR`].
pub const DRIVER_NAME: &str = "weavemesh";

/// Where dockerd looks for plugin sockets.
pub const PLUGIN_DIR: &str = "/run/docker/plugins";

/// The driver's socket.
pub fn plugin_socket() -> PathBuf {
    Path::new(PLUGIN_DIR).join(format!("{DRIVER_NAME}.sock"))
}

/// Domain of container names unless the user chose another.
pub const DEFAULT_DOMAIN: &str = "weave.local";

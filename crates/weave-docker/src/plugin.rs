//! The plugin that dockerd calls: network and IPAM driver over one unix socket.
//!
//! Owns the socket, HTTP, and the JSON of every endpoint; hands typed requests to a [`Driver`].
//! It keeps no state and never calls Docker's API.
//!
//! Invariants: every request is answered with well-formed JSON, whatever its bytes were; a driver
//! call that has begun runs to its end even when dockerd hangs up; the socket file is removed when
//! the [`PluginSocket`] is dropped.

mod dispatch;
mod driver;
mod ipam;
mod json;
mod network;
mod server;
mod socket;

pub use dispatch::{CONTENT_TYPE, Reply, dispatch};
pub use driver::{Driver, DriverError};
pub use ipam::{Pool, ReleaseAddress, RequestAddress, RequestPool};
pub use network::{
    AllocateNetwork, CreateEndpoint, CreateNetwork, Discovery, EndpointInterface, EndpointOptions,
    EndpointRef, ExternalConnectivity, Join, Joined, NetworkPool, Port, PortBinding, Route,
    RouteKind,
};
pub use server::serve;
pub use socket::{PluginSocket, remove_stale};

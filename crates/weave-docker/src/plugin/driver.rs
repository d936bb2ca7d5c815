//! The contract between dockerd's requests and whoever fulfils them.

use std::collections::BTreeMap;
use std::future::Future;

use weave_wire::{InterfaceAddr, Mac};

use super::ipam::{Pool, ReleaseAddress, RequestAddress, RequestPool};
use super::network::{
    AllocateNetwork, CreateEndpoint, CreateNetwork, Discovery, EndpointRef, ExternalConnectivity,
    Join, Joined,
};

/// A refusal, in words that `docker` prints to its user.
///
/// Say what is wrong and what to do about it: nothing else reaches the person at the keyboard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DriverError(String);

impl DriverError {
    /// Makes a refusal from its message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The network and IPAM driver behind the plugin socket.
///
/// Calls may run concurrently. They must not wait on anything that waits on Docker. dockerd gives
/// up on a call after about 30 s and repeats calls whose connection broke, so each should be
/// answered within a few seconds and bear being repeated.
pub trait Driver: Send + Sync + 'static {
    /// Reserves or finds the pool for a subnet.
    fn request_pool(
        &self,
        request: RequestPool,
    ) -> impl Future<Output = Result<Pool, DriverError>> + Send;

    /// Gives a pool back; its network is being removed or was never made.
    fn release_pool(&self, pool_id: String)
    -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Allocates an address, or names the gateway's.
    fn request_address(
        &self,
        request: RequestAddress,
    ) -> impl Future<Output = Result<InterfaceAddr, DriverError>> + Send;

    /// Frees an address.
    fn release_address(
        &self,
        request: ReleaseAddress,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Prepares a network on this host.
    fn create_network(
        &self,
        request: CreateNetwork,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Removes a network from this host. Its pool has been released already.
    fn delete_network(
        &self,
        network_id: String,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Announces an endpoint, before its container runs. Answers the MAC it chose, or `None` when
    /// the request gave one: dockerd refuses an answer to what it did not ask.
    ///
    /// The network may be unknown to a driver that restarted without its state.
    fn create_endpoint(
        &self,
        request: CreateEndpoint,
    ) -> impl Future<Output = Result<Option<Mac>, DriverError>> + Send;

    /// Forgets an endpoint.
    fn delete_endpoint(
        &self,
        endpoint: EndpointRef,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Makes the interface in the host's namespace that dockerd then moves into the sandbox.
    fn join(&self, request: Join) -> impl Future<Output = Result<Joined, DriverError>> + Send;

    /// Undoes a join; the sandbox is going away.
    fn leave(&self, endpoint: EndpointRef) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Facts about a running endpoint, shown to nobody so far.
    fn endpoint_info(
        &self,
        _endpoint: EndpointRef,
    ) -> impl Future<Output = Result<BTreeMap<String, String>, DriverError>> + Send {
        async { Ok(BTreeMap::new()) }
    }

    /// Publishes ports. Sent only to drivers whose join names a gateway.
    fn program_external_connectivity(
        &self,
        _request: ExternalConnectivity,
    ) -> impl Future<Output = Result<(), DriverError>> + Send {
        async { Ok(()) }
    }

    /// Withdraws published ports.
    fn revoke_external_connectivity(
        &self,
        _endpoint: EndpointRef,
    ) -> impl Future<Output = Result<(), DriverError>> + Send {
        async { Ok(()) }
    }

    /// A swarm manager plans a network; answers the options to hand to every node.
    fn allocate_network(
        &self,
        request: AllocateNetwork,
    ) -> impl Future<Output = Result<BTreeMap<String, String>, DriverError>> + Send {
        async { Ok(request.options) }
    }

    /// A swarm manager dropped a planned network.
    fn free_network(
        &self,
        _network_id: String,
    ) -> impl Future<Output = Result<(), DriverError>> + Send {
        async { Ok(()) }
    }

    /// Swarm's node discovery found something.
    fn discover_new(
        &self,
        _notice: Discovery,
    ) -> impl Future<Output = Result<(), DriverError>> + Send {
        async { Ok(()) }
    }

    /// Swarm's node discovery lost something.
    fn discover_delete(
        &self,
        _notice: Discovery,
    ) -> impl Future<Output = Result<(), DriverError>> + Send {
        async { Ok(()) }
    }
}

impl From<&str> for DriverError {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}

impl From<String> for DriverError {
    fn from(message: String) -> Self {
        Self(message)
    }
}

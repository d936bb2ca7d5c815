//! A driver for the end: agrees to every removal, makes nothing.
//!
//! It answers dockerd in the router's place while networks are removed.

use std::sync::Arc;

use tokio::sync::oneshot;
use weave_docker::plugin::{
    CreateEndpoint, CreateNetwork, EndpointRef, Join, Joined, Pool, ReleaseAddress, RequestAddress,
    RequestPool,
};
use weave_docker::{Driver, DriverError, PluginSocket};
use weave_wire::{InterfaceAddr, Mac};

use super::super::output;

/// The stand-in while it answers.
#[derive(Debug)]
pub(super) struct Farewell {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Farewell {
    /// Begins to answer; nothing if the socket cannot be had.
    pub(super) fn start() -> Option<Self> {
        let socket = match PluginSocket::bind(weave_docker::plugin_socket()) {
            Ok(socket) => socket,
            Err(error) => {
                output::err(&format!("warning: {error}"));
                return None;
            }
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async {
                // Also when the sender is gone.
                let _ = stopped.await;
            };
            if let Err(error) = weave_docker::plugin::serve(socket, Arc::new(Agree), shutdown).await
            {
                output::err(&format!("warning: {error}"));
            }
        });
        Some(Self { stop, task })
    }

    /// Ends it and removes its socket.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Agrees to removals.
struct Agree;

fn refuse<T>() -> Result<T, DriverError> {
    Err(DriverError::new("weave is being removed from this host"))
}

impl Driver for Agree {
    async fn request_pool(&self, _: RequestPool) -> Result<Pool, DriverError> {
        refuse()
    }

    async fn release_pool(&self, _: String) -> Result<(), DriverError> {
        Ok(())
    }

    async fn request_address(&self, _: RequestAddress) -> Result<InterfaceAddr, DriverError> {
        refuse()
    }

    async fn release_address(&self, _: ReleaseAddress) -> Result<(), DriverError> {
        Ok(())
    }

    async fn create_network(&self, _: CreateNetwork) -> Result<(), DriverError> {
        refuse()
    }

    async fn delete_network(&self, _: String) -> Result<(), DriverError> {
        Ok(())
    }

    async fn create_endpoint(&self, _: CreateEndpoint) -> Result<Option<Mac>, DriverError> {
        refuse()
    }

    async fn delete_endpoint(&self, _: EndpointRef) -> Result<(), DriverError> {
        Ok(())
    }

    async fn join(&self, _: Join) -> Result<Joined, DriverError> {
        refuse()
    }

    async fn leave(&self, _: EndpointRef) -> Result<(), DriverError> {
        Ok(())
    }
}

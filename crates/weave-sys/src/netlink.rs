//! Links, addresses, routes and neighbours of one network namespace, over rtnetlink.
//!
//! A [`Netlink`] stays with the namespace it was opened in, whichever thread uses it. It knows
//! nothing of weave's networks: [`bridge`](crate::bridge) and [`veth`](crate::veth) do.

mod address;
mod link;
mod neighbour;
mod route;

use std::io;

use rtnetlink::Handle;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

pub use address::AddressInfo;
pub use link::{LinkInfo, LinkTraffic, PortFlags, VethPeer};
pub use route::{Route, RouteInfo};

use crate::{Error, NetNs, Result};

/// A netlink socket in one namespace. Its task ends when this is dropped.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    netns: NetNs,
    task: AbortHandle,
    /// The kernel lists one thing at a time on one socket, and refuses others meanwhile (EBUSY).
    listing: Mutex<()>,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::NoRuntime`] outside tokio, otherwise the kernel's refusal.
    pub fn here() -> Result<Self> {
        Self::open(&NetNs::current()?)
    }

    /// Opens a socket in `netns`.
    ///
    /// # Errors
    /// As [`here`](Self::here), and when the namespace cannot be entered.
    pub fn open(netns: &NetNs) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()?;
        let opened = netns.run_in(|| {
            let _guard = runtime.enter();
            rtnetlink::new_connection()
        })?;
        let (connection, handle, _) =
            opened.map_err(|source| Error::os("open", "a netlink socket", source))?;
        let task = runtime.spawn(connection).abort_handle();
        Ok(Self {
            handle,
            netns: netns.clone(),
            task,
            listing: Mutex::new(()),
        })
    }

    /// The namespace that this socket is in.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Gives a netlink failure its operation and object.
fn failed(
    operation: &'static str,
    object: impl Into<String>,
) -> impl FnOnce(rtnetlink::Error) -> Error {
    let object = object.into();
    move |error| Error::Netlink {
        operation,
        object,
        source: to_io(error),
    }
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = error {
        return message.to_io();
    }
    io::Error::other(error.to_string())
}

/// Turns one given errno into success: the state asked for is there already.
fn unless(errno: i32, result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.errno() == Some(errno) => Ok(()),
        other => other,
    }
}

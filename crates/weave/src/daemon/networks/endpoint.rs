//! Endpoints: made, joined to a namespace, announced, and taken away again.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use weave_node::EndpointSpec;
use weave_node::ipam::NUMBER_OF_IPV6;
use weave_sys::dnsns::DNS_ADDRESS;
use weave_sys::netlink::Route;
use weave_sys::veth::{self, EndpointVeth};
use weave_sys::{NetNs, Netlink, firewall, linkname};
use weave_wire::number_of;

use super::{Address, EndpointRecord, Kind, NetworkError, Networks, plumbing};

/// dockerd makes the sandbox within this long after the join, or the container does not start.
const SANDBOX_WITHIN: Duration = Duration::from_secs(20);
/// Shorter than what dockerd still does between the sandbox and the container's process.
const SANDBOX_POLL: Duration = Duration::from_millis(2);

impl Networks {
    /// Stores and announces an endpoint.
    ///
    /// # Errors
    /// With the reason; nothing is left behind.
    pub(crate) async fn add_endpoint(&self, record: EndpointRecord) -> Result<(), NetworkError> {
        self.save(vec![record.write()]).await?;
        self.announce(&record).await?;
        self.state
            .lock()
            .await
            .endpoints
            .insert(record.id.clone(), record);
        Ok(())
    }

    /// Replaces what is stored and announced of an endpoint.
    ///
    /// # Errors
    /// With the reason.
    pub(crate) async fn update_endpoint(
        &self,
        id: &str,
        change: impl FnOnce(&mut EndpointRecord),
    ) -> Result<EndpointRecord, NetworkError> {
        let record = {
            let mut state = self.state.lock().await;
            let record = state
                .endpoints
                .get_mut(id)
                .ok_or_else(|| unknown_endpoint(id))?;
            change(record);
            record.clone()
        };
        self.save(vec![record.write()]).await?;
        self.announce(&record).await?;
        self.protect_again(&record).await;
        Ok(record)
    }

    /// Notes which container an endpoint is of, for `ps`.
    pub(crate) async fn note_container(&self, id: &str, container: &str) {
        if let Some(record) = self.state.lock().await.endpoints.get_mut(id) {
            container.clone_into(&mut record.container);
        }
    }

    /// An endpoint.
    ///
    /// # Errors
    /// When there is none with this id.
    pub(crate) async fn endpoint(&self, id: &str) -> Result<EndpointRecord, NetworkError> {
        self.state
            .lock()
            .await
            .endpoints
            .get(id)
            .cloned()
            .ok_or_else(|| unknown_endpoint(id))
    }

    /// Makes the veth of an endpoint on its bridge; gives the name of the end for the container.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) async fn plug(&self, record: &EndpointRecord) -> Result<String, NetworkError> {
        let bridge = {
            let state = self.state.lock().await;
            let bridge = state.bridges.get(&record.segment());
            bridge.map(|bridge| bridge.name.clone()).ok_or_else(|| {
                NetworkError::Refused("the bridge of this network is missing".to_owned())
            })?
        };
        let names = linkname::veth_pair(&record.id);
        self.netlink.delete_link(&names.0).await?;
        self.protect(record).await;
        let veth = veth_of(record, &names, &bridge);
        veth::create_endpoint_veth(&self.netlink, veth).await?;
        Ok(names.1)
    }

    /// Takes the veth of an endpoint away, wherever its other end is.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) async fn unplug(&self, id: &str) -> Result<(), NetworkError> {
        let (host, _) = linkname::veth_pair(id);
        self.netlink.delete_link(&host).await?;
        self.unprotect(id).await;
        Ok(())
    }

    /// Forgets an endpoint. Unknown ones are no error.
    ///
    /// # Errors
    /// When it cannot be stored or the kernel refuses.
    pub(crate) async fn remove_endpoint(&self, id: &str) -> Result<(), NetworkError> {
        let Some(record) = self.state.lock().await.endpoints.remove(id) else {
            return Ok(());
        };
        self.unplug(id).await?;
        let id = record.id.clone();
        self.parts
            .control
            .call(move |node, now| node.withdraw_endpoint(&id, now))
            .await?;
        // last: it is gone also when the disk does not take it
        self.save(vec![record.removal()]).await
    }

    /// Whether another endpoint is joined to the same sandbox.
    pub(crate) async fn shares_sandbox(&self, id: &str, sandbox: &Path) -> Option<EndpointRecord> {
        let state = self.state.lock().await;
        let mut others = state.endpoints.values().filter(|other| other.id != id);
        others
            .find(|other| other.sandbox() == Some(sandbox))
            .cloned()
    }

    /// Has queries to these resolvers answered by us, inside a sandbox.
    ///
    /// # Errors
    /// What iptables said.
    pub(crate) async fn redirect_dns(
        &self,
        sandbox: &Path,
        upstreams: Vec<Ipv4Addr>,
    ) -> Result<(), NetworkError> {
        let netns = NetNs::of_path(sandbox)?;
        plumbing::blocking(move || firewall::redirect_dns(&netns, &upstreams, DNS_ADDRESS)).await?;
        Ok(())
    }

    /// As [`Self::redirect_dns`], as soon as dockerd has made the sandbox: it does so after the
    /// join, and before the container's process starts, which is a race that time decides.
    pub(crate) async fn redirect_dns_soon(&self, sandbox: &Path, upstreams: Vec<Ipv4Addr>) {
        let redirect = match NetNs::of_path(sandbox) {
            Ok(_) => firewall::redirect_dns,
            Err(_) => firewall::first_redirect_dns,
        };
        let deadline = tokio::time::Instant::now() + SANDBOX_WITHIN;
        loop {
            // the file is there a moment before the namespace is mounted on it
            let redirected = match NetNs::of_path(sandbox) {
                Ok(netns) => {
                    let upstreams = upstreams.clone();
                    plumbing::blocking(move || redirect(&netns, &upstreams, DNS_ADDRESS)).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = redirected else {
                return;
            };
            if tokio::time::Instant::now() >= deadline {
                tracing::warn!(sandbox = %sandbox.display(), %error, "no DNS redirect");
                return;
            }
            tokio::time::sleep(SANDBOX_POLL).await;
        }
    }

    /// Has a container ask its own resolvers again. A sandbox that is gone is no error.
    ///
    /// # Errors
    /// What iptables said.
    pub(crate) async fn stop_redirecting_dns(&self, sandbox: &Path) -> Result<(), NetworkError> {
        let Ok(netns) = NetNs::of_path(sandbox) else {
            return Ok(());
        };
        plumbing::blocking(move || firewall::remove_dns_redirect(&netns)).await?;
        Ok(())
    }

    /// The way to the DNS server and to multicast groups, by the interface of this endpoint.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) async fn route_through(
        &self,
        sandbox: &Path,
        record: &EndpointRecord,
    ) -> Result<(), NetworkError> {
        let inside = Netlink::open(&NetNs::of_path(sandbox)?)?;
        let links = inside.links().await?;
        let Some(link) = links
            .into_iter()
            .find(|link| link.mac == Some(record.mac.0))
        else {
            return Ok(());
        };
        for route in [
            Route::on_link(IpAddr::V4(DNS_ADDRESS), 32),
            Route::multicast_v4(),
        ] {
            inside.replace_route(&link.name, route).await?;
        }
        Ok(())
    }

    /// Brings an endpoint back after a restart of the router. Its veth is still there; an attached
    /// namespace that is gone is forgotten.
    pub(super) async fn restore_endpoint(&self, record: EndpointRecord) {
        let (host, _) = linkname::veth_pair(&record.id);
        let attached = matches!(record.kind, Kind::Attached { .. });
        let present = matches!(self.netlink.find_link(&host).await, Ok(Some(_)));
        if attached && !present {
            tracing::info!(id = record.id, "the attached namespace is gone");
            self.release(record.allocated());
            self.unprotect(&record.id).await;
            if let Err(error) = self.save(vec![record.removal()]).await {
                tracing::warn!(%error, "cannot forget an endpoint");
            }
            return;
        }
        self.claim(&record);
        // one that was forgotten is not guarded yet
        if present {
            self.protect(&record).await;
        }
        if present && let Err(error) = self.replug(&record).await {
            tracing::warn!(id = record.id, %error, "cannot put an endpoint back on its bridge");
        }
        // a dead one keeps its addresses until dockerd gives them back, and has no more frames
        if !self.is_dead(&record).await
            && let Err(error) = self.announce(&record).await
        {
            tracing::warn!(id = record.id, %error, "endpoint not brought back");
            return;
        }
        self.state
            .lock()
            .await
            .endpoints
            .insert(record.id.clone(), record);
    }

    async fn replug(&self, record: &EndpointRecord) -> Result<(), NetworkError> {
        let state = self.state.lock().await;
        match state.bridges.get(&record.segment()) {
            Some(bridge) => self.plug_port(record, &bridge.name).await,
            None => Ok(()),
        }
    }

    /// Puts the host end of an endpoint on its bridge, as it was when it was made.
    pub(super) async fn plug_port(
        &self,
        record: &EndpointRecord,
        bridge: &str,
    ) -> Result<(), NetworkError> {
        let names = linkname::veth_pair(&record.id);
        veth::plug(&self.netlink, &veth_of(record, &names, bridge)).await?;
        Ok(())
    }

    /// Says that the addresses of an endpoint are in use: the disk may have forgotten them.
    fn claim(&self, record: &EndpointRecord) {
        let owner = match &record.kind {
            Kind::Docker { .. } => "a container".to_owned(),
            Kind::Attached {
                netns,
                container_name,
                ..
            } => container_name
                .clone()
                .unwrap_or_else(|| netns.to_string_lossy().into_owned()),
            Kind::Exposed { .. } => super::EXPOSED.to_owned(),
        };
        for held in &record.addresses {
            // dockerd asks for the address first, and makes the endpoint with it then
            let is_ours = held.allocated || matches!(record.kind, Kind::Docker { .. });
            if !is_ours {
                continue;
            }
            let (owner, subnet) = match held.address.ip() {
                IpAddr::V4(_) => (owner.clone(), held.address.network()),
                IpAddr::V6(_) => (NUMBER_OF_IPV6.to_owned(), self.range()),
            };
            let number = number_of(held.address.ip());
            self.parts
                .control
                .post(move |node, now| node.claim(&owner, subnet, number, now));
        }
    }

    /// Gives allocated addresses back.
    pub(crate) fn release(&self, addresses: impl Iterator<Item = (weave_wire::Cidr, Ipv4Addr)>) {
        for (subnet, ip) in addresses {
            self.parts
                .control
                .post(move |node, now| node.release(subnet, ip, now));
        }
    }

    async fn announce(&self, record: &EndpointRecord) -> Result<(), NetworkError> {
        let spec = EndpointSpec {
            id: record.id.clone(),
            segment: record.segment(),
            mac: record.mac,
            ips: record
                .addresses
                .iter()
                .map(|address: &Address| address.address.ip())
                .collect(),
            container: record.container.clone(),
        };
        self.parts
            .control
            .call(move |node, now| node.announce_endpoint(spec, now))
            .await?
            .map_err(|error| NetworkError::Refused(error.to_string()))
    }
}

/// The veth of an endpoint, whose ends have these names.
fn veth_of<'a>(
    record: &EndpointRecord,
    (host, guest): &'a (String, String),
    bridge: &'a str,
) -> EndpointVeth<'a> {
    EndpointVeth {
        host,
        guest,
        bridge,
        mtu: plumbing::mtu(),
        mac: record.mac.0,
    }
}

fn unknown_endpoint(id: &str) -> NetworkError {
    NetworkError::Refused(format!(
        "endpoint {} is not known to this router",
        super::short(id)
    ))
}

//! `weave dns-add` and `dns-remove`: names that operators give, beside those that containers
//! have by themselves.
//!
//! Owns these names and what of them is on disk. A name given to a container goes with it; one
//! that belongs to no container stays until it is removed. All come back when the router starts:
//! those of containers once Docker has been asked whether they still run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;
use weave_docker::{ContainerInfo, DockerClient};

use super::attach::{find_container, not_running};
use super::networks::Networks;
use super::store::Contents;
use crate::api::types::NameRequest;
use crate::api::{ApiError, ApiErrorKind};

/// Keys of stored names: this, and whom they belong to.
const PREFIX: &str = "dns/";
/// Whom names belong to that are no container's, as in Weave Net.
const EXTERN: &str = "weave:extern";
/// Names that one container may be given.
const MAX_NAMES: usize = 1024;

/// A name and one of its addresses.
type Named = (String, IpAddr);

/// The names that operators gave on this host, by whom they belong to.
#[derive(Debug)]
pub(crate) struct AddedNames {
    networks: Arc<Networks>,
    /// Docker's socket; none: there are no containers by name.
    docker: Option<PathBuf>,
    /// Domain that names lie in; none: there are no names.
    domain: Option<String>,
    added: Mutex<BTreeMap<String, BTreeSet<Named>>>,
    /// Containers on disk that Docker has yet to be asked for.
    in_doubt: Mutex<BTreeSet<String>>,
}

impl AddedNames {
    /// Takes up those on disk, and announces those of no container.
    pub(crate) fn restore(
        networks: Arc<Networks>,
        docker: Option<PathBuf>,
        domain: Option<String>,
        contents: &Contents,
    ) -> Self {
        let mut added = BTreeMap::new();
        for (key, value) in contents {
            let owner = std::str::from_utf8(key).ok();
            let Some(owner) = owner.and_then(|key| key.strip_prefix(PREFIX)) else {
                continue;
            };
            match serde_json::from_slice::<BTreeSet<Named>>(value) {
                Ok(names) => {
                    added.insert(owner.to_owned(), names);
                }
                Err(error) => tracing::warn!(owner, %error, "names on disk cannot be read"),
            }
        }
        let mut this = Self {
            networks,
            docker,
            domain,
            added: Mutex::default(),
            in_doubt: Mutex::default(),
        };
        for (owner, names) in &added {
            // a container may have ended while nobody looked
            if owner == EXTERN || this.docker.is_none() {
                this.announce(owner, names);
            } else {
                this.in_doubt.get_mut().insert(owner.clone());
            }
        }
        *this.added.get_mut() = added;
        this
    }

    /// Gives a container, or no container, names for addresses.
    ///
    /// # Errors
    /// With the reason; nothing has changed then.
    pub(crate) async fn add(&self, request: &NameRequest) -> Result<(), ApiError> {
        let mut names = all_checked(&request.names, self.domain.as_deref())?;
        let container = self.container(request.container.as_deref()).await?;
        let mut addresses = request.addresses.clone();
        if let Some(container) = &container {
            if !container.running {
                return Err(not_running(&container.name));
            }
            if names.is_empty() {
                let domain = self.domain()?;
                names.push(checked(
                    &format!("{}.{domain}", container.name),
                    Some(domain),
                )?);
            }
            if addresses.is_empty() {
                addresses = self.addresses_of(container).await?;
            }
        }
        let owner = owner_of(container.as_ref());
        let mut added = self.added.lock().await;
        let mut wanted = added.get(&owner).cloned().unwrap_or_default();
        let pairs = names.iter();
        wanted.extend(pairs.flat_map(|name| addresses.iter().map(|ip| (name.clone(), *ip))));
        if wanted.len() > MAX_NAMES {
            return Err(ApiError::new(
                ApiErrorKind::Conflict,
                format!("{owner} has {MAX_NAMES} names that were added"),
            )
            .with_hint("`weave dns-remove` takes some away"));
        }
        self.keep(&mut added, owner, wanted).await
    }

    /// Takes names away that were added: those of this container, or of none, that have one of
    /// the addresses and one of the names, where such are given.
    ///
    /// # Errors
    /// With the reason, also when there is no such name.
    pub(crate) async fn remove(&self, request: &NameRequest) -> Result<(), ApiError> {
        // also one that was given while the domain was another
        let names: Vec<&str> = request.names.iter().map(|name| without_dot(name)).collect();
        let container = self.container(request.container.as_deref()).await?;
        let owner = owner_of(container.as_ref());
        let mut added = self.added.lock().await;
        let before = added.get(&owner).cloned().unwrap_or_default();
        let is_meant = |(name, ip): &Named| {
            let named = names.iter().any(|meant| meant.eq_ignore_ascii_case(name));
            (names.is_empty() || named)
                && (request.addresses.is_empty() || request.addresses.contains(ip))
        };
        let left: BTreeSet<_> = before.iter().filter(|it| !is_meant(it)).cloned().collect();
        if left == before {
            all_checked(&request.names, self.domain.as_deref())?;
            return Err(ApiError::new(
                ApiErrorKind::NotFound,
                "no such name was added on this host",
            )
            .with_hint(
                "`weave status dns` lists all; names that containers have by themselves go \
                         with them, those of other hosts are removed there",
            ));
        }
        self.keep(&mut added, owner, left).await
    }

    /// A container has ended, and its names with it.
    pub(crate) async fn forget(&self, container: &str) {
        let mut added = self.added.lock().await;
        if added.contains_key(container)
            && let Err(error) = self
                .keep(&mut added, container.to_owned(), BTreeSet::new())
                .await
        {
            tracing::warn!(container, %error, "cannot forget the names of a container");
        }
    }

    /// Forgets the names of containers that have ended while nobody looked.
    pub(crate) async fn sweep(&self) {
        let owners: Vec<String> = self.added.lock().await.keys().cloned().collect();
        let Some(socket) = self.docker.as_deref().filter(|_| !owners.is_empty()) else {
            return;
        };
        let Ok(docker) = DockerClient::connect(socket).await else {
            return;
        };
        for owner in owners.iter().filter(|owner| *owner != EXTERN) {
            match docker.container(owner).await {
                Ok(container) if container.running => self.confirm(owner).await,
                Ok(_) => self.forget(owner).await,
                Err(error) if error.is_not_found() => self.forget(owner).await,
                Err(error) => tracing::debug!(owner, %error, "cannot look at a container"),
            }
        }
    }

    /// A container of those on disk still runs.
    async fn confirm(&self, owner: &str) {
        let added = self.added.lock().await;
        if self.in_doubt.lock().await.remove(owner)
            && let Some(names) = added.get(owner)
        {
            self.announce(owner, names);
        }
    }

    /// Makes these the names of `owner`: on disk first, then for all to see.
    async fn keep(
        &self,
        added: &mut BTreeMap<String, BTreeSet<Named>>,
        owner: String,
        names: BTreeSet<Named>,
    ) -> Result<(), ApiError> {
        let key = format!("{PREFIX}{owner}").into_bytes();
        let value = serde_json::to_vec(&names).ok();
        let write = (key, value.filter(|_| !names.is_empty()));
        let stored = self.networks.store().write(vec![write]).await;
        stored.map_err(|why| ApiError::new(ApiErrorKind::Unavailable, why))?;
        self.announce(&owner, &names);
        if names.is_empty() {
            added.remove(&owner);
        } else {
            added.insert(owner, names);
        }
        Ok(())
    }

    fn announce(&self, owner: &str, names: &BTreeSet<Named>) {
        let filed = match owner {
            EXTERN => EXTERN.to_owned(),
            // apart from those that it has by itself
            container => format!("{container}+added"),
        };
        let names: Vec<Named> = match self.domain {
            Some(_) => names.iter().cloned().collect(),
            None => Vec::new(),
        };
        self.networks
            .control()
            .post(move |node, now| node.set_names(&filed, &names, now));
    }

    fn domain(&self) -> Result<&str, ApiError> {
        self.domain.as_deref().ok_or_else(no_dns)
    }

    async fn container(&self, name: Option<&str>) -> Result<Option<ContainerInfo>, ApiError> {
        let Some(name) = name else { return Ok(None) };
        let otherwise = "name addresses in its place: weave dns-add IP -h NAME";
        let container = find_container(self.docker.as_deref(), name, otherwise);
        container.await.map(Some)
    }

    /// The addresses of a container on networks of ours.
    async fn addresses_of(&self, container: &ContainerInfo) -> Result<Vec<IpAddr>, ApiError> {
        let endpoints = self.networks.endpoints().await;
        let its = endpoints
            .iter()
            .filter(|endpoint| endpoint.container == container.short_id());
        let held = its.flat_map(|endpoint| &endpoint.addresses);
        let addresses: Vec<_> = held.map(|held| held.address.ip()).collect();
        if addresses.is_empty() {
            let name = &container.name;
            return Err(ApiError::new(
                ApiErrorKind::Conflict,
                format!("container `{name}` has no address on a network of weave"),
            )
            .with_hint(format!(
                "`weave attach {name}` gives it one; or name the address: weave dns-add IP {name}"
            )));
        }
        Ok(addresses)
    }
}

/// Names as they are announced.
///
/// # Errors
/// When one is none, or lies outside of the domain.
pub(crate) fn all_checked(names: &[String], domain: Option<&str>) -> Result<Vec<String>, ApiError> {
    names.iter().map(|name| checked(name, domain)).collect()
}

fn checked(name: &str, domain: Option<&str>) -> Result<String, ApiError> {
    let domain = domain.ok_or_else(no_dns)?;
    in_domain(name, domain).map(str::to_owned).ok_or_else(|| {
        ApiError::new(
            ApiErrorKind::BadRequest,
            format!("`{name}` is no name under {domain}"),
        )
        .with_hint(format!("give a whole name, such as gateway.{domain}"))
    })
}

fn no_dns() -> ApiError {
    ApiError::new(ApiErrorKind::Unavailable, "this router runs without DNS")
        .with_hint("launch it without --no-dns")
}

fn owner_of(container: Option<&ContainerInfo>) -> String {
    container.map_or_else(|| EXTERN.to_owned(), |it| it.short_id().to_owned())
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// The name without a dot at the end, if it lies in the domain.
fn in_domain<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let name = without_dot(name);
    let label = name
        .len()
        .checked_sub(domain.len() + 1)
        .and_then(|end| name.split_at_checked(end))
        .filter(|(_, rest)| {
            rest.strip_prefix('.')
                .is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
        });
    label.and_then(|_| weave_node::names::is_valid(name).then_some(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_must_lie_within_the_domain() {
        for (name, expected) in [
            ("gw.weave.local", Some("gw.weave.local")),
            ("GW.Weave.Local.", Some("GW.Weave.Local")),
            ("a.b.weave.local", Some("a.b.weave.local")),
            ("weave.local", None),
            (".weave.local", None),
            ("a..weave.local", None),
            ("gw", None),
            ("gwweave.local", None),
            ("gw.example.com", None),
            ("g w.weave.local", None),
            ("", None),
        ] {
            assert_eq!(in_domain(name, "weave.local"), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_in_the_domain_or_refused(name in "\\PC*(weave\\.local\\.?)?") {
            if let Some(name) = in_domain(&name, "weave.local") {
                prop_assert!(name.to_lowercase().ends_with(".weave.local"));
            }
        }
    }
}

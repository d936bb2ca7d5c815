//! The control paths of Weave Net: forms in, plain text out.
//!
//! Each is one of our own requests in other clothes. An address has no meaning here without an
//! interface that has it, so allocating one attaches, and giving it back detaches. Paths that
//! mean nothing any more say what to do in their place.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use weave_wire::Cidr;

use super::form::Form;
use super::routes::Routes;
use super::types::{
    AddressSpec, AttachRequest, BanRequest, ConnectRequest, DetachRequest, DnsStatus,
    ExposeRequest, ForgetRequest, HideRequest, NameRequest, PeerResult, Sandbox,
};
use super::{ApiError, ApiErrorKind, Router};
use crate::cli::view;

/// How long `GET /ring` waits.
const RING_WITHIN: Duration = Duration::from_millis(4_500);
/// How often it looks.
const RING_EVERY: Duration = Duration::from_millis(100);
/// Whom the addresses of the host itself are filed under.
const EXPOSED: &str = "weave:expose";
/// Whom names of no container are filed under.
const EXTERN: &str = "weave:extern";

/// Adds these routes. `POST /connect` and `/forget` are our own, too: see [`is_form`].
pub(super) fn add<R: Router>(routes: Routes<Arc<R>>) -> Routes<Arc<R>> {
    let routes = routes
        .post("/expose/{ip}/{prefix_len}", expose::<R>)
        .delete("/peer/{peer}", rmpeer::<R>)
        .delete("/peer", gone)
        .get("/proxyaddrs", gone)
        .get("/ipinfo/tracker", gone)
        .get("/debug/pprof", gone);
    let routes = routes
        .get("/ring", ring::<R>)
        .get("/ipinfo/defaultsubnet", default_subnet::<R>)
        .get("/ip", all_addresses::<R>)
        .get("/ip/{owner}", addresses::<R>)
        .post("/ip/{owner}", allocate::<R>)
        .delete("/ip/{owner}", free_all::<R>)
        .delete("/ip/{owner}/{ip}", free::<R>)
        .get("/ip/{owner}/{ip}/{prefix_len}", addresses_within::<R>)
        .post("/ip/{owner}/{ip}/{prefix_len}", allocate_within::<R>)
        .put("/ip/{owner}/{ip}/{prefix_len}", claim::<R>);
    routes
        .get("/domain", domain::<R>)
        .get("/dns-address", dns_address::<R>)
        .get("/dns-address-port", dns_address_port::<R>)
        .get("/name", names::<R>)
        .delete("/name", remove_names::<R>)
        .delete("/name/{owner}", remove_names_of::<R>)
        .put("/name/{owner}/{ip}", add_name::<R>)
        .delete("/name/{owner}/{ip}", remove_name::<R>)
}

/// A refusal in the clothes of Weave Net: plain text.
pub(super) struct Said(ApiError);

impl From<ApiError> for Said {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Said {
    fn into_response(self) -> Response {
        let mut text = format!("{}\n", self.0.message);
        if let Some(hint) = &self.0.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        (self.0.kind.status(), text).into_response()
    }
}

type Answer<T> = Result<T, Said>;

fn bad(message: impl Into<String>) -> Said {
    Said(ApiError::new(ApiErrorKind::BadRequest, message))
}

/// Whether a request speaks as Weave Net does: a form, or all of it in the query.
pub(super) fn is_form(head: &axum::http::request::Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = kind.map(|kind| kind.to_str().unwrap_or_default().to_ascii_lowercase());
    match kind {
        Some(kind) => kind.starts_with("application/x-www-form-urlencoded"),
        None => head.uri.query().is_some(),
    }
}

/// `POST /connect` with `peer=HOST&replace=true`.
pub(super) async fn connect<R: Router>(router: &R, form: &Form) -> Response {
    let request = ConnectRequest {
        peers: form.values("peer"),
        replace: form.says_yes("replace"),
    };
    said_of_each(router.connect(request).await).into_response()
}

/// `POST /forget` with `peer=HOST`.
pub(super) async fn forget<R: Router>(router: &R, form: &Form) -> Response {
    let peers = form.values("peer");
    said_of_each(router.forget(ForgetRequest { peers }).await).into_response()
}

/// Nothing if all went well; else the reasons, a line for each.
fn said_of_each(results: Result<Vec<PeerResult>, ApiError>) -> Answer<String> {
    let failed = results?.into_iter().filter_map(|result| {
        let error = result.error?;
        Some(match error.contains(&result.peer) {
            true => error,
            false => format!("{}: {error}", result.peer),
        })
    });
    match failed.collect::<Vec<_>>() {
        failed if failed.is_empty() => Ok(String::new()),
        failed => Err(bad(failed.join("\n"))),
    }
}

async fn expose<R: Router>(
    State(router): State<Arc<R>>,
    Path((ip, prefix_len)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer<StatusCode> {
    let query = Form::parse(query.as_deref().unwrap_or_default());
    let request = ExposeRequest {
        addresses: vec![address(&ip, &prefix_len)?],
        names: Vec::new(),
        masquerade: !query.says_yes("skipNAT"),
    };
    router.expose(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rmpeer<R: Router>(
    State(router): State<Arc<R>>,
    Path(peer): Path<String>,
) -> Answer<String> {
    let reason = String::new();
    let answer = router.rmpeer(BanRequest { peer, reason }).await?;
    Ok(view::banned(&answer))
}

/// What Weave Net had and means nothing here: 410, and what to do in its place.
async fn gone(uri: Uri) -> (StatusCode, String) {
    let instead = match uri.path() {
        "/peer" => "POST /reset leaves the mesh and gives its addresses back",
        "/proxyaddrs" => "there is no proxy for Docker's API: use Docker's own socket",
        "/ipinfo/tracker" => "there is no mode for the VPCs of AWS: the overlay works there, too",
        _ => "GET /metrics shows memory, processor time and what passes",
    };
    (
        StatusCode::GONE,
        format!("{} is gone: {instead}\n", uri.path()),
    )
}

/// Returns once addresses can be given out at once.
async fn ring<R: Router>(State(router): State<Arc<R>>) -> Answer<()> {
    let began = Instant::now();
    while let Some(awaited) = router.prime().await? {
        if began.elapsed() >= RING_WITHIN {
            let message = format!("no addresses can be given out yet: {awaited}");
            let error = ApiError::new(ApiErrorKind::Unavailable, message);
            return Err(error
                .with_hint("ask again; `weave status` shows who is connected")
                .into());
        }
        tokio::time::sleep(RING_EVERY).await;
    }
    Ok(())
}

async fn default_subnet<R: Router>(State(router): State<Arc<R>>) -> Answer<String> {
    Ok(default_of(router.as_ref()).await?.to_string())
}

async fn default_of<R: Router>(router: &R) -> Answer<Cidr> {
    let ipam = router.status().await?.ipam;
    let subnet = ipam.and_then(|ipam| ipam.default_subnet.parse().ok());
    subnet.ok_or_else(|| {
        let message = "this router allocates no addresses";
        Said(ApiError::new(ApiErrorKind::Unavailable, message))
    })
}

/// `{"owned": [{"containerid": …, "addrs": […]}]}`.
async fn all_addresses<R: Router>(State(router): State<Arc<R>>) -> Answer<Response> {
    let entries = router.ps(Vec::new()).await?;
    let owned: Vec<_> = entries
        .iter()
        .map(|entry| json!({"containerid": entry.container, "addrs": entry.addresses}))
        .collect();
    Ok(Json(json!({ "owned": owned })).into_response())
}

async fn addresses<R: Router>(
    State(router): State<Arc<R>>,
    Path(owner): Path<String>,
) -> Answer<String> {
    let default = default_of(router.as_ref()).await?;
    held(router.as_ref(), owner, default).await
}

async fn addresses_within<R: Router>(
    State(router): State<Arc<R>>,
    Path((owner, ip, prefix_len)): Path<(String, String, String)>,
) -> Answer<String> {
    held(router.as_ref(), owner, subnet(&ip, &prefix_len)?).await
}

async fn held<R: Router>(router: &R, owner: String, within: Cidr) -> Answer<String> {
    let held = addresses_of(router, &owner, within).await?;
    if held.is_empty() {
        let message = format!("`{owner}` has no address of {within}");
        return Err(Said(ApiError::new(ApiErrorKind::NotFound, message)));
    }
    Ok(held.join(" "))
}

/// `10.32.0.1/12`, …: what the owner has of this subnet.
async fn addresses_of<R: Router>(router: &R, owner: &str, within: Cidr) -> Answer<Vec<String>> {
    let entries = router.ps(vec![owner.to_owned()]).await?;
    let addresses = entries.into_iter().flat_map(|entry| entry.addresses);
    let is_within = |address: &String| {
        let ip = address.split('/').next().and_then(|ip| ip.parse().ok());
        ip.is_some_and(|ip| within.contains(ip))
    };
    Ok(addresses.filter(is_within).collect())
}

async fn allocate<R: Router>(
    State(router): State<Arc<R>>,
    Path(owner): Path<String>,
) -> Answer<String> {
    let default = default_of(router.as_ref()).await?;
    take(router.as_ref(), owner, default).await
}

async fn allocate_within<R: Router>(
    State(router): State<Arc<R>>,
    Path((owner, ip, prefix_len)): Path<(String, String, String)>,
) -> Answer<String> {
    take(router.as_ref(), owner, subnet(&ip, &prefix_len)?).await
}

/// The address that the owner has of this subnet, or one more.
async fn take<R: Router>(router: &R, owner: String, within: Cidr) -> Answer<String> {
    if let Some(held) = addresses_of(router, &owner, within).await?.pop() {
        return Ok(held);
    }
    let spec = AddressSpec::Subnet {
        network: within.network(),
        prefix_len: within.prefix_len(),
    };
    let given = give(router, &owner, spec).await?;
    let given = given
        .iter()
        .map(|ip| format!("{ip}/{}", within.prefix_len()));
    Ok(given.collect::<Vec<_>>().join(" "))
}

async fn claim<R: Router>(
    State(router): State<Arc<R>>,
    Path((owner, ip, prefix_len)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    give(router.as_ref(), &owner, address(&ip, &prefix_len)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn give<R: Router>(router: &R, owner: &str, spec: AddressSpec) -> Answer<Vec<IpAddr>> {
    let addresses = vec![spec];
    if owner == EXPOSED {
        let (names, masquerade) = (Vec::new(), true);
        let request = ExposeRequest {
            addresses,
            names,
            masquerade,
        };
        return Ok(router.expose(request).await?);
    }
    let sandbox = sandbox(owner);
    Ok(router.attach(AttachRequest { addresses, sandbox }).await?)
}

async fn free_all<R: Router>(
    State(router): State<Arc<R>>,
    Path(owner): Path<String>,
) -> Answer<StatusCode> {
    take_back(router.as_ref(), &owner, Vec::new()).await
}

async fn free<R: Router>(
    State(router): State<Arc<R>>,
    Path((owner, ip)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let ip = parsed::<IpAddr>(&ip)?;
    let entries = router.ps(vec![owner.clone()]).await?;
    let mut addresses = entries.iter().flat_map(|entry| &entry.addresses);
    let held = addresses.find_map(|address| {
        let (held, prefix_len) = address.split_once('/')?;
        (held.parse() == Ok(ip)).then_some(prefix_len)
    });
    let Some(prefix_len) = held else {
        let message = format!("`{owner}` has no address {ip}");
        return Err(Said(ApiError::new(ApiErrorKind::NotFound, message)));
    };
    let spec = address(&ip.to_string(), prefix_len)?;
    take_back(router.as_ref(), &owner, vec![spec]).await
}

async fn take_back<R: Router>(
    router: &R,
    owner: &str,
    addresses: Vec<AddressSpec>,
) -> Answer<StatusCode> {
    if owner == EXPOSED {
        router.hide(HideRequest { addresses }).await?;
    } else {
        let sandbox = sandbox(owner);
        router.detach(DetachRequest { addresses, sandbox }).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// A container, or a namespace by its path.
fn sandbox(owner: &str) -> Sandbox {
    match owner.starts_with('/') {
        true => Sandbox::Netns(PathBuf::from(owner)),
        false => Sandbox::Container(owner.to_owned()),
    }
}

fn address(ip: &str, prefix_len: &str) -> Answer<AddressSpec> {
    Ok(AddressSpec::Address {
        ip: parsed(ip)?,
        prefix_len: parsed(prefix_len)?,
    })
}

fn subnet(ip: &str, prefix_len: &str) -> Answer<Cidr> {
    Cidr::new(parsed(ip)?, parsed(prefix_len)?).map_err(|error| bad(error.to_string()))
}

fn parsed<T: std::str::FromStr>(text: &str) -> Answer<T> {
    text.parse()
        .map_err(|_| bad(format!("`{text}` is no address or length of a prefix")))
}

async fn dns_of<R: Router>(router: &R) -> Answer<DnsStatus> {
    router.status().await?.dns.ok_or_else(|| {
        let error = ApiError::new(ApiErrorKind::Unavailable, "this router runs without DNS");
        Said(error.with_hint("launch it without --no-dns"))
    })
}

async fn domain<R: Router>(State(router): State<Arc<R>>) -> Answer<String> {
    Ok(dns_of(router.as_ref()).await?.domain)
}

async fn dns_address<R: Router>(State(router): State<Arc<R>>) -> Answer<String> {
    Ok(server_of(router.as_ref()).await?.ip().to_string())
}

async fn dns_address_port<R: Router>(State(router): State<Arc<R>>) -> Answer<String> {
    Ok(server_of(router.as_ref()).await?.to_string())
}

/// Where containers on other networks of Docker reach the server.
async fn server_of<R: Router>(router: &R) -> Answer<std::net::SocketAddr> {
    view::dns_server(&dns_of(router).await?).ok_or_else(|| {
        let message = "the DNS server listens for containers on networks of weave only";
        Said(ApiError::new(ApiErrorKind::Unavailable, message))
    })
}

async fn names<R: Router>(State(router): State<Arc<R>>) -> Answer<Response> {
    Ok(Json(dns_of(router.as_ref()).await?.entries).into_response())
}

async fn add_name<R: Router>(
    State(router): State<Arc<R>>,
    Path((owner, ip)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    body: String,
) -> Answer<StatusCode> {
    let form = Form::parse(query.as_deref().unwrap_or_default()).and(Form::parse(&body));
    let request = name_request(Some(&owner), Some(&ip), &form)?;
    if request.names.is_empty() {
        return Err(bad("no name given: fqdn=NAME"));
    }
    router.dns_add(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_names<R: Router>(
    State(router): State<Arc<R>>,
    RawQuery(query): RawQuery,
) -> Answer<StatusCode> {
    remove(router.as_ref(), None, None, query).await
}

async fn remove_names_of<R: Router>(
    State(router): State<Arc<R>>,
    Path(owner): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<StatusCode> {
    remove(router.as_ref(), Some(&owner), None, query).await
}

async fn remove_name<R: Router>(
    State(router): State<Arc<R>>,
    Path((owner, ip)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer<StatusCode> {
    remove(router.as_ref(), Some(&owner), Some(&ip), query).await
}

async fn remove<R: Router>(
    router: &R,
    owner: Option<&str>,
    ip: Option<&str>,
    query: Option<String>,
) -> Answer<StatusCode> {
    let form = Form::parse(query.as_deref().unwrap_or_default());
    let request = name_request(owner, ip, &form)?;
    if owner.is_none() && request.names.is_empty() {
        return Err(bad("neither a container nor a name given: fqdn=NAME"));
    }
    router.dns_remove(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn name_request(owner: Option<&str>, ip: Option<&str>, form: &Form) -> Answer<NameRequest> {
    Ok(NameRequest {
        addresses: ip.map(parsed).transpose()?.into_iter().collect(),
        container: owner.filter(|owner| *owner != EXTERN).map(str::to_owned),
        names: form.values("fqdn"),
    })
}

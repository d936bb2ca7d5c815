//! From a path and a body to an answer: the table of endpoints.
//!
//! dockerd reads a refusal from `Err` for the network driver and from `Error` for the IPAM driver;
//! under the wrong key it prints nonsense instead of our words. It takes status 404 as "this
//! driver does not do that" and goes on.

use std::future::Future;

use serde_json::{Value, json};

use super::driver::{Driver, DriverError};
use super::json::Malformed;
use super::{ipam, network};

/// Media type of plugin answers.
pub const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// An HTTP answer to dockerd.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// HTTP status: 200, also for refusals, or 404.
    pub status: u16,
    /// Always a JSON object.
    pub body: Value,
}

/// Answers one request. Total: any path and any bytes get a well-formed answer.
pub async fn dispatch<D: Driver>(driver: &D, path: &str, body: &[u8]) -> Reply {
    let method = path.strip_prefix('/').unwrap_or(path);
    if method == "Plugin.Activate" {
        return Reply::ok(json!({ "Implements": ["NetworkDriver", "IpamDriver"] }));
    }
    if let Some(method) = method.strip_prefix("NetworkDriver.") {
        return match network_call(driver, method, body).await {
            Some(result) => Reply::from_result(result, "Err"),
            None => Reply::unknown(path),
        };
    }
    if let Some(method) = method.strip_prefix("IpamDriver.") {
        return match ipam_call(driver, method, body).await {
            Some(result) => Reply::from_result(result, "Error"),
            None => Reply::unknown(path),
        };
    }
    Reply::unknown(path)
}

type Outcome = Result<Value, DriverError>;

async fn network_call<D: Driver>(driver: &D, method: &str, body: &[u8]) -> Option<Outcome> {
    Some(match method {
        "GetCapabilities" => Ok(json!({ "Scope": "local", "ConnectivityScope": "global" })),
        "CreateNetwork" => {
            call(
                network::create_network(body),
                |r| driver.create_network(r),
                empty,
            )
            .await
        }
        "DeleteNetwork" => {
            call(
                network::network_id(body),
                |id| driver.delete_network(id),
                empty,
            )
            .await
        }
        "AllocateNetwork" => {
            let reply = |options| json!({ "Options": options });
            call(
                network::allocate_network(body),
                |r| driver.allocate_network(r),
                reply,
            )
            .await
        }
        "FreeNetwork" => {
            call(
                network::network_id(body),
                |id| driver.free_network(id),
                empty,
            )
            .await
        }
        "CreateEndpoint" => {
            let reply = network::endpoint_reply;
            call(
                network::create_endpoint(body),
                |r| driver.create_endpoint(r),
                reply,
            )
            .await
        }
        "DeleteEndpoint" => {
            call(
                network::endpoint(body),
                |r| driver.delete_endpoint(r),
                empty,
            )
            .await
        }
        "EndpointOperInfo" => {
            let reply = |facts| json!({ "Value": facts });
            call(network::endpoint(body), |r| driver.endpoint_info(r), reply).await
        }
        "Join" => {
            let reply = |joined| network::join_reply(&joined);
            call(network::join(body), |r| driver.join(r), reply).await
        }
        "Leave" => call(network::endpoint(body), |r| driver.leave(r), empty).await,
        "ProgramExternalConnectivity" => {
            let request = network::external_connectivity(body);
            call(request, |r| driver.program_external_connectivity(r), empty).await
        }
        "RevokeExternalConnectivity" => {
            call(
                network::endpoint(body),
                |r| driver.revoke_external_connectivity(r),
                empty,
            )
            .await
        }
        "DiscoverNew" => call(network::discovery(body), |r| driver.discover_new(r), empty).await,
        "DiscoverDelete" => {
            call(
                network::discovery(body),
                |r| driver.discover_delete(r),
                empty,
            )
            .await
        }
        _ => return None,
    })
}

async fn ipam_call<D: Driver>(driver: &D, method: &str, body: &[u8]) -> Option<Outcome> {
    Some(match method {
        "GetCapabilities" => {
            Ok(json!({ "RequiresMACAddress": false, "RequiresRequestReplay": false }))
        }
        "GetDefaultAddressSpaces" => Ok(json!({
            "LocalDefaultAddressSpace": "weavelocal",
            "GlobalDefaultAddressSpace": "weaveglobal",
        })),
        "RequestPool" => {
            let reply = |pool| ipam::pool_reply(&pool);
            call(ipam::request_pool(body), |r| driver.request_pool(r), reply).await
        }
        "ReleasePool" => {
            call(
                ipam::release_pool(body),
                |id| driver.release_pool(id),
                empty,
            )
            .await
        }
        "RequestAddress" => {
            let reply = |address| ipam::address_reply(&address);
            call(
                ipam::request_address(body),
                |r| driver.request_address(r),
                reply,
            )
            .await
        }
        "ReleaseAddress" => {
            call(
                ipam::release_address(body),
                |r| driver.release_address(r),
                empty,
            )
            .await
        }
        _ => return None,
    })
}

async fn call<Request, Answer, F>(
    request: Result<Request, Malformed>,
    run: impl FnOnce(Request) -> F,
    reply: impl FnOnce(Answer) -> Value,
) -> Outcome
where
    F: Future<Output = Result<Answer, DriverError>>,
{
    run(request?).await.map(reply)
}

fn empty((): ()) -> Value {
    json!({})
}

impl Reply {
    const fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    fn from_result(result: Outcome, error_key: &str) -> Self {
        match result {
            Ok(body) => Self::ok(body),
            Err(error) => Self::ok(json!({ error_key: error.to_string() })),
        }
    }

    /// dockerd reads the text of any status but 200 from `Err`, whichever driver it asked.
    fn unknown(path: &str) -> Self {
        let path: String = path.chars().take(80).collect();
        Self {
            status: 404,
            body: json!({ "Err": format!("{path}: no such plugin method") }),
        }
    }

    /// The answer when the driver itself broke down or took too long.
    pub(super) fn failed(path: &str, why: &str) -> Self {
        let key = if path.trim_start_matches('/').starts_with("IpamDriver.") {
            "Error"
        } else {
            "Err"
        };
        Self::ok(json!({ key: why }))
    }
}

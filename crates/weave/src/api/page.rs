//! The state of the router by HTTP, to read only: on a loopback address unless somebody chose
//! another.
//!
//! Any user of the host may ask. Few are served at a time and each but for a while, so that nobody
//! takes away the files that the router needs.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::routes::Routes;
use super::{Router, connection, read};

/// Connections at a time; others wait.
const SEATS: u16 = 16;

/// Listens and serves in the background. A router is as good without: failure is a warning.
pub(crate) async fn open<R: Router>(address: SocketAddr, router: &Arc<R>) {
    match TcpListener::bind(address).await {
        Ok(listener) => {
            tokio::spawn(serve(listener, Arc::clone(router)));
        }
        Err(error) => tracing::warn!(
            %address, %error, hint = "choose another --status-addr, or `off`",
            "no status by HTTP"
        ),
    }
}

/// Serves for ever.
pub(super) async fn serve<R: Router>(listener: TcpListener, router: Arc<R>) {
    let routes = read::add(Routes::new()).serve_with(router);
    connection::serve(listener, routes, SEATS, std::future::pending()).await;
}

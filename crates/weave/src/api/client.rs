//! Client of the admin API: one connection and one request per call.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::ApiError;

/// The router answers within five seconds; more means that it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ClientError {
    /// Nothing listens on the socket.
    #[error("the router is not running: nothing answers on {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket belongs to root.
    #[error("no permission to use {}", .0.display())]
    NotPermitted(PathBuf),
    /// The socket cannot be used for another reason.
    #[error("cannot reach the router on {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The router gave no answer in time.
    #[error("the router gave no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// The connection broke, or it is not a router that answers.
    #[error("the router broke off: {0}")]
    Broken(String),
    /// The router refused, with its own words.
    #[error(transparent)]
    Refused(#[from] ApiError),
}

impl ClientError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning(_) => Some(
                "start it with `weave launch`; with --socket or WEAVE_SOCKET name another socket"
                    .to_owned(),
            ),
            Self::NotPermitted(_) => Some("run the command as root, with sudo".to_owned()),
            Self::Connect { .. } => None,
            Self::TimedOut | Self::Broken(_) => {
                Some("see what the router says: `docker logs --tail 20 weave`".to_owned())
            }
            Self::Refused(error) => error.hint.clone(),
        }
    }
}

/// Where a router listens.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the router on this socket; connects at each request.
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When no router answers, or it answers with an error.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request("GET", path, Bytes::new()).await
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// When no router answers, or it answers with an error.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(broken)?;
        self.request("POST", path, Bytes::from(body)).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(PATIENCE, self.exchange(method, path, body))
            .await
            .unwrap_or(Err(ClientError::TimedOut))
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.connect_error(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "weave")
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(broken)?
            .to_bytes();
        driver.abort();
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(broken);
        }
        match serde_json::from_slice::<ApiError>(&bytes) {
            Ok(error) => Err(ClientError::Refused(error)),
            Err(_) => Err(ClientError::Broken(format!("HTTP status {status}"))),
        }
    }

    fn connect_error(&self, error: io::Error) -> ClientError {
        let path = self.socket.clone();
        let kind = error.kind();
        if kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused {
            return ClientError::NotRunning(path);
        }
        if kind == io::ErrorKind::PermissionDenied {
            return ClientError::NotPermitted(path);
        }
        ClientError::Connect {
            path,
            source: error,
        }
    }
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}

/// Escapes what cannot stand in a segment of a URL.
pub(crate) fn escape(segment: &str) -> String {
    let mut escaped = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Undoes [`escape`]. What is no escape sequence stays as it is.
pub(crate) fn unescape(segment: &str) -> String {
    let mut plain = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => hex_pair(*high, *low),
            _ => None,
        };
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escaping_is_undone_for_any_text(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(escaped.is_ascii());
            prop_assert_eq!(unescape(&escaped), text);
        }
    }
}

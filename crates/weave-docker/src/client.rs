//! The client of Docker's API: one unix socket, every call with a deadline.
//!
//! Owns connecting and the translation of failures. What is asked lives with what it is about:
//! containers, networks, the image, the router container.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};

use crate::container::ContainerInfo;
use crate::error::Error;

/// Where Docker listens, in the order tried.
pub const SOCKETS: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];

/// For calls that only read.
const QUICK: Duration = Duration::from_secs(10);
/// For calls that start, stop, import or remove something.
pub(crate) const SLOW: Duration = Duration::from_secs(60);

/// A connection to Docker; cheap to clone.
#[derive(Clone)]
pub struct DockerClient {
    docker: Docker,
    socket: PathBuf,
    version: String,
}

impl DockerClient {
    /// Connects to the first of [`SOCKETS`] that answers.
    ///
    /// # Errors
    /// [`Error::NotRunning`] or [`Error::NotPermitted`], about the first of them.
    pub async fn connect_default() -> Result<Self, Error> {
        let [first, second] = SOCKETS;
        match Self::connect(Path::new(first)).await {
            Err(error) if error.is_not_running() => {
                Self::connect(Path::new(second)).await.map_err(|_| error)
            }
            other => other,
        }
    }

    /// Connects to the Docker that listens on `socket` and agrees on an API version with it.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::NotPermitted`] or [`Error::TimedOut`].
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        reach(socket).await?;
        let name = socket.to_string_lossy();
        let what = || "connect to Docker".to_owned();
        let docker = Docker::connect_with_unix(&name, SLOW.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| translate(what(), error))?;
        let docker = limited(what(), QUICK, docker.negotiate_version()).await?;
        let version = docker.client_version().to_string();
        tracing::debug!(socket = %name, version, "connected to Docker");
        Ok(Self {
            docker,
            socket: socket.to_owned(),
            version,
        })
    }

    /// The socket it talks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The API version agreed on, like `1.41`.
    pub fn api_version(&self) -> &str {
        &self.version
    }

    /// Docker's own version, like `20.10.24`.
    ///
    /// # Errors
    /// Any of [`Error`] that Docker's API can cause.
    pub async fn server_version(&self) -> Result<String, Error> {
        let version = self
            .read("ask Docker for its version", self.docker.version())
            .await?;
        Ok(version.version.unwrap_or_default())
    }

    /// Looks a container up by name or id (or the beginning of an id).
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn container(&self, name_or_id: &str) -> Result<ContainerInfo, Error> {
        let what = format!("find container {name_or_id:?}");
        let name = legal_name(&what, name_or_id)?;
        let inspect = self.docker.inspect_container(name, None);
        Ok(ContainerInfo::from_inspect(
            self.read(&what, inspect).await?,
        ))
    }

    pub(crate) const fn api(&self) -> &Docker {
        &self.docker
    }

    /// Runs a call that only reads.
    pub(crate) async fn read<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        self.refine(limited(what.to_owned(), QUICK, call).await)
    }

    /// Runs a call that may take its time.
    pub(crate) async fn change<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        self.refine(limited(what.to_owned(), SLOW, call).await)
    }

    /// A broken connection most often means that nobody listens any more.
    fn refine<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Err(Error::Broken { message, .. }) if !self.answers() => Err(Error::NotRunning {
                socket: self.socket.clone(),
                reason: message,
            }),
            other => other,
        }
    }

    fn answers(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.socket).is_ok()
    }
}

impl fmt::Debug for DockerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerClient")
            .field("socket", &self.socket)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Checks a name before it becomes part of a URL.
pub(crate) fn legal_name<'a>(what: &str, name: &'a str) -> Result<&'a str, Error> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.bytes().all(legal) && name.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(name);
    }
    Err(Error::NotFound {
        what: what.to_owned(),
        message: "not a name Docker allows".to_owned(),
    })
}

/// Tells a missing Docker from one that may not be used, which the HTTP client's errors do not.
async fn reach(socket: &Path) -> Result<(), Error> {
    let Err(error) = tokio::net::UnixStream::connect(socket).await else {
        return Ok(());
    };
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Err(Error::NotPermitted {
            socket: socket.to_owned(),
        });
    }
    Err(Error::NotRunning {
        socket: socket.to_owned(),
        reason: error.to_string(),
    })
}

async fn limited<T>(
    what: String,
    limit: Duration,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(translate(what, error)),
        Err(_) => Err(Error::TimedOut { what, limit }),
    }
}

pub(crate) fn translate(what: String, error: bollard::errors::Error) -> Error {
    use bollard::errors::Error as Api;
    if let Api::DockerResponseServerError {
        status_code,
        message,
    } = error
    {
        return match status_code {
            404 => Error::NotFound { what, message },
            status => Error::Refused {
                what,
                status,
                message,
            },
        };
    }
    if matches!(error, Api::RequestTimeoutError) {
        return Error::TimedOut { what, limit: SLOW };
    }
    Error::Broken {
        what,
        message: chain(&error),
    }
}

/// An error with its causes: the outer ones alone say little ("client error (SendRequest)").
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_the_url_are_not_found() {
        for name in [
            "",
            "..",
            ".",
            "a/b",
            "../networks",
            "a?b",
            "a b",
            "ä",
            "%2e",
        ] {
            assert!(legal_name("find", name).is_err(), "{name:?}");
        }
        for name in ["weave", "my_app-1.2", "f34ef1c4c4ef"] {
            assert_eq!(legal_name("find", name).unwrap(), name);
        }
    }

    #[tokio::test]
    async fn a_missing_docker_is_told_from_a_silent_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let error = DockerClient::connect(&path).await.unwrap_err();
        assert!(error.is_not_running(), "{error}");
        assert!(error.hint().unwrap().contains("systemctl start docker"));
        drop(tokio::net::UnixListener::bind(&path).unwrap());
        assert!(
            DockerClient::connect(&path)
                .await
                .unwrap_err()
                .is_not_running()
        );
    }

    #[tokio::test]
    async fn a_socket_that_hangs_up_is_an_error_not_a_hang() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream)
            }
        });
        let error = DockerClient::connect(&path).await.unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    }
}

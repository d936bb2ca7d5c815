//! The socket file under /run/docker/plugins.
//!
//! dockerd hangs for 15 s on a socket that nobody serves, so a stale file must never stay behind,
//! and a file that another process serves must never be taken away from it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A listening plugin socket; dropping it removes the file, if it is still the one made here.
#[derive(Debug)]
pub struct PluginSocket {
    path: PathBuf,
    listener: UnixListener,
    inode: (u64, u64),
}

impl PluginSocket {
    /// Listens at `path`, mode 0600, replacing a socket that nobody serves any more.
    ///
    /// # Errors
    /// [`Error::SocketBusy`] when another process serves it, [`Error::NotASocket`] when something
    /// else stands there, [`Error::Io`] when it cannot be made. Nothing is changed then.
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        check_free(&path)?;
        let failed = |source| Error::Io {
            what: "listen on",
            path: path.clone(),
            source,
        };
        let fresh = fresh_name(&path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        remove_if_there(&fresh).map_err(failed)?;
        // Made under another name and moved into place, so that the file is never seen with
        // loose permissions or before it listens.
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        let inode = publish(&fresh, &path).map_err(|source| {
            let _ = fs::remove_file(&fresh);
            failed(source)
        })?;
        Ok(Self {
            path,
            listener,
            inode,
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listener for the current tokio runtime.
    pub(super) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }
}

impl Drop for PluginSocket {
    fn drop(&mut self) {
        let Ok(found) = fs::symlink_metadata(&self.path) else {
            return;
        };
        if (found.dev(), found.ino()) != self.inode {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "plugin socket stays behind");
        }
    }
}

/// Removes the socket of a router that was killed, so that dockerd does not wait for it. A socket
/// that is served, or is no socket, stays. Answers whether there was one to remove.
///
/// # Errors
/// [`Error::Io`] when it cannot be removed.
pub fn remove_stale(path: &Path) -> Result<bool, Error> {
    if !matches!(state(path), State::Stale) {
        return Ok(false);
    }
    fs::remove_file(path).map_err(|source| Error::Io {
        what: "remove",
        path: path.to_owned(),
        source,
    })?;
    Ok(true)
}

enum State {
    Absent,
    Stale,
    Served,
    NotASocket,
}

fn state(path: &Path) -> State {
    let Ok(found) = fs::symlink_metadata(path) else {
        return State::Absent;
    };
    if !found.file_type().is_socket() {
        return State::NotASocket;
    }
    match UnixStream::connect(path) {
        Ok(_) => State::Served,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => State::Served,
        Err(_) => State::Stale,
    }
}

fn check_free(path: &Path) -> Result<(), Error> {
    match state(path) {
        State::Absent | State::Stale => Ok(()),
        State::Served => Err(Error::SocketBusy {
            path: path.to_owned(),
        }),
        State::NotASocket => Err(Error::NotASocket {
            path: path.to_owned(),
        }),
    }
}

fn publish(fresh: &Path, path: &Path) -> io::Result<(u64, u64)> {
    fs::set_permissions(fresh, fs::Permissions::from_mode(0o600))?;
    let made = fs::symlink_metadata(fresh)?;
    fs::rename(fresh, path)?;
    Ok((made.dev(), made.ino()))
}

/// Hidden, and without the extension that dockerd looks for.
fn fresh_name(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    path.with_file_name(format!(".{name}.new"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugins/weavemesh.sock");
        (directory, path)
    }

    #[test]
    fn a_socket_is_private_and_gone_after_drop() {
        let (_directory, path) = here();
        let socket = PluginSocket::bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_served_one_refused() {
        let (_directory, path) = here();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = PluginSocket::bind(&path).unwrap();
        assert!(matches!(
            PluginSocket::bind(&path),
            Err(Error::SocketBusy { .. })
        ));
        assert!(!remove_stale(&path).unwrap());
        drop(socket);
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let (_directory, path) = here();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            PluginSocket::bind(&path),
            Err(Error::NotASocket { .. })
        ));
        assert!(!remove_stale(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn dropping_leaves_a_successors_socket_alone() {
        let (_directory, path) = here();
        let first = PluginSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = PluginSocket::bind(&path).unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_removed_on_request() {
        let (_directory, path) = here();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(!remove_stale(&path).unwrap());
        drop(UnixListener::bind(&path).unwrap());
        assert!(remove_stale(&path).unwrap());
        assert!(!path.exists());
    }
}

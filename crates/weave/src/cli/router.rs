//! `weave router`: the daemon in the foreground.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use weave_node::ipam::TakeBack;

use crate::api::server::ServeError;
use crate::daemon::{self, DaemonConfig};
use crate::passwords::PasswordSet;

use super::args::RouterArgs;
use super::config::{DEFAULT_STATE_DIR, Settings};
use super::options::Options;
use super::{host, log, output, password};

/// Runs the router until it is told to stop.
///
/// # Errors
/// When it cannot start.
pub(crate) fn run(args: &RouterArgs, settings: &Settings, socket: &Path) -> Result<()> {
    let options = Options::resolve(&args.options, settings)?;
    let given = password::given(&args.options, settings)?;
    password::warn_if_visible(given.as_ref());
    host::require_root("router")?;
    if UnixStream::connect(socket).is_ok() {
        return Err(ServeError::AlreadyRunning(socket.to_owned()).into());
    }
    let state_dir = args
        .state_dir
        .clone()
        .or_else(|| settings.state_dir.clone());
    let state_dir = state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into());
    host::create_private_dir(&state_dir)?;
    let generation = args.options.password_generation;
    let generation = generation.or(settings.password_generation);
    let passwords = match &given {
        Some(given) => {
            let adopted = password::adopt(&state_dir, given, generation)?;
            if let Some(note) = &adopted.note {
                output::err(note);
            }
            adopted.set
        }
        None => match password::load(&state_dir)? {
            Some(stored) => stored,
            None => PasswordSet::open()?,
        },
    };
    if passwords.is_open() {
        output::err("warning: no password: traffic is encrypted, but anyone may join");
    }
    log::start(options.log_level);
    daemon::run(DaemonConfig {
        state_dir,
        socket: socket.to_owned(),
        port: options.port,
        range: options.range,
        default_subnet: options.default_subnet,
        take_back: options.take_back.map_or_else(TakeBack::default, |seconds| {
            TakeBack::after(Duration::from_secs(seconds))
        }),
        nickname: options.nickname,
        targets: options.peers,
        launch_id: args.launch_id.clone(),
        passwords,
        status_addr: options.status_addr,
        prefer_aes: options.cipher.prefers_aes(),
        pq: options.pq.into(),
        no_dns: options.no_dns,
        no_offloads: options.no_offloads,
        strict: options.strict,
        no_guard: options.no_guard,
        no_discovery: options.no_discovery,
        conn_limit: options.conn_limit,
        no_docker: args.no_docker,
        dns_domain: options.dns_domain,
        docker_socket: weave_docker::client::SOCKETS[0].into(),
    })
}

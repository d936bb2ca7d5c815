//! Starts the parts of the daemon in order, and ends them.
//!
//! The admin socket is bound first (it is what keeps two routers apart) and
//! served last: a router that answers is ready.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, oneshot};
use weave_docker::{PluginSocket, plugin};
use weave_node::{Node, NodeConfig};
use weave_sys::dnsns::DNS_ADDRESS;
use weave_sys::netlink::Netlink;
use weave_sys::preflight;
use weave_sys::udp::Underlay;

use super::admin::Admin;
use super::attach::Attacher;
use super::clock::{Clock, wall_ms};
use super::control::{LINGER, SharedNames, Shell};
use super::data::{self, DataPath};
use super::driver::WeaveDriver;
use super::expose::Exposer;
use super::inquiries;
use super::listen::Listeners;
use super::names::AddedNames;
use super::networks::{Defaults, Networks, Parts};
use super::passwords::Rotation;
use super::reconcile::{Reconciler, follow_docker};
use super::settling::Settling;
use super::stand_in::StandIns;
use super::stopping;
use super::store::{Contents, Store, Writes};
use super::{DaemonConfig, VERSIONS};
use crate::api::{page, server};
use crate::cli::password::MESH_NAME;
use crate::dns::{Dns, DnsConfig, NameSource};

const LAUNCH_KEY: &[u8] = b"launch";
const TARGET_PREFIX: &[u8] = b"target/";
/// Attached namespaces that are gone are noticed this often.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Runs the router until SIGTERM, SIGINT, or a `stop` by the admin API.
///
/// # Errors
/// When it cannot start, with what to do where that is known.
pub(crate) fn run(config: DaemonConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: DaemonConfig) -> anyhow::Result<()> {
    if let Err(error) = weave_sys::usage::raise_open_files() {
        tracing::warn!(%error, "as many files may be open as before");
    }
    let listener = server::bind(&config.socket)?;
    let remove_socket = RemoveOnDrop(config.socket.clone());
    preflight::check_net_admin()?;
    preflight::check_tun()?;
    let clock = Clock::start();
    let mut underlay = Underlay::bind(config.port)?;
    if config.no_offloads {
        underlay = underlay.without_offloads();
    }
    let underlay = match underlay.with_strangers() {
        Ok(underlay) => underlay,
        Err(error) => {
            tracing::info!(%error, "no socket of their own for strangers: a flood of theirs meets that of members");
            underlay
        }
    };
    let (store, contents) = Store::open(&config.state_dir)?;
    weave_node::check_stored(&contents)
        .with_context(|| format!("cannot use the store {}", store.path().display()))?;
    let contents = adopt_launch(&config, &store, contents).await?;
    let (to_control, from_data) = data::queues();
    let data = DataPath::start(&underlay, clock, to_control)?;
    let local = Netlink::here()?.addresses().await?;
    let local = local.into_iter().map(|address| address.ip).collect();
    let node = Node::new(
        node_config(&config, local),
        random_seed()?,
        &contents,
        clock.now(),
    );
    let me = node.id();
    let shared = Arc::clone(data.shared());
    let (shell, control, names, asked) = Shell::new(
        node,
        clock,
        store.clone(),
        underlay,
        shared,
        from_data,
        config.port,
    );
    let (stop_control, control_stopped) = oneshot::channel::<()>();
    let control_loop = tokio::spawn(shell.run(async move {
        let _ = control_stopped.await;
    }));
    let parts = Parts {
        me,
        control,
        store,
        data,
        range: config.range,
        default_subnet: config.default_subnet,
        dns: !config.no_dns,
        offloads: !config.no_offloads,
        defaults: Defaults {
            strict: config.strict,
            guard: !config.no_guard,
        },
        port: config.port,
        status_addr: config.status_addr,
    };
    let networks = Arc::new(Networks::restore(parts, &contents).await?);
    let stop = Arc::new(Notify::new());
    let services = start_services(&config, &networks, &names, &contents, &stop).await?;
    let stand_ins = Arc::new(StandIns::new(Arc::clone(&services.admin.attacher)));
    tokio::spawn(inquiries::serve(Arc::clone(&networks), stand_ins, asked));
    tracing::info!(name = %me.name(), port = config.port, "router ready");
    if let Err(error) = tell_systemd() {
        tracing::warn!(%error, "cannot tell systemd that the router is ready");
    }
    let end = stopping::asked(&config, Arc::clone(&networks), stop)?;
    server::serve(listener, Arc::clone(&services.admin), end).await;
    tracing::info!("router stops");
    services.end().await;
    let _ = stop_control.send(());
    control_loop.await.context("the control loop failed")?;
    tokio::time::sleep(LINGER).await;
    // last: whoever finds no socket takes us for gone
    drop(remove_socket);
    Ok(())
}

/// What runs beside the control loop.
struct Services {
    admin: Arc<Admin>,
    stop_plugin: Option<oneshot::Sender<()>>,
    plugin: Option<tokio::task::JoinHandle<()>>,
}

impl Services {
    async fn end(mut self) {
        self.stop_plugin.take();
        if let Some(plugin) = self.plugin.take() {
            let _ = plugin.await;
        }
    }
}

async fn start_services(
    config: &DaemonConfig,
    networks: &Arc<Networks>,
    names: &SharedNames,
    contents: &Contents,
    stop: &Arc<Notify>,
) -> anyhow::Result<Services> {
    let dns_config = DnsConfig {
        domain: config.dns_domain.clone(),
        resolv_conf: "/etc/resolv.conf".into(),
        open: |path| weave_sys::host::open(path).ok(),
        upstream_port: 53,
    };
    let has_docker = !config.no_docker && !config.no_dns;
    let (settling, settled) = Settling::start(networks.control().clone(), has_docker);
    let dns = Dns::new(
        dns_config,
        Arc::clone(names) as Arc<dyn NameSource>,
        settled,
    )?;
    let listeners = Listeners::default();
    if let Some(netns) = networks.dns_namespace().await {
        listeners.add(&dns, &netns, IpAddr::V4(DNS_ADDRESS))?;
    }
    let domain = (!config.no_dns).then(|| config.dns_domain.clone());
    let docker = (!config.no_docker).then(|| config.docker_socket.clone());
    let added = AddedNames::restore(
        Arc::clone(networks),
        docker.clone(),
        domain.clone(),
        contents,
    );
    let added = Arc::new(added);
    let attacher = Arc::new(Attacher::new(Arc::clone(networks), docker, domain.clone()));
    let mut services_plugin = (None, None);
    if !config.no_docker {
        if !config.no_dns {
            let (listeners, dns) = (listeners.clone(), dns.clone());
            let (docker, host) = (config.docker_socket.clone(), networks.host().clone());
            tokio::spawn(async move { listeners.follow_bridge(&docker, &dns, &host).await });
        }
        Reconciler::new(config, networks).look_first().await;
        follow_docker(config, networks, &attacher, &added, settling);
        services_plugin = start_plugin(config, networks)?;
    }
    tokio::spawn(keep(Arc::clone(networks), Arc::clone(&attacher)));
    let admin = Arc::new(Admin {
        config: config.clone(),
        networks: Arc::clone(networks),
        attacher,
        added,
        exposer: Exposer::new(Arc::clone(networks), domain),
        names: Arc::clone(names),
        dns,
        listeners,
        passwords: Rotation::new(
            config.state_dir.clone(),
            networks.control().clone(),
            config.passwords.clone(),
        ),
        stop: Arc::clone(stop),
        has_plugin: !config.no_docker,
    });
    if let Some(address) = config.status_addr {
        page::open(address, &admin).await;
    }
    let (stop_plugin, plugin) = services_plugin;
    Ok(Services {
        admin,
        stop_plugin,
        plugin,
    })
}

type PluginTask = (
    Option<oneshot::Sender<()>>,
    Option<tokio::task::JoinHandle<()>>,
);

fn start_plugin(config: &DaemonConfig, networks: &Arc<Networks>) -> anyhow::Result<PluginTask> {
    let socket = PluginSocket::bind(weave_docker::plugin_socket())?;
    let driver = Arc::new(WeaveDriver::new(Arc::clone(networks), !config.no_dns));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let stopped = async move {
            let _ = stopped.await;
        };
        if let Err(error) = plugin::serve(socket, driver, stopped).await {
            tracing::error!(%error, "the Docker plugin ended");
        }
    });
    Ok((Some(stop), Some(task)))
}

async fn keep(networks: Arc<Networks>, attacher: Arc<Attacher>) {
    let sweep = async {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            attacher.sweep().await;
        }
    };
    tokio::join!(networks.keep(), sweep);
}

/// A new launch's targets replace those on disk; after a restart those on disk count.
async fn adopt_launch(
    config: &DaemonConfig,
    store: &Store,
    contents: Contents,
) -> anyhow::Result<Contents> {
    let Some(launch) = &config.launch_id else {
        return Ok(contents);
    };
    let known = contents
        .iter()
        .any(|(key, value)| key == LAUNCH_KEY && value == launch.as_bytes());
    if known {
        return Ok(contents);
    }
    let (targets, mut kept): (Contents, Contents) = contents
        .into_iter()
        .partition(|(key, _)| key.starts_with(TARGET_PREFIX));
    let mut writes: Writes = targets.into_iter().map(|(key, _)| (key, None)).collect();
    writes.push((LAUNCH_KEY.to_vec(), Some(launch.as_bytes().to_vec())));
    store
        .write(writes)
        .await
        .map_err(anyhow::Error::msg)
        .context("cannot write the store")?;
    kept.retain(|(key, _)| key != LAUNCH_KEY);
    Ok(kept)
}

fn node_config(config: &DaemonConfig, local: Vec<IpAddr>) -> NodeConfig {
    NodeConfig {
        nickname: config.nickname.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        versions: VERSIONS,
        mesh_name: MESH_NAME.to_owned(),
        passwords: config.passwords.passwords().clone(),
        prefer_aes: config.prefer_aes,
        discovery: !config.no_discovery,
        pq: config.pq,
        conn_limit: config.conn_limit,
        port: config.port,
        range: Some(config.range),
        default_subnet: Some(config.default_subnet),
        take_back: config.take_back,
        targets: config.targets.clone(),
        awaits_names: !config.no_docker && !config.no_dns,
        local,
        anycast: vec![IpAddr::V4(DNS_ADDRESS)],
        wall_ms: wall_ms(),
        #[cfg(feature = "seeded-bugs")]
        seeded_bug: None,
    }
}

/// That dockerd may start now, where systemd runs us (sd_notify(3)).
fn tell_systemd() -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match path.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(b"READY=1", &address)
        .map(|_| ())
}

fn random_seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| anyhow::anyhow!("the system has no randomness: {error}"))?;
    Ok(seed)
}

/// Removes the admin socket when the router ends.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

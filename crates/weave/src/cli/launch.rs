//! `weave launch`: checks the host, starts the router as a container or as a
//! service of systemd, waits until it is ready, makes the Docker network `weave`.
//!
//! Launched again with the same options it does nothing; with others it names
//! the difference and changes nothing. Launched by another binary it replaces
//! the router under the running containers.

mod checks;
mod service;
mod start;

use std::path::Path;

use anyhow::{Context, Result};
use weave_docker::{DockerClient, RouterState};

use crate::api::client::{Client, ClientError};
use crate::api::types::StatusReport;

use super::args::{LaunchArgs, RouterOptions};
use super::commands::VERSION;
use super::config::{DEFAULT_SOCKET, DEFAULT_STATE_DIR, Settings};
use super::failure::Failure;
use super::options::{self, Options};
use super::password::{self, Adopted, Given, How};
use super::progress::Progress;
use super::systemd::{self, Service};
use super::{block_on, host, output};

/// What a launch works with.
struct Launch<'a> {
    options: Options,
    /// As a service, not as a container.
    systemd: bool,
    /// With the peers on disk.
    resume: bool,
    /// Whether any option but the password was given for this launch.
    names_options: bool,
    given: Option<Given>,
    /// Which one of the mesh that is, if it was said.
    generation: Option<u16>,
    state_dir: &'a Path,
    client: Client,
    docker: DockerClient,
    progress: Progress,
}

/// How a router runs already.
enum Running {
    No,
    Container(RouterState),
    Service(Service),
    Foreground,
}

/// Starts the router.
///
/// # Errors
/// Says what is missing on this host, or why the router does not come up; then
/// no router runs, and nothing would start one at the next boot.
pub(crate) fn run(args: &LaunchArgs, settings: &Settings, socket: &Path) -> Result<()> {
    let mut options = Options::resolve(&args.options, settings)?;
    options.no_restart = args.no_restart;
    if args.resume {
        let former = options::load(Path::new(DEFAULT_STATE_DIR));
        options.peers = former.map(|former| former.peers).unwrap_or_default();
    }
    let given = password::given(&args.options, settings)?;
    password::warn_if_visible(given.as_ref());
    if args.trusted_subnets.is_some() {
        output::err("warning: --trusted-subnets does nothing: all traffic is encrypted");
    }
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    for warning in args.from_weave_net.warnings(is_set) {
        output::err(&warning);
    }
    let names_options = names_options(&args.options) || args.no_restart;
    if socket != Path::new(DEFAULT_SOCKET) {
        return Err(Failure::usage("`weave launch` always uses its own socket")
            .with_hint(format!(
                "leave --socket and WEAVE_SOCKET out, or run `weave router --socket {}`",
                socket.display()
            ))
            .into());
    }
    host::require_root("launch")?;
    let binary = checks::own_binary()?;
    match args.systemd {
        true => systemd::check()?,
        false => weave_docker::image::check_static(&binary)?,
    }
    block_on(async {
        let launch = Launch {
            options,
            systemd: args.systemd,
            resume: args.resume,
            names_options,
            given,
            generation: args
                .options
                .password_generation
                .or(settings.password_generation),
            state_dir: Path::new(DEFAULT_STATE_DIR),
            client: Client::new(socket),
            docker: DockerClient::connect_default()
                .await
                .context("ask Docker")?,
            progress: Progress::new(),
        };
        launch.run(&binary).await
    })
}

impl Launch<'_> {
    async fn run(mut self, binary: &[u8]) -> Result<()> {
        match self.running().await? {
            Running::No => {}
            Running::Container(router) if !self.systemd => {
                return self.meet_container(binary, &router).await;
            }
            Running::Service(service) if self.systemd => {
                return self.meet_service(binary, &service).await;
            }
            Running::Container(_) => return Err(runs_otherwise("as a container").into()),
            Running::Service(_) => return Err(runs_otherwise("as a service of systemd").into()),
            Running::Foreground => return Err(runs_otherwise("in the foreground").into()),
        }
        checks::host(&self.options).await?;
        host::create_private_dir(self.state_dir)?;
        let generation = self.store_password()?;
        options::save(self.state_dir, &self.options)?;
        let report = match self.systemd {
            true => service::start(&self).await?,
            false => start::start(&self, binary).await?,
        };
        self.say_what_is_next(&report, generation).await;
        Ok(())
    }

    /// Tells this launch from others; none when it goes on with an earlier one.
    fn id(&self) -> Result<Option<String>> {
        (!self.resume).then(start::launch_id).transpose()
    }

    /// A container that Docker restarts for ever is not running, nor is a service that systemd does.
    async fn running(&self) -> Result<Running> {
        let answers = match self.client.fetch::<StatusReport>("/report").await {
            Err(ClientError::NotRunning(_)) => false,
            Ok(_) | Err(_) => true,
        };
        let router = self.docker.router().await?;
        let service = systemd::service()?;
        Ok(match (router, service) {
            (Some(router), _) if start::is_up(&router) => Running::Container(router),
            (_, Some(service)) if service.runs => Running::Service(service),
            (Some(router), _) if answers => Running::Container(router),
            (None, _) if answers => Running::Foreground,
            (Some(_) | None, _) => Running::No,
        })
    }

    async fn meet_container(&mut self, binary: &[u8], router: &RouterState) -> Result<()> {
        let is_other = router.image != weave_docker::image::reference(binary, VERSION);
        self.compare(is_other)?;
        match is_other {
            true => start::replace(self, binary, router).await,
            false => Ok(()),
        }
    }

    async fn meet_service(&mut self, binary: &[u8], service: &Service) -> Result<()> {
        let is_other = service::program_of(service)? != binary;
        self.compare(is_other)?;
        match is_other {
            true => service::replace(self).await,
            false => Ok(()),
        }
    }

    /// Compares with what runs; an upgrade keeps the options of before unless it names some.
    fn compare(&mut self, is_upgrade: bool) -> Result<()> {
        if is_upgrade
            && !self.names_options
            && let Some(running) = options::load(self.state_dir)
        {
            self.options = running;
        }
        self.compare_with_running()?;
        if !is_upgrade {
            output::err("weave is already running, with these options: nothing to do");
        }
        Ok(())
    }

    fn compare_with_running(&self) -> Result<()> {
        let mut differences = match options::load(self.state_dir) {
            Some(running) => running.differences(&self.options),
            None => vec!["its options are not known any more".to_owned()],
        };
        let adopted = self.adopted()?;
        if adopted.as_ref().is_some_and(|adopted| adopted.is_new) {
            differences.push(
                "--password: not the one it is running with; `weave password` changes it without a stop"
                    .to_owned(),
            );
        }
        if differences.is_empty() {
            say_note(adopted.as_ref());
            return Ok(());
        }
        Err(Failure::new(format!(
            "weave is already running with other options\n  {}",
            differences.join("\n  ")
        ))
        .with_hint("`weave stop` first, then launch again: addresses and names are kept")
        .into())
    }

    /// What the password that was given amounts to.
    fn adopted(&self) -> Result<Option<Adopted>> {
        let given = self.given.as_ref();
        let adopted = given.map(|given| password::adopt(self.state_dir, given, self.generation));
        adopted.transpose()
    }

    /// Stores a password that was given. Returns the generation to join with; none without
    /// password.
    fn store_password(&self) -> Result<Option<u16>> {
        if let Some(adopted) = self.adopted()? {
            say_note(Some(&adopted));
            if adopted.is_new {
                password::store(self.state_dir, &adopted.set)?;
            }
            return Ok(Some(adopted.generation));
        }
        let stored = password::load(self.state_dir)?;
        output::err(match stored {
            Some(_) => "using the password of the previous launch",
            None => "warning: no password: traffic is encrypted, but anyone may join",
        });
        Ok(stored.map(|set| set.passwords().in_use()))
    }

    async fn say_what_is_next(&self, report: &StatusReport, generation: Option<u16>) {
        start::say_ready(report);
        output::err("run this on the next host:");
        let address = host::outward_address().await;
        let line = next_host(&self.options, self.given.as_ref(), generation, address);
        output::out(&line);
    }
}

fn runs_otherwise(how: &str) -> Failure {
    Failure::new(format!("a router is already running {how}"))
        .with_hint("stop it with `weave stop`, then launch again: addresses and names are kept")
}

fn names_options(options: &RouterOptions) -> bool {
    let without_password = RouterOptions {
        password: None,
        password_file: None,
        password_generation: None,
        ..options.clone()
    };
    without_password != RouterOptions::default()
}

fn say_note(adopted: Option<&Adopted>) {
    if let Some(note) = adopted.and_then(|adopted| adopted.note.as_ref()) {
        output::err(note);
    }
}

/// The one line to run on the next host; `generation` is that of the password.
fn next_host(
    options: &Options,
    given: Option<&Given>,
    generation: Option<u16>,
    address: Option<std::net::IpAddr>,
) -> String {
    let file = match given.map(|given| &given.how) {
        Some(How::File(path)) => format!(" --password-file {}", path.display()),
        Some(How::Flag | How::Environment) => " --password-file FILE".to_owned(),
        None if generation.is_some() => " --password-file FILE".to_owned(),
        None => String::new(),
    };
    let number = match generation {
        None | Some(0) => String::new(),
        Some(number) => format!(" --password-generation {number}"),
    };
    let address = address.map_or_else(
        || options.nickname.clone(),
        |ip| match ip {
            std::net::IpAddr::V6(_) if options.port != weave_wire::PORT => format!("[{ip}]"),
            std::net::IpAddr::V4(_) | std::net::IpAddr::V6(_) => ip.to_string(),
        },
    );
    let port = match options.port {
        weave_wire::PORT => String::new(),
        port => format!(":{port}"),
    };
    format!(
        "sudo weave launch{file}{number}{} {address}{port}",
        options.shared_args()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(port: u16, flags: &RouterOptions, generation: Option<u16>, ip: &str) -> String {
        let mut options = Options::resolve(
            &RouterOptions {
                nickname: Some("nyc".to_owned()),
                ..RouterOptions::default()
            },
            &Settings::default(),
        )
        .unwrap();
        options.port = port;
        let given = password::given(flags, &Settings::default()).unwrap();
        next_host(&options, given.as_ref(), generation, ip.parse().ok())
    }

    #[test]
    fn a_password_is_no_option_that_an_upgrade_must_repeat() {
        let mut options = RouterOptions {
            password: Some("secret".to_owned()),
            password_generation: Some(1),
            ..RouterOptions::default()
        };
        assert!(!names_options(&options));
        options.peers = vec!["192.0.2.1".to_owned()];
        assert!(names_options(&options));
    }

    #[test]
    fn the_line_for_the_next_host_repeats_what_it_needs_and_no_secret() {
        let flag = RouterOptions {
            password: Some("do-not-show-me".to_owned()),
            ..RouterOptions::default()
        };
        let none = RouterOptions::default();
        let lines = [
            line(6783, &flag, Some(0), "192.0.2.1"),
            line(6783, &none, Some(0), "192.0.2.1"),
            line(6783, &flag, Some(2), "192.0.2.1"),
            line(6783, &none, None, "2001:db8::1"),
            line(7000, &none, None, "2001:db8::1"),
            line(7000, &none, None, "unknown"),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }
}

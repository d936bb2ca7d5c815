//! The command line: parsing, dispatch, exit codes.
//!
//! Every command but `launch`, `stop`, `reset`, `router` and `password` is a
//! thin client of the router's socket. Text for people is made in [`view`], by
//! pure functions. Exit codes: 0 done (also when the reader of our output went
//! away), 1 failed, 2 usage, 3 router not running.

mod address;
mod args;
mod choices;
mod commands;
mod config;
mod doctor;
pub(crate) mod failure;
mod graph;
mod host;
mod launch;
mod log;
mod logs;
mod man;
mod options;
mod output;
pub(crate) mod password;
mod ping;
mod progress;
mod removed;
mod reset;
mod router;
mod selftest;
mod stop;
mod systemd;
mod top;
pub(crate) mod view;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use commands::ask;
use config::Settings;
use failure::Failure;

/// Parses the arguments of this process, runs the command, reports.
pub(crate) fn main() -> ExitCode {
    let settings = match config::load() {
        Ok(settings) => settings,
        Err(failure) => return failure::report(&failure),
    };
    match Cli::try_parse() {
        Ok(cli) => match run(cli, settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure::report(&error),
        },
        Err(error) => match removed::explain(&error) {
            Some(gone) => failure::report(&gone.into()),
            None => failure::report_usage(&error),
        },
    }
}

fn run(cli: Cli, settings: Settings) -> anyhow::Result<()> {
    let socket = settings.socket(cli.socket.as_deref());
    match cli.command {
        Command::Launch(args) => launch::run(&args, &settings, &socket),
        Command::Router(args) => router::run(&args, &settings, &socket),
        Command::Stop => stop::run(&socket),
        Command::Reset(args) => reset::run(args.force, &socket),
        Command::Password(args) => password::run(args, &socket),
        Command::Ping(args) => ping::run(&args, &socket),
        Command::Graph(args) => graph::run(&args, &socket),
        Command::Top(args) => top::run(&args, &socket),
        Command::Test(args) => selftest::run(&args, &socket),
        Command::Doctor(args) => doctor::run(&args, &socket),
        Command::Completions(args) => {
            output::out_raw(&man::completions(args.shell));
            Ok(())
        }
        Command::Logs(args) => logs::run(&args),
        Command::Man(args) => man::run(&args.dir),
        Command::Env(_) => not_needed("containers join with `docker run --net=weave`"),
        Command::Config(_) => {
            not_needed("there is no proxy for Docker's API: use `docker` as it is")
        }
        Command::Setup(_) => not_needed("this one binary is all there is"),
        Command::Prime(args) => commands::prime(&args, &socket),
        Command::Connect(args) => ask(&socket, async |it| commands::connect(it, args).await),
        Command::Forget(args) => ask(&socket, async |it| commands::forget(it, args).await),
        Command::Rmpeer(args) => ask(&socket, async |it| commands::rmpeer(it, args).await),
        Command::Status(args) => ask(&socket, async |it| commands::status(it, &args).await),
        Command::Ps(args) => ask(&socket, async |it| commands::ps(it, &args).await),
        Command::Attach(args) => ask(&socket, async |it| commands::attach(it, &args).await),
        Command::Detach(args) => ask(&socket, async |it| commands::detach(it, &args).await),
        Command::Expose(args) => ask(&socket, async |it| commands::expose(it, args).await),
        Command::Hide(args) => ask(&socket, async |it| commands::hide(it, &args).await),
        Command::DnsArgs(args) => ask(&socket, async |it| commands::dns_args(it, args.json).await),
        Command::DnsAdd(args) => ask(&socket, async |it| commands::dns_add(it, args).await),
        Command::DnsRemove(args) => ask(&socket, async |it| commands::dns_remove(it, args).await),
        Command::DnsLookup(args) => ask(&socket, async |it| commands::dns_lookup(it, &args).await),
        Command::Report(args) => ask(&socket, async |it| {
            commands::report(it, args.format.as_deref()).await
        }),
        Command::Version(args) => ask(&socket, async |it| commands::version(it, args.json).await),
    }
}

/// Scripts written for Weave Net go on: nothing on standard output, and success.
fn not_needed(why: &str) -> anyhow::Result<()> {
    output::err(&format!("not needed any more: {why}"));
    Ok(())
}

/// Runs a future on a runtime of its own, as commands need no more.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?
        .block_on(future)
}

//! `weave`: the command line, and the router daemon behind it.

#![forbid(unsafe_code)]

mod api;
mod cli;
mod daemon;
mod dns;
mod metrics;
mod passwords;

#[cfg(weave_null_cipher)]
compile_error!(
    "a router never runs with the null cipher: build it without `--cfg weave_null_cipher`"
);

fn main() -> std::process::ExitCode {
    cli::main()
}

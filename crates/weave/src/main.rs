//! `weave`: the command line, and the router daemon behind it.

mod api;
mod cli;
mod daemon;
mod dns;

fn main() -> std::process::ExitCode {
    cli::main()
}

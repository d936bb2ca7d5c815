//! Lines as people type them.

use std::path::PathBuf;

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_grammar_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_socket_stands_before_or_after_the_verb() {
    for line in [
        "weave --socket /w.sock status",
        "weave status --socket /w.sock",
        "weave status peers --socket=/w.sock --json",
    ] {
        let cli = parse(line).unwrap();
        assert_eq!(cli.socket, Some(PathBuf::from("/w.sock")), "{line}");
    }
}

#[test]
fn launch_takes_flags_and_peers_in_any_order() {
    let line =
        "weave launch 192.0.2.1 --nickname a host:7000 --port 7000 --no-dns --password secret-word";
    let Command::Launch(args) = parse(line).unwrap().command else {
        panic!("not launch");
    };
    let options = args.options;
    assert_eq!(options.peers, ["192.0.2.1", "host:7000"]);
    assert_eq!(options.port, Some(7000));
    assert_eq!(options.password.as_deref(), Some("secret-word"));
    assert!(options.no_dns);
}

#[test]
fn launch_can_be_strict_and_takes_what_weave_net_did() {
    let line = "weave launch --strict --trusted-subnets 10.0.0.0/8,192.0.2.0/24 192.0.2.1";
    let Command::Launch(args) = parse(line).unwrap().command else {
        panic!("not launch");
    };
    assert!(args.options.strict && !args.options.no_guard);
    assert_eq!(
        args.trusted_subnets.as_deref(),
        Some("10.0.0.0/8,192.0.2.0/24")
    );
    assert_eq!(args.options.peers, ["192.0.2.1"]);
}

#[test]
fn expose_takes_its_name_by_h_and_still_has_help() {
    let line = "weave expose -h a.weave.local 10.32.0.1/12 --without-masquerade -h b.weave.local";
    let Command::Expose(args) = parse(line).unwrap().command else {
        panic!("not expose");
    };
    assert_eq!(args.names, ["a.weave.local", "b.weave.local"]);
    assert_eq!(args.addresses, ["10.32.0.1/12"]);
    assert!(args.without_masquerade);
    let help = parse("weave expose --help").unwrap_err();
    assert_eq!(help.exit_code(), 0);
    assert_eq!(parse("weave expose -h").unwrap_err().exit_code(), 2);
}

#[test]
fn a_mistyped_verb_flag_or_part_is_answered_with_the_right_one() {
    for (line, suggestion) in [
        ("weave statsu", "'status'"),
        ("weave lanch", "'launch'"),
        ("weave launch --pasword-file x", "--password-file"),
        ("weave status conections", "'connections'"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(suggestion), "{line}: {error}");
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for line in [
        "weave launch --port 0",
        "weave launch --port 65536",
        "weave launch --password a --password-file b",
        "weave connect",
        "weave launch --resume 192.0.2.1",
        "weave launch --no-restart --systemd",
        "weave launch --log-level loud",
        "weave forget",
        "weave rmpeer --reason lost",
        "weave dns-lookup",
        "weave password",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    assert!(parse("weave connect --replace").is_ok());
}

#[test]
fn every_command_has_an_example_in_its_help() {
    for command in Cli::command().get_subcommands() {
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("Example"), "{}: {help}", command.get_name());
    }
}

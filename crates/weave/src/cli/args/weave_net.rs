//! Options and variables of Weave Net that mean nothing to `weave launch`: accepted, with a warning
//! that says what replaced them, so that scripts go on. `docs/from-weave-net.md` has them all.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// What stands behind an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true` and the like.
    Switch,
    /// A value.
    Value,
}

/// Options without their dashes, and what is there in their place.
pub(crate) const OPTIONS: &[(&str, Takes, &str)] = &[
    (
        "name",
        Takes::Value,
        "a peer's name follows from its key, so that nobody takes another's; --nickname is for people",
    ),
    (
        "host",
        Takes::Value,
        "the router listens on all addresses of the host; a firewall closes what it should not use",
    ),
    (
        "dns-listen-address",
        Takes::Value,
        "the DNS server listens where containers ask: on their networks and on Docker's bridge",
    ),
    (
        "dns-ttl",
        Takes::Value,
        "answers may be kept for 1 s, so that no name is stale",
    ),
    (
        "dns-fallback-timeout",
        Takes::Value,
        "a DNS server that does not answer is given up by itself",
    ),
    (
        "resolv-conf",
        Takes::Value,
        "the host's own /etc/resolv.conf is read, and followed when it changes",
    ),
    (
        "plugin",
        Takes::Switch,
        "the Docker plugin is part of the router; `weave router --no-docker` runs without",
    ),
    (
        "proxy",
        Takes::Switch,
        "there is no proxy for Docker's API: containers join with docker run --net=weave",
    ),
    (
        "H",
        Takes::Value,
        "there is no proxy for Docker's API: containers join with docker run --net=weave",
    ),
    (
        "without-dns",
        Takes::Switch,
        "docker network create -o weave.dns=false makes a network without DNS",
    ),
    (
        "no-rewrite-hosts",
        Takes::Switch,
        "nobody's /etc/hosts is rewritten: Docker writes it",
    ),
    (
        "no-default-ipalloc",
        Takes::Switch,
        "only containers that ask for a network of weave are given an address",
    ),
    (
        "hostname-from-label",
        Takes::Value,
        "docker run --hostname and --network-alias name a container",
    ),
    (
        "hostname-match",
        Takes::Value,
        "docker run --hostname and --network-alias name a container",
    ),
    (
        "hostname-replacement",
        Takes::Value,
        "docker run --hostname and --network-alias name a container",
    ),
    (
        "rewrite-inspect",
        Takes::Switch,
        "docker inspect shows the address by itself",
    ),
    (
        "no-multicast-route",
        Takes::Switch,
        "the route for multicast stays; `ip route del 224.0.0.0/4` in a container takes it away",
    ),
    ("token", Takes::Value, "there is no Weave Cloud any more"),
    (
        "min-protocol-version",
        Takes::Value,
        "two peers speak the highest version that both know",
    ),
    ("weave-bridge", Takes::Value, "the bridge is called weave"),
    (
        "docker-bridge",
        Takes::Value,
        "Docker is asked which bridge is its own",
    ),
    (
        "expect-npc",
        Takes::Switch,
        "there is no network policy controller",
    ),
    (
        "pkt-debug",
        Takes::Switch,
        "`weave report -f drops` counts what is dropped, by reason",
    ),
    (
        "profile",
        Takes::Value,
        "`weave report -f process` and /metrics show memory and processor time",
    ),
    (
        "bufsz",
        Takes::Value,
        "buffers have the size that the kernel allows",
    ),
    (
        "mtu",
        Takes::Value,
        "the MTU of each path is found by itself, and long frames are cut and joined again",
    ),
    (
        "http-addr",
        Takes::Value,
        "the control API is on the socket /run/weave/weave.sock, for root alone",
    ),
    (
        "metrics-addr",
        Takes::Value,
        "metrics are at --status-addr, under /metrics",
    ),
    (
        "docker-api",
        Takes::Value,
        "Docker is reached at its own socket, /run/docker.sock",
    ),
    ("datapath", Takes::Value, "there is no Open vSwitch"),
    ("no-fastdp", Takes::Switch, "there is one data path"),
    ("no-bridged-fastdp", Takes::Switch, "there is one data path"),
    ("db-prefix", Takes::Value, "the state is in /var/lib/weave"),
    (
        "proc-path",
        Takes::Value,
        "the host's /proc is found by itself",
    ),
    (
        "host-root",
        Takes::Value,
        "the host's files are found by themselves",
    ),
    (
        "awsvpc",
        Takes::Switch,
        "the overlay works in VPCs of AWS, too",
    ),
    (
        "peer-discovery-url",
        Takes::Value,
        "there is no Weave Cloud any more",
    ),
    (
        "advertise-address",
        Takes::Value,
        "peers see where a host's datagrams come from",
    ),
    (
        "plugin-v2",
        Takes::Switch,
        "the Docker plugin is part of the router",
    ),
    (
        "plugin-v2-multicast",
        Takes::Switch,
        "multicast works on every network",
    ),
    (
        "plugin-socket",
        Takes::Value,
        "there is one driver, weavemesh",
    ),
    (
        "plugin-mesh-socket",
        Takes::Value,
        "the driver's socket is where Docker looks for it",
    ),
    (
        "no-masq-local",
        Takes::Switch,
        "weave expose --without-masquerade keeps source addresses",
    ),
    ("tls", Takes::Switch, "there is no proxy for Docker's API"),
    (
        "tlsverify",
        Takes::Switch,
        "there is no proxy for Docker's API",
    ),
    (
        "tlscacert",
        Takes::Value,
        "there is no proxy for Docker's API",
    ),
    (
        "tlscert",
        Takes::Value,
        "there is no proxy for Docker's API",
    ),
    ("tlskey", Takes::Value, "there is no proxy for Docker's API"),
    (
        "no-detect-tls",
        Takes::Switch,
        "there is no proxy for Docker's API",
    ),
    (
        "print-peer-name",
        Takes::Switch,
        "weave report -f router.name prints it",
    ),
];

/// The same of the environment.
pub(crate) const VARIABLES: &[(&str, &str)] = &[
    (
        "WEAVE_HTTP_ADDR",
        "the control API is on the socket /run/weave/weave.sock, for root alone",
    ),
    (
        "WEAVE_MTU",
        "the MTU of each path is found by itself, and long frames are cut and joined again",
    ),
    ("WEAVE_NO_FASTDP", "there is one data path"),
    ("WEAVE_NO_BRIDGED_FASTDP", "there is one data path"),
    ("WEAVE_CONTAINER_NAME", "the container is called weave"),
    (
        "WEAVE_DOCKER_ARGS",
        "the router's container is made as it must be; see docker inspect weave",
    ),
    (
        "WEAVEEXEC_DOCKER_ARGS",
        "there is no container for commands",
    ),
    ("WEAVE_CNI_PLUGIN_DIR", "there is no CNI plugin"),
    (
        "WEAVE_VERSION",
        "this program is its own version: install another one",
    ),
    ("WEAVE_DEBUG", "WEAVE_LOG=debug, or --log-level debug"),
    ("DOCKER_BRIDGE", "Docker is asked which bridge is its own"),
    (
        "DOCKERHUB_USER",
        "no image is pulled: this program makes its own",
    ),
    (
        "HAIRPIN_MODE",
        "ports of the bridge are set as they must be",
    ),
    ("CHECKPOINT_DISABLE", "nothing phones home"),
    ("AWSVPC", "the overlay works in VPCs of AWS, too"),
    ("PROXY_HOST", "there is no proxy for Docker's API"),
    ("COVERAGE", "builds for coverage are made with cargo"),
];

/// Those options that were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FromWeaveNet {
    given: Vec<&'static str>,
}

impl FromWeaveNet {
    /// A warning for each option that was given and each variable that `is_set`.
    pub(crate) fn warnings(&self, is_set: impl Fn(&str) -> bool) -> Vec<String> {
        let options = OPTIONS
            .iter()
            .filter(|(name, _, _)| self.given.contains(name));
        let options = options.map(|(name, _, instead)| (dashed(name), instead));
        let variables = VARIABLES.iter().filter(|(name, _)| is_set(name));
        let variables = variables.map(|(name, instead)| ((*name).to_owned(), instead));
        options
            .chain(variables)
            .map(|(name, instead)| format!("warning: {name} does nothing: {instead}"))
            .collect()
    }
}

/// As it is typed.
pub(crate) fn dashed(name: &str) -> String {
    let dashes = if name.len() == 1 { "-" } else { "--" };
    format!("{dashes}{name}")
}

impl FromArgMatches for FromWeaveNet {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_given = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let names = OPTIONS.iter().map(|(name, _, _)| *name);
        Ok(Self {
            given: names.filter(|name| is_given(name)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for FromWeaveNet {
    fn augment_args(command: Command) -> Command {
        command.args(OPTIONS.iter().map(|(name, takes, _)| option(name, *takes)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn option(name: &'static str, takes: Takes) -> Arg {
    let arg = Arg::new(name).hide(true).action(ArgAction::Append);
    let mut letters = name.chars();
    let arg = match (letters.next(), letters.next()) {
        (Some(letter), None) => arg.short(letter),
        (Some(_), Some(_)) | (None, _) => arg.long(name),
    };
    match takes {
        Takes::Value => arg.num_args(1),
        Takes::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command as Verb};
    use super::*;

    /// Every option of Weave Net's `launch`, and each that this one has of its own name.
    const DOCUMENT: &str = include_str!("../../../../../docs/from-weave-net.md");

    fn launch(words: &[&str]) -> FromWeaveNet {
        let words = ["weave", "launch"].iter().chain(words);
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
        let Verb::Launch(args) = cli.command else {
            panic!("not launch");
        };
        args.from_weave_net
    }

    /// First cells of the rows of a table: `--name`, `WEAVE_MTU`.
    fn rows(begin: &str) -> Vec<String> {
        let lines = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = lines.filter_map(|line| line.split('`').next().map(str::to_owned));
        names.filter(|name| name.starts_with(begin)).collect()
    }

    #[test]
    fn each_option_is_accepted_and_its_warning_says_what_replaced_it() {
        for (name, takes, instead) in OPTIONS {
            let dashed = dashed(name);
            let forms: &[&[&str]] = match takes {
                Takes::Value => &[&[&dashed, "1"]],
                Takes::Switch => &[&[&dashed], &[&format!("{dashed}=false")]],
            };
            for form in forms {
                let warnings = launch(form).warnings(|_| false);
                assert_eq!(
                    warnings,
                    [format!("warning: {dashed} does nothing: {instead}")]
                );
            }
        }
        assert_eq!(launch(&["192.0.2.1"]), FromWeaveNet::default());
    }

    #[test]
    fn each_variable_is_warned_of() {
        let none = FromWeaveNet::default();
        for (name, instead) in VARIABLES {
            let warnings = none.warnings(|set| set == *name);
            assert_eq!(
                warnings,
                [format!("warning: {name} does nothing: {instead}")]
            );
        }
        assert!(none.warnings(|_| false).is_empty());
    }

    #[test]
    fn the_document_has_each_option_and_variable_and_what_became_of_it() {
        let (options, variables) = (rows("-"), rows("W"));
        for (name, _, _) in OPTIONS {
            assert!(options.contains(&dashed(name)), "{name}");
        }
        for (name, _) in VARIABLES {
            assert!(DOCUMENT.contains(&format!("| `{name}` |")), "{name}");
        }
        assert!(
            options.len() > 60 && variables.len() > 8,
            "{}",
            options.len()
        );
    }

    #[test]
    fn the_document_has_each_command_that_is_gone() {
        for (name, instead) in super::super::super::removed::REMOVED {
            let row = format!("| `weave {name}` | gone: {instead} |");
            assert!(DOCUMENT.contains(&row), "{row}");
        }
    }

    #[test]
    fn each_option_in_the_document_is_one_of_launch() {
        let command = <Cli as clap::CommandFactory>::command();
        let launch = command.find_subcommand("launch").unwrap();
        for name in rows("--") {
            let known = launch
                .get_arguments()
                .any(|arg| arg.get_long() == name.strip_prefix("--"));
            assert!(
                known || name == "--version" || ELSEWHERE.contains(&name.as_str()),
                "{name}"
            );
        }
    }

    /// Options that other changes bring.
    const ELSEWHERE: &[&str] = &["--ipalloc-init", "--dns-domain"];
}

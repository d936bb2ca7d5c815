//! The grammar of the command line, and its help.

mod diagnosis;
mod password;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::choices::{CipherChoice, PqChoice};
pub(crate) use diagnosis::{DoctorArgs, GraphArgs, PingArgs, TestArgs};
pub(crate) use password::{PasswordAddArgs, PasswordArgs, PasswordCommand, PasswordRemoveArgs};

/// A network for containers on several Docker hosts: encrypted, by name.
#[derive(Debug, Parser)]
#[command(
    name = "weave",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        weave launch --password-file /etc/weave/password      on the first host\n  \
        weave launch --password-file /etc/weave/password 192.0.2.1   on the others\n  \
        docker run -d --name db --net=weave postgres          reached as `db` from all hosts\n  \
        weave status                                          who is connected\n\n\
        Options come from the flag, else from WEAVE_* in the environment, else from \
        /etc/weave/weave.toml."
)]
pub(crate) struct Cli {
    /// Unix socket of the router [default: /run/weave/weave.sock]
    #[arg(long, global = true, env = "WEAVE_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the router of this host and connect it to peers
    #[command(after_help = "Examples:\n  \
        weave launch --password-file /etc/weave/password\n  \
        weave launch --password-file /etc/weave/password 192.0.2.1 node2.example.com:6783\n  \
        weave launch --ipalloc-range 10.2.0.0/16 --nickname web-1 192.0.2.1\n  \
        weave launch --systemd --password-file /etc/weave/password 192.0.2.1\n\n\
        The first host of a mesh names no peer; every other host names at least one.\n\
        Without password options a password stored by an earlier launch is used.")]
    Launch(LaunchArgs),
    /// Connect to further peers
    #[command(after_help = "Examples:\n  \
        weave connect 192.0.2.7\n  \
        weave connect --replace node1.example.com node2.example.com:6783")]
    Connect(ConnectArgs),
    /// Stop connecting to peers, named as at `launch` or `connect`
    #[command(after_help = "Example:\n  weave forget 192.0.2.7")]
    Forget(ForgetArgs),
    /// Ban peers from the whole mesh, for ever
    #[command(after_help = "Examples:\n  \
        weave rmpeer web-3\n  \
        weave rmpeer 4a:0f:f6:ec:1c:93 --reason 'stolen from the van'\n\n\
        A peer is named by its nickname, its name, its key, or four or more characters that its\n\
        name or key begins with. All hosts end their sessions with it at once and admit it no\n\
        more, also after restarts. A ban cannot be lifted: `weave reset` on that host makes a new\n\
        peer of it. Whoever has the host knows the password: change it too.")]
    Rmpeer(RmpeerArgs),
    /// Stop the router; containers on this host go on talking to each other
    #[command(after_help = "Example:\n  weave stop")]
    Stop,
    /// Show the state of the router, its connections, peers, names and addresses
    #[command(after_help = "Examples:\n  \
        weave status\n  \
        weave status connections\n  \
        weave status peers --json")]
    Status(StatusArgs),
    /// Say on which layer a container or peer is not reached, and why
    #[command(after_help = "Examples:\n  \
        weave ping db\n  \
        weave ping 10.32.0.5 -c 1\n  \
        weave ping web-1 --json            a peer, by its nickname\n\n\
        Layers: its name, who has the address, the path to that host, the router there, its bridge\n\
        and firewall, the container. Exit status 1: one of them fails.")]
    Ping(PingArgs),
    /// Look for what is wrong on this host and in the mesh, and say what to do
    #[command(after_help = "Examples:\n  \
        weave doctor\n  \
        weave doctor --json | jq -r '.findings[].check'\n\n\
        Works without a running router, too, and changes nothing. Exit status 1: there are errors;\n\
        warnings and notes alone are none.")]
    Doctor(DoctorArgs),
    /// Send real traffic to every peer, and say what comes through
    #[command(after_help = "Examples:\n  \
        weave test\n  \
        weave test web-1 db-2 --json\n\n\
        From a throw-away namespace here to one that each peer lends for a minute: ping, packets as\n\
        long as the MTU, UDP, multicast, TCP for a second. Takes about two seconds for each peer.\n\
        Nothing stays. Exit status 1: something did not come through.")]
    Test(TestArgs),
    /// Draw the mesh: who reaches whom directly, through a relay, or not at all
    #[command(after_help = "Examples:\n  \
        weave graph\n  \
        weave graph --svg > mesh.svg\n  \
        weave graph --dot | dot -Tpng > mesh.png\n\n\
        Of other hosts it shows what they tell, which is sixteen neighbours each.")]
    Graph(GraphArgs),
    /// List the containers of this host that are on the network
    #[command(after_help = "Examples:\n  weave ps\n  weave ps db web")]
    Ps(PsArgs),
    /// Join a running container, or any network namespace, to the network
    #[command(after_help = "Examples:\n  \
        weave attach db                             an address of the default subnet\n  \
        weave attach 10.32.7.1/12 db                this very address\n  \
        weave attach net:10.2.1.0/24 net:default db one address of each\n  \
        weave attach --netns /run/netns/lab         a namespace without a container\n\n\
        An address is [ip:]CIDR, net:CIDR or net:default. Prints the addresses given.")]
    Attach(AttachArgs),
    /// Take a container, or single addresses of it, off the network
    #[command(after_help = "Examples:\n  \
        weave detach db                 all its addresses\n  \
        weave detach 10.32.7.1/12 db\n\n\
        Prints the addresses removed.")]
    Detach(AttachArgs),
    /// Give this host itself addresses on the network
    #[command(
        disable_help_flag = true,
        after_help = "Examples:\n  \
        weave expose                                an address of the default subnet\n  \
        weave expose 10.32.7.1/12 -h gw.weave.local this very address, with a name\n  \
        weave expose net:10.2.1.0/24 net:default    one address of each\n  \
        weave expose --without-masquerade           containers see who really calls\n\n\
        Then this host reaches the containers of all hosts and they reach it. Machines that have\n\
        a route to the subnet by way of this host reach them too.\n\
        An address is [ip:]CIDR, net:CIDR or net:default. Prints the addresses given."
    )]
    Expose(ExposeArgs),
    /// Take addresses that `expose` gave off this host
    #[command(after_help = "Examples:\n  \
        weave hide                      all of them\n  \
        weave hide 10.32.7.1/12\n\n\
        Prints the addresses removed.")]
    Hide(HideArgs),
    /// Give a container, or any address, a further name
    #[command(
        disable_help_flag = true,
        after_help = "Examples:\n  \
        weave dns-add web -h shop.weave.local                  all addresses of a container\n  \
        weave dns-add 10.32.7.1 web                            as web.weave.local, for this address\n  \
        weave dns-add 192.0.2.8 192.0.2.9 -h db.weave.local    of no container\n\n\
        All hosts see it at once. The names of a container go with it; those of no container stay\n\
        until `dns-remove`. Restarts of the router change nothing."
    )]
    DnsAdd(DnsNameArgs),
    /// Take away names that `dns-add` gave
    #[command(
        disable_help_flag = true,
        after_help = "Examples:\n  \
        weave dns-remove web                        all that it was given\n  \
        weave dns-remove web -h shop.weave.local\n  \
        weave dns-remove 192.0.2.8 -h db.weave.local\n  \
        weave dns-remove -h db.weave.local          of no container, whatever its addresses"
    )]
    DnsRemove(DnsNameArgs),
    /// Print the addresses of a name
    #[command(after_help = "Examples:\n  weave dns-lookup db\n  weave dns-lookup db.weave.local")]
    DnsLookup(DnsLookupArgs),
    /// Print what gives a container on another Docker network the DNS server of this host
    #[command(after_help = "Example:\n  \
        docker run $(weave dns-args) alpine nslookup db.weave.local\n\n\
        Containers on networks of weave need none of it. Prints nothing where DNS is off.")]
    DnsArgs,
    /// Wait until addresses can be given out at once
    #[command(after_help = "Examples:\n  \
        weave launch 192.0.2.1 && weave prime && docker run --net=weave …\n  \
        weave prime --timeout 5\n\n\
        Without it the first container waits, which takes up to ten seconds on a new mesh.")]
    Prime(PrimeArgs),
    /// Not needed any more: containers join with --net=weave
    #[command(hide = true, after_help = "Example:\n  weave env")]
    Env(IgnoredArgs),
    /// Not needed any more: there is no proxy for Docker's API
    #[command(hide = true, after_help = "Example:\n  weave config")]
    Config(IgnoredArgs),
    /// Not needed any more: this one binary is all there is
    #[command(hide = true, after_help = "Example:\n  weave setup")]
    Setup(IgnoredArgs),
    /// Print what completes commands and options in a shell
    #[command(after_help = "Examples:\n  \
        weave completions bash > /etc/bash_completion.d/weave\n  \
        weave completions zsh > /usr/local/share/zsh/site-functions/_weave\n  \
        weave completions fish > /etc/fish/completions/weave.fish")]
    Completions(CompletionsArgs),
    /// Print everything the router knows, as JSON
    #[command(after_help = "Example:\n  weave report | jq .router.connections")]
    Report(ReportArgs),
    /// Print the versions of this program and of the running router
    #[command(after_help = "Example:\n  weave version")]
    Version(JsonArgs),
    /// Leave the mesh for good and remove everything of weave from this host
    #[command(after_help = "Examples:\n  weave reset\n  weave reset --force")]
    Reset(ResetArgs),
    /// Run the router in the foreground
    #[command(after_help = "Examples:\n  \
        weave router --no-docker --password-file /etc/weave/password\n  \
        weave router --state-dir /tmp/w --socket /tmp/w.sock --port 7001 192.0.2.1")]
    Router(RouterArgs),
    /// Make passwords, and change the password of the mesh while it runs
    #[command(after_help = "Examples:\n  \
        weave password generate > /etc/weave/password\n\n\
        To change the password of a running mesh, on every host:\n  \
        weave password add --password-file /etc/weave/password   prints its number, such as 1\n\
        then, when every host has it:\n  \
        weave password use 1\n\
        then, when `weave password list` shows no sessions on the former one:\n  \
        weave password remove 0")]
    Password(PasswordArgs),
}

/// Options of `launch` and `router`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct RouterOptions {
    /// Password of the mesh; other users of this host can see it while the command runs
    #[arg(long, value_name = "PASSWORD", conflicts_with = "password_file")]
    pub(crate) password: Option<String>,
    /// File whose only line is the password of the mesh
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Number of the password, where it is not the first one of the mesh [default: 0]
    #[arg(long, env = "WEAVE_PASSWORD_GENERATION", value_name = "N")]
    pub(crate) password_generation: Option<u16>,
    /// Name of this host for people [default: its host name]
    #[arg(long, env = "WEAVE_NICKNAME", value_name = "NAME")]
    pub(crate) nickname: Option<String>,
    /// Range of all addresses, the same on every host [default: 10.32.0.0/12]
    #[arg(long, env = "WEAVE_IPALLOC_RANGE", value_name = "CIDR")]
    pub(crate) ipalloc_range: Option<String>,
    /// Subnet of the Docker network `weave` [default: the whole range]
    #[arg(long, env = "WEAVE_IPALLOC_DEFAULT_SUBNET", value_name = "CIDR")]
    pub(crate) ipalloc_default_subnet: Option<String>,
    /// Seconds after which space of hosts without a sign of life is taken back; for tests, the same on every host [default: 604800]
    #[arg(long, hide = true, env = "WEAVE_IPALLOC_TAKE_BACK", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(60..))]
    pub(crate) ipalloc_take_back: Option<u64>,
    /// UDP port of the mesh, the same on every host [default: 6783]
    #[arg(long, env = "WEAVE_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Where the state can be read by HTTP, or `off` [default: 127.0.0.1:6782]
    #[arg(long, env = "WEAVE_STATUS_ADDR", value_name = "ADDR:PORT")]
    pub(crate) status_addr: Option<String>,
    /// Cipher of the traffic between hosts; `auto` is what the processors of both do faster [default: auto]
    #[arg(long, env = "WEAVE_CIPHER", value_name = "CIPHER")]
    pub(crate) cipher: Option<CipherChoice>,
    /// Key exchange that withstands quantum computers (ML-KEM-768 beside X25519) [default: prefer]
    #[arg(long, env = "WEAVE_PQ", value_name = "WHEN")]
    pub(crate) pq: Option<PqChoice>,
    /// Domain that names lie in, the same on every host [default: weave.local.]
    #[arg(long, env = "WEAVE_DNS_DOMAIN", value_name = "DOMAIN")]
    pub(crate) dns_domain: Option<String>,
    /// Serve no DNS
    #[arg(long, env = "WEAVE_NO_DNS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_dns: bool,
    /// Move each frame and datagram by itself: slow, for network drivers that spoil longer ones
    #[arg(long, env = "WEAVE_NO_OFFLOADS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_offloads: bool,
    /// Let only announced stations and addresses into the networks; the same on every host
    #[arg(long, env = "WEAVE_STRICT", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) strict: bool,
    /// Let containers of this host send with any address, as routers and virtual addresses need
    #[arg(long, env = "WEAVE_NO_GUARD", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_guard: bool,
    /// Connect to the given peers only, not to those that they know; the rest is reached through them
    #[arg(long, env = "WEAVE_NO_DISCOVERY", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_discovery: bool,
    /// Hosts up to which each is connected to each; in a larger mesh a connection is made when there is something to send; 0: no limit [default: 50]
    #[arg(long, env = "WEAVE_CONN_LIMIT", value_name = "HOSTS")]
    pub(crate) conn_limit: Option<usize>,
    /// Peers to connect to, HOST[:PORT]
    #[arg(value_name = "PEER")]
    pub(crate) peers: Vec<String>,
}

/// `weave launch`.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// Run the router as a service of systemd, which starts it before Docker, not as a container
    #[arg(long)]
    pub(crate) systemd: bool,
    /// Accepted as Weave Net's, and ignored: traffic is encrypted everywhere
    #[arg(long, value_name = "CIDR,...")]
    pub(crate) trusted_subnets: Option<String>,
    /// What the router is started with.
    #[command(flatten)]
    pub(crate) options: RouterOptions,
}

/// `weave router`.
#[derive(Debug, Args)]
pub(crate) struct RouterArgs {
    /// What the router is started with.
    #[command(flatten)]
    pub(crate) options: RouterOptions,
    /// Directory of identity, addresses and password [default: /var/lib/weave]
    #[arg(long, env = "WEAVE_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Serve no Docker plugin and watch no containers
    #[arg(long)]
    pub(crate) no_docker: bool,
    /// Tells a launch from a restart: peers of a new launch replace those kept on disk
    #[arg(long, hide = true, value_name = "ID")]
    pub(crate) launch_id: Option<String>,
}

/// `weave connect`.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Drop all other targets
    #[arg(long)]
    pub(crate) replace: bool,
    /// Peers, HOST[:PORT]
    #[arg(value_name = "PEER", required_unless_present = "replace")]
    pub(crate) peers: Vec<String>,
}

/// `weave forget`.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Peers, as `weave status targets` shows them
    #[arg(value_name = "PEER", required = true)]
    pub(crate) peers: Vec<String>,
}

/// `weave rmpeer`.
#[derive(Debug, Args)]
pub(crate) struct RmpeerArgs {
    /// Why, for whoever reads `weave status peers`
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) reason: String,
    /// Peers, as `weave status peers` shows them
    #[arg(value_name = "PEER", required = true)]
    pub(crate) peers: Vec<String>,
}

/// A part of the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusView {
    /// Peers to connect to, as typed
    Targets,
    /// Connections of this router, with the reason for each that is not established
    Connections,
    /// All live peers and their connections, and those that are banned
    Peers,
    /// Names and their addresses
    Dns,
    /// Who owns which part of the address range
    Ipam,
}

/// `weave status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this part
    #[arg(value_enum, value_name = "PART")]
    pub(crate) view: Option<StatusView>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Only these containers, by name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave attach` and `weave detach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// A network namespace by path, in place of a container
    #[arg(long, value_name = "PATH")]
    pub(crate) netns: Option<PathBuf>,
    /// Addresses, and the container by name or id
    #[arg(value_name = "ADDRESS|CONTAINER")]
    pub(crate) operands: Vec<String>,
}

/// `weave expose`.
#[derive(Debug, Args)]
pub(crate) struct ExposeArgs {
    /// Name for these addresses, within the DNS domain; may be given again
    #[arg(short = 'h', value_name = "FQDN")]
    pub(crate) names: Vec<String>,
    /// Leave sources as they are where traffic passes this host to or from elsewhere
    #[arg(long)]
    pub(crate) without_masquerade: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Addresses [default: net:default]
    #[arg(value_name = "ADDRESS")]
    pub(crate) addresses: Vec<String>,
}

/// `weave hide`.
#[derive(Debug, Args)]
pub(crate) struct HideArgs {
    /// Addresses [default: all]
    #[arg(value_name = "ADDRESS")]
    pub(crate) addresses: Vec<String>,
}

/// `weave dns-add` and `weave dns-remove`.
#[derive(Debug, Args)]
pub(crate) struct DnsNameArgs {
    /// Name within the DNS domain; may be given again [default: that of the container]
    #[arg(short = 'h', value_name = "FQDN")]
    pub(crate) names: Vec<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Addresses, and the container by name or id
    #[arg(value_name = "IP|CONTAINER")]
    pub(crate) operands: Vec<String>,
}

/// `weave prime`.
#[derive(Debug, Args)]
pub(crate) struct PrimeArgs {
    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
}

/// Verbs of Weave Net that do nothing.
#[derive(Debug, Args)]
pub(crate) struct IgnoredArgs {
    /// Ignored
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<String>,
}

/// `weave completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `weave dns-lookup`.
#[derive(Debug, Args)]
pub(crate) struct DnsLookupArgs {
    /// Name, with or without the domain
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Accepted for symmetry: a report is always JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Commands with no other options.
#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weave reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// Go on although the router does not run, peers do not answer or containers are attached
    #[arg(long)]
    pub(crate) force: bool,
}

#[cfg(test)]
mod tests {
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
        let line = "weave launch 192.0.2.1 --nickname a host:7000 --port 7000 --no-dns --password secret-word";
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
        let line =
            "weave expose -h a.weave.local 10.32.0.1/12 --without-masquerade -h b.weave.local";
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
}

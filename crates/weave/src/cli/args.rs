//! The grammar of the command line, and its help.

mod containers;
mod diagnosis;
mod names;
mod password;
mod peers;
mod router;
mod state;
#[cfg(test)]
mod tests;
mod weave_net;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use containers::{AttachArgs, ExposeArgs, HideArgs, PsArgs};
pub(crate) use diagnosis::{DoctorArgs, GraphArgs, PingArgs, TestArgs};
pub(crate) use names::{DnsLookupArgs, DnsNameArgs};
pub(crate) use password::{PasswordAddArgs, PasswordArgs, PasswordCommand, PasswordRemoveArgs};
pub(crate) use peers::{ConnectArgs, ForgetArgs, RmpeerArgs};
pub(crate) use router::{LaunchArgs, RouterArgs, RouterOptions};
pub(crate) use state::{
    CompletionsArgs, IgnoredArgs, JsonArgs, LogsArgs, ManArgs, PrimeArgs, ReportArgs, ResetArgs,
    StatusArgs, StatusView, TopArgs,
};

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
    /// Show live what passes between this host and each peer, and in and out of its containers
    #[command(after_help = "Examples:\n  \
        weave top\n  \
        weave top --interval 5 --once             one table, after 5 s\n  \
        weave top --json | jq '.peers[] | {nickname, rate: .received.bits_per_second}'\n\n\
        The busiest come first. Keys: q, Esc or Ctrl-C ends it, s changes the order, Tab, p or c the\n\
        table that the arrows scroll. IN and OUT of a peer are as seen from this host, those of a\n\
        container as seen from there. Where standard output is no terminal: one table.")]
    Top(TopArgs),
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
    DnsArgs(JsonArgs),
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
    #[command(after_help = "Examples:\n  \
        weave report | jq .router.connections\n  \
        weave report -f router.name\n  \
        weave report -f '{{.Router.Name}} {{json .Router.Targets}}'\n\n\
        Fields may be spelled as Weave Net did; templates of Go are not understood.")]
    Report(ReportArgs),
    /// Print the log of the router
    #[command(after_help = "Examples:\n  \
        weave logs --tail 50\n  \
        weave logs --follow --since 10m\n\n\
        Of the container `weave` it is what Docker keeps, of the service what the journal does.")]
    Logs(LogsArgs),
    /// Write the manual pages
    #[command(after_help = "Example:\n  weave man /usr/local/share/man/man1")]
    Man(ManArgs),
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

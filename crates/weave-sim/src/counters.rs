//! How often things happened: a run in which no fault struck proves little.

use std::fmt;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $text:literal),+ $(,)?) => {
        /// How often each thing happened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64),+
        }

        impl Counters {
            /// Adds up two runs.
            pub const fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }
        }

        impl fmt::Display for Counters {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let all = [$((self.$name, $text)),+];
                for (index, (count, text)) in all.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{count} {text}")?;
                }
                Ok(())
            }
        }
    };
}

counters! {
    /// Datagrams handed to the network.
    datagrams => "datagrams",
    /// Datagrams that the network lost.
    lost => "lost",
    /// Datagrams that the network doubled.
    doubled => "doubled",
    /// Datagrams that the network held back so that later ones overtook them.
    reordered => "reordered",
    /// Datagrams that were too long for their path, and were not to be fragmented or could not.
    too_long => "too long for the path",
    /// Datagrams that met a partition.
    blocked => "blocked",
    /// Routers that died.
    crashes => "crashes",
    /// Routers that left with a goodbye.
    stops => "stops",
    /// Routers that came back one version newer.
    upgrades => "upgrades",
    /// Routers that came back one version older.
    downgrades => "downgrades",
    /// Ends of sessions of the newer version when all was over.
    next_sessions => "ends of newer sessions",
    /// Ends of sessions whose keys were made with a KEM when all was over.
    kem_sessions => "ends of post-quantum sessions",
    /// Older programs that left records of newer ones alone.
    newer_records => "newer records kept",
    /// Times that the network broke in two.
    partitions => "partitions",
    /// Times that one direction broke only.
    one_way => "one-way breaks",
    /// Links whose MTU changed.
    mtu_changes => "changes of an MTU",
    /// Writes lost in a crash.
    writes_lost => "writes lost",
    /// Writes cut short by a crash.
    writes_torn => "torn",
    /// Writes that survived a crash which an earlier one did not.
    writes_reordered => "overtaken",
    /// Writes that the disk refused.
    writes_refused => "refused",
    /// Disks that were full or read-only for a while.
    disks_full => "disks full for a while",
    /// Starts that failed because of that.
    starts_refused => "starts refused",
    /// Disks that came back as they were some time before.
    disks_set_back => "disks set back",
    /// Starts after that in which the router said so.
    set_backs_noticed => "noticed",
    /// Hosts that were banned.
    bans => "banned",
    /// Addresses asked for.
    asked => "addresses asked",
    /// Addresses given.
    given => "given",
    /// Addresses refused.
    refused => "refused",
    /// Endpoints that lost an address to an old claim for a while.
    conflicts => "lost to old claims",
    /// Containers that ended.
    ended => "containers ended",
    /// Frames sent from container to container.
    frames => "frames",
    /// Of these, delivered.
    delivered => "delivered",
    /// Ends of sessions whose path MTU was right in the end, with frames flowing.
    mtus_found => "path MTUs found",
    /// Virtual milliseconds from the last fault until everybody agreed.
    converged_ms => "ms to converge",
}

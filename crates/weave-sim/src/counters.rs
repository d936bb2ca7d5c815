//! How often things happened: a run in which no fault struck proves little.

use std::fmt;

macro_rules! counters {
    ($($(#[$doc:meta])* $need:ident $name:ident => $text:literal),+ $(,)?) => {
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

            /// What never happened and must, in a number of runs that proves something.
            pub fn missing(&self) -> Vec<&'static str> {
                let all = [$((Need::$need, self.$name, $text)),+];
                let missing = all.into_iter().filter(|(need, count, _)| {
                    *need == Need::must && *count == 0
                });
                missing.map(|(_, _, text)| text).collect()
            }
        }

        impl fmt::Display for Counters {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let all = [$((self.$name, $text)),+];
                for (count, text) in all {
                    writeln!(f, "{count:>12} {text}")?;
                }
                Ok(())
            }
        }
    };
}

/// Whether a thing must happen in some run of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "words of the table below")]
enum Need {
    must,
    may,
}

counters! {
    /// Datagrams handed to the network.
    must datagrams => "datagrams",
    /// Bytes of them, with those of their headers of IP and UDP.
    must bytes => "bytes",
    /// Datagrams that the network lost.
    must lost => "datagrams lost",
    /// Times that a direction of a link began to lose in a burst.
    must bursts => "bursts of loss",
    /// Datagrams lost in them.
    must lost_in_bursts => "datagrams lost in bursts",
    /// Copies of datagrams that arrived with flipped bits.
    must corrupted => "datagrams corrupted",
    /// Datagrams that the network doubled.
    must doubled => "datagrams doubled",
    /// Datagrams that the network held back so that later ones overtook them.
    must reordered => "datagrams held back",
    /// Of these, for longer than any round trip takes.
    must held_long => "of these for long",
    /// Datagrams that were too long for their path, and were not to be fragmented or could not.
    must too_long => "datagrams too long for the path",
    /// Datagrams that found a queue full, where lines have a bandwidth.
    may queued_out => "datagrams lost to full queues",
    /// Datagrams that met a partition.
    must blocked => "datagrams blocked",
    /// Routers that died.
    must crashes => "crashes",
    /// Routers that left with a goodbye.
    must stops => "stops",
    /// Routers that did nothing for a while and went on.
    must pauses => "pauses",
    /// Datagrams that were lost because they waited for those.
    must buffer_overruns => "datagrams lost to overrun buffers",
    /// Hosts that were at another address all at once.
    must roamings => "new addresses",
    /// Hosts that were at another port all at once.
    must rebindings => "new ports",
    /// Mappings that NATs made.
    must nat_mappings => "NAT mappings",
    /// Datagrams that NATs did not let in.
    must nat_refusals => "datagrams refused by NATs",
    /// Ends of sessions of hosts behind NATs when all was over that lead through no relay,
    must direct_through_nats => "ends of direct sessions through NATs",
    /// and that lead through one.
    may relayed_through_nats => "ends of relayed sessions of hosts behind NATs",
    /// Routers that came back one version newer.
    must upgrades => "upgrades",
    /// Routers that came back one version older.
    must downgrades => "downgrades",
    /// Ends of sessions of the newer version when all was over.
    must next_sessions => "ends of newer sessions",
    /// Ends of sessions whose keys were made with a KEM when all was over.
    must kem_sessions => "ends of post-quantum sessions",
    /// Older programs that left records of newer ones alone.
    may newer_records => "newer records kept",
    /// Times that the network broke in two.
    must partitions => "partitions",
    /// Times that one direction broke only.
    must one_way => "one-way breaks",
    /// Links whose MTU changed.
    must mtu_changes => "changes of an MTU",
    /// Writes lost in a crash.
    must writes_lost => "writes lost",
    /// Writes cut short by a crash.
    must writes_torn => "writes torn",
    /// Writes that survived a crash which an earlier one did not.
    may writes_reordered => "writes that overtook lost ones",
    /// Writes that the disk refused.
    must writes_refused => "writes refused",
    /// Disks that were full or read-only for a while.
    must disks_full => "disks full for a while",
    /// Starts that failed because of that.
    may starts_refused => "starts refused",
    /// Disks that came back as they were some time before.
    must disks_set_back => "disks set back",
    /// Starts after that in which the router said so.
    may set_backs_noticed => "of these noticed",
    /// Hosts that were banned.
    must bans => "hosts banned",
    /// Datagrams that the stranger sent.
    must forged => "datagrams forged",
    /// Phases of runs after which all was looked at.
    must phases => "phases",
    /// Sessions that began, counted at both ends.
    must sessions_begun => "ends of sessions begun",
    /// Sessions that ended while their router went on.
    must sessions_ended => "ends of sessions lost",
    /// Datagrams dropped because they had been received before.
    must replays_dropped => "replays dropped",
    /// Datagrams dropped because their seal did not fit.
    must forgeries_dropped => "broken seals dropped",
    /// Datagrams dropped because nobody had their key.
    must keyless_dropped => "datagrams without key dropped",
    /// Handshake and control messages dropped.
    must messages_dropped => "messages dropped",
    /// Addresses asked for.
    must asked => "addresses asked",
    /// Addresses given.
    must given => "addresses given",
    /// Addresses refused.
    must refused => "addresses refused",
    /// Endpoints that lost an address to an old claim for a while.
    may conflicts => "addresses lost to old claims",
    /// Containers that ended.
    must ended => "containers ended",
    /// Frames sent from container to container.
    must frames => "frames",
    /// Of these, delivered.
    must delivered => "frames delivered",
    /// Ends of sessions whose path MTU was right in the end, with frames flowing.
    must mtus_found => "path MTUs found",
    /// Virtual milliseconds from the last fault until everybody agreed.
    must converged_ms => "ms to converge",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_happen_and_did_not_is_told() {
        let mut counters = Counters::default();
        assert!(counters.missing().contains(&"crashes"));
        assert!(!counters.missing().contains(&"addresses lost to old claims"));
        counters.crashes = 1;
        assert!(!counters.missing().contains(&"crashes"));
        let text = counters.to_string();
        assert!(
            text.lines().any(|line| line.trim() == "1 crashes"),
            "{text}"
        );
    }
}

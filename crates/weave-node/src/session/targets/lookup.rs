//! Targets as an operator named them, and what is known of their addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use weave_wire::Time;

use crate::session::limits::canonical;

/// One target.
#[derive(Debug, Default)]
pub(in crate::session) struct Target {
    /// How its name became addresses.
    pub(super) lookup: Lookup,
    /// Where it is dialled.
    pub(super) addresses: BTreeSet<SocketAddr>,
}

/// How the name of a target became addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) enum Lookup {
    /// The name is an address itself.
    Literal(SocketAddr),
    /// The name was given to the resolver.
    Asked {
        /// When to ask again, should no answer come.
        again: Time,
    },
    /// The name has addresses.
    Known {
        /// When to look for others, unless one is connected by then.
        again: Time,
    },
    /// The name has no addresses.
    Failed {
        /// The reason, for people.
        why: String,
        /// When to try again.
        again: Time,
    },
}

impl Lookup {
    /// Takes `name` for an address with or without port if it is one.
    pub(super) fn begin(name: &str, port: u16, again: Time) -> Self {
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .unwrap_or(name);
        let whole = name.parse::<SocketAddr>().ok();
        let literal = whole.or_else(|| {
            bare.parse::<IpAddr>()
                .ok()
                .map(|ip| SocketAddr::new(ip, port))
        });
        literal.map_or(Self::Asked { again }, |addr| Self::Literal(canonical(addr)))
    }

    /// When the name is to be resolved next.
    pub(super) const fn due_at(&self) -> Option<Time> {
        match self {
            Self::Literal(_) => None,
            Self::Asked { again } | Self::Known { again } | Self::Failed { again, .. } => {
                Some(*again)
            }
        }
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.due_at().is_some_and(|again| again <= now)
    }

    pub(super) const fn postpone(&mut self, until: Time) {
        match self {
            Self::Literal(_) => {}
            Self::Asked { again } | Self::Known { again } | Self::Failed { again, .. } => {
                *again = until;
            }
        }
    }
}

impl Default for Lookup {
    fn default() -> Self {
        Self::Asked { again: Time::ZERO }
    }
}

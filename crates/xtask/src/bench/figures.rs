//! What is measured of each overlay in each repetition.

use std::collections::BTreeMap;

use serde::Serialize;

/// One measure; its name ends with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Figure {
    /// Payload of one TCP stream.
    Tcp1Gbits,
    Tcp1Retransmits,
    /// Four streams at a time.
    Tcp4Gbits,
    Tcp4Retransmits,
    /// One stream towards the client.
    ReverseGbits,
    ReverseRetransmits,
    /// User and system time of all daemons of both hosts, for 10⁹ bytes of one TCP stream.
    CpuSecondsPerGigabyte,
    /// Received at the highest rate of which less than 0.5 % was lost.
    Udp64LossFreeKpps,
    /// Received of as much as the sender can.
    Udp64FloodKpps,
    Udp1200LossFreeKpps,
    Udp1200FloodKpps,
    /// Round trips with nothing else on the network.
    RttIdleMeanMicros,
    RttIdleP50Micros,
    RttIdleP99Micros,
    /// Beside one TCP stream that is held to half of what it could.
    RttHalfP50Micros,
    RttHalfP99Micros,
    /// Beside one TCP stream that takes all it can.
    RttBulkP50Micros,
    RttBulkP99Micros,
}

/// What one repetition gave; some may be missing.
pub(super) type Figures = BTreeMap<Figure, f64>;

//! What iperf3 and ping say.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::statistics;

/// One run of iperf3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tcp {
    /// Payload received, 10⁹ bytes.
    pub(super) gigabytes: f64,
    /// Payload received, Gbit/s.
    pub(super) gbits: f64,
    pub(super) retransmits: f64,
}

/// One run of ping, microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RoundTrips {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// Reads the output of `iperf3 --json`.
///
/// # Errors
/// When it is not that, or says that something failed.
pub(super) fn parse_iperf3(output: &[u8]) -> Result<Tcp> {
    let json: Value = serde_json::from_slice(output).context("iperf3 gave no JSON")?;
    if let Some(error) = json.get("error").and_then(Value::as_str) {
        bail!("iperf3: {error}");
    }
    let number = |pointer| json.pointer(pointer).and_then(Value::as_f64);
    let received = |what| {
        let number = number(what);
        number.with_context(|| format!("iperf3 gave no {what}"))
    };
    Ok(Tcp {
        gigabytes: received("/end/sum_received/bytes")? / 1e9,
        gbits: received("/end/sum_received/bits_per_second")? / 1e9,
        retransmits: number("/end/sum_sent/retransmits").unwrap_or_default(),
    })
}

/// Reads the output of `ping`.
///
/// # Errors
/// When nothing was answered.
pub(super) fn parse_ping(output: &str) -> Result<RoundTrips> {
    let millis = output.lines().filter_map(|line| {
        let (_, behind) = line.split_once("time=")?;
        behind.split_whitespace().next()?.parse::<f64>().ok()
    });
    let mut micros: Vec<f64> = millis.map(|millis| millis * 1e3).collect();
    micros.sort_by(f64::total_cmp);
    let none = "no ping was answered";
    Ok(RoundTrips {
        mean: statistics::mean(&micros).context(none)?,
        p50: statistics::percentile(&micros, 50).context(none)?,
        p99: statistics::percentile(&micros, 99).context(none)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iperf3_tells_what_arrived_and_what_was_sent_again() {
        let output = br#"{"start": {}, "intervals": [], "end": {
            "sum_sent": {"bytes": 2000000000, "bits_per_second": 8e9, "retransmits": 12},
            "sum_received": {"seconds": 2.0, "bytes": 1500000000, "bits_per_second": 6e9}}}"#;
        let expected = Tcp {
            gigabytes: 1.5,
            gbits: 6.0,
            retransmits: 12.0,
        };
        assert_eq!(parse_iperf3(output).unwrap(), expected);
    }

    #[test]
    fn a_failure_of_iperf3_is_told_in_its_words() {
        let output = br#"{"start": {}, "end": {}, "error": "unable to connect to server"}"#;
        let error = parse_iperf3(output).unwrap_err().to_string();
        assert_eq!(error, "iperf3: unable to connect to server");
        assert!(parse_iperf3(b"").is_err());
        assert!(parse_iperf3(br#"{"end": {}}"#).is_err());
    }

    #[test]
    fn ping_tells_each_round_trip_in_milliseconds() {
        let output = "PING 192.0.2.2 (192.0.2.2) 56(84) bytes of data.\n\
            64 bytes from 192.0.2.2: icmp_seq=1 ttl=64 time=0.050 ms\n\
            64 bytes from 192.0.2.2: icmp_seq=2 ttl=64 time=1.25 ms\n\
            64 bytes from 192.0.2.2: icmp_seq=4 ttl=64 time=0.020 ms\n\n\
            --- 192.0.2.2 ping statistics ---\n\
            4 packets transmitted, 3 received, 25% packet loss, time 6ms\n\
            rtt min/avg/max/mdev = 0.020/0.440/1.250/0.573 ms\n";
        let trips = parse_ping(output).unwrap();
        let rounded = [trips.mean, trips.p50, trips.p99].map(f64::round);
        assert_eq!(rounded, [440.0, 50.0, 1250.0]);
    }

    #[test]
    fn pings_without_any_answer_are_a_failure() {
        let output = "PING 192.0.2.2 (192.0.2.2) 56(84) bytes of data.\n\n\
            --- 192.0.2.2 ping statistics ---\n4 packets transmitted, 0 received, 100% packet loss\n";
        assert!(parse_ping(output).is_err());
    }
}

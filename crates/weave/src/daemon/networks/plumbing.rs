//! Names of devices, and blocking work off the control loop.

use weave_sys::MacBytes;
use weave_sys::bridge::NetworkSpec;
use weave_sys::linkname::{DEFAULT_BRIDGE, DEFAULT_TAP};
use weave_wire::{CONTAINER_MTU, Cidr, PeerId, SegmentId};

/// The devices of a subnet: `weave` for the default one, named by segment for others.
pub(super) fn network_spec(
    subnet: Cidr,
    default_subnet: Cidr,
    offloads: bool,
    me: &PeerId,
) -> NetworkSpec {
    let segment = SegmentId::of_subnet(subnet);
    let (bridge, tap) = if subnet == default_subnet {
        (DEFAULT_BRIDGE.to_owned(), DEFAULT_TAP.to_owned())
    } else {
        let bridge = format!("{DEFAULT_BRIDGE}-{:08x}", segment.0);
        let tap = tap_of(&bridge);
        (bridge, tap)
    };
    NetworkSpec {
        bridge,
        tap,
        mac: bridge_mac(segment, me),
        mtu: mtu(),
        plain: (!offloads).then(|| "switched off by --no-offloads".to_owned()),
    }
}

/// Name of the TAP that goes with a bridge.
pub(super) fn tap_of(bridge: &str) -> String {
    match bridge.strip_prefix(DEFAULT_BRIDGE) {
        Some(id) if !id.is_empty() => format!("{DEFAULT_BRIDGE}t{id}"),
        Some(_) | None => DEFAULT_TAP.to_owned(),
    }
}

/// MTU of every device that containers see.
pub(super) fn mtu() -> u32 {
    u32::try_from(CONTAINER_MTU).unwrap_or(u32::MAX)
}

/// Differs by host and segment; the same after a restart.
fn bridge_mac(segment: SegmentId, me: &PeerId) -> MacBytes {
    let [_, _, a, b] = segment.0.to_be_bytes();
    let [_, _, _, c, d, e] = me.name().0;
    [0x02, a, b, c, d, e]
}

/// Runs work that blocks for some milliseconds, such as iptables.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> weave_sys::Result<T> + Send + 'static,
) -> weave_sys::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // the runtime is going down; nobody waits for the result
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_fit_the_kernel_and_tell_networks_apart() {
        let default = "10.32.0.0/12".parse().unwrap();
        let me = PeerId([7; 32]);
        let first = network_spec(default, default, true, &me);
        let second = network_spec("10.33.0.0/24".parse().unwrap(), default, true, &me);
        assert_eq!(
            (first.bridge.as_str(), first.tap.as_str()),
            ("weave", "weave-tap")
        );
        assert_ne!(first.mac, second.mac);
        assert_eq!(
            second.tap,
            format!(
                "weavet-{:08x}",
                SegmentId::of_subnet("10.33.0.0/24".parse().unwrap()).0
            )
        );
        for name in [&second.bridge, &second.tap] {
            assert!(name.len() <= 15 && name.starts_with("weave"), "{name}");
        }
    }
}

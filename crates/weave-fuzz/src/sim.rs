//! Whole runs of the simulation that the bytes decide step by step (`weave_sim::simulate_bytes`):
//! whatever happens, in the end everybody agrees.

use weave_sim::simulate_bytes;

pub(crate) fn run(data: &[u8]) {
    let report = simulate_bytes(data);
    assert!(
        report.violations.is_empty(),
        "{}\n{:#?}",
        report.events.join("\n"),
        report.violations
    );
}

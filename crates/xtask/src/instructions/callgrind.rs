//! What callgrind writes.

use anyhow::{Context, Result, ensure};

/// The instructions of a profile, in all.
///
/// # Errors
/// When it holds no sum of them, or they are none: the function to count was never entered.
pub(super) fn instructions(profile: &str) -> Result<u64> {
    let field = |name: &str| profile.lines().find_map(|line| line.strip_prefix(name));
    let events = field("events:").context("the profile names no events")?;
    let mut events = events.split_whitespace();
    ensure!(
        events.next() == Some("Ir"),
        "the first event of the profile is not `Ir`, instructions read"
    );
    let totals = field("totals:").context("the profile has no totals")?;
    let first = totals.split_whitespace().next();
    let count = first.and_then(|count| count.parse().ok());
    let count = count.context("the totals of the profile are no number")?;
    ensure!(count > 0, "the function to count was never entered");
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
# callgrind format
version: 1
creator: callgrind-3.19.0
cmd:  ./instructions segment
desc: Trigger: Program termination
positions: line
events: Ir
summary: 1234

fn=(12) instructions::measured
0 7
calls=1 0
0 1227

totals: 1234
";

    #[test]
    fn the_totals_of_a_profile_are_its_instructions() {
        assert_eq!(instructions(PROFILE).unwrap(), 1234);
        let more = PROFILE
            .replace("events: Ir", "events: Ir Dr Dw")
            .replace("totals: 1234", "totals: 99 5 7");
        assert_eq!(instructions(&more).unwrap(), 99);
    }

    #[test]
    fn a_profile_without_instructions_is_an_error() {
        for (old, new) in [
            ("totals: 1234", ""),
            ("totals: 1234", "totals: 0"),
            ("totals: 1234", "totals: many"),
            ("totals: 1234", "totals:"),
            ("events: Ir", "events: Dr Ir"),
            ("events: Ir", ""),
        ] {
            let changed = PROFILE.replace(old, new);
            assert!(instructions(&changed).is_err(), "{old} → {new}");
        }
    }
}

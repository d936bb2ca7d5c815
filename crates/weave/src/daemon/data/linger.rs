//! When a data thread goes to sleep, and when it rather looks again.

use super::load::Load;

/// Looks for more that end without any, after a bulk transfer.
const AFTER_BULK: u32 = 64;
/// The same after anything else.
const AFTER_OTHERS: u32 = 1;

/// A thread that found something looks again before it sleeps, and lets whoever else wants the
/// processor go first. So what comes meanwhile costs no wake-up, and is more at once. Beside a bulk
/// transfer this is worth some dozen looks, as the next run is on its way; else only one.
#[derive(Debug, Default)]
pub(super) struct Linger {
    left: u32,
}

impl Linger {
    /// Whether to look again, after a look that found this.
    pub(super) fn goes_on(&mut self, found: Load) -> bool {
        self.left = match found {
            Load::Bulk => AFTER_BULK,
            Load::Some => self.left.max(AFTER_OTHERS),
            Load::Nothing if self.left == 0 => return false,
            Load::Nothing => self.left - 1,
        };
        std::thread::yield_now();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it looks in vain.
    fn looks(linger: &mut Linger) -> u32 {
        let looks = (1..1000).find(|_| !linger.goes_on(Load::Nothing));
        looks.expect("it ends")
    }

    #[test]
    fn it_ends_after_a_few_looks_in_vain() {
        assert_eq!(looks(&mut Linger::default()), 1);
        let mut linger = Linger::default();
        assert!(linger.goes_on(Load::Some));
        assert_eq!(looks(&mut linger), AFTER_OTHERS + 1);
        assert!(linger.goes_on(Load::Bulk) && linger.goes_on(Load::Some));
        assert_eq!(looks(&mut linger), AFTER_BULK + 1);
    }
}

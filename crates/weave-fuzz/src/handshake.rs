//! Datagrams thrown at two peers in the middle of a handshake. None may be believed that is not
//! the genuine one, and none may spoil a state.
//!
//! A step is a byte that says how, then bytes with their length before them: a datagram by itself,
//! or changes of a genuine one, three bytes each (where, and what is flipped there).

use std::cell::RefCell;

use crate::input::{Input, changed};
use crate::victims::Victims;

/// Most datagrams of one input.
const MAX_STEPS: usize = 16;

thread_local! {
    /// Made once: a datagram that is refused leaves them as they were, which is what is tested.
    static VICTIMS: RefCell<Option<Victims>> = const { RefCell::new(None) };
}

pub(crate) fn run(data: &[u8]) {
    VICTIMS.with_borrow_mut(|kept| {
        let mut victims = kept.take().unwrap_or_else(Victims::new);
        let mut input = Input::new(data);
        for _ in 0..MAX_STEPS {
            let Some(how) = input.next() else { break };
            let bytes = input.bytes();
            let genuine = victims.genuine.get(usize::from(how % 8));
            let datagram = genuine.map_or_else(|| bytes.to_vec(), |known| changed(known, bytes));
            let is_genuine = victims.genuine.contains(&datagram);
            if !is_genuine {
                victims = victims.feed(&datagram).0;
            }
        }
        *kept = Some(victims);
    });
}

//! Datagrams thrown at two peers in the middle of a handshake. None may be believed that is not
//! the genuine one, and none may spoil a state.
//!
//! A step is a byte that says how, then bytes with their length before them: a datagram by itself,
//! or changes of a genuine one, three bytes each (where, and what is flipped there).

use std::cell::RefCell;

use crate::input::Input;
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

/// A genuine datagram with some bits flipped; a place beyond its end cuts it there or makes it
/// longer.
fn changed(genuine: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut datagram = genuine.to_vec();
    for change in changes.chunks_exact(3) {
        let [low, high, flip] = *change else { continue };
        let place = usize::from(u16::from_le_bytes([low, high]));
        match datagram.get_mut(place) {
            Some(byte) => *byte ^= flip,
            None => datagram.resize(place % 2048, flip),
        }
    }
    datagram
}

//! One target under libFuzzer, the one that WEAVE_FUZZ_TARGET names. Built and run by
//! `cargo xtask fuzz`.

#![no_main]
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use weave_fuzz::Target;

static TARGET: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("WEAVE_FUZZ_TARGET").expect("WEAVE_FUZZ_TARGET names a target");
        TARGET.get_or_init(|| Target::named(&name).expect("a target of that name"));
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);

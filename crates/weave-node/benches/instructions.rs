//! What `cargo xtask bench instructions` runs under valgrind: without an argument it names the
//! cases, each with the items that are measured; with a name it runs that case.

mod cases;

use std::io::{Result, Write};

use cases::{Batch, Case};

/// Turns before it is measured: tables and buffers have their size then.
const WARM_UP: usize = 16;
const TURNS: usize = 64;

fn main() -> Result<()> {
    if let Some(name) = std::env::args().nth(1) {
        run(&Case::named(&name));
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    for name in cases::NAMES {
        writeln!(out, "{name} {}", TURNS * Case::named(name).items)?;
    }
    Ok(())
}

fn run(case: &Case) {
    for _ in 0..WARM_UP {
        case.turn(&mut case.prepare());
    }
    for _ in 0..TURNS {
        measured(case, &mut case.prepare());
    }
}

/// Valgrind counts from where this is entered to where it is left, and finds it by its name.
#[inline(never)]
fn measured(case: &Case, batch: &mut Batch) {
    case.turn(batch);
}

//! How long the data path takes, by the clock: `cargo bench -p weave-node --bench data_path`.

mod cases;

use divan::Bencher;
use divan::counter::ItemsCount;

use cases::Case;

fn main() {
    divan::main();
}

#[divan::bench(args = cases::NAMES)]
fn data_path(bencher: Bencher<'_, '_>, name: &str) {
    let case = Case::named(name);
    bencher
        .counter(ItemsCount::new(case.items))
        .with_inputs(|| case.prepare())
        .bench_local_refs(|batch| case.turn(batch));
}

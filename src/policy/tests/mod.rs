//! What the rules promise: sentence by sentence of the product page, and against slow, obvious
//! models.

mod elsewhere;
mod hours;
mod model;
mod page;
mod world;

use proptest::{prelude::ProptestConfig, test_runner::RngSeed};

/// The same cases in each run, so that a change is judged by what it changes. Others are played
/// with `PROPTEST_RNG_SEED=<number>`, more with `PROPTEST_CASES=<number>`, which both count before
/// what is said here: `PROPTEST_RNG_SEED=$RANDOM PROPTEST_CASES=60000 cargo test --lib policy`.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

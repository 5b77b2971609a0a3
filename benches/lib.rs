//! Helpers of the benchmarks. Each benchmark is one file and prints seconds and throughput.

use burn::tensor::Device;
use litemoe_core::Sequence;
use litemoe_fixtures::foundation_dir;
use litemoe_model::{Checkpoint, Model};

/// The embedded foundation on the CPU.
///
/// # Panics
/// If it does not load.
pub fn foundation() -> Model {
    let checkpoint = Checkpoint::open(foundation_dir()).expect("the embedded foundation");
    Model::load(&checkpoint, &Device::flex()).expect("the embedded foundation")
}

/// A row of `n` token ids, spread over the foundation's vocabulary.
pub fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|at| 5 + at * at * 7919 % 4091).collect()
}

/// A row of training data whose last quarter is the completion.
pub fn sequence(n: usize) -> Sequence {
    let completion = (0..n).map(|at| at >= n - n / 4).collect();
    Sequence { tokens: tokens(n), completion, encoder: None }
}

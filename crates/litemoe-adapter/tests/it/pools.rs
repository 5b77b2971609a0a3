//! Thread pools are kept for a whole run: a new thread cannot reuse the memory that an ended one has freed.

use litemoe_adapter::{
    GuardOptions, Measure, MountRouting, TuneData, TuneOptions, choose_mount, tune,
};
use rayon::ThreadPoolBuilder;

use crate::fixture::{Wrapped, model, random_adapters, rows};

/// Threads that run the model, where the caller's pool has two, so that each of two pools has one.
fn n_threads(run: impl FnOnce(&Wrapped) + Send) -> usize {
    let noting = Wrapped::new(model(), &[]);
    ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(|| run(&noting));
    noting.threads.into_inner().unwrap().len()
}

#[test]
fn validations_of_a_run_share_their_threads() {
    let rows = rows();
    // More tokens than one batch of an evaluation takes.
    let validation = vec![rows.clone(); 5].concat();
    let data = TuneData { train: &rows[..8], validation: &validation };
    let options = TuneOptions {
        steps: 4,
        batch: 4,
        micro_batch: 2,
        threads: 2,
        warmup: 1,
        validate_every: 1,
        ..TuneOptions::default()
    };
    let n = n_threads(|noting| {
        tune(noting, &random_adapters(&noting.model, 1), data, &options, None, &mut ()).unwrap();
    });
    // Two for the parts of a batch, two for validations, and the caller for a part alone.
    assert!((4..=5).contains(&n), "{n}");
}

#[test]
fn evaluations_of_mounting_share_their_threads() {
    let options = GuardOptions {
        routing: Some(MountRouting::Full),
        scale: None,
        by: Measure::Loss,
        batch_tokens: 64,
    };
    let n = n_threads(|noting| {
        let adapters = random_adapters(&noting.model, 1);
        let found = choose_mount(noting, &adapters, None, &rows(), options, &mut |_| ()).unwrap();
        assert_eq!(found.tried.len(), 5);
    });
    assert!((2..=3).contains(&n), "{n}");
}

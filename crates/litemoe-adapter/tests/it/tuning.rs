use std::path::Path;

use litemoe_adapter::{
    AdapterError, Checkpoint, MicroBatch, StepReport, TuneData, TuneObserver, TuneOptions, Tuned,
    evaluate, gradients, tune,
};
use litemoe_core::{Adapters, Fingerprint, Lora, Site, WeightDtype};
use litemoe_model::Model;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::fixture::{farthest, floats, model, random_adapters, rows, same_bits};

fn short() -> TuneOptions {
    TuneOptions {
        steps: 12,
        batch: 4,
        micro_batch: 4,
        warmup: 2,
        validate_every: 5,
        ..Default::default()
    }
}

fn run(
    model: &Model,
    options: &TuneOptions,
    checkpoint: Option<&Path>,
) -> Result<Tuned, AdapterError> {
    watched(model, options, checkpoint, &mut ())
}

fn watched(
    model: &Model,
    options: &TuneOptions,
    checkpoint: Option<&Path>,
    watcher: &mut dyn TuneObserver,
) -> Result<Tuned, AdapterError> {
    let checkpoint = checkpoint.map(|path| (path, WeightDtype::F32));
    watched_as(model, options, checkpoint, watcher)
}

/// A run whose checkpoint says that the model is in a number format.
fn watched_as(
    model: &Model,
    options: &TuneOptions,
    checkpoint: Option<(&Path, WeightDtype)>,
    watcher: &mut dyn TuneObserver,
) -> Result<Tuned, AdapterError> {
    let rows = rows();
    let data = TuneData { train: &rows[..14], validation: &rows[14..] };
    let fingerprint = Fingerprint::new("tiny");
    let checkpoint =
        checkpoint.map(|(path, dtype)| Checkpoint { path, every: 4, model: &fingerprint, dtype });
    tune(model, &random_adapters(model, 3), data, options, checkpoint, watcher)
}

#[derive(Default)]
struct Log {
    resumed: Option<usize>,
    reports: Vec<StepReport>,
}

impl TuneObserver for Log {
    fn resumed(&mut self, step: usize) {
        self.resumed = Some(step);
    }

    fn stepped(&mut self, report: &StepReport) {
        self.reports.push(*report);
    }
}

#[test]
fn two_runs_are_one_run_and_the_loss_falls() {
    let model = model();
    let mut log = Log::default();
    let options = TuneOptions { steps: 40, lr: 1e-2, ..short() };
    let one = watched(&model, &options, None, &mut log).unwrap();
    let two = run(&model, &options, None).unwrap();
    assert!(same_bits(&one.adapters, &two.adapters));
    let mean =
        |part: &[StepReport]| part.iter().map(|step| step.loss).sum::<f64>() / part.len() as f64;
    assert!(mean(&log.reports[30..]) < 0.8 * mean(&log.reports[..10]));
}

#[test]
fn the_best_looked_at_step_is_kept() {
    let model = model();
    let mut log = Log::default();
    let tuned = watched(&model, &short(), None, &mut log).unwrap();
    let looked: Vec<_> =
        log.reports.iter().filter_map(|step| Some((step.step, step.validation?))).collect();
    assert_eq!(looked.iter().map(|looked| looked.0).collect::<Vec<_>>(), [5, 10, 12]);
    let best = looked.iter().min_by(|x, y| x.1.loss().total_cmp(&y.1.loss())).unwrap();
    assert_eq!((tuned.best_step, tuned.validation), (best.0, Some(best.1)));
    let again =
        evaluate(&model, &rows()[14..], Some(&tuned.adapters.into()), 1024, &mut |_| ()).unwrap();
    assert_eq!(again, best.1);
}

#[test]
fn without_validation_rows_the_last_step_is_kept() {
    let (model, rows) = (model(), rows());
    let data = TuneData { train: &rows, validation: &[] };
    let tuned = tune(&model, &random_adapters(&model, 3), data, &short(), None, &mut ()).unwrap();
    assert_eq!((tuned.best_step, tuned.validation), (12, None));
}

#[test]
fn the_learning_rate_rises_then_follows_a_cosine() {
    let options = TuneOptions::default();
    let near = |step, lr: f64| assert!((options.lr_at(step) - lr).abs() < 1e-12, "step {step}");
    near(1, 1e-4);
    near(20, 2e-3);
    near(160, 2e-3 * (0.05 + 0.95 * 0.5));
    near(300, 1e-4);
}

/// Simulates a process killed after some step: the watcher panics.
struct Killed(usize);

impl TuneObserver for Killed {
    fn stepped(&mut self, report: &StepReport) {
        assert_ne!(report.step, self.0, "killed");
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_adapter() {
    let model = model();
    let uninterrupted = run(&model, &short(), None).unwrap();
    for killed_at in [1, 4, 7, 11] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("state.safetensors");
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            watched(&model, &short(), Some(&path), &mut Killed(killed_at))
        }));
        assert!(killed.is_err());
        let mut log = Log::default();
        let resumed = watched(&model, &short(), Some(&path), &mut log).unwrap();
        let saved = killed_at / 4 * 4;
        assert_eq!(log.resumed, (saved > 0).then_some(saved));
        assert!(same_bits(&resumed.adapters, &uninterrupted.adapters));
        assert_eq!(resumed.best_step, uninterrupted.best_step);
        assert_eq!(resumed.validation, uninterrupted.validation);
        assert_eq!(resumed.tokens, uninterrupted.tokens);
    }
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_noticed_or_changes_nothing() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let path = dir.path().join("state.safetensors");
    let finished = run(&model, &short(), Some(&path)).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut noticed = 0;
    for place in (0..whole.len()).step_by(whole.len() / 150) {
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (place % 8);
        std::fs::write(&path, flipped).unwrap();
        match run(&model, &short(), Some(&path)) {
            Err(_) => noticed += 1,
            Ok(tuned) => assert!(same_bits(&tuned.adapters, &finished.adapters), "byte {place}"),
        }
    }
    assert!(noticed > 140, "{noticed}");
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&path, flipped).unwrap();
    let error = run(&model, &short(), Some(&path)).map(|_| ()).unwrap_err();
    assert!(matches!(error, AdapterError::Changed { .. }), "{error}");
}

#[test]
fn a_finished_run_is_not_run_again() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let path = dir.path().join("state.safetensors");
    let first = run(&model, &short(), Some(&path)).unwrap();
    let mut log = Log::default();
    let second = watched(&model, &short(), Some(&path), &mut log).unwrap();
    assert_eq!((log.resumed, log.reports.len()), (Some(12), 0));
    assert!(same_bits(&first.adapters, &second.adapters));
}

#[test]
fn another_runs_checkpoint_is_refused() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let path = dir.path().join("state.safetensors");
    run(&model, &short(), Some(&path)).unwrap();
    let other = [
        (TuneOptions { lr: 1e-3, ..short() }, "lr is 0.002 there and 0.001 here"),
        (TuneOptions { seed: 1, ..short() }, "seed is 0 there and 1 here"),
        (TuneOptions { steps: 13, ..short() }, "steps is 12 there and 13 here"),
    ];
    for (options, problem) in other {
        let error = run(&model, &options, Some(&path)).unwrap_err();
        assert!(error.to_string().ends_with(problem), "{error}");
    }
    for (what, error) in other_inputs(&model, &path) {
        assert!(matches!(error, AdapterError::OtherRun { .. }));
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// Checkpoints of f32 are as earlier versions wrote them: they name no format.
#[test]
fn a_checkpoint_of_another_number_format_is_refused() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    for (there, here) in [
        (WeightDtype::F32, WeightDtype::Q4),
        (WeightDtype::Q4, WeightDtype::F32),
        (WeightDtype::Q4, WeightDtype::Q8),
    ] {
        let path = dir.path().join(format!("{there}-{here}"));
        let run = |dtype, log: &mut Log| watched_as(&model, &short(), Some((&path, dtype)), log);
        let first = run(there, &mut Log::default()).unwrap();
        let file = std::fs::read(&path).unwrap();
        let names_it = file.windows(8).any(|bytes| bytes == b"dtype\\\":");
        assert_eq!(names_it, there != WeightDtype::F32);
        let error = run(here, &mut Log::default()).unwrap_err();
        assert!(matches!(error, AdapterError::OtherRun { .. }), "{error}");
        let problem = format!("dtype is \"{there}\" there and \"{here}\" here");
        assert!(error.to_string().ends_with(&problem), "{error}");
        let mut log = Log::default();
        let again = run(there, &mut log).unwrap();
        assert_eq!(log.resumed, Some(12));
        assert!(same_bits(&first.adapters, &again.adapters));
    }
}

/// Resuming the checkpoint with another model, other rows, or another adapter.
fn other_inputs(model: &Model, path: &Path) -> [(&'static str, AdapterError); 4] {
    let rows = rows();
    let try_with = |model_name: &str, train: &[_], validation: &[_], adapters: &Adapters| {
        let fingerprint = Fingerprint::new(model_name);
        let dtype = WeightDtype::F32;
        let checkpoint = Checkpoint { path, every: 4, model: &fingerprint, dtype };
        let data = TuneData { train, validation };
        tune(model, adapters, data, &short(), Some(checkpoint), &mut ()).unwrap_err()
    };
    let (same, other) = (random_adapters(model, 3), random_adapters(model, 4));
    [
        ("model", try_with("other", &rows[..14], &rows[14..], &same)),
        ("train_sha256", try_with("tiny", &rows[..13], &rows[14..], &same)),
        ("validation_sha256", try_with("tiny", &rows[..14], &rows[15..], &same)),
        ("adapter_sha256", try_with("tiny", &rows[..14], &rows[14..], &other)),
    ]
}

#[test]
fn a_broken_checkpoint_is_refused() {
    let (model, dir) = (model(), TempDir::new().unwrap());
    let path = dir.path().join("state.safetensors");
    run(&model, &short(), Some(&path)).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let error = run(&model, &short(), Some(&path)).unwrap_err();
    assert!(matches!(error, AdapterError::Safetensors { .. }), "{error}");
    std::fs::copy(crate::fixture::golden("plain/adapter_model.safetensors"), &path).unwrap();
    let error = run(&model, &short(), Some(&path)).unwrap_err();
    assert!(matches!(error, AdapterError::NotACheckpoint { .. }), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let (model, rows) = (model(), rows());
    let data = TuneData { train: &rows, validation: &[] };
    let huge = random_adapters(&model, 3).scaled(1e38);
    let error = tune(&model, &huge, data, &short(), None, &mut ()).unwrap_err();
    assert!(matches!(error, AdapterError::LossNotFinite { step: 1, .. }), "{error}");
}

#[test]
fn a_gradient_that_cannot_be_squared_stops_the_run() {
    let (model, rows) = (model(), rows());
    let data = TuneData { train: &rows, validation: &[] };
    let lora = |(site, lora): (&Site, &Lora)| {
        let (a, b) = (lora.a.clone().mul_scalar(1e-25), lora.b.clone().mul_scalar(1e25));
        (site.clone(), Lora { a, b, scale: lora.scale })
    };
    let uneven: Adapters = random_adapters(&model, 3).loras().map(lora).collect();
    let error = tune(&model, &uneven, data, &short(), None, &mut ()).unwrap_err();
    assert!(matches!(error, AdapterError::GradientNotFinite { step: 1, .. }), "{error}");
}

#[test]
fn however_a_batch_is_cut_its_noise_is_the_same() {
    let losses = |options: &TuneOptions| {
        let mut log = Log::default();
        watched(&model(), options, None, &mut log).unwrap();
        log.reports.iter().map(|step| step.loss).collect::<Vec<_>>()
    };
    let farthest =
        |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0_f64, f64::max);
    let noisy = TuneOptions { steps: 3, router_noise: 1.0, threads: 1, ..short() };
    let whole = losses(&noisy);
    for (micro_batch, threads, recompute) in [(4, 1, true), (1, 1, false), (3, 2, false)] {
        let cut = losses(&TuneOptions { micro_batch, threads, recompute, ..noisy.clone() });
        assert!(farthest(&whole, &cut) < 1e-4, "{whole:?} {cut:?}");
    }
    let none = losses(&TuneOptions { router_noise: 0.0, ..noisy.clone() });
    assert!(farthest(&whole, &none) > 1e-3, "{whole:?} {none:?}");
    // Without shuffling, the seed affects only the noise.
    let seeded = |seed| losses(&TuneOptions { seed, shuffle: false, ..noisy.clone() });
    let (one, other) = (seeded(0), seeded(1));
    assert!(farthest(&one, &other) > 1e-3, "{one:?} {other:?}");
}

#[test]
fn noise_must_be_a_deviation() {
    for router_noise in [-0.5, f64::NAN, f64::INFINITY] {
        let error = run(&model(), &TuneOptions { router_noise, ..short() }, None).unwrap_err();
        let option = matches!(error, AdapterError::Option { option: "router_noise", .. });
        assert!(option, "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn however_a_batch_is_cut_its_gradients_are_the_same(
        rows_at_once in 1usize..9,
        threads in 1usize..4,
        recompute: bool,
        first in 0usize..12,
        seed in 0u64..4,
    ) {
        let model = model();
        let adapters = random_adapters(&model, seed);
        let rows = &rows()[first..first + 8];
        let whole = gradients(&model, &adapters, rows, MicroBatch { rows: 8, threads: 1, recompute: false }).unwrap();
        let micro = MicroBatch { rows: rows_at_once, threads, recompute };
        let cut = gradients(&model, &adapters, rows, micro).unwrap();
        prop_assert!((whole.loss - cut.loss).abs() < 1e-5);
        for (site, gradient) in whole.by_site {
            for (whole, cut) in [(gradient.a, &cut.by_site[&site].a), (gradient.b, &cut.by_site[&site].b)] {
                let (whole, cut) = (floats(whole), floats(cut.clone()));
                let largest = whole.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
                prop_assert!(farthest(&whole, &cut) <= 1e-4 * largest && largest > 0.0);
            }
        }
    }
}

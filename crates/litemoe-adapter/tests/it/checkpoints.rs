//! Sizes of tuning checkpoints, and what is taken for one.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use litemoe_adapter::{
    AdapterError, Checkpoint, StepReport, TuneData, TuneObserver, TuneOptions, Tuned,
    check_checkpoint, tune,
};
use litemoe_core::{Adapters, Fingerprint, LinearRole, LinearSite, Lora, Site, WeightDtype};
use tempfile::TempDir;

use crate::fixture::{Wrapped, golden, model, rows, same_bits};

/// Tunes LoRAs of rank 1 on `n` weights whose names have 3 000 bytes, for a step.
fn tuned(n: usize, path: &Path, watcher: &mut dyn TuneObserver) -> Result<Tuned, AdapterError> {
    let site = |index: usize| LinearSite {
        site: Site::new(format!("{index}.{}", "x".repeat(2_999 - index.to_string().len()))),
        role: LinearRole::Attention,
        d_in: 1,
        d_out: 1,
        stack: None,
        parameter: None,
    };
    let sites: Vec<LinearSite> = (0..n).map(site).collect();
    let matrix = || Tensor::ones([1, 1], &Device::flex());
    let lora =
        |site: &LinearSite| (site.site.clone(), Lora { a: matrix(), b: matrix(), scale: 1.0 });
    let initial: Adapters = sites.iter().map(lora).collect();
    let rows = rows();
    let data = TuneData { train: &rows[..2], validation: &rows[2..4] };
    let options = TuneOptions { steps: 1, batch: 2, warmup: 0, ..TuneOptions::default() };
    let fingerprint = Fingerprint::new("wide");
    let dtype = WeightDtype::F32;
    let checkpoint = Some(Checkpoint { path, every: 1, model: &fingerprint, dtype });
    tune(&Wrapped::new(model(), &sites), &initial, data, &options, checkpoint, watcher)
}

/// No step may be run.
#[derive(Default)]
struct Unrun(Option<usize>);

impl TuneObserver for Unrun {
    fn resumed(&mut self, step: usize) {
        self.0 = Some(step);
    }

    fn stepped(&mut self, _: &StepReport) {
        panic!("a step was run");
    }
}

/// A header of 36.8 MB, above the 32 MiB that were read once.
#[test]
fn a_large_checkpoint_that_is_written_is_read() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    let first = tuned(1_500, &path, &mut ()).unwrap();
    let header = u64::from_le_bytes(fs::read(&path).unwrap()[..8].try_into().unwrap());
    assert!((36_000_000..37_000_000).contains(&header), "{header}");
    check_checkpoint(&path).unwrap();
    let mut watcher = Unrun::default();
    let again = tuned(1_500, &path, &mut watcher).unwrap();
    assert_eq!(watcher.0, Some(1));
    assert!(same_bits(&again.adapters, &first.adapters));
}

#[test]
fn a_checkpoint_that_would_be_too_large_is_refused_before_the_first_step() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    let error = tuned(4_100, &path, &mut Unrun::default()).unwrap_err();
    let AdapterError::CheckpointHeader { weights: 4_100, bytes, .. } = &error else {
        panic!("{error}");
    };
    assert!((100_000_001..103_000_000).contains(bytes), "{error}");
    assert!(!path.exists());
}

#[test]
fn what_is_no_checkpoint_is_refused_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state");
    tuned(1, &path, &mut ()).unwrap();
    check_checkpoint(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let other = fs::read(golden("plain/adapter_model.safetensors")).unwrap();
    for (bytes, reason) in [
        (&b"mine"[..], "header too small"),
        (&[0xff; 9], "header too large"),
        (&whole[..100], "invalid JSON in header"),
        (&whole[..whole.len() - 1], "incomplete metadata"),
        (&other, "no litemoe_tune"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = check_checkpoint(&path).unwrap_err();
        assert!(matches!(error, AdapterError::NotACheckpoint { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

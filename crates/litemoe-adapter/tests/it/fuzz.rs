//! Fuzzed adapter files: they are read and can be run, or refused with an error, in bounded memory.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use litemoe_adapter::{
    AdapterError, AdapterRecord, Checkpoint, MountRouting, RECORD_FILE, StepReport, TuneData,
    TuneObserver, TuneOptions, Tuned, check_checkpoint, load, peft, tune,
};
use litemoe_core::{Adapters, Fingerprint, Input, LanguageModel, MoeModel, Pass, WeightDtype};
use litemoe_fixtures::fuzz::{Bound, fuzz_json};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{golden, model, random_adapters, rows};
use crate::guarding::mounted;
use crate::peft::{copy, set};

const ADAPTERS: [&str; 3] = ["plain", "patterned", "ours_experts"];

/// Bound of reading an adapter, whose regular expressions take most.
const ADAPTER: Bound = Bound { fixed: 8 << 20, per_byte: 600, per_value: 600 };

/// Bound of reading `litemoe.json`.
const RECORD: Bound = Bound { fixed: 1 << 12, per_byte: 8, per_value: 160 };

/// Bound of reading a tuning checkpoint, its matrices included.
const CHECKPOINT: Bound = Bound { fixed: 1 << 20, per_byte: 8, per_value: 600 };

/// Reads fuzzed documents as one file of the adapters.
fn check(documents: &[Vec<u8>], name: &str, file: impl Fn(usize, &[u8]) -> Vec<u8>) {
    let (model, copies) = (model(), ADAPTERS.map(copy));
    let mut read = 0;
    fuzz_json(documents, |from, document| {
        let (_, dir) = &copies[from];
        fs::write(dir.join(name), file(from, document)).unwrap();
        let mut adapter = None;
        let allocated = allocation_counter::measure(|| {
            adapter = peft::read(dir, model.linear_sites(), &Device::flex()).ok();
        });
        ADAPTER.check(document, allocated.bytes_max);
        if let Some(adapter) = adapter {
            read += 1;
            let mut pass = Pass::plain().with_adapters(Some(&adapter.adapters));
            model.logits(&Input::decoder(vec![vec![1, 2]]), &mut pass);
        }
    });
    assert!(read > 0);
}

#[test]
fn fuzzed_configurations() {
    let documents = ADAPTERS.map(|name| fs::read(golden(name).join(peft::CONFIG_FILE)).unwrap());
    check(&documents, peft::CONFIG_FILE, |_, document| document.to_vec());
}

#[test]
fn fuzzed_headers() {
    let files = ADAPTERS.map(|name| fs::read(golden(name).join(peft::MODEL_FILE)).unwrap());
    let split = |file: &[u8]| 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let headers = files.each_ref().map(|file| file[8..split(file)].to_vec());
    check(&headers, peft::MODEL_FILE, |from, header| {
        let len = header.len() as u64;
        [&len.to_le_bytes(), header, &files[from][split(&files[from])..]].concat()
    });
}

#[test]
fn fuzzed_records() {
    let model = model();
    let adapters = random_adapters(&model, 4);
    let routings = [MountRouting::Full, MountRouting::Restricted, MountRouting::Biased(1.5)];
    let dirs = routings.map(|routing| mounted(&model, &adapters, routing));
    let documents = dirs.each_ref().map(|dir| fs::read(dir.path.join(RECORD_FILE)).unwrap());
    let mut read = 0;
    fuzz_json(&documents, |from, document| {
        let dir = &dirs[from].path;
        fs::write(dir.join(RECORD_FILE), document).unwrap();
        let allocated = allocation_counter::measure(|| drop(AdapterRecord::read(dir)));
        RECORD.check(document, allocated.bytes_max);
        if let Ok(loaded) = load(dir, &model, &Fingerprint::new("foundation")) {
            read += 1;
            let mut pass = Pass::mounted(Some(&loaded.mounted));
            model.logits(&Input::decoder(vec![vec![1, 2]]), &mut pass);
        }
    });
    assert!(read > 0);
}

/// Keeps the checkpoint of the first step, and the number of the last one.
struct Keeping<'a> {
    path: &'a Path,
    first: Vec<u8>,
    last: usize,
}

impl TuneObserver for Keeping<'_> {
    fn resumed(&mut self, step: usize) {
        self.last = step;
    }

    fn stepped(&mut self, report: &StepReport) {
        if report.step == 1 {
            self.first = fs::read(self.path).unwrap();
        }
        self.last = report.step;
    }
}

/// Splits a safetensors file into its header and its tensors.
fn split(file: &[u8]) -> (Value, &[u8]) {
    let end = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&file[8..end]).unwrap(), &file[end..])
}

/// Resumes runs of two steps from their fuzzed headers, and from what these hold about the run.
#[test]
fn fuzzed_checkpoints() {
    const KEY: &str = "litemoe_tune";
    let (model, rows, dir) = (model(), rows(), TempDir::new().unwrap());
    let path = dir.path().join("state");
    let all = random_adapters(&model, 4);
    let initial: Adapters =
        all.loras().take(1).map(|(site, lora)| (site.clone(), lora.clone())).collect();
    let data = TuneData { train: &rows[..2], validation: &rows[2..4] };
    let options = TuneOptions { steps: 2, batch: 2, warmup: 0, ..TuneOptions::default() };
    let fingerprint = Fingerprint::new("tuned");
    let tuned = || -> (Result<Tuned, AdapterError>, Vec<u8>, usize) {
        let dtype = WeightDtype::F32;
        let checkpoint = Some(Checkpoint { path: &path, every: 1, model: &fingerprint, dtype });
        let mut keeping = Keeping { path: &path, first: Vec::new(), last: 0 };
        let tuned = tune(&model, &initial, data, &options, checkpoint, &mut keeping);
        (tuned, keeping.first, keeping.last)
    };
    let (whole, first, _) = tuned();
    let whole = whole.unwrap();
    let files = [first, fs::read(&path).unwrap()];
    let parts = files.each_ref().map(|file| split(file));
    // Without checksums, as earlier versions wrote them.
    let runs = parts.each_ref().map(|(header, _)| {
        let text = header["__metadata__"][KEY].as_str().unwrap();
        let mut run: Value = serde_json::from_str(text).unwrap();
        run.as_object_mut().unwrap().retain(|key, _| !key.ends_with("sha256"));
        run.to_string().into_bytes()
    });
    let headers = parts.each_ref().map(|(header, _)| header.to_string().into_bytes());
    let documents = [headers, runs].concat();
    let mut read = vec![0; documents.len()];
    fuzz_json(&documents, |from, document| {
        let (header, tensors) = &parts[from % 2];
        let header = match from / 2 {
            0 => document.to_vec(),
            _ => {
                let mut header = header.clone();
                header["__metadata__"][KEY] = String::from_utf8_lossy(document).into();
                header.to_string().into_bytes()
            }
        };
        let len = header.len() as u64;
        let file = [&len.to_le_bytes(), &header[..], tensors].concat();
        fs::write(&path, &file).unwrap();
        let allocated = allocation_counter::measure(|| drop(check_checkpoint(&path)));
        CHECKPOINT.check(&header, allocated.bytes_max);
        let mut resumed = None;
        let allocated = allocation_counter::measure(|| resumed = Some(tuned()));
        CHECKPOINT.check(&header, allocated.bytes_max);
        let Some((Ok(tuned), _, last)) = resumed else { return };
        read[from] += 1;
        assert_eq!(last, 2);
        assert!((1..=2).contains(&tuned.best_step));
        assert!(tuned.tokens <= 2 * whole.tokens, "{} tokens", tuned.tokens);
        let validation = tuned.validation.unwrap();
        assert!(validation.rows == 2 && validation.loss().is_finite(), "{validation:?}");
    });
    assert!(read.iter().all(|&read| read > 0), "{read:?}");
}

#[test]
fn large_files_are_bounded_before_they_are_parsed() {
    let (_keep, dir) = copy("plain");
    let read = || {
        let mut error = String::new();
        let allocated = allocation_counter::measure(|| {
            let read = peft::read(&dir, &[], &Device::flex());
            error = read.map_or_else(|error| error.to_string(), |_| String::new());
        });
        (error, allocated.bytes_max)
    };
    let zeros = |n: usize| format!("{{\"r\":[{}]}}", vec!["0"; n].join(","));
    fs::write(dir.join(peft::CONFIG_FILE), zeros(500_000)).unwrap();
    let (error, peak) = read();
    assert!(error.contains("more than 500000 values") && peak < 2 << 20, "{error}, {peak} bytes");
    fs::write(dir.join(peft::CONFIG_FILE), zeros(100_000)).unwrap();
    let (_, peak) = read();
    ADAPTER.check(zeros(100_000).as_bytes(), peak);
    fs::write(dir.join(peft::CONFIG_FILE), vec![b' '; (16 << 20) + 1]).unwrap();
    let (error, peak) = read();
    assert!(error.contains("more than 16777216 bytes") && peak < 1 << 16, "{error}, {peak} bytes");
}

/// A sparse file: its length is refused, it is not read.
#[test]
fn tensors_above_their_limit_are_not_read() {
    let ((_keep, dir), model) = (copy("plain"), model());
    let path = dir.join(peft::MODEL_FILE);
    let file = fs::File::create(&path).unwrap();
    file.set_len((16 << 30) + 1).unwrap();
    let mut error = String::new();
    let allocated = allocation_counter::measure(|| {
        let read = peft::read(&dir, model.linear_sites(), &Device::flex());
        error = read.map_or_else(|error| error.to_string(), |_| String::new());
    });
    let expected = format!("{}: it has more than 17179869184 bytes", path.display());
    assert!(error.contains(&expected), "{error}");
    assert!(allocated.bytes_max < 8 << 20, "{} bytes", allocated.bytes_max);
}

#[test]
fn a_record_above_its_limit_is_not_read() {
    let dir = TempDir::new().unwrap();
    let with = |len: usize| {
        fs::write(dir.path().join(RECORD_FILE), vec![b' '; len]).unwrap();
        AdapterRecord::read(dir.path()).unwrap_err().to_string()
    };
    assert!(!with(16 << 20).contains("more than"));
    assert!(with((16 << 20) + 1).contains("more than 16777216 bytes"));
}

#[test]
fn regular_expressions_are_few_and_small() {
    let ((_keep, dir), model) = (copy("plain"), model());
    let with = |patterns: serde_json::Map<String, serde_json::Value>| {
        set(&dir, "rank_pattern", patterns.into());
        let mut error = String::new();
        let allocated = allocation_counter::measure(|| {
            let read = peft::read(&dir, model.linear_sites(), &Device::flex());
            error = read.map_or_else(|error| error.to_string(), |_| String::new());
        });
        (error, allocated.bytes_max)
    };
    let patterns =
        |n: usize, text: &str| (0..n).map(|index| (format!("{index}{text}"), 4.into())).collect();
    let (error, peak) = with(patterns(256, "a+"));
    assert!(error.is_empty() && peak < 64 << 20, "{error}, {peak} bytes");
    let (error, _) = with(patterns(257, "a+"));
    assert!(error.contains("at most 256 expressions"), "{error}");
    let (error, peak) = with(patterns(2000, "model.layers.q_proj"));
    assert!(error.is_empty() && peak < 128 << 20, "{error}, {peak} bytes");
    let (error, peak) = with(patterns(1, r"\w{900}"));
    assert!(error.contains("cannot be read") && peak < 32 << 20, "{error}, {peak} bytes");
}

//! Fuzzed adapter files: they are read and can be run, or refused with an error, in bounded memory.

use std::fs;

use burn::tensor::Device;
use litemoe_adapter::{AdapterRecord, MountRouting, RECORD_FILE, load, peft};
use litemoe_core::{Fingerprint, Input, LanguageModel, MoeModel, Pass};
use litemoe_fixtures::fuzz::{Bound, fuzz_json};
use tempfile::TempDir;

use crate::fixture::{golden, model, random_adapters};
use crate::guarding::mounted;
use crate::peft::{copy, set};

const ADAPTERS: [&str; 3] = ["plain", "patterned", "ours_experts"];

/// Bound of reading an adapter, whose regular expressions take most.
const ADAPTER: Bound = Bound { fixed: 8 << 20, per_byte: 600, per_value: 600 };

/// Bound of reading `litemoe.json`.
const RECORD: Bound = Bound { fixed: 1 << 12, per_byte: 8, per_value: 160 };

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

//! Fuzzed files are read, or refused with a message, in bounded memory.

use std::fs;
use std::io::Write;
use std::path::Path;

use burn::tensor::Device;
use litemoe_core::{LanguageModel, Pass, RouterRule, WeightDtype};
use litemoe_fixtures::fuzz::fuzz_json;
use litemoe_model::{Checkpoint, Model};

use crate::edit::Copy;
use crate::memory::open_within;
use crate::proxy::{pairs, write};
use crate::quantise::quantised;
use crate::setup::{TINY, input, keep, plan, some, tiny};

/// Overwrites a file: file systems are slow to truncate a file and fill it again.
fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// Opens a directory with one file of `bytes` bytes. What opens must run, however odd its numbers.
fn runs(dir: &Path, bytes: usize) -> bool {
    let Ok(checkpoint) = open_within(dir, bytes) else { return false };
    if let Ok(model) = Model::load(&checkpoint, &Device::flex()) {
        model.logits(&input(&model, &[vec![1, 2]]), &mut Pass::plain());
    }
    true
}

/// Splits a safetensors file into the header, with its length, and the tensors.
fn split(file: &[u8]) -> (&[u8], &[u8]) {
    let len = u64::from_le_bytes(file[..8].try_into().unwrap());
    file.split_at(8 + len as usize)
}

#[test]
fn fuzzed_configurations() {
    let mut copies: Vec<Copy> = TINY.iter().map(|name| Copy::of(name)).collect();
    copies.push(quantised("olmoe", WeightDtype::Q8));
    let documents = copies.iter().map(|copy| fs::read(copy.file("config.json")).unwrap());
    let documents: Vec<_> = documents.collect();
    let mut opened = 0;
    fuzz_json(&documents, |from, document| {
        overwrite(&copies[from].file("config.json"), document);
        opened += usize::from(runs(copies[from].path(), document.len()));
    });
    assert!(opened > 0);
}

#[test]
fn fuzzed_plans() {
    let proxies = ["qwen3_moe", "deepseek_v3"].map(|name| {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        write(
            &checkpoint,
            &plan(&checkpoint, RouterRule::Redirect, |layer| match layer.groups {
                Some(_) => keep(layer.n_experts, &some(layer)),
                None => pairs(layer.n_experts),
            }),
        )
    });
    let path = |from: usize| proxies[from].dir.join("plan.json");
    let documents = [0, 1].map(|from| fs::read(path(from)).unwrap());
    let mut opened = 0;
    fuzz_json(&documents, |from, document| {
        overwrite(&path(from), document);
        opened += usize::from(runs(&proxies[from].dir, document.len()));
    });
    assert!(opened > 0);
}

#[test]
fn fuzzed_indices() {
    let copy = Copy::of("windowed");
    let path = copy.file("model.safetensors.index.json");
    let mut opened = 0;
    fuzz_json(&[fs::read(&path).unwrap()], |_, document| {
        overwrite(&path, document);
        opened += usize::from(open_within(copy.path(), document.len()).is_ok());
    });
    assert!(opened > 0);
}

#[test]
fn fuzzed_headers() {
    let mut copies: Vec<Copy> =
        ["windowed", "mixtral"].map(|name| Copy::of(name).tensors(|_| ())).into();
    copies.extend(["olmoe", "gpt_oss"].map(|name| quantised(name, WeightDtype::Q4)));
    let files = copies.iter().map(|copy| fs::read(copy.file("model.safetensors")).unwrap());
    let files: Vec<_> = files.collect();
    let headers: Vec<_> = files.iter().map(|file| split(file).0[8..].to_vec()).collect();
    let mut opened = 0;
    fuzz_json(&headers, |from, header| {
        // One length in sixteen is wrong.
        let wrong = header.iter().fold(0_u64, |sum, &byte| sum.rotate_left(5) ^ u64::from(byte));
        let len = header.len() as u64 ^ if wrong % 16 == 0 { wrong } else { 0 };
        let file = [&len.to_le_bytes(), header, split(&files[from]).1].concat();
        overwrite(&copies[from].file("model.safetensors"), &file);
        opened += usize::from(open_within(copies[from].path(), header.len()).is_ok());
    });
    assert!(opened > 0);
}

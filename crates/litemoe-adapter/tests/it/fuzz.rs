//! Fuzzed adapter files: they are read and can be run, or refused with an error.

use std::fs;

use burn::tensor::Device;
use litemoe_adapter::peft;
use litemoe_core::{Input, LanguageModel, MoeModel, Pass};
use litemoe_fixtures::fuzz::{JSON_VALUES, fuzz};

use crate::fixture::{golden, model};
use crate::peft::copy;

const ADAPTERS: [&str; 3] = ["plain", "patterned", "ours_experts"];

/// Reads fuzzed documents as one file of the adapters.
fn check(documents: &[Vec<u8>], name: &str, file: impl Fn(usize, &[u8]) -> Vec<u8>) {
    let (model, copies) = (model(), ADAPTERS.map(copy));
    let mut read = 0;
    fuzz(documents, JSON_VALUES, |from, document| {
        let (_, dir) = &copies[from];
        fs::write(dir.join(name), file(from, document)).unwrap();
        if let Ok(adapter) = peft::read(dir, model.linear_sites(), &Device::flex()) {
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

//! Memory limits of reading files, hostile ones included, and of loading a model.

use std::fmt::Display;
use std::fs::{self, File};
use std::path::Path;

use burn::tensor::Device;
use litemoe_core::{MoeLayer, RouterRule};
use litemoe_model::{Checkpoint, Model, ModelError};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::edit::{Copy, Raw};
use crate::proxy::{pairs, write};
use crate::setup::{TINY, plan, tiny};

/// Bytes that reading a file may allocate at once beyond four times the file.
const SLACK: u64 = 1 << 20;

/// Opens a directory, and asserts that this allocates within the limit for a file of `bytes` bytes.
pub(crate) fn open_within(dir: &Path, bytes: usize) -> Result<Checkpoint, ModelError> {
    let mut opened = None;
    let allocated = allocation_counter::measure(|| opened = Some(Checkpoint::open(dir)));
    let (peak, limit) = (allocated.bytes_max, 4 * bytes as u64 + SLACK);
    assert!(peak <= limit, "{peak} bytes for a file of {bytes}");
    opened.unwrap()
}

/// Replaces a file of a copy and opens the copy; checks the memory, and the error message; an empty one means that it
/// opens.
#[track_caller]
fn check(copy: &Copy, name: &str, file: &[u8], message: &str) {
    fs::write(copy.file(name), file).unwrap();
    let opened = open_within(copy.path(), file.len());
    let error = opened.map_or_else(|error| error.to_string(), |_| String::new());
    assert!(error.contains(message) && error.is_empty() == message.is_empty(), "{error:.400}");
}

/// `n` items, comma-separated.
fn list<T: Display>(n: usize, item: impl Fn(usize) -> T) -> String {
    (0..n).map(|i| item(i).to_string()).collect::<Vec<_>>().join(",")
}

/// A configuration with one value replaced, as JSON.
fn config_with(key: &str, value: &str) -> Vec<u8> {
    let file = fs::read(Copy::of("qwen2_moe").file("config.json")).unwrap();
    let mut config: Map<String, Value> = serde_json::from_slice(&file).unwrap();
    config.remove(key);
    let config = serde_json::to_string(&config).unwrap();
    config.replacen('{', &format!("{{\"{key}\":{value},"), 1).into_bytes()
}

#[test]
fn configurations() {
    let copy = Copy::of("qwen2_moe");
    let check = |key: &str, value: &str, message| {
        check(&copy, "config.json", &config_with(key, value), message);
    };
    let zeros = format!("[{}]", list(1 << 20, |_| 0));
    check("architectures", &zeros, "");
    check("new", &zeros, "`new`");
    check("is_encoder_decoder", &zeros, "at most 2048 values");
    check("rope_parameters", &zeros, "an object");
    let names = |n| format!("[{}]", list(n, |_| "\"\""));
    check("layer_types", &names(1 << 18), "at most 2048 values");
    check("layer_types", &names(2048), "times one of");
    let nested = format!("{}2{}", "[".repeat(20), "]".repeat(20));
    check("eos_token_id", &format!("[{}]", list(2000, |_| &nested)), "at most 2048 values");
    let keys = list(1 << 18, |i| format!("\"{i}\":0"));
    check("dtype", &format!("0,{keys}"), "4096 keys");
    check("rope_parameters", &format!("{{{keys}}}"), "4096 keys");
    let long = format!("\"{}\"", "\\n".repeat(1 << 20));
    check("architectures", &long, "");
    check("hidden_act", &long, "it must be silu");
    check("is_encoder_decoder", &long, "it must be false");
    check("model_type", &long, "unknown model type");
    check("dtype", &format!("0,{long}:0"), "is unknown for model type");
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    check("architectures", &deep, "");
    check("is_encoder_decoder", &deep, "at most 2048 values");
}

#[test]
fn a_small_configuration_of_very_many_tensors() {
    for name in ["qwen2_moe", "qwen3_moe", "mixtral", "olmoe"] {
        let copy = Copy::of(name).config(|config| {
            config.insert("num_hidden_layers".into(), json!(2000));
            config.remove("num_local_experts");
            config.remove("layer_types");
            config.insert("num_experts".into(), json!(10_000));
        });
        let file = fs::read(copy.file("config.json")).unwrap();
        check(&copy, "config.json", &file, "it must be [10000");
    }
}

#[test]
fn indices() {
    let copy = Copy::of("windowed");
    let name = "model.safetensors.index.json";
    let index = fs::read_to_string(copy.file(name)).unwrap();
    let shard = "model-00001-of-00003.safetensors";
    let check = |entries: &str, message| {
        let more = index.replacen("\"weight_map\": {", &format!("\"weight_map\": {{{entries},"), 1);
        assert_ne!(more, index);
        check(&copy, name, more.as_bytes(), message);
    };
    check(&list(1 << 18, |i| format!("\"{i}\":\"{shard}\"")), "");
    check(&list(1 << 18, |i| format!("\"{i}\":\"{i}\"")), "the file 0");
    check(&list(1 << 18, |i| format!("\"{i}\":0")), "a string");
    check(&list(1 << 17, |_| "\"model.norm.weight\":\"model-00003-of-00003.safetensors\""), "");
    let metadata = format!("{{\"a\":{{{}}},", list(1 << 18, |i| format!("\"{i}\":0")));
    let index = index.replacen('{', &metadata, 1);
    super::memory::check(&copy, name, index.as_bytes(), "");
}

/// Files that are as long as they may be are read, and one byte more is refused by its length alone.
#[test]
fn files_above_their_limits_are_not_read() {
    let checkpoint = Checkpoint::open(tiny("qwen3_moe")).unwrap();
    let plan = plan(&checkpoint, RouterRule::Redirect, |layer| pairs(layer.n_experts));
    let proxy = write(&checkpoint, &plan);
    let copies = ["qwen3_moe", "windowed"].map(Copy::of);
    let (model, index) = (copies[0].path(), "model.safetensors.index.json");
    // At its limit, a plan would take a GiB of memory.
    let cases: [(&Path, &str, u64, bool); 3] = [
        (model, "config.json", 16 << 20, true),
        (copies[1].path(), index, 100_000_000, true),
        (proxy.dir.as_path(), "plan.json", 1 << 30, false),
    ];
    for (dir, name, limit, reads_limit) in cases {
        let path = dir.join(name);
        let file = File::create(&path).unwrap();
        let opened = |bytes: u64, allowed: usize| {
            file.set_len(bytes).unwrap();
            open_within(dir, allowed).unwrap_err().to_string()
        };
        let error = opened(limit + 1, 0);
        let expected = format!("{}: it has more than {limit} bytes", path.display());
        assert!(error.contains(&expected), "{error}");
        if reads_limit {
            let error = opened(limit, limit as usize);
            assert!(error.contains(name) && !error.contains("more than"), "{error}");
        }
    }
}

/// A safetensors file.
fn with_header(members: &str, data: usize) -> Vec<u8> {
    let json = format!("{{{members}}}");
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn headers() {
    let copy = Copy::of("qwen3_moe");
    let check = |members: &str, data: usize, message| {
        check(&copy, "model.safetensors", &with_header(members, data), message);
    };
    let tensor = |name: &dyn Display, shape: &str, start: usize, end: usize| {
        format!(
            "\"{name}\":{{\"dtype\":\"F16\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}"
        )
    };
    let n = 1 << 16;
    let scalars = list(n, |i| tensor(&i, "[]", 2 * i, 2 * i + 2));
    check(&scalars, 2 * n, "model.embed_tokens.weight");
    check(&scalars, 2 * n + 1, "its tensors end at byte");
    let backwards = list(n, |i| tensor(&i, "[1,1]", 2 * (n - i) - 2, 2 * (n - i)));
    check(&backwards, 2 * n, "model.embed_tokens.weight");
    check(&list(n, |i| tensor(&i, "[]", 0, 2)), 2, "do not meet");
    check(&list(n, |i| tensor(&i, "[0]", 0, 0)), 0, "model.embed_tokens.weight");
    check(&tensor(&0, "[0]", 0, 2), 2, "the tensor 0 of shape [0]");
    check(&list(n, |_| tensor(&0, "[]", 0, 2)), 2, "the tensor 0 is there twice");
    check(&tensor(&0, &format!("[{}]", list(1 << 20, |_| 1)), 0, 2), 2, "at most 8 dimensions");
    let metadata = list(1 << 18, |i| format!("\"{i}\":\"\""));
    check(&format!("\"__metadata__\":{{{metadata}}}"), 0, "model.embed_tokens.weight");
    check(&tensor(&"n".repeat(1 << 20), "[]", 0, 2), 2, "model.embed_tokens.weight");
}

#[test]
fn leftovers_in_a_header() {
    let n = 1 << 16;
    let copy = Copy::of("qwen3_moe").tensors(|tensors| {
        let empty = Raw { dtype: Dtype::F16, shape: vec![0], bytes: Vec::new() };
        tensors.extend((0..n).map(|i| (format!("vision_model.{i}"), empty.clone())));
    });
    let bytes = fs::metadata(copy.file("model.safetensors")).unwrap().len();
    let checkpoint = open_within(copy.path(), bytes as usize).unwrap();
    assert_eq!(checkpoint.leftovers().len(), n);
}

#[test]
fn a_model_holds_every_weight_once() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let sizes = || checkpoint.stored_parts().map(|part| 4 * part.parameters);
        let n_matrices = |layer: &MoeLayer| 3 * layer.n_experts;
        let n_experts: usize = checkpoint.moe_layers().iter().map(n_matrices).sum();
        let mut model = None;
        let allocated = allocation_counter::measure(|| {
            model = Some(Model::load(&checkpoint, &Device::flex()).unwrap());
        });
        let held = u64::try_from(allocated.bytes_current).unwrap();
        let limit = sizes().sum::<u64>() + 1024 * (sizes().count() + n_experts) as u64;
        assert!(held <= limit, "{name}: {held} bytes, not {limit}");
        let limit = held + 2 * sizes().max().unwrap();
        assert!(allocated.bytes_max <= limit, "{name}: {} bytes, not {limit}", allocated.bytes_max);
    }
}

//! Checksums: a flipped bit in an artefact is noticed when it is read, or changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use litemoe_adapter::LoadedAdapter;
use litemoe_core::{Checksummed, ExpertScores, Plan, Similarity};
use litemoe_model::{Checkpoint, Model};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::bench::{Bench, edit_json};

/// Flips per file.
const FLIPS: usize = 200;

/// Flips a random bit of a file at a time, restores the file, and counts how often `read` noticed. `read` returns none
/// if it refuses the file, and otherwise whether what it read is as before.
#[track_caller]
fn flips(path: &Path, mut read: impl FnMut(&Path) -> Option<bool>) -> usize {
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut rng = ChaCha8Rng::seed_from_u64(seed.unwrap_or(0));
    let whole = fs::read(path).expect("the file is there");
    assert_eq!(read(path), Some(true), "{}", path.display());
    let mut noticed = 0;
    for _ in 0..FLIPS {
        let (place, bit) = (rng.random_range(0..whole.len()), rng.random_range(0..8));
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << bit;
        fs::write(path, flipped).expect("the file is written");
        match read(path) {
            None => noticed += 1,
            Some(same) => assert!(same, "{}: bit {bit} of byte {place}", path.display()),
        }
    }
    fs::write(path, whole).expect("the file is written");
    noticed
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn text(path: &Path) -> Option<String> {
    String::from_utf8(fs::read(path).expect("a file")).ok()
}

#[test]
fn in_scores_similarities_and_plans() {
    let bench = Bench::new();
    bench.extract(&["--merge", "litemoe"]);
    let scores = |path: &Path| ExpertScores::from_json(&text(path)?).ok();
    let similarity = |path: &Path| Checksummed::<Similarity>::parse(text(path)?.as_bytes()).ok();
    let plan = |path: &Path| Checksummed::<Plan>::parse(text(path)?.as_bytes()).ok();
    let path = bench.path("scores.json");
    let whole = scores(&path);
    assert!(flips(&path, |path| Some(scores(path)? == *whole.as_ref()?)) > FLIPS / 2);
    let path = bench.path("similarity.json");
    let whole = similarity(&path);
    assert!(flips(&path, |path| Some(similarity(path)? == *whole.as_ref()?)) > FLIPS / 2);
    let path = bench.path("plan.json");
    let whole = plan(&path);
    assert!(flips(&path, |path| Some(plan(path)? == *whole.as_ref()?)) > FLIPS / 4);
}

#[test]
fn in_proxies() {
    for router in ["drop_rows", "redirect"] {
        let bench = Bench::new();
        bench.extract(&["--merge", "litemoe", "--router", router]);
        let proxy = bench.path("proxy");
        let open = || {
            let proxy = Checkpoint::open(&proxy).ok()?;
            proxy.check_record().ok()?;
            Some((proxy.fingerprint().clone(), proxy.origin().cloned()))
        };
        let whole = open();
        let names: Vec<_> = files(&proxy);
        assert!(names.iter().any(|path| path.ends_with("litemoe_proxy.json")), "{names:?}");
        for path in names {
            let noticed = flips(&path, |_| Some(open()? == *whole.as_ref()?));
            let is_json = path.extension().is_some_and(|extension| extension == "json");
            assert!(noticed > if is_json { 1 } else { FLIPS / 2 }, "{}", path.display());
        }
    }
}

#[test]
fn in_adapters_tuned_and_mounted() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let mount = ["mount", "model", "adapter", "--plan", "plan.json", "--scale", "0.5"];
    bench.json(&[&mount[..], &["--routing", "restricted", "--out", "mounted"]].concat());
    bench.json(&[&mount[..], &["--routing", "full", "--out", "portable"]].concat());
    for (model, adapter) in [("proxy", "adapter"), ("model", "mounted"), ("model", "portable")] {
        let checkpoint = Checkpoint::open(bench.path(model)).expect("a model");
        let model = Model::load(&checkpoint, &Device::flex()).expect("it loads");
        let adapter = bench.path(adapter);
        let load = || litemoe_adapter::load(&adapter, &model, checkpoint.fingerprint()).ok();
        let whole = load().expect("an adapter");
        for path in files(&adapter) {
            let noticed = flips(&path, |_| Some(is_same(&load()?, &whole)));
            assert!(noticed > FLIPS / 8, "{}: {noticed}", path.display());
        }
    }
}

/// Whether two adapters compute the same.
fn is_same(x: &LoadedAdapter, y: &LoadedAdapter) -> bool {
    let values = |adapter: &LoadedAdapter| -> Vec<_> {
        let values = |lora: &litemoe_core::Lora| {
            (lora.scale, [&lora.a, &lora.b].map(|matrix| matrix.to_data()))
        };
        let loras = adapter.mounted.adapters.loras();
        loras.map(|(site, lora)| (site.clone(), values(lora))).collect()
    };
    values(x) == values(y) && x.record == y.record && x.config.routed == y.config.routed
}

#[test]
fn the_error_names_the_file_and_files_without_checksums_are_read() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let edit = |name: &str, from: &str, to: &str| {
        let text = String::from_utf8(bench.read(name)).expect("text");
        assert!(text.contains(from), "{name}: {text}");
        fs::write(bench.path(name), text.replacen(from, to, 1)).expect("written");
        text
    };
    let plan = ["plan", "model", "scores.json", "--budget", "0.5", "--out", "other.json"];
    let extract = ["extract", "model", "plan.json", "--out", "other"];
    let eval = ["eval", "proxy", "rows.jsonl", "--adapter", "adapter"];
    for (args, name, from, to) in [
        (&plan[..], "scores.json", "\"kappa\": 0.2", "\"kappa\": 0.3"),
        (&extract, "plan.json", "\"share\": 1.0", "\"share\": 1"),
        (&extract, "plan.json", "\"budget\": \"0.5\"", "\"budget\": \"0.4\""),
        (&eval, "adapter/litemoe.json", "\"best_step\": ", "\"best_step\": 1"),
        (&eval, "adapter/adapter_config.json", "\"lora_alpha\": 8", "\"lora_alpha\": 9"),
        (&eval, "proxy/tokenizer.json", "\"model\"", " \"model\""),
        (&eval, "proxy/litemoe_proxy.json", "\"version\": 1", "\"version\": 2"),
    ] {
        let whole = edit(name, from, to);
        let run = bench.run(args);
        let is_equal = to == "\"share\": 1";
        assert_eq!(run.code, i32::from(!is_equal), "{name}: {}", run.stderr);
        let (file, damaged) = (name, "was changed or damaged");
        let names = run.stderr.contains(file) && run.stderr.contains(damaged);
        assert!(is_equal || names, "{name}: {}", run.stderr);
        fs::write(bench.path(name), whole).expect("written");
    }
    for name in ["scores.json", "plan.json", "adapter/litemoe.json"] {
        edit_json(&bench.path(name), |record| {
            record.as_object_mut().expect("an object").remove("peft_sha256");
        });
    }
    fs::remove_file(bench.path("proxy/litemoe_proxy.json")).expect("removed");
    for args in [&plan[..], &["extract", "model", "plan.json", "--out", "another"], &eval] {
        let run = bench.run(args);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
}

//! Invalid input: the message names the problem, the exit code is 1 (2 for usage errors), and nothing is partly
//! written.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::json;

use crate::bench::{Bench, edit_json};

/// Runs a command and checks that it fails with `code`, mentions all of `names`, and leaves the directory unchanged.
#[track_caller]
fn refused(bench: &Bench, args: &[&str], code: i32, names: &[&str]) {
    let before = bench.names();
    let run = bench.run(args);
    assert_eq!(run.code, code, "{args:?}: {}{}", run.stdout, run.stderr);
    for name in names {
        assert!(run.stderr.contains(name), "{args:?} should name `{name}`: {}", run.stderr);
    }
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    assert_eq!(bench.names(), before, "{args:?} left something behind");
}

const SCORE: [&str; 3] = ["score", "model", "rows.jsonl"];

/// Rewrites the tensors of the model.
fn rewrite(bench: &Bench, change: impl Fn(&str, &mut Vec<usize>, &mut Vec<u8>)) {
    rewrite_file(&bench.path("model/model.safetensors"), change);
}

/// Rewrites the tensors of a safetensors file.
fn rewrite_file(path: &Path, change: impl Fn(&str, &mut Vec<usize>, &mut Vec<u8>)) {
    let bytes = fs::read(path).expect("the checkpoint is there");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let owned: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, view)| {
            let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
            change(name, &mut shape, &mut data);
            (name.to_owned(), view.dtype(), shape, data)
        })
        .collect();
    let views = owned.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).expect("a view"))
    });
    let out = safetensors::serialize(views, None).expect("serialised");
    fs::write(path, out).expect("written");
}

#[test]
fn truncated_safetensors() {
    let bench = Bench::new();
    let path = bench.path("model/model.safetensors");
    let bytes = fs::read(&path).expect("the checkpoint is there");
    fs::write(&path, &bytes[..bytes.len() - 100]).expect("written");
    refused(&bench, &SCORE, 1, &["model.safetensors"]);
    fs::write(&path, &bytes[..5]).expect("written");
    refused(&bench, &SCORE, 1, &["model.safetensors"]);
}

#[test]
fn a_missing_shard() {
    let bench = Bench::new();
    let path = bench.path("model/model.safetensors");
    let bytes = fs::read(&path).expect("the checkpoint is there");
    let names: Vec<String> = SafeTensors::deserialize(&bytes)
        .expect("safetensors")
        .names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    fs::remove_file(&path).expect("removed");
    let map: serde_json::Map<_, _> =
        names.into_iter().map(|name| (name, json!("model-00001-of-00001.safetensors"))).collect();
    let index = json!({"metadata": {"total_size": bytes.len()}, "weight_map": map});
    fs::write(bench.path("model/model.safetensors.index.json"), index.to_string())
        .expect("written");
    refused(&bench, &SCORE, 1, &["model-00001-of-00001.safetensors"]);
}

#[test]
fn no_weights_at_all() {
    let bench = Bench::new();
    fs::remove_file(bench.path("model/model.safetensors")).expect("removed");
    refused(&bench, &SCORE, 1, &["model.safetensors"]);
}

#[test]
fn a_tensor_of_the_wrong_shape() {
    let bench = Bench::new();
    rewrite(&bench, |name, shape, _| {
        if name == "model.layers.0.self_attn.q_proj.weight" {
            shape.reverse();
            shape[0] *= 2;
            shape[1] /= 2;
        }
    });
    refused(&bench, &SCORE, 1, &["model.layers.0.self_attn.q_proj.weight"]);
}

#[test]
fn nan_weights() {
    let bench = Bench::new();
    rewrite(&bench, |name, _, data| {
        if name == "model.norm.weight" {
            data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }
    });
    refused(&bench, &SCORE, 1, &["model.norm.weight"]);
}

#[test]
fn an_unknown_model_type() {
    let bench = Bench::new();
    edit_json(&bench.path("model/config.json"), |config| config["model_type"] = json!("dense_rnn"));
    refused(&bench, &SCORE, 1, &["dense_rnn"]);
}

#[test]
fn an_unknown_configuration_key_that_may_change_the_maths() {
    let bench = Bench::new();
    edit_json(&bench.path("model/config.json"), |config| {
        config["final_logit_softcapping"] = json!(30.0);
    });
    refused(&bench, &SCORE, 1, &["final_logit_softcapping"]);
}

#[test]
fn an_unknown_score() {
    let bench = Bench::new();
    bench.json(&SCORE);
    refused(&bench, &["plan", "model", "scores.json", "--score", "tusk"], 2, &["tusk", "task"]);
}

#[test]
fn a_plan_for_another_model() {
    let bench = Bench::new();
    bench.json(&SCORE);
    bench.json(&["plan", "model", "scores.json", "--budget", "0.5"]);
    rewrite(&bench, |name, _, data| {
        if name == "model.norm.weight" {
            data[..4].copy_from_slice(&0.5f32.to_le_bytes());
        }
    });
    refused(&bench, &["extract", "model", "plan.json"], 1, &["plan.json", "model"]);
    refused(&bench, &["plan", "model", "scores.json", "--out", "other.json"], 1, &["scores.json"]);
}

#[test]
fn scores_that_contradict_each_other() {
    let bench = Bench::new();
    bench.json(&SCORE);
    let plan = ["plan", "model", "scores.json", "--budget", "0.5"];
    let broken = |edit: fn(&mut serde_json::Value), names: &[&str]| {
        let whole = bench.read("scores.json");
        edit_json(&bench.path("scores.json"), edit);
        refused(&bench, &plan, 1, &[&["scores.json"], names].concat());
        fs::write(bench.path("scores.json"), whole).expect("written");
    };
    broken(|s| drop(s["layers"]["1"]["count"].as_array_mut().expect("a list").pop()), &["layer 1"]);
    broken(|s| s["layers"]["1"]["gate_norm"] = json!([[1.0], [2.0, 3.0]]), &["lengths"]);
    broken(|s| s["layers"]["1"]["scores"] = json!({"task": [1.0]}), &["`scores`"]);
    // Version 1 of the scores, without sums.
    let old = &["version 1", "version 2", "score the model again"];
    broken(|s| *s = json!({"version": 1, "sequences": 40, "layers": {}}), old);
    edit_json(&bench.path("scores.json"), |s| s["layers"]["1"]["gate_norm"][0][0] = json!(-1.0));
    refused(&bench, &plan, 1, &["layer 1 expert 0", "`task`", "-1"]);
}

const TUNE: [&str; 5] = ["tune", "proxy", "rows.jsonl", "--validation", "rows.jsonl"];

#[test]
fn a_plan_of_another_proxy() {
    let bench = Bench::new();
    bench.extract(&[]);
    bench.json(&[
        "plan",
        "model",
        "scores.json",
        "--budget",
        "0.5",
        "--score",
        "random",
        "--out",
        "other.json",
    ]);
    let tune = [&TUNE[..], &["--plan", "other.json"]].concat();
    refused(&bench, &tune, 1, &["other.json", "proxy"]);
    let tune = ["tune", "model", "rows.jsonl", "--validation", "rows.jsonl", "--plan", "plan.json"];
    refused(&bench, &tune, 1, &["model", "no proxy"]);
}

#[test]
fn a_folder_of_somebody_elses() {
    let bench = Bench::new();
    bench.extract(&[]);
    fs::create_dir(bench.path("docs")).expect("made");
    fs::write(bench.path("docs/thesis.txt"), "precious").expect("written");
    let files = || (bench.read("docs/thesis.txt"), bench.read("model/model.safetensors"));
    let before = files();
    let extract = ["extract", "model", "plan.json", "--out"];
    let tune = [&TUNE[..], &["--plan", "plan.json", "--out"]].concat();
    for (command, out) in
        [(&extract[..], "docs"), (&extract, "model"), (&tune, "docs"), (&tune, "rows.jsonl")]
    {
        refused(&bench, &[command, &[out]].concat(), 1, &[out]);
    }
    fs::write(bench.path("notes.checkpoint"), "mine").expect("written");
    refused(&bench, &[&tune[..], &["notes"]].concat(), 1, &["notes.checkpoint"]);
    assert_eq!(bench.read("notes.checkpoint"), b"mine");
    assert!(files() == before);

    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let mount = ["mount", "model", "adapter", "--scale", "1", "--out"];
    for out in ["docs", "adapter"] {
        refused(&bench, &[&mount[..], &[out]].concat(), 1, &[out]);
    }
    // Earlier outputs of the same commands are replaced.
    bench.json(&["extract", "model", "plan.json"]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
}

#[test]
fn what_is_no_longer_mounted_is_not_left_there() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    let mount = ["mount", "model", "adapter", "--out", "mounted", "--scale"];
    bench.json(&[&mount[..], &["1"]].concat());
    assert!(bench.path("mounted/litemoe.json").exists());
    let run = bench.run(&[&mount[..], &["0"]].concat());
    assert!(run.stdout.contains("not mounted, as asked"), "{}{}", run.stdout, run.stderr);
    assert!(!bench.path("mounted").exists());
}

#[test]
fn an_adapter_that_overflows() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    fs::remove_file(bench.path("adapter/litemoe.json")).expect("removed");
    edit_json(&bench.path("adapter/adapter_config.json"), |config| {
        config["lora_alpha"] = json!(1e38);
    });
    refused(
        &bench,
        &["mount", "model", "adapter", "--scale", "1", "--out", "m"],
        1,
        &["too large"],
    );
}

#[test]
fn a_config_of_more_parts_than_there_can_be() {
    for keys in [&["num_hidden_layers"][..], &["num_experts", "num_local_experts"]] {
        let bench = Bench::new();
        edit_json(&bench.path("model/config.json"), |config| {
            for &key in keys {
                config[key] = json!(1_000_000_000_000_u64);
            }
        });
        refused(&bench, &["inspect", "model"], 1, &["config.json", keys[0], "must be"]);
    }
}

#[test]
fn options_that_make_no_sense() {
    let bench = Bench::new();
    let sampling = [
        "--temperature=nan",
        "--temperature=-1",
        "--top-p=nan",
        "--top-p=1.1",
        "--min-p=-0.1",
        "--repetition-penalty=0",
        "--presence-penalty=3",
        "--frequency-penalty=inf",
        "--stop=",
    ];
    for option in sampling {
        let name = option.split_once('=').expect("a value").0;
        refused(&bench, &["generate", "model", "--prompt", "hi", option], 2, &[name]);
        refused(&bench, &["chat", "model", option], 2, &[name]);
    }
    let logprobs = ["generate", "model", "--prompt", "hi", "--logprobs", "2"];
    refused(&bench, &logprobs, 2, &["--json"]);
    let tune = ["tune", "model", "rows.jsonl", "--validation", "rows.jsonl"];
    for (option, name) in [
        ("--accumulate=0", "--accumulate"),
        ("--accumulate=17", "--accumulate"),
        ("--rank=0", "rank"),
        ("--alpha=-1", "alpha"),
        ("--router-noise=-1", "router_noise"),
        ("--validation-rows=0", "--validation-rows"),
    ] {
        refused(&bench, &[&tune[..], &[option]].concat(), 1, &[name]);
    }
    let score = [
        &SCORE[..],
        &["--similarity", "affinity", "--similarity-out", "same.json", "--out", "same.json"],
    ]
    .concat();
    refused(&bench, &score, 1, &["same.json"]);
    for (option, name) in [("--alpha=-1", "alpha"), ("--app=report.json=.", "report.json")] {
        refused(&bench, &["customize", "--foundation", "model", option], 1, &[name]);
    }
}

#[test]
fn a_plan_that_does_not_fit() {
    let bench = Bench::new();
    bench.json(&SCORE);
    bench.json(&["plan", "model", "scores.json", "--budget", "0.5"]);
    edit_json(&bench.path("plan.json"), |plan| {
        plan["layers"]["1"]["removed"].as_array_mut().expect("a list").push(json!(99));
    });
    refused(&bench, &["extract", "model", "plan.json"], 1, &["plan.json", "layer 1", "expert 99"]);
}

#[test]
fn an_adapter_for_another_base() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    rewrite(&bench, |name, _, data| {
        if name == "model.norm.weight" {
            data[..4].copy_from_slice(&0.5f32.to_le_bytes());
        }
    });
    refused(&bench, &["eval", "model", "rows.jsonl", "--adapter", "adapter"], 1, &["adapter"]);
    let mount = ["mount", "model", "adapter", "--validation", "rows.jsonl", "--out", "mounted"];
    refused(&bench, &mount, 1, &["adapter"]);
}

#[test]
fn an_adapter_that_is_all_zero() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    fs::remove_file(bench.path("adapter/litemoe.json")).expect("removed");
    rewrite_file(&bench.path("adapter/adapter_model.safetensors"), |name, _, data| {
        if name.contains("lora_B") {
            data.fill(0);
        }
    });
    let mount = ["mount", "model", "adapter", "--validation", "rows.jsonl", "--out", "mounted"];
    refused(&bench, &mount, 1, &["zero"]);
}

#[test]
fn rows_that_cannot_be_read() {
    for (rows, line) in [
        ("\n{\"prompt\": \"a\", \"completion\": \"\"}\n", "line 2: empty completion"),
        ("prompt,completion\na,b\nc\n", "line 3"),
        ("PAR1", "a Parquet file"),
        ("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"}\n", "2"),
        ("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\", \"comp", "2"),
        ("{\"prompt\": 3, \"completion\": \"b\"}\n", "1"),
        ("", "no rows"),
    ] {
        let bench = Bench::new();
        fs::write(bench.path("rows.jsonl"), rows).expect("written");
        refused(&bench, &SCORE, 1, &["rows.jsonl", line]);
        refused(&bench, &["eval", "model", "rows.jsonl"], 1, &["rows.jsonl", line]);
    }
}

#[test]
fn a_budget_of_nothing_or_below_top_k() {
    let bench = Bench::new();
    bench.json(&SCORE);
    for budget in ["0", "-1", "0B", "2.0", "many"] {
        let budget = format!("--budget={budget}");
        refused(&bench, &["plan", "model", "scores.json", &budget], 2, &["--budget"]);
    }
    for budget in ["0.01", "1B"] {
        refused(&bench, &["plan", "model", "scores.json", "--budget", budget], 1, &["layer 0"]);
    }
}

#[test]
fn ids_outside_the_vocabulary() {
    let bench = Bench::new();
    refused(&bench, &["logits", "model", "--ids", "5,99999"], 1, &["99999"]);
}

#[test]
fn a_model_that_is_not_there() {
    let bench = Bench::new();
    refused(&bench, &["inspect", "nowhere"], 1, &["nowhere"]);
}

#[cfg(not(feature = "embedded"))]
#[test]
fn a_foundation_and_an_app_that_are_not_compiled_in() {
    let bench = Bench::new();
    refused(&bench, &["customize"], 1, &["--foundation"]);
    refused(&bench, &["customize", "--foundation", "model"], 1, &["--app"]);
}

#[cfg(not(feature = "wgpu"))]
#[test]
fn a_gpu_that_is_not_compiled_in() {
    let bench = Bench::new();
    refused(&bench, &["logits", "model", "--ids", "5", "--device", "gpu"], 1, &["--features wgpu"]);
}

/// Rows, adapter and plan are checked before the weights are read.
#[test]
fn mount_reads_its_rows_before_the_weights() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    let mount = ["mount", "model", "adapter", "--validation", "rows.jsonl", "-vv"];
    let loaded = "loaded the model";
    let run = bench.run(&mount);
    assert!(run.code == 0 && run.stderr.contains(loaded), "{}", run.stderr);
    let run = bench.run(&[&mount[..], &["--max-tokens", "1"]].concat());
    assert!(run.code == 1 && run.stderr.contains("is within 1 tokens"), "{}", run.stderr);
    assert!(!run.stderr.contains(loaded), "{}", run.stderr);
    fs::write(bench.path("adapter/litemoe.json"), "{").expect("written");
    let run = bench.run(&mount);
    assert!(run.code == 1 && run.stderr.contains("adapter/litemoe.json"), "{}", run.stderr);
    assert!(!run.stderr.contains(loaded), "{}", run.stderr);
}

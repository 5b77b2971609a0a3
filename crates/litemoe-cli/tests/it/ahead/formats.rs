//! `customize --dtype`: what is told and recorded about the number format.

use serde_json::Value;

use super::{bench, quick};
use crate::bench::{Bench, edit_json};

/// Bytes of a model's weights in memory.
fn weights(bench: &Bench, model: &str, dtype: &str) -> u64 {
    let told = bench.json(&["inspect", model, "--dtype", dtype]);
    told["forecast"]["whole"]["weights"].as_u64().expect("bytes")
}

#[test]
fn a_run_tells_its_number_format_and_the_sizes_in_it() {
    let bench = bench();
    let options = ["--budget=.5", "--no-controls", "--scale=1", "--routing=restricted"];
    let adapters = ["f32", "q4"].map(|dtype| {
        let mut args = quick(&[&options[..], &["--dtype", dtype]].concat());
        args.iter_mut().filter(|arg| **arg == "out").for_each(|out| *out = dtype);
        let run = bench.run(&args);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let (heading, option) = match dtype {
            "f32" => (String::new(), String::new()),
            _ => (format!(", weights in {dtype}"), format!(" --dtype {dtype}")),
        };
        let file = format!("{dtype}/report.json");
        let report: Value = serde_json::from_slice(&bench.read(&file)).expect("JSON");
        let app = &report["apps"][0];
        assert_eq!(app["options"]["dtype"], dtype);
        let of = |name: &str| app["serve_bytes"][name].as_u64().expect("bytes");
        assert_eq!(of("foundation"), weights(&bench, "model", dtype));
        for line in [
            format!("home: 10 test rows{heading}; the proxy keeps "),
            format!("  litemoe chat model --adapter {dtype}/home/mounted{option}\n"),
            format!(
                "  litemoe serve model --adapter home={dtype}/home/mounted{option}   (with one"
            ),
            format!(
                "  litemoe serve {dtype}/home/proxy --adapter home={dtype}/home/adapter{option}\n"
            ),
        ] {
            assert!(run.stdout.contains(&line), "{line}: {}", run.stdout);
        }
        of("proxy") - weights(&bench, &format!("{dtype}/home/proxy"), dtype)
    });
    assert!(adapters[0] > 0);
    assert_eq!(adapters[0], adapters[1], "LoRA matrices are in f32");
}

#[test]
fn a_sweep_tells_its_number_format_and_earlier_reports_are_of_f32() {
    let bench = bench();
    let sweep = quick(&["--budget=.5,.75", "--no-controls", "--dtype=q8"]);
    let run = bench.run(&sweep);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("weights in q8\n"), "{}", run.stdout);
    let told = |expected: &str| {
        let run = bench.json(&["inspect", "out/sweep.json"]);
        assert_eq!(run["apps"][1]["options"]["dtype"], expected, "{run}");
    };
    told("q8");
    edit_json(&bench.path("out/sweep.json"), |file| {
        for app in file["apps"].as_array_mut().expect("a list") {
            app["options"].as_object_mut().expect("options").remove("dtype");
        }
    });
    told("f32");
}

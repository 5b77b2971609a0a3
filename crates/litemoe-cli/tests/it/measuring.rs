//! `litemoe bench`: its figures are there and agree, and what it cannot measure is refused.

use serde_json::Value;

use crate::bench::Bench;

/// Few short passes.
const QUICK: [&str; 6] =
    ["bench", "model", "--prompt=24", "--tokens=6", "--train=2x16", "--repetitions=3"];

fn number(value: &Value, place: &str) -> f64 {
    value.pointer(place).and_then(Value::as_f64).unwrap_or_else(|| panic!("{place}: {value}"))
}

/// Keys of an object and of those in it, in order.
fn keys(value: &Value, path: &str) -> Vec<String> {
    let Some(object) = value.as_object() else { return vec![path.to_owned()] };
    object.iter().flat_map(|(key, value)| keys(value, &format!("{path}/{key}"))).collect()
}

#[test]
fn figures_agree_with_each_other() {
    let bench = Bench::new();
    for dtype in ["f32", "q4"] {
        let report = bench.json(&[&QUICK[..], &["--dtype", dtype]].concat());
        assert_eq!(report["dtype"], dtype);
        assert_eq!(report["machine"]["threads"], 2);
        for (figure, tokens) in [("prefill", 24.0), ("decode", 6.0), ("tune", 32.0)] {
            let of = |place: &str| number(&report, &format!("/{figure}/{place}"));
            assert_eq!(of("tokens"), tokens, "{figure}");
            for kind in ["seconds", "tokens_per_second"] {
                let [least, median, most] =
                    ["least", "median", "most"].map(|it| of(&format!("{kind}/{it}")));
                assert!(0.0 < least && least <= median && median <= most, "{figure} {kind}");
                assert_eq!(of(&format!("{kind}/repetitions")), 3.0);
            }
            for (seconds, speed) in [("median", "median"), ("least", "most"), ("most", "least")] {
                let product =
                    of(&format!("seconds/{seconds}")) * of(&format!("tokens_per_second/{speed}"));
                assert!((product / tokens - 1.0).abs() < 1e-12, "{figure} {seconds}: {product}");
            }
        }
        let of = |place: &str| number(&report, place);
        assert_eq!(of("/load/repetitions"), 3.0);
        let share = of("/shares/decode_bytes") * of("/decode/tokens_per_second/median")
            / of("/limits/bytes_per_second");
        assert!((of("/shares/decode") / share - 1.0).abs() < 1e-3, "{share}");
        let share = of("/shares/prefill_flops")
            / of("/prefill/seconds/median")
            / of("/limits/flops_per_second");
        assert!((of("/shares/prefill") / share - 1.0).abs() < 1e-9, "{share}");
        if cfg!(target_os = "linux") {
            for peak in ["prefill", "decode", "tune"] {
                let above = of(&format!("/memory/{peak}")) - of("/memory/loaded");
                assert_eq!(of(&format!("/memory/working/{peak}")), above.max(0.0), "{peak}");
            }
            assert!(of("/memory/loaded") > of("/memory/program"));
        }
    }
}

#[test]
fn what_a_decode_step_reads_is_counted_by_hand() {
    let bench = Bench::new();
    let report = bench.json(&[&QUICK[..], &["--skip=load,tune"]].concat());
    // Of 189 824 values: not the embedding, and two of eight experts in each of two blocks; keys and values of 27 tokens.
    let weights = 189_824 - 512 * 64 - 2 * 6 * 3 * 32 * 64;
    let cached = 27 * 2 * 2 * 2 * 16;
    assert_eq!(number(&report, "/shares/decode_bytes"), f64::from(4 * (weights + cached)));
    assert_eq!(report["tune"], Value::Null);
    assert_eq!(report["load"], Value::Null);
    assert_eq!(report["forecast"]["tune"], Value::Null);
}

#[test]
fn the_report_has_the_same_keys_whatever_is_measured() {
    let bench = Bench::new();
    let all = bench.json(&QUICK);
    let few = bench.json(&[&QUICK[..], &["--skip=prefill,decode,tune,limits"]].concat());
    let top = |report: &Value| -> Vec<String> {
        report.as_object().expect("an object").keys().cloned().collect()
    };
    let expected = [
        "program",
        "model",
        "family",
        "dtype",
        "cache_dtype",
        "machine",
        "setting",
        "load",
        "prefill",
        "decode",
        "tune",
        "memory",
        "limits",
        "shares",
        "forecast",
    ];
    assert_eq!(top(&all), expected);
    assert_eq!(top(&few), expected);
    let expected = [
        "/tokens",
        "/seconds/median",
        "/seconds/least",
        "/seconds/most",
        "/seconds/repetitions",
        "/tokens_per_second/median",
        "/tokens_per_second/least",
        "/tokens_per_second/most",
        "/tokens_per_second/repetitions",
    ];
    for figure in ["prefill", "decode", "tune"] {
        assert_eq!(keys(&all[figure], ""), expected, "{figure}");
        assert_eq!(few[figure], Value::Null, "{figure}");
    }
    assert_eq!(few["shares"], Value::Null);
    let text = bench.run(&[&QUICK[..], &["--skip=limits"]].concat());
    assert_eq!(text.code, 0, "{}", text.stderr);
    for word in ["qwen3_moe", "prefill of 24", "decode of 6 after 24", "tune on 2x16", "forecast"] {
        assert!(text.stdout.contains(word), "{word}: {}", text.stdout);
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let bench = Bench::new();
    for (options, mentions) in [
        (&["--prompt=250", "--tokens=7"][..], &["--prompt 250", "--tokens 7", "256"][..]),
        (&["--prompt=8", "--tokens=8", "--train=1x257"], &["--train 1x257", "256"]),
        (
            &["--prompt=8", "--tokens=8", "--skip=load,prefill,decode,tune,limits"],
            &["--skip", "nothing is to be measured"],
        ),
    ] {
        let run = bench.run(&[&["bench", "model"], options].concat());
        assert_eq!(run.code, 1, "{}", run.stdout);
        assert!(mentions.iter().all(|it| run.stderr.contains(it)), "{}", run.stderr);
    }
    for wrong in
        ["--prompt=0", "--tokens=0", "--repetitions=0", "--train=4", "--skip=all", "--dtype=q5"]
    {
        assert_eq!(bench.run(&["bench", "model", wrong]).code, 2, "{wrong}");
    }
    let unknown = bench.command(&QUICK).env("LITEMOE_KERNELS", "sse9").output().expect("it runs");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("LITEMOE_KERNELS=sse9"));
    let encoder = Bench::of("switch_transformers").run(&["bench", "model"]);
    assert_eq!(encoder.code, 1);
    assert!(encoder.stderr.contains("encoder–decoder"), "{}", encoder.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn forecasts_of_the_example_foundation_are_close() {
    let foundation = litemoe_fixtures::foundation_dir();
    let foundation = foundation.to_str().expect("a path");
    let bench = Bench::new();
    for dtype in ["f32", "bf16", "q8", "q4"] {
        for (prompt, train) in [("--prompt=64", "--train=1x64"), ("--prompt=512", "--train=1x512")]
        {
            let args = ["bench", foundation, "--repetitions=1", prompt, "--tokens=8"];
            let more = [train, "--skip=load,limits", "--dtype", dtype];
            let forecast = &bench.json(&[&args[..], &more].concat())["forecast"];
            for (figure, most) in [("loaded", 0.06), ("generate", 0.12), ("tune", 0.18)] {
                let error = number(forecast, &format!("/{figure}/error"));
                assert!((-0.1..=most).contains(&error), "{dtype} {train} {figure}: {forecast}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn tuning_needs_not_much_more_than_its_forecast_in_any_family() {
    // Experts in one operation; with biases; with gated inputs; latent attention.
    for family in ["qwen3_moe", "gpt_oss", "llama4_text", "deepseek_v3"] {
        let args = ["bench", "model", "--repetitions=1", "--prompt=8", "--tokens=8"];
        let more = ["--train=8x256", "--skip=load,prefill,decode,limits"];
        let forecast = &Bench::of(family).json(&[&args[..], &more].concat())["forecast"];
        let error = number(forecast, "/tune/error");
        assert!((-0.1..=0.4).contains(&error), "{family}: {forecast}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn more_than_the_available_memory_is_refused_before_the_model_is_loaded() {
    let bench = Bench::new();
    for train in ["100000000x256", "100000000000x256"] {
        let run = bench.run(&["bench", "model", "--prompt=8", "--tokens=8", "--train", train]);
        assert_eq!(run.code, 1, "{}", run.stdout);
        for word in [&*format!("--train {train}: needs about"), "are available"] {
            assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
        }
        assert!(!run.stderr.contains("measuring"), "{}", run.stderr);
    }
    // What is not measured needs none.
    let args = ["bench", "model", "--prompt=8", "--tokens=8", "--repetitions=1"];
    let more = ["--train=100000000x256", "--skip=tune,limits"];
    assert_eq!(bench.run(&[&args[..], &more].concat()).code, 0);
}

//! `litemoe inspect`: sizes of a model, and of its proxies under byte budgets.

use serde_json::{Value, json};

use crate::bench::{Bench, edit_json};

#[test]
fn the_tiny_model_in_numbers() {
    let bench = Bench::new();
    let mut found = bench.json(&["inspect", "model", "--budget", "0.5", "--budget", "96KiB"]);
    let fingerprint = found["fingerprint"].take();
    assert_eq!(fingerprint.as_str().expect("a name").len(), 64);
    // By hand: 2 blocks, 8 experts of 3·32·64 parameters, top-2 routing.
    let layer = json!({"n_experts": 8, "top_k": 2, "d_expert": 32, "expert_bytes": 24_576});
    assert_eq!(
        found,
        json!({
            "kind": "model",
            "family": "qwen3_moe",
            "fingerprint": null,
            "d_model": 64,
            "n_blocks": 2,
            "vocab": 512,
            "max_tokens": 256,
            "dtypes": ["F32"],
            "attention": {
                "n_heads": 4,
                "n_kv_heads": 2,
                "d_head": 16,
                "bias": false,
                "window": null,
                "rope": {"theta": 10_000.0, "scaling": "None"},
            },
            "tied_head": false,
            "parameters": 189_824,
            "active_parameters": 83_328,
            "bytes": 759_296,
            "expert_bytes": 393_216,
            "parts": {
                "embedding": {"parameters": 32_768, "bytes": 131_072},
                "attention": {"parameters": 24_640, "bytes": 98_560},
                "routers": {"parameters": 1_024, "bytes": 4_096},
                "experts": {"parameters": 98_304, "bytes": 393_216},
                "norms": {"parameters": 320, "bytes": 1_280},
                "head": {"parameters": 32_768, "bytes": 131_072},
            },
            "layers": {"0": layer, "1": layer},
            "leftovers": [],
            "budgets": [
                {
                    "budget": "0.5",
                    "kept_per_layer": 4,
                    "expert_bytes": 196_608,
                    "parameters": 140_160,
                    "bytes": 560_640,
                },
                {
                    "budget": "98304B",
                    "kept_per_layer": 2,
                    "expert_bytes": 98_304,
                    "parameters": 115_328,
                    "bytes": 461_312,
                },
            ],
        })
    );
}

#[test]
fn a_budget_leaves_what_extract_writes() {
    for name in ["qwen3_moe", "granitemoe", "mixtral_fused", "qwen2_moe", "gpt_oss_mxfp4"] {
        let bench = Bench::of(name);
        let left = bench.json(&["inspect", "model", "--budget", "0.5"])["budgets"][0].take();
        bench.extract(&[]);
        let proxy = bench.json(&["inspect", "proxy"]);
        for key in ["bytes", "expert_bytes", "parameters"] {
            assert_eq!(left[key], proxy[key], "{name}: {key}");
        }
        assert_eq!(left["kept_per_layer"], proxy["layers"]["0"]["n_experts"], "{name}");
    }
}

#[test]
fn usual_budgets_that_leave_no_model_say_so() {
    let bench = Bench::new();
    let budgets = bench.json(&["inspect", "model"])["budgets"].take();
    let kept = |line: &Value| line["kept_per_layer"].as_u64();
    let budgets = budgets.as_array().expect("a list");
    assert_eq!(budgets.iter().map(kept).collect::<Vec<_>>(), [Some(4), Some(2), Some(2), None]);
    assert!(budgets[3]["refused"].as_str().expect("a reason").contains("layer 0"));
    let asked = bench.run(&["inspect", "model", "--budget", "0.1"]);
    assert_eq!(asked.code, 1);
    assert!(asked.stderr.contains("layer 0"), "{}", asked.stderr);
}

#[test]
fn a_proxy_with_a_router_of_its_own_is_shown_without_budgets() {
    let bench = Bench::new();
    bench.extract(&["--router", "redirect"]);
    let proxy = bench.json(&["inspect", "proxy"]);
    assert_eq!((&proxy["layers"]["1"]["n_experts"], &proxy["budgets"]), (&json!(4), &json!([])));
    let asked = bench.run(&["inspect", "proxy", "--budget", "0.5"]);
    assert_eq!(asked.code, 1);
    assert!(asked.stderr.contains("--budget"), "{}", asked.stderr);
}

#[test]
fn the_text_names_everything() {
    let bench = Bench::of("qwen2_moe");
    let run = bench.run(&["inspect", "model"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for line in [
        "family       qwen2_moe",
        "size         4 blocks of width 48, vocabulary 512, rows of up to 256 tokens, BF16",
        "attention    grouped-query, 4 heads of 12, 2 of keys and values, a window of 6 tokens but in 2 blocks",
        "positions    rotary, base 10000",
        "experts      6 in each of 3 blocks, 2 for a token, 16 neurons",
        "(the embedding is not counted)",
        "shared experts",
        "fewer than its router needs",
    ] {
        assert!(run.stdout.contains(line), "`{line}` is not in:\n{}", run.stdout);
    }
}

#[test]
fn what_the_model_does_not_use_is_listed() {
    let bench = Bench::new();
    edit_json(&bench.path("model/config.json"), |config| {
        for key in ["a_dropout", "b_dropout", "c_dropout", "d_dropout", "e_version"] {
            config[key] = json!(1);
        }
    });
    let leftovers = bench.json(&["inspect", "model"])["leftovers"].take();
    assert_eq!(leftovers[0], json!({"reason": "key", "name": "a_dropout"}));
    assert_eq!(leftovers.as_array().expect("a list").len(), 5);
    let run = bench.run(&["inspect", "model"]);
    let line = "not used     configuration keys without effect: a_dropout, b_dropout, c_dropout, d_dropout and 1 more";
    assert!(run.stdout.contains(line), "{}", run.stdout);
    // Other commands say so once.
    let note = "5 of its tensors and keys are not used; `litemoe inspect` lists them";
    let logits = ["logits", "model", "--ids", "1,2"];
    let run = bench.run(&logits);
    assert_eq!((run.code, run.stderr.matches(note).count()), (0, 1), "{}", run.stderr);
    let quiet = bench.run(&[&logits[..], &["--quiet"]].concat());
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    assert!(quiet.stdout == run.stdout);
}

#[test]
fn a_forecast_counts_packed_bytes_and_the_cache() {
    let bench = Bench::new();
    let forecast = |options: &[&str]| {
        let all = [&["inspect", "model", "--budget=0.5"], options].concat();
        bench.json(&all)["forecast"].take()
    };
    let of_f32 = forecast(&["--context=100"]);
    assert_eq!(of_f32["dtype"], "f32");
    assert_eq!(of_f32["whole"]["weights"], 759_296);
    // Half of the experts less; routers count whole.
    assert_eq!(of_f32["budgets"][0]["weights"], 759_296 - 196_608);
    // 2 blocks, keys and values of 2 heads of 16, room for 128 tokens.
    assert_eq!(of_f32["whole"]["cache"], 4 * 2 * 2 * 2 * 16 * 128);
    // In blocks of 64 tokens, not a power of two.
    assert_eq!(forecast(&["--context=129"])["whole"]["cache"], 4 * 2 * 2 * 2 * 16 * 192);
    assert_eq!(of_f32["whole"]["decode_per_second"], Value::Null);
    // In f32: routers, norms, and of attention the norms of heads, 2·2·16 values. No width is padded.
    let exact = 4 * (1024 + 320 + 64);
    let (attention, experts, head) = (24_640 - 64, 98_304, 32_768);
    let embedding = head;
    let bytes = |weights: u64, per_block: u64| weights / 32 * per_block;
    for (dtype, always, packed) in [("bf16", 64, 64), ("q8", 34, 34), ("q4", 34, 18)] {
        let found = forecast(&["--dtype", dtype]);
        let expected = exact + bytes(attention + embedding + head, always) + bytes(experts, packed);
        assert_eq!(found["whole"]["weights"], expected, "{dtype}");
    }
    let limited = forecast(&["--dtype=q8", "--context=256", "--bandwidth=10", "--peak=100"]);
    let line = &limited["whole"];
    let read = exact + 2 * 256 * 2 * 2 * 2 * 16 + bytes(attention + experts / 4 + head, 34);
    let speed = line["decode_per_second"].as_f64().expect("a speed");
    assert!((speed / (10e9 / read as f64) - 1.0).abs() < 1e-12, "{speed}");
    assert!(line["prefill_per_second"].as_f64().expect("a speed") > 1e5);
    assert!(limited["budgets"][0]["generate"].as_u64() < line["generate"].as_u64());
    let measured = forecast(&["--measure"]);
    assert!(measured["bytes_per_second"].as_f64().is_some_and(|it| it > 1e8), "{measured}");
    assert!(measured["whole"]["prefill_per_second"].as_f64().is_some_and(|it| it > 1.0));
    // The memory of measuring is not in the forecast.
    let unmeasured = forecast(&["--dtype=f32"]);
    for peak in ["generate", "tune"] {
        let [with, without] =
            [&measured, &unmeasured].map(|it| it["whole"][peak].as_u64().expect("bytes"));
        assert!(with.abs_diff(without) < 2 << 20, "{peak}: {with}, without measuring {without}");
    }
    // No table calls them limits: they are not.
    let text = bench.run(&["inspect", "model", "--bandwidth=10", "--peak=100"]).stdout;
    for word in ["decode at memory speed", "prefill at product speed"] {
        assert!(text.contains(word) && !text.contains('≤'), "{text}");
    }
}

#[test]
fn a_forecast_too_large_for_a_number_does_not_begin_again_at_zero() {
    let bench = Bench::new();
    let forecast = bench.json(&["inspect", "model", "--train=100000000000000000x256"]);
    let tune = forecast["forecast"]["whole"]["tune"].as_u64().expect("bytes");
    assert_eq!(tune, u64::MAX);
}

#[test]
fn forecasts_that_cannot_be_are_refused() {
    let bench = Bench::new();
    bench.json(&["score", "model", "rows.jsonl"]);
    for (args, mention) in [
        (&["model", "--context=257"][..], "at most 256 tokens"),
        (&["model", "--train=1x300"], "--train 1x300"),
        (&["model", "--bandwidth=0"], "--bandwidth is 0"),
        (&["model", "--peak=inf"], "--peak is inf"),
        (&["model", "--peak", "-3"], "--peak is -3, but must be a number above 0"),
        (&["model", "--bandwidth", "-0.5"], "--bandwidth is -0.5"),
        (&["scores.json", "--dtype=q8"], "are for a model"),
    ] {
        let run = bench.run(&[&["inspect"], args].concat());
        assert_eq!(run.code, 1, "{args:?}: {}", run.stdout);
        assert!(run.stderr.contains(mention), "{args:?}: {}", run.stderr);
    }
    assert_eq!(bench.run(&["inspect", "model", "--measure", "--peak=1"]).code, 2);
}

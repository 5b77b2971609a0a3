//! `--cache-dtype`: KV caches in bf16.

use serde_json::Value;

use crate::bench::Bench;

fn number(value: &Value, place: &str) -> f64 {
    value.pointer(place).and_then(Value::as_f64).unwrap_or_else(|| panic!("{place}: {value}"))
}

#[test]
fn evaluation_tells_what_the_cache_costs() {
    let bench = Bench::new();
    let eval = |options: &[&str]| bench.json(&[&["eval", "model", "rows.jsonl"], options].concat());
    let plain = eval(&[]);
    let found = eval(&["--cache-dtype=bf16", "--reference-dtype=f32"]);
    assert_eq!((&plain["cache_dtype"], &found["cache_dtype"]), (&"f32".into(), &"bf16".into()));
    let of_reference = number(&found, "/reference/perplexity");
    assert!((of_reference / number(&plain, "/perplexity") - 1.0).abs() < 1e-6, "{found}");
    let kl = number(&found, "/reference/kl_mean");
    assert!((1e-9..1e-2).contains(&kl), "{kl}");
    // The cache alone differs from weights in the same format.
    let cache_alone = eval(&["--dtype=q4", "--reference-dtype=q4"]);
    assert_eq!(cache_alone["cache_dtype"], "bf16");
    assert!((1e-9..1e-2).contains(&number(&cache_alone, "/reference/kl_mean")), "{cache_alone}");
    let args = ["eval", "model", "rows.jsonl", "--dtype=q4", "--reference-dtype=q4"];
    let run = bench.run(&[&args[..], &["--cache-dtype=f32"]].concat());
    assert!(run.code == 1 && run.stderr.contains("nothing to compare"), "{}", run.stderr);
    let packed = eval(&["--dtype=q4", "--reference-dtype=f32"]);
    assert!(number(&packed, "/reference/kl_mean") > 2.0 * kl, "{packed}");
}

#[test]
fn commands_that_decode_take_the_format() {
    let bench = Bench::new();
    let generate = ["generate", "model", "--prompt", "add 3 and 4", "--max-tokens", "4"];
    for dtype in ["f32", "bf16"] {
        let found = bench.json(&[&generate[..], &["--cache-dtype", dtype]].concat());
        assert!(found["prompt_tokens"].as_u64() > Some(0), "{found}");
    }
    let measured = ["--skip=tune,load,limits", "--prompt=24", "--tokens=6", "--repetitions=1"];
    let options = [&["bench", "model", "--cache-dtype=bf16"], &measured[..]].concat();
    assert_eq!(bench.json(&options)["cache_dtype"], "bf16");
}

#[test]
fn a_forecast_has_half_the_cache() {
    let bench = Bench::new();
    let cache = |options: &[&str]| {
        let inspect = ["inspect", "model", "--context=200", "--bandwidth=10"];
        let found = bench.json(&[&inspect[..], options].concat());
        let [cache, speed] = ["cache", "decode_per_second"]
            .map(|key| number(&found, &format!("/forecast/whole/{key}")));
        (cache, speed)
    };
    let (f32, bf16) = (cache(&[]), cache(&["--cache-dtype=bf16"]));
    assert_eq!(f32.0, 2.0 * bf16.0);
    assert!(f32.1 < bf16.1, "{f32:?}, {bf16:?}");
    // With packed weights it is the default.
    assert_eq!(cache(&["--dtype=q4"]).0, bf16.0);
    assert_eq!(cache(&["--dtype=q4", "--cache-dtype=f32"]).0, f32.0);
}

#[test]
fn encoder_decoders_refuse_it() {
    let bench = Bench::of("switch_transformers");
    for args in [
        &["generate", "model", "--prompt", "add"][..],
        &["eval", "model", "rows.jsonl"],
        &["inspect", "model"],
    ] {
        let run = bench.run(&[args, &["--cache-dtype=bf16"]].concat());
        assert!(run.code == 1 && run.stderr.contains("decoder-only"), "{args:?}: {}", run.stderr);
    }
}

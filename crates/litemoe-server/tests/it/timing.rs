//! Whether the time of an answer tells an app what another one has asked.

use std::time::Instant;

use burn::tensor::Device;
use litemoe_core::WeightDtype;
use litemoe_model::{Checkpoint, Model};
use litemoe_registry::Registry;
use litemoe_server::{Server, ServerOptions};
use serde_json::json;

use crate::client::read;
use crate::shop::app;
use crate::toy::tokenizer;

/// Requests on each side.
const N: usize = 200;

/// Tokens of a prompt.
const LENGTH: usize = 96;

/// Two-sided p-value of the Mann–Whitney U test, by the normal approximation.
fn p_value(one: &[f64], other: &[f64]) -> f64 {
    let (n, m) = (one.len() as f64, other.len() as f64);
    let above = |x: f64, y: f64| if x > y { 1.0 } else { f64::from(x == y) / 2.0 };
    let of = |x: f64| other.iter().map(|&y| above(x, y)).sum::<f64>();
    let u: f64 = one.iter().map(|&x| of(x)).sum();
    let z = (u - n * m / 2.0).abs() / (n * m * (n + m + 1.0) / 12.0).sqrt();
    // Complementary error function (Abramowitz and Stegun, 7.1.26).
    let x = z / 2f64.sqrt();
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let terms = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t) * (-x * x).exp()
}

#[test]
fn the_test_of_two_samples_tells_them_apart() {
    let sample = |shift: f64| -> Vec<f64> {
        litemoe_fixtures::uniform(7 + shift as u64, N)
            .iter()
            .map(|x| f64::from(*x) + shift)
            .collect()
    };
    assert!(p_value(&sample(0.0), &sample(0.0)) > 0.9);
    assert!(p_value(&sample(0.0), &sample(1.0)) < 1e-6);
    // z = 1.99
    let one: Vec<f64> = (0..100).map(f64::from).collect();
    let other: Vec<f64> = (0..100).map(|x| f64::from(x) + 8.5).collect();
    assert!((0.04..0.055).contains(&p_value(&one, &other)), "{}", p_value(&one, &other));
}

#[tokio::test]
async fn a_prompt_of_another_app_takes_as_long_as_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::create(&dir.path().join("registry")).unwrap();
    let add = |name: &str| {
        registry.add_app(&app(name), &litemoe_registry::Settings::default()).unwrap().reveal()
    };
    let (victim, intruder) = (add("victim"), add("intruder"));
    let checkpoint = Checkpoint::open(litemoe_fixtures::foundation_dir()).unwrap();
    let model = Model::load_as(&checkpoint, &Device::flex(), WeightDtype::Q8).unwrap();
    let server = Server::new("foundation", model, tokenizer(), ServerOptions::default()).unwrap();
    let server = server.with_registry(registry, "", |_| Err(String::new())).unwrap();
    let router = server.into_router();
    let ask = async |key: &str, seed: u64| {
        let prompt = litemoe_fixtures::uniform(seed, LENGTH);
        let prompt: Vec<u32> = prompt.iter().map(|x| 100 + (x.abs() * 3000.0) as u32).collect();
        let body = json!({ "model": "foundation", "prompt": prompt, "max_tokens": 1 }).to_string();
        let request = axum::http::Request::post("/v1/completions")
            .header("authorization", format!("Bearer {key}"))
            .body(axum::body::Body::from(body));
        let begin = Instant::now();
        let response = tower::ServiceExt::oneshot(router.clone(), request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let usage = read(response).await["usage"].clone();
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        (begin.elapsed().as_secs_f64(), cached)
    };
    let (mut new, mut theirs, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..N as u64 {
        // Each is asked by the victim first; the intruder then asks it, or another one.
        for kind in [turn % 2, 1 - turn % 2] {
            let seed = 10 * turn + 2 * kind;
            ask(&victim, seed).await;
            let (time, cached) = ask(&intruder, seed + kind).await;
            assert_eq!(cached, 0);
            if kind == 0 { &mut theirs } else { &mut new }.push(time);
        }
        let (time, cached) = ask(&victim, 10 * turn).await;
        assert!(cached > 0);
        own.push(time);
    }
    let (leaked, control) = (p_value(&theirs, &new), p_value(&own, &new));
    // A cached prompt is told apart, so that this test would see a leak.
    assert!(control < 1e-6, "{control}");
    assert!(leaked > 1e-4, "{leaked}");
}

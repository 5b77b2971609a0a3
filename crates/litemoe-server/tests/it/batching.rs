//! Continuous batching: requests join and leave the batch between steps.

use std::num::NonZeroUsize;
use std::time::Duration;

use litemoe_server::ServerOptions;
use serde_json::json;

use crate::client::{answer, chat, get, post, read, serving, serving_with, text};
use crate::toy::{BYTES_PER_TOKEN, MAX_TOKENS, Step, Toy, gate, tokens};

fn babble() -> Vec<Step> {
    vec![Step::Babble; MAX_TOKENS]
}

#[tokio::test]
async fn a_short_request_does_not_wait_for_a_long_one() {
    let (gate, mut keeper) = gate();
    let adapted = vec![Step::Say(tokens("x")[0])];
    let router = serving(Toy { script: babble(), adapted, gate: Some(gate) });
    let long = post(&router, &chat(&json!({ "stream": true }))).await;
    for _ in 0..5 {
        keeper.entered.recv().await.unwrap();
        keeper.permits.send(()).unwrap();
    }
    keeper.entered.recv().await.unwrap();
    let short = chat(&json!({ "model": "toy/app", "max_tokens": 1 }));
    let short = tokio::spawn({
        let router = router.clone();
        async move { read(post(&router, &short).await).await }
    });
    // The step that runs, and one with the short request's prompt, after which its token is known.
    let mut n_steps = 0;
    while !short.is_finished() {
        n_steps += 1;
        keeper.permits.send(()).unwrap();
        keeper.entered.recv().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(short.await.unwrap()["choices"][0]["message"]["content"], "x");
    assert!(n_steps <= 3, "{n_steps}");
    drop(keeper.permits);
    assert!(text(long).await.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_request_that_makes_the_model_panic_fails_alone_in_a_batch() {
    let (gate, mut keeper) = gate();
    let script = tokens("all is well").into_iter().map(Step::Say).collect();
    let router = serving(Toy { script, adapted: vec![Step::Panic], gate: Some(gate) });
    let spawn = |fields| {
        let (router, request) = (router.clone(), chat(&fields));
        tokio::spawn(async move { read(post(&router, &request).await).await })
    };
    let first = spawn(json!({}));
    keeper.entered.recv().await.unwrap();
    let second = spawn(json!({}));
    let broken = spawn(json!({ "model": "toy/app" }));
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(keeper.permits);
    for answer in [first, second] {
        let answer = answer.await.unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], "all is well");
    }
    assert_eq!(broken.await.unwrap()["error"]["type"], "server_error");
}

/// A toy whose every token depends on all those before.
fn hashing() -> Toy {
    Toy::doing(vec![Step::Hash; MAX_TOKENS])
}

#[tokio::test]
async fn caches_that_have_no_room_are_computed_again() {
    // Three texts of 33 tokens each, in blocks of 64, of four requests.
    let max_cache = 400 * BYTES_PER_TOKEN;
    let options = ServerOptions { max_cache, metrics: true, ..ServerOptions::default() };
    let (plain, small) = (serving(hashing()), serving_with(hashing(), options));
    let fields = |seed: u64| json!({ "temperature": 1, "seed": seed, "n": 3, "max_tokens": 30 });
    let mut expected = Vec::new();
    for seed in 0..4 {
        expected.push(answer(&plain, &fields(seed)).await["choices"].clone());
    }
    let found = (0..4).map(|seed| {
        let (router, fields) = (small.clone(), fields(seed));
        tokio::spawn(async move { answer(&router, &fields).await["choices"].clone() })
    });
    for (found, expected) in found.collect::<Vec<_>>().into_iter().zip(expected) {
        assert_eq!(found.await.unwrap(), expected);
    }
    let metrics = text(get(&small, "/metrics").await).await;
    assert!(!metrics.contains("litemoe_preemptions_total 0\n"), "{metrics}");
}

#[tokio::test]
async fn a_request_in_the_background_leaves_its_memory_to_others() {
    let (gate, mut keeper) = gate();
    let max_cache = 64 * BYTES_PER_TOKEN;
    let options = ServerOptions { max_cache, ..ServerOptions::default() };
    let router = serving_with(Toy { gate: Some(gate), ..hashing() }, options);
    let expected = answer(&serving(hashing()), &json!({ "max_tokens": 20 })).await;
    let flex = json!({ "service_tier": "flex", "max_tokens": 20 });
    let spawn = |fields| {
        let router = router.clone();
        tokio::spawn(async move { answer(&router, &fields).await["choices"].clone() })
    };
    let back = spawn(flex);
    for _ in 0..5 {
        keeper.entered.recv().await.unwrap();
        keeper.permits.send(()).unwrap();
    }
    keeper.entered.recv().await.unwrap();
    let front = spawn(json!({ "max_tokens": 20 }));
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(keeper.permits);
    let both = async { [front.await.unwrap(), back.await.unwrap()] };
    let both =
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("both are answered");
    assert_eq!(both, [expected["choices"].clone(), expected["choices"].clone()]);
}

#[tokio::test]
async fn a_long_text_is_not_starved_by_short_ones() {
    // Room for one of the long text's two blocks, or for short ones.
    let max_cache = 128 * BYTES_PER_TOKEN;
    let options = ServerOptions { max_cache, ..ServerOptions::default() };
    let router = serving_with(hashing(), options);
    let long = json!({ "max_tokens": 100, "n": 2 });
    let expected = answer(&serving(hashing()), &long).await["choices"].clone();
    let short = tokio::spawn({
        let router = router.clone();
        async move {
            loop {
                answer(&router, &json!({ "model": "toy/app", "max_tokens": 5 })).await;
            }
        }
    });
    let found = tokio::time::timeout(Duration::from_secs(60), answer(&router, &long)).await;
    assert_eq!(found.expect("it is answered")["choices"], expected);
    short.abort();
}

#[tokio::test]
async fn what_is_known_of_a_prompt_is_not_computed_again() {
    let router = serving(Toy::doing(vec![Step::Babble; 8]));
    let long = "Turn on the lights in the attic, please, as soon as you can";
    let ask = async |model: &str, content: &str| {
        let messages = json!([{ "role": "user", "content": content }]);
        let fields = json!({ "model": model, "messages": messages, "max_tokens": 8 });
        let usage = answer(&router, &fields).await["usage"].clone();
        let of = |value: &serde_json::Value| value.as_u64().unwrap();
        (of(&usage["prompt_tokens"]), of(&usage["prompt_tokens_details"]["cached_tokens"]))
    };
    let (n_prompt, n_cached) = ask("toy", long).await;
    assert!(n_prompt > 17 && n_cached == 0, "{n_prompt} {n_cached}");
    // All but the last token, whose logits are needed.
    assert_eq!(ask("toy", long).await, (n_prompt, n_prompt - 1));
    let (n_longer, n_cached) = ask("toy", &format!("{long}!")).await;
    assert!(n_longer > n_cached && n_cached >= n_prompt - 2, "{n_longer} {n_cached}");
    // Another model of the same address knows nothing of it.
    assert_eq!(ask("toy/app", long).await, (n_prompt, 0));
    assert_eq!(ask("toy", "no").await.1, 0);
}

#[tokio::test]
async fn a_request_in_the_background_waits_while_others_run() {
    let (gate, mut keeper) = gate();
    let adapted = vec![Step::Say(tokens("x")[0])];
    let router = serving(Toy { script: babble(), adapted, gate: Some(gate) });
    let front = post(&router, &chat(&json!({ "stream": true, "max_tokens": 6 }))).await;
    keeper.entered.recv().await.unwrap();
    let flex = chat(&json!({ "model": "toy/app", "service_tier": "flex", "stream": true }));
    let flex = post(&router, &flex).await;
    for _ in 0..6 {
        keeper.permits.send(()).unwrap();
        keeper.entered.recv().await.unwrap();
    }
    // The seventh step is the first of the other one.
    assert!(text(front).await.ends_with("data: [DONE]\n\n"));
    drop(keeper.permits);
    assert!(text(flex).await.contains("\"x\""));
    assert_eq!(keeper.entered.len(), 1);
}

#[tokio::test]
async fn a_request_ends_at_its_deadline() {
    let (gate, keeper) = gate();
    let options =
        ServerOptions { deadline: Some(Duration::from_millis(100)), ..ServerOptions::default() };
    let router = serving_with(Toy { gate: Some(gate), ..Toy::doing(babble()) }, options);
    let request = chat(&json!({}));
    let late = tokio::spawn(async move { post(&router, &request).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    keeper.permits.send(()).unwrap();
    let late = late.await.unwrap();
    assert_eq!(late.status(), 503);
    assert!(late.headers().contains_key("retry-after"));
    assert_eq!(read(late).await["error"]["code"], "deadline_exceeded");
}

#[tokio::test]
async fn more_texts_than_the_batch_has_room_for_are_all_answered() {
    let max_batch = NonZeroUsize::new(2).unwrap();
    let options = ServerOptions { max_batch, ..ServerOptions::default() };
    let router = serving_with(Toy::saying("well done"), options);
    let answers = (0..20).map(|_| {
        let router = router.clone();
        tokio::spawn(async move { answer(&router, &json!({ "n": 3 })).await["choices"].clone() })
    });
    for choices in answers.collect::<Vec<_>>() {
        let choices = choices.await.unwrap();
        for choice in choices.as_array().unwrap() {
            assert_eq!(choice["message"]["content"], "well done");
        }
    }
}

#[tokio::test]
async fn metrics_count_what_was_done() {
    let options = ServerOptions { metrics: true, ..ServerOptions::default() };
    let router = serving_with(Toy::saying("well done"), options);
    assert_eq!(get(&serving(Toy::saying("x")), "/metrics").await.status(), 404);
    answer(&router, &json!({ "n": 2 })).await;
    answer(&router, &json!({})).await;
    let metrics = get(&router, "/metrics").await;
    let kind = metrics.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let metrics = text(metrics).await;
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("{name} in {metrics}")).rsplit(' ').next().unwrap()
    };
    let (n_prompt, n_text) = (tokens("<|user|>hi<|assistant|>").len(), tokens("well done").len());
    assert_eq!(value("litemoe_requests_total{outcome=\"finished\"}"), "2");
    // The first request runs its prompt's last token for each text.
    assert_eq!(value("litemoe_prompt_tokens_total"), (2 * n_prompt + 1).to_string());
    assert_eq!(value("litemoe_completion_tokens_total"), (3 * (n_text + 1)).to_string());
    assert_eq!(value("litemoe_time_to_first_token_seconds_count"), "2");
    assert_eq!(value("litemoe_requests_waiting"), "0");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}

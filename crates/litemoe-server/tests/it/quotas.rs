//! Limits of apps, and their usage.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use litemoe_registry::{Priority, Settings, Usage};
use litemoe_server::ServerOptions;
use serde_json::{Value, json};

use crate::client::{read, text};
use crate::shop::{Shop, app};
use crate::toy::{BYTES_PER_TOKEN, Step, Toy, gate, tokens};

async fn error(response: Response<Body>, status: u16) -> Value {
    assert_eq!(response.status(), status);
    read(response).await["error"].clone()
}

fn header(response: &Response<Body>, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn requests_per_minute_come_back_evenly() {
    let shop = Shop::of(Toy::saying("x"));
    let limit = Settings { requests_per_minute: NonZeroU32::new(6), ..Settings::default() };
    let (key, other) = (shop.add_with("home", &limit), shop.add("other"));
    for left in (0..6).rev() {
        let answered = shop.post(&key, &json!({})).await;
        assert_eq!(answered.status(), 200);
        assert_eq!(header(&answered, "x-ratelimit-limit-requests"), "6");
        assert_eq!(header(&answered, "x-ratelimit-remaining-requests"), left.to_string());
    }
    for _ in 0..3 {
        let refused = shop.post(&key, &json!({})).await;
        assert_eq!(header(&refused, "retry-after"), "10");
        assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), "0");
        let refused = error(refused, 429).await;
        assert_eq!(
            (&refused["code"], &refused["type"]),
            (&json!("rate_limit_exceeded"), &json!("requests"))
        );
        assert_eq!(refused["message"], "the app's limit is 6 requests per minute");
    }
    let answered = shop.post(&other, &json!({})).await;
    assert!(
        answered.status() == 200 && !answered.headers().contains_key("x-ratelimit-limit-requests")
    );
    // Others than to the model are not counted.
    assert_eq!(shop.get("/v1/models", &key).await.status(), 200);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(shop.post(&key, &json!({})).await.status(), 200);
    assert_eq!(shop.post(&key, &json!({})).await.status(), 429);
    // A new limit holds for the next request.
    shop.registry.set_app(&app("home"), |settings| settings.requests_per_minute = None).unwrap();
    assert_eq!(shop.post(&key, &json!({})).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn tokens_per_minute_are_those_that_were_used() {
    let shop = Shop::of(Toy::saying("x"));
    let n_prompt = tokens("<|user|>hi<|assistant|>").len() as u64;
    // A letter and the end.
    let n_tokens = n_prompt + 2;
    let limit =
        Settings { tokens_per_minute: NonZeroU64::new(2 * n_tokens - 1), ..Settings::default() };
    let key = shop.add_with("home", &limit);
    let first = shop.post(&key, &json!({})).await;
    assert_eq!(header(&first, "x-ratelimit-remaining-tokens"), (2 * n_tokens - 1).to_string());
    assert_eq!(read(first).await["usage"]["total_tokens"], n_tokens);
    // The second may use more than is left; the third waits until there is some.
    let second = shop.post(&key, &json!({})).await;
    assert_eq!(header(&second, "x-ratelimit-remaining-tokens"), (n_tokens - 1).to_string());
    text(second).await;
    let refused = shop.post(&key, &json!({})).await;
    let wait: u64 = header(&refused, "retry-after").parse().unwrap();
    assert_eq!(error(refused, 429).await["type"], "tokens");
    tokio::time::advance(Duration::from_secs(wait)).await;
    assert_eq!(shop.post(&key, &json!({})).await.status(), 200);
}

#[tokio::test]
async fn a_daily_budget_counts_what_is_not_recorded_yet() {
    let shop = Shop::of(Toy::saying("x"));
    let limit = Settings { tokens_per_day: NonZeroU64::new(1), ..Settings::default() };
    let key = shop.add_with("home", &limit);
    text(shop.post(&key, &json!({})).await).await;
    // Whether or not it is recorded yet, and then for good.
    for _ in 0..2 {
        let refused = shop.post(&key, &json!({})).await;
        let wait: u64 = header(&refused, "retry-after").parse().unwrap();
        assert!((1..=24 * 60 * 60).contains(&wait));
        let refused = error(refused, 429).await;
        assert_eq!(refused["code"], "insufficient_quota");
        assert_eq!(refused["message"], "the app's limit is 1 tokens per day (UTC)");
        shop.usage("home", 1).await;
    }
}

#[tokio::test]
async fn requests_at_once_are_limited_until_they_end() {
    let (gate, mut keeper) = gate();
    let shop = Shop::of(Toy { gate: Some(gate), ..Toy::saying("x") });
    let limit = Settings { concurrency: NonZeroU32::new(1), ..Settings::default() };
    let key = shop.add_with("home", &limit);
    let streamed = shop.post(&key, &json!({ "stream": true })).await;
    keeper.entered.recv().await.unwrap();
    let refused = shop.post(&key, &json!({})).await;
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_eq!(error(refused, 429).await["type"], "concurrency");
    // A client that leaves ends its request with the step.
    drop(streamed);
    keeper.permits.send(()).unwrap();
    let answered = async {
        loop {
            let response = shop.post(&key, &json!({})).await;
            match response.status().as_u16() {
                429 => tokio::time::sleep(Duration::from_millis(5)).await,
                status => return status,
            }
        }
    };
    drop(keeper.permits);
    assert_eq!(answered.await, 200);
}

#[tokio::test]
async fn usage_is_what_the_answers_say() {
    let shop = Shop::of(Toy::doing(vec![Step::Babble; 9]));
    let (key, other) = (shop.add("home"), shop.add("other"));
    let mut expected = Usage::default();
    for fields in [json!({}), json!({ "n": 3, "max_tokens": 4 }), json!({ "model": "fixed" })] {
        let usage = shop.answer(&key, &fields).await["usage"].clone();
        let of = |name: &str| usage[name].as_u64().unwrap();
        expected.requests += 1;
        expected.prompt_tokens += of("prompt_tokens");
        expected.completion_tokens += of("completion_tokens");
        expected.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    }
    // Streams too, and refused requests without tokens.
    text(shop.post(&key, &json!({ "stream": true, "max_tokens": 5 })).await).await;
    expected.requests += 2;
    expected.prompt_tokens += tokens("<|user|>hi<|assistant|>").len() as u64;
    expected.completion_tokens += 5;
    assert_eq!(shop.post(&key, &json!({ "model": "none" })).await.status(), 404);
    assert_eq!(shop.usage("home", expected.requests).await, expected);
    shop.answer(&other, &json!({})).await;
    assert_eq!(shop.usage("other", 1).await.requests, 1);
    assert_eq!(shop.usage("home", 1).await, expected);
}

#[tokio::test]
async fn a_cancelled_request_counts_what_was_computed() {
    let (gate, mut keeper) = gate();
    let shop = Shop::of(Toy { gate: Some(gate), ..Toy::doing(vec![Step::Babble; 50]) });
    let key = shop.add("home");
    let streamed = shop.post(&key, &json!({ "stream": true })).await;
    for _ in 0..3 {
        keeper.entered.recv().await.unwrap();
        keeper.permits.send(()).unwrap();
    }
    keeper.entered.recv().await.unwrap();
    drop(streamed);
    drop(keeper.permits);
    let usage = shop.usage("home", 1).await;
    // The fourth step was running.
    assert!((3..=4).contains(&usage.completion_tokens), "{usage:?}");
    assert_eq!(usage.prompt_tokens, tokens("<|user|>hi<|assistant|>").len() as u64);
}

#[tokio::test]
async fn a_background_app_waits_for_the_others() {
    let (gate, mut keeper) = gate();
    let mut toy = Toy { gate: Some(gate), ..Toy::doing(vec![Step::Babble; 4]) };
    toy.adapted = vec![Step::Say(tokens("y")[0])];
    let shop = Shop::of(toy);
    let back = Settings { priority: Priority::Background, ..Settings::default() };
    let (back, front) = (shop.add_with("back", &back), shop.add("front"));
    let behind = shop.post(&back, &json!({ "stream": true })).await;
    keeper.entered.recv().await.unwrap();
    let fields = json!({ "model": "fixed", "stream": true });
    let before = shop.post(&front, &fields).await;
    drop(keeper.permits);
    assert!(text(before).await.contains("\"y\""));
    text(behind).await;
    // One step of the first, two of the other alone, and the four that are left of the first.
    let mut n_steps = 1;
    while keeper.entered.try_recv().is_ok() {
        n_steps += 1;
    }
    assert_eq!(n_steps, 1 + 2 + 4);
}

#[tokio::test]
async fn background_apps_share_what_is_left_to_them() {
    let (gate, mut keeper) = gate();
    let mut toy = Toy { gate: Some(gate), ..Toy::doing(vec![Step::Babble; 200]) };
    toy.adapted = vec![Step::Say(tokens("y")[0])];
    let options = ServerOptions { max_batch: 4.try_into().unwrap(), ..ServerOptions::default() };
    let shop = Shop::with(toy, options);
    let back = Settings { priority: Priority::Background, ..Settings::default() };
    let (many, one) = (shop.add_with("many", &back), shop.add_with("one", &back));
    let flood = json!({ "n": 16, "max_tokens": 100, "stream": true });
    let _flood = shop.post(&many, &flood).await;
    for _ in 0..3 {
        keeper.entered.recv().await.unwrap();
        keeper.permits.send(()).unwrap();
    }
    let asked = shop.post(&one, &json!({ "model": "fixed", "stream": true })).await;
    let mut answered = Box::pin(text(asked));
    let mut n_steps = 0;
    let answer = loop {
        tokio::select! {
            answer = &mut answered => break answer,
            _ = keeper.entered.recv() => keeper.permits.send(()).unwrap(),
        }
        n_steps += 1;
    };
    assert!(answer.contains("\"y\"") && n_steps < 12, "{n_steps} steps: {answer}");
    drop(keeper.permits);
}

#[tokio::test]
async fn an_answered_request_is_no_longer_running() {
    let shop = Shop::of(Toy::saying("x"));
    let limit = Settings { concurrency: NonZeroU32::new(1), ..Settings::default() };
    let key = shop.add_with("home", &limit);
    for _ in 0..300 {
        assert_eq!(shop.post(&key, &json!({})).await.status(), 200);
    }
}

#[tokio::test]
async fn prefixes_are_cached_for_their_app_alone_and_within_its_bytes() {
    let shop = Shop::with(Toy::saying("x"), ServerOptions::default());
    let (one, other) = (shop.add("one"), shop.add("other"));
    let none = Settings { cache_bytes: Some(0), ..Settings::default() };
    let none = shop.add_with("none", &none);
    let little = Settings { cache_bytes: Some(64 * BYTES_PER_TOKEN), ..Settings::default() };
    let little = shop.add_with("little", &little);
    let ask = async |key: &str, letter: &str| {
        let message = json!({ "role": "user", "content": letter.repeat(30) });
        let usage = shop.answer(key, &json!({ "messages": [message] })).await["usage"].clone();
        usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(ask(&one, "7").await, 0);
    assert!(ask(&one, "7").await > 0);
    assert_eq!(ask(&other, "7").await, 0);
    assert!(ask(&one, "7").await > 0);
    for _ in 0..2 {
        assert_eq!(ask(&none, "7").await, 0);
    }
    // One text fits.
    assert_eq!(ask(&little, "7").await, 0);
    assert!(ask(&little, "7").await > 0);
    assert_eq!(ask(&little, "8").await, 0);
    assert_eq!(ask(&little, "7").await, 0);
    assert!(ask(&one, "7").await > 0);
}

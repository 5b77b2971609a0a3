//! Limits of requests, and what is refused before it is tokenized.

use std::num::NonZeroUsize;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, StreamExt};
use litemoe_server::{RequestLimits, Server, ServerError, ServerOptions};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::client::{answer, chat, chunks, get, post, read, send, serving_with, text};
use crate::toy::{MAX_TOKENS, Step, Toy, gate, tokenizer, tokens};

fn options(limits: RequestLimits) -> ServerOptions {
    ServerOptions { limits, ..ServerOptions::default() }
}

fn message(content: impl Into<Value>) -> Value {
    json!({ "role": "user", "content": content.into() })
}

async fn error(response: Response<Body>, status: u16) -> Value {
    assert_eq!(response.status(), status);
    read(response).await["error"].clone()
}

#[tokio::test]
async fn numbers_above_their_limits_are_refused_by_name() {
    let limits = RequestLimits {
        max_messages: 2,
        max_parts: 3,
        max_stop: 2,
        max_stop_bytes: 4,
        max_logit_bias: 2,
        max_n: 3,
        ..RequestLimits::default()
    };
    let router = serving_with(Toy::doing(vec![Step::Babble; 3]), options(limits));
    let part = json!({ "type": "text", "text": "a" });
    let parts = |n| message(Value::from(vec![part.clone(); n]));
    let bias = |n: usize| json!({ "logit_bias": (40..40 + n).map(|id| (id.to_string(), json!(1))).collect::<serde_json::Map<_, _>>() });
    for fields in [
        json!({ "messages": [message("a"), message("b")] }),
        json!({ "messages": [parts(1), parts(2)] }),
        json!({ "stop": ["0000", "1111"] }),
        bias(2),
        json!({ "n": 3 }),
    ] {
        answer(&router, &fields).await;
    }
    for (fields, param) in [
        (json!({ "messages": vec![message("a"); 3] }), "messages"),
        (json!({ "messages": [parts(2), parts(2)] }), "messages[1].content"),
        (json!({ "stop": ["0", "1", "2"] }), "stop"),
        (json!({ "stop": "00000" }), "stop"),
        (bias(3), "logit_bias"),
        (json!({ "n": 4 }), "n"),
    ] {
        let error = error(post(&router, &chat(&fields)).await, 400).await;
        assert_eq!((&error["code"], &error["param"]), (&json!("invalid_value"), &json!(param)));
    }
}

#[tokio::test]
async fn a_body_of_very_many_values_is_refused_before_it_is_parsed() {
    let limits = RequestLimits { max_values: 20, ..RequestLimits::default() };
    let router = serving_with(Toy::saying("x"), options(limits));
    answer(&router, &json!({ "metadata": [0, 0, 0] })).await;
    let error = error(post(&router, &chat(&json!({ "metadata": vec![0; 20] }))).await, 400).await;
    assert!(error["message"].as_str().unwrap().contains("20 JSON values"), "{error}");
}

#[tokio::test]
async fn a_prompt_and_its_answer_must_fit_the_context() {
    let n_prompt = tokens("<|user|>hi<|assistant|>").len();
    let limits = RequestLimits { max_context: Some(n_prompt + 5), ..RequestLimits::default() };
    let router = serving_with(Toy::doing(vec![Step::Babble; MAX_TOKENS]), options(limits));
    for fields in [json!({}), json!({ "max_tokens": 5 })] {
        let answer = answer(&router, &fields).await;
        assert_eq!(answer["usage"]["completion_tokens"], 5);
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    let long = json!({ "messages": [message("7".repeat(n_prompt + 5))] });
    for (fields, param) in [(json!({ "max_tokens": 6 }), "max_tokens"), (long, "messages")] {
        let error = error(post(&router, &chat(&fields)).await, 400).await;
        assert_eq!(error["code"], "context_length_exceeded");
        assert_eq!(error["param"], param);
    }
    let model = serving_with(Toy::saying("x"), ServerOptions::default());
    let fields = json!({ "max_tokens": MAX_TOKENS });
    let error = error(post(&model, &chat(&fields)).await, 400).await;
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(&format!("{n_prompt} in the messages and {MAX_TOKENS}")), "{message}");
}

#[tokio::test]
async fn a_conversation_of_too_many_bytes_is_refused_without_tokenizing_it() {
    let router = serving_with(Toy::saying("x"), ServerOptions::default());
    for (role, content) in [
        ("user", "x".repeat(64 * MAX_TOKENS + 1 - 4)),
        (&"x".repeat(64 * MAX_TOKENS), "x".to_owned()),
    ] {
        let fields = json!({ "messages": [{ "role": role, "content": content }] });
        let error = error(post(&router, &chat(&fields)).await, 400).await;
        assert_eq!(error["code"], "context_length_exceeded");
        let bytes = format!("{} bytes", 64 * MAX_TOKENS + 1);
        assert!(error["message"].as_str().unwrap().contains(&bytes), "{error}");
    }
}

#[tokio::test]
async fn a_whole_answer_has_a_maximum_of_logprobs() {
    let limits = RequestLimits { max_logprobs: 2 * 5 * 4, ..RequestLimits::default() };
    let router = serving_with(Toy::doing(vec![Step::Babble; MAX_TOKENS]), options(limits));
    let fields = |n, max_tokens, n_top| json!({ "n": n, "max_tokens": max_tokens, "logprobs": true, "top_logprobs": n_top });
    let whole = answer(&router, &fields(2, 5, 3)).await;
    assert_eq!(whole["choices"][1]["logprobs"]["content"].as_array().unwrap().len(), 5);
    let without_limit = json!({ "logprobs": true });
    for fields in [fields(3, 5, 3), fields(2, 6, 3), fields(2, 5, 4), without_limit] {
        let error = error(post(&router, &chat(&fields)).await, 400).await;
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!("invalid_value"), &json!("logprobs"))
        );
        assert!(error["message"].as_str().unwrap().contains("at most 40"), "{error}");
    }
    answer(&router, &json!({ "n": 3, "max_tokens": 40 })).await;
    chunks(&router, &json!({ "logprobs": true, "top_logprobs": 3, "stream": true })).await;
}

#[tokio::test]
async fn an_error_does_not_repeat_a_long_request() {
    let router = serving_with(Toy::saying("x"), ServerOptions::default());
    let long = "x".repeat(1 << 20);
    for (fields, status) in [
        (json!({ "model": long }), 404),
        (json!({ "tools": long }), 400),
        (json!({ (long.clone()): 1 }), 400),
    ] {
        let response = post(&router, &chat(&fields)).await;
        assert_eq!(response.status(), status);
        assert!(text(response).await.len() < 2000);
    }
}

#[test]
fn the_largest_body_must_fit_the_memory_for_bodies() {
    let options = ServerOptions { max_in_flight: (2 << 20) - 1, ..ServerOptions::default() };
    let error = Server::new("toy", Toy::saying(""), tokenizer(), options).unwrap_err();
    assert!(matches!(error, ServerError::Bodies { max_body: 0x20_0000, max_in_flight: 0x1f_ffff }));
}

/// A body that the test sends, and its end.
fn streamed() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, frames) = mpsc::channel(0);
    (sender, Body::from_stream(frames.map(Ok::<_, std::io::Error>)))
}

#[tokio::test]
async fn bodies_share_their_memory() {
    let limits = RequestLimits { max_body: 100_000, ..RequestLimits::default() };
    let options = ServerOptions {
        max_in_flight: 100_000,
        limits,
        retry_after: Duration::from_secs(7),
        ..ServerOptions::default()
    };
    let router = serving_with(Toy::saying("x"), options);
    let chat = chat(&json!({})).to_string();
    let padded = format!("{chat}{}", " ".repeat(60_000));
    let (mut sender, body) = streamed();
    let mut first = Box::pin(send(&router, "POST", "/v1/chat/completions", body));
    let begin = async {
        sender.send(Bytes::from(padded.clone())).await.unwrap();
        sender.send(Bytes::new()).await.unwrap();
        sender.flush().await.unwrap();
    };
    tokio::select! {
        _ = &mut first => panic!("the body has not ended"),
        () = begin => {}
    }
    assert!((&mut first).now_or_never().is_none());
    let ask = |body: String| send(&router, "POST", "/v1/chat/completions", Body::from(body));
    let refused = ask(padded.clone()).await;
    assert_eq!(refused.headers()["retry-after"], "7");
    assert_eq!(error(refused, 503).await["code"], "overloaded");
    // A small one fits, and so do requests without a body.
    assert_eq!(ask(chat).await.status(), 200);
    assert_eq!(get(&router, "/health").await.status(), 200);
    drop(sender);
    assert_eq!(first.await.status(), 200);
    assert_eq!(ask(padded).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_gives_its_memory_back() {
    let limits = RequestLimits { max_body: 8 << 10, ..RequestLimits::default() };
    let options = ServerOptions { max_in_flight: 8 << 10, ..options(limits) };
    let router = serving_with(Toy::saying("x"), options);
    let (mut sender, body) = streamed();
    let slow = send(&router, "POST", "/v1/chat/completions", body);
    let trickle = async {
        loop {
            sender.send(Bytes::from_static(b" ")).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        response = slow => assert_eq!(error(response, 408).await["code"], "request_timeout"),
        () = trickle => {}
    }
    let body = format!("{}{}", chat(&json!({})), " ".repeat(7 << 10));
    let response = send(&router, "POST", "/v1/chat/completions", Body::from(body)).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_cancelled() {
    let (gate, keeper) = gate();
    drop(keeper.permits);
    let mut toy = Toy { gate: Some(gate), ..Toy::doing(vec![Step::Babble; 40]) };
    toy.adapted = vec![Step::Say(tokens("x")[0])];
    let options =
        ServerOptions { max_unread: NonZeroUsize::new(4).unwrap(), ..ServerOptions::default() };
    let router = serving_with(toy, options);
    let unread = post(&router, &chat(&json!({ "stream": true }))).await;
    assert_eq!(n_steps(keeper.entered).await, 5);
    // The engine is free for others.
    answer(&router, &json!({ "model": "toy/app" })).await;
    let frames = text(unread).await;
    let frames: Vec<_> = frames.split_terminator("\n\n").collect();
    assert_eq!(frames.len(), 1 + 4 + 2, "{frames:?}");
    assert!(frames[5].contains("stream_unread") && frames[6] == "data: [DONE]", "{frames:?}");
}

#[tokio::test]
async fn all_texts_of_a_stream_share_its_unread_tokens() {
    // 3 steps of 8 texts are more than 20 tokens; one step always fits.
    for (max_unread, expected) in [(20, 3), (1, 3), (100, 13)] {
        let (gate, keeper) = gate();
        drop(keeper.permits);
        let mut toy = Toy { gate: Some(gate), ..Toy::doing(vec![Step::Babble; 40]) };
        toy.adapted = vec![Step::Say(tokens("x")[0])];
        let max_unread = NonZeroUsize::new(max_unread).unwrap();
        let router = serving_with(toy, ServerOptions { max_unread, ..ServerOptions::default() });
        let _unread = post(&router, &chat(&json!({ "stream": true, "n": 8 }))).await;
        // The prompt's own step first.
        assert_eq!(n_steps(keeper.entered).await, 1 + expected, "{max_unread}");
        answer(&router, &json!({ "model": "toy/app" })).await;
    }
}

/// Number of steps until the engine has nothing to do.
async fn n_steps(mut entered: UnboundedReceiver<()>) -> usize {
    let mut n_steps = 0;
    while timeout(Duration::from_millis(500), entered.recv()).await.is_ok() {
        n_steps += 1;
    }
    n_steps
}

use litemoe_core::Sampling;
use litemoe_server::ServerOptions;
use serde_json::{Value, json};

use crate::client::{answer, chat, content, get, post, read, serving, serving_with};
use crate::toy::{MAX_TOKENS, Step, Toy, tokens};

const TEXT: &str = "Größe 🙂: on\n\noff";

#[tokio::test]
async fn an_answer_has_the_shape_that_clients_expect() {
    let mut answer = answer(&serving(Toy::saying(TEXT)), &json!({})).await;
    let id = answer["id"].take();
    assert!(id.as_str().unwrap().starts_with("chatcmpl-"));
    assert!(answer["created"].take().as_u64().unwrap() > 1_700_000_000);
    let n_prompt = tokens("<|user|>hi<|assistant|>").len();
    let n_completion = tokens(TEXT).len() + 1;
    let expected = json!({
        "id": null, "object": "chat.completion", "created": null, "model": "toy",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": TEXT }, "logprobs": null,
                      "finish_reason": "stop" }],
        "usage": { "prompt_tokens": n_prompt, "completion_tokens": n_completion,
                   "total_tokens": n_prompt + n_completion,
                   "prompt_tokens_details": { "cached_tokens": 0 } },
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn an_adapter_answers_under_its_name() {
    let say = |text| tokens(text).into_iter().map(Step::Say).collect();
    let router = serving(Toy { script: say("foundation"), adapted: say("adapter"), gate: None });
    assert_eq!(content(&router, &json!({ "model": "toy/app" })).await, "adapter");
    assert_eq!(content(&router, &json!({ "model": "toy" })).await, "foundation");
}

#[tokio::test]
async fn parts_of_text_are_lines() {
    let router = serving(Toy::saying("yes"));
    let n_prompt = |messages: Value| {
        let router = router.clone();
        async move {
            answer(&router, &json!({ "messages": messages })).await["usage"]["prompt_tokens"]
                .clone()
        }
    };
    let part = |text| json!({ "type": "text", "text": text });
    let parts =
        n_prompt(json!([{ "role": "user", "content": [part("turn on"), part("the lights")] }]))
            .await;
    let whole = n_prompt(json!([{ "role": "user", "content": "turn on\nthe lights" }])).await;
    assert_eq!(parts, whole);
}

#[tokio::test]
async fn the_text_ends_where_it_must() {
    let router = serving(Toy::saying(TEXT));
    for (fields, text, reason) in [
        (json!({ "max_tokens": 1 }), "G", "length"),
        (json!({ "max_completion_tokens": 1 }), "G", "length"),
        (json!({ "max_tokens": tokens(TEXT).len() }), TEXT, "length"),
        (json!({ "max_tokens": tokens(TEXT).len() + 1 }), TEXT, "stop"),
        (json!({ "stop": "\n\n" }), "Größe 🙂: on", "stop"),
        (json!({ "stop": ["zzz", ": on", "🙂"] }), "Größe ", "stop"),
        (json!({ "stop": "off?" }), TEXT, "stop"),
        (json!({ "stop": [] }), TEXT, "stop"),
    ] {
        let choice = answer(&router, &fields).await["choices"][0].clone();
        assert_eq!(choice["message"]["content"], text, "{fields}");
        assert_eq!(choice["finish_reason"], reason, "{fields}");
    }
}

#[tokio::test]
async fn a_text_may_fill_the_model_and_no_more() {
    let router = serving(Toy::doing(vec![Step::Babble; 2 * MAX_TOKENS]));
    let n_prompt = tokens("<|user|>hi<|assistant|>").len();
    for fields in [json!({}), json!({ "max_tokens": MAX_TOKENS - n_prompt })] {
        let answer = answer(&router, &fields).await;
        assert_eq!(answer["usage"]["total_tokens"], MAX_TOKENS);
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    let response = post(&router, &chat(&json!({ "max_tokens": 10 * MAX_TOKENS }))).await;
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn one_seed_gives_one_text() {
    let router = serving(Toy::doing(vec![Step::Babble; 20]));
    let fields = json!({ "seed": -7, "temperature": 0.8, "top_p": 0.9, "top_k": 30 });
    let text = content(&router, &fields).await;
    assert_eq!(text, content(&router, &fields).await);
    let drawn = |mut fields: Value| {
        fields["temperature"] = 1.into();
        let router = router.clone();
        async move { content(&router, &fields).await }
    };
    assert_ne!(text, drawn(json!({ "seed": 8 })).await);
    assert_eq!(drawn(json!({})).await, drawn(json!({ "seed": 0 })).await);
    let greedy = content(&router, &json!({ "temperature": 0 })).await;
    assert_ne!(greedy, drawn(json!({})).await);
    assert_eq!(greedy, drawn(json!({ "top_k": 1, "seed": 3 })).await);
    assert_eq!(greedy, drawn(json!({ "top_p": 0, "seed": 4 })).await);
}

#[tokio::test]
async fn what_a_request_does_not_have_is_as_the_options_say() {
    let babble = || Toy::doing(vec![Step::Babble; 20]);
    let greedy = content(&serving(babble()), &json!({ "temperature": 0 })).await;
    assert_eq!(content(&serving(babble()), &json!({})).await, greedy);
    let sampling = Sampling { temperature: 0.9, top_k: 7, seed: 4, ..Sampling::default() };
    let router = serving_with(babble(), ServerOptions { sampling, ..ServerOptions::default() });
    let own = content(&router, &json!({})).await;
    let all = json!({ "temperature": 0.9, "top_k": 7, "seed": 4 });
    assert_eq!(own, content(&serving(babble()), &all).await);
    assert_ne!(own, content(&router, &json!({ "seed": 5 })).await);
    assert_eq!(content(&router, &json!({ "temperature": 0 })).await, greedy);
}

#[tokio::test]
async fn a_prompt_that_leaves_no_room_is_refused() {
    let router = serving(Toy::saying("x"));
    let long = |n| json!({ "messages": [{ "role": "user", "content": "7".repeat(n) }] });
    let fits = answer(&router, &long(MAX_TOKENS - 3)).await;
    assert_eq!(fits["usage"]["total_tokens"], MAX_TOKENS);
    let response = post(&router, &chat(&long(MAX_TOKENS - 2))).await;
    assert_eq!(response.status(), 400);
    let error = &read(response).await["error"];
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("context_length_exceeded"), &json!("messages"))
    );
}

#[tokio::test]
async fn a_model_that_breaks_fails_one_request_alone() {
    let mut toy = Toy::doing(vec![Step::Panic]);
    toy.adapted = vec![Step::Say(tokens("x")[0])];
    let router = serving(toy);
    let response = post(&router, &chat(&json!({}))).await;
    assert_eq!(response.status(), 500);
    assert_eq!(read(response).await["error"]["type"], "server_error");
    assert_eq!(content(&router, &json!({ "model": "toy/app" })).await, "x");
    assert_eq!(get(&router, "/health").await.status(), 200);
}

#[tokio::test]
async fn logits_that_are_no_numbers_fail_one_request_alone_and_are_named() {
    let say = Step::Say(tokens("x")[0]);
    let mut toy = Toy::doing(vec![say, say, Step::Nan]);
    toy.adapted = vec![say];
    let router = serving(toy);
    for n in [1, 2] {
        let response = post(&router, &chat(&json!({ "n": n }))).await;
        assert_eq!(response.status(), 500);
        let error = &read(response).await["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("server_error"), &json!("logits_not_finite"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with("after 2 generated tokens the logit of token 7 is NaN"),
            "{message}"
        );
    }
    assert_eq!(content(&router, &json!({ "model": "toy/app" })).await, "x");
    assert_eq!(content(&router, &json!({ "max_tokens": 2 })).await, "xx");
}

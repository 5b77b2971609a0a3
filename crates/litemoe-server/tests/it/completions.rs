//! `/v1/completions`: plain texts and tokens, continued and scored.

use axum::Router;
use axum::body::Body;
use serde_json::{Value, json};

use crate::client::{read, send, serving, text};
use crate::toy::{MAX_TOKENS, Step, Toy, tokens};

/// The toy's script begins after this token.
const BEGIN: &str = "<|assistant|>";

async fn ask(router: &Router, fields: &Value) -> (u16, Value) {
    let mut body = json!({ "model": "toy" });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let response = send(router, "POST", "/v1/completions", Body::from(body.to_string())).await;
    (response.status().as_u16(), read(response).await)
}

async fn choices(router: &Router, fields: &Value) -> Vec<Value> {
    let (status, answer) = ask(router, fields).await;
    assert_eq!(status, 200, "{answer}");
    answer["choices"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_answer_has_the_shape_that_clients_expect() {
    let router = serving(Toy::saying("well done"));
    let (_, mut answer) = ask(&router, &json!({ "prompt": BEGIN })).await;
    assert!(answer["id"].take().as_str().unwrap().starts_with("cmpl-"));
    answer["created"].take();
    let n = tokens("well done").len() + 1;
    let expected = json!({
        "id": null, "object": "text_completion", "created": null, "model": "toy",
        "choices": [{ "text": "well done", "index": 0, "logprobs": null, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": n, "total_tokens": n + 1,
                   "prompt_tokens_details": { "cached_tokens": 0 } },
    });
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_prompt_is_a_text_or_tokens_or_several_of_them() {
    let router = serving(Toy::saying("yes"));
    let ids = tokens(BEGIN);
    for (prompt, n) in [
        (json!(BEGIN), 1),
        (json!(ids), 1),
        (json!([BEGIN, BEGIN]), 2),
        (json!([ids, ids, ids]), 3),
    ] {
        let choices = choices(&router, &json!({ "prompt": prompt, "n": 2 })).await;
        assert_eq!(choices.len(), 2 * n, "{prompt}");
        for (index, choice) in choices.iter().enumerate() {
            assert_eq!((&choice["text"], &choice["index"]), (&json!("yes"), &json!(index)));
        }
    }
}

#[tokio::test]
async fn echo_scores_the_prompt_and_its_first_token_has_no_logprob() {
    let router = serving(Toy::saying("yes"));
    let prompt = "a b";
    let ids = tokens(prompt);
    for prompt in [json!(prompt), json!(ids)] {
        let fields = json!({ "prompt": prompt, "echo": true, "logprobs": 2, "max_tokens": 0 });
        let choice = &choices(&router, &fields).await[0];
        assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("a b"), &json!("length")));
        let logprobs = &choice["logprobs"];
        let list = |name: &str| logprobs[name].as_array().unwrap().clone();
        assert_eq!(list("tokens").len(), ids.len());
        let texts: Vec<_> = list("tokens").iter().map(|t| t.as_str().unwrap().to_owned()).collect();
        assert_eq!(texts.concat(), "a b");
        let mut offset = 0;
        for (found, text) in list("text_offset").iter().zip(&texts) {
            assert_eq!(*found, json!(offset));
            offset += text.chars().count();
        }
        let found = list("token_logprobs");
        assert_eq!(found[0], Value::Null);
        assert_eq!(list("top_logprobs")[0], Value::Null);
        assert_eq!(found.len(), ids.len());
        for (nth, logprob) in found.iter().enumerate().skip(1) {
            assert!(logprob.as_f64().unwrap() < 0.0);
            let top = list("top_logprobs")[nth].as_object().unwrap().clone();
            assert!((2..=3).contains(&top.len()), "{top:?}");
            // As lm-eval compares them, digit by digit.
            assert_eq!(top[&texts[nth]].to_string(), logprob.to_string());
        }
    }
}

#[tokio::test]
async fn echo_comes_before_the_continuation() {
    let router = serving(Toy::saying("yes"));
    let prompt = format!("ab{BEGIN}");
    for n in [1, 2] {
        let fields = json!({ "prompt": prompt, "echo": true, "n": n, "logprobs": 0 });
        for choice in choices(&router, &fields).await {
            assert_eq!(choice["text"], format!("{prompt}yes"));
            // The end token has a logprob, too, but no text.
            let n_tokens = tokens(&prompt).len() + tokens("yes").len() + 1;
            for list in ["tokens", "token_logprobs", "text_offset", "top_logprobs"] {
                assert_eq!(choice["logprobs"][list].as_array().unwrap().len(), n_tokens);
            }
            let last = &choice["logprobs"]["text_offset"][n_tokens - 1];
            assert_eq!(*last, json!(prompt.len() + "yes".len()));
        }
        let plain = json!({ "prompt": prompt, "echo": true, "n": n });
        for choice in choices(&router, &plain).await {
            assert_eq!(choice["text"], format!("{prompt}yes"));
            assert_eq!(choice["logprobs"], Value::Null);
        }
    }
}

#[tokio::test]
async fn a_stream_says_the_same() {
    let router = serving(Toy::saying("Größe 🙂: on"));
    let prompts = json!([format!("ab{BEGIN}"), BEGIN]);
    for (echo, logprobs) in [(false, None), (true, None), (true, Some(1)), (false, Some(0))] {
        let mut fields = json!({ "prompt": prompts, "echo": echo, "n": 2, "logprobs": logprobs });
        let whole = choices(&router, &fields).await;
        fields["stream"] = true.into();
        fields["model"] = "toy".into();
        fields["stream_options"] = json!({ "include_usage": true });
        let body = Body::from(fields.to_string());
        let body = text(send(&router, "POST", "/v1/completions", body).await).await;
        let frames = body.strip_suffix("data: [DONE]\n\n").unwrap().split_terminator("\n\n");
        let chunks: Vec<Value> = frames
            .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        let (last, chunks) = chunks.split_last().unwrap();
        assert!(last["choices"] == json!([]) && last["usage"]["total_tokens"].is_u64());
        for (index, whole) in whole.iter().enumerate() {
            let own: Vec<_> = chunks
                .iter()
                .map(|chunk| &chunk["choices"][0])
                .filter(|choice| choice["index"] == index)
                .collect();
            let streamed: String = own.iter().map(|c| c["text"].as_str().unwrap()).collect();
            assert_eq!(whole["text"], streamed);
            assert_eq!(own.last().unwrap()["finish_reason"], whole["finish_reason"]);
            for list in ["tokens", "token_logprobs", "text_offset", "top_logprobs"] {
                let lists = own.iter().filter_map(|choice| choice["logprobs"][list].as_array());
                let streamed: Vec<Value> = lists.flatten().cloned().collect();
                let expected = whole["logprobs"][list].as_array().cloned().unwrap_or_default();
                assert_eq!(streamed, expected, "{list}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let router = serving(Toy::saying("x"));
    for (fields, param) in [
        (json!({}), "prompt"),
        (json!({ "prompt": 3 }), "prompt"),
        (json!({ "prompt": [] }), "prompt"),
        (json!({ "prompt": "" }), "prompt"),
        (json!({ "prompt": ["a", 3] }), "prompt"),
        (json!({ "prompt": [100_000] }), "prompt"),
        (json!({ "prompt": "7".repeat(MAX_TOKENS + 1) }), "prompt"),
        (json!({ "prompt": "a", "max_tokens": MAX_TOKENS }), "max_tokens"),
        (json!({ "prompt": "a", "max_tokens": 0 }), "max_tokens"),
        (json!({ "prompt": "a", "logprobs": 21 }), "logprobs"),
        (json!({ "prompt": "a", "logprobs": true }), "logprobs"),
        (json!({ "prompt": "a", "best_of": 3 }), "best_of"),
        (json!({ "prompt": "a", "suffix": "b" }), "suffix"),
        (json!({ "prompt": "a", "service_tier": "gold" }), "service_tier"),
        (json!({ "prompt": "a", "messages": [] }), "messages"),
        (json!({ "prompt": vec!["a"; 129] }), "prompt"),
        (json!({ "prompt": vec!["a"; 65], "n": 2 }), "n"),
    ] {
        let (status, answer) = ask(&router, &fields).await;
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
    }
}

#[tokio::test]
async fn scores_that_are_no_numbers_are_an_error() {
    let router = serving(Toy::doing(vec![Step::Nan; 8]));
    let prompt = format!("{BEGIN}ab");
    let fields = json!({ "prompt": prompt, "echo": true, "logprobs": 0, "max_tokens": 0 });
    let (status, answer) = ask(&router, &fields).await;
    assert_eq!((status, &answer["error"]["code"]), (500, &json!("logits_not_finite")));
}

//! `/tokenize` and `/detokenize`, in the forms of llama-server and vLLM.

use axum::Router;
use axum::body::Body;
use litemoe_server::{RequestLimits, ServerOptions};
use serde_json::{Value, json};

use crate::client::{read, send, serving, serving_with};
use crate::toy::{MAX_TOKENS, Toy, tokenizer, tokens};

async fn ask(router: &Router, path: &str, body: &Value) -> (u16, Value) {
    let response = send(router, "POST", path, Body::from(body.to_string())).await;
    (response.status().as_u16(), read(response).await)
}

async fn found(path: &str, body: &Value) -> Value {
    let (status, answer) = ask(&serving(Toy::saying("")), path, body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn a_text_becomes_tokens_in_either_form() {
    let text = "Turn on the lights 🙂";
    let ids = tokens(text);
    for path in ["/tokenize", "/v1/tokenize"] {
        let llama = json!({ "content": text, "add_special": false, "parse_special": true });
        assert_eq!(found(path, &llama).await, json!({ "tokens": ids }));
        let vllm = json!({ "model": "toy/app", "prompt": text, "add_special_tokens": false });
        let expected = json!({ "count": ids.len(), "max_model_len": MAX_TOKENS, "tokens": ids });
        assert_eq!(found(path, &vllm).await, expected);
    }
    let begun = tokenizer().encode_text_prompt(text).unwrap();
    for body in [json!({ "prompt": text }), json!({ "content": text, "add_special": true })] {
        assert_eq!(found("/tokenize", &body).await["tokens"], json!(begun));
    }
    assert_eq!(found("/tokenize", &json!({ "content": "" })).await, json!({ "tokens": [] }));
}

#[tokio::test]
async fn a_conversation_becomes_the_tokens_of_its_prompt() {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let body = json!({
        "model": "toy", "messages": messages, "add_generation_prompt": true,
        "continue_final_message": false, "add_special_tokens": false,
    });
    let ids = tokens("<|user|>hi<|assistant|>");
    assert_eq!(found("/tokenize", &body).await["tokens"], json!(ids));
    assert_eq!(found("/tokenize", &body).await["count"], ids.len());
}

#[tokio::test]
async fn pieces_are_texts_or_bytes_of_characters() {
    let text = "ab 🙂<|user|>";
    let body = json!({ "content": text, "with_pieces": true });
    let answer = found("/tokenize", &body).await;
    let (mut bytes, mut ids, mut n_cut) = (Vec::new(), Vec::new(), 0);
    for token in answer["tokens"].as_array().unwrap() {
        ids.push(token["id"].as_u64().unwrap() as u32);
        match &token["piece"] {
            Value::String(piece) => bytes.extend(piece.bytes()),
            piece => {
                n_cut += 1;
                let piece = piece.as_array().unwrap().iter();
                bytes.extend(piece.map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()));
            }
        }
    }
    assert_eq!((String::from_utf8(bytes).unwrap(), ids), (text.to_owned(), tokens(text)));
    assert!(n_cut > 1);
}

#[tokio::test]
async fn tokens_become_their_text_with_special_tokens() {
    let text = "<|user|>Größe 🙂<|assistant|>";
    let ids = tokens(text);
    for path in ["/detokenize", "/v1/detokenize"] {
        assert_eq!(found(path, &json!({ "tokens": ids })).await, json!({ "content": text }));
        let vllm = json!({ "model": "toy", "tokens": ids });
        assert_eq!(found(path, &vllm).await, json!({ "prompt": text }));
    }
    assert_eq!(found("/detokenize", &json!({ "tokens": [] })).await, json!({ "content": "" }));
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name() {
    let router = serving(Toy::saying(""));
    let chat = |fields: Value| {
        let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    for (path, body, status, param) in [
        ("/tokenize", json!({}), 400, "content"),
        ("/tokenize", json!({ "content": 3 }), 400, "content"),
        ("/tokenize", json!({ "content": "a", "prompt": "a" }), 400, "prompt"),
        ("/tokenize", json!({ "content": "a", "add_special": 1 }), 400, "add_special"),
        ("/tokenize", json!({ "content": "a", "parse_special": false }), 400, "parse_special"),
        ("/tokenize", json!({ "content": "a", "with_peices": true }), 400, "with_peices"),
        ("/tokenize", json!({ "prompt": "a", "add_special": true }), 400, "add_special"),
        ("/tokenize", json!({ "prompt": "a", "messages": [] }), 400, "messages"),
        ("/tokenize", json!({ "prompt": "a", "model": "none" }), 404, "model"),
        (
            "/tokenize",
            json!({ "prompt": "a", "return_token_strs": true }),
            400,
            "return_token_strs",
        ),
        ("/tokenize", json!({ "prompt": "7".repeat(64 * MAX_TOKENS + 1) }), 400, "prompt"),
        ("/tokenize", json!({ "content": "7".repeat(64 * MAX_TOKENS) }), 400, "content"),
        ("/tokenize", json!({ "messages": [] }), 400, "messages"),
        (
            "/tokenize",
            chat(json!({ "add_generation_prompt": false })),
            400,
            "add_generation_prompt",
        ),
        (
            "/tokenize",
            chat(json!({ "continue_final_message": true })),
            400,
            "continue_final_message",
        ),
        ("/tokenize", chat(json!({ "add_special_tokens": true })), 400, "add_special_tokens"),
        ("/tokenize", chat(json!({ "chat_template": "" })), 400, "chat_template"),
        ("/tokenize", chat(json!({ "temperature": 1 })), 400, "temperature"),
        ("/detokenize", json!({}), 400, "tokens"),
        ("/detokenize", json!({ "tokens": "a" }), 400, "tokens"),
        ("/detokenize", json!({ "tokens": [-1] }), 400, "tokens"),
        ("/detokenize", json!({ "tokens": [4096] }), 400, "tokens"),
        ("/detokenize", json!({ "tokens": vec![50; 16 * MAX_TOKENS + 1] }), 400, "tokens"),
        ("/detokenize", json!({ "tokens": [50], "model": "none" }), 404, "model"),
        ("/detokenize", json!({ "tokens": [50], "x": 1 }), 400, "x"),
    ] {
        let (found, answer) = ask(&router, path, &body).await;
        let error = &answer["error"];
        assert_eq!((found, &error["param"]), (status, &json!(param)), "{path} {answer}");
        let is_long = error["code"] == "context_length_exceeded";
        let message = error["message"].as_str().unwrap();
        assert!(is_long || status == 404 || message.contains(param), "{error}");
    }
}

#[tokio::test]
async fn a_text_that_is_a_little_too_long_is_counted() {
    let text = "7".repeat(MAX_TOKENS + 1);
    let answer = found("/tokenize", &json!({ "prompt": text, "add_special_tokens": false })).await;
    assert_eq!(answer["count"], tokens(&text).len());
}

#[tokio::test]
async fn bodies_have_the_limits_of_other_requests() {
    let limits = RequestLimits { max_body: 200, max_values: 8, ..RequestLimits::default() };
    let router =
        serving_with(Toy::saying(""), ServerOptions { limits, ..ServerOptions::default() });
    for path in ["/tokenize", "/detokenize"] {
        let (status, answer) = ask(&router, path, &json!({ "content": "a".repeat(200) })).await;
        assert_eq!((status, &answer["error"]["code"]), (413, &json!("request_too_large")));
        let (status, answer) = ask(&router, path, &json!({ "tokens": vec![1; 32] })).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_value")));
    }
}

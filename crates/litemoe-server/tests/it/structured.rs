//! Answers of a given form.

use std::collections::BTreeSet;

use burn::tensor::Device;
use litemoe_model::{Checkpoint, Model};
use litemoe_server::{Server, ServerOptions};
use serde_json::{Value, json};

use crate::client::{answer, chat, chunks, content, post, read, serving};
use crate::toy::{Step, Toy, tokenizer};

fn babbling() -> axum::Router {
    serving(Toy::doing(vec![Step::Any; 250]))
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": { "on": { "type": "boolean" }, "room": { "enum": ["attic", "hall"] } },
        "required": ["on", "room"], "additionalProperties": false,
    })
}

fn assert_valid(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap();
    let fields = value.as_object().unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["on", "room"]);
    assert!(fields["on"].is_boolean(), "{value}");
    assert!(fields["room"] == "attic" || fields["room"] == "hall", "{value}");
}

#[tokio::test]
async fn an_answer_follows_its_schema() {
    let router = babbling();
    let format = |name: &str| json!({ "type": "json_schema", "json_schema": { "name": name, "schema": schema(), "strict": true } });
    for fields in [
        json!({ "response_format": format("a") }),
        json!({ "response_format": format("a"), "temperature": 1, "seed": 4 }),
        json!({ "structured_outputs": { "json": schema() } }),
        json!({ "guided_json": schema().to_string() }),
    ] {
        let choice = answer(&router, &fields).await["choices"][0].clone();
        assert_valid(choice["message"]["content"].as_str().unwrap());
        assert_eq!(choice["finish_reason"], "stop");
        let mut streamed = fields.clone();
        streamed["stream"] = true.into();
        let chunks = chunks(&router, &streamed).await;
        let text =
            |chunk: &Value| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
        let text: String = chunks.iter().filter_map(text).collect();
        assert_eq!(choice["message"]["content"], text);
    }
}

#[tokio::test]
async fn the_foundation_answers_by_a_schema() {
    let checkpoint = Checkpoint::open(litemoe_fixtures::foundation_dir()).unwrap();
    let model = Model::load(&checkpoint, &Device::flex()).unwrap();
    let server = Server::new("foundation", model, tokenizer(), ServerOptions::default()).unwrap();
    let router = server.into_router();
    let format = json!({ "type": "json_schema", "json_schema": { "schema": schema() } });
    for (temperature, seed) in [(0, 0), (1, 1), (1, 2)] {
        let fields = json!({
            "model": "foundation", "response_format": format, "temperature": temperature, "seed": seed, "n": 2,
            "messages": [{ "role": "user", "content": "Turn on the lights in the attic." }], "max_tokens": 60,
        });
        let body = read(post(&router, &chat(&fields)).await).await;
        for choice in body["choices"].as_array().unwrap() {
            assert_eq!(choice["finish_reason"], "stop", "{body}");
            assert_valid(choice["message"]["content"].as_str().unwrap());
        }
    }
}

#[tokio::test]
async fn an_answer_is_one_of_its_choices() {
    let router = babbling();
    let choices = json!(["a", "ab", "abc", "on and off"]);
    let mut said = BTreeSet::new();
    for fields in [
        json!({ "choices": choices, "temperature": 1, "n": 8 }),
        json!({ "guided_choice": choices, "temperature": 1, "n": 8, "seed": 1 }),
        json!({ "structured_outputs": { "choice": choices }, "temperature": 1, "n": 8, "seed": 2 }),
    ] {
        for choice in answer(&router, &fields).await["choices"].as_array().unwrap() {
            let text = choice["message"]["content"].clone();
            assert!(choices.as_array().unwrap().contains(&text), "{text}");
            said.insert(text.to_string());
        }
    }
    assert!(said.len() > 2, "{said:?}");
}

#[tokio::test]
async fn an_answer_matches_its_regular_expression_and_log_probabilities_are_the_models_own() {
    let router = serving(Toy::saying("yes"));
    let fields = json!({ "guided_regex": "(on|off)!", "logprobs": true, "top_logprobs": 1 });
    let choice = answer(&router, &fields).await["choices"][0].clone();
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(["on!", "off!"].contains(&text), "{text}");
    let first = &choice["logprobs"]["content"][0];
    assert!(first["logprob"].as_f64().unwrap() < -1000.0, "{first}");
    assert!(first["top_logprobs"][0]["logprob"].as_f64().unwrap() > -0.1, "{first}");
    let regex = json!({ "structured_outputs": { "regex": "[0-9]{3}" } });
    assert!(content(&router, &regex).await.parse::<u32>().is_ok());
}

#[tokio::test]
async fn an_answer_that_ends_early_is_incomplete() {
    let fields = json!({ "response_format": { "type": "json_object" }, "max_tokens": 2 });
    let choice = answer(&babbling(), &fields).await["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "length");
    assert!(choice["message"]["content"].as_str().unwrap().starts_with('{'), "{choice}");
    let plain = content(&babbling(), &json!({})).await;
    assert_eq!(
        content(&babbling(), &json!({ "response_format": { "type": "text" } })).await,
        plain
    );
}

#[tokio::test]
async fn forms_that_are_wrong_or_not_supported_are_refused_by_name() {
    let format = |schema: Value| json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": schema } } });
    let schema_at = "response_format.json_schema.schema";
    for (fields, code, param) in [
        (format(json!({ "not": {} })), "unsupported_parameter", schema_at),
        (format(json!({ "type": "int" })), "invalid_value", schema_at),
        (
            format(json!({ "type": "string", "minLength": 2, "maxLength": 1 })),
            "invalid_value",
            schema_at,
        ),
        (format(json!(false)), "invalid_value", schema_at),
        (
            json!({ "response_format": { "type": "grammar" } }),
            "unsupported_parameter",
            "response_format.type",
        ),
        (json!({ "response_format": "json" }), "invalid_type", "response_format"),
        (json!({ "response_format": {} }), "missing_required_parameter", "response_format.type"),
        (
            json!({ "response_format": { "type": "json_schema" } }),
            "missing_required_parameter",
            "response_format.json_schema",
        ),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "a" } } }),
            "missing_required_parameter",
            schema_at,
        ),
        (
            json!({ "response_format": { "type": "json_object", "schema": {} } }),
            "unknown_parameter",
            "response_format.schema",
        ),
        (json!({ "choices": [] }), "invalid_value", "choices"),
        (json!({ "choices": "a" }), "invalid_type", "choices"),
        (json!({ "guided_regex": "(" }), "invalid_value", "guided_regex"),
        (json!({ "guided_json": "{" }), "invalid_type", "guided_json"),
        (json!({ "structured_outputs": {} }), "invalid_value", "structured_outputs"),
        (
            json!({ "structured_outputs": { "grammar": "a" } }),
            "unknown_parameter",
            "structured_outputs.grammar",
        ),
        (
            json!({ "structured_outputs": { "regex": "a", "choice": ["a"] } }),
            "invalid_value",
            "structured_outputs.regex",
        ),
        (json!({ "choices": ["a"], "guided_regex": "a" }), "invalid_value", "guided_regex"),
    ] {
        let response = post(&babbling(), &chat(&fields)).await;
        assert_eq!(response.status(), 400, "{fields}");
        let error = read(response).await["error"].clone();
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(param), "{error}");
    }
    // No token of the vocabulary can say it.
    let fields = json!({ "response_format": { "type": "json_object" }, "logit_bias": { "0": 1 } });
    assert_eq!(post(&babbling(), &chat(&fields)).await.status(), 200);
}

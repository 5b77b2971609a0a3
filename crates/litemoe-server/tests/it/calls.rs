//! Tool calls in answers.

use axum::Router;
use litemoe_server::ServerOptions;
use litemoe_text::Tokenizer;
use serde_json::{Value, json};

use crate::client::{answer, chat, chunks, post, read, serving_by};
use crate::toy::{Step, Toy};

/// As Hermes and Qwen render calls.
const TEMPLATE: &str = "{% for tool in tools or [] %}{{ tool.function.name }};{% endfor %}\
    {% for m in messages %}<|user|>{{ m.content or '' }}\
    {% for c in m.tool_calls or [] %}{{ '\n<tool_call>\n{\"name\": \"' + c.function.name + '\", \"arguments\": ' }}\
    {{ c.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{% if m.role == 'assistant' %}<|endoftext|>{% endif %}\
    {% endfor %}{% if add_generation_prompt %}<|user|>{% endif %}";

const CALL: &str =
    "<tool_call>\n{\"name\": \"dim\", \"arguments\": {\"room\": \"a\"}}\n</tool_call>";

fn router(toy: Toy) -> Router {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(litemoe_fixtures::foundation_dir().join(name), dir.path().join(name))
            .unwrap();
    }
    std::fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    serving_by(toy, Tokenizer::from_dir(dir.path()).unwrap(), ServerOptions::default())
}

fn tools() -> Value {
    let parameters = json!({ "type": "object", "properties": { "room": { "enum": ["a", "b"] } },
        "required": ["room"], "additionalProperties": false });
    json!([
        { "type": "function", "function": { "name": "dim", "parameters": parameters } },
        { "type": "function", "function": { "name": "off", "parameters": { "type": "object", "additionalProperties": false } } },
    ])
}

/// The message and finish reason of the answer to a request with tools and further fields.
async fn message(router: &Router, fields: Value) -> (Value, Value) {
    let choice = answer(router, &with_tools(fields)).await["choices"][0].clone();
    (choice["message"].clone(), choice["finish_reason"].clone())
}

fn with_tools(mut fields: Value) -> Value {
    fields.as_object_mut().unwrap().entry("tools").or_insert_with(tools);
    fields
}

#[tokio::test]
async fn a_call_is_parsed() {
    let (message, reason) = message(&router(Toy::saying(CALL)), json!({})).await;
    assert_eq!(reason, "tool_calls");
    let id = message["tool_calls"][0]["id"].as_str().unwrap();
    assert!(id.starts_with("call_") && id.len() > 10, "{id}");
    let call = json!({ "id": id, "type": "function", "function": { "name": "dim", "arguments": "{\"room\": \"a\"}" } });
    assert_eq!(message, json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
}

#[tokio::test]
async fn content_and_calls_are_told_apart() {
    let text = format!("Sure.\n{}", CALL.replace("\"a\"", "1"));
    let (message, reason) = message(&router(Toy::saying(&text)), json!({})).await;
    assert_eq!((&message["content"], reason), (&json!("Sure."), json!("tool_calls")));
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"room\": 1}");
}

#[tokio::test]
async fn what_is_no_call_is_content() {
    let broken = CALL.replace("}}", "}");
    for (text, fields) in [
        (broken.as_str(), json!({})),
        ("a < b", json!({})),
        (CALL, json!({ "tool_choice": "none" })),
        (CALL, json!({ "tools": [] })),
    ] {
        let (message, reason) = message(&router(Toy::saying(text)), fields.clone()).await;
        assert_eq!(message, json!({ "role": "assistant", "content": text }), "{fields}");
        assert_eq!(reason, "stop");
    }
    let (message, reason) = message(&router(Toy::saying(CALL)), json!({ "max_tokens": 9 })).await;
    assert_eq!(reason, "length");
    assert!(message["content"].as_str().unwrap().starts_with("<tool_call>"), "{message}");
}

/// Content and calls of a stream, as OpenAI's client collects them.
async fn collected(
    router: &Router,
    fields: Value,
) -> (String, Vec<(Value, String, String)>, Value) {
    let mut fields = with_tools(fields);
    fields["stream"] = true.into();
    let (mut content, mut calls, mut reason) = (String::new(), Vec::new(), Value::Null);
    for chunk in chunks(router, &fields).await {
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        content += delta["content"].as_str().unwrap_or_default();
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().unwrap() as usize;
            let arguments = call["function"]["arguments"].as_str().unwrap();
            if index == calls.len() {
                assert_eq!((&call["type"], arguments), (&json!("function"), ""));
                let name = call["function"]["name"].as_str().unwrap().to_owned();
                calls.push((call["id"].clone(), name, String::new()));
            } else {
                assert!(call.get("id").is_none() && call["function"].get("name").is_none());
                calls[index].2 += arguments;
            }
        }
        if !choice["finish_reason"].is_null() {
            reason = choice["finish_reason"].clone();
        }
    }
    (content, calls, reason)
}

#[tokio::test]
async fn a_stream_has_the_calls_of_a_whole_answer() {
    let one = CALL.replace("{\"room\": \"a\"}", "{}");
    let two = format!("Ok {}\n{}", one.replace("dim", "off"), one.replace("dim", "x"));
    for (text, content, names) in
        [(CALL, "", vec!["dim"]), (&two, "Ok", vec!["off", "x"]), ("a <tool", "a <tool", vec![])]
    {
        let (streamed, calls, reason) = collected(&router(Toy::saying(text)), json!({})).await;
        assert_eq!(streamed, content);
        assert_eq!(calls.iter().map(|(_, name, _)| &**name).collect::<Vec<_>>(), names);
        assert_eq!(reason, if names.is_empty() { "stop" } else { "tool_calls" });
        let (message, _) = message(&router(Toy::saying(text)), json!({})).await;
        for (index, (id, name, arguments)) in calls.iter().enumerate() {
            let function = &message["tool_calls"][index]["function"];
            assert_eq!(
                (&function["name"], &function["arguments"]),
                (&json!(name), &json!(arguments))
            );
            assert!(id.as_str().unwrap().starts_with("call_"));
        }
    }
}

#[tokio::test]
async fn a_call_that_is_required_is_made() {
    let babble = || router(Toy::doing(vec![Step::Any; 250]));
    let named = json!({ "type": "function", "function": { "name": "dim" } });
    for (fields, n_calls) in [
        (json!({ "tool_choice": "required", "parallel_tool_calls": false }), 1),
        (json!({ "tool_choice": named, "temperature": 1, "seed": 5 }), 1),
    ] {
        let (message, reason) = message(&babble(), fields.clone()).await;
        assert_eq!(reason, "tool_calls", "{fields}: {message}");
        let calls = message["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), n_calls);
        let function = &calls[0]["function"];
        let arguments: Value =
            serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
        match function["name"].as_str().unwrap() {
            "dim" => assert!(arguments["room"] == "a" || arguments["room"] == "b", "{arguments}"),
            name => assert_eq!((name, arguments), ("off", json!({}))),
        }
    }
}

#[tokio::test]
async fn strict_tools_keep_their_schemas_and_leave_content_free() {
    let mut strict = tools();
    strict[0]["function"]["strict"] = true.into();
    let wrong = CALL.replace("\"a\"", "\"c\"");
    let (message, _) = message(&router(Toy::saying(&wrong)), json!({ "tools": strict })).await;
    let arguments = message["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    assert!(arguments["room"] == "a" || arguments["room"] == "b", "{arguments}");
    let (message, reason) =
        self::message(&router(Toy::saying("Hello.")), json!({ "tools": strict })).await;
    assert_eq!((message["content"].as_str(), reason), (Some("Hello."), json!("stop")));
    let single = json!({ "parallel_tool_calls": false });
    let (message, _) = self::message(&router(Toy::saying(&format!("{CALL}{CALL}"))), single).await;
    assert_eq!(message["tool_calls"].as_array().unwrap().len(), 1, "{message}");
}

#[tokio::test]
async fn choices_of_tools_that_are_not_there_are_refused() {
    let named = |name: &str| json!({ "type": "function", "function": { "name": name } });
    let mut strict = tools();
    strict[0]["function"] = json!({ "name": "dim", "strict": true, "parameters": { "not": {} } });
    for (fields, code, param) in [
        (json!({ "tool_choice": "required", "tools": [] }), "invalid_value", "tool_choice"),
        (json!({ "tool_choice": named("other") }), "invalid_value", "tool_choice"),
        (json!({ "tool_choice": "any" }), "unsupported_parameter", "tool_choice"),
        (
            json!({ "tool_choice": { "type": "allowed_tools" } }),
            "unsupported_parameter",
            "tool_choice",
        ),
        (json!({ "parallel_tool_calls": "no" }), "invalid_type", "parallel_tool_calls"),
        (json!({ "tools": strict }), "unsupported_parameter", "tools[0].function.strict"),
        (
            json!({ "response_format": { "type": "json_object" } }),
            "unsupported_parameter",
            "response_format",
        ),
    ] {
        let response = post(&router(Toy::saying("x")), &chat(&with_tools(fields.clone()))).await;
        assert_eq!(response.status(), 400, "{fields}");
        let error = read(response).await["error"].clone();
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{error}");
    }
}

#[tokio::test]
async fn a_call_can_be_sent_back() {
    let (message, _) = message(&router(Toy::saying(CALL)), json!({})).await;
    let messages = json!([
        { "role": "user", "content": "hi" }, message,
        { "role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "ok" },
    ]);
    let router = router(Toy::saying("Done."));
    let (message, reason) =
        self::message(&router, json!({ "messages": messages, "tools": [] })).await;
    assert_eq!((message["content"].as_str(), reason), (Some("Done."), json!("stop")));
}

//! Tools, documents and variables of the chat template.

use axum::Router;
use litemoe_server::ServerOptions;
use litemoe_text::{Prompt, Tokenizer};
use serde_json::{Value, json};

use crate::client::{answer, chat, post, read, serving, serving_by};
use crate::toy::Toy;

const TEMPLATE: &str = "{% for tool in tools or [] %}{{ tool.function.name }};{% endfor %}\
    {% for document in documents or [] %}{{ document.text }};{% endfor %}\
    {% for message in messages %}<|user|>{{ message.content or '' }}\
    {% for call in message.tool_calls or [] %}{{ call.function.arguments.room }}{% endfor %}\
    {{ message.tool_call_id }}{% endfor %}<|assistant|>{{ tone }}";

fn tokenizer() -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(litemoe_fixtures::foundation_dir().join(name), dir.path().join(name))
            .unwrap();
    }
    std::fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    Tokenizer::from_dir(dir.path()).unwrap()
}

fn router() -> Router {
    serving_by(Toy::saying("x"), tokenizer(), ServerOptions::default())
}

fn tools() -> Value {
    json!([{ "type": "function", "function": { "name": "dim", "parameters": {} } }])
}

/// Number of a prompt's tokens, which the prompt alone must have too.
async fn n_prompt(router: &Router, fields: &Value, prompt: &Value) -> u64 {
    let n = answer(router, fields).await["usage"]["prompt_tokens"].as_u64().unwrap();
    let prompt = Prompt::from_json(&prompt.to_string()).unwrap();
    assert_eq!(n, tokenizer().encode_chat(&prompt).unwrap().len() as u64, "{fields}");
    n
}

#[tokio::test]
async fn tools_documents_and_variables_are_rendered_by_the_template() {
    let (router, hi) = (router(), json!([{ "role": "user", "content": "hi" }]));
    let plain = n_prompt(&router, &json!({}), &hi).await;
    for fields in [
        json!({ "tools": tools() }),
        json!({ "documents": [{ "text": "dim" }] }),
        json!({ "chat_template_kwargs": { "tone": "kind" } }),
        json!({ "tools": tools(), "documents": [{ "text": "a" }], "tool_choice": "auto" }),
    ] {
        let mut prompt = fields.clone();
        prompt["messages"] = hi.clone();
        prompt.as_object_mut().unwrap().remove("tool_choice");
        assert!(n_prompt(&router, &fields, &prompt).await > plain, "{fields}");
    }
    let unused = json!({ "tools": tools(), "tool_choice": "none", "parallel_tool_calls": false });
    assert_eq!(n_prompt(&router, &unused, &hi).await, plain);
}

#[tokio::test]
async fn calls_and_their_results_are_part_of_a_conversation() {
    let call = json!({ "id": "c1", "type": "function",
                       "function": { "name": "dim", "arguments": "{\"room\": \"attic\"}" } });
    let messages = json!([
        { "role": "user", "content": "hi" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "c1", "name": "dim", "content": "ok" },
    ]);
    let (router, fields) = (router(), json!({ "messages": messages, "tools": tools() }));
    n_prompt(&router, &fields, &fields).await;
    let message = answer(&router, &fields).await["choices"][0]["message"].clone();
    assert_eq!(message, json!({ "role": "assistant", "content": "x" }));
}

#[tokio::test]
async fn what_cannot_be_kept_or_has_no_effect_is_refused_by_name() {
    let mut strict = tools();
    strict[0]["function"]["strict"] = true.into();
    let named = json!({ "type": "function", "function": { "name": "dim" } });
    let calls = |calls: Value| {
        let user = json!({ "role": "user", "content": "hi" });
        json!({ "messages": [user, { "role": "assistant", "tool_calls": calls }] })
    };
    for (fields, code, param) in [
        (
            json!({ "tools": tools(), "tool_choice": "required" }),
            "unsupported_parameter",
            "tool_choice",
        ),
        (json!({ "tools": tools(), "tool_choice": named }), "unsupported_parameter", "tool_choice"),
        (
            json!({ "tools": tools(), "parallel_tool_calls": false }),
            "unsupported_parameter",
            "parallel_tool_calls",
        ),
        (json!({ "tools": strict }), "unsupported_parameter", "tools[0].function.strict"),
        (json!({ "tools": ["dim"] }), "invalid_type", "tools[0]"),
        (json!({ "tools": "dim" }), "invalid_type", "tools"),
        (json!({ "documents": ["a"] }), "invalid_type", "documents[0]"),
        (json!({ "chat_template_kwargs": [] }), "invalid_type", "chat_template_kwargs"),
        (
            json!({ "chat_template_kwargs": { "tools": [] } }),
            "invalid_value",
            "chat_template_kwargs.tools",
        ),
        (calls(json!([{}])), "invalid_type", "messages[1].tool_calls[0].function.name"),
        (
            calls(json!([{ "function": { "name": "dim", "arguments": "{" } }])),
            "invalid_value",
            "messages[1].tool_calls[0].function.arguments",
        ),
        // The template fails on it.
        (json!({ "tools": [{ "type": "function" }] }), "invalid_value", "messages"),
    ] {
        let response = post(&router(), &chat(&fields)).await;
        assert_eq!(response.status(), 400, "{fields}");
        let error = read(response).await["error"].clone();
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{error}");
    }
    // The toy's own template prints no tools.
    for (key, value) in [("tools", tools()), ("documents", json!([{ "text": "a" }]))] {
        let response = post(&serving(Toy::saying("x")), &chat(&json!({ key: value }))).await;
        assert_eq!(response.status(), 400);
        assert_eq!(read(response).await["error"]["param"], key);
    }
    let call = json!({ "type": "function", "function": { "name": "dim", "arguments": "{}" } });
    let response = post(&serving(Toy::saying("x")), &chat(&calls(json!([call])))).await;
    assert_eq!(response.status(), 400);
    let error = read(response).await["error"].clone();
    assert_eq!(error["param"], "messages");
    assert!(error["message"].as_str().unwrap().contains("nothing of the tool calls"), "{error}");
}

#[tokio::test]
async fn tools_count_as_text_of_the_conversation() {
    let description = "a".repeat(64 * crate::toy::MAX_TOKENS);
    let tool =
        json!({ "type": "function", "function": { "name": "dim", "description": description } });
    let response = post(&router(), &chat(&json!({ "tools": [tool] }))).await;
    assert_eq!(response.status(), 400);
    assert_eq!(read(response).await["error"]["code"], "context_length_exceeded");
}

//! Rows that are refused, each with its line and what is wrong.

use serde_json::{Value, json};

use super::refused;

#[test]
fn a_bad_line_is_named_by_its_number() {
    let good = r#"{"prompt":"p","completion":"c"}"#;
    for (bad, reason) in [
        ("{", "EOF"),
        ("not json", "not a JSON object but text"),
        (r#"["p","c"]"#, "not a JSON object but a list"),
        (r#""p""#, "not a JSON object but a string"),
        ("{'prompt':'p'}", "this looks like Python"),
        (r#"{"prompt":"p"}"#, "missing field `completion`"),
        (r#"{"completion":"c"}"#, "missing field `prompt`"),
        (r#"{"prompt":1,"completion":"c"}"#, "`prompt` is a number, expected a string"),
        (r#"{"prompt":"p","completion":null}"#, "`completion` is null, expected a string"),
        (r#"{"prompt":"p","completion":""}"#, "empty completion: `completion` has no text"),
        (r#"{"prompt":"p","completion":" \n"}"#, "empty completion: `completion` has no text"),
        (r#"{"prompt":"p","prompt":"q","completion":"c"}"#, "duplicate field `prompt`"),
        (r#"{"prompt":"p","completion":"c"} {}"#, "trailing characters"),
        (r#"{"prompt":"p","completion":"\ud800"}"#, "`completion`: "),
        (
            r#"{"prompt":"p","completion":"c","label":[1]}"#,
            "`label` is a list, expected a string or",
        ),
        (r#"{"prompt":"p","completion":"c","references":[1]}"#, "`references[0]` is a number"),
    ] {
        let error = refused(format!("{good}\n{bad}\n{good}\n")).to_string();
        assert!(error.contains("rows.txt, line 2: "), "{error}");
        assert!(error.contains(reason), "{bad}: {error}");
        assert!(!error.contains("line 1"), "{error}");
    }
    let array = format!("[\n{good},\n{good},\n\n{{\"prompt\": \"p\"}}]");
    let error = refused(array).to_string();
    assert!(error.contains("rows.txt, line 5: missing field `completion`"), "{error}");
    let error = refused(format!("[\n{good},\n{good}\n{good}]")).to_string();
    assert!(error.contains("rows.txt, line 4: expected `,` or `]`"), "{error}");
    let error = refused(format!("[{good}]\n{good}")).to_string();
    assert!(error.contains("rows.txt, line 2: trailing characters"), "{error}");
}

#[test]
fn unknown_keys_are_named_with_what_to_rename() {
    for (row, advice) in [
        (
            json!({"question": "q", "answer": "a"}),
            "rename `question` to `prompt` and `answer` to `completion`",
        ),
        (
            json!({"input": "q", "output": "a"}),
            "rename `input` to `prompt` and `output` to `completion`",
        ),
        (json!({"prompt": "q", "response": "a"}), "; rename `response` to `completion`"),
        (json!({"prompt": "q", "chosen": "a", "rejected": "b"}), "they look like preference pairs"),
        (json!({"prompt": "q"}), "there is `prompt`, but no `completion`"),
        (json!({"label": "q"}), "there is `label`, but no `prompt`"),
        (json!({"dialogue": []}), "rename `dialogue` to `messages`"),
        (json!({"content": "q"}), "rename `content` to `text`"),
        (json!({"data": [], "version": 1}), "if `data` holds the rows, write them as a JSON array"),
        (json!({"a": 1, "b": 2}), "a row has `prompt` and `completion`, or `messages`, or"),
        (json!({}), "it has no keys; a row has `prompt` and `completion`, or"),
    ] {
        let error = refused(row.to_string()).to_string();
        assert!(error.contains("rows.txt, line 1: not a known row"), "{error}");
        assert!(error.contains(advice), "{row}: {error}");
    }
}

#[track_caller]
fn expect(row: &Value, reason: &str) {
    let error = refused(row.to_string()).to_string();
    assert!(error.contains("line 1: ") && error.contains(reason), "{row}: {error}");
}

#[test]
fn bad_conversations_are_named_by_their_keys() {
    let user = json!({"role": "user", "content": "Hi"});
    let assistant = |content: Value| json!({"role": "assistant", "content": content});
    let called = |function: Value| json!({"role": "assistant", "tool_calls": [{"type": "function", "function": function}]});
    for (second, reason) in [
        (assistant(json!("")), "empty completion: `messages[1].content` has no text"),
        (assistant(json!(" ")), "empty completion: `messages[1].content` has no text"),
        (assistant(json!(null)), "empty completion: `messages[1].content` has no text"),
        (assistant(json!(7)), "`messages[1].content` is a number, expected a string or text parts"),
        (
            assistant(json!([{"type": "image_url"}])),
            "`messages[1].content[0]` has a part of the type `image_url`",
        ),
        (assistant(json!(["a"])), "`messages[1].content[0]` has a string instead of a part"),
        (
            json!({"role": "bot", "content": "Hi"}),
            "`messages[1].role`: unknown role `bot`; known are system,",
        ),
        (json!({"content": "Hi"}), "`messages[1].role` is null, expected a string"),
        (json!("Hi"), "`messages[1]` is a string, expected a message, an object"),
        (user.clone(), "`messages` has no assistant message in the loss"),
        (
            json!({"role": "assistant", "content": "a", "weight": 0}),
            "has no assistant message in the loss",
        ),
        (
            json!({"role": "assistant", "content": "a", "weight": 0.5}),
            "`messages[1].weight` has the weight 0.5: a weight is 0 or 1",
        ),
        (
            json!({"role": "assistant", "function_call": {}}),
            "`messages[1].function_call` has OpenAI's old function calls: write `tool_calls`",
        ),
        (json!({"role": "user", "tool_calls": [{"name": "f"}]}), "`messages[1].content` is null"),
        (
            json!({"role": "assistant", "tool_calls": {}}),
            "`messages[1].tool_calls` is an object, expected a list",
        ),
        (called(json!({})), "`messages[1].tool_calls[0].function.name` is null"),
        (
            called(json!({"name": "f", "arguments": "{"})),
            "`messages[1].tool_calls[0].function.arguments`: not the JSON of an object",
        ),
        (called(json!({"name": "f", "arguments": "[1]"})), "not the JSON of an object"),
    ] {
        expect(&json!({"messages": [user, second]}), reason);
    }
    expect(
        &json!({"messages": [assistant(json!("Hi"))]}),
        "`messages` begins with the assistant's message",
    );
    expect(&json!({"messages": []}), "has no assistant message");
    expect(&json!({"messages": "Hi"}), "`messages`: expected value");
    expect(&json!({"messages": {}}), "`messages` is an object, expected a list of messages");
    let messages = json!([user, assistant(json!("Hello"))]);
    expect(
        &json!({"messages": messages, "tools": {}}),
        "`tools` is an object, expected a list of tools",
    );
    expect(
        &json!({"messages": messages, "tools": ["f"]}),
        "`tools[0]` is a string, expected a tool",
    );
    expect(
        &json!({"messages": messages, "functions": [{}]}),
        "`functions` has OpenAI's old functions",
    );
}

#[test]
fn bad_rows_of_other_shapes_are_named_by_their_keys() {
    let human = json!({"from": "human", "value": "Hi"});
    let turn = |from: &str, value: &str| json!({"from": from, "value": value});
    for (second, reason) in [
        (
            turn("bing", "Hello"),
            "`conversations[1].from`: unknown role `bing`; known are system, human,",
        ),
        (turn("gpt", ""), "empty completion: `conversations[1].content`"),
        (json!({"from": "gpt"}), "`conversations[1].value` is null, expected a string"),
        (turn("function_call", "f()"), "`conversations[1].value`: not the JSON of a function call"),
    ] {
        expect(&json!({"conversations": [human, second]}), reason);
    }
    let twice = json!([turn("system", "a"), human, turn("gpt", "Hello")]);
    expect(&json!({"system": "b", "conversations": twice}), "`system` has a second system message");
    let history = json!({"instruction": "a", "output": "b", "history": [["c", "d"]]});
    expect(&history, "`history` has earlier turns: write the conversation as `messages`");
    expect(&json!({"instruction": "a", "output": ""}), "empty completion: `output` has no text");
    expect(&json!({"instruction": "a", "output": "b", "input": 3}), "`input` is a number");
    expect(&json!({"text": "\n"}), "empty completion: `text` has no text");
    let mixed = json!({"prompt": [{"role": "user", "content": "Hi"}], "completion": "Hello"});
    expect(&mixed, "`completion`: expected value");
    expect(
        &json!({"prompt": "Hi", "completion": [{}]}),
        "`completion` is a list, expected a string",
    );
}

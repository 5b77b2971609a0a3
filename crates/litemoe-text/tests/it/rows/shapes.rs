//! Shapes of rows, recognised by the keys of the first row.

use litemoe_text::{LossTurns, Row, RowContent, RowShape};
use serde_json::{Value, json};

use super::{one, read, refused};

/// The conversation of a row as JSON, and the messages in the loss.
#[track_caller]
fn conversation(row: &Row) -> (Value, Vec<usize>) {
    match &row.content {
        RowContent::Conversation(conversation) => {
            (json!(conversation.messages()), conversation.loss_turns())
        }
        other => panic!("{other:?} is no conversation"),
    }
}

/// A conversation of a user's and the assistant's message, after a system message.
fn polite() -> Value {
    json!([
        {"role": "system", "content": "Be polite."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
    ])
}

#[test]
fn prompt_and_completion() {
    let row =
        json!({"prompt": "p", "completion": "c", "label": 3, "references": ["c", "d"], "x": [{}]});
    let file = read(row.to_string());
    assert_eq!(file.shape, RowShape::PromptCompletion);
    let expected = Row {
        label: Some("3".into()),
        references: vec!["c".into(), "d".into()],
        ..Row::new("p", "c")
    };
    assert_eq!(file.rows, [expected]);
    assert_eq!(one(r#"{"prompt":"","completion":"c","label":null}"#), Row::new("", "c"));
}

#[test]
fn prompt_and_completion_as_lists_of_messages() {
    let row = json!({
        "prompt": [
            {"role": "system", "content": "Be polite."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "Bye"},
        ],
        "completion": [{"role": "assistant", "content": "Goodbye!"}],
    });
    let file = read(row.to_string());
    assert_eq!(file.shape, RowShape::MessageLists);
    let (messages, loss) = conversation(&file.rows[0]);
    assert_eq!((messages[4]["content"].as_str(), loss), (Some("Goodbye!"), vec![4]));
    assert_eq!(file.rows[0].completion(), Some("Goodbye!"));
}

#[test]
fn messages_of_several_turns() {
    let row = json!({"messages": [
        {"role": "developer", "content": "Be polite."},
        {"role": "user", "content": "Hi", "name": "Ann"},
        {"role": "assistant", "content": "Hello!", "refusal": null},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "unanswered"},
    ]});
    let file = read(row.to_string());
    assert_eq!(file.shape, RowShape::Messages);
    let (messages, loss) = conversation(&file.rows[0]);
    assert_eq!(loss, [2, 4]);
    assert_eq!((&messages[1]["name"], &messages[3]["content"]), (&json!("Ann"), &json!("a\nb")));
    let last = file.rows[0].clone().with_loss(LossTurns::LastTurn);
    assert_eq!(conversation(&last), (messages, vec![4]));
}

#[test]
fn messages_of_weight_0_are_not_in_the_loss() {
    let row = json!({"messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "weight": 0},
        {"role": "user", "content": "Hi!", "weight": 1},
        {"role": "assistant", "content": "Hello!", "weight": 1},
    ]});
    let (messages, loss) = conversation(&one(row.to_string()));
    assert_eq!(loss, [3]);
    assert!(messages.as_array().unwrap().iter().all(|message| message["weight"].is_null()));
}

#[test]
fn messages_with_tools() {
    let call = json!({"name": "dim", "arguments": "{\"level\": 30, \"room\": \"attic\"}"});
    let row = json!({
        "messages": [
            {"role": "user", "content": "Dim the lights"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": "1", "content": "done"},
            {"role": "assistant", "content": "They are dimmed."},
        ],
        "tools": "[{\"type\": \"function\", \"function\": {\"name\": \"dim\"}}]",
        "parallel_tool_calls": false,
    });
    let row = one(row.to_string());
    let (messages, loss) = conversation(&row);
    assert_eq!(loss, [1, 3]);
    let arguments = &messages[1]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(arguments.to_string(), r#"{"level":30,"room":"attic"}"#);
    let RowContent::Conversation(conversation) = &row.content else { unreachable!() };
    assert_eq!(conversation.tools().unwrap()[0]["function"]["name"], "dim");
    assert_eq!(row.completion(), Some("They are dimmed."));
}

#[test]
fn instruction_input_and_output() {
    let row = json!({"instruction": "Translate.", "input": "Hallo", "output": "Hello", "text": "all of it"});
    let file = read(row.to_string());
    assert_eq!(file.shape, RowShape::Instruction);
    assert_eq!(file.rows, [Row::new("Translate.\nHallo", "Hello")]);
    for no_input in
        [json!({"input": ""}), json!({"input": null}), json!({"history": []}), json!({})]
    {
        let mut row = json!({"instruction": "Say hello.", "output": "Hello"});
        row.as_object_mut().unwrap().extend(no_input.as_object().unwrap().clone());
        assert_eq!(one(row.to_string()), Row::new("Say hello.", "Hello"));
    }
    let row = json!({"system": "Be polite.", "instruction": "Hi", "output": "Hello!"});
    assert_eq!(conversation(&one(row.to_string())), (polite(), vec![2]));
}

#[test]
fn conversations_of_sharegpt() {
    let turns = [("system", "Be polite."), ("human", "Hi"), ("gpt", "Hello!")];
    let turns = turns.map(|(from, value)| json!({"from": from, "value": value, "weight": null}));
    let file = read(json!({"id": 7, "conversations": turns}).to_string());
    assert_eq!(file.shape, RowShape::Conversations);
    assert_eq!(conversation(&file.rows[0]), (polite(), vec![2]));
    let row = json!({"system": "Be polite.", "conversations": turns[1..]});
    assert_eq!(conversation(&one(row.to_string())), (polite(), vec![2]));
    let row = json!({"conversations": polite()});
    assert_eq!(conversation(&one(row.to_string())), (polite(), vec![2]));
}

#[test]
fn conversations_of_sharegpt_with_tools() {
    let row = json!({
        "conversations": [
            {"from": "human", "value": "Dim the lights"},
            {"from": "function_call", "value": "{\"name\": \"dim\", \"arguments\": {\"level\": 30}}"},
            {"from": "observation", "value": "done"},
            {"from": "gpt", "value": "They are dimmed."},
        ],
        "tools": "[{\"name\": \"dim\"}]",
    });
    let (messages, loss) = conversation(&one(row.to_string()));
    assert_eq!(loss, [1, 3]);
    let call = json!({"type": "function", "function": {"name": "dim", "arguments": {"level": 30}}});
    assert_eq!(messages[1], json!({"role": "assistant", "content": null, "tool_calls": [call]}));
    assert_eq!(messages[2], json!({"role": "tool", "content": "done"}));
}

#[test]
fn running_text() {
    let file = read(json!({"text": "Once upon a time.", "url": "x"}).to_string());
    assert_eq!(file.shape, RowShape::Text);
    assert_eq!(file.rows[0].content, RowContent::Text("Once upon a time.".into()));
    assert_eq!(file.rows[0].completion(), None);
}

#[test]
fn the_first_row_decides_and_a_later_one_of_another_shape_is_refused() {
    let pair = r#"{"prompt":"p","completion":"c"}"#;
    let polite = polite();
    let messages = json!({"messages": polite}).to_string();
    let (prompt, completion) = polite.as_array().unwrap().split_at(2);
    let lists = json!({"prompt": prompt, "completion": completion});
    for (later, reason) in [
        (&*messages, "a row of another shape: `messages`, but the rows before it are `prompt`"),
        (r#"{"text":"t"}"#, "a row of another shape: `text`"),
        (
            &*lists.to_string(),
            "lists of messages, but the rows before it are `prompt` and `completion`, texts",
        ),
        (r#"{"prompt":"p"}"#, "missing field `completion`"),
    ] {
        let error = refused(format!("{pair}\n\n{later}\n")).to_string();
        assert!(error.contains("rows.txt, line 3: ") && error.contains(reason), "{error}");
    }
    let both = json!({"messages": polite, "prompt": "p", "completion": "c"}).to_string();
    let error = refused(&both).to_string();
    assert!(error.contains("its keys fit several shapes"), "{error}");
    let error = refused(format!("{messages}\n{both}")).to_string();
    assert!(error.contains("line 2: its keys fit several shapes"), "{error}");
}

#[test]
fn a_key_that_is_null_is_absent() {
    let pair = r#"{"prompt":"p","completion":"c","messages":null}"#;
    assert_eq!(read(format!("{pair}\n{pair}")).rows, [Row::new("p", "c"), Row::new("p", "c")]);
    let messages = json!({"messages": polite(), "prompt": null, "completion": null});
    assert_eq!(read(messages.to_string()).shape, RowShape::Messages);
    let text = r#"{"prompt":"p","completion":null,"text":"t"}"#;
    assert_eq!(read(text).shape, RowShape::Text);
    let error = refused(format!("{pair}\n{text}")).to_string();
    assert!(error.contains("line 2: a row of another shape: `text`"), "{error}");
}

#[test]
fn an_empty_answer_in_a_prompt_is_not_in_the_loss() {
    let answer = |text: &str| json!({"role": "assistant", "content": text});
    let prompt =
        json!([{"role": "user", "content": "Hi"}, answer(""), {"role": "user", "content": "Hi!"}]);
    let (messages, loss) =
        conversation(&one(json!({"prompt": prompt, "completion": [answer("Hello")]}).to_string()));
    assert_eq!((messages[1]["content"].as_str(), loss), (Some(""), vec![3]));
    let error = refused(json!({"prompt": prompt, "completion": [answer("")]}).to_string());
    assert!(error.to_string().contains("empty completion: `completion[0].content`"), "{error}");
}

/// Python reads `-0` as the integer 0.
#[test]
fn integers_are_those_of_python() {
    let row = |arguments: &str| {
        let call = format!(r#"{{"name":"f","arguments":{arguments}}}"#);
        format!(
            r#"{{"messages":[{{"role":"user","content":"-0 99999999999999999999"}},{{"role":"assistant","tool_calls":[{{"function":{call}}}]}}]}}"#
        )
    };
    let arguments =
        r#"{"a":-0,"b":[-0,18446744073709551615,-9223372036854775808],"c\"-0":-0.0,"d":-0e0}"#;
    let quoted = serde_json::to_string(arguments).unwrap();
    for arguments in [arguments, &quoted] {
        let (messages, _) = conversation(&one(row(arguments)));
        let found = messages[1]["tool_calls"][0]["function"]["arguments"].to_string();
        let expected =
            r#"{"a":0,"b":[0,18446744073709551615,-9223372036854775808],"c\"-0":-0.0,"d":-0.0}"#;
        assert_eq!(found, expected);
    }
    for integer in ["18446744073709551616", "-9223372036854775809", "100000000000000000000000"] {
        let object = format!(r#"{{"a":{integer}}}"#);
        let error = refused(row(&object)).to_string();
        let reason = format!("line 1: `messages`: the integer {integer} has more than 64 bits");
        assert!(error.contains(&reason), "{error}");
        let error = refused(row(&serde_json::to_string(&object).unwrap())).to_string();
        let key = "`messages[1].tool_calls[0].function.arguments`: ";
        assert!(error.contains(key) && error.contains(integer), "{error}");
    }
}

#[test]
fn a_row_is_compared_and_continued_by_its_last_turn() {
    let row = one(json!({"messages": polite()}).to_string());
    assert_eq!(row.completion(), Some("Hello!"));
    assert_eq!(row.texts(), ["Be polite.", "Hi", "Hello!"]);
    let (messages, loss) = conversation(&row.with_completion("Good day!").unwrap());
    assert_eq!((messages[2]["content"].as_str(), loss), (Some("Good day!"), vec![2]));
    assert_eq!(Row::new("p", "c").with_completion("d"), Some(Row::new("p", "d")));
    assert_eq!(Row::from(RowContent::Text("t".into())).with_completion("d"), None);
}

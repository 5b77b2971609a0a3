//! Prompts with tools, documents and variables against transformers 5.23.
//!
//! `golden/prompts.json`: `tokenizer = AutoTokenizer.from_pretrained("fixtures/foundation")`; per case, `text` and `ids`
//! of `tokenizer.apply_chat_template(messages, tools=tools, documents=documents, chat_template=…,
//! add_generation_prompt=True, **chat_template_kwargs)`, with `tokenize=False` for the text.

use std::collections::BTreeMap;

use litemoe_text::{
    ChatTemplate, LossTurns, Message, Prompt, RowError, RowFile, TextError, sampling_defaults,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dirs::{foundation_without_template, with_files, with_template};

#[derive(Deserialize)]
struct Golden {
    templates: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    about: String,
    text: String,
    ids: Vec<u32>,
    #[serde(flatten)]
    prompt: serde_json::Map<String, Value>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/prompts.json")).unwrap()
}

fn prompt(value: &Value) -> Prompt {
    Prompt::from_json(&value.to_string()).unwrap()
}

fn refused(value: &Value) -> RowError {
    Prompt::from_json(&value.to_string()).unwrap_err()
}

#[test]
fn a_prompt_has_the_text_and_tokens_of_transformers() {
    let Golden { templates, cases } = golden();
    assert_eq!(cases.len(), 5);
    for Case { template, about, text, ids, prompt } in cases {
        let prompt = Prompt::from_json(&Value::from(prompt).to_string()).unwrap();
        let tokenizer = with_template(&templates[&template]);
        let rendered = prompt.render(tokenizer.template().unwrap()).unwrap();
        assert_eq!(rendered, text, "{about}");
        assert_eq!(tokenizer.encode_chat(&prompt).unwrap(), ids, "{about}");
    }
}

/// Rows for tuning begin with the prompts that are answered: tools and documents are given in the same way. The end token
/// of one golden template is ordinary text in the vocabulary.
#[test]
fn a_row_begins_with_the_tokens_of_its_prompt() {
    let Golden { templates, cases } = golden();
    let mut seen = [0; 2];
    for Case { template, about, mut prompt, .. } in cases {
        let variables = prompt.remove("chat_template_kwargs");
        if variables.is_some_and(|it| it.as_object().is_some_and(|it| !it.is_empty())) {
            continue;
        }
        let tokenizer = with_template(&templates[&template].replace("<|end|>", "<|pad|>"));
        let asked = Prompt::from_json(&Value::from(prompt.clone()).to_string()).unwrap();
        let ids = tokenizer.encode_chat(&asked).unwrap();
        let answer = json!({"role": "assistant", "content": "So it is."});
        prompt["messages"].as_array_mut().unwrap().push(answer);
        let read = |row: &Value| {
            let dir = with_files(&[("rows.jsonl", row.to_string().as_bytes())]);
            RowFile::read(dir.path().join("rows.jsonl")).map(|mut file| file.rows.remove(0))
        };
        let row = read(&prompt.clone().into()).unwrap();
        assert_eq!(read(&serde_json::to_value(&row).unwrap()).unwrap(), row, "{about}");
        let sequence = tokenizer.encode(&row).unwrap();
        let first = sequence.completion.iter().position(|&covered| covered).unwrap();
        let last = tokenizer.encode(&row.with_loss(LossTurns::LastTurn)).unwrap();
        let start = last.completion.iter().position(|&covered| covered).unwrap();
        assert_eq!(last.tokens[..start], ids, "{about}");
        assert!(first <= start, "{about}");
        for (seen, key) in seen.iter_mut().zip(["tools", "documents"]) {
            *seen += usize::from(prompt.get(key).is_some_and(|items| !items.is_null()));
        }
        // As some tables have them.
        let in_text = prompt.get("documents").map(|items| Value::from(items.to_string()));
        if let Some(in_text) = in_text.filter(|text| text != "null") {
            prompt.insert("documents".to_owned(), in_text);
            assert_eq!(tokenizer.encode(&read(&prompt.into()).unwrap()).unwrap(), sequence);
        }
    }
    assert!(seen.iter().all(|&n| n > 0), "{seen:?}");
}

#[test]
fn documents_of_a_row_that_the_template_does_not_print_are_refused() {
    let row = |documents: Value| {
        let messages =
            json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
        let row = json!({"messages": messages, "documents": documents}).to_string();
        let dir = with_files(&[("rows.jsonl", row.as_bytes())]);
        RowFile::read(dir.path().join("rows.jsonl")).map(|mut file| file.rows.remove(0))
    };
    let blind = with_template("{% for m in messages %}{{ m.content }}<|pad|>{% endfor %}");
    let error = blind.encode(&row(json!([{"text": "c"}])).unwrap()).unwrap_err();
    assert!(matches!(error, TextError::NotRendered { what: "documents" }), "{error}");
    for none in [json!([]), json!(null), json!("")] {
        assert!(blind.encode(&row(none).unwrap()).is_ok());
    }
    let error = foundation_without_template().encode(&row(json!([{"text": "c"}])).unwrap());
    let error = error.unwrap_err();
    assert!(error.to_string().contains("user, assistant, documents"), "{error}");
    for (wrong, message) in [(json!(["c"]), "documents[0]"), (json!({"text": "c"}), "a list")] {
        let error = row(wrong).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn plain_messages_are_the_prompt_that_they_always_were() {
    let tokenizer = with_template(&golden().templates["chatml"]);
    let messages =
        [Message { role: "system".to_owned(), content: "a".to_owned() }, Message::user("b")];
    let listed = json!([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]);
    let expected = tokenizer.encode_prompt(&messages).unwrap();
    assert_eq!(tokenizer.encode_chat(&messages[..].into()).unwrap(), expected);
    assert_eq!(tokenizer.encode_chat(&prompt(&listed)).unwrap(), expected);
    assert_eq!(
        tokenizer.encode_chat(&prompt(&json!({"messages": listed, "tools": []}))).unwrap(),
        expected
    );
}

#[test]
fn parts_are_joined_and_arguments_in_a_string_are_parsed() {
    let call = |arguments: Value| {
        json!([
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null,
             "tool_calls": [{"type": "function", "function": {"name": "dim", "arguments": arguments}}]},
        ])
    };
    let found = prompt(&call(json!("{\"level\": 0.5}")));
    assert_eq!(found, prompt(&call(json!({"level": 0.5}))));
    assert_eq!(found.messages()[0]["content"], "a\nb");
}

#[test]
fn tools_and_documents_that_the_template_does_not_print_are_refused() {
    let template = |source: &str| ChatTemplate::new(source, BTreeMap::new()).unwrap();
    let with = |key: &str| {
        prompt(&json!({"messages": [{"role": "user", "content": "a"}], key: [{"x": 1}]}))
    };
    for key in ["tools", "documents"] {
        let blind = with(key).render(&template("{{ messages[0].content }}")).unwrap_err();
        assert!(matches!(blind, TextError::NotRendered { what } if what == key), "{blind}");
        let seen = format!("{{{{ {key} | tojson }}}}");
        assert_eq!(with(key).render(&template(&seen)).unwrap(), r#"[{"x": 1}]"#);
        let needed = format!("{{{{ {key}[0].x }}}}");
        assert_eq!(with(key).render(&template(&needed)).unwrap(), "1");
    }
}

#[test]
fn calls_and_results_that_the_template_does_not_print_are_refused() {
    let template = |source: &str| ChatTemplate::new(source, BTreeMap::new()).unwrap();
    let prompt = prompt(&json!([
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "tool_calls": [{"function": {"name": "dim", "arguments": {}}}]},
        {"role": "tool", "content": "c"},
    ]));
    let calls = "{% for call in m.tool_calls or [] %}{{ call.function.name }}{% endfor %}";
    for (printed, hidden) in [
        ("{{ m.content }}", Some("tool calls")),
        (
            &format!("{{% if m.role != 'tool' %}}{{{{ m.content }}}}{calls}{{% endif %}}"),
            Some("tool messages"),
        ),
        (&format!("{{{{ m.content }}}}{calls}"), None),
    ] {
        let found =
            prompt.render(&template(&format!("{{% for m in messages %}}{printed}{{% endfor %}}")));
        match (found, hidden) {
            (Ok(text), None) => assert_eq!(text, "abdimc"),
            (Err(TextError::NotRendered { what }), Some(hidden)) => assert_eq!(what, hidden),
            other => panic!("{printed}: {other:?}"),
        }
    }
}

#[test]
fn without_a_template_only_a_users_message_is_a_prompt() {
    let tokenizer = foundation_without_template();
    let user = json!({"role": "user", "content": "a"});
    let plain = tokenizer.encode_chat(&prompt(&json!([user]))).unwrap();
    assert_eq!(plain, tokenizer.encode_prompt(&[Message::user("a")]).unwrap());
    for (value, given) in [
        (json!({"messages": [user], "tools": [{}]}), "user, tools"),
        (json!({"messages": [user], "chat_template_kwargs": {"a": 1}}), "user, variables"),
        (json!([user, user]), "user, user"),
    ] {
        let error = tokenizer.encode_chat(&prompt(&value)).unwrap_err();
        assert!(
            matches!(&error, TextError::NoTemplate { given: found } if found == given),
            "{error}"
        );
    }
}

#[test]
fn what_is_wrong_in_a_prompt_is_named() {
    let user = json!({"role": "user", "content": "a"});
    let with = |key: &str, value: Value| json!({"messages": [user], key: value});
    for (value, key) in [
        (json!({"tools": []}), "messages"),
        (json!([]), "messages"),
        (json!({"messages": "a"}), "messages"),
        (json!(["a"]), "messages[0]"),
        (json!([{"content": "a"}]), "messages[0].role"),
        (json!([{"role": "user", "content": 3}]), "messages[0].content"),
        (json!([{"role": "user"}]), "messages[0].content"),
        (
            json!([{"role": "assistant", "tool_calls": [{"function": {}}]}]),
            "messages[0].tool_calls[0].function.name",
        ),
        (with("tools", json!({})), "tools"),
        (with("tools", json!(["dim"])), "tools[0]"),
        (with("documents", json!([{}, 3])), "documents[1]"),
        (with("chat_template_kwargs", json!([])), "chat_template_kwargs"),
        (with("chat_template_kwargs", json!({"tools": []})), "chat_template_kwargs.tools"),
        (
            with("chat_template_kwargs", json!({"litemoe_marked": true})),
            "chat_template_kwargs.litemoe_marked",
        ),
        (with("temperature", json!(1)), "temperature"),
    ] {
        let error = refused(&value);
        assert_eq!(error.key(), Some(key), "{value}: {error}");
        assert!(error.to_string().contains(key), "{error}");
    }
    for text in ["", "3", "{", "[] x"] {
        assert!(matches!(Prompt::from_json(text), Err(RowError::Syntax { .. })), "{text}");
    }
}

#[test]
fn a_models_sampling_is_that_of_its_generation_config() {
    let of = |config: Value| {
        let dir = with_files(&[("generation_config.json", config.to_string().as_bytes())]);
        sampling_defaults(dir.path())
    };
    let values = |config| {
        let it = of(config).unwrap();
        (it.temperature, it.top_k, it.top_p, it.min_p, it.repetition_penalty)
    };
    let greedy = (0.0, 0, 1.0, 0.0, 1.0);
    assert_eq!(values(json!({})), greedy);
    assert_eq!(values(json!({"temperature": 0.7, "top_p": 0.9, "top_k": 20})), greedy);
    assert_eq!(values(json!({"do_sample": true})), (1.0, 50, 1.0, 0.0, 1.0));
    let qwen = json!({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [1]});
    assert_eq!(values(qwen), (0.6, 20, 0.95, 0.0, 1.0));
    let all = json!({"do_sample": true, "top_k": 0, "min_p": 0.1, "repetition_penalty": 1.05});
    assert_eq!(values(all), (1.0, 0, 1.0, 0.1, 1.05));
    assert_eq!(
        values(json!({"do_sample": false, "repetition_penalty": 1.2})),
        (0.0, 0, 1.0, 0.0, 1.2)
    );
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(sampling_defaults(empty.path()).unwrap().temperature, 0.0);
    for wrong in [
        json!({"do_sample": "yes"}),
        json!({"do_sample": true, "temperature": -1.0}),
        json!({"do_sample": true, "top_p": 1.5}),
        json!({"do_sample": true, "top_k": -1}),
        json!({"repetition_penalty": 0}),
    ] {
        let error = of(wrong).unwrap_err();
        assert!(error.to_string().contains("generation_config.json"), "{error}");
    }
}

use litemoe_core::Sampling;
use litemoe_text::{CallChoice, CallTool, Finish, GrammarError, GrammarKind, Tokenizer, ToolCall};
use serde_json::{Value, json};

use super::babble::{Babbler, Text};
use super::validator::is_valid;
use crate::call_formats::{golden, parsed, rendered, tokenizer};

const TEMPLATES: [&str; 6] =
    ["deepseek_v3", "gpt_oss", "granite", "llama4", "mistral_tools", "qwen2"];

fn choice(is_parallel: bool, may_answer: bool) -> CallChoice {
    let weather = json!({
        "type": "object", "properties": {"place": {"type": "string", "maxLength": 20}, "days": {"type": "integer"}},
        "required": ["place"], "additionalProperties": false,
    });
    let ping = json!({"properties": {}, "additionalProperties": false});
    let tools = [("get_weather", weather), ("ping", ping), ("ping_all", Value::Null)];
    let tools = tools.map(|(name, parameters)| tool(name, parameters, true)).to_vec();
    CallChoice { tools, is_parallel, may_answer }
}

fn tool(name: &str, parameters: Value, is_strict: bool) -> CallTool {
    CallTool { name: name.to_owned(), parameters, is_strict }
}

fn texts(tokenizer: &Tokenizer, choice: &CallChoice, n: u64) -> Vec<Text> {
    let grammar = tokenizer.grammar(&GrammarKind::Calls(choice.clone())).unwrap();
    let text = |seed| {
        let sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
        Babbler::new(tokenizer, seed).generate(tokenizer, Some(&grammar), &sampling, 200).unwrap()
    };
    (0..n).map(text).filter(|text| text.finish == Finish::EndToken).collect()
}

fn check(choice: &CallChoice, calls: &[ToolCall]) {
    for call in calls {
        let schema = &choice.tools.iter().find(|tool| tool.name == call.name).unwrap().parameters;
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        assert!(arguments.is_object());
        assert!(schema.is_null() || is_valid(schema, &arguments), "{call:?}");
    }
}

#[test]
fn required_calls_are_made_and_parsed_back() {
    for name in TEMPLATES {
        let tokenizer = tokenizer(&golden(name));
        for is_parallel in [false, true] {
            let choice = choice(is_parallel, false);
            let texts = texts(&tokenizer, &choice, 15);
            assert!(texts.len() > 5, "{name}: {}", texts.len());
            let mut most = 0;
            for text in texts {
                let (content, calls) = parsed(&tokenizer, &text.tokens);
                assert_eq!(content, "", "{name}: {text:?}");
                assert!(!calls.is_empty(), "{name}: {text:?}");
                check(&choice, &calls);
                most = most.max(calls.len());
            }
            assert!(is_parallel || most == 1, "{name}");
        }
    }
}

#[test]
fn what_the_template_renders_is_in_its_grammar() {
    let arguments = json!({"place": "Zürich", "days": 3});
    let call = |name: &str, arguments: &Value| json!({"id": "abc123def", "type": "function", "function": {"name": name, "arguments": arguments}});
    let calls = [call("get_weather", &arguments), call("ping", &json!({}))];
    for name in TEMPLATES {
        let tokenizer = tokenizer(&golden(name));
        for (n, is_parallel) in [(1, false), (1, true), (2, true)] {
            let text = rendered(&tokenizer, &json!(""), &calls[..n]);
            // Ids are left out.
            let text = text.replace(", \"id\": \"abc123def\"", "");
            for may_answer in [false, true] {
                let kind = GrammarKind::Calls(choice(is_parallel, may_answer));
                let grammar = tokenizer.grammar(&kind).unwrap();
                assert!(super::json::allows(&tokenizer, &grammar, &text), "{name}: {text:?}");
            }
        }
        let two = rendered(&tokenizer, &json!(""), &calls);
        let single = tokenizer.grammar(&GrammarKind::Calls(choice(false, true))).unwrap();
        let is_one = name == "gpt_oss";
        assert_eq!(
            super::json::allows(&tokenizer, &single, &two.replace(", \"id\": \"abc123def\"", "")),
            is_one,
            "{name}"
        );
        let named =
            CallChoice { tools: choice(false, false).tools.split_off(1), ..choice(false, false) };
        let named = tokenizer.grammar(&GrammarKind::Calls(named)).unwrap();
        let other = rendered(&tokenizer, &json!(""), &calls[..1]);
        assert!(!super::json::allows(&tokenizer, &named, &other), "{name}");
    }
}

#[test]
fn an_answer_may_have_content_before_calls_that_keep_their_schemas() {
    for name in ["qwen2", "granite", "deepseek_v3", "gpt_oss"] {
        let tokenizer = tokenizer(&golden(name));
        let grammar = tokenizer.grammar(&GrammarKind::Calls(choice(false, true))).unwrap();
        let call = json!({"id": "abc123def", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "x"}}});
        let wrong = json!({"id": "abc123def", "type": "function", "function": {"name": "get_weather", "arguments": {"town": "x"}}});
        let [call, wrong] = [call, wrong].map(|call| rendered(&tokenizer, &json!(""), &[call]));
        for (text, expected) in [
            (call.clone(), true),
            (format!("I look. {call}"), true),
            ("I look at [1] <b> {c}".to_owned(), true),
            (String::new(), true),
            (wrong.clone(), false),
            (format!("I look.\n{wrong}"), false),
            (format!("{call}{call}"), false),
        ] {
            assert_eq!(
                super::json::allows(&tokenizer, &grammar, &text),
                expected,
                "{name}: {text:?}"
            );
        }
    }
}

#[test]
fn calls_that_cannot_be_made_are_refused() {
    let qwen3 = tokenizer(&golden("qwen3"));
    let kind = GrammarKind::Calls(choice(true, false));
    assert_eq!(qwen3.grammar(&kind).unwrap_err(), GrammarError::NoCallFormat);
    let qwen2 = tokenizer(&golden("qwen2"));
    let refusal = |tools: Vec<CallTool>| {
        qwen2
            .grammar(&GrammarKind::Calls(CallChoice { tools, ..CallChoice::default() }))
            .unwrap_err()
    };
    assert!(matches!(refusal(vec![]), GrammarError::Refused { .. }));
    let many = (0..129).map(|n| tool(&format!("t{n}"), Value::Null, false)).collect();
    assert!(matches!(refusal(many), GrammarError::TooLarge { .. }));
    let error = refusal(vec![tool("dim", json!({"not": {}}), true)]).to_string();
    assert_eq!(
        error,
        "the parameters of tool `dim`: the JSON schema has `not` at `#`, which is not supported"
    );
}

#[test]
fn a_schema_without_a_grammar_is_left_out_unless_it_is_strict() {
    let qwen2 = tokenizer(&golden("qwen2"));
    for schema in
        [json!({"not": {}}), json!({"oneOf": [{"minProperties": 0}, {"required": ["a"]}]})]
    {
        let kind = |is_strict| {
            let tools = vec![
                tool("dim", schema.clone(), is_strict),
                tool("ping", json!({"additionalProperties": false}), true),
            ];
            GrammarKind::Calls(CallChoice { tools, ..CallChoice::default() })
        };
        assert!(qwen2.grammar(&kind(true)).is_err(), "{schema}");
        let grammar = qwen2.grammar(&kind(false)).unwrap();
        let call = |name: &str| {
            format!(
                "<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {{\"x\": 1}}}}\n</tool_call>"
            )
        };
        assert!(super::json::allows(&qwen2, &grammar, &call("dim")), "{schema}");
        assert!(!super::json::allows(&qwen2, &grammar, &call("ping")), "{schema}");
    }
}

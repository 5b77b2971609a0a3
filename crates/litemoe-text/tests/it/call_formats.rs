//! Tool calls: formats derived from chat templates, and calls parsed back from answers.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use litemoe_core::SampledToken;
use litemoe_text::{Parsed, Tokenizer, ToolCall};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::dirs::with_files;

/// Templates of `golden/chat` whose calls can be parsed.
const PARSED: [&str; 6] = ["deepseek_v3", "gpt_oss", "granite", "llama4", "mistral_tools", "qwen2"];

/// Special tokens around calls.
const SPECIAL: [&str; 9] = [
    "[TOOL_CALLS]",
    "<|tool_call|>",
    "<|python_start|>",
    "<|python_end|>",
    "<｜calls｜>",
    "<｜calls end｜>",
    "<｜call｜>",
    "<｜sep｜>",
    "<｜end｜>",
];

/// The tokenizer of `golden/chat` with further special tokens.
pub(crate) fn tokenizer(template: &str) -> Tokenizer {
    let file = fs::read(litemoe_fixtures::foundation_dir().join("tokenizer.json")).unwrap();
    let mut config: Value =
        serde_json::from_str(include_str!("golden/chat/tokenizer_config.json")).unwrap();
    for (content, id) in SPECIAL.into_iter().zip(4200..) {
        let mut token = config["added_tokens_decoder"]["4096"].clone();
        token["content"] = content.into();
        config["added_tokens_decoder"][id.to_string()] = token;
    }
    let config = config.to_string();
    let files = [
        ("tokenizer.json", &*file),
        ("tokenizer_config.json", config.as_bytes()),
        ("chat_template.jinja", template.as_bytes()),
    ];
    Tokenizer::from_dir(with_files(&files).path()).unwrap()
}

pub(crate) fn golden(name: &str) -> String {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/chat/templates");
    fs::read_to_string(templates.join(format!("{name}.jinja"))).unwrap()
}

pub(crate) fn tools() -> Vec<Value> {
    let tool = |name: &str| {
        let parameters = json!({ "type": "object", "properties": { "place": { "type": "string", "description": "Where." } } });
        json!({ "type": "function", "function": { "name": name, "description": "A tool.", "parameters": parameters } })
    };
    ["get_weather", "ping"].map(tool).to_vec()
}

fn call(name: &str, arguments: &Value) -> Value {
    json!({ "id": "abc123def", "type": "function", "function": { "name": name, "arguments": arguments } })
}

/// The text that the template renders for an answer, up to its end.
pub(crate) fn rendered(tokenizer: &Tokenizer, content: &Value, calls: &[Value]) -> String {
    let template = tokenizer.template().unwrap();
    let user = json!({ "role": "user", "content": "hi" });
    let render = |messages: &[Value], is_prompt: bool| {
        let messages: Vec<_> = messages.iter().map(|m| m.as_object().unwrap().clone()).collect();
        let variables = json!({ "tools": tools(), "add_generation_prompt": is_prompt });
        template.render_json(&messages, variables.as_object().unwrap()).unwrap()
    };
    let prompt = render(std::slice::from_ref(&user), true);
    let answer = json!({ "role": "assistant", "content": content, "tool_calls": calls });
    let whole = render(&[user, answer], false);
    let answer = whole.strip_prefix(&prompt).unwrap();
    let ends = tokenizer.end_ids().iter().map(|&id| tokenizer.token_bytes(id).unwrap());
    let ends = ends.map(|end| String::from_utf8(end).unwrap());
    let end = ends.filter_map(|end| answer.find(&end)).min().unwrap_or(answer.len());
    answer[..end].to_owned()
}

/// Content and calls of an answer of these tokens.
pub(crate) fn parsed(tokenizer: &Tokenizer, tokens: &[u32]) -> (String, Vec<ToolCall>) {
    let names = ["get_weather", "ping"].map(String::from);
    let format = tokenizer.call_format().unwrap();
    let mut parser = format.parser(Arc::new(names));
    let mut answer = tokenizer.answer(&[]).showing(format.special_tokens());
    let drawn = tokens.iter().map(|&token| Ok(SampledToken { token, logprobs: None }));
    let mut all = Vec::new();
    for piece in answer.pieces(drawn) {
        all.extend(parser.push(&piece.unwrap().text));
    }
    all.extend(parser.finish());
    let (mut text, mut calls) = (String::new(), Vec::new());
    for part in all {
        match part {
            Parsed::Text(part) => text += &part,
            Parsed::Call(call) => calls.push(call),
        }
    }
    assert_eq!(parser.n_calls(), calls.len());
    (text, calls)
}

fn parsed_text(tokenizer: &Tokenizer, answer: &str) -> (String, Vec<ToolCall>) {
    parsed(tokenizer, &tokenizer.encode_text(answer).unwrap())
}

fn values(calls: &[ToolCall]) -> Vec<(String, Value)> {
    let value =
        |call: &ToolCall| (call.name.clone(), serde_json::from_str(&call.arguments).unwrap());
    calls.iter().map(value).collect()
}

#[test]
fn what_a_template_renders_is_parsed_back() {
    let arguments = [
        json!({ "place": "Zürich", "days": [1, 2.5, 1e-7], "exact": true }),
        json!({}),
        json!({ "place": "a \"b\" } ] </tool_call> ```\n{", "nested": { "name": "x", "arguments": {} } }),
    ];
    for name in PARSED {
        let tokenizer = tokenizer(&golden(name));
        assert!(tokenizer.call_format().is_some(), "{name}");
        for arguments in &arguments {
            let one = rendered(&tokenizer, &json!(""), &[call("get_weather", arguments)]);
            let expected = vec![("get_weather".to_owned(), arguments.clone())];
            let (text, calls) = parsed_text(&tokenizer, &one);
            assert_eq!((text.as_str(), values(&calls)), ("", expected), "{name}: {one:?}");
        }
        let both = [call("ping", &arguments[1]), call("get_weather", &arguments[2])];
        let two = rendered(&tokenizer, &json!(""), &both);
        let n = if name == "gpt_oss" { 1 } else { 2 };
        let expected: Vec<_> = ["ping", "get_weather"]
            .map(String::from)
            .into_iter()
            .zip(arguments[1..].iter().cloned())
            .take(n)
            .collect();
        let (text, calls) = parsed_text(&tokenizer, &two);
        assert_eq!((text.as_str(), values(&calls)), ("", expected), "{name}: {two:?}");
    }
}

#[test]
fn ids_are_as_the_template_takes_them() {
    for name in PARSED {
        let tokenizer = tokenizer(&golden(name));
        let is_short = tokenizer.call_format().unwrap().has_short_ids();
        assert_eq!(is_short, name == "mistral_tools", "{name}");
    }
}

#[test]
fn content_before_calls_stays() {
    for name in ["deepseek_v3", "granite", "qwen2"] {
        let tokenizer = tokenizer(&golden(name));
        let answer = rendered(&tokenizer, &json!("I look."), &[call("ping", &json!({}))]);
        let (text, calls) = parsed_text(&tokenizer, &answer);
        assert_eq!((text.as_str(), calls.len()), ("I look.", 1), "{name}: {answer:?}");
    }
}

#[test]
fn a_plain_answer_is_content() {
    for name in PARSED {
        let tokenizer = tokenizer(&golden(name));
        for text in ["Hello.", "", "a < b and [c]\n\nd", "{\"name\": \"ping\"", "x  \n"] {
            let lead = if name == "gpt_oss" { "<|channel|>final<|message|>" } else { "" };
            let (content, calls) = parsed_text(&tokenizer, &format!("{lead}{text}"));
            assert_eq!((content.as_str(), calls.len()), (text, 0), "{name}");
        }
    }
}

#[test]
fn formats_that_cannot_be_told_are_none() {
    for name in ["deepseek_v2", "mixtral", "olmoe", "phimoe", "python", "qwen3"] {
        assert_eq!(tokenizer(&golden(name)).call_format(), None, "{name}");
    }
}

/// Template with the lines of a call in place of `CALL`.
fn with_calls(calls: &str) -> Tokenizer {
    let template = "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n\
        {% elif m.tool_calls %}<|im_start|>assistant\n{{ m.content or '' }}CALL<|im_end|>\n\
        {% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    tokenizer(&template.replace("CALL", calls))
}

#[test]
fn formats_of_other_models_are_derived() {
    let fields = [json!({ "place": "x" }), json!({ "b": [1] })];
    let expected = |n: usize| -> Vec<_> {
        ["get_weather", "ping"].map(String::from).into_iter().zip(fields.clone()).take(n).collect()
    };
    for (kind, calls, n) in [
        (
            "Llama 3",
            "{%- if m.tool_calls | length > 1 %}{{ raise_exception('one call') }}{% endif %}\
             {%- set c = m.tool_calls[0].function %}{{ '{\"name\": \"' + c.name + '\", \"parameters\": ' }}{{ c.arguments | tojson }}{{ '}' }}",
            1,
        ),
        ("nested, as Phi 4", "<|tool_call|>{{ m.tool_calls | tojson }}<|/tool_call|>", 2),
        (
            "with ids before the arguments, as Mistral",
            "{% for c in m.tool_calls %}[TOOL_CALLS]{{ c.function.name }}[CALL_ID]{{ c.id }}[ARGS]{{ c.function.arguments | tojson }}{% endfor %}",
            2,
        ),
        (
            "arguments first",
            "{% for c in m.tool_calls %}<call>{{ {'parameters': c.function.arguments, 'tool': c.function.name} | tojson }}</call>{% endfor %}",
            2,
        ),
        (
            "compact JSON",
            "{% for c in m.tool_calls %}<call>{{ c.function | tojson(separators=(',', ':')) }}</call>\n{% endfor %}",
            2,
        ),
    ] {
        let tokenizer = with_calls(calls);
        assert!(tokenizer.call_format().is_some(), "{kind}");
        let calls = [call("get_weather", &fields[0]), call("ping", &fields[1])];
        let answer = rendered(&tokenizer, &json!(""), &calls[..n]);
        let (text, found) = parsed_text(&tokenizer, &answer);
        assert_eq!((text.as_str(), values(&found)), ("", expected(n)), "{kind}: {answer:?}");
    }
    for (kind, calls) in [
        ("Python's texts", "<call>{{ m.tool_calls[0].function }}</call>"),
        ("only the name", "<call>{{ m.tool_calls[0].function.name }}</call>"),
        (
            "only the id",
            "<call>{{ m.tool_calls[0].id }} {{ m.tool_calls[0].function.arguments | tojson }}</call>",
        ),
        (
            "nothing around the name",
            "{{ m.tool_calls[0].function.name }} {{ m.tool_calls[0].function.arguments | tojson }}",
        ),
        ("twice", "<a>{{ m.tool_calls | tojson }}</a><b>{{ m.tool_calls | tojson }}</b>"),
    ] {
        assert_eq!(with_calls(calls).call_format(), None, "{kind}");
    }
}

#[test]
fn what_is_almost_a_call_is_content() {
    let qwen2 = tokenizer(&golden("qwen2"));
    for (answer, content, calls) in [
        ("<tool_call>\n{\"name\": \"ping\", \"arguments\": {}", None, vec![]),
        ("<tool_call>\n{\"name\": \"ping\"}\n</tool_call>", None, vec![]),
        ("<tool_call>\n{\"name\": \"ping\", \"arguments\": [1]}\n</tool_call>", None, vec![]),
        ("<tool_call>\n{\"name\": \"ping\", \"arguments\": {a}}\n</tool_call> then", None, vec![]),
        ("<tool_call> is a tag, <tool_call", None, vec![]),
        (
            "<tool_call><tool_call>{\"name\": \"ping\", \"arguments\": {}}",
            Some("<tool_call>"),
            vec!["ping"],
        ),
        // Without its end, with other white space, order and keys.
        ("<tool_call>{\"name\": \"ping\", \"arguments\": {}}", Some(""), vec!["ping"]),
        (
            "a\n\n<tool_call>\n\n{ \"arguments\" : {\"x\":1} ,\n\"name\":\"ping\"}</tool_call>\n",
            Some("a"),
            vec!["ping"],
        ),
        (
            "<tool_call>{\"name\": \"ping\", \"arguments\": \"{\\\"x\\\": 1}\"}</tool_call>",
            Some(""),
            vec!["ping"],
        ),
        (
            "<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call> [1] b",
            Some("[1] b"),
            vec!["other"],
        ),
        (
            "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call><tool_call>{\"name\"}</tool_call>",
            Some("<tool_call>{\"name\"}</tool_call>"),
            vec!["a"],
        ),
    ] {
        let (text, found) = parsed_text(&qwen2, answer);
        let names: Vec<_> = found.iter().map(|call| &*call.name).collect();
        assert_eq!((text.as_str(), names), (content.unwrap_or(answer), calls), "{answer:?}");
    }
    // Special tokens are no content; calls that nothing announces must be of a tool that is there.
    let granite = tokenizer(&golden("granite"));
    let (text, calls) = parsed_text(&granite, "a <|tool_call|>[{\"name\": 1}] b");
    assert_eq!((text.as_str(), calls.len()), ("a [{\"name\": 1}] b", 0));
    let llama = with_calls(
        "{%- set c = m.tool_calls[0].function %}{{ '{\"name\": \"' + c.name + '\", \"parameters\": ' }}{{ c.arguments | tojson }}{{ '}' }}",
    );
    for (answer, n) in [
        (r#"{"name": "ping", "parameters": {}}"#, 1),
        (r#"{"name": "pong", "parameters": {}}"#, 0),
        (r#"So: {"name": "ping", "parameters": {}}"#, 0),
        (r#"{"name": "Tom", "age": 3}"#, 0),
    ] {
        let (text, calls) = parsed_text(&llama, answer);
        assert_eq!(calls.len(), n, "{answer}");
        assert_eq!(text, if n == 0 { answer } else { "" });
    }
}

#[test]
fn what_is_certain_is_not_held_back() {
    let qwen2 = tokenizer(&golden("qwen2"));
    let mut parser = qwen2.call_format().unwrap().parser(Arc::new([]));
    let text = |text: &str| vec![Parsed::Text(text.to_owned())];
    assert_eq!(parser.push("I look"), text("I look"));
    assert_eq!(parser.push(" here <"), text(" here"));
    assert_eq!(parser.push("b>\n"), text(" <b>"));
    assert_eq!(parser.push("<tool_call>\n{\"name\": \"ping\", \"argu"), []);
    let call = ToolCall { name: "ping".to_owned(), arguments: "{}".to_owned() };
    assert_eq!(parser.push("ments\": {}}"), [Parsed::Call(call)]);
    assert_eq!(parser.push("\n</tool_call>\n"), []);
    assert_eq!(parser.push("Done"), text("Done"));
    assert_eq!(parser.finish(), []);
}

proptest! {
    #[test]
    fn calls_do_not_depend_on_the_pieces(
        parts in prop::collection::vec(prop::sample::select(vec![
            "a", " ", "\n", "<tool_call>", "</tool_call>", "<tool", "{\"name\": \"ping\", ", "\"arguments\": {}}", "{", "}", "\"", "é",
        ]), 0..16),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let qwen2 = tokenizer(&golden("qwen2"));
        let whole = parts.concat();
        let format = qwen2.call_format().unwrap();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| whole.floor_char_boundary(cut.index(whole.len() + 1))).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let run = |pieces: Vec<&str>| {
            let mut parser = format.parser(Arc::new([]));
            let mut all: Vec<Parsed> = pieces.into_iter().flat_map(|piece| parser.push(piece)).collect();
            all.extend(parser.finish());
            let mut merged: Vec<Parsed> = Vec::new();
            for part in all {
                match (merged.last_mut(), part) {
                    (Some(Parsed::Text(text)), Parsed::Text(more)) => *text += &more,
                    (_, part) => merged.push(part),
                }
            }
            merged
        };
        prop_assert_eq!(run(cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]).collect()), run(vec![&whole]));
    }
}

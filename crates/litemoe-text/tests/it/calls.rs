//! Loss of turns that call tools, and of conversations of many turns.

use std::time::{Duration, Instant};

use litemoe_text::{TextError, Tokenizer};
use serde_json::{Value, json};

use crate::conversations::{golden, messages, row, spans, tokenizer, untagged};
use crate::dirs::{foundation, with_config, with_template};

/// A call, another one, and what may follow a call.
fn conversations() -> [(Value, Vec<&'static str>); 5] {
    let user = json!({"role": "user", "content": "a"});
    let call = |name: &str| json!({"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": name, "arguments": {}}}]});
    let ignored = json!({"role": "assistant", "content": "", "weight": 0, "tool_calls": call("g")["tool_calls"]});
    let result = |text: &str| json!({"role": "tool", "content": text});
    let answer = json!({"role": "assistant", "content": "done"});
    [
        (json!([user, call("f"), result(""), answer, user]), vec!["f", "done"]),
        (json!([user, call("f"), result("r"), answer, user]), vec!["f", "done"]),
        (json!([user, call("f"), call("g"), result(""), result(""), user]), vec!["f", "g"]),
        (json!([user, call("f"), ignored, result(""), answer, user]), vec!["f", "done"]),
        (json!([user, call("f"), result("")]), vec!["f"]),
    ]
}

fn expect(tokenizer: &Tokenizer, written: impl Fn(&str) -> String) {
    for (messages, turns) in conversations() {
        let encoded = tokenizer.encode(&row(&json!({"messages": messages}))).unwrap();
        let expected: Vec<_> = turns.into_iter().map(&written).collect();
        assert_eq!(spans(tokenizer, &encoded), expected, "{messages}");
    }
}

#[test]
fn the_loss_of_a_call_ends_with_the_call() {
    let chatml = &golden().templates["chatml"];
    let written = |turn: &str| match turn {
        "done" => "done<|endoftext|>".to_owned(),
        name => format!(
            "\n<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {{}}}}\n</tool_call><|endoftext|>"
        ),
    };
    expect(&tokenizer(chatml), written);
    expect(&tokenizer(&untagged(chatml)), written);
}

/// As Qwen3's template, which inserts a think block into the last message.
#[test]
fn the_loss_of_a_call_ends_with_the_call_where_the_last_message_is_rendered_otherwise() {
    let template = "{% for m in messages %}{{ '<|user|>' + m.role + '\n' }}\
        {% if m.role == 'assistant' and loop.last and not add_generation_prompt %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content or '' }}\
        {% for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function.name }}{% endfor %}<|endoftext|>{% endfor %}\
        {% if add_generation_prompt %}{{ '<|user|>assistant\n' }}{% endif %}";
    expect(&tokenizer(template), |turn| match turn {
        "done" => "done<|endoftext|>".to_owned(),
        name => format!("<tool_call>{name}<|endoftext|>"),
    });
}

/// As GLM's template, in which the next message's role ends the call.
#[test]
fn the_loss_of_a_call_ends_with_the_next_role() {
    let template = "{% for m in messages %}{{ '<|assistant|>' if m.role == 'assistant' else '<|user|>' }}{{ m.content or '' }}\
        {% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{% endfor %}\
        {% if add_generation_prompt %}<|assistant|>{% endif %}";
    let config = json!({"chat_template": template, "eos_token": "<|user|>"});
    let tokenizer = Tokenizer::from_dir(with_config(&config).path()).unwrap();
    let (messages, _) = conversations()[0].clone();
    let encoded = tokenizer.encode(&row(&json!({"messages": messages}))).unwrap();
    assert_eq!(spans(&tokenizer, &encoded), ["f<|user|>", "done<|user|>"]);
}

#[test]
fn a_call_whose_end_is_not_found_is_refused() {
    let template = "{% for m in messages %}{% if not loop.first %}<|pad|>{% endif %}\
        {% if m.role == 'tool' %}{{ m.content | length }}{% elif m.tool_calls %}{{ m.tool_calls[0].function.name }}\
        {% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|pad|>{% endif %}";
    let (messages, _) = conversations()[0].clone();
    let error = with_template(template).encode(&row(&json!({"messages": messages}))).unwrap_err();
    assert!(matches!(&error, TextError::NoEndToken { .. }), "{error}");
    assert!(error.to_string().contains("where message 2 begins is not found"), "{error}");
}

#[test]
fn a_conversation_of_many_turns_is_skipped_by_its_last_turn() {
    let tokenizer = foundation();
    let chat = |n: usize| {
        let turns = [("user", "a"), ("assistant", "b")].into_iter().cycle().take(2 * n);
        messages(&turns.chain([("user", "a question that nobody answers")]).collect::<Vec<_>>())
    };
    let few = [chat(20)];
    let n_tokens = tokenizer.encode(&few[0]).unwrap().tokens.len();
    assert_eq!(tokenizer.encode_all(&few, n_tokens).unwrap().rows, [0]);
    assert_eq!(tokenizer.encode_all(&few, n_tokens - 1).unwrap().skipped_too_long, 1);
    let start = Instant::now();
    assert_eq!(tokenizer.encode_all(&[chat(1000)], 512).unwrap().skipped_too_long, 1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

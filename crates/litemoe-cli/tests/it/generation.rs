//! `litemoe generate`.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, edit_json};

fn generate(bench: &Bench, options: &[&str]) -> Value {
    let args = ["generate", "model", "--prompt", "def f", "--max-tokens", "24"];
    bench.json(&[&args, options].concat())
}

fn text(generated: &Value) -> &str {
    generated["text"].as_str().expect("text")
}

/// Sampling options whose answer differs from the greedy one.
const DRAWN: [&str; 4] = ["--temperature", "1", "--seed", "1"];

#[test]
fn generation_is_seeded() {
    let bench = Bench::new();
    let say = |seed| generate(&bench, &["--temperature", "1", "--seed", seed])["text"].clone();
    assert_eq!(say("1"), say("1"));
    assert_ne!(say("1"), say("2"));
}

#[test]
fn every_option_of_sampling_reaches_the_sampler() {
    let bench = Bench::new();
    let greedy = generate(&bench, &[]);
    let drawn = generate(&bench, &DRAWN);
    assert_ne!(greedy, drawn);
    for narrowest in [["--top-k", "1"], ["--top-p", "0"], ["--min-p", "1"]] {
        assert_eq!(generate(&bench, &[&DRAWN[..], &narrowest].concat()), greedy, "{narrowest:?}");
    }
    for penalty in ["--repetition-penalty", "--presence-penalty", "--frequency-penalty"] {
        let penalised = generate(&bench, &[&DRAWN[..], &[penalty, "2"]].concat());
        assert_ne!(penalised, drawn, "{penalty}");
    }
}

#[test]
fn log_probabilities_are_told_token_by_token() {
    let bench = Bench::new();
    let generated = generate(&bench, &["--logprobs", "2"]);
    let tokens = generated["logprobs"].as_array().expect("a list");
    assert_eq!(tokens.len() as u64, generated["tokens"].as_u64().expect("a number"));
    let logprob = |token: &Value| token["logprob"].as_f64().expect("a number");
    let mut bytes = Vec::new();
    for token in tokens {
        let top = token["top_logprobs"].as_array().expect("a list");
        // Greedy decoding: the sampled token is the most probable one.
        assert_eq!((top.len(), &top[0]["bytes"]), (2, &token["bytes"]));
        assert!(logprob(token) < 0.0 && logprob(token) == logprob(&top[0]));
        assert!(logprob(&top[1]) <= logprob(&top[0]));
        let own = token["bytes"].as_array().expect("a list").iter();
        bytes.extend(own.map(|byte| byte.as_u64().expect("a byte") as u8));
    }
    assert_eq!(String::from_utf8_lossy(&bytes), text(&generated));
    assert!(generate(&bench, &[]).get("logprobs").is_none());
}

#[test]
fn a_stop_string_ends_the_text_before_it_across_tokens() {
    let bench = Bench::new();
    let whole = generate(&bench, &DRAWN);
    let whole = text(&whole);
    let letters: Vec<(usize, char)> = whole.char_indices().collect();
    assert!(letters.len() > 12, "{whole:?}");
    let (begin, end) = (letters[letters.len() / 2].0, letters[letters.len() / 2 + 5].0);
    let stop = &whole[begin..end];
    let before = &whole[..whole.find(stop).expect("it is there")];
    let stops = ["--stop", "not in the text", "--stop", stop];
    let stopped = generate(&bench, &[&DRAWN[..], &stops].concat());
    assert_eq!((text(&stopped), &stopped["finish_reason"]), (before, &"stop".into()));
    let args = ["generate", "model", "--prompt", "def f", "--max-tokens", "24"];
    let streamed = bench.run(&[&args[..], &DRAWN, &stops].concat());
    assert_eq!(streamed.stdout, format!("{before}\n"));
}

const TOOL_TEMPLATE: &str = "{% for tool in tools or [] %}{{ tool.function.name }};{% endfor %}\
    {% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}assistant:";

#[test]
fn a_conversation_with_tools_is_rendered_by_the_template() {
    let bench = Bench::new();
    fs::write(bench.path("model/chat_template.jinja"), TOOL_TEMPLATE).expect("written");
    let user = json!({"role": "user", "content": "def f"});
    let tools = json!([{"type": "function", "function": {"name": "dim"}}]);
    fs::write(bench.path("list.json"), json!([user]).to_string()).expect("written");
    fs::write(bench.path("both.json"), json!({"messages": [user], "tools": tools}).to_string())
        .expect("written");
    let answer = |prompt: [&str; 2]| {
        bench.json(&[&["generate", "model", "--max-tokens", "8"], &prompt[..]].concat())
    };
    let plain = answer(["--prompt", "def f"]);
    assert_eq!(answer(["--messages", "list.json"]), plain);
    let n_prompt = |answer: &Value| answer["prompt_tokens"].as_u64().expect("a number");
    let with_tools = answer(["--messages", "both.json"]);
    assert!(n_prompt(&with_tools) > n_prompt(&plain));

    // `chat` is told of the same tools.
    fs::write(bench.path("tools.json"), tools.to_string()).expect("written");
    let chat = |options: &[&str]| {
        let mut command =
            bench.command(&[&["chat", "model", "--max-tokens", "8"], options].concat());
        fs::write(bench.path("lines"), "def f\n").expect("written");
        command.stdin(fs::File::open(bench.path("lines")).expect("there"));
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let said = |answer: &Value| format!("{}\n", text(answer));
    assert_eq!(chat(&[]), said(&plain));
    assert_eq!(chat(&["--tools", "tools.json"]), said(&with_tools));
}

#[test]
fn what_is_no_prompt_is_refused_with_its_file() {
    let bench = Bench::new();
    let user = json!({"role": "user", "content": "hi"});
    for (content, error) in [
        (json!({"messages": [{"content": "hi"}]}).to_string(), "`messages[0].role`"),
        (json!({"messages": [user], "tool": []}).to_string(), "`tool`"),
        (json!({"messages": [user], "tools": [{}]}).to_string(), "prints nothing of the tools"),
        ("[".to_owned(), "EOF"),
    ] {
        fs::write(bench.path("prompt.json"), &content).expect("written");
        let run = bench.run(&["generate", "model", "--messages", "prompt.json"]);
        assert_eq!(run.code, 1, "{content}");
        assert!(run.stderr.contains(error) && run.stderr.contains("prompt.json"), "{}", run.stderr);
    }
    let both = ["generate", "model", "--prompt", "hi", "--messages", "prompt.json"];
    assert_eq!(bench.run(&both).code, 2);
    assert_eq!(bench.run(&["generate", "model"]).code, 2);
}

#[test]
fn sampling_is_the_models_own_unless_an_option_says_otherwise() {
    let bench = Bench::new();
    let greedy = generate(&bench, &[]);
    edit_json(&bench.path("model/generation_config.json"), |config| {
        config["temperature"] = json!(1.0);
        config["top_k"] = json!(0);
    });
    assert_eq!(generate(&bench, &[]), greedy, "without do_sample");
    edit_json(&bench.path("model/generation_config.json"), |config| {
        config["do_sample"] = json!(true);
    });
    let own = generate(&bench, &["--seed", "1"]);
    assert_ne!(own, greedy);
    assert_eq!(generate(&bench, &["--temperature", "0"]), greedy);
    let plain = Bench::new();
    assert_eq!(own, generate(&plain, &DRAWN));
}

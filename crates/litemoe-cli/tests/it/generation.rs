//! `litemoe generate`.

use serde_json::Value;

use crate::bench::Bench;

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

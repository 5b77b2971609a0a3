//! `litemoe chat` through a pipe.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::bench::{Bench, Run, copy_dir};

/// Bench whose `model/` is the embedded foundation.
fn bench() -> Bench {
    let bench = Bench::new();
    fs::remove_dir_all(bench.path("model")).expect("removed");
    copy_dir(&litemoe_fixtures::foundation_dir(), &bench.path("model"));
    bench
}

fn start(bench: &Bench, options: &[&str]) -> Child {
    let mut command = bench.command(&[&["chat", "model"], options].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary runs")
}

/// Sends lines, then closes the input.
fn chat(bench: &Bench, options: &[&str], lines: &str) -> Run {
    let mut child = start(bench, options);
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("written");
    Run::of(&child.wait_with_output().expect("it ends"))
}

fn saved(bench: &Bench, name: &str) -> Value {
    serde_json::from_slice(&bench.read(name)).expect("JSON")
}

const QUESTION: &str = "Home request: dim the lights in the attic to 30 percent\\\nCall:\n";
const SHORT: [&str; 2] = ["--max-tokens", "12"];

#[test]
fn a_conversation_goes_on_and_is_saved() {
    let bench = bench();
    let lines = format!("/system Be brief.\n{QUESTION}\nAnd now?\n/save chat.json\n/quit\nnever\n");
    let run = chat(&bench, &SHORT, &lines);
    assert_eq!((run.code, run.stderr.contains("--max-tokens")), (0, true), "{}", run.stderr);
    let saved = saved(&bench, "chat.json");
    let messages = saved["messages"].as_array().expect("a list");
    let roles: Vec<_> = messages.iter().map(|message| message["role"].clone()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    let content = |index: usize| messages[index]["content"].as_str().expect("text");
    assert_eq!(content(0), "Be brief.");
    assert_eq!(content(1), "Home request: dim the lights in the attic to 30 percent\nCall:");
    assert_eq!(run.stdout, format!("{}\n{}\n", content(2), content(4)));
    assert!(!content(2).is_empty());
}

#[test]
fn the_first_answer_is_that_of_generate_and_an_answer_depends_on_what_was_said() {
    let bench = bench();
    let sampling = ["--max-tokens", "12", "--temperature", "0.7", "--seed", "4"];
    let first = chat(&bench, &sampling, QUESTION).stdout;
    let prompt = QUESTION.trim_end().replace("\\\n", "\n");
    let generate = ["generate", "model", "--prompt", &prompt];
    assert_eq!(first, bench.run(&[&generate[..], &sampling].concat()).stdout);
    let fresh = chat(&bench, &sampling, &format!("Hello\n/reset\n{QUESTION}")).stdout;
    assert!(fresh.ends_with(&first), "{fresh:?}");
    assert_eq!(fresh, chat(&bench, &sampling, &format!("Hello\n/reset\n{QUESTION}")).stdout);

    let lines = "How many legs has a spider?\nAnd an ant?\n/reset\nAnd an ant?\n";
    let answers = chat(&bench, &SHORT, lines).stdout;
    let answers: Vec<_> = answers.lines().collect();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_ne!(answers[1], answers[2]);
}

#[test]
fn an_adapter_and_a_stop_string_are_heard() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    let drawn = ["--max-tokens", "8", "--temperature", "1"];
    let plain = chat(&bench, &drawn, "add 3 and 4\n").stdout;
    let adapted = [&drawn[..], &["--adapter", "adapter"]].concat();
    assert_ne!(plain, chat(&bench, &adapted, "add 3 and 4\n").stdout);
    let letter = plain.chars().find(|letter| letter.is_alphanumeric()).expect("a letter");
    let stop = letter.to_string();
    let stopped = [&drawn[..], &["--stop", &stop]].concat();
    let before = plain.split(letter).next().expect("a beginning");
    assert_eq!(chat(&bench, &stopped, "add 3 and 4\n").stdout, format!("{before}\n"));
}

#[test]
fn what_cannot_be_done_ends_a_piped_chat() {
    let bench = bench();
    fs::write(bench.path("precious.json"), "{}").expect("written");
    let long = format!("{}\n", "7".repeat(1100));
    for (lines, words) in [
        ("/exit\n", &["/exit", "/help"][..]),
        ("/save\n", &["/save"]),
        ("/save precious.json\n", &["precious.json"]),
        (&long, &["1024 with at least one", "/reset"]),
    ] {
        let run = chat(&bench, &SHORT, lines);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
        assert!(words.iter().all(|word| run.stderr.contains(word)), "{}", run.stderr);
    }
    assert_eq!(bench.read("precious.json"), b"{}");
    let again = chat(&bench, &SHORT, "Hi\n/save a.json\n/reset\n/save a.json\n/help\n");
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(saved(&bench, "a.json"), json!({ "messages": [] }));
    assert!(again.stderr.contains("/system TEXT"), "{}", again.stderr);
}

#[test]
fn a_full_context_is_told() {
    let bench = Bench::new();
    let run = chat(&bench, &["--temperature", "3", "--top-k", "40"], "def f\nmore\n");
    assert!(run.stderr.contains("context is full"), "{}", run.stderr);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("256 with at least one"), "{}", run.stderr);
}

#[test]
fn a_model_without_a_template_cannot_chat() {
    let bench = Bench::new();
    fs::remove_file(bench.path("model/chat_template.jinja")).expect("removed");
    let run = chat(&bench, &[], "hi\n");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("no chat template"), "{}", run.stderr);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_answer_and_then_the_program() {
    use std::process::Command;

    let bench = bench();
    // At this temperature the answer continues until the context is full.
    let mut child = start(&bench, &["--temperature", "5"]);
    let mut input = child.stdin.take().expect("piped");
    let mut output = child.stdout.take().expect("piped");
    let id = child.id().to_string();
    let interrupt = || {
        let sent = Command::new("kill").args(["-INT", &id]).status();
        assert!(sent.expect("kill runs").success());
    };
    let mut byte = [0];
    input.write_all(b"Hello\n").expect("written");
    output.read_exact(&mut byte).expect("the answer begins");
    interrupt();
    // The answer stops, and the program accepts further input.
    input.write_all(b"/save chat.json\n").expect("written");
    let mut told = BufReader::new(child.stderr.take().expect("piped")).lines();
    for line in ["(stopped)", "(saved in chat.json)"] {
        assert_eq!(told.next().expect("it listens").expect("text"), line);
    }
    interrupt();
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    assert!(told.next().is_none());
}

//! Models whose weights are finite and overflow: no command goes on with logits that are no numbers.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use safetensors::{Dtype, SafeTensors};

use crate::bench::{Bench, Run};

/// Sets all values of a tensor of `model/` to 3e38.
fn overflow(bench: &Bench, tensor: &str) {
    let path = bench.path("model/model.safetensors");
    let mut bytes = fs::read(&path).expect("weights");
    let range = {
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let view = file.tensor(tensor).expect(tensor);
        assert_eq!(view.dtype(), Dtype::F32);
        let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        start..start + view.data().len()
    };
    bytes[range]
        .chunks_exact_mut(4)
        .for_each(|value| value.copy_from_slice(&3e38f32.to_le_bytes()));
    fs::write(path, bytes).expect("written");
}

/// Runs a command that must fail and name a non-finite value, and leave nothing.
#[track_caller]
fn refused(bench: &Bench, args: &[&str], mentions: &[&str]) {
    let before = bench.names();
    let run = bench.run(args);
    assert_eq!((run.code, run.stdout.trim()), (1, ""), "{args:?}: {}", run.stderr);
    for mention in mentions {
        assert!(run.stderr.contains(mention), "`{mention}` is not in: {}", run.stderr);
    }
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    let after: Vec<_> = bench.names().into_iter().filter(|name| name != "cache").collect();
    let before: Vec<_> = before.into_iter().filter(|name| name != "cache").collect();
    assert_eq!(after, before, "{args:?}");
}

const TUNE: [&str; 11] = [
    "tune",
    "model",
    "rows.jsonl",
    "--validation",
    "rows.jsonl",
    "--steps",
    "2",
    "--batch",
    "4",
    "--out",
    "tuned",
];

#[test]
fn an_overflow_after_the_last_block() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    overflow(&bench, "model.norm.weight");
    fs::remove_file(bench.path("adapter/litemoe.json")).expect("removed");
    refused(&bench, &["logits", "model", "--ids", "5,17"], &["position 0", "the logit of token"]);
    refused(&bench, &["logits", "model", "--ids", "5,17", "--json"], &["position 0"]);
    refused(&bench, &["eval", "model", "rows.jsonl", "--json"], &["row ", "a logit of the model"]);
    refused(
        &bench,
        &["generate", "model", "--prompt", "add 1 and 2", "--json"],
        &["after 0 generated tokens the logit of token"],
    );
    refused(&bench, &TUNE, &["the loss of step 1"]);
    let mount = ["mount", "model", "adapter", "--validation", "rows.jsonl", "--out", "mounted"];
    refused(&bench, &mount, &["without the adapter a logit of the model is"]);
}

#[test]
fn an_overflow_in_a_layer_is_named_by_scores() {
    let bench = Bench::new();
    overflow(&bench, "model.layers.1.input_layernorm.weight");
    refused(&bench, &["score", "model", "rows.jsonl"], &["layer 1", "is not a finite number"]);
    refused(&bench, &["eval", "model", "rows.jsonl"], &["a logit of the model"]);
    refused(&bench, &TUNE, &["the loss of step 1"]);
}

#[test]
fn chat_names_it() {
    let bench = Bench::new();
    overflow(&bench, "model.norm.weight");
    let mut chat = bench.command(&["chat", "model"]);
    let chat = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut chat = chat.spawn().expect("the binary runs");
    chat.stdin.take().expect("a pipe").write_all(b"hello\n").expect("written");
    let run = Run::of(&chat.wait_with_output().expect("it ends"));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(run.stderr.contains("after 0 generated tokens the logit of token"), "{}", run.stderr);
}

#[test]
fn the_server_answers_500_and_goes_on() {
    let bench = Bench::new();
    overflow(&bench, "model.norm.weight");
    let mut server = bench.command(&["serve", "model", "--port", "0"]);
    let mut server = server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    let mut stdout = BufReader::new(server.stdout.take().expect("a pipe"));
    stdout.read_line(&mut line).expect("an address");
    let address = line.trim().rsplit("http://").next().expect("an address").to_owned();
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(&address).expect("a connection");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let body = r#"{"model": "model", "messages": [{"role": "user", "content": "hello"}]}"#;
    let head = format!("Host: {address}\r\nConnection: close\r\n");
    for _ in 0..2 {
        let answer = ask(&format!(
            "POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
        assert!(answer.contains("logits_not_finite"), "{answer}");
    }
    let models = ask(&format!("GET /v1/models HTTP/1.1\r\n{head}\r\n"));
    assert!(models.starts_with("HTTP/1.1 200"), "{models}");
    server.kill().expect("killed");
    server.wait().expect("ended");
}

//! `litemoe serve` on a loopback port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use crate::bench::Bench;

#[test]
fn the_server_answers_for_the_foundation_and_for_an_adapter() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    let mut command =
        bench.command(&["serve", "model", "--adapter", "tuned=adapter", "--port", "0"]);
    let mut server = command.stdout(Stdio::piped()).spawn().expect("the server starts");
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let line = lines.next().expect("a line").expect("text");
    let address = line.rsplit("http://").next().expect("an address").trim().to_owned();
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(&address).expect("a connection");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let get = |path: &str| {
        ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    };
    assert!(get("/health").starts_with("HTTP/1.1 200"), "{}", get("/health"));
    let models = get("/v1/models");
    assert!(models.contains("\"tuned\"") && models.contains("\"parent\""), "{models}");
    let body = r#"{"model":"tuned","messages":[{"role":"user","content":"def f"}],"max_tokens":4}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json";
    let answer = ask(&format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    assert!(answer.contains("\"finish_reason\""), "{answer}");
    server.kill().expect("stopped");
    server.wait().expect("ended");
}

//! `litemoe serve` while the model is loaded, and its log as JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde_json::Value;

use crate::bench::Bench;
use crate::serving::{LONG, answer, chat};

/// A `litemoe serve` that waits for one of its model's files, which is a pipe.
struct Waiting {
    bench: Bench,
    child: Child,
    pipe: PathBuf,
    contents: Vec<u8>,
}

impl Waiting {
    fn of(options: &[&str]) -> Self {
        let bench = Bench::new();
        let fed = "model/chat_template.jinja";
        let (pipe, contents) = (bench.path(fed), bench.read(fed));
        fs::remove_file(&pipe).expect("removed");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        let mut command = bench.command(&[&["serve", "model", "--port", "0"], options].concat());
        command.env_remove("LITEMOE_LOG").env_remove("RUST_LOG").stdout(Stdio::piped());
        let log = File::create(bench.path("log")).expect("a file");
        let child = command.stderr(log).spawn().expect("the server starts");
        Self { bench, child, pipe, contents }
    }

    fn log(&self) -> String {
        String::from_utf8(self.bench.read("log")).expect("text")
    }

    /// The address in the log's first line.
    fn address(&self) -> String {
        let begin = Instant::now();
        loop {
            let log = self.log();
            if let Some((_, address)) = log.split_once("address=").filter(|_| log.ends_with('\n')) {
                return address.trim().to_owned();
            }
            assert!(begin.elapsed() < LONG, "{log}");
            sleep(Duration::from_millis(5));
        }
    }

    /// Lets the server read its file, unless it ends before.
    fn feed(&mut self) {
        let (begin, flags) = (Instant::now(), OFlags::NONBLOCK.bits().cast_signed());
        loop {
            match OpenOptions::new().write(true).custom_flags(flags).open(&self.pipe) {
                Ok(mut pipe) => return pipe.write_all(&self.contents).expect("it is read"),
                Err(_) if self.child.try_wait().expect("asked").is_some() => return,
                // Nobody reads it yet.
                Err(error) => assert!(begin.elapsed() < LONG, "{error}"),
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([format!("-{name}"), id]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(address: &str, request: &str) -> String {
    answer(&mut TcpStream::connect(address).expect("a connection"), request)
}

fn health(address: &str) -> String {
    ask(address, "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

#[test]
fn while_the_model_is_loaded_health_is_503_and_then_the_address_is_printed() {
    let mut server = Waiting::of(&[]);
    let address = server.address();
    let answer = health(&address);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("loading"), "{answer}");
    let answer = ask(&address, &chat("add 3 and 4", ""));
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"loading\""), "{answer}");
    server.feed();
    let mut stdout = BufReader::new(server.child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, format!("listening on http://{address}\n"));
    assert!(health(&address).starts_with("HTTP/1.1 200"));
    let answer = ask(&address, &chat("add 3 and 4", r#","max_tokens":4"#));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_signal_while_the_model_is_loaded_ends_the_server_at_once() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut server = Waiting::of(&[]);
        server.address();
        server.signal(name);
        assert_eq!(server.child.wait().expect("ended").code(), Some(code), "{name}");
    }
}

#[test]
fn a_model_that_cannot_be_loaded_ends_the_server() {
    let mut server = Waiting::of(&[]);
    let address = server.address();
    assert!(health(&address).starts_with("HTTP/1.1 503"));
    fs::remove_file(server.bench.path("model/model.safetensors")).expect("removed");
    server.feed();
    assert_eq!(server.child.wait().expect("ended").code(), Some(1));
    let mut printed = String::new();
    server.child.stdout.take().expect("piped").read_to_string(&mut printed).expect("text");
    assert_eq!(printed, "");
    assert!(
        server.log().contains("error: ") && server.log().contains("safetensors"),
        "{}",
        server.log()
    );
}

#[test]
fn a_log_in_json_has_only_json_and_says_what_was_asked_and_answered() {
    let mut server = Waiting::of(&["--log-format", "json"]);
    server.feed();
    let mut stdout = BufReader::new(server.child.stdout.take().expect("piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let address = line.trim().rsplit("http://").next().expect("an address");
    let request = chat("add 3 and 4", r#","max_tokens":4"#);
    let request = request.replacen("\r\n", "\r\nx-request-id: id-7\r\n", 1);
    assert!(ask(address, &request).starts_with("HTTP/1.1 200"));
    let unknown = chat("add 3 and 4", r#","model":"a\"\n""#);
    let unknown = unknown.replacen("\r\n", "\r\nx-request-id: id-8\r\n", 1);
    assert!(ask(address, &unknown).starts_with("HTTP/1.1 404"));
    server.signal("TERM");
    assert_eq!(server.child.wait().expect("ended").code(), Some(0));
    let lines: Vec<Value> = server
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let of = |id: &str| lines.iter().find(|line| line["span"]["id"] == id).expect("a line");
    let answered = of("id-7");
    assert_eq!(answered["message"], "answered");
    assert_eq!(answered["level"], "INFO");
    assert_eq!((&answered["status"], &answered["model"]), (&200.into(), &"model".into()));
    assert_eq!(answered["completion_tokens"], 4);
    assert!(answered["prompt_tokens"].as_u64().is_some_and(|n| n > 3), "{answered}");
    assert!(answered["elapsed_ms"].as_f64().is_some_and(|time| time > 0.0), "{answered}");
    assert_eq!(answered["span"]["path"], "/v1/chat/completions");
    assert_eq!(of("id-8")["status"], 404);
    // Notes, too.
    assert!(lines.iter().any(|line| line["event"] == "note"), "{}", server.log());
}

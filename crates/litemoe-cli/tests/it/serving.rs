//! `litemoe serve` as a process: signals, memory and hostile clients. All of them on a loopback port.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use litemoe_fixtures::fuzz::{JSON_VALUES, fuzz};

use crate::bench::{Bench, edit_json};

/// Long enough on any machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A running `litemoe serve` of the tiny model.
pub(crate) struct Served {
    bench: Arc<Bench>,
    child: Child,
    address: String,
    log: PathBuf,
}

impl Served {
    fn with(options: &[&str]) -> Self {
        Self::of(Bench::new(), options, None)
    }

    /// Serves a bench's model with `RUST_LOG`.
    pub(crate) fn of(bench: impl Into<Arc<Bench>>, options: &[&str], filter: Option<&str>) -> Self {
        let bench = bench.into();
        let log = File::create(bench.path("log")).expect("a file");
        Self::logging(bench, options, filter, log.into())
    }

    /// The same with another standard error.
    fn logging(bench: Arc<Bench>, options: &[&str], filter: Option<&str>, stderr: Stdio) -> Self {
        let log = bench.path("log");
        let mut command = bench.command(&[&["serve", "model", "--port", "0"], options].concat());
        command.env_remove("LITEMOE_LOG").env_remove("RUST_LOG");
        command.envs(filter.map(|filter| ("RUST_LOG", filter)));
        command.stderr(stderr);
        Self::started(bench, command, log)
    }

    /// Waits until the server is ready.
    fn started(bench: Arc<Bench>, mut command: Command, log: PathBuf) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("a line").expect("text");
        let address = line.rsplit("http://").next().expect("an address").trim().to_owned();
        Self { bench, child, address, log }
    }

    /// The same, where a write beyond a limit of the size of files fails as any other.
    pub(crate) fn ignoring_file_limits(bench: Bench, options: &[&str]) -> Self {
        let bench = Arc::new(bench);
        let mut command = Command::new("sh");
        let server = bench.command(&[&["serve", "model", "--port", "0"], options].concat());
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(server.get_program());
        command.args(server.get_args()).current_dir(bench.path(""));
        command.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let log = bench.path("log");
        command.stderr(File::create(&log).expect("a file"));
        Self::started(bench, command, log)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn bench(&self) -> &Bench {
        &self.bench
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log is there")).into_owned()
    }

    /// Sends a signal by name.
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([format!("-{name}"), id]).status();
        assert!(status.expect("kill runs").success());
    }

    fn wait_for(&self, what: &str, is_there: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_there() {
            assert!(begin.elapsed() < LONG, "{what}: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().expect("ended").code()
    }

    /// A field of `/proc/PID/status` in MiB.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }

    /// Checks that a healthy request is answered; returns the time.
    pub(crate) fn health(&self) -> Duration {
        let begin = Instant::now();
        let answer = answer(&mut self.connect(), &get("/health"));
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        begin.elapsed()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("set");
    stream
}

/// Sends a request and reads everything until the connection is closed.
pub(crate) fn answer(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8(answer).expect("text")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

fn post(body: &str) -> String {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close";
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

pub(crate) fn chat(content: &str, fields: &str) -> String {
    let messages = format!(r#"[{{"role":"user","content":"{content}"}}]"#);
    post(&format!(r#"{{"model":"model","messages":{messages}{fields}}}"#))
}

#[cfg(unix)]
#[test]
fn a_signal_lets_the_running_requests_end_and_a_second_one_does_not() {
    for name in ["TERM", "INT"] {
        let mut server = Served::with(&[]);
        let request = chat("add 3 and 4", r#","max_tokens":4"#);
        let (begin, end) = request.split_at(request.len() - 10);
        let mut client = server.connect();
        client.write_all(begin.as_bytes()).expect("sent");
        server.health();
        server.signal(name);
        server.wait_for("the log says that it stops", || server.log().contains("stopping"));
        server.wait_for("it accepts nothing", || TcpStream::connect(&server.address).is_err());
        let answer = answer(&mut client, end);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("usage"), "{answer}");
        assert_eq!(server.exit_code(), Some(0), "{name}");
    }
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut server = Served::with(&["--timeout", "600"]);
        let mut client = server.connect();
        client.write_all(&chat("add 3 and 4", "").as_bytes()[..100]).expect("sent");
        server.health();
        server.signal(name);
        server.wait_for("the log says that it stops", || server.log().contains("stopping"));
        server.signal(name);
        assert_eq!(server.exit_code(), Some(code), "{name}");
    }
}

#[test]
fn the_log_follows_rust_log_and_tells_requests_by_default() {
    let ask = |server: &Served| {
        for path in ["/health", "/v1/models"] {
            answer(&mut server.connect(), &get(path));
        }
    };
    let server = Served::with(&[]);
    ask(&server);
    server.wait_for("a line for each request", || server.log().matches("answered").count() == 2);
    assert!(server.log().contains("/health") && server.log().contains("/v1/models"));
    let silent = Served::of(Bench::new(), &[], Some("off"));
    ask(&silent);
    // A note is no line of the log.
    let log = silent.log();
    assert!(log.lines().count() == 1 && log.starts_with("there is no registry of apps"), "{log}");
}

#[cfg(unix)]
#[test]
fn a_log_that_no_one_reads_fails_no_request() {
    let ask = |server: &Served| {
        server.health();
        let answer = answer(&mut server.connect(), &chat("add 3 and 4", r#","max_tokens":4"#));
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("usage"), "{answer}");
    };
    for is_closed in [true, false] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let unread = (!is_closed).then_some(reader);
        let server = Served::logging(Arc::new(Bench::new()), &[], Some("trace"), writer.into());
        // At this level, each request is more than a kilobyte of the log, and a pipe holds 64.
        for _ in 0..100 {
            ask(&server);
        }
        drop(unread);
        ask(&server);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn sixty_large_bodies_at_once_take_little_memory() {
    let bench = Bench::new();
    // Long enough for the largest body to be tokenized.
    edit_json(&bench.path("model/config.json"), |config| {
        config["max_position_embeddings"] = 40_000.into();
    });
    let server = Served::of(bench, &[], None);
    let before = server.memory("VmHWM:");
    let text = chat(&"word ".repeat(400_000), "");
    let many = chat("a", &format!(r#","metadata":[{}[]]"#, "[],".repeat(650_000)));
    // Close to the maximum of values.
    let part = format!(r#"{{"type":"text","text":"{}"}}"#, "a".repeat(120));
    let parts = vec![part; 13_000].join(",");
    let parts =
        post(&format!(r#"{{"model":"model","messages":[{{"role":"user","content":[{parts}]}}]}}"#));
    thread::scope(|scope| {
        for index in 0..60 {
            let request = [&text, &many, &parts][index % 3];
            let server = &server;
            scope.spawn(move || {
                let answer = answer(&mut server.connect(), request);
                let is_busy =
                    answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1");
                assert!(is_busy || answer.starts_with("HTTP/1.1 400"), "{answer}");
            });
        }
        for _ in 0..20 {
            assert!(server.health() < LONG);
        }
    });
    let peak = server.memory("VmHWM:");
    assert!(peak - before < 300, "{before} MiB before, {peak} MiB at most");
}

#[cfg(target_os = "linux")]
#[test]
fn idle_and_slow_connections_keep_no_one_waiting() {
    // Both ends of a connection are files, here and there.
    let n_files = rlimit::increase_nofile_limit(4096).expect("a limit");
    let (n_idle, n_slow) = if n_files < 1500 { (200, 50) } else { (1000, 200) };
    let server = Served::with(&["--timeout", "600"]);
    let idle: Vec<_> = (0..n_idle).map(|_| server.connect()).collect();
    let slow: Vec<_> = (0..n_slow).map(|_| server.connect()).collect();
    let request = chat("add 3 and 4", "");
    for at in 0..request.len() - 1 {
        for stream in &slow {
            (&mut &*stream).write_all(&request.as_bytes()[at..=at]).expect("sent");
        }
        if at % 20 == 0 {
            assert!(server.health() < LONG);
        }
    }
    let answer = answer(&mut server.connect(), &chat("add 3 and 4", r#","max_tokens":4"#));
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    drop((idle, slow));
}

#[test]
fn the_same_request_has_the_same_answer_as_the_command() {
    let (mut bench, user) =
        (Bench::new(), serde_json::json!([{"role": "user", "content": "add 3 and 4"}]));
    for has_own in [false, true] {
        if has_own {
            edit_json(&bench.path("model/generation_config.json"), |config| {
                config["do_sample"] = true.into();
                // Above the maximum of requests.
                config["temperature"] = 2.5.into();
                config["top_k"] = 30.into();
                config["repetition_penalty"] = 1.1.into();
            });
        }
        fs::write(bench.path("messages.json"), user.to_string()).expect("written");
        let server = Served::of(bench, &[], None);
        for (options, fields) in [
            (&[][..], ""),
            (&["--temperature", "1", "--seed", "3"], r#","temperature":1,"seed":3"#),
            (&["--top-k", "1"], r#","top_k":1"#),
            (
                &["--temperature", "0", "--presence-penalty", "1"],
                r#","temperature":0,"presence_penalty":1"#,
            ),
        ] {
            let arguments =
                ["generate", "model", "--messages", "messages.json", "--max-tokens", "12"];
            let said = server.bench.json(&[&arguments[..], options].concat());
            let request = chat("add 3 and 4", &format!(r#","max_tokens":12{fields}"#));
            let answer = answer(&mut server.connect(), &request);
            let body = answer.split_once("\r\n\r\n").expect("a body").1;
            let answer: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(
                answer["choices"][0]["message"]["content"], said["text"],
                "{has_own} {fields}"
            );
            assert_eq!(answer["usage"]["prompt_tokens"], said["prompt_tokens"]);
        }
        bench = Bench::new();
    }
}

/// Requests from which the fuzzer starts.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let fields = r#","max_tokens":3,"n":2,"stream":true,"stream_options":{"include_usage":true},"stop":["a","b"],
        "logit_bias":{"5":1.5},"temperature":0.5,"top_p":0.9,"top_k":3,"min_p":0.1,"seed":7,"logprobs":true,
        "top_logprobs":2,"presence_penalty":0.1,"frequency_penalty":0.1,"repetition_penalty":1.1,"tools":[],"documents":[],
        "chat_template_kwargs":{"a":[1,"b"]},"tool_choice":"auto""#;
    let parts = r#"[{"type":"text","text":"caf\u00e9 \ud83d\ude42"},{"type":"text","text":"b"}]"#;
    let parts = format!(
        r#"{{"model":"model","messages":[{{"role":"system","content":"s"}},{{"role":"user","content":{parts}}}],"max_tokens":2}}"#
    );
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n{:x}\r\n{parts}\r\n0\r\n\r\n",
        parts.len()
    );
    let preflight = "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:80\r\nOrigin: https://app.example\r\n\
         Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n\
         Connection: close\r\n\r\n";
    let models = "GET http://localhost/v1/models/model HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a-1\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n";
    let twice = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n{}", get("/v1/models"));
    let texts = [
        chat("hi", ""),
        chat("hi", fields),
        chat("hi", "").replacen("/v1/chat/completions", "/tokenize", 1),
        post(&parts),
        chunked,
        preflight.into(),
        models.into(),
        twice,
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

/// Sends bytes, and reads an answer while the connection's timeout allows, or stops sending first, or leaves at once.
pub(crate) fn send(mut stream: TcpStream, index: usize, bytes: &[u8]) {
    let is_sent = stream.write_all(bytes).is_ok();
    match index % 3 {
        0 => return,
        1 if stream.shutdown(Shutdown::Write).is_err() => return,
        _ if !is_sent => return,
        _ => {}
    }
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionReset];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
    let is_answer = answer.is_empty() || answer.starts_with(b"HTTP/1.");
    let is_failure = answer.starts_with(b"HTTP/1.1 500");
    assert!(is_answer && !is_failure, "{}: {}", bytes.escape_ascii(), answer.escape_ascii());
}

#[cfg(target_os = "linux")]
#[test]
fn fuzzed_requests_break_nothing() {
    const CLIENTS: usize = 16;
    let options = ["--timeout", "0.2", "--max-context", "64", "--max-n", "2", "--max-queue", "64"];
    let server = Served::with(&[&options[..], &["--allow-origin", "https://app.example"]].concat());
    let values = [
        JSON_VALUES,
        &["\r\n", "\r\n\r\n", "HTTP/1.0", "chunked", "65", "content-length: 7\r\n", "null"],
    ]
    .concat();
    let mut documents = Vec::new();
    fuzz(&requests(), &values, |_, document| documents.push(document.to_vec()));
    let (warm, rest) = documents.split_at(documents.len() / 5);
    let send_all = |documents: &[Vec<u8>]| {
        let mut slowest = Duration::ZERO;
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let own = documents.iter().enumerate().skip(client).step_by(CLIENTS);
                    let address = server.address.as_str();
                    scope.spawn(move || {
                        for (index, bytes) in own {
                            send(connect(address), index / CLIENTS, bytes);
                        }
                    })
                })
                .collect();
            while clients.iter().any(|client| !client.is_finished()) {
                slowest = slowest.max(server.health());
                thread::sleep(Duration::from_millis(20));
            }
        });
        slowest
    };
    send_all(warm);
    let before = server.memory("VmRSS:");
    let slowest = send_all(rest);
    let after = server.memory("VmRSS:");
    println!(
        "{} requests: {before} MiB then {after} MiB, /health within {slowest:?}",
        documents.len()
    );
    assert!(after < before + 64, "{before} MiB then {after} MiB");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let answer = answer(&mut server.connect(), &chat("hi", r#","max_tokens":2"#));
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

//! Request ids and the request log.

use std::cell::RefCell;
use std::io;
use std::sync::Once;
use std::time::Duration;

use litemoe_server::ServerOptions;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::client::{chat, send, serving};
use crate::listening::{Listening, get, post, status};
use crate::toy::{Step, Toy, gate, tokens};

thread_local! {
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The log of the current thread. The subscriber is the process's, because one of a thread would race with those of
/// other tests for the callsites.
struct Log;

/// Writes to the log of the thread that logs.
struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BYTES.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| {
            tracing_subscriber::fmt().with_ansi(false).with_writer(|| Writer).init();
        });
        BYTES.with_borrow_mut(Vec::clear);
        Self
    }

    /// Lines of the server that contain `text`.
    fn lines(&self, text: &str) -> Vec<String> {
        let log = BYTES.with_borrow(|bytes| String::from_utf8(bytes.clone()).unwrap());
        let own = |line: &&str| line.contains("litemoe_server") && line.contains(text);
        log.lines().filter(own).map(str::to_owned).collect()
    }

    /// The only line that contains `text`, which may still be to come.
    async fn line(&self, text: &str) -> String {
        let line = async {
            while self.lines(text).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), line).await.expect("a line");
        let [line] = self.lines(text).try_into().expect("one line");
        line
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Listening::of(Toy::saying("x"), ServerOptions::default()).await;
    let id = |answer: &str| {
        let (_, rest) = answer.split_once("\r\nx-request-id: ").unwrap();
        rest.split_once("\r\n").unwrap().0.to_owned()
    };
    let given = server.ask(&get("/health", "x-request-id: my-id.7\r\n")).await;
    assert_eq!(id(&given), "my-id.7");
    let odd = server.ask(&get("/health", "x-request-id: a b\r\n")).await;
    assert!(id(&odd).starts_with("req-"), "{odd}");
    let mut ids = Vec::new();
    for (request, expected) in [
        (get("/v2", ""), 404),
        (get("/v1/chat/completions", ""), 405),
        (get("/health", "origin: https://evil.example\r\n"), 403),
        (post(&json!({}), ""), 400),
        (post(&chat(&json!({ "stream": true })), ""), 200),
    ] {
        let answer = server.ask(&request).await;
        assert_eq!(status(&answer), expected);
        ids.push(id(&answer));
    }
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn the_log_says_what_was_asked_and_answered_but_no_text() {
    let log = Log::begin();
    let server = Listening::of(Toy::saying("answer"), ServerOptions::default()).await;
    let n_prompt = tokens("<|user|>secret<|assistant|>").len();
    let n_completion = tokens("answer").len() + 1;
    let messages = json!([{ "role": "user", "content": "secret" }]);
    for stream in [false, true] {
        let id = format!("x-request-id: id-{stream}\r\n");
        let body = chat(&json!({ "messages": messages, "stream": stream }));
        server.ask(&post(&body, &id)).await;
        let line = log.line(&format!("id-{stream}")).await;
        for text in [
            " INFO ",
            "method=\"POST\"",
            "path=\"/v1/chat/completions\"",
            "answered",
            "status=200",
            "model=\"toy\"",
            &format!("prompt_tokens={n_prompt} "),
            &format!("completion_tokens={n_completion} "),
            "elapsed_ms=",
        ] {
            assert!(line.contains(text), "{text}: {line}");
        }
    }
    server.ask(&get("/v1/models?key=hidden", "x-request-id: id-get\r\n")).await;
    let line = log.line("id-get").await;
    assert!(line.contains("path=\"/v1/models\"") && !line.contains("tokens"), "{line}");
    server.ask(&post(&chat(&json!({ "model": "secret" })), "x-request-id: id-none\r\n")).await;
    assert!(log.line("id-none").await.contains("status=404"));
    let all = log.lines("").join("\n");
    assert!(
        !all.contains("secret") && !all.contains("hidden") && !all.contains("answer\""),
        "{all}"
    );
}

#[tokio::test]
async fn the_log_says_that_a_client_went_away() {
    let log = Log::begin();
    let (gate, mut keeper) = gate();
    let toy = Toy { gate: Some(gate), ..Toy::doing(vec![Step::Babble; 10]) };
    let server = Listening::of(toy, ServerOptions::default()).await;
    let mut client = server.connect().await;
    let request = post(&chat(&json!({})), "x-request-id: gone\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    keeper.entered.recv().await.unwrap();
    drop(client);
    let line = log.line("gone").await;
    assert!(
        line.contains("the connection ended before the answer") && !line.contains("status"),
        "{line}"
    );
}

#[tokio::test]
async fn a_path_cannot_write_lines_of_its_own() {
    let log = Log::begin();
    let router = serving(Toy::saying("x"));
    let path = format!("/\u{9b}31m\u{85}{}", "a".repeat(10_000));
    drop(send(&router, "GET", &path, axum::body::Body::empty()).await);
    let line = log.line("path=").await;
    assert!(!line.contains('\u{9b}') && !line.contains('\u{85}') && line.len() < 1000, "{line}");
}

//! Clients that close their connections, and connections that the server ends.

use std::num::NonZeroUsize;
use std::time::Duration;

use litemoe_server::{ServerOptions, Timeouts};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::client::chat;
use crate::listening::{Listening, body, get, post, rest, status};
use crate::toy::{Step, Toy, gate, tokens};

/// Long enough on any machine.
const LONG: Duration = Duration::from_secs(60);

/// A toy that talks long, and with its adapter says `x`.
fn talkative() -> Toy {
    Toy { adapted: vec![Step::Say(tokens("x")[0])], ..Toy::doing(vec![Step::Babble; 50]) }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_whatever_it_has_sent() {
    let chat_request = post(&chat(&json!({})), "");
    for trailing in ["", "\r\n", "GE", &get("/health", ""), &chat_request] {
        let (gate, mut keeper) = gate();
        let toy = Toy { gate: Some(gate), ..talkative() };
        // The next connection is accepted when the first one has ended.
        let options =
            ServerOptions { max_connections: NonZeroUsize::MIN, ..ServerOptions::default() };
        let server = Listening::of(toy, options).await;
        let mut client = server.connect().await;
        let request = chat_request.replace("connection: close\r\n", "");
        client.write_all(format!("{request}{trailing}").as_bytes()).await.unwrap();
        keeper.entered.recv().await.unwrap();
        drop(client);
        let answer = timeout(LONG, server.ask(&get("/health", ""))).await;
        assert_eq!(status(&answer.expect("the connection has ended")), 200, "{trailing:?}");
        drop(keeper.permits);
        let request = post(&chat(&json!({ "model": "toy/app" })), "");
        let answer = body(&server.ask(&request).await);
        assert_eq!(answer["choices"][0]["message"]["content"], "x");
        // No further step of the first request: one for the letter and one for the end of the second.
        assert_eq!(keeper.entered.len(), 2, "{trailing:?}");
    }
}

#[tokio::test]
async fn a_client_that_closes_only_its_side_counts_as_gone() {
    let (gate, mut keeper) = gate();
    let server =
        Listening::of(Toy { gate: Some(gate), ..talkative() }, ServerOptions::default()).await;
    let mut client = server.connect().await;
    client.write_all(post(&chat(&json!({})), "").as_bytes()).await.unwrap();
    keeper.entered.recv().await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(timeout(LONG, rest(&mut client)).await.expect("it is closed"), "");
}

#[tokio::test]
async fn two_requests_at_once_are_answered_in_turn() {
    let server = Listening::of(talkative(), ServerOptions::default()).await;
    let first = post(&chat(&json!({ "model": "toy/app" })), "");
    let first = first.replace("connection: close\r\n", "");
    let answer = server.ask(&format!("{first}{}", get("/health", ""))).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
}

#[tokio::test]
async fn a_request_that_runs_too_long_does_not_delay_the_end() {
    let (gate, mut keeper) = gate();
    let timeouts = Timeouts { shutdown: Duration::from_millis(200), ..Timeouts::default() };
    let options = ServerOptions { timeouts, ..ServerOptions::default() };
    let server = Listening::of(Toy { gate: Some(gate), ..talkative() }, options).await;
    let mut client = server.connect().await;
    let request = post(&chat(&json!({ "stream": true })), "");
    client.write_all(request.as_bytes()).await.unwrap();
    keeper.entered.recv().await.unwrap();
    timeout(LONG / 4, server.stop()).await.expect("it does not wait for the request");
    let answer = timeout(LONG, rest(&mut client)).await.expect("it is closed");
    assert!(status(&answer) == 200 && !answer.contains("[DONE]"), "{answer}");
    // The engine stops before the next step.
    keeper.permits.send(()).unwrap();
    assert_eq!(timeout(LONG, keeper.entered.recv()).await.unwrap(), None);
}

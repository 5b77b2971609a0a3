//! A listener whose server is still being made.

use std::time::Duration;

use litemoe_server::{Listening, Server, ServerError, ServerOptions};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::client::chat;
use crate::listening::{body, get, post, rest, status, until};
use crate::toy::{Toy, tokenizer};

async fn listening(options: &ServerOptions) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Listening::new(listener, options).unwrap()
}

fn server() -> Server {
    Server::new("toy", Toy::saying("yes"), tokenizer(), ServerOptions::default()).unwrap()
}

async fn ask(listening: &Listening, request: &str) -> String {
    let mut stream = TcpStream::connect(listening.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

#[tokio::test]
async fn every_path_is_503_until_the_server_is_there() {
    let options = ServerOptions { retry_after: Duration::from_secs(7), ..ServerOptions::default() };
    let listening = listening(&options).await;
    let health = ask(&listening, &get("/health", "")).await;
    assert_eq!((status(&health), body(&health)), (503, json!({ "status": "loading" })));
    assert!(health.contains("\r\nretry-after: 7\r\n"), "{health}");
    let long = json!({ "messages": [{ "role": "user", "content": "a".repeat(1 << 20) }] });
    for request in [
        get("/v1/models", ""),
        get("/v2", ""),
        post(&chat(&json!({})), "x-request-id: id-7\r\n"),
        post(&chat(&long), ""),
    ] {
        let answer = ask(&listening, &request).await;
        assert_eq!(status(&answer), 503);
        let error = &body(&answer)["error"];
        assert_eq!((&error["code"], &error["type"]), (&json!("loading"), &json!("server_error")));
        assert!(answer.contains("\r\nretry-after: 7\r\n") && answer.contains("\r\nx-request-id: "));
    }
    server().open(&listening).unwrap();
    let health = ask(&listening, &get("/health", "")).await;
    assert_eq!((status(&health), body(&health)), (200, json!({ "status": "ok" })));
    let answer = ask(&listening, &post(&chat(&json!({})), "")).await;
    assert_eq!(body(&answer)["choices"][0]["message"]["content"], "yes");
    listening.stop().await;
}

#[tokio::test]
async fn a_connection_stays_open_when_the_server_is_there() {
    let listening = listening(&ServerOptions::default()).await;
    let mut stream = TcpStream::connect(listening.address()).await.unwrap();
    let request = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = until(&mut stream, "}").await;
    assert!(status(&answer) == 503 && answer.contains("loading"), "{answer}");
    server().open(&listening).unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = until(&mut stream, "}").await;
    assert!(status(&answer) == 200 && answer.contains("ok"), "{answer}");
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_from_the_beginning() {
    let listening = listening(&ServerOptions::default()).await;
    let request = "GET /health HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&ask(&listening, request).await), 403);
    let request = get("/health", "origin: https://evil.example\r\n");
    assert_eq!(status(&ask(&listening, &request).await), 403);
    let options =
        ServerOptions { allowed_hosts: vec!["a b".to_owned()], ..ServerOptions::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = Listening::new(listener, &options).unwrap_err();
    assert!(matches!(error, ServerError::AllowedHost { value } if value == "a b"));
}

#[tokio::test]
async fn listening_ends_also_without_a_server() {
    let stopped = listening(&ServerOptions::default()).await;
    let address = stopped.address();
    stopped.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    let dropped = listening(&ServerOptions::default()).await;
    let address = dropped.address();
    drop(dropped);
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), closed).await.expect("closed");
}

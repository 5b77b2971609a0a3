//! Time-outs and limits of connections.

use std::num::NonZeroUsize;
use std::time::Duration;

use litemoe_server::{RequestLimits, ServerOptions, Timeouts};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::client::chat;
use crate::listening::{Listening, body, get, post, rest, status, until};
use crate::toy::{Step, Toy};

/// Long enough on any machine.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

async fn listening(timeouts: Timeouts) -> Listening {
    Listening::of(Toy::saying("x"), ServerOptions { timeouts, ..ServerOptions::default() }).await
}

fn patient() -> Timeouts {
    Timeouts { header: LONG, body: LONG, write: LONG, upload: LONG, shutdown: LONG }
}

/// Everything until the server closes the connection, which it must do without the client's help.
async fn closed(stream: &mut TcpStream) -> String {
    timeout(LONG, rest(stream)).await.expect("the server closes the connection")
}

#[tokio::test]
async fn a_connection_without_a_whole_header_is_closed() {
    let server = listening(Timeouts { header: SHORT, ..patient() }).await;
    let mut silent = server.connect().await;
    let mut used = server.connect().await;
    used.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(status(&until(&mut used, "\r\n\r\n").await), 200);
    let mut slow = server.connect().await;
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: ").await.unwrap();
    let (mut answer, mut sender) = slow.into_split();
    let trickle = async {
        while sender.write_all(b"x").await.is_ok() {
            sleep(SHORT / 10).await;
        }
    };
    timeout(LONG, trickle).await.expect("the server closes the connection");
    let mut got = Vec::new();
    let _ = answer.read_to_end(&mut got).await;
    assert!(got.is_empty(), "{got:?}");
    assert_eq!(closed(&mut silent).await, "");
    assert_eq!(closed(&mut used).await, r#"{"status":"ok"}"#);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_408() {
    let server = listening(Timeouts { body: SHORT, ..patient() }).await;
    let request = post(&chat(&json!({})), "");
    let mut stream = server.connect().await;
    stream.write_all(&request.as_bytes()[..request.len() - 1]).await.unwrap();
    let answer = closed(&mut stream).await;
    assert_eq!(status(&answer), 408);
    assert_eq!(body(&answer)["error"]["code"], "request_timeout");
    assert_eq!(status(&server.ask(&request).await), 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_loses_its_connection() {
    let options = ServerOptions {
        timeouts: Timeouts { write: SHORT, ..patient() },
        max_connections: NonZeroUsize::MIN,
        ..ServerOptions::default()
    };
    let server = Listening::of(Toy::doing(vec![Step::Babble; 60]), options).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut idle = socket.connect(server.address).await.unwrap();
    // More than the sockets' buffers hold.
    let request = json!({ "n": 128, "logprobs": true, "top_logprobs": 20, "max_tokens": 50 });
    idle.write_all(post(&chat(&request), "").as_bytes()).await.unwrap();
    // The only connection is free again.
    let answer = timeout(LONG, server.ask(&get("/health", ""))).await.unwrap();
    assert_eq!(status(&answer), 200);
    let cut = rest(&mut idle).await;
    assert_eq!(status(&cut), 200);
    let (_, length) = cut.split_once("\r\ncontent-length: ").unwrap();
    let (length, _) = length.split_once("\r\n").unwrap();
    assert!(cut.len() < length.parse().unwrap(), "{} of {length} bytes", cut.len());
}

#[tokio::test]
async fn connections_above_the_maximum_wait() {
    let max_connections = NonZeroUsize::new(2).unwrap();
    let options =
        ServerOptions { max_connections, timeouts: patient(), ..ServerOptions::default() };
    let server = Listening::of(Toy::saying("x"), options).await;
    let idle = [server.connect().await, server.connect().await];
    let request = get("/health", "");
    let mut waiting = Box::pin(server.ask(&request));
    assert!(timeout(SHORT, &mut waiting).await.is_err());
    drop(idle);
    assert_eq!(status(&waiting.await), 200);
}

#[tokio::test]
async fn a_header_that_is_too_large_is_431() {
    let server = listening(patient()).await;
    let many = "a: b\r\n".repeat(200);
    let long = format!("a: {}\r\n", "b".repeat(40 << 10));
    for headers in [many, long] {
        assert_eq!(status(&server.ask(&get("/health", &headers)).await), 431);
    }
    let fits = "a: b\r\n".repeat(90);
    assert_eq!(status(&server.ask(&get("/health", &fits)).await), 200);
}

#[tokio::test]
async fn a_client_that_sends_too_much_reads_that_it_is_too_much() {
    let limits = RequestLimits { max_body: 1000, ..RequestLimits::default() };
    let options = ServerOptions { limits, timeouts: patient(), ..ServerOptions::default() };
    let server = Listening::of(Toy::saying("x"), options).await;
    let much = "x".repeat(8 << 20);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let chunk = format!("{:x}\r\n{much}\r\n0\r\n\r\n", much.len());
    for request in [
        format!("{head}content-length: {}\r\n\r\n{much}", much.len()),
        format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}"),
    ] {
        let answer = server.ask(&request).await;
        assert_eq!(status(&answer), 413);
        assert_eq!(body(&answer)["error"]["code"], "request_too_large");
    }
    // This one does not send its body unless it is told to.
    let waits = format!("{head}expect: 100-continue\r\ncontent-length: 1001\r\n\r\n");
    let mut stream = server.connect().await;
    stream.write_all(waits.as_bytes()).await.unwrap();
    assert_eq!(status(&closed(&mut stream).await), 413);
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let server = listening(patient()).await;
    let mut silent = server.connect().await;
    let mut used = server.connect().await;
    used.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    until(&mut used, "}").await;
    timeout(LONG / 2, server.stop()).await.expect("it does not wait for them");
    assert_eq!(
        (closed(&mut silent).await, closed(&mut used).await),
        (String::new(), String::new())
    );
}

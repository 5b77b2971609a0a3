use std::num::NonZeroUsize;
use std::time::Duration;

use futures::StreamExt;
use litemoe_server::{Server, ServerOptions};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::client::{chat, post, read, serving, serving_with, text};
use crate::toy::{MAX_TOKENS, Step, Toy, gate, tokenizer, tokens};

#[tokio::test]
async fn a_full_queue_is_503_and_says_when_to_try_again() {
    let (gate, mut keeper) = gate();
    let options = ServerOptions {
        max_queued: NonZeroUsize::MIN,
        retry_after: Duration::from_secs(3),
        ..ServerOptions::default()
    };
    let router = serving_with(Toy { gate: Some(gate), ..Toy::saying("x") }, options);
    let request = chat(&json!({ "stream": true }));
    let running = post(&router, &request).await;
    keeper.entered.recv().await.unwrap();
    let waiting = post(&router, &request).await;
    let refused = post(&router, &request).await;
    assert_eq!([&running, &waiting, &refused].map(|sent| sent.status().as_u16()), [200, 200, 503]);
    assert_eq!(refused.headers()["retry-after"], "3");
    assert_eq!(read(refused).await["error"]["type"], "server_error");
    drop(keeper.permits);
    for response in [running, waiting] {
        assert!(text(response).await.ends_with("data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_generation() {
    let (gate, mut keeper) = gate();
    let babble = vec![Step::Babble; MAX_TOKENS];
    let adapted = vec![Step::Say(tokens("x")[0])];
    let router = serving(Toy { script: babble, adapted, gate: Some(gate) });
    let response = post(&router, &chat(&json!({ "stream": true }))).await;
    let queued = post(&router, &chat(&json!({ "stream": true }))).await;
    let mut frames = response.into_body().into_data_stream();
    for _ in 0..3 {
        keeper.entered.recv().await.unwrap();
        keeper.permits.send(()).unwrap();
        frames.next().await.unwrap().unwrap();
    }
    // The engine is blocked in the fourth step when both clients disconnect.
    keeper.entered.recv().await.unwrap();
    drop((frames, queued));
    drop(keeper.permits);
    let answer = read(post(&router, &chat(&json!({ "model": "toy/app" }))).await).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "x");
    // No further step for the disconnected clients: one for the letter and one for the end token of the last request.
    assert_eq!(keeper.entered.len(), 2);
}

#[tokio::test]
async fn shutting_down_finishes_what_is_running() {
    let (gate, mut keeper) = gate();
    let toy = Toy { gate: Some(gate), ..Toy::saying("well done") };
    let server = Server::new("toy", toy, tokenizer(), ServerOptions::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(listener, async { stopped.await.unwrap() }));

    let body = chat(&json!({})).to_string();
    let mut client = TcpStream::connect(address).await.unwrap();
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ";
    client.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    keeper.entered.recv().await.unwrap();
    stop.send(()).unwrap();
    drop(keeper.permits);
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("well done"), "{response}");
    serving.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the server still listens");
}

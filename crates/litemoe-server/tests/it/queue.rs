use std::num::NonZeroUsize;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use litemoe_server::ServerOptions;
use serde_json::json;
use tokio::io::AsyncWriteExt;
#[cfg(target_os = "linux")]
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{chat, post, read, serving, serving_with, text};
use crate::listening::{self, Listening, rest, status, until};
use crate::toy::{MAX_TOKENS, Step, Toy, gate, tokens};

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
    let server = Listening::of(toy, ServerOptions::default()).await;
    let address = server.address;
    let mut client = server.connect().await;
    client.write_all(listening::post(&chat(&json!({})), "").as_bytes()).await.unwrap();
    keeper.entered.recv().await.unwrap();
    let mut stopping = Box::pin(server.stop());
    assert!((&mut stopping).now_or_never().is_none());
    drop(keeper.permits);
    let answer = rest(&mut client).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.contains("well done"), "{answer}");
    stopping.await;
    assert!(TcpStream::connect(address).await.is_err(), "the server still listens");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_frees_its_place() {
    let (gate, mut keeper) = gate();
    let toy = Toy { gate: Some(gate), ..Toy::saying("x") };
    let options = ServerOptions { max_queued: NonZeroUsize::MIN, ..ServerOptions::default() };
    let server = Listening::of(toy, options).await;
    let request = listening::post(&chat(&json!({ "stream": true })), "");
    let ask = async || {
        let mut client = server.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let head = until(&mut client, "\r\n\r\n").await;
        (client, status(&head))
    };
    let (_running, _) = ask().await;
    keeper.entered.recv().await.unwrap();
    let (waiting, waits) = ask().await;
    assert_eq!([waits, ask().await.1], [200, 503]);
    drop(waiting);
    let again = async { while ask().await.1 != 200 {} };
    timeout(Duration::from_secs(60), again).await.expect("the place is free");
}

#[cfg(target_os = "linux")] // other systems have one loopback address
#[tokio::test]
async fn clients_take_turns() {
    let (gate, mut keeper) = gate();
    let toy = Toy { gate: Some(gate), ..Toy::saying("x") };
    let options = ServerOptions { max_batch: NonZeroUsize::MIN, ..ServerOptions::default() };
    let server = Listening::of(toy, options).await;
    let request = listening::post(&chat(&json!({ "stream": true })), "");
    let ask = async |host: u8| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, host], 0).into()).unwrap();
        let mut client = socket.connect(server.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        until(&mut client, "\r\n\r\n").await;
        client
    };
    let first = ask(1).await;
    keeper.entered.recv().await.unwrap();
    let (second, third, other) = (ask(1).await, ask(1).await, ask(2).await);
    // Steps until each is answered: the prompt and the letter, then the end. In the second step runs the other client's
    // prompt too, in the third that of the second request.
    for (name, mut client, n_steps) in
        [("first", first, 2), ("other", other, 1), ("second", second, 1), ("third", third, 2)]
    {
        (0..n_steps).for_each(|_| keeper.permits.send(()).unwrap());
        let answer = timeout(Duration::from_secs(60), rest(&mut client)).await.expect(name);
        assert!(answer.contains("[DONE]"), "{name}: {answer}");
    }
}

use std::time::Duration;

use futures::StreamExt;
use litemoe_server::ServerOptions;
use serde_json::{Value, json};

use crate::client::{chat, chunks, content, post, serving, serving_with};
use crate::toy::{Step, Toy, gate, tokens};

const TEXT: &str = "Größe 🙂: on\n\noff";

fn texts(chunks: &[Value]) -> String {
    let text = |chunk: &Value| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
    chunks.iter().filter_map(text).collect()
}

#[tokio::test]
async fn a_stream_is_role_pieces_and_reason() {
    let chunks = chunks(&serving(Toy::saying(TEXT)), &json!({ "stream": true })).await;
    let delta = |index: usize| &chunks[index]["choices"][0]["delta"];
    assert_eq!(delta(0), &json!({ "role": "assistant", "content": "" }));
    assert_eq!(delta(chunks.len() - 1), &json!({}));
    assert!(chunks.len() > 5, "{} chunks", chunks.len());
    assert_eq!(texts(&chunks), TEXT);
    for (index, chunk) in chunks.iter().enumerate() {
        let reason = if index + 1 == chunks.len() { json!("stop") } else { Value::Null };
        assert_eq!(chunk["choices"][0]["finish_reason"], reason);
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!((&chunk["id"], &chunk["model"]), (&chunks[0]["id"], &json!("toy")));
        assert!(chunk.get("usage").is_none());
    }
}

#[tokio::test]
async fn the_usage_comes_last_when_asked_for() {
    let fields = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let chunks = chunks(&serving(Toy::saying(TEXT)), &fields).await;
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], tokens(TEXT).len() + 1);
    assert!(before.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
}

#[tokio::test]
async fn a_stream_says_what_a_whole_answer_says() {
    let router = serving(Toy::doing(vec![Step::Babble; 30]));
    for mut fields in [
        json!({ "temperature": 1, "seed": 1 }),
        json!({ "temperature": 1, "seed": 2, "stop": ["a", "Q", "e"] }),
        json!({ "temperature": 1, "seed": 3, "max_tokens": 7 }),
    ] {
        let whole = content(&router, &fields).await;
        fields["stream"] = true.into();
        assert_eq!(texts(&chunks(&router, &fields).await), whole);
    }
}

#[tokio::test]
async fn a_stop_string_across_tokens_is_never_sent() {
    assert!(tokens(TEXT).len() > tokens("Größe 🙂").len() + 2);
    let fields = json!({ "stream": true, "stop": " 🙂: on\n" });
    let chunks = chunks(&serving(Toy::saying(TEXT)), &fields).await;
    assert_eq!(texts(&chunks), "Größe");
}

#[tokio::test]
async fn an_error_amid_a_stream_is_an_event() {
    let say = Step::Say(tokens("x")[0]);
    let chunks =
        chunks(&serving(Toy::doing(vec![say, say, Step::Panic])), &json!({ "stream": true })).await;
    assert_eq!(texts(&chunks), "xx");
    assert_eq!(chunks.last().unwrap()["error"]["type"], "server_error");
    let chunks =
        self::chunks(&serving(Toy::doing(vec![say, Step::Nan])), &json!({ "stream": true })).await;
    assert_eq!(texts(&chunks), "x");
    assert_eq!(chunks.last().unwrap()["error"]["code"], "logits_not_finite");
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_pings() {
    let (gate, keeper) = gate();
    let toy = Toy { gate: Some(gate), ..Toy::saying("x") };
    let options = ServerOptions { keep_alive: Duration::from_secs(5), ..ServerOptions::default() };
    let response = post(&serving_with(toy, options), &chat(&json!({ "stream": true }))).await;
    let mut frames = response.into_body().into_data_stream();
    let mut next =
        async || String::from_utf8(frames.next().await.unwrap().unwrap().into()).unwrap();
    assert!(next().await.starts_with("data: {"));
    assert_eq!(next().await, ": ping\n\n");
    assert_eq!(next().await, ": ping\n\n");
    drop(keeper);
}

//! Adapters that apps send, replace and remove.

use axum::body::Body;
use axum::http::{Request, Response};
use litemoe_registry::{Owner, check};
use litemoe_server::ServerOptions;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::client::{get, read};
use crate::shop::{Shop, app};
use crate::toy::{Step, Toy, tokens};

const BOUNDARY: &str = "7MA4YWxkTrZu0gW";

/// A toy that says `x`, and with an adapter `y`.
fn toy() -> Toy {
    Toy { adapted: vec![Step::Say(tokens("y")[0])], ..Toy::saying("x") }
}

/// A form with files.
fn form(files: &[(&str, &str)]) -> String {
    let part = |(name, content): &(&str, &str)| {
        format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n\
             {content}\r\n"
        )
    };
    format!("{}--{BOUNDARY}--\r\n", files.iter().map(part).collect::<String>())
}

async fn put(
    shop: &Shop,
    key: &str,
    name: &str,
    replaces: Option<&str>,
    body: String,
) -> Response<Body> {
    let request = Request::put(format!("/v1/adapters/{name}"))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
    let request = match replaces {
        Some(tag) => request.header("if-match", format!("\"{tag}\"")),
        None => request,
    };
    shop.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
}

async fn error(response: Response<Body>, status: u16) -> Value {
    assert_eq!(response.status(), status);
    read(response).await["error"].clone()
}

/// Nothing but what the database refers to is in the registry.
fn is_clean(shop: &Shop) {
    let findings = check(shop.registry.dir()).unwrap().findings;
    assert!(findings.is_empty(), "{findings:?}");
    let names = std::fs::read_dir(shop.registry.dir()).unwrap().map(|it| it.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with("registry.db"));
    assert_eq!(names, ["files"]);
}

#[tokio::test]
async fn an_adapter_is_served_from_the_moment_it_is_sent() {
    let shop = Shop::of(toy());
    let key = shop.add("home");
    let files = form(&[("adapter_config.json", "{}"), ("adapter_model.safetensors", "1234")]);
    let sent = put(&shop, &key, "mine", None, files.clone()).await;
    assert_eq!(sent.status(), 201);
    let header = sent.headers()["etag"].clone();
    let first = read(sent).await;
    let tag = first["tag"].as_str().unwrap();
    assert_eq!(header, format!("\"{tag}\""));
    assert_eq!((&first["id"], &first["owner"]), (&json!("mine"), &json!("home")));
    assert_eq!(first["files"][1]["bytes"], 4);
    assert_eq!(shop.content(&key, "mine").await, "y");

    let taken = error(put(&shop, &key, "mine", None, files.clone()).await, 409).await;
    assert_eq!(taken["code"], "adapter_exists");
    for (name, tag) in [("mine", "0f"), ("other", tag)] {
        let refused = put(&shop, &key, name, Some(tag), files.clone()).await;
        assert_eq!(error(refused, 412).await["code"], "other_content");
    }
    let second = put(&shop, &key, "mine", Some(tag), files.clone()).await;
    assert_eq!(second.status(), 200);
    let second = read(second).await["tag"].clone();
    assert_ne!(second, tag);
    assert_eq!(put(&shop, &key, "mine", Some(tag), files).await.status(), 412);

    let list = read(shop.get("/v1/adapters", &key).await).await;
    assert_eq!(list["data"][0], read(shop.get("/v1/adapters/mine", &key).await).await);
    assert_eq!(list["data"][0]["tag"], second);
    let removed = read(shop.send("DELETE", "/v1/adapters/mine", &key, "").await).await;
    assert_eq!(removed, json!({ "id": "mine", "object": "adapter", "deleted": true }));
    for path in ["/v1/adapters/mine", "/v1/models/mine"] {
        assert_eq!(shop.send("DELETE", path, &key, "").await.status(), 404);
        assert_eq!(shop.get(path, &key).await.status(), 404);
    }
    assert_eq!(shop.post(&key, &json!({ "model": "mine" })).await.status(), 404);
    is_clean(&shop);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let options = ServerOptions { max_upload: 100, ..ServerOptions::default() };
    let shop = Shop::with(toy(), options);
    let key = shop.add("home");
    let many: Vec<_> = (0..17).map(|n| (n.to_string(), "")).collect();
    let many: Vec<_> = many.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    let whole = form(&[("a", "1234")]);
    for (body, status, code) in [
        (form(&[("bad", "")]), 400, "invalid_adapter"),
        (form(&[("../a", "")]), 400, "invalid_value"),
        (form(&[("a/b", "")]), 400, "invalid_value"),
        (form(&[("", "")]), 400, "invalid_value"),
        (form(&[("a", "1"), ("a", "2")]), 400, "invalid_value"),
        (form(&[]), 400, "invalid_value"),
        (form(&many), 400, "invalid_value"),
        (form(&[("a", &"1".repeat(60)), ("b", &"1".repeat(60))]), 413, "request_too_large"),
        (whole[..whole.len() - 10].to_owned(), 400, "invalid_body"),
        ("{}".to_owned(), 400, "invalid_body"),
    ] {
        let refused = error(put(&shop, &key, "mine", None, body.clone()).await, status).await;
        assert_eq!(refused["code"], code, "{body}: {refused}");
    }
    let reason = error(put(&shop, &key, "mine", None, form(&[("bad", "")])).await, 400).await;
    assert_eq!(reason["message"], "the adapter `mine` is refused: it has a bad file");
    for name in ["toy", "Mine", "-", "a%2Fb", "%2e%2e"] {
        let refused = put(&shop, &key, name, None, whole.clone()).await;
        assert!(matches!(refused.status().as_u16(), 400 | 404), "{name}: {}", refused.status());
    }
    let plain = shop.send("PUT", "/v1/adapters/mine", &key, "{}").await;
    assert_eq!(error(plain, 400).await["code"], "invalid_body");
    assert_eq!(shop.models(&key).await, ["toy", "fixed"]);
    is_clean(&shop);
}

#[tokio::test]
async fn a_request_keeps_the_adapter_that_it_began_with() {
    let (gate, mut keeper) = crate::toy::gate();
    let shop = Shop::of(Toy { gate: Some(gate), ..toy() });
    let key = shop.add("home");
    let first = shop.put(Some("home"), "mine", "a", None);
    let running = shop.post(&key, &json!({ "model": "mine", "stream": true })).await;
    keeper.entered.recv().await.unwrap();
    let owner = Owner::App(app("home"));
    shop.registry.remove_adapter(&owner, &first.name, None).unwrap();
    assert_eq!(shop.post(&key, &json!({ "model": "mine" })).await.status(), 404);
    drop(keeper.permits);
    assert!(crate::client::text(running).await.contains("\"y\""));
}

#[tokio::test]
async fn adapters_need_an_app() {
    let shop = Shop::of(toy());
    shop.put(None, "shared", "a", None);
    for path in ["/v1/adapters", "/v1/adapters/shared"] {
        let refused = error(get(&shop.router, path).await, 403).await;
        assert_eq!(refused["code"], "app_required");
    }
    let (key, other) = (shop.add("home"), shop.add("other"));
    // A shared one is not an app's to remove, nor another app's.
    shop.put(Some("other"), "mine", "a", None);
    assert_eq!(shop.get("/v1/adapters/shared", &key).await.status(), 200);
    for path in ["/v1/adapters/shared", "/v1/models/shared", "/v1/adapters/mine"] {
        assert_eq!(shop.send("DELETE", path, &key, "").await.status(), 404);
    }
    assert_eq!(shop.models(&other).await, ["toy", "fixed", "mine", "shared"]);
}

#[tokio::test]
async fn a_form_that_has_no_part_is_refused_when_it_is_too_long() {
    let shop = Shop::of(toy());
    let key = shop.add("home");
    // Neither a boundary nor the end of a part's header.
    let header = format!("--{BOUNDARY}\r\ncontent-disposition: ");
    for begin in ["", &header] {
        let n_chunks = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = n_chunks.clone();
        let chunks = (0..1000).map(move |_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok::<_, std::io::Error>(axum::body::Bytes::from(vec![b'a'; 16 << 10]))
        });
        let begin = Ok(axum::body::Bytes::from(begin.to_owned()));
        let body = Body::from_stream(futures::stream::iter(std::iter::once(begin).chain(chunks)));
        let request = Request::put("/v1/adapters/mine")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
        let request = request.body(body).unwrap();
        let refused = shop.router.clone().oneshot(request).await.unwrap();
        assert_eq!(error(refused, 400).await["code"], "invalid_body");
        assert!(n_chunks.load(std::sync::atomic::Ordering::SeqCst) < 40, "{n_chunks:?}");
    }
    is_clean(&shop);
}

#[tokio::test]
async fn slow_uploads_of_one_app_keep_no_other_waiting() {
    let shop = Shop::of(toy());
    let (key, other) = (shop.add("home"), shop.add("other"));
    let mut slow = Vec::new();
    for _ in 0..3 {
        let (sender, frames) =
            futures::channel::mpsc::channel::<Result<axum::body::Bytes, std::io::Error>>(1);
        let request = Request::put("/v1/adapters/mine")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
        let request = request.body(Body::from_stream(frames)).unwrap();
        let mut sent = Box::pin(shop.router.clone().oneshot(request));
        for _ in 0..50 {
            if futures::FutureExt::now_or_never(&mut sent).is_some() {
                panic!("the form has not ended");
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        slow.push((sent, sender));
    }
    // The third is one too many, which it learns when its body has come.
    let (third, sender) = slow.pop().unwrap();
    drop(sender);
    let refused = third.await.unwrap();
    assert_eq!(error(refused, 429).await["type"], "concurrency");
    let files = form(&[("a", "1")]);
    assert_eq!(put(&shop, &other, "mine", None, files.clone()).await.status(), 201);
    drop(slow);
    assert_eq!(put(&shop, &key, "mine", None, files).await.status(), 201);
}

#[tokio::test]
async fn a_replaced_adapter_leaves_memory_with_its_prefixes() {
    let options = ServerOptions {
        metrics: true,
        metrics_token: Some(litemoe_server::Secret::new("operators")),
        max_adapters: 1.try_into().unwrap(),
        ..ServerOptions::default()
    };
    let shop = Shop::with(toy(), options);
    let key = shop.add("home");
    let first = shop.put(Some("home"), "mine", "a", None);
    let cached = async || {
        let metrics = crate::client::text(shop.get("/metrics", "operators").await).await;
        let line = metrics.lines().find(|line| line.starts_with("litemoe_prefix_cache_bytes "));
        line.unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    let long =
        json!({ "model": "mine", "messages": [{ "role": "user", "content": "7".repeat(40) }] });
    shop.answer(&key, &long).await;
    shop.content(&key, "mine").await;
    assert!(cached().await > 0);
    shop.put(Some("home"), "mine", "b", Some(first.generation));
    // Of the new content, too short to be kept; then its step is over.
    for _ in 0..2 {
        shop.content(&key, "mine").await;
    }
    assert_eq!(cached().await, 0);
}

#[tokio::test]
async fn loads_that_nobody_waits_for_go_on_and_are_done_once() {
    let shop = Shop::of(toy());
    let key = shop.add("home");
    shop.put(Some("home"), "mine", "slow", None);
    for _ in 0..5 {
        let mut asked = Box::pin(shop.content(&key, "mine"));
        for _ in 0..5 {
            assert!(futures::FutureExt::now_or_never(&mut asked).is_none());
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
    assert_eq!(shop.content(&key, "mine").await, "y");
    assert_eq!(shop.n_loads.load(std::sync::atomic::Ordering::SeqCst), 1);
    // Names are checked without a load.
    shop.put(Some("home"), "other", "slow", None);
    let body = json!({ "model": "other", "tokens": [40] }).to_string();
    assert_eq!(shop.send("POST", "/detokenize", &key, body).await.status(), 200);
    assert_eq!(shop.n_loads.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn ids_that_are_no_text_are_refused_as_json() {
    let shop = Shop::of(toy());
    let key = shop.add("home");
    for path in ["/v1/models/%ff", "/v1/adapters/%ff"] {
        assert_eq!(error(shop.get(path, &key).await, 400).await["code"], "invalid_value");
    }
}

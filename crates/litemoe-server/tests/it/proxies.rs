//! Scores that apps send for a proxy, and the adapters that they tune on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use litemoe_core::{
    ExpertScores, Fingerprint, LayerId, LayerSums, MoeLayer, SCORES_VERSION, ScoreOrigin,
};
use litemoe_registry::{Settings, check};
use litemoe_server::{
    Cancelled, MountRequest, MountedProvenance, Proxies, ProxyError, ProxyRequest, ServerOptions,
};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::client::read;
use crate::shop::{FOUNDATION, Shop};
use crate::toy::{Step, Toy, tokens};

/// Seeds of scores with which something else happens.
const REFUSED: u64 = 1;
const FAILING: u64 = 2;
const SLOW: u64 = 3;

/// Writes what it is given, and counts how much of it began and was cancelled.
#[derive(Clone, Default)]
struct ToyProxies {
    n_begun: Arc<AtomicUsize>,
    n_running: Arc<AtomicUsize>,
    n_cancelled: Arc<AtomicUsize>,
}

impl Proxies for ToyProxies {
    fn extract(&self, request: &ProxyRequest<'_>, cancelled: &Cancelled) -> Result<(), ProxyError> {
        self.n_begun.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.n_running.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
        let scores: Value = serde_json::from_slice(&fs::read(request.scores).unwrap()).unwrap();
        let seed = scores["seed"].as_u64().unwrap();
        while seed == SLOW && !cancelled.is_set() {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.n_running.fetch_sub(1, Ordering::SeqCst);
        match seed {
            REFUSED => return Err(ProxyError::Refused("it is too small".to_owned())),
            FAILING => return Err(ProxyError::Failed),
            SLOW => {
                self.n_cancelled.fetch_add(1, Ordering::SeqCst);
                return Err(ProxyError::Cancelled);
            }
            _ => {}
        }
        let asked = format!("{:?} {:?}", request.budget, request.score);
        fs::write(request.plan, asked).unwrap();
        fs::create_dir(request.proxy).unwrap();
        fs::write(request.proxy.join("config.json"), "{}").unwrap();
        fs::write(request.proxy.join("model.safetensors"), vec![7; 100_000]).unwrap();
        Ok(())
    }

    fn mount(
        &self,
        request: &MountRequest<'_>,
        _: &Cancelled,
    ) -> Result<MountedProvenance, ProxyError> {
        let text = |path| String::from_utf8(fs::read(path).unwrap()).unwrap();
        let plan = text(request.plan);
        if plan == "other" {
            return Err(ProxyError::Refused("it was tuned on another proxy".to_owned()));
        }
        fs::create_dir(request.out).unwrap();
        for entry in fs::read_dir(request.adapter).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), request.out.join(entry.file_name())).unwrap();
        }
        fs::write(request.out.join("litemoe.json"), &plan).unwrap();
        let rows = request.validation.map(text);
        Ok(MountedProvenance { plan: Some(plan), metrics: json!({ "rows": rows }) })
    }
}

/// A toy that says `x`, and with an adapter `y`.
fn toy() -> Toy {
    Toy { adapted: vec![Step::Say(tokens("y")[0])], ..Toy::saying("x") }
}

fn shop() -> (Shop, ToyProxies) {
    let proxies = ToyProxies::default();
    (Shop::with_proxies(toy(), ServerOptions::default(), proxies.clone()), proxies)
}

fn scores(foundation: &str, seed: u64) -> ExpertScores {
    let layer = MoeLayer {
        id: LayerId::decoder(0),
        n_experts: 2,
        top_k: 1,
        groups: None,
        d_model: 4,
        d_expert: 4,
        expert_bytes: 192,
    };
    ExpertScores {
        version: SCORES_VERSION,
        program: "0".into(),
        fingerprint: Fingerprint::new(foundation),
        model: "toy".into(),
        family: "toy".into(),
        origin: ScoreOrigin::Predicted,
        shards: Vec::new(),
        input_sha256: "d".into(),
        batch: 1,
        batch_tokens: 1,
        seed,
        kappa: 0.2,
        privacy: None,
        layers: BTreeMap::from([(layer.id, LayerSums::empty(&layer, &[]))]),
    }
}

fn body(seed: u64) -> String {
    serde_json::to_string(&scores(FOUNDATION, seed)).unwrap()
}

async fn extract(shop: &Shop, key: &str, query: &str, body: impl Into<Body>) -> Response<Body> {
    shop.send("POST", &format!("/v1/apps/me/scores{query}"), key, body).await
}

/// Files of an archive.
async fn files(response: Response<Body>) -> Vec<(String, Vec<u8>)> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-tar");
    let promised: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert_eq!(bytes.len(), promised);
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let found = archive.entries().unwrap().map(|entry| {
        let (mut entry, mut content) = (entry.unwrap(), Vec::new());
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    });
    found.collect()
}

async fn error(response: Response<Body>, status: u16) -> Value {
    assert_eq!(response.status(), status);
    read(response).await["error"].clone()
}

/// Waits until nothing but what the database refers to is in the registry.
async fn is_clean(shop: &Shop) {
    let is_clean = || {
        let names = fs::read_dir(shop.registry.dir()).unwrap();
        let names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut others = names.filter(|name| !name.starts_with("registry.db") && name != "files");
        others.next().is_none()
    };
    while !is_clean() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let findings = check(shop.registry.dir()).unwrap().findings;
    assert!(findings.is_empty(), "{findings:?}");
}

#[tokio::test]
async fn scores_give_a_plan_and_a_proxy() {
    let (shop, _) = shop();
    let key = shop.add("home");
    let found = files(extract(&shop, &key, "", body(0)).await).await;
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["plan.json", "proxy/config.json", "proxy/model.safetensors"]);
    assert_eq!((&found[0].1[..], &found[1].1[..]), (&b"None None"[..], &b"{}"[..]));
    assert_eq!(found[2].1, vec![7; 100_000]);
    let found = files(extract(&shop, &key, "?budget=0.25&score=reap", body(0)).await).await;
    assert_eq!(found[0].1, b"Some(Share(0.25)) Some(Reap)");
    is_clean(&shop).await;
}

#[tokio::test]
async fn scores_may_be_larger_than_other_bodies() {
    let (shop, _) = shop();
    let key = shop.add("home");
    let long = body(0) + &" ".repeat(2 * ServerOptions::default().limits.max_body);
    assert_eq!(files(extract(&shop, &key, "", long).await).await.len(), 3);
    let long = " ".repeat(ServerOptions::default().limits.max_body + 1);
    assert_eq!(shop.send("POST", "/v1/chat/completions", &key, long).await.status(), 413);
}

#[tokio::test]
async fn wrong_scores_are_refused_before_anything_is_made() {
    let (shop, proxies) = shop();
    let key = shop.add("home");
    let other = serde_json::to_string(&scores("cafe", 0)).unwrap();
    let refusal = error(extract(&shop, &key, "", other).await, 400).await;
    assert_eq!(refusal["code"], "invalid_scores");
    let message = "the scores are of the model cafe, but the foundation is f00d";
    assert_eq!(refusal["message"], message);
    let overflown =
        body(0).replacen("\"gate\":[[0.0,0.0]]", "\"gate\":[[1e308,1e308],[1e308,1e308]]", 1);
    assert_ne!(overflown, body(0));
    for wrong in
        ["", "{}", "[]", "\u{1}", &overflown, &body(0).replace("\"version\":2", "\"version\":1")]
    {
        let refusal = error(extract(&shop, &key, "", wrong.to_owned()).await, 400).await;
        assert_eq!(refusal["code"], "invalid_scores", "{wrong}");
    }
    for (query, param) in [
        ("?budget=2", "budget"),
        ("?budget=", "budget"),
        ("?score=best", "score"),
        ("?merge=none", "merge"),
        ("?score=task&score=task", "score"),
    ] {
        let refusal = error(extract(&shop, &key, query, body(0)).await, 400).await;
        assert_eq!(refusal["param"], param, "{query}");
    }
    // What an app may have in memory.
    let long = vec![b' '; ServerOptions::default().max_in_flight / 4 + 1];
    assert_eq!(extract(&shop, &key, "", long).await.status(), 413);
    assert_eq!(proxies.n_begun.load(Ordering::SeqCst), 0);
    let refusal = error(extract(&shop, &key, "", body(REFUSED)).await, 400).await;
    assert_eq!(
        (&refusal["code"], &refusal["message"]),
        (&json!("invalid_scores"), &json!("it is too small"))
    );
    assert_eq!(extract(&shop, &key, "", body(FAILING)).await.status(), 500);
    is_clean(&shop).await;
}

#[tokio::test]
async fn an_app_waits_for_others_but_not_for_itself_and_leaves_when_it_likes() {
    let (shop, proxies) = shop();
    let (one, other) = (shop.add("one"), shop.add("other"));
    let slow = {
        let (router, key) = (shop.router.clone(), one.clone());
        tokio::spawn(async move {
            let request = Request::post("/v1/apps/me/scores")
                .header("authorization", format!("Bearer {key}"))
                .body(Body::from(body(SLOW)));
            router.oneshot(request.unwrap()).await.unwrap()
        })
    };
    while proxies.n_begun.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let refused = extract(&shop, &one, "", body(0)).await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(error(refused, 429).await["message"], "the app's limit is 1 requests at once");
    // The other app's turn comes when the first has left.
    let answered = tokio::join!(extract(&shop, &other, "", body(0)), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(proxies.n_begun.load(Ordering::SeqCst), 1);
        slow.abort();
    });
    assert_eq!(files(answered.0).await.len(), 3);
    assert_eq!(proxies.n_cancelled.load(Ordering::SeqCst), 1);
    assert_eq!(files(extract(&shop, &one, "", body(0)).await).await.len(), 3);
    is_clean(&shop).await;
}

#[tokio::test]
async fn an_archive_that_is_not_read_keeps_its_app_from_asking_for_another() {
    let (shop, _) = shop();
    let (one, other) = (shop.add("one"), shop.add("other"));
    let unread = extract(&shop, &one, "", body(0)).await;
    assert_eq!(unread.status(), 200);
    assert_eq!(extract(&shop, &one, "", body(0)).await.status(), 429);
    assert_eq!(files(extract(&shop, &other, "", body(0)).await).await.len(), 3);
    drop(unread);
    assert_eq!(files(extract(&shop, &one, "", body(0)).await).await.len(), 3);
    is_clean(&shop).await;
}

#[tokio::test]
async fn services_without_proxies_or_without_keys_say_so() {
    let without = Shop::of(toy());
    let key = without.add("home");
    let refusal = error(extract(&without, &key, "", body(0)).await, 403).await;
    assert_eq!(refusal["message"], "this service makes no proxies");
    let (open, _) = shop();
    let refusal = error(extract(&open, "sk-anything", "", body(0)).await, 403).await;
    assert_eq!(refusal["code"], "app_required");
    open.add("home");
    assert_eq!(extract(&open, "sk-anything", "", body(0)).await.status(), 401);
}

#[tokio::test]
async fn an_app_that_may_not_use_the_foundation_gets_no_weights_of_it_and_requests_count() {
    let (shop, proxies) = shop();
    let nothing = Settings { models: "other".parse().unwrap(), ..Settings::default() };
    let key = shop.add_with("nothing", &nothing);
    let refusal = error(extract(&shop, &key, "", body(0)).await, 404).await;
    assert_eq!(refusal["message"], "the model `toy` does not exist");
    let once = Settings { requests_per_minute: NonZeroU32::new(1), ..Settings::default() };
    let key = shop.add_with("once", &once);
    assert_eq!(files(extract(&shop, &key, "", body(0)).await).await.len(), 3);
    assert_eq!(extract(&shop, &key, "", body(0)).await.status(), 429);
    assert_eq!(proxies.n_begun.load(Ordering::SeqCst), 1);
}

/// A form of fields, each with a file name.
fn form(fields: &[(&str, &str, &str)]) -> String {
    let part = |(field, name, content): &(&str, &str, &str)| {
        format!(
            "--B\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\r\n{content}\r\n"
        )
    };
    format!("{}--B--\r\n", fields.iter().map(part).collect::<String>())
}

async fn put(shop: &Shop, key: &str, fields: &[(&str, &str, &str)]) -> Response<Body> {
    let request = Request::put("/v1/adapters/mine")
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "multipart/form-data; boundary=B")
        .body(Body::from(form(fields)));
    shop.router.clone().oneshot(request.unwrap()).await.unwrap()
}

const CONFIG: (&str, &str, &str) = ("config", "adapter_config.json", "{}");

#[tokio::test]
async fn an_adapter_with_a_plan_is_mounted_before_it_is_stored() {
    let (shop, _) = shop();
    let key = shop.add("home");
    let fields = [CONFIG, ("plan", "p.json", "abc"), ("validation", "v.jsonl", "rows")];
    let sent = put(&shop, &key, &fields).await;
    assert_eq!(sent.status(), 201);
    let card = read(sent).await;
    assert_eq!((&card["plan"], &card["metrics"]), (&json!("abc"), &json!({ "rows": "rows" })));
    let names: Vec<_> =
        card["files"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["adapter_config.json", "litemoe.json"]);
    assert_eq!(shop.content(&key, "mine").await, "y");
    is_clean(&shop).await;
}

#[tokio::test]
async fn an_adapter_that_there_is_no_room_for_is_refused_before_it_is_mounted() {
    let (shop, _) = shop();
    let small = Settings { storage_bytes: Some(10), ..Settings::default() };
    let key = shop.add_with("home", &small);
    let long = ("weights", "weights", "12345678901");
    // The toy would refuse this plan.
    let refused = put(&shop, &key, &[long, ("plan", "plan.json", "other")]).await;
    let refusal = error(refused, 403).await;
    assert_eq!(refusal["code"], "storage_limit_reached");
    // With the plan that the toy adds to it.
    let sent = put(&shop, &key, &[CONFIG, ("plan", "plan.json", "12345678")]).await;
    assert_eq!(sent.status(), 201);
    let refused = put(&shop, &key, &[CONFIG, ("plan", "plan.json", "abc")]).await;
    assert_eq!(refused.status(), 409);
    is_clean(&shop).await;
}

#[tokio::test]
async fn an_adapter_that_cannot_be_mounted_is_not_stored() {
    let (shop, _) = shop();
    let key = shop.add("home");
    for (fields, code) in [
        (vec![CONFIG, ("plan", "plan.json", "other")], "invalid_adapter"),
        (vec![CONFIG, ("validation", "v.jsonl", "rows")], "missing_required_parameter"),
        (vec![("plan", "plan.json", "abc")], "invalid_value"),
        (vec![CONFIG, ("plan", "a", "abc"), ("plan", "b", "abc")], "invalid_value"),
        (vec![("bad", "bad", ""), ("plan", "plan.json", "abc")], "invalid_adapter"),
    ] {
        let refusal = error(put(&shop, &key, &fields).await, 400).await;
        assert_eq!(refusal["code"], code, "{fields:?}");
    }
    assert_eq!(shop.models(&key).await, ["toy", "fixed"]);
    let without = Shop::of(toy());
    let key = without.add("home");
    let refused = put(&without, &key, &[CONFIG, ("plan", "plan.json", "abc")]).await;
    assert_eq!(error(refused, 403).await["message"], "this service makes no proxies");
    is_clean(&shop).await;
    is_clean(&without).await;
}

//! Attempts of an app to name, list, change, count or time what another app has: each is answered as if the other did not
//! exist.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, Response};
use litemoe_registry::{Allowed, Owner, Settings, Usage};
use litemoe_server::{Secret, ServerOptions};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::client::{read, text};
use crate::shop::{Shop, app};
use crate::toy::{Step, Toy, tokens};

/// Name of the victim's adapter, and of none, of equal lengths.
const THEIRS: &str = "diary-notes";
const NOBODYS: &str = "nobodys-one";

/// What the victim asked; no log, error or metric repeats it.
const PROMPT: &str =
    "the secret garden behind the old house of my aunt, where nobody has been since the war";

struct Scene {
    shop: Shop,
    /// Key of the app that tries.
    key: String,
    /// Key of the app that has something.
    victim: String,
}

/// One request of the app that tries.
struct Attempt {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Scene {
    async fn new() -> Self {
        let toy = Toy { adapted: vec![Step::Say(tokens("y")[0])], ..Toy::saying("x") };
        let options = ServerOptions {
            metrics: true,
            metrics_token: Some(Secret::new("operators")),
            ..ServerOptions::default()
        };
        let shop = Shop::with(toy, options);
        let (key, victim) = (shop.add("intruder"), shop.add("victim"));
        shop.put(Some("victim"), THEIRS, "a", None);
        let message = json!({ "role": "user", "content": PROMPT });
        let fields = json!({ "model": THEIRS, "messages": [message] });
        assert_eq!(shop.post(&victim, &fields).await.status(), 200);
        Self { shop, key, victim }
    }

    async fn send(&self, attempt: &Attempt) -> Response<Body> {
        let mut request = Request::builder().method(attempt.method).uri(&attempt.path);
        request = request.header("authorization", format!("Bearer {}", self.key));
        for (name, value) in &attempt.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::from(attempt.body.clone())).unwrap();
        self.shop.router.clone().oneshot(request).await.unwrap()
    }

    /// Status, headers and body of the answer to an attempt, without what is random.
    async fn answer(&self, attempt: &Attempt) -> (u16, Vec<(String, String)>, String) {
        let response = self.send(attempt).await;
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers =
            headers.filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()));
        let value = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
        let mut headers: Vec<_> = headers.map(|(name, of)| (name.to_string(), value(of))).collect();
        headers.sort();
        (status, headers, text(response).await)
    }

    /// Everything that the victim sees of its own.
    async fn of_victim(&self) -> (Vec<String>, Value, Usage) {
        let adapters = read(self.shop.get("/v1/adapters", &self.victim).await).await;
        (self.shop.models(&self.victim).await, adapters, self.shop.usage("victim", 1).await)
    }
}

/// A multipart form with one file.
fn form() -> (Vec<(&'static str, String)>, String) {
    let headers = vec![("content-type", "multipart/form-data; boundary=B".to_owned())];
    let part = "content-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n1\r\n";
    (headers, format!("--B\r\n{part}--B--\r\n"))
}

/// Attempts to use a name, each in ways that a careless server would take for the owner's.
fn attempts(name: &str) -> Vec<Attempt> {
    let plain =
        |method, path: String| Attempt { method, path, headers: vec![], body: String::new() };
    let post = |path: &str, body: Value| Attempt {
        method: "POST",
        path: path.to_owned(),
        headers: vec![],
        body: body.to_string(),
    };
    let message = json!([{ "role": "user", "content": "hi" }]);
    let chat = |model: String| {
        post("/v1/chat/completions", json!({ "model": model, "messages": message }))
    };
    let mut attempts = Vec::new();
    let upper = name.to_uppercase();
    for spelled in [
        name.to_owned(),
        upper.clone(),
        format!("victim/{name}"),
        format!("victim:{name}"),
        format!("victim.{name}"),
        format!("./{name}"),
        format!("../victim/{name}"),
        format!(" {name}"),
        format!("{name}\0"),
        format!("{name}' OR owner = 'victim' --"),
        format!("%{}", &name[1..]),
        format!("{}*", &name[..3]),
        format!("{name}\u{200b}"),
    ] {
        attempts.push(chat(spelled));
    }
    attempts.push(post("/v1/completions", json!({ "model": name, "prompt": "hi" })));
    attempts.push(post(
        "/v1/chat/completions",
        json!({ "model": name, "messages": message, "stream": true }),
    ));
    attempts.push(post(
        "/v1/chat/completions",
        json!({ "model": name, "messages": message, "user": "victim" }),
    ));
    for spelled in [
        name.to_owned(),
        upper,
        format!("{name}/"),
        format!("%{:02x}{}", name.as_bytes()[0], &name[1..]),
        format!("..%2fvictim%2f{name}"),
        format!("{name}%00"),
        format!("{name}?app=victim"),
        format!("{name}?owner=victim&key=lm-"),
    ] {
        attempts.push(plain("GET", format!("/v1/models/{spelled}")));
        attempts.push(plain("GET", format!("/v1/adapters/{spelled}")));
        attempts.push(plain("DELETE", format!("/v1/adapters/{spelled}")));
    }
    attempts.push(plain("DELETE", format!("/v1/models/{name}")));
    for (header, value) in [
        ("x-app", "victim"),
        ("x-forwarded-user", "victim"),
        ("openai-organization", "victim"),
        ("openai-project", "victim"),
        ("x-forwarded-for", "127.0.0.1"),
        ("if-none-match", "*"),
    ] {
        let headers = vec![(header, value.to_owned())];
        let mut attempt = plain("GET", format!("/v1/adapters/{name}"));
        attempt.headers = headers;
        attempts.push(attempt);
    }
    for generation in ["\"1\"", "\"2\"", "\"18446744073709551615\""] {
        let headers = vec![("if-match", generation.to_owned())];
        attempts.push(Attempt { headers, ..plain("DELETE", format!("/v1/adapters/{name}")) });
        let (mut headers, body) = form();
        headers.push(("if-match", generation.to_owned()));
        let path = format!("/v1/adapters/{name}");
        attempts.push(Attempt { method: "PUT", path, headers, body });
    }
    attempts
}

#[tokio::test]
async fn what_another_app_has_is_answered_as_what_nobody_has() {
    let scene = Scene::new().await;
    let before = scene.of_victim().await;
    let (theirs, nobodys) = (attempts(THEIRS), attempts(NOBODYS));
    assert!(theirs.len() >= 40, "{}", theirs.len());
    for (theirs, nobodys) in theirs.iter().zip(&nobodys) {
        let (status, headers, body) = scene.answer(theirs).await;
        assert!(status >= 400, "{} {}: {status}", theirs.method, theirs.path);
        // In the same words, with the other name in them.
        let spelled = |text: &str| {
            let names = [(NOBODYS.to_owned(), THEIRS), (NOBODYS.to_uppercase(), "DIARY-NOTES")];
            let text =
                names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
            text.replace(&NOBODYS[1..], &THEIRS[1..]).replace("nob*", "dia*")
        };
        let expected = scene.answer(nobodys).await;
        let expected = (expected.0, expected.1, spelled(&expected.2));
        assert_eq!((status, headers, body), expected, "{} {}", theirs.method, theirs.path);
    }
    assert_eq!(scene.of_victim().await, before);
}

#[tokio::test]
async fn nothing_that_an_app_lists_names_another() {
    let scene = Scene::new().await;
    let lists = ["/v1/models", "/v1/adapters", "/v1/models?app=victim", "/health", "/metrics"];
    for path in lists {
        for headers in [vec![], vec![("x-app", "victim".to_owned())]] {
            let (method, path, body) = ("GET", path.to_owned(), String::new());
            let answer = scene.answer(&Attempt { method, path, headers, body }).await.2;
            for secret in ["victim", THEIRS, PROMPT, "garden"] {
                assert!(!answer.contains(secret), "{answer}");
            }
        }
    }
    // Nor do the operator's metrics.
    let metrics = text(scene.shop.get("/metrics", "operators").await).await;
    assert!(metrics.contains("litemoe_requests"));
    for secret in ["victim", THEIRS, "garden"] {
        assert!(!metrics.contains(secret), "{metrics}");
    }
}

#[tokio::test]
async fn an_app_does_not_learn_how_many_adapters_others_have() {
    let scene = Scene::new().await;
    let shown = async || {
        let mut list = read(scene.shop.get("/v1/adapters", &scene.key).await).await;
        // Random, and times in seconds.
        for adapter in list["data"].as_array_mut().unwrap() {
            assert_eq!(adapter["tag"].as_str().unwrap().len(), 16);
            for name in ["tag", "created_at", "updated_at"] {
                adapter.as_object_mut().unwrap().remove(name);
            }
        }
        list.to_string()
    };
    let mut seen = Vec::new();
    for n_theirs in [0, 5] {
        for n in 0..n_theirs {
            scene.shop.put(Some("victim"), &format!("more-{n}"), "a", None);
        }
        let own = scene.shop.put(Some("intruder"), "own", "a", None);
        seen.push(shown().await);
        let owner = Owner::App(app("intruder"));
        scene.shop.registry.remove_adapter(&owner, &own.name, None).unwrap();
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn the_same_name_is_another_adapter() {
    let scene = Scene::new().await;
    let before = scene.of_victim().await;
    let (headers, body) = form();
    let path = format!("/v1/adapters/{THEIRS}");
    let put = Attempt { method: "PUT", path: path.clone(), headers, body };
    let sent = scene.send(&put).await;
    // A name that another app has is free.
    assert_eq!(sent.status(), 201);
    assert_eq!(scene.of_victim().await, before);
    let delete = Attempt { method: "DELETE", path, headers: vec![], body: String::new() };
    assert_eq!(scene.send(&delete).await.status(), 200);
    assert_eq!(scene.of_victim().await, before);
}

#[tokio::test]
async fn a_key_is_not_put_together_from_two() {
    let scene = Scene::new().await;
    let parts = |key: &str| {
        let mut parts = key[3..].split('-');
        (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned())
    };
    let ((id, secret), (their_id, _)) = (parts(&scene.key), parts(&scene.victim));
    for key in [
        format!("lm-{their_id}-{secret}"),
        format!("lm-{their_id}-"),
        format!("lm-{their_id}-{}", "0".repeat(64)),
        format!("lm-{their_id}"),
        format!("lm-{id}-{secret},lm-{their_id}-{secret}"),
        format!("{} {}", scene.key, scene.victim),
        their_id,
        "victim".to_owned(),
    ] {
        assert_eq!(scene.shop.get("/v1/models", &key).await.status(), 401, "{key}");
    }
}

#[tokio::test]
async fn what_one_app_uses_up_is_left_to_the_others() {
    let scene = Scene::new().await;
    let limits = |settings: &mut Settings| {
        settings.requests_per_minute = Some(1.try_into().unwrap());
        settings.tokens_per_day = Some(1.try_into().unwrap());
    };
    scene.shop.registry.set_app(&app("intruder"), limits).unwrap();
    assert_eq!(scene.shop.post(&scene.key, &json!({})).await.status(), 200);
    for _ in 0..10 {
        assert_eq!(scene.shop.post(&scene.key, &json!({})).await.status(), 429);
    }
    let answered = scene.shop.post(&scene.victim, &json!({})).await;
    assert_eq!(answered.status(), 200);
    assert!(answered.headers().keys().all(|name| !name.as_str().starts_with("x-ratelimit")));
    assert_eq!(scene.shop.usage("intruder", 1).await.requests, 1);
}

#[tokio::test]
async fn prompts_of_another_app_are_not_cached_for_an_app() {
    let scene = Scene::new().await;
    let message = json!({ "role": "user", "content": PROMPT });
    let ask = async |key: &str, model: &str| {
        let fields = json!({ "model": model, "messages": [message] });
        let usage = scene.shop.answer(key, &fields).await["usage"].clone();
        usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(ask(&scene.victim, "toy").await, 0);
    // The same foundation, a shared adapter, and an adapter of the same content and name.
    scene.shop.put(None, "shared", "a", None);
    scene.shop.put(Some("intruder"), THEIRS, "a", None);
    for model in ["toy", "fixed", "shared", THEIRS] {
        ask(&scene.victim, model).await;
        assert!(ask(&scene.victim, model).await > 0, "{model}");
        assert_eq!(ask(&scene.key, model).await, 0, "{model}");
    }
    // Nor does one that is sent later continue from what the old one has cached.
    let owner = Owner::App(app("victim"));
    let old = scene.shop.registry.adapter(&owner, &THEIRS.parse().unwrap()).unwrap();
    scene.shop.put(Some("victim"), THEIRS, "b", Some(old.generation));
    assert_eq!(ask(&scene.victim, THEIRS).await, 0);
}

#[tokio::test]
async fn a_model_that_is_not_allowed_is_not_told_apart_from_none() {
    let scene = Scene::new().await;
    let none = |settings: &mut Settings| {
        settings.models = Allowed::Only(BTreeSet::new());
        settings.adapters = Allowed::Only(BTreeSet::new());
    };
    scene.shop.registry.set_app(&app("intruder"), none).unwrap();
    for name in ["toy", "fixed"] {
        let answer = scene.shop.post(&scene.key, &json!({ "model": name })).await;
        assert_eq!(answer.status(), 404);
        let message = format!("the model `{name}` does not exist");
        assert_eq!(read(answer).await["error"]["message"], message);
    }
    assert_eq!(scene.shop.models(&scene.key).await, Vec::<String>::new());
}

//! Keys of apps, and what an app may use.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use litemoe_registry::{Allowed, Provenance, Registry, Settings};
use litemoe_server::{Secret, ServerError, ServerOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::client::{chat, get, post, read};
use crate::shop::{FOUNDATION, Shop, app, server};
use crate::toy::{Step, Toy, tokens};

/// A toy that says `x`, and with an adapter `y`.
fn toy() -> Toy {
    Toy { adapted: vec![Step::Say(tokens("y")[0])], ..Toy::saying("x") }
}

async fn error(response: Response<Body>, status: u16) -> Value {
    assert_eq!(response.status(), status);
    read(response).await["error"].clone()
}

#[tokio::test]
async fn keys_are_asked_for_from_the_first_app_on_and_for_good() {
    let shop = Shop::of(toy());
    assert_eq!(post(&shop.router, &chat(&json!({}))).await.status(), 200);
    // Clients send some key always.
    assert_eq!(shop.post("sk-anything", &json!({})).await.status(), 200);
    let key = shop.add("home");
    let refused = post(&shop.router, &chat(&json!({}))).await;
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert_eq!(error(refused, 401).await["code"], "invalid_api_key");
    assert_eq!(shop.post("sk-anything", &json!({})).await.status(), 401);
    assert_eq!(shop.post(&key, &json!({})).await.status(), 200);
    shop.registry.revoke_app(&app("home")).unwrap();
    for key in [&key, "sk-anything"] {
        assert_eq!(shop.post(key, &json!({})).await.status(), 401);
    }
    assert_eq!(post(&shop.router, &chat(&json!({}))).await.status(), 401);
    assert_eq!(get(&shop.router, "/health").await.status(), 200);
}

#[tokio::test]
async fn every_path_of_callers_asks_for_a_key() {
    let shop = Shop::of(toy());
    let key = shop.add("home");
    let (id, secret) = (&key[3..19], &key[20..]);
    let almost = |text: &str| format!("{}{}", &text[1..], &text[..1]);
    let wrong = [
        String::new(),
        format!("lm-{id}-{}", almost(secret)),
        format!("lm-{}-{secret}", almost(id)),
        format!("lm-{id}-"),
        key[..key.len() - 1].to_owned(),
        format!("{key}0"),
        key.to_uppercase(),
        "lm-' OR 1=1 --".to_owned(),
    ];
    // The document has all routes, which another test checks.
    let document = read(get(&shop.router, "/openapi.json").await).await;
    let open = ["/", "/openapi.json", "/health", "/metrics"];
    let paths = document["paths"].as_object().unwrap().iter();
    let routes = paths.filter(|(path, _)| !open.contains(&path.as_str())).flat_map(|(path, it)| {
        let path = path.replace("{id}", "toy").replace("{name}", "toy");
        it.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let routes: Vec<_> = routes.collect();
    assert!(routes.len() > 20, "{routes:?}");
    for (method, path) in &routes {
        let (method, path) = (method.as_str(), path.as_str());
        for key in &wrong {
            let refused = shop.send(method, path, key, "{}").await;
            assert_eq!(error(refused, 401).await["message"], "the key is not valid", "{path}");
        }
        let request = Request::builder().method(method).uri(path).body(Body::from("{}")).unwrap();
        let refused = shop.router.clone().oneshot(request).await.unwrap();
        let message = error(refused, 401).await["message"].clone();
        assert!(message.as_str().unwrap().contains("asks for an app's key"), "{message}");
        assert_ne!(shop.send(method, path, &key, "{}").await.status(), 401);
    }
}

#[tokio::test]
async fn a_rotated_key_stops_at_once_or_after_its_grace() {
    let shop = Shop::of(toy());
    let first = shop.add("home");
    let second = shop.registry.rotate_key(&app("home"), Duration::from_secs(60)).unwrap().reveal();
    for key in [&first, &second] {
        assert_eq!(shop.post(key, &json!({})).await.status(), 200);
    }
    let third = shop.registry.rotate_key(&app("home"), Duration::ZERO).unwrap().reveal();
    for (key, status) in [(&first, 401), (&second, 401), (&third, 200)] {
        assert_eq!(shop.post(key, &json!({})).await.status(), status);
    }
}

#[tokio::test]
async fn an_app_uses_what_it_may_and_its_own() {
    let shop = Shop::of(toy());
    let only = |names: &[&str]| {
        Allowed::Only(names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>())
    };
    let all = shop.add("all");
    let some = Settings { adapters: only(&["shared"]), ..Settings::default() };
    let some = shop.add_with("some", &some);
    let none = Settings { models: only(&[]), adapters: only(&[]), ..Settings::default() };
    let none = shop.add_with("none", &none);
    shop.put(None, "shared", "a", None);
    shop.put(None, "other", "a", None);
    for owner in ["all", "none"] {
        shop.put(Some(owner), "own", "a", None);
    }
    assert_eq!(shop.models(&all).await, ["toy", "fixed", "other", "own", "shared"]);
    assert_eq!(shop.models(&some).await, ["toy", "shared"]);
    assert_eq!(shop.models(&none).await, ["own"]);
    for (key, usable) in [
        (&all, &["toy", "fixed", "other", "own", "shared"][..]),
        (&some, &["toy", "shared"]),
        (&none, &["own"]),
    ] {
        for name in ["toy", "fixed", "other", "own", "shared", "nothing", "No name!"] {
            let is_usable = usable.contains(&name);
            let status = if is_usable { 200 } else { 404 };
            let path = format!("/v1/models/{}", name.replace(' ', "%20"));
            assert_eq!(shop.get(&path, key).await.status(), status, "{name}");
            let answer = shop.post(key, &json!({ "model": name })).await;
            assert_eq!(answer.status(), status, "{name}");
            if !is_usable {
                let message = format!("the model `{name}` does not exist");
                assert_eq!(read(answer).await["error"]["message"], message);
            }
        }
    }
    // Settings hold from the next request on.
    shop.registry.set_app(&app("none"), |settings| settings.models = Allowed::All).unwrap();
    assert_eq!(shop.content(&none, "toy").await, "x");
    assert_eq!(shop.content(&none, "own").await, "y");
}

#[tokio::test]
async fn an_own_adapter_hides_a_shared_one_and_none_hides_the_foundation() {
    let shop = Shop::of(toy());
    let key = shop.add("home");
    let own = shop.put(Some("home"), "fixed", "a", None);
    shop.put(Some("home"), "toy", "a", None);
    assert_eq!(shop.models(&key).await, ["toy", "fixed"]);
    let card = read(shop.get("/v1/models/fixed", &key).await).await;
    assert_eq!((&card["owned_by"], &card["created"]), (&json!("home"), &json!(own.created.0)));
    assert_eq!(read(shop.get("/v1/models/toy", &key).await).await["parent"], Value::Null);
    assert_eq!(shop.content(&key, "toy").await, "x");
}

#[tokio::test]
async fn adapters_are_loaded_once_replaced_and_removed_while_the_server_runs() {
    let options = ServerOptions { max_adapters: 2.try_into().unwrap(), ..ServerOptions::default() };
    let shop = Shop::with(toy(), options);
    let key = shop.add("home");
    let n_loads = || shop.n_loads.load(Ordering::SeqCst);
    assert_eq!(shop.post(&key, &json!({ "model": "mine" })).await.status(), 404);
    let first = shop.put(Some("home"), "mine", "a", None);
    let asks = (0..8).map(|_| shop.content(&key, "mine"));
    assert_eq!(futures::future::join_all(asks).await, vec!["y"; 8]);
    assert_eq!(n_loads(), 1);
    let second = shop.put(Some("home"), "mine", "b", Some(first.generation));
    assert_eq!(shop.content(&key, "mine").await, "y");
    assert_eq!(n_loads(), 2);
    // Two others take its place in memory, the least recently used first.
    for name in ["b", "c"] {
        shop.put(Some("home"), name, "a", None);
        shop.content(&key, name).await;
    }
    shop.content(&key, "c").await;
    assert_eq!(n_loads(), 4);
    shop.content(&key, "mine").await;
    assert_eq!(n_loads(), 5);
    let (owner, name) = (litemoe_registry::Owner::App(app("home")), "mine".parse().unwrap());
    shop.registry.remove_adapter(&owner, &name, Some(second.generation)).unwrap();
    assert_eq!(shop.post(&key, &json!({ "model": "mine" })).await.status(), 404);
}

#[tokio::test]
async fn adapters_in_memory_are_bounded_by_the_bytes_of_their_files() {
    let options = ServerOptions { max_adapter_bytes: 10, ..ServerOptions::default() };
    let shop = Shop::with(toy(), options);
    let (home, other) = (shop.add("home"), shop.add("other"));
    let put = |owner, name: &str, bytes: usize| {
        let dir = shop.folder(name);
        std::fs::write(dir.join(name), vec![0; bytes]).unwrap();
        let provenance = Provenance {
            foundation: FOUNDATION.to_owned(),
            plan: None,
            data: None,
            metrics: Value::Null,
        };
        shop.put_of(Some(owner), name, &dir, &provenance, None);
    };
    for (owner, name, bytes) in
        [("other", "small", 1), ("home", "one", 6), ("home", "two", 6), ("home", "large", 20)]
    {
        put(owner, name, bytes);
    }
    for (key, name, n_loads) in [
        (&other, "small", 1),
        (&home, "one", 2),
        (&home, "one", 2),
        // In place of the one.
        (&home, "two", 3),
        (&home, "one", 4),
        (&other, "small", 4),
        // Alone, since it is more than all may have.
        (&home, "large", 5),
        (&home, "large", 5),
        (&other, "small", 6),
        (&home, "large", 7),
    ] {
        assert_eq!(shop.content(key, name).await, "y");
        assert_eq!(shop.n_loads.load(Ordering::SeqCst), n_loads, "{name}");
    }
}

#[tokio::test]
async fn an_adapter_that_does_not_fit_is_an_error_of_its_app_alone() {
    let shop = Shop::of(toy());
    let key = shop.add("home");
    shop.put(Some("home"), "broken", "bad", None);
    let foreign =
        Provenance { foundation: "other".to_owned(), plan: None, data: None, metrics: Value::Null };
    shop.put_of(Some("home"), "foreign", &shop.folder("a"), &foreign, None);
    for _ in 0..2 {
        let failed = error(shop.post(&key, &json!({ "model": "broken" })).await, 500).await;
        assert_eq!(failed["code"], "adapter_failed");
    }
    // One of another foundation is not there.
    assert_eq!(shop.post(&key, &json!({ "model": "foreign" })).await.status(), 404);
    assert_eq!(shop.models(&key).await, ["toy", "fixed", "broken"]);
    assert_eq!(shop.content(&key, "toy").await, "x");
}

#[tokio::test]
async fn metrics_are_for_their_token_once_there_are_apps() {
    let options = ServerOptions { metrics: true, ..ServerOptions::default() };
    let shop = Shop::with(toy(), options.clone());
    assert_eq!(get(&shop.router, "/metrics").await.status(), 200);
    let key = shop.add("home");
    for key in [&key, ""] {
        assert_eq!(shop.get("/metrics", key).await.status(), 404);
    }
    let options = ServerOptions { metrics_token: Some(Secret::new("a token")), ..options };
    assert!(!format!("{options:?}").contains("a token"));
    let shop = Shop::with(toy(), options);
    let key = shop.add("home");
    for (key, status) in [(&*key, 404), ("a token", 200), ("a toke", 404), ("", 404)] {
        assert_eq!(shop.get("/metrics", key).await.status(), status, "{key}");
    }
}

#[tokio::test]
async fn without_keys_only_this_machine_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::create(&dir.path().join("registry")).unwrap();
    let serve = async || {
        let n_loads = Arc::new(AtomicUsize::new(0));
        let server = server(toy(), ServerOptions::default(), registry.clone(), n_loads);
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        server.serve(listener, std::future::ready(())).await
    };
    let refused = serve().await.unwrap_err();
    assert!(matches!(refused, ServerError::Open { .. }), "{refused}");
    registry.add_app(&app("home"), &Settings::default()).unwrap();
    serve().await.unwrap();
    registry.revoke_app(&app("home")).unwrap();
    serve().await.unwrap();
}

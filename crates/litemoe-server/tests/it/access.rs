//! Which hosts and origins may use the server, and what pages may read (CORS).

use litemoe_server::{Server, ServerError, ServerOptions};
use serde_json::json;

use crate::client::{chat, serving_with};
use crate::listening::{Listening, body, get, post, status};
use crate::toy::{Toy, tokenizer};

const PAGE: &str = "https://app.example";

async fn listening(allowed_hosts: &[&str], allowed_origins: &[&str]) -> Listening {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let options = ServerOptions {
        allowed_hosts: texts(allowed_hosts),
        allowed_origins: texts(allowed_origins),
        ..ServerOptions::default()
    };
    Listening::of(Toy::saying("x"), options).await
}

fn to_host(host: &str) -> String {
    format!("GET /health HTTP/1.1\r\n{host}connection: close\r\n\r\n")
}

#[tokio::test]
async fn a_local_server_refuses_other_hosts() {
    let server = listening(&[], &[]).await;
    for host in ["localhost", "127.0.0.1:8080", "[::1]", "app.localhost:1"] {
        let answer = server.ask(&to_host(&format!("host: {host}\r\n"))).await;
        assert_eq!(status(&answer), 200, "{host}");
    }
    for host in ["evil.example", "evil.example:80", "localhost.evil.example", "0.0.0.0"] {
        let answer = server.ask(&to_host(&format!("host: {host}\r\n"))).await;
        assert_eq!(status(&answer), 403, "{host}");
        let error = &body(&answer)["error"];
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!("host_not_allowed"), &json!("invalid_request_error"))
        );
        assert!(error["message"].as_str().unwrap().contains(host));
    }
    for host in [
        "",
        "host: \r\n",
        "host: localhost\r\nhost: evil.example\r\n",
        "host: a b\r\n",
        "host: u@localhost\r\n",
    ] {
        assert_eq!(status(&server.ask(&to_host(host)).await), 400, "{host:?}");
    }
    // The host of an absolute target counts, not the header.
    for (target, expected) in [("localhost", 200), ("evil.example", 403)] {
        let request = format!(
            "GET http://{target}/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(status(&server.ask(&request).await), expected, "{target}");
    }
}

#[tokio::test]
async fn allowed_hosts_are_served() {
    let server = listening(&["models.example"], &[]).await;
    for (host, expected) in
        [("models.example:8080", 200), ("localhost", 200), ("evil.example", 403)]
    {
        let answer = server.ask(&to_host(&format!("host: {host}\r\n"))).await;
        assert_eq!(status(&answer), expected, "{host}");
    }
    let any = listening(&["*"], &[]).await;
    assert_eq!(status(&any.ask(&to_host("host: evil.example\r\n")).await), 200);
    assert_eq!(status(&any.ask(&to_host("")).await), 200);
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let server = listening(&[], &[]).await;
    for origin in [PAGE, "null", "http://localhost:3000", "http://evil.example"] {
        let header = format!("origin: {origin}\r\n");
        for request in [get("/health", &header), post(&chat(&json!({})), &header)] {
            let answer = server.ask(&request).await;
            assert_eq!(status(&answer), 403, "{origin}");
            assert_eq!(body(&answer)["error"]["code"], "origin_not_allowed");
            assert!(!answer.contains("access-control-"), "{answer}");
        }
    }
    assert_eq!(status(&server.ask(&get("/health", "origin: http://localhost\r\n")).await), 200);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_the_answers() {
    let server = listening(&[], &[PAGE]).await;
    let origin = format!("origin: {PAGE}\r\n");
    let answer = server.ask(&post(&chat(&json!({})), &origin)).await;
    assert_eq!(status(&answer), 200);
    for header in [
        "access-control-allow-origin: https://app.example\r\n",
        "access-control-expose-headers: x-request-id,retry-after,etag\r\n",
        "vary: origin",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    // So do errors of requests that were let in.
    let answer = server.ask(&get("/v1/models/none", &origin)).await;
    assert_eq!(status(&answer), 404);
    assert!(answer.contains("access-control-allow-origin: https://app.example\r\n"), "{answer}");
    let other = server.ask(&get("/health", "origin: https://evil.example\r\n")).await;
    assert_eq!(status(&other), 403);
    assert!(!other.contains("access-control-allow-origin"), "{other}");
}

#[tokio::test]
async fn a_preflight_is_answered_for_allowed_origins_alone() {
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type,x-stainless-os\r\n\r\n"
        )
    };
    let server = listening(&[], &[PAGE]).await;
    let answer = server.ask(&preflight(PAGE)).await;
    assert_eq!(status(&answer), 200);
    for header in [
        "access-control-allow-origin: https://app.example\r\n",
        "access-control-allow-methods: GET,POST,PUT,DELETE\r\n",
        "access-control-allow-headers: authorization,content-type,x-stainless-os\r\n",
        "access-control-max-age: 600\r\n",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    for (server, origin) in [(&server, "https://evil.example"), (&listening(&[], &[]).await, PAGE)]
    {
        let answer = server.ask(&preflight(origin)).await;
        assert_eq!(status(&answer), 403);
        assert!(!answer.contains("access-control-"), "{answer}");
    }
}

#[tokio::test]
async fn a_router_without_a_listener_serves_any_host_and_no_foreign_origin() {
    let router = serving_with(Toy::saying("x"), ServerOptions::default());
    for (name, value, expected) in [("host", "models.example", 200), ("origin", PAGE, 403)] {
        let request = axum::http::Request::get("/health").header(name, value);
        let request = request.body(axum::body::Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
        assert_eq!(response.status(), expected, "{name}");
    }
}

#[test]
fn what_is_no_host_or_origin_is_refused_at_the_start() {
    let server = |options| Server::new("toy", Toy::saying(""), tokenizer(), options).unwrap_err();
    let host = server(ServerOptions {
        allowed_hosts: vec!["http://a".to_owned()],
        ..ServerOptions::default()
    });
    assert!(matches!(host, ServerError::AllowedHost { value } if value == "http://a"));
    let origin =
        server(ServerOptions { allowed_origins: vec!["a".to_owned()], ..ServerOptions::default() });
    assert!(matches!(origin, ServerError::AllowedOrigin { value } if value == "a"));
}

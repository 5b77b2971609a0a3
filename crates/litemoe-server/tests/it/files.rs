//! Files that apps upload.

use axum::body::Body;
use axum::http::{Request, Response};
use litemoe_registry::JobSpec;
use litemoe_server::ServerOptions;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::client::{get, read, send, text};
use crate::shop::{Shop, app};
use crate::toy::Toy;

const BOUNDARY: &str = "-part";

/// A form of fields, of which those with a file's name are files.
fn form(fields: &[(&str, Option<&str>, &str)]) -> String {
    let field = |(name, file, content): &(&str, Option<&str>, &str)| {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n"
        )
    };
    format!("{}--{BOUNDARY}--\r\n", fields.iter().map(field).collect::<String>())
}

async fn post(shop: &Shop, key: &str, body: String) -> Response<Body> {
    let request = Request::post("/v1/files")
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
    shop.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
}

/// Uploads rows, and returns the file as it is shown.
pub(crate) async fn upload(shop: &Shop, key: &str, rows: &str) -> Value {
    let fields = [("purpose", None, "fine-tune"), ("file", Some("rows.jsonl"), rows)];
    let response = post(shop, key, form(&fields)).await;
    assert_eq!(response.status(), 200);
    read(response).await
}

pub(crate) fn id(shown: &Value) -> &str {
    shown["id"].as_str().unwrap()
}

async fn refusal(response: Response<Body>, status: u16) -> Value {
    assert_eq!(response.status(), status);
    read(response).await["error"].clone()
}

#[tokio::test]
async fn a_file_is_shown_listed_read_and_removed() {
    let shop = Shop::of(Toy::saying("hi"));
    let key = shop.add("home");
    let rows = "{\"prompt\": \"é\"}\n".repeat(20_000);
    let file = upload(&shop, &key, &rows).await;
    let expected = json!({
        "id": id(&file), "object": "file", "bytes": rows.len(), "created_at": file["created_at"],
        "expires_at": null, "filename": "rows.jsonl", "purpose": "fine-tune", "status": "processed",
        "status_details": null,
    });
    assert_eq!(file, expected);
    assert!(file["created_at"].as_i64().unwrap() > 1_700_000_000);
    let path = format!("/v1/files/{}", id(&file));
    assert_eq!(read(shop.get(&path, &key).await).await, file);
    let content = shop.get(&format!("{path}/content"), &key).await;
    assert_eq!(content.headers()["content-length"], rows.len().to_string());
    assert!(text(content).await == rows);
    let removed = read(shop.send("DELETE", &path, &key, Body::empty()).await).await;
    assert_eq!(removed, json!({ "id": id(&file), "object": "file", "deleted": true }));
    assert_eq!(shop.get(&path, &key).await.status(), 404);
    let list = read(shop.get("/v1/files", &key).await).await;
    let empty = json!({
        "object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false,
    });
    assert_eq!(list, empty);
}

#[tokio::test]
async fn files_are_listed_in_parts_in_either_order() {
    let shop = Shop::of(Toy::saying("hi"));
    let key = shop.add("home");
    let mut ids = Vec::new();
    for rows in ["a", "b", "c"] {
        ids.push(id(&upload(&shop, &key, rows).await).to_owned());
    }
    for (query, expected, has_more) in [
        (String::new(), vec![2, 1, 0], false),
        ("?purpose=fine-tune".to_owned(), vec![2, 1, 0], false),
        ("?purpose=batch".to_owned(), vec![], false),
        ("?limit=2".to_owned(), vec![2, 1], true),
        (format!("?limit=2&after={}", ids[1]), vec![0], false),
        ("?order=asc&limit=1".to_owned(), vec![0], true),
        (format!("?order=asc&after={}", ids[0]), vec![1, 2], false),
    ] {
        let list = read(shop.get(&format!("/v1/files{query}"), &key).await).await;
        let found: Vec<_> = list["data"].as_array().unwrap().iter().map(id).collect();
        let expected: Vec<_> = expected.into_iter().map(|n: usize| &*ids[n]).collect();
        assert_eq!((found, &list["has_more"]), (expected, &json!(has_more)), "{query}");
    }
    for query in ["?limit=0", "?order=up", "?before=a"] {
        let error = refusal(shop.get(&format!("/v1/files{query}"), &key).await, 400).await;
        assert!(query.contains(error["param"].as_str().unwrap()), "{error}");
    }
    assert_eq!(shop.get("/v1/files?after=file-0", &key).await.status(), 404);
    for _ in 0..98 {
        let file = shop.registry.upload().unwrap();
        let name = "rows.jsonl".parse().unwrap();
        shop.registry.add_file(&app("home"), &name, "fine-tune", file).unwrap();
    }
    let list = read(shop.get("/v1/files", &key).await).await;
    assert_eq!((list["data"].as_array().unwrap().len(), &list["has_more"]), (100, &json!(true)));
}

#[tokio::test]
async fn an_upload_that_is_wrong_is_refused_by_name_and_leaves_nothing() {
    let shop =
        Shop::with(Toy::saying("hi"), ServerOptions { max_upload: 1000, ..Default::default() });
    let key = shop.add("home");
    let (purpose, file) = (("purpose", None, "fine-tune"), ("file", Some("a.jsonl"), "{}"));
    let long = "x".repeat(1001);
    for (fields, status, param) in [
        (vec![file], 400, json!("purpose")),
        (vec![purpose], 400, json!("file")),
        (vec![("purpose", None, "assistants"), file], 400, json!("purpose")),
        (vec![file, ("purpose", None, "assistants")], 400, json!("purpose")),
        (vec![purpose, ("file", None, "{}")], 400, json!("file")),
        (vec![purpose, ("file", Some("a.jsonl"), "")], 400, json!("file")),
        (vec![purpose, ("file", Some("../a"), "{}")], 400, json!("file")),
        (vec![purpose, file, file], 400, json!("file")),
        (vec![purpose, purpose], 400, json!("purpose")),
        (
            vec![purpose, file, ("expires_after[anchor]", None, "created_at")],
            400,
            json!("expires_after[anchor]"),
        ),
        (vec![purpose, ("file", Some("a.jsonl"), &long)], 413, Value::Null),
    ] {
        let error = refusal(post(&shop, &key, form(&fields)).await, status).await;
        assert_eq!(error["param"], param, "{fields:?}: {error}");
    }
    let cut = form(&[purpose, file]);
    assert_eq!(
        refusal(post(&shop, &key, cut[..cut.len() - 8].to_owned()).await, 400).await["code"],
        "invalid_body"
    );
    let json = shop.send("POST", "/v1/files", &key, "{}").await;
    assert_eq!(refusal(json, 400).await["code"], "invalid_body");
    assert!(shop.registry.files(&app("home"), Default::default()).unwrap().is_empty());
    let contents = std::fs::read_dir(shop.registry.dir().join("files")).unwrap();
    assert_eq!(contents.count(), 0);
    upload(&shop, &key, "{}").await;
}

#[tokio::test]
async fn files_of_other_apps_do_not_exist() {
    let shop = Shop::of(Toy::saying("hi"));
    let (home, other) = (shop.add("home"), shop.add("other"));
    let id = id(&upload(&shop, &home, "{}").await).to_owned();
    for (method, path) in [("GET", ""), ("GET", "/content"), ("DELETE", "")] {
        let answer = |id: String| {
            let path = format!("/v1/files/{id}{path}");
            let (shop, other) = (&shop, &other);
            async move { text(shop.send(method, &path, other, Body::empty()).await).await }
        };
        let unknown = id.replace(char::is_numeric, "0");
        let expected = answer(unknown.clone()).await.replace(&unknown, &id);
        assert!(expected.contains("not_found"), "{expected}");
        assert_eq!(answer(id.clone()).await, expected, "{method} {path}");
    }
    let list = read(shop.get("/v1/files", &other).await).await;
    assert_eq!(list["data"], json!([]));
    assert_eq!(shop.get(&format!("/v1/files/{id}"), &home).await.status(), 200);
}

#[tokio::test]
async fn a_file_that_a_job_reads_stays() {
    let shop = Shop::of(Toy::saying("hi"));
    let key = shop.add("home");
    let id = id(&upload(&shop, &key, "{}").await).to_owned();
    let job = shop.registry.create_tuning_job(&app("home"), &JobSpec::new("toy", &*id)).unwrap();
    let path = format!("/v1/files/{id}");
    let error = refusal(shop.send("DELETE", &path, &key, Body::empty()).await, 409).await;
    assert_eq!(error["code"], "file_in_use");
    shop.registry.cancel_job(&app("home"), &job.id).unwrap();
    assert_eq!(shop.send("DELETE", &path, &key, Body::empty()).await.status(), 200);
}

#[tokio::test]
async fn without_an_app_there_are_no_files_and_jobs() {
    let shop = Shop::of(Toy::saying("hi"));
    for (method, path) in [
        ("GET", "/v1/files"),
        ("POST", "/v1/files"),
        ("DELETE", "/v1/files/file-1"),
        ("GET", "/v1/files/file-1/content"),
        ("GET", "/v1/fine_tuning/jobs"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/fine_tuning/jobs/job-1"),
        ("POST", "/v1/fine_tuning/jobs/job-1/cancel"),
        ("GET", "/v1/fine_tuning/jobs/job-1/events"),
        ("GET", "/v1/fine_tuning/jobs/job-1/checkpoints"),
    ] {
        let error = refusal(send(&shop.router, method, path, Body::empty()).await, 403).await;
        assert_eq!(error["code"], "app_required", "{method} {path}");
    }
    let key = shop.add("home");
    assert_eq!(get(&shop.router, "/v1/files").await.status(), 401);
    assert_eq!(shop.get("/v1/files", &key).await.status(), 200);
}

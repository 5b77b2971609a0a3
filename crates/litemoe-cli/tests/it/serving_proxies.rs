//! The loop of an app that keeps its rows: it sends noisy scores to a service, tunes on the proxy that it gets, and sends the
//! adapter.

use std::fs;
use std::io::Cursor;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::serving::Served;
use crate::serving_apps::{Client, files_of};

/// A device that has the foundation and the app's rows, and a service of the same foundation on another disk.
struct Loop {
    device: Bench,
    service: Arc<Bench>,
    served: Served,
    client: Client,
}

impl Loop {
    fn begin(options: &[&str]) -> Self {
        let (device, service) = (Bench::new(), Bench::new());
        let added = service.run(&["app", "add", "home", "--registry", "apps"]);
        assert_eq!(added.code, 0, "{}", added.stderr);
        let service = Arc::new(service);
        let options = [&["--registry", "apps", "--proxies"], options].concat();
        let served = Served::of(service.clone(), &options, None);
        let client =
            Client { address: served.address().to_owned(), key: added.stdout.trim().to_owned() };
        Self { device, service, served, client }
    }

    /// Sends scores, and unpacks what comes.
    fn extract(&self, query: &str) {
        let scores = self.device.read("scores.json");
        let path = format!("/v1/apps/me/scores{query}");
        let (status, archive) = self.client.bytes("POST", &path, &[], &scores).expect("an answer");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&archive));
        let mut archive = tar::Archive::new(Cursor::new(archive));
        archive.unpack(self.device.path("")).expect("unpacked");
    }

    /// Sends the files of a directory with other fields.
    fn send(&self, dir: &str, name: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        let mut body = Vec::new();
        let mut add = |field: &str, file: &str, content: &[u8]| {
            let head = format!("name=\"{field}\"; filename=\"{file}\"\r\n\r\n");
            body.extend_from_slice(
                format!("--B\r\ncontent-disposition: form-data; {head}").as_bytes(),
            );
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        };
        for (file, content) in files_of(&self.device.path(dir)) {
            add("f", &file, &content);
        }
        for (field, file) in fields {
            add(field, file, &self.device.read(file));
        }
        body.extend_from_slice(b"--B--\r\n");
        let headers = ["content-type: multipart/form-data; boundary=B".to_owned()];
        let path = format!("/v1/adapters/{name}");
        self.client.ask("PUT", &path, &headers, &body).expect("an answer")
    }

    /// Nothing is left in the registry but what it refers to.
    fn is_clean(&self) {
        let checked = self.service.run(&["registry", "check", "--registry", "apps"]);
        assert_eq!(checked.code, 0, "{}", checked.stderr);
        let names = fs::read_dir(self.service.path("apps")).expect("the registry");
        let names: Vec<_> = names.map(|it| it.expect("an entry").file_name()).collect();
        let is_staged = |name: &str| name.contains("staged") || name.contains("tmp");
        assert!(!names.iter().any(|name| is_staged(&name.to_string_lossy())), "{names:?}");
    }
}

#[test]
fn an_app_that_keeps_its_rows_gets_a_proxy_and_serves_its_adapter() {
    let loop_ = Loop::begin(&[]);
    let Loop { device, client, served, .. } = &loop_;
    let report = device.json(&["score", "model", "rows.jsonl", "--noise", "1"]);
    let epsilon = report["privacy"]["epsilon"].as_f64().expect("a number");
    assert!((epsilon - 5.3).abs() < 0.1, "{report}");
    loop_.extract("?budget=0.5");
    // The same as the commands make of these scores.
    device.json(&["plan", "model", "scores.json", "--budget", "0.5", "--out", "local.json"]);
    assert_eq!(device.read("plan.json"), device.read("local.json"));
    device.json(&["extract", "model", "local.json", "--out", "local"]);
    let sorted = |dir| {
        let mut files = files_of(&device.path(dir));
        files.sort();
        files
    };
    assert_eq!(sorted("proxy"), sorted("local"));

    device.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let (status, refused) = loop_.send("adapter", "mine", &[]);
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("invalid_adapter")), "{refused}");
    let (status, card) = loop_.send("adapter", "mine", &[("plan", "plan.json")]);
    assert_eq!(status, 201, "{card}");
    assert!(card["plan"].is_string(), "{card}");
    assert_eq!(card["metrics"]["choice"]["routing"], "restricted", "{card}");

    device.json(&[
        "mount",
        "model",
        "adapter",
        "--plan",
        "plan.json",
        "--routing",
        "restricted",
        "--scale",
        "1",
    ]);
    let messages = json!([{ "role": "user", "content": "add 3 and 4" }]);
    fs::write(device.path("messages.json"), messages.to_string()).expect("written");
    let local = device.json(&[
        "generate",
        "model",
        "--messages",
        "messages.json",
        "--max-tokens",
        "12",
        "--adapter",
        "mounted",
    ]);
    let (status, answer) = client.chat("mine").expect("an answer");
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &local["text"]));
    loop_.is_clean();
    assert!(!served.log().contains("panicked"), "{}", served.log());
}

#[test]
fn validation_rows_choose_how_the_adapter_is_mounted_or_that_it_is_not() {
    let loop_ = Loop::begin(&[]);
    let Loop { device, .. } = &loop_;
    device.json(&["score", "model", "rows.jsonl"]);
    loop_.extract("?budget=0.5");
    device.tune("proxy", "adapter", &["--plan", "plan.json"]);
    let sent = [("plan", "plan.json"), ("validation", "rows.jsonl")];
    let (status, card) = loop_.send("adapter", "mine", &sent);
    assert_eq!(status, 201, "{card}");
    let tried = card["metrics"]["tried"].as_array().expect("a list");
    assert!(tried.len() > 2 && tried[0]["choice"].is_null(), "{card}");

    // Too large a learning rate, and rows on which the foundation is as good as it can be: its own answers.
    let rate = ["--learning-rate", "0.1", "--validate-every", "6", "--warmup", "1"];
    device.tune("proxy", "worse", &[&["--plan", "plan.json"], &rate[..]].concat());
    let said = device.json(&["generate", "model", "--prompt", "add 1 and 2", "--max-tokens", "8"]);
    let row = json!({ "prompt": "add 1 and 2", "completion": said["text"] });
    fs::write(device.path("own.jsonl"), row.to_string()).expect("written");
    let sent = [("plan", "plan.json"), ("validation", "own.jsonl")];
    let (status, answer) = loop_.send("worse", "worse", &sent);
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_adapter")), "{answer}");
    let message = answer["error"]["message"].as_str().expect("text");
    assert!(message.contains("the foundation alone does better"), "{message}");
    fs::write(device.path("broken.jsonl"), "{\"prompt\": 1}").expect("written");
    let sent = [("plan", "plan.json"), ("validation", "broken.jsonl")];
    let (status, refused) = loop_.send("adapter", "broken", &sent);
    let message = refused["error"]["message"].as_str().expect("text");
    assert_eq!(status, 400, "{refused}");
    assert!(message.contains("validation") && !message.contains('/'), "{message}");
    loop_.is_clean();
}

#[test]
fn what_does_not_fit_is_refused_without_paths_of_the_service() {
    let loop_ = Loop::begin(&[]);
    let Loop { device, client, service, .. } = &loop_;
    device.json(&["score", "model", "rows.jsonl", "--noise", "1"]);
    let scores = device.read("scores.json");
    for query in ["?budget=1e-9", "?score=frequency"] {
        let path = format!("/v1/apps/me/scores{query}");
        let (status, answer) = client.ask("POST", &path, &[], &scores).expect("an answer");
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_scores")), "{answer}");
        let message = answer["error"]["message"].as_str().expect("text");
        let dir = service.path("").display().to_string();
        assert!(!message.contains(&dir) && !message.contains("apps/"), "{message}");
    }
    loop_.extract("?budget=0.5");
    device.tune("proxy", "adapter", &["--plan", "plan.json"]);
    // The plan of other scores.
    device.json(&["score", "model", "rows.jsonl", "--rows", "3", "--out", "other-scores.json"]);
    device.json(&["plan", "model", "other-scores.json", "--budget", "0.75", "--out", "other.json"]);
    let (status, refused) = loop_.send("adapter", "mine", &[("plan", "other.json")]);
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("invalid_adapter")), "{refused}");
    let message = refused["error"]["message"].as_str().expect("text");
    assert!(message.contains("plan") && !message.contains("tmp"), "{message}");
    loop_.is_clean();
}

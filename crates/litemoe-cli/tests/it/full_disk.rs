//! A disk that becomes full while `serve` runs: the system refuses writes beyond a size limit, in the server and in its jobs.

use std::fs;
use std::process::Command;

use litemoe_registry::check;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::serving::Served;
use crate::serving_apps::{Client, files_of, form};

/// Sets the limit of a running process by util-linux's `prlimit`.
fn limit(id: u32, bytes: &str) {
    let mut command = Command::new("prlimit");
    command.args([format!("--pid={id}"), format!("--fsize={bytes}:unlimited")]);
    assert!(command.status().expect("prlimit runs").success());
}

/// Names of everything below a directory, but for the database's own files.
fn names(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("text");
        if entry.path().is_dir() {
            found.extend(names(&entry.path()).iter().map(|below| format!("{name}/{below}")));
        }
        if !name.starts_with("registry.db") {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[test]
fn a_full_disk_refuses_what_must_be_written_and_nothing_else() {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    bench.json(&["score", "model", "rows.jsonl"]);
    let files = files_of(&bench.path("adapter"));
    let added = bench.run(&["app", "add", "home", "--registry", "apps"]);
    let key = added.stdout.trim().to_owned();
    let scores = bench.read("scores.json");
    let served = Served::ignoring_file_limits(bench, &["--registry", "apps", "--proxies"]);
    let client = Client { address: served.address().to_owned(), key };
    let (status, stored) = client.put("mine", &files, None).expect("an answer");
    assert_eq!(status, 201, "{stored}");
    let tag = stored["tag"].as_str().expect("a tag");

    let rows = [("rows.jsonl".to_owned(), vec![b'a'; 4000])];
    let upload = || {
        let header = "content-type: multipart/form-data; boundary=B".to_owned();
        let body = form(&[("purpose", "fine-tune")], &rows);
        client.ask("POST", "/v1/files", &[header], &body).expect("an answer")
    };
    let extract = || client.bytes("POST", "/v1/apps/me/scores?budget=0.5", &[], &scores);
    let remove = |name: &str| client.ask("DELETE", &format!("/v1/adapters/{name}"), &[], b"");
    let before = names(&served.bench().path("apps"));
    let is_refused = |(status, answer): (u16, Value)| {
        assert_eq!((status, &answer["error"]["code"]), (507, &json!("storage_full")), "{answer}");
    };
    // An adapter that is not in memory yet has to be written out first.
    limit(served.id(), "0");
    is_refused(client.chat("mine").expect("an answer"));
    limit(served.id(), "unlimited");
    assert_eq!(client.chat("mine").expect("an answer").0, 200);
    for bytes in ["0", "1", "1000", "3000"] {
        limit(served.id(), bytes);
        is_refused(client.put("other", &files, None).expect("an answer"));
        is_refused(client.put("mine", &files, Some(tag)).expect("an answer"));
        is_refused(upload());
        is_refused(remove("mine").expect("an answer"));
        let (status, answer) = extract().expect("an answer");
        is_refused((status, serde_json::from_slice(&answer).expect("JSON")));
        let (status, answer) = client.chat("mine").expect("an answer");
        assert_eq!(status, 200, "{answer}");
        assert_eq!(client.ask("GET", "/v1/adapters", &[], b"").expect("an answer").0, 200);
        assert_eq!(names(&served.bench().path("apps")), before, "limited to {bytes} bytes");
    }
    limit(served.id(), "unlimited");
    let (status, answer) = client.put("mine", &files, Some(tag)).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(client.put("other", &files, None).expect("an answer").0, 201);
    let (status, file) = upload();
    assert_eq!((status, &file["bytes"]), (200, &json!(4000)), "{file}");
    assert_eq!(extract().expect("an answer").0, 200);
    assert_eq!(remove("other").expect("an answer").0, 200);
    let findings = check(&served.bench().path("apps")).expect("checked").findings;
    assert!(findings.is_empty(), "{findings:?}");
    assert!(!served.log().contains("panicked"), "{}", served.log());
}

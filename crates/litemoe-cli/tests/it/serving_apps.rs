//! `litemoe serve` with a registry of apps: keys, adapters that apps send, and kills at random moments.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use litemoe_fixtures::fuzz::{JSON_VALUES, fuzz};
use litemoe_registry::{AppName, Finding, Owner, Page, Registry, check};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::serving::{Served, connect, send};

/// Number of kills, if not by default.
const KILLS: &str = "LITEMOE_KILLS";

const DEFAULT_KILLS: usize = 10;

/// Longest time from the start to a kill.
const MAX_TIME: Duration = Duration::from_millis(250);

/// Names and contents of an adapter's files.
type Files = Vec<(String, Vec<u8>)>;

/// An answer: status and body.
pub(crate) type Answer = (u16, Value);

/// A client with a key.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: String,
    pub(crate) key: String,
}

impl Client {
    /// `None` if the server dies meanwhile.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[String],
        body: &[u8],
    ) -> Option<Answer> {
        let (status, body) = self.bytes(method, path, headers, body)?;
        Some((status, serde_json::from_slice(&body).ok()?))
    }

    /// The same with a body that is no JSON.
    pub(crate) fn bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[String],
        body: &[u8],
    ) -> Option<(u16, Vec<u8>)> {
        let mut stream = std::net::TcpStream::connect(&self.address).ok()?;
        let lines: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
             content-length: {}\r\n{lines}\r\n",
            self.key,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&answer[..end]).ok()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_off(end + 4)))
    }

    pub(crate) fn put(
        &self,
        name: &str,
        files: &[(String, Vec<u8>)],
        replaces: Option<&str>,
    ) -> Option<Answer> {
        let mut headers = vec!["content-type: multipart/form-data; boundary=B".to_owned()];
        headers.extend(replaces.map(|tag| format!("if-match: \"{tag}\"")));
        let body = form(&[], files);
        self.ask("PUT", &format!("/v1/adapters/{name}"), &headers, &body)
    }

    pub(crate) fn chat(&self, model: &str) -> Option<Answer> {
        let message = json!({ "role": "user", "content": "add 3 and 4" });
        let body = json!({ "model": model, "messages": [message], "max_tokens": 12 });
        self.ask("POST", "/v1/chat/completions", &[], body.to_string().as_bytes())
    }
}

/// A form with texts and files.
pub(crate) fn form(texts: &[(&str, &str)], files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, text) in texts {
        let head = format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(format!("{head}{text}\r\n").as_bytes());
    }
    for (name, content) in files {
        let head = format!("name=\"file\"; filename=\"{name}\"\r\n\r\n");
        body.extend_from_slice(format!("--B\r\ncontent-disposition: form-data; {head}").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--B--\r\n");
    body
}

pub(crate) fn files_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().expect("text");
    entries.map(|entry| (name(&entry), fs::read(entry.path()).expect("a file"))).collect()
}

/// A bench with an adapter, and an app's key.
fn bench_with_app() -> (Bench, Vec<(String, Vec<u8>)>, String) {
    let bench = Bench::new();
    bench.tune("model", "adapter", &[]);
    let files = files_of(&bench.path("adapter"));
    let added = bench.run(&["app", "add", "home", "--registry", "apps"]);
    assert_eq!(added.code, 0, "{}", added.stderr);
    (bench, files, added.stdout.trim().to_owned())
}

#[test]
fn an_app_sends_its_adapter_and_uses_it() {
    let (bench, files, key) = bench_with_app();
    let messages = json!([{ "role": "user", "content": "add 3 and 4" }]);
    fs::write(bench.path("messages.json"), messages.to_string()).expect("written");
    let line = ["generate", "model", "--messages", "messages.json", "--max-tokens", "12"];
    let alone = bench.json(&[&line[..], &["--adapter", "adapter"]].concat());
    let bench = Arc::new(bench);
    let server = Served::of(bench.clone(), &["--registry", "apps"], None);
    assert!(!server.log().contains("no keys are asked for"), "{}", server.log());
    let client = Client { address: server.address().to_owned(), key };
    let nobody = Client { key: "lm-0-0".to_owned(), ..client.clone() };
    assert_eq!(nobody.chat("model").expect("an answer").0, 401);
    assert_eq!(client.chat("mine").expect("an answer").0, 404);

    let (status, sent) = client.put("mine", &files, None).expect("an answer");
    assert_eq!((status, &sent["owner"]), (201, &json!("home")), "{sent}");
    let (status, answer) = client.chat("mine").expect("an answer");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["choices"][0]["message"]["content"], alone["text"]);

    // Of another base, and one that would change nothing.
    let mut other = files.clone();
    for (name, content) in &mut other {
        if name == "litemoe.json" {
            let mut record: Value = serde_json::from_slice(content).expect("JSON");
            record["base"] = json!({});
            *content = record.to_string().into_bytes();
        }
    }
    let (status, refused) = client.put("other", &other, None).expect("an answer");
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("invalid_adapter")), "{refused}");
    let message = refused["error"]["message"].as_str().expect("text");
    assert!(!message.contains("/tmp") && !message.contains("apps/"), "{message}");
    let (status, list) = client.ask("GET", "/v1/models", &[], b"").expect("an answer");
    let names: Vec<_> =
        list["data"].as_array().expect("a list").iter().map(|it| &it["id"]).collect();
    assert_eq!((status, json!(names)), (200, json!(["model", "mine"])));
    let usage = bench.json(&["app", "usage", "home", "--registry", "apps"]);
    assert!(usage.to_string().contains("\"completion_tokens\":"), "{usage}");
}

/// Adapters of the registry go from the original to the quantised model and back; one that is tuned on the quantised model
/// stays with it.
#[test]
fn a_quantized_model_serves_the_adapters_of_the_original() {
    let (bench, files, key) = bench_with_app();
    bench.json(&["quantize", "model"]);
    bench.tune("quantized", "own", &[]);
    let own = files_of(&bench.path("own"));
    let bench = Arc::new(bench);
    let put = |sent: &[(&str, &Files)]| {
        let server = Served::of(bench.clone(), &["--registry", "apps", "--no-jobs"], None);
        let client = Client { address: server.address().to_owned(), key: key.clone() };
        for (name, files) in sent {
            let (status, answer) = client.put(name, files, None).expect("an answer");
            assert_eq!(status, 201, "{name}: {answer}");
        }
        ["first", "second", "own"].map(|name| client.chat(name).expect("an answer").0)
    };
    assert_eq!(put(&[("first", &files)]), [200, 404, 404]);
    fs::rename(bench.path("model"), bench.path("original")).expect("renamed");
    fs::rename(bench.path("quantized"), bench.path("model")).expect("renamed");
    assert_eq!(put(&[("second", &files), ("own", &own)]), [200, 200, 200]);
    fs::rename(bench.path("model"), bench.path("quantized")).expect("renamed");
    fs::rename(bench.path("original"), bench.path("model")).expect("renamed");
    assert_eq!(put(&[]), [200, 200, 404]);
}

#[test]
fn only_an_app_lets_other_machines_in() {
    let bench = Bench::new();
    let run = bench.run(&["serve", "model", "--host", "0.0.0.0", "--port", "0"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("0.0.0.0 is not a loopback address"), "{}", run.stderr);
}

/// What the server has acknowledged.
#[derive(Debug, Default)]
struct Known {
    /// Entity tag of each adapter.
    adapters: BTreeMap<String, String>,
    files: BTreeSet<String>,
    n_done: usize,
}

#[derive(Debug)]
enum Operation {
    Put(String),
    Remove(String),
    Upload,
}

/// Sends random operations until the server is dead; returns the one that was interrupted.
fn work(client: &Client, files: &[(String, Vec<u8>)], seed: u64, known: &mut Known) -> Operation {
    for draw in litemoe_fixtures::uniform(seed, 10_000) {
        let draw = ((draw + 1.0) * 500.0) as usize;
        let name = format!("adapter-{}", draw % 4);
        let old = known.adapters.get(&name).cloned();
        let (operation, answer) = match draw / 4 % 4 {
            0 if old.is_some() => {
                let answer = client.ask("DELETE", &format!("/v1/adapters/{name}"), &[], b"");
                (Operation::Remove(name), answer)
            }
            0 | 1 => {
                let file =
                    [("rows.jsonl".to_owned(), format!("{{\"row\":{draw}}}\n").into_bytes())];
                let header = "content-type: multipart/form-data; boundary=B".to_owned();
                let body = form(&[("purpose", "fine-tune")], &file);
                (Operation::Upload, client.ask("POST", "/v1/files", &[header], &body))
            }
            _ => {
                let answer = client.put(&name, files, old.as_deref());
                (Operation::Put(name), answer)
            }
        };
        let Some((status, answer)) = answer else { return operation };
        assert!((200..300).contains(&status), "{operation:?}: {answer}");
        known.n_done += 1;
        match operation {
            Operation::Put(name) => {
                known.adapters.insert(name, answer["tag"].as_str().expect("a tag").to_owned());
            }
            Operation::Remove(name) => {
                known.adapters.remove(&name);
            }
            Operation::Upload => {
                known.files.insert(answer["id"].as_str().expect("an id").to_owned());
            }
        }
    }
    panic!("the server lives");
}

/// What is in the registry.
fn found(registry: &Registry) -> Known {
    let home: AppName = "home".parse().expect("a name");
    let adapters = registry.adapters(&Owner::App(home.clone())).expect("adapters");
    let files = registry.files(&home, Page { limit: 100_000, ..Page::default() }).expect("files");
    Known {
        adapters: adapters.into_iter().map(|it| (it.name.to_string(), it.tag)).collect(),
        files: files.into_iter().map(|file| file.id).collect(),
        n_done: 0,
    }
}

#[cfg(unix)]
#[test]
fn what_a_killed_server_has_acknowledged_is_there() {
    let n_kills = std::env::var(KILLS).map_or(DEFAULT_KILLS, |kills| kills.parse().expect(KILLS));
    let (bench, files, key) = bench_with_app();
    let dir = bench.path("apps");
    let (bench, mut known, mut n_whole) = (Arc::new(bench), Known::default(), 0);
    for (seed, share) in litemoe_fixtures::uniform(11, n_kills).into_iter().enumerate() {
        let options = ["--registry", "apps", "--no-jobs"];
        let server = Served::of(bench.clone(), &options, Some("error"));
        let client = Client { address: server.address().to_owned(), key: key.clone() };
        let operation = thread::scope(|scope| {
            let working = scope.spawn(|| work(&client, &files, seed as u64, &mut known));
            thread::sleep(MAX_TIME.mul_f32((share + 1.0) / 2.0));
            // By SIGKILL.
            drop(server);
            working.join().expect("no panic")
        });
        // Of the one that was interrupted nothing or all is there.
        let registry = Registry::open(&dir).expect("it opens");
        let is = found(&registry);
        match &operation {
            Operation::Put(name) | Operation::Remove(name) => {
                let (old, new) = (known.adapters.get(name), is.adapters.get(name));
                if old != new {
                    n_whole += 1;
                    let is_put = matches!(operation, Operation::Put(_));
                    assert!(is_put == new.is_some(), "{operation:?}");
                    known.adapters.remove(name);
                    known.adapters.extend(new.map(|tag| (name.clone(), tag.clone())));
                }
            }
            Operation::Upload => {
                let new: Vec<_> = is.files.difference(&known.files).cloned().collect();
                assert!(new.len() <= 1, "{new:?}");
                n_whole += new.len();
                known.files.extend(new);
            }
        }
        assert_eq!((&is.adapters, &is.files), (&known.adapters, &known.files), "kill {seed}");
        let names = fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry"));
        let names = names.map(|entry| entry.file_name().into_string().expect("text"));
        let other: Vec<_> = names
            .filter(|name| !(name.starts_with("registry.db") || name == "files" || name == "jobs"))
            .filter(|name| name != ".jobs.litemoe-lock")
            .collect();
        assert_eq!(other, Vec::<String>::new(), "kill {seed}");
        for finding in check(&dir).expect("checked").findings {
            assert!(matches!(finding, Finding::Orphan { .. }), "kill {seed}: {finding:?}");
        }
        registry.collect_garbage().expect("collected");
        assert!(check(&dir).expect("checked").is_clean(), "kill {seed}");
    }
    println!(
        "{n_kills} kills, {} operations acknowledged, {n_whole} interrupted ones whole",
        known.n_done
    );
    assert!(known.n_done > n_kills);
}

/// Requests of an app from which the fuzzer starts.
fn requests(key: &str, file: &str) -> Vec<Vec<u8>> {
    let request = |line: &str, headers: &str, body: &[u8]| {
        let head = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n{headers}content-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let content = [("adapter_config.json".to_owned(), b"{\"r\":4}".to_vec())];
    let form_type = "content-type: multipart/form-data; boundary=B\r\n";
    let job = format!(
        r#"{{"model":"model","training_file":"{file}","validation_file":null,"suffix":"a","seed":1,"hyperparameters":{{"n_epochs":1,
           "batch_size":"auto","learning_rate_multiplier":0.5}},"method":{{"type":"supervised"}}}}"#
    );
    let chat = r#"{"model":"mine","messages":[{"role":"user","content":"hi"}],"max_tokens":2}"#;
    vec![
        request("POST /v1/chat/completions", "", chat.as_bytes()),
        request("PUT /v1/adapters/other", form_type, &form(&[], &content)),
        request("DELETE /v1/adapters/other", "if-match: \"7\"\r\n", b""),
        request("POST /v1/files", form_type, &form(&[("purpose", "fine-tune")], &content)),
        request("GET /v1/files?limit=2&order=asc&after=file-1", "", b""),
        request(&format!("GET /v1/files/{file}/content"), "range: bytes=0-1\r\n", b""),
        request("POST /v1/fine_tuning/jobs", "", job.as_bytes()),
        request("GET /v1/fine_tuning/jobs/job-1/events?limit=1&after=2", "", b""),
    ]
}

#[cfg(target_os = "linux")]
#[test]
fn fuzzed_requests_of_apps_break_nothing() {
    const CLIENTS: usize = 16;
    let (bench, files, key) = bench_with_app();
    let (dir, bench) = (bench.path("apps"), Arc::new(bench));
    let options = [
        "--registry",
        "apps",
        "--no-jobs",
        "--timeout",
        "0.2",
        "--max-context",
        "64",
        "--max-upload",
        "4096000",
    ];
    let server = Served::of(bench.clone(), &options, None);
    let client = Client { address: server.address().to_owned(), key: key.clone() };
    assert_eq!(client.put("mine", &files, None).expect("an answer").0, 201);
    let header = "content-type: multipart/form-data; boundary=B".to_owned();
    let rows = form(&[("purpose", "fine-tune")], &[("rows.jsonl".to_owned(), b"{}".to_vec())]);
    let file = client.ask("POST", "/v1/files", &[header], &rows).expect("an answer").1;
    let file = file["id"].as_str().expect("an id").to_owned();
    let values =
        [JSON_VALUES, &["\r\n", "--B", "--B--\r\n", "filename=", "..", "%2f", "\"7\"", "null"]]
            .concat();
    let mut documents = Vec::new();
    fuzz(&requests(&key, &file), &values, |_, document| documents.push(document.to_vec()));
    let send_all = |documents: &[Vec<u8>]| {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let own = documents.iter().enumerate().skip(client).step_by(CLIENTS);
                let address = server.address();
                scope.spawn(move || {
                    for (index, bytes) in own {
                        send(connect(address), index / CLIENTS, bytes);
                    }
                });
            }
        });
    };
    let (warm, rest) = documents.split_at(documents.len() / 5);
    send_all(warm);
    let before = server.memory("VmRSS:");
    send_all(rest);
    let after = server.memory("VmRSS:");
    println!("{} requests: {before} MiB then {after} MiB", documents.len());
    assert!(after < before + 64, "{before} MiB then {after} MiB");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(client.chat("mine").expect("an answer").0, 200);
    drop(server);
    drop(Registry::open(&dir).expect("it opens"));
    let findings = check(&dir).expect("checked").findings;
    assert!(findings.is_empty(), "{findings:?}");
}

//! Every command in every model family; the results are the table in litemoe-model's README.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Stdio;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::bench::Bench;

/// Families with their tiny checkpoints, one per expert layout.
pub(crate) const FAMILIES: [(&str, &[&str]); 11] = [
    ("deepseek_v2", &["deepseek_v2"]),
    ("deepseek_v3", &["deepseek_v3"]),
    ("gpt_oss", &["gpt_oss", "gpt_oss_mxfp4"]),
    ("granitemoe", &["granitemoe"]),
    ("llama4_text", &["llama4_text"]),
    ("mixtral", &["mixtral", "mixtral_fused"]),
    ("olmoe", &["olmoe"]),
    ("phimoe", &["phimoe"]),
    ("qwen2_moe", &["qwen2_moe"]),
    ("qwen3_moe", &["qwen3_moe"]),
    ("switch_transformers", &["switch_transformers"]),
];

/// A command and its check; a panic means no.
type Verb = (&'static str, fn(&Bench));

const VERBS: [Verb; 7] = [
    ("logits", logits),
    ("generate", generate),
    ("extract", extract),
    ("tune", tune),
    ("mount", mount),
    ("experts", experts),
    ("serve", serve),
];

const BEGIN: &str = "<!-- what tests/it/families.rs of litemoe-cli saw -->\n";
const END: &str = "<!-- end -->";

/// Environment variable that makes the test write the table.
const BLESS: &str = "LITEMOE_BLESS";

#[test]
fn every_command_in_every_family_is_as_the_table_says() {
    let mut table = "| family |".to_owned();
    VERBS.iter().for_each(|(verb, _)| table += &format!(" {verb} |"));
    table += &format!("\n|---|{}\n", "---|".repeat(VERBS.len()));
    for (family, checkpoints) in FAMILIES {
        let benches: Vec<Bench> = checkpoints.iter().map(|name| Bench::of(name)).collect();
        table += &format!("| `{family}` |");
        for (_, check) in VERBS {
            let holds = |bench| catch_unwind(AssertUnwindSafe(|| check(bench))).is_ok();
            table += if benches.iter().all(holds) { " ✓ |" } else { " – |" };
        }
        table.push('\n');
    }
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../litemoe-model/README.md");
    let text = fs::read_to_string(&readme).expect("the README is there");
    let (before, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (old, after) = rest.split_once(END).expect("where the table ends");
    if std::env::var_os(BLESS).is_some() {
        let text = [before, BEGIN, &table, END, after].concat();
        return fs::write(&readme, text).expect("the README is written");
    }
    assert_eq!(old, table, "set {BLESS} to write what was seen to {}", readme.display());
}

/// Logits within 5e-6 of those of transformers, relative to the largest.
fn logits(bench: &Bench) {
    let reference: Value =
        serde_json::from_slice(&bench.read("model/reference.json")).expect("JSON");
    let ids = |key: &str| -> Option<String> {
        let ids = reference.get(key)?.as_array()?.iter().map(Value::to_string);
        Some(ids.collect::<Vec<_>>().join(","))
    };
    let mut args = vec!["logits".to_owned(), "model".to_owned(), "--ids".to_owned()];
    args.push(ids("input_ids").expect("ids"));
    args.extend(ids("decoder_input_ids").into_iter().flat_map(|ids| ["--decoder-ids".into(), ids]));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let found: Vec<Vec<f32>> =
        serde_json::from_value(bench.json(&args)["logits"].clone()).expect("JSON");
    let bytes = bench.read("model/reference.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let expected = file.tensor("logits").expect("logits");
    let expected = expected.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
    let expected: Vec<f32> = expected.collect();
    let largest = expected.iter().fold(1.0f32, |largest, logit| largest.max(logit.abs()));
    assert_eq!(found.iter().map(Vec::len).sum::<usize>(), expected.len());
    for (found, expected) in found.iter().flatten().zip(&expected) {
        assert!((found - expected).abs() < 5e-6 * largest, "{found} is not {expected}");
    }
}

/// The same text with and without log-probabilities.
fn generate(bench: &Bench) {
    let args = ["generate", "model", "--prompt", "add 3 and 4", "--max-tokens", "8"];
    let plain = bench.json(&args);
    let again = bench.json(&[&args[..], &["--logprobs", "2"]].concat());
    assert_eq!(plain["text"], again["text"]);
    assert!(["length", "stop"].contains(&plain["finish_reason"].as_str().expect("a reason")));
}

/// A proxy with its own router rule, and a plain one within its budget.
fn extract(bench: &Bench) {
    bench.extract(&["--merge", "litemoe", "--router", "redirect", "--cold", "0.1"]);
    assert_eq!(bench.json(&["eval", "proxy", "rows.jsonl"])["rows"], 40);
    bench.extract(&[]);
    let [proxy, foundation] = ["proxy", "model"].map(|model| {
        let inspected = bench.json(&["inspect", model]);
        inspected["expert_bytes"].as_u64().expect("bytes")
    });
    // MXFP4 experts are written in bf16.
    if !String::from_utf8_lossy(&bench.read("model/config.json")).contains("mxfp4") {
        let budget: f64 = bench.budget.parse().expect("a share");
        assert_eq!(proxy as f64, budget * foundation as f64);
    }
}

fn tune(bench: &Bench) {
    let tuned = bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    assert!(tuned["validation_loss"].as_f64().expect("a number") > 0.0);
    assert!(tuned["peak_bytes"]["anonymous"].as_u64().expect("bytes") > 0);
    let on_proxy = bench.json(&["eval", "proxy", "rows.jsonl", "--adapter", "adapter"]);
    assert!(on_proxy["perplexity"].as_f64().expect("a number") > 1.0);
}

fn mount(bench: &Bench) {
    let data = ["--validation", "rows.jsonl", "--scale", "0.5", "--routing", "restricted"];
    let out = ["--plan", "plan.json", "--out", "mounted"];
    let args = [&["mount", "model", "adapter"][..], &data, &out].concat();
    assert_eq!(bench.json(&args)["choice"]["scale"], 0.5);
    let mounted = bench.json(&["eval", "model", "rows.jsonl", "--adapter", "mounted"]);
    let alone = bench.json(&["eval", "model", "rows.jsonl"]);
    assert!(mounted["perplexity"].as_f64().expect("a number") > 1.0);
    assert_ne!(mounted["perplexity"], alone["perplexity"]);
}

/// An adapter on the routed experts, tuned on the proxy and mounted by its plan.
fn experts(bench: &Bench) {
    bench.tune("proxy", "experts-adapter", &["--plan", "plan.json", "--targets", "experts"]);
    let proxy = bench.json(&["eval", "proxy", "rows.jsonl", "--adapter", "experts-adapter"]);
    let plan = ["--plan", "plan.json", "--validation", "rows.jsonl", "--scale", "0.5"];
    bench.json(
        &[&["mount", "model", "experts-adapter", "--out", "experts-mounted"][..], &plan].concat(),
    );
    let mounted = bench.json(&["eval", "model", "rows.jsonl", "--adapter", "experts-mounted"]);
    let alone = bench.json(&["eval", "model", "rows.jsonl"]);
    assert!(proxy["perplexity"].as_f64().expect("a number") > 1.0);
    assert_ne!(mounted["perplexity"], alone["perplexity"]);
}

/// An answer of the mounted adapter over HTTP.
fn serve(bench: &Bench) {
    let mut command =
        bench.command(&["serve", "model", "--adapter", "tuned=mounted", "--port", "0"]);
    let mut server = command.stdout(Stdio::piped()).spawn().expect("the server starts");
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let line = lines.next().expect("a line").expect("a line");
    let address = line.rsplit("http://").next().expect("an address").trim().to_owned();
    let body =
        r#"{"model":"tuned","messages":[{"role":"user","content":"add 3 and 4"}],"max_tokens":4}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json";
    let mut stream = TcpStream::connect(&address).expect("a connection");
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    server.kill().expect("stopped");
    server.wait().expect("ended");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"finish_reason\""), "{answer}");
}

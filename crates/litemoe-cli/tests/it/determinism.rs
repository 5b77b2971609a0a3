//! One seed gives one result, interrupted or not.

use std::thread;
use std::time::Duration;

use crate::bench::Bench;

const ADAPTER: [&str; 2] = ["adapter_model.safetensors", "adapter_config.json"];

#[test]
fn two_runs_write_the_same_bytes() {
    let run = || {
        let bench = Bench::new();
        bench.extract(&["--merge", "litemoe", "--router", "redirect", "--cold", "0.1"]);
        bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
        bench
    };
    let (one, two) = (run(), run());
    let proxy = ["proxy/model.safetensors", "proxy/config.json"].map(str::to_owned);
    // The configuration names the folder of the base, which differs.
    let adapter = [format!("adapter/{}", ADAPTER[0])];
    for name in ["scores.json".to_owned(), "similarity.json".to_owned(), "plan.json".to_owned()]
        .iter()
        .chain(&proxy)
        .chain(&adapter)
    {
        assert!(one.read(name) == two.read(name), "{name} differs between two runs");
    }
}

#[test]
fn a_killed_tune_resumes_to_the_same_adapter() {
    let bench = Bench::new();
    let options = ["--steps", "60", "--validate-every", "7"];
    bench.tune("model", "whole", &options);
    let tune =
        ["tune", "model", "rows.jsonl", "--validation", "rows.jsonl", "--out", "parts", "--resume"];
    let quick = ["--batch", "4", "--validation-rows", "8", "--warmup", "2", "--json"];
    let mut kills = 0;
    for milliseconds in [400, 700, 1100, 300, 900] {
        let args = [&tune[..], &quick[..], &options[..]].concat();
        let mut child =
            bench.command(&args).stdout(std::process::Stdio::null()).spawn().expect("it starts");
        thread::sleep(Duration::from_millis(milliseconds)); // a random moment is the point of this test
        if child.try_wait().expect("asked").is_none() {
            child.kill().expect("killed");
            kills += 1;
        }
        child.wait().expect("ended");
    }
    assert!(kills > 0, "every run ended before it was killed");
    bench.tune("model", "parts", &[&options[..], &["--resume"]].concat());
    for name in ADAPTER {
        assert!(
            bench.read(&format!("whole/{name}")) == bench.read(&format!("parts/{name}")),
            "{name} differs"
        );
    }
}

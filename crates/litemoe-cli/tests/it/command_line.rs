//! Options of every command, completions and manual pages.

use std::fs;
use std::process::Command;

use crate::bench::Bench;

#[test]
fn completions_and_manual_pages_name_commands_and_options() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.run(&["completions", shell]);
        assert_eq!(script.code, 0, "{}", script.stderr);
        for word in ["customize", "expert-rank", "threads", "bf16"] {
            assert!(script.stdout.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(bench.run(&["completions", "dos"]).code, 2);
    let tune = bench.run(&["man", "tune"]);
    assert!(tune.stdout.contains(".TH litemoe-tune 1"), "{}", tune.stdout);
    assert!(tune.stdout.contains("\\-\\-expert\\-rank"), "{}", tune.stdout);
    for page in ["data-check", "app-add", "registry-check"] {
        let words: Vec<&str> = std::iter::once("man").chain(page.split('-')).collect();
        assert!(bench.run(&words).stdout.contains(&format!("litemoe-{page}")), "{page}");
    }
    assert!(bench.run(&["man"]).stdout.contains("wrong arguments"));
    for unknown in [&["man", "sing"][..], &["man", "stage"], &["man", "tune", "check"]] {
        assert_eq!(bench.run(unknown).code, 1, "{unknown:?}");
    }
}

#[test]
fn a_quiet_run_prints_the_result_alone() {
    let bench = Bench::new();
    let long = format!("{{\"prompt\": \"{}\", \"completion\": \"b\"}}\n", "a ".repeat(300));
    let rows = fs::read_to_string(bench.path("rows.jsonl")).unwrap();
    fs::write(bench.path("rows.jsonl"), rows + &long).unwrap();
    let score = ["score", "model", "rows.jsonl", "--max-tokens", "100", "--out"];
    let loud = bench.run(&[&score[..], &["loud.json"]].concat());
    let quiet = bench.run(&[&score[..], &["quiet.json", "--quiet"]].concat());
    assert!(loud.stderr.contains("longer than 100 tokens"), "{}", loud.stderr);
    assert_eq!((quiet.code, &*quiet.stderr), (0, ""));
    assert!(!quiet.stdout.is_empty());
    let failed = bench.run(&["score", "model", "none.jsonl", "--out", "x.json", "-q"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.starts_with("error: "), "{}", failed.stderr);
}

#[test]
fn the_number_of_threads_changes_no_result() {
    let bench = Bench::new();
    let logits = |threads: &[&str]| {
        bench.json(&[&["logits", "model", "--ids", "5,17,300"], threads].concat())
    };
    let logits = [&[][..], &["--threads", "1"], &["--threads", "3"]].map(logits);
    assert_eq!(logits[0], logits[1]);
    assert_eq!(logits[0], logits[2]);
    let args = ["logits", "model", "--ids", "5", "--threads"];
    for wrong in ["0", "-1", "many"] {
        assert_eq!(bench.run(&[&args[..], &[wrong]].concat()).code, 2, "{wrong}");
    }
}

#[test]
fn the_long_version_tells_the_build() {
    let bench = Bench::new();
    let short = bench.run(&["-V"]).stdout;
    assert_eq!(short, format!("litemoe {}\n", env!("CARGO_PKG_VERSION")));
    let long = bench.run(&["--version"]).stdout;
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(format!("{}\n", lines[0]), short);
    let commit = lines[1].strip_prefix("commit: ").expect("the commit");
    let is_hash = commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || commit == "unknown", "{long}");
    if is_hash {
        // HEAD may have moved since the build.
        let known =
            Command::new("git").args(["cat-file", "-e", &format!("{commit}^{{commit}}")]).status();
        assert!(known.is_ok_and(|status| status.success()), "{long}");
    }
    let features = lines[2].strip_prefix("features: ").expect("the features");
    assert_eq!(features.split(", ").any(|name| name == "hub"), cfg!(feature = "hub"), "{long}");
    assert_eq!(features.split(", ").any(|name| name == "wgpu"), cfg!(feature = "wgpu"), "{long}");
    assert!(lines[3].strip_prefix("target: ").is_some_and(|target| target.contains('-')), "{long}");
    assert_eq!(bench.run(&["tune", "--version"]).stdout.lines().nth(1), Some(lines[1]));
}

#[test]
fn help_texts_list_the_values_of_options_with_a_line_about_each() {
    let bench = Bench::new();
    for (command, options) in [
        ("score", &["- expert_output_gated: cosine ", "- last-turn: "][..]),
        ("plan", &["- esft_gate:  mean ", "- litemoe: merge ", "- hungarian: ", "- drop_rows: "]),
        ("extract", &["- low-rank: ", "- cpu: "]),
        ("mount", &["- restricted: to the proxy's", "- accuracy: "]),
        (
            "customize",
            &[
                "- task:  ",
                "- restricted: ",
                "- low-rank: ",
                "- auto: ",
                "- json:  ",
                "refit use f32",
            ],
        ),
        ("eval", &["- q4:  4-bit", "what every token uses in 8"]),
        ("inspect", &["- bf16:  2 bytes"]),
        ("app add", &["- background: runs when"]),
    ] {
        let command: Vec<&str> = command.split(' ').collect();
        let help = bench.run(&[&command[..], &["--help"]].concat()).stdout;
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for option in options {
            let option = option.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(help.contains(&option), "{command:?}: {option}: {help}");
        }
        let short = bench.run(&[&command[..], &["-h"]].concat()).stdout;
        assert!(short.contains("[possible values: "), "{command:?}: {short}");
    }
}

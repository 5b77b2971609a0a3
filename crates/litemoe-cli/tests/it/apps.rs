//! Apps and their registry on the command line.

use std::fs;
use std::path::PathBuf;

use litemoe_registry::{Registry, Usage};
use serde_json::{Value, json};

use crate::bench::{Bench, Run};

/// Runs a command with the registry of a bench.
fn run(bench: &Bench, line: &str) -> Run {
    let args: Vec<&str> = line.split_whitespace().collect();
    bench.run(&[&args[..], &["--registry", "apps"]].concat())
}

#[track_caller]
fn done(bench: &Bench, line: &str) -> String {
    let run = run(bench, line);
    assert_eq!(run.code, 0, "{line}: {}", run.stderr);
    run.stdout
}

#[track_caller]
fn json_of(bench: &Bench, line: &str) -> Value {
    let printed = done(bench, &format!("{line} --json"));
    assert_eq!(printed.lines().count(), 1, "{printed}");
    serde_json::from_str(&printed).expect("JSON")
}

#[track_caller]
fn refused(bench: &Bench, line: &str, code: i32, names: &[&str]) {
    let run = run(bench, line);
    assert_eq!((run.code, &*run.stdout), (code, ""), "{line}: {}", run.stderr);
    for name in names {
        assert!(run.stderr.contains(name), "{line}: `{name}` is not in: {}", run.stderr);
    }
}

fn registry(bench: &Bench) -> Registry {
    Registry::open(&bench.path("apps")).expect("a registry")
}

#[track_caller]
fn expect_app(bench: &Bench, key: &str, expected: Option<&str>) {
    let app = registry(bench).authenticate(key).expect("read");
    assert_eq!(app.map(|app| app.name.to_string()).as_deref(), expected);
}

#[test]
fn a_key_is_printed_once_and_is_the_apps() {
    let bench = Bench::new();
    let added = run(&bench, "app add home");
    assert_eq!(added.code, 0, "{}", added.stderr);
    let key = added.stdout.strip_suffix('\n').expect("a line");
    assert!(key.starts_with("lm-") && key.len() == 84, "{key}");
    assert!(added.stderr.contains("`home`") && added.stderr.contains("not shown again"));
    assert!(!added.stderr.contains(key));
    expect_app(&bench, key, Some("home"));
    let quiet = run(&bench, "app add quiet --quiet");
    assert_eq!((quiet.code, &*quiet.stderr, quiet.stdout.lines().count()), (0, "", 1));
    for line in ["app list", "app show home", "app list --json", "app show home --json"] {
        let secret = &key[20..];
        assert!(!done(&bench, line).contains(secret), "{line}");
    }
    let printed = json_of(&bench, "app add other");
    assert_eq!(printed["name"], "other");
    let other = printed["key"].as_str().expect("a key");
    assert!(other.contains(printed["id"].as_str().expect("an id")));
    expect_app(&bench, other, Some("other"));
    refused(&bench, "app add home", 1, &["there is an app `home` already"]);
    expect_app(&bench, key, Some("home"));
}

#[test]
fn settings_are_those_that_were_given() {
    let bench = Bench::new();
    done(
        &bench,
        "app add home --models model,org/other --adapters assistant --rpm 60 --tokens-per-minute 10000 \
         --concurrency 2 --cache 1048576 --budget-per-day 500000 --weight 3 --priority background",
    );
    let shown = json_of(&bench, "app show home");
    let settings = json!({
        "models": ["model", "org/other"],
        "adapters": ["assistant"],
        "requests_per_minute": 60,
        "tokens_per_minute": 10000,
        "concurrency": 2,
        "cache_bytes": 1_048_576,
        "tokens_per_day": 500_000,
        "weight": 3,
        "priority": "background",
    });
    for (name, value) in settings.as_object().expect("settings") {
        assert_eq!(&shown[name], value, "{name}");
    }
    assert_eq!((&shown["name"], &shown["revoked"]), (&json!("home"), &Value::Null));
    assert_eq!(shown["keys"].as_array().map(Vec::len), Some(1));
    assert_eq!(shown["usage_today"]["requests"], 0);

    let set = json_of(&bench, "app set home --rpm none --weight 1 --models *");
    assert_eq!(set["requests_per_minute"], Value::Null);
    assert_eq!((&set["weight"], &set["models"]), (&json!(1), &json!("*")));
    assert_eq!(set["concurrency"], 2, "what is not given stays");
    let text = done(&bench, "app show home");
    for words in ["requests/minute none", "cache 1.00 MiB", "priority background", "models *"] {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{words}: {text}");
    }
    done(&bench, "app add plain");
    let plain = json_of(&bench, "app show plain");
    assert_eq!((&plain["models"], &plain["adapters"]), (&json!("*"), &json!("*")));
    assert_eq!((&plain["weight"], &plain["priority"]), (&json!(1), &json!("interactive")));
    let names = |apps: &Value| -> Vec<String> {
        let apps = apps.as_array().expect("apps").iter();
        apps.map(|app| app["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&json_of(&bench, "app list")), ["home", "plain"]);
    let list = done(&bench, "app list");
    assert!(list.contains("home") && list.contains("background") && list.contains("500000"));
}

#[test]
fn wrong_values_are_wrong_arguments_and_unknown_apps_failures() {
    let bench = Bench::new();
    refused(&bench, "app list", 1, &["there is no registry in apps", "litemoe app add"]);
    refused(&bench, "registry check", 1, &["there is no registry in apps"]);
    for (line, name) in [
        ("app add Home", "beginning with a letter or digit"),
        ("app add ..", "beginning with a letter or digit"),
        ("app add home --rpm 0", "--rpm"),
        ("app add home --rpm -1", "-1"),
        ("app add home --weight 0", "--weight"),
        ("app add home --budget-per-day many", "or none"),
        ("app add home --priority urgent", "interactive, background"),
        ("app rotate home --grace soon", "--grace"),
        ("app usage --days 0", "--days"),
        ("app sing", "sing"),
        ("app", "Usage"),
    ] {
        refused(&bench, line, 2, &[name]);
    }
    assert!(!bench.path("apps").exists(), "nothing was made");
    done(&bench, "app add home");
    refused(&bench, "app set home", 1, &["nothing to set"]);
    refused(&bench, "app add large --cache 18446744073709551615", 1, &["too large"]);
    for line in ["app show", "app rotate", "app revoke", "app usage", "app set --rpm 1"] {
        refused(&bench, &format!("{line} nobody"), 1, &["there is no app `nobody`"]);
    }
    assert_eq!(json_of(&bench, "app list").as_array().map(Vec::len), Some(1));
}

#[test]
fn keys_are_rotated_and_revoked() {
    let bench = Bench::new();
    let key = |line: &str| done(&bench, line).trim().to_owned();
    let first = key("app add home");
    let second = key("app rotate home --grace 3600");
    expect_app(&bench, &first, Some("home"));
    expect_app(&bench, &second, Some("home"));
    let shown = done(&bench, "app show home");
    assert_eq!(shown.matches(", until ").count(), 1, "{shown}");
    let third = key("app rotate home");
    expect_app(&bench, &first, None);
    expect_app(&bench, &second, None);
    expect_app(&bench, &third, Some("home"));
    let revoked = json_of(&bench, "app revoke home");
    assert!(revoked["revoked"].is_i64(), "{revoked}");
    expect_app(&bench, &third, None);
    refused(&bench, "app rotate home", 1, &["the app `home` is revoked"]);
    refused(&bench, "app add home", 1, &["there is an app `home` already"]);
    assert!(done(&bench, "app list").contains("revoked 2"));
}

#[test]
fn usage_is_listed_by_day() {
    let bench = Bench::new();
    done(&bench, "app add home");
    done(&bench, "app add idle");
    assert_eq!(done(&bench, "app usage"), "no requests\n");
    let used = Usage { requests: 2, prompt_tokens: 30, cached_tokens: 16, completion_tokens: 12 };
    let registry = registry(&bench);
    registry.record_usage(&"home".parse().expect("a name"), &used).expect("recorded");
    let usage = json_of(&bench, "app usage home --days 1");
    assert_eq!(usage.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&usage[0]["app"], &usage[0]["total"]["completion_tokens"]),
        (&json!("home"), &json!(12))
    );
    assert_eq!(usage[0]["days"][0]["day"], registry.today().to_string());
    assert_eq!(usage[0]["days"][0]["cached_tokens"], 16);
    let all = json_of(&bench, "app usage");
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    assert_eq!(all[1]["days"], json!([]));
    let text = done(&bench, "app usage");
    assert!(text.contains("home") && text.contains("30") && !text.contains("idle"), "{text}");
}

#[test]
fn a_registry_is_checked_and_its_garbage_collected() {
    let bench = Bench::new();
    done(&bench, "app add home");
    assert!(done(&bench, "registry check").contains("everything is as it should be"));
    assert_eq!(
        json_of(&bench, "registry check"),
        json!({"contents": 0, "bytes": 0, "findings": []})
    );
    // The hash of nothing.
    let orphan = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    fs::write(bench.path("apps/files").join(orphan), "").expect("written");
    let checked = json_of(&bench, "registry check");
    assert_eq!(checked["findings"], json!([{"finding": "orphan", "sha256": orphan, "bytes": 0}]));
    assert!(done(&bench, "registry check").contains("garbage"));
    assert_eq!(json_of(&bench, "registry collect-garbage"), json!({"contents": 1, "bytes": 0}));
    assert_eq!(json_of(&bench, "registry check")["findings"], json!([]));
    // What is not the registry's is a fault, and stays.
    fs::write(bench.path("apps/files/notes"), "mine").expect("written");
    let faulty = run(&bench, "registry check");
    assert_eq!(faulty.code, 1);
    assert!(faulty.stderr.contains("notes is no content"), "{}", faulty.stderr);
    let faulty = run(&bench, "registry check --json");
    let report: Value = serde_json::from_str(&faulty.stdout).expect("JSON");
    assert_eq!((faulty.code, &report["findings"][0]["name"]), (1, &json!("notes")));
    assert!(bench.path("apps/files/notes").exists());
}

#[test]
fn the_registry_is_the_given_one_or_the_variables_or_in_the_data_directory() {
    let bench = Bench::new();
    let add = |args: &[&str], variables: &[(&str, PathBuf)]| {
        let mut command = bench.command(&[&["app", "add", "home"], args].concat());
        for name in ["LITEMOE_REGISTRY", "XDG_DATA_HOME"] {
            command.env_remove(name);
        }
        command.env("HOME", bench.path("user"));
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let run = Run::of(&command.output().expect("the binary runs"));
        assert_eq!(run.code, 0, "{}", run.stderr);
    };
    let own = ("LITEMOE_REGISTRY", bench.path("own"));
    let data = ("XDG_DATA_HOME", bench.path("data"));
    add(&["--registry", "given"], &[own.clone(), data.clone()]);
    assert!(bench.path("given/registry.db").exists());
    add(&[], &[own, data.clone()]);
    assert!(bench.path("own/registry.db").exists());
    add(&[], &[("LITEMOE_REGISTRY", PathBuf::new()), data]);
    assert!(bench.path("data/litemoe/registry/registry.db").exists());
    add(&[], &[]);
    assert!(bench.path("user/.local/share/litemoe/registry/registry.db").exists());
}

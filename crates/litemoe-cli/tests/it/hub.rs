//! Models by Hub id: from a cache written by hand, and pulled from a local server.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::bench::{Bench, Run, copy_dir, edit_json};
use crate::hub_server::{HubServer, ID};
use crate::pull::{Pull, json, names, refused, without_surroundings};

/// Copies a model directory into the cache's layout.
#[cfg(unix)]
fn lay_out(model: &Path, cache: &Path, commit: &str) {
    let repo = cache.join("models--org--tiny");
    let snapshot = repo.join("snapshots").join(commit);
    for dir in [&snapshot, &repo.join("blobs"), &repo.join("refs")] {
        fs::create_dir_all(dir).expect("a folder");
    }
    for (number, name) in names(model).iter().enumerate() {
        let blob = format!("{number:040x}");
        fs::copy(model.join(name), repo.join("blobs").join(&blob)).expect("copied");
        let link = Path::new("../../blobs").join(blob);
        std::os::unix::fs::symlink(link, snapshot.join(name)).expect("a link");
    }
    fs::write(repo.join("refs/main"), commit).expect("a reference");
}

#[cfg(unix)]
#[test]
fn a_model_in_the_cache_is_known_by_its_id() {
    let bench = Bench::new();
    let commit = "ab".repeat(20);
    lay_out(&bench.path("model"), &bench.path("hf/hub"), &commit);
    let run = |args: &[&str]| {
        let mut command = without_surroundings(bench.command(args), &bench);
        Run::of(&command.output().expect("the binary runs"))
    };
    let said = |args: &[&str]| json(&run(&[args, &["--json"]].concat()));
    let at_commit = format!("{ID}@{commit}");
    for id in [ID, "org/tiny@main", &at_commit] {
        assert_eq!(said(&["inspect", id]), said(&["inspect", "model"]), "{id}");
    }
    let ids = ["--ids", "5,17,300"];
    assert_eq!(
        said(&[&["logits", ID], &ids[..]].concat()),
        said(&[&["logits", "model"], &ids[..]].concat())
    );
    said(&["score", ID, "rows.jsonl"]);
    let scores: Value = serde_json::from_slice(&bench.read("scores.json")).expect("JSON");
    assert_eq!(scores["model"], ID);
    said(&["plan", ID, "scores.json", "--budget", "0.5"]);
    said(&["extract", ID, "plan.json"]);
    for id in ["org/other", "org/tiny@v1", "other/tiny"] {
        refused(&run(&["inspect", id]), &[&format!("`litemoe pull {id}`"), "hub"]);
    }
    refused(&run(&["inspect", "tiny"]), &["tiny is neither a folder nor"]);
    let rows = run(&["logits", "rows.jsonl", "--ids", "1"]);
    refused(&rows, &["rows.jsonl is neither a folder nor"]);
    copy_dir(&litemoe_fixtures::tiny_dir().with_file_name("olmoe"), &bench.path(ID));
    assert_eq!(said(&["inspect", ID])["family"], "olmoe", "a path that exists wins");
}

#[cfg(unix)]
#[test]
fn an_adapter_names_its_base_by_the_id() {
    let bench = Bench::new();
    let commit = "ab".repeat(20);
    lay_out(&bench.path("model"), &bench.path("hf/hub"), &commit);
    let base = |id: &str| {
        let args = ["tune", id, "rows.jsonl", "--validation", "rows.jsonl", "--steps", "1"];
        let mut command = without_surroundings(bench.command(&args), &bench);
        let run = Run::of(&command.output().expect("the binary runs"));
        assert_eq!(run.code, 0, "{}", run.stderr);
        let config = bench.read("adapter/adapter_config.json");
        let config: Value = serde_json::from_slice(&config).expect("JSON");
        config["base_model_name_or_path"].as_str().expect("a base").to_owned()
    };
    assert_eq!(base(ID), ID);
    // The id without a revision is another commit now.
    fs::write(bench.path("hf/hub/models--org--tiny/refs/main"), "cd".repeat(20)).expect("written");
    assert!(base(&format!("{ID}@{commit}")).ends_with(&commit));
}

#[cfg(unix)]
#[test]
fn the_cache_is_where_the_environment_says() {
    let bench = Bench::new();
    let places = [
        ("HF_HUB_CACHE", "one", "one"),
        ("HF_HOME", "two", "two/hub"),
        ("XDG_CACHE_HOME", "three", "three/huggingface/hub"),
        ("HOME", "four", "four/.cache/huggingface/hub"),
    ];
    for (variable, value, cache) in places {
        let mut command = without_surroundings(bench.command(&["inspect", ID]), &bench);
        command.env_remove("HF_HOME").env_remove("XDG_CACHE_HOME").env(variable, value);
        refused(&Run::of(&command.output().expect("it runs")), &[cache, "litemoe pull org/tiny"]);
        lay_out(&bench.path("model"), &bench.path(cache), &"ab".repeat(20));
        assert_eq!(Run::of(&command.output().expect("it runs")).code, 0, "{variable}");
    }
}

#[test]
fn a_pull_leaves_what_the_hub_has_as_other_programs_do() {
    let pull = Pull::new();
    let report = pull.json(&["pull", ID]);
    let snapshot = pull.snapshot();
    let used = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names(&snapshot), used);
    let mut fetched = 0;
    for name in used {
        let bytes = fs::read(snapshot.join(name)).expect("a file");
        assert!(bytes == pull.bench.read(&format!("model/{name}")), "{name}");
        assert_eq!(report["files"][name], bytes.len());
        fetched += bytes.len();
        #[cfg(unix)]
        assert_eq!(
            fs::read_link(snapshot.join(name)).expect("a link"),
            Path::new("../../blobs").join(pull.server.hub().etag(name))
        );
    }
    assert_eq!(report["fetched"], fetched);
    assert_eq!(report["snapshot"], snapshot.to_str().expect("text"));
    assert_eq!((&report["family"], &report["id"]), (&"qwen3_moe".into(), &ID.into()));
    let refs = pull.repo().join("refs");
    assert_eq!(names(&refs), ["main"]);
    assert_eq!(fs::read_to_string(refs.join("main")).expect("a commit"), pull.server.hub().commit);
    let by_path = pull.json(&["inspect", "model"]);
    assert_eq!(pull.json(&["inspect", ID]), by_path);
    let again = pull.run(&["pull", ID]);
    assert!(again.stdout.contains("model.safetensors") && again.stdout.contains("qwen3_moe"));
    assert_eq!(pull.json(&["pull", ID])["fetched"], 0);
}

#[test]
fn a_new_commit_brings_only_what_is_new() {
    let pull = Pull::new();
    pull.json(&["pull", ID]);
    let old = pull.snapshot();
    {
        let mut hub = pull.server.hub();
        hub.commit = "d1".repeat(20);
        hub.sent.clear();
        let bytes = hub.files.get_mut("generation_config.json").expect("a file");
        bytes.push(b'\n');
    }
    let report = pull.json(&["pull", ID]);
    assert_eq!(report["fetched"], pull.bench.read("model/generation_config.json").len() + 1);
    let sent = pull.server.hub().sent.clone();
    assert!(sent.iter().all(|(name, _)| name == "generation_config.json"), "{sent:?}");
    for name in names(&old) {
        let [old, new] = [&old, &pull.snapshot()].map(|dir| fs::read(dir.join(&name)).expect("it"));
        assert_eq!(old == new, name != "generation_config.json", "{name}");
    }
}

#[test]
fn a_revision_is_pulled_under_its_name() {
    let pull = Pull::new();
    pull.json(&["pull", ID, "--revision", "v1"]);
    assert_eq!(names(&pull.repo().join("refs")), ["v1"]);
    pull.json(&["inspect", "org/tiny@v1"]);
    pull.refused(&["inspect", ID], &["litemoe pull org/tiny"]);
    let commit = pull.server.hub().commit.clone();
    pull.json(&["pull", &format!("{ID}@{commit}")]);
    assert_eq!(names(&pull.repo().join("refs")), ["v1"]);
    pull.refused(&["pull", "org/tiny@v1", "--revision", "v2"], &["v1", "v2"]);
    pull.refused(&["pull", ID, "--revision", "v2"], &["404", "org/tiny@v2"]);
    for id in ["tiny", "./tiny", "a/b/c", "org/tiny@.."] {
        assert_eq!(pull.run(&["pull", id]).code, 2, "{id}");
    }
}

#[test]
fn shards_are_pulled_as_the_index_names_them() {
    let pull = Pull::new();
    let shards = litemoe_fixtures::tiny_dir().with_file_name("windowed");
    fs::remove_file(pull.bench.path("model/model.safetensors")).expect("removed");
    copy_dir(&shards, &pull.bench.path("model"));
    let server = HubServer::of(&pull.bench.path("model"));
    let pull = Pull { server, ..pull };
    let report = pull.json(&["pull", ID]);
    let of_weights = |name: &&String| name.starts_with("model");
    assert_eq!(names(&pull.snapshot()).iter().filter(of_weights).count(), 4);
    assert!(report["files"]["model-00003-of-00003.safetensors"].as_u64() > Some(0));
    assert_eq!(pull.json(&["inspect", ID]), pull.json(&["inspect", "model"]));
    pull.server.hub().commit = "d1".repeat(20);
    pull.server.hub().files.remove("model-00002-of-00003.safetensors");
    pull.refused(&["pull", ID], &["model-00002-of-00003.safetensors", "index.json"]);
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_did() {
    let pull = Pull::new();
    let size = pull.bench.read("model/model.safetensors").len();
    let at = [size / 3, size / 2];
    for at in at {
        pull.server.hub().cut = Some(("model.safetensors".to_owned(), at));
        pull.refused(&["pull", ID], &["model.safetensors", "broke off", "`litemoe pull org/tiny`"]);
        assert!(!pull.snapshot().join("model.safetensors").exists());
        pull.refused(&["inspect", ID], &["`litemoe pull org/tiny`"]);
    }
    let by_commit = format!("{ID}@{}", pull.server.hub().commit);
    pull.refused(&["inspect", &by_commit], &["not whole", &format!("`litemoe pull {by_commit}`")]);
    let report = pull.json(&["pull", ID]);
    assert_eq!(report["fetched"], size - at[1]);
    let sent = pull.server.hub().sent_of("model.safetensors");
    assert_eq!(sent, [0..at[0], at[0]..at[1], at[1]..size]);
    let whole = fs::read(pull.snapshot().join("model.safetensors")).expect("the weights");
    assert!(whole == pull.bench.read("model/model.safetensors"));
    assert_eq!(pull.json(&["inspect", ID]), pull.json(&["inspect", "model"]));
}

#[test]
fn a_part_that_is_all_there_or_too_long_does_not_stand_in_the_way() {
    for surplus in [0, 10] {
        let pull = Pull::new();
        let mut part = pull.bench.read("model/model.safetensors");
        part.resize(part.len() + surplus, 0);
        let blobs = pull.repo().join("blobs");
        fs::create_dir_all(&blobs).expect("a folder");
        let etag = pull.server.hub().etag("model.safetensors");
        fs::write(blobs.join(etag).with_extension("incomplete"), part).expect("written");
        pull.json(&["pull", ID]);
        assert_eq!(pull.server.hub().sent_of("model.safetensors").is_empty(), surplus == 0);
        assert_eq!(pull.json(&["inspect", ID]), pull.json(&["inspect", "model"]));
    }
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let pull = Pull::new();
    pull.server.hub().spoil = Some("model.safetensors".to_owned());
    pull.refused(&["pull", ID], &["model.safetensors", "SHA-256"]);
    assert!(fs::symlink_metadata(pull.snapshot().join("model.safetensors")).is_err());
    pull.json(&["pull", ID]);
    assert_eq!(pull.json(&["inspect", ID]), pull.json(&["inspect", "model"]));
}

#[test]
fn what_the_hub_refuses_is_said_with_the_id_and_what_helps() {
    let pull = Pull::new();
    pull.refused(&["pull", "org/other"], &["org/other", "404", &pull.server.endpoint()]);
    pull.server.hub().gated = true;
    pull.refused(&["pull", ID], &[ID, "403", "HF_TOKEN"]);
    pull.server.hub().gated = false;
    pull.server.hub().token = Some("secret".to_owned());
    pull.refused(&["pull", ID], &[ID, "401", "HF_TOKEN", "Invalid credentials"]);
    let with_token = |token: &str| {
        let mut command = pull.command(&["pull", ID]);
        Run::of(&command.env("HF_TOKEN", token).output().expect("the binary runs"))
    };
    refused(&with_token("wrong"), &[ID, "401", "HF_TOKEN"]);
    refused(&with_token("sec\nret"), &["HF_TOKEN", "character"]);
    assert!(names(&pull.repo().join("refs")).is_empty());
    assert_eq!(with_token("secret").code, 0);
    fs::remove_dir_all(pull.repo()).expect("removed");
    fs::write(pull.bench.path("hf/token"), "secret\n").expect("written");
    pull.json(&["pull", ID]);
    let mut nowhere = pull.command(&["pull", ID]);
    nowhere.env("HF_ENDPOINT", "http://127.0.0.1:1");
    refused(&Run::of(&nowhere.output().expect("it runs")), &["127.0.0.1:1"]);
}

#[test]
fn offline_nothing_is_asked() {
    let pull = Pull::new();
    let offline = || {
        let mut command = pull.command(&["pull", ID, "--json"]);
        Run::of(&command.env("HF_HUB_OFFLINE", "1").output().expect("the binary runs"))
    };
    refused(&offline(), &[ID, "HF_HUB_OFFLINE"]);
    assert_eq!(pull.server.hub().seen.len(), 0);
    let online = pull.json(&["pull", ID]);
    let requests = pull.server.hub().seen.len();
    assert!(requests > 0);
    assert_eq!(json(&offline())["files"], online["files"]);
    assert_eq!(pull.server.hub().seen.len(), requests);
}

#[test]
fn weights_that_could_not_be_used_are_not_fetched() {
    let edit = |pull: Pull, edit: &dyn Fn(&Path)| {
        edit(&pull.bench.path("model"));
        Pull { server: HubServer::of(&pull.bench.path("model")), ..pull }
    };
    let odd = edit(Pull::new(), &|dir| {
        edit_json(&dir.join("config.json"), |config| config["model_type"] = "dense_rnn".into());
    });
    odd.refused(&["pull", ID], &[ID, "dense_rnn", "qwen3_moe"]);
    let mute = edit(Pull::new(), &|dir| {
        fs::remove_file(dir.join("tokenizer.json")).expect("removed");
    });
    mute.refused(&["pull", ID], &[ID, "tokenizer.json"]);
    let other = edit(Pull::new(), &|dir| {
        fs::remove_file(dir.join("model.safetensors")).expect("removed");
    });
    other.refused(&["pull", ID], &[ID, "model.safetensors"]);
    for pull in [odd, mute, other] {
        assert!(pull.server.hub().sent_of("model.safetensors").is_empty());
        assert!(!pull.repo().exists() || names(&pull.repo().join("refs")).is_empty());
    }
}

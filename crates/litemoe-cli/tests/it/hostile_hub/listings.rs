//! Lists of files that are none, or that lead elsewhere.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Scene, WEIGHTS, drip};
use crate::hub_server::{ID, response};

const API: &str = "/api/models/";
const INDEX: &str = "model.safetensors.index.json";

/// Hub with a file of this name more.
fn with_name(name: &str) -> Scene {
    let file = json!({"rfilename": name, "size": 4, "blobId": "ab".repeat(20)});
    Scene::lists(move |info| info["siblings"].as_array_mut().expect("files").push(file.clone()))
}

/// Hub whose commit is said to be this.
fn with_commit(commit: &str) -> Scene {
    let commit = commit.to_owned();
    Scene::lists(move |info| info["sha"] = commit.as_str().into())
}

/// Hub whose list says something else of a file.
fn of(name: &'static str, edit: impl Fn(&mut Value) + Send + 'static) -> Scene {
    Scene::lists(move |info| {
        let files = info["siblings"].as_array_mut().expect("files");
        edit(files.iter_mut().find(|file| file["rfilename"] == name).expect("the file"));
    })
}

/// Hub with a model in three shards, and an edited index.
fn with_index(edit: impl Fn(&mut Value)) -> Scene {
    let scene = Scene::new();
    let shards = litemoe_fixtures::tiny_dir().with_file_name("windowed");
    let mut hub = scene.pull.server.hub();
    hub.files.remove(WEIGHTS);
    for entry in fs::read_dir(shards).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        hub.files.insert(name, fs::read(&path).expect("a file"));
    }
    let index = hub.files.get_mut(INDEX).expect("the index");
    let mut json = serde_json::from_slice(index).expect("JSON");
    edit(&mut json);
    *index = json.to_string().into_bytes();
    drop(hub);
    scene
}

/// Changes where the index says a tensor is.
fn with_shard(name: &str) -> Scene {
    with_index(|index| index["weight_map"]["model.norm.weight"] = name.into())
}

#[test]
fn a_name_that_leads_to_the_parent_is_refused() {
    with_name("../escaped").fails(&["../escaped", "relative path"]);
}

#[test]
fn a_name_that_leads_out_in_the_middle_is_refused() {
    with_name("a/../../../escaped").fails(&["relative path"]);
}

#[test]
fn an_absolute_name_is_refused() {
    with_name("/etc/escaped").fails(&["/etc/escaped", "relative path"]);
}

#[test]
fn a_name_of_a_drive_is_refused() {
    with_name("C:escaped").fails(&["drive letter"]);
}

#[test]
fn a_name_with_backslashes_is_refused() {
    with_name("..\\escaped").fails(&["backslash"]);
}

#[test]
fn a_name_with_a_nul_is_refused() {
    with_name("config.json\0.txt").fails(&["control character"]);
}

#[test]
fn a_name_with_an_escape_sequence_is_refused_and_not_printed() {
    with_name("\u{1b}[2Jgone").fails(&["control character"]);
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    with_name(&"a".repeat(256)).fails(&["too long"]);
}

#[test]
fn a_path_that_is_too_long_is_refused() {
    with_name(&["a"; 600].join("/")).fails(&["too long"]);
}

#[test]
fn an_empty_name_is_refused() {
    with_name("").fails(&["relative path"]);
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    with_name("config.json").fails(&["config.json", "twice"]);
}

#[test]
fn a_commit_that_is_a_path_is_refused() {
    with_commit("../../../escaped").fails(&["../../../escaped", "commit"]);
}

#[test]
fn a_commit_of_40_characters_that_is_a_path_is_refused() {
    with_commit(&format!("../{}", "a".repeat(37))).fails(&["commit"]);
}

#[test]
fn an_abbreviated_commit_is_refused() {
    with_commit("c0c0c0c").fails(&["c0c0c0c", "commit"]);
}

#[test]
fn a_commit_in_capitals_is_refused() {
    with_commit(&"C0".repeat(20)).fails(&["commit"]);
}

#[test]
fn another_commit_than_asked_for_is_refused() {
    let scene = with_commit(&"d1".repeat(20));
    let commit = "c0".repeat(20);
    let mut command = scene.command(&format!("{ID}@{commit}"));
    scene.fails_by(&mut command, &[&commit, &"d1".repeat(20)]);
}

#[test]
fn a_list_that_is_no_json_is_refused() {
    Scene::sends(API, response("200 OK", "", b"<html>")).fails(&[ID, "not what it should be"]);
}

#[test]
fn a_list_with_two_commits_is_refused() {
    let commit = "c0".repeat(20);
    let json = format!(r#"{{"sha": "{commit}", "sha": "{commit}", "siblings": []}}"#);
    Scene::sends(API, response("200 OK", "", json.as_bytes())).fails(&["duplicate field"]);
}

#[test]
fn a_list_that_is_nested_too_deeply_is_refused() {
    let json = format!(r#"{{"other": {}"#, "[".repeat(1_000_000));
    Scene::sends(API, response("200 OK", "", json.as_bytes()))
        .fails(&[ID, "not what it should be"]);
}

#[test]
fn a_list_that_is_too_long_is_refused() {
    let blanks = vec![b' '; 17 << 20];
    Scene::sends(API, response("200 OK", "", &blanks)).fails(&["longer than 16777216 bytes"]);
}

#[test]
fn a_list_without_end_is_refused() {
    let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
    let scene = Scene::answers(API, move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        drip(stream, &chunk, Duration::ZERO)
    });
    scene.fails(&["longer than 16777216 bytes"]);
}

#[test]
fn a_list_that_breaks_off_is_refused() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
    Scene::sends(API, head).fails(&[ID, "not what it should be"]);
}

#[test]
fn a_compressed_list_is_not_decoded() {
    let scene = Scene::sends(API, response("200 OK", "content-encoding: gzip\r\n", &[0x1f, 0x8b]));
    scene.fails(&["compresses"]);
}

#[test]
fn a_file_without_a_length_is_refused() {
    of(WEIGHTS, |file| {
        file.as_object_mut().expect("an object").retain(|key, _| key == "rfilename");
    })
    .fails(&["no length of model.safetensors"]);
}

#[test]
fn a_file_without_a_hash_is_refused() {
    of("tokenizer.json", |file| file["blobId"] = Value::Null).fails(&["no hash of tokenizer.json"]);
}

#[test]
fn a_hash_that_is_a_path_is_refused() {
    let path = format!("../../../{}", "e".repeat(31));
    of("config.json", move |file| file["blobId"] = path.as_str().into())
        .fails(&["the hash of config.json"]);
}

#[test]
fn a_sha256_that_is_a_path_is_refused() {
    let path = format!("../../../{}", "e".repeat(55));
    of(WEIGHTS, move |file| file["lfs"]["sha256"] = path.as_str().into())
        .fails(&["the hash of model.safetensors"]);
}

#[test]
fn a_negative_length_is_refused() {
    of(WEIGHTS, |file| file["lfs"]["size"] = (-1).into()).fails(&["not what it should be"]);
}

#[test]
fn a_file_of_two_lengths_is_refused() {
    of(WEIGHTS, |file| file["lfs"]["size"] = 7.into()).fails(&[WEIGHTS, "two lengths", "7"]);
}

#[test]
fn weights_that_the_disk_has_no_room_for_are_not_fetched() {
    let scene = of(WEIGHTS, |file| {
        file["size"] = u64::MAX.into();
        file["lfs"]["size"] = u64::MAX.into();
    });
    scene.fails(&["free", "EiB"]);
    assert_eq!(scene.pull.server.hub().seen.len(), 1, "only the list is fetched");
}

#[test]
fn shards_that_the_disk_has_no_room_for_are_not_fetched() {
    let scene = with_index(|index| {
        index["metadata"].as_object_mut().expect("an object").remove("total_size");
    });
    scene.pull.server.hub().edit = Some(Box::new(|info| {
        let files = info["siblings"].as_array_mut().expect("files").iter_mut();
        for file in files.filter(|file| file["lfs"].is_object()) {
            file["size"] = (u64::MAX / 2).into();
            file["lfs"]["size"] = (u64::MAX / 2).into();
        }
    }));
    scene.fails(&["free", "EiB"]);
    assert!(scene.pull.server.hub().sent_of("model-00001-of-00003.safetensors").is_empty());
}

#[test]
fn a_config_that_is_too_long_to_be_read_is_refused() {
    of("config.json", |file| file["size"] = (1_u64 << 40).into())
        .fails(&["config.json", "1.00 TiB"]);
}

#[test]
fn an_index_of_more_bytes_than_the_hub_lists_is_refused() {
    let scene = with_index(|index| index["metadata"]["total_size"] = 1_000_000_000.into());
    scene.fails(&[INDEX, "1000000000 bytes"]);
    assert!(scene.pull.server.hub().sent_of("model-00001-of-00003.safetensors").is_empty());
}

#[test]
fn an_index_of_far_fewer_bytes_than_the_hub_lists_is_refused() {
    let scene = with_index(|_| {});
    scene.pull.server.hub().edit = Some(Box::new(|info| {
        let files = info["siblings"].as_array_mut().expect("files").iter_mut();
        for file in files.filter(|file| file["lfs"].is_object()) {
            file["size"] = 200_000_000.into();
            file["lfs"]["size"] = 200_000_000.into();
        }
    }));
    scene.fails(&[INDEX, "101760 bytes"]);
}

#[test]
fn a_shard_that_leads_to_the_parent_is_refused() {
    with_shard("../../../../escaped.safetensors").fails(&[INDEX, "escaped"]);
}

#[test]
fn a_shard_with_an_absolute_path_is_refused() {
    with_shard("/etc/escaped.safetensors").fails(&[INDEX, "escaped"]);
}

#[test]
fn a_shard_that_is_not_listed_is_refused() {
    with_shard("model-00009-of-00003.safetensors").fails(&[INDEX, "model-00009-of-00003"]);
}

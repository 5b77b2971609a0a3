//! Links in the cache that lead out of it: nothing is written through them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use super::{Scene, WEIGHTS};
use crate::pull::names;

const KEPT: &str = "kept";

/// Scene with a folder outside the cache, and a path inside that is replaced by a link to it or to a file in it.
fn linked(inside: &str, outside: &str) -> Scene {
    let scene = Scene::new();
    let dir = scene.pull.bench.path("outside");
    fs::create_dir(&dir).expect("a folder");
    fs::write(dir.join(KEPT), "kept").expect("a file");
    symlink(dir.join(outside), in_cache(&scene, inside)).expect("a link");
    scene
}

/// Path in the cache, whose parent is created. `WEIGHTS` stands for the hash of the weights, `COMMIT` for the commit.
fn in_cache(scene: &Scene, path: &str) -> PathBuf {
    let hub = scene.pull.server.hub();
    let path = path.replace("WEIGHTS", &hub.etag(WEIGHTS)).replace("COMMIT", &hub.commit);
    let path = scene.pull.bench.path("hf/hub").join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    path
}

#[track_caller]
fn refuses(inside: &str, outside: &str) {
    let scene = linked(inside, outside);
    scene.fails(&["hub's cache", "remove it"]);
    assert_eq!(names(&scene.pull.bench.path("outside")), [KEPT]);
}

#[test]
fn a_repository_that_is_a_link_is_refused() {
    refuses("models--org--tiny", "");
}

#[test]
fn blobs_that_are_a_link_are_refused() {
    refuses("models--org--tiny/blobs", "");
}

#[test]
fn snapshots_that_are_a_link_are_refused() {
    refuses("models--org--tiny/snapshots", "");
}

#[test]
fn a_snapshot_that_is_a_link_is_refused() {
    refuses("models--org--tiny/snapshots/COMMIT", "");
}

#[test]
fn refs_that_are_a_link_are_refused() {
    refuses("models--org--tiny/refs", "");
}

#[test]
fn a_ref_that_is_a_link_is_refused() {
    refuses("models--org--tiny/refs/main", KEPT);
}

#[test]
fn locks_that_are_a_link_are_refused() {
    refuses(".locks", "");
}

#[test]
fn locks_of_a_repository_that_are_a_link_are_refused() {
    refuses(".locks/models--org--tiny", "");
}

#[test]
fn a_lock_that_is_a_link_is_refused() {
    refuses(".locks/models--org--tiny/WEIGHTS.lock", KEPT);
}

#[test]
fn contents_that_are_a_link_are_refused() {
    refuses("models--org--tiny/blobs/WEIGHTS", KEPT);
}

#[test]
fn partial_contents_that_are_a_link_are_refused() {
    refuses("models--org--tiny/blobs/WEIGHTS.incomplete", KEPT);
}

#[test]
fn partial_contents_that_are_a_link_to_nothing_are_refused() {
    refuses("models--org--tiny/blobs/WEIGHTS.incomplete", "new");
}

#[test]
fn a_file_of_a_snapshot_that_is_a_link_is_replaced() {
    let scene = linked("models--org--tiny/snapshots/COMMIT/config.json", KEPT);
    scene.succeeds();
}

#[test]
fn a_file_of_a_snapshot_that_is_a_folder_is_refused() {
    let scene = Scene::new();
    fs::create_dir(in_cache(&scene, "models--org--tiny/snapshots/COMMIT/config.json"))
        .expect("a folder");
    scene.fails(&["config.json", "hub's cache", "remove it"]);
}

#[test]
fn partial_contents_that_are_a_pipe_are_refused() {
    let scene = Scene::new();
    let pipe = in_cache(&scene, "models--org--tiny/blobs/WEIGHTS.incomplete");
    let made = Command::new("mkfifo").arg(pipe).status().expect("mkfifo runs");
    assert!(made.success());
    scene.ends(&["hub's cache", "remove it"]);
}

#[test]
fn a_cache_that_is_itself_a_link_is_used() {
    let scene = Scene::new();
    fs::create_dir_all(scene.pull.bench.path("hf")).expect("a folder");
    fs::create_dir(scene.pull.bench.path("disk")).expect("a folder");
    symlink(scene.pull.bench.path("disk"), scene.pull.bench.path("hf/hub")).expect("a link");
    let run = scene.command(crate::hub_server::ID).output().expect("the binary runs");
    assert!(run.status.success());
    assert!(scene.pull.bench.path("disk/models--org--tiny/refs/main").is_file());
}

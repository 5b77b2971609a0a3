//! Several users of a registry at the same time, each with its own connections, as processes have.

use std::sync::Barrier;
use std::thread;

use litemoe_registry::{Registry, Settings, Usage, check};
use rusqlite::Connection;
use serde_json::json;
use tempfile::tempdir;

use crate::scene::{Scene, adapter, app, owned};

#[test]
fn a_registry_is_created_once_by_all_who_try() {
    for _ in 0..10 {
        let dir = tempdir().expect("a directory");
        let path = dir.path().join("registry");
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for index in 0..4 {
                let (path, start) = (&path, &start);
                scope.spawn(move || {
                    start.wait();
                    let registry = Registry::create(path).expect("a registry");
                    let name = app(&format!("app-{index}"));
                    registry.add_app(&name, &Settings::default()).expect("added");
                });
            }
        });
        assert_eq!(Registry::open(&path).expect("a registry").apps().expect("apps").len(), 4);
    }
}

#[test]
fn writers_wait_for_each_other_and_nothing_is_lost() {
    let scene = Scene::new();
    scene.add("home");
    let path = scene.path("registry");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let registry = Registry::open(&path).expect("a registry");
                let one = Usage { requests: 1, ..Usage::default() };
                for _ in 0..25 {
                    registry.record_usage(&app("home"), &one).expect("recorded");
                }
            });
        }
    });
    let registry = Registry::open(&path).expect("a registry");
    assert_eq!(registry.usage_today(&app("home")).expect("usage").requests, 100);
}

#[test]
fn what_only_reads_does_not_wait_for_one_that_writes() {
    let scene = Scene::new();
    scene.add("home");
    let dir = scene.folder("dir", &[("a", b"a")]);
    scene.put(&owned("home"), "mounted", &dir, None).expect("stored");
    let file = scene.upload("home", b"rows").expect("a file");
    let worker = scene.registry.worker().expect("the worker");
    let writer = Connection::open(scene.path("registry/registry.db")).expect("a database");
    writer.execute_batch("BEGIN IMMEDIATE").expect("it writes");
    scene.registry.open_file(&app("home"), &file.id).expect("opened");
    scene.registry.read_adapter(&owned("home"), &adapter("mounted"), |_| ()).expect("read");
    assert_eq!(worker.claim_next().expect("read"), None);
    drop(writer);
    scene.registry.create_job(&app("home"), json!(1)).expect("a job");
    worker.claim_next().expect("read").expect("a job");
}

/// While one process stores and removes, another collects garbage and a third reads.
#[test]
fn garbage_is_never_what_another_process_stores() {
    let scene = Scene::new();
    scene.add("home");
    let dirs = [b"one", b"two"].map(|content| {
        scene.folder(std::str::from_utf8(content).expect("text"), &[("a", content), ("b", b"both")])
    });
    let first = scene.put(&owned("home"), "mounted", &dirs[0], None).expect("stored").generation;
    let path = scene.path("registry");
    let is_done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let registry = Registry::open(&path).expect("a registry");
            while !is_done.load(std::sync::atomic::Ordering::SeqCst) {
                registry.collect_garbage().expect("collected");
            }
        });
        let reader = scope.spawn(|| {
            let registry = Registry::open(&path).expect("a registry");
            for index in 0.. {
                let out = scene.path(&format!("out-{index}"));
                let name = adapter("mounted");
                registry.materialise_adapter(&owned("home"), &name, &out).expect("written");
                assert_eq!(std::fs::read(out.join("b")).expect("a file"), b"both");
                if is_done.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
            }
        });
        let mut generation = first;
        for dir in dirs.iter().cycle().skip(1).take(40) {
            let stored = scene.put(&owned("home"), "mounted", dir, Some(generation));
            generation = stored.expect("replaced").generation;
        }
        is_done.store(true, std::sync::atomic::Ordering::SeqCst);
        collector.join().expect("no panic");
        reader.join().expect("no panic");
    });
    assert!(check(&path).expect("checked").is_clean());
}

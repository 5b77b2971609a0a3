use std::fs;
use std::io::Write;
use std::path::PathBuf;

use litemoe_registry::{Checked, Collected, Finding, Owner, Registry, check};
use serde_json::json;

use crate::scene::{Scene, app};

/// A name of the form of temporary files.
const TEMPORARY: &str = ".unnamed.litemoe-a1B2c3";

fn checked(scene: &Scene) -> Checked {
    check(&scene.path("registry")).expect("checked")
}

fn content(scene: &Scene, name: &str) -> PathBuf {
    scene.path("registry/files").join(name)
}

fn scene() -> Scene {
    let scene = Scene::new();
    scene.add("home");
    scene.upload("home", b"rows").expect("a file");
    let dir = scene.folder("dir", &[("weights", b"1234"), ("same", b"rows")]);
    scene.put(&Owner::Shared, "shared", &dir, None).expect("stored");
    scene
}

#[test]
fn a_registry_of_its_own_making_is_clean() {
    let scene = scene();
    assert_eq!(checked(&scene), Checked { contents: 2, bytes: 8, findings: vec![] });
    assert!(checked(&scene).is_clean());
    assert_eq!(scene.registry.collect_garbage().expect("collected"), Collected::default());
    assert_eq!(scene.contents().len(), 2);
}

#[test]
fn what_is_wrong_is_found_and_nothing_else() {
    let scene = scene();
    let file = scene.upload("home", b"intact").expect("a file");
    let rows = scene.upload("home", b"rows").expect("a file").sha256;
    let adapter = &scene.registry.adapters(&Owner::Shared).expect("adapters")[0];
    let weights = adapter.files.iter().find(|file| file.bytes == 4 && file.sha256 != rows);
    let weights = weights.expect("the weights").sha256;
    fs::write(content(&scene, &weights.to_string()), b"12x4").expect("written");
    fs::remove_file(content(&scene, &rows.to_string())).expect("removed");
    let orphan = "a".repeat(64);
    fs::write(content(&scene, &orphan), b"x").expect("written");
    fs::write(content(&scene, TEMPORARY), b"half").expect("written");
    fs::write(content(&scene, "notes.txt"), b"mine").expect("written");
    // One of a live process is no finding.
    let mut upload = scene.registry.upload().expect("an upload");
    upload.write_all(b"half").expect("written");

    let found = checked(&scene);
    let has =
        |finding: &dyn Fn(&Finding) -> bool| found.findings.iter().filter(|f| finding(f)).count();
    assert_eq!(
        has(&|f| matches!(f, Finding::Corrupt { sha256, referrers, .. }
            if *sha256 == weights && referrers[..] == ["adapter shared, weights"])),
        1
    );
    assert_eq!(
        has(&|f| matches!(f, Finding::Missing { sha256, referrers }
            if *sha256 == rows && referrers.len() == 3
                && referrers.iter().any(|referrer| referrer == "adapter shared, same")
                && referrers.iter().any(|referrer| referrer.starts_with("file home/file-")))),
        1
    );
    assert_eq!(has(&|f| *f == Finding::Temporary { name: TEMPORARY.to_owned() }), 1);
    assert_eq!(has(&|f| *f == Finding::Unknown { name: "notes.txt".to_owned() }), 1);
    let sha256 = orphan.parse().expect("a hash");
    assert_eq!(has(&|f| *f == Finding::Orphan { sha256, bytes: 1 }), 1);
    // The orphan's content has another hash, too.
    assert_eq!(
        has(&|f| matches!(f, Finding::Corrupt { sha256: found, .. } if *found == sha256)),
        1
    );
    assert_eq!(found.findings.len(), 6, "{found:?}");
    assert_eq!(found.findings.iter().filter(|finding| finding.is_garbage()).count(), 2);
    let json = serde_json::to_value(&found).expect("JSON");
    let kinds: Vec<_> = json["findings"].as_array().expect("them").iter().collect();
    assert!(kinds.contains(&&json!({"finding": "unknown", "name": "notes.txt"})), "{json}");

    // Nothing was removed; opening removes the temporary file, and collecting the orphan.
    assert_eq!(checked(&scene), found);
    drop(Registry::open(&scene.path("registry")).expect("a registry"));
    let collected = scene.registry.collect_garbage().expect("collected");
    assert_eq!(collected, Collected { contents: 1, bytes: 1 });
    let left = checked(&scene);
    assert_eq!(left.findings.len(), 3, "{left:?}");
    assert!(content(&scene, "notes.txt").exists());
    assert_eq!(scene.registry.file(&app("home"), &file.id).expect("it"), file);
}

#[test]
fn a_row_without_its_app_is_found() {
    let scene = scene();
    let database = rusqlite::Connection::open(scene.path("registry/registry.db")).expect("open");
    database.pragma_update(None, "foreign_keys", false).expect("set");
    database.execute("DELETE FROM apps", []).expect("removed");
    drop(database);
    let found = checked(&scene);
    assert!(!found.findings.is_empty());
    for finding in &found.findings {
        assert!(
            matches!(finding, Finding::Database { message } if message.contains("of apps that is not there")),
            "{finding:?}"
        );
    }
}

//! Disks that are full, files that may not grow, and directories that cannot be written to: typed errors, and everything
//! that was acknowledged is there.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use litemoe_registry::{
    Allowed, NewAdapter, Owner, Page, Registry, RegistryError, Settings, StoredFile, check,
};
use tempfile::tempdir;

use crate::scene::{adapter, app, names, provenance};

/// Set in a process that runs below a limit: the directory for the registry.
const LIMITED: &str = "LITEMOE_REGISTRY_LIMITED";

/// A folder with a small and a large file, in the same process.
const SOURCE: &str = "LITEMOE_REGISTRY_SOURCE";

/// Runs a test of this binary by a shell script, whose `$DIR` is a new directory and `"$@"` the test.
fn run(test: &str, script: &str) {
    let (dir, source) = (tempdir().expect("a directory"), tempdir().expect("a directory"));
    fs::write(source.path().join("a"), content(100, 4096)).expect("a file");
    fs::write(source.path().join("b"), content(101, 2 << 20)).expect("a file");
    let mut command = Command::new("sh");
    command.env(SOURCE, source.path());
    command.args(["-c", script, "sh"]).arg(std::env::current_exe().expect("this binary"));
    command.args(["--exact", test, "--nocapture"]).env("DIR", dir.path()).env(LIMITED, dir.path());
    let output = command.stdin(Stdio::null()).output().expect("sh runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
}

/// Directory of the registry, in a process below a limit.
fn limited() -> Option<PathBuf> {
    std::env::var_os(LIMITED).map(|dir| Path::new(&dir).join("registry"))
}

/// Whether this system lets a user mount a file system for a process alone.
fn can_mount() -> bool {
    let script = "unshare --map-root-user --mount mount -t tmpfs none \"$DIR\"";
    let dir = tempdir().expect("a directory");
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("DIR", dir.path()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_half_written() {
    if let Some(dir) = limited() {
        return fill(&dir);
    }
    if can_mount() {
        let script = "exec unshare --map-root-user --mount sh -c \
                      'mount -t tmpfs -o size=1200k none \"$DIR\" && exec \"$@\"' sh \"$@\"";
        run("disk::a_full_disk_is_an_error_and_nothing_is_half_written", script);
    }
}

#[test]
fn a_limit_of_files_is_an_error_and_nothing_is_half_written() {
    if let Some(dir) = limited() {
        return fill(&dir);
    }
    let script = "trap '' XFSZ; exec prlimit --fsize=500000 \"$@\"";
    run("disk::a_limit_of_files_is_an_error_and_nothing_is_half_written", script);
}

#[test]
fn what_cannot_be_written_to_is_an_error() {
    let Some(dir) = limited() else {
        if can_mount() {
            let script = "exec unshare --map-root-user --mount sh -c \
                          'mount -t tmpfs none \"$DIR\" && exec \"$@\"' sh \"$@\"";
            run("disk::what_cannot_be_written_to_is_an_error", script);
        }
        return;
    };
    let mount = dir.parent().expect("a mount").to_owned();
    drop(Registry::create(&dir).expect("a registry"));
    let remount = |option: &str| {
        let status = Command::new("mount").args(["-o", option]).arg(&mount).status();
        assert!(status.expect("mount runs").success(), "{option}");
    };
    remount("remount,ro");
    for error in [
        Registry::open(&dir).expect_err("read-only"),
        Registry::create(&dir).expect_err("read-only"),
        Registry::create(&mount.join("new")).expect_err("read-only"),
    ] {
        assert!(matches!(error, RegistryError::ReadOnly { .. }), "{error:?}");
    }
    assert_eq!(
        (names(&mount), names(&dir)),
        (vec!["registry".into()], vec!["files".into(), "registry.db".into()])
    );
    remount("remount,rw");
    assert!(check(&dir).expect("checked").is_clean());
}

fn upload(registry: &Registry, content: &[u8]) -> Result<StoredFile, RegistryError> {
    let mut upload = registry.upload()?;
    // The caller sees this error, and drops the upload.
    let written = upload.write_all(content);
    let name = "rows.jsonl".parse().expect("a name");
    match written {
        Ok(()) => registry.add_file(&app("home"), &name, "fine-tune", upload),
        Err(error) => Err(RegistryError::Storage { reason: error.to_string() }),
    }
}

/// Bytes that no other number has.
fn content(number: usize, n_bytes: usize) -> Vec<u8> {
    let mut content = number.to_le_bytes().to_vec();
    content.resize(n_bytes.max(8), 7);
    content
}

/// Writes until there is no room, in every way, and checks that what was acknowledged is there and nothing else.
fn fill(dir: &Path) {
    // Something else on the disk.
    let ballast = dir.with_file_name("ballast");
    fs::write(&ballast, content(0, 100_000)).expect("a file");
    let registry = Registry::create(dir).expect("a registry");
    registry.add_app(&app("home"), &Settings::default()).expect("added");
    let expect = |files: &[StoredFile], n_apps: usize| {
        // Another process sees the same.
        for registry in [&registry, &Registry::open(dir).expect("a registry")] {
            let mut found = registry.files(&app("home"), Page::default()).expect("files");
            found.reverse();
            assert_eq!(found, files);
            assert_eq!(registry.apps().expect("apps").len(), n_apps);
            assert!(registry.adapters(&Owner::Shared).expect("adapters").is_empty());
        }
        let checked = check(dir).expect("checked");
        assert!(checked.is_clean(), "{checked:?}");
    };
    let is_typed = |error: &RegistryError| matches!(error, RegistryError::Storage { .. });

    // Contents, larger and larger ones.
    let mut files = Vec::new();
    let error =
        (0..).find_map(|number| match upload(&registry, &content(number, 4096 << number)) {
            Ok(file) => {
                files.push(file);
                None
            }
            Err(error) => Some(error),
        });
    let error = error.expect("no room");
    assert!(is_typed(&error), "{error:?}");
    assert!(files.len() > 2, "{error:?}");
    expect(&files, 1);

    // An adapter of which one file has room and the other one has not.
    let (name, provenance) = (adapter("large"), provenance());
    let source = PathBuf::from(std::env::var_os(SOURCE).expect("a folder"));
    let new = NewAdapter {
        owner: &Owner::Shared,
        name: &name,
        dir: &source,
        provenance: &provenance,
        replaces: None,
    };
    let error = registry.put_adapter(&new).expect_err("no room");
    assert!(is_typed(&error), "{error:?}");
    expect(&files, 1);

    // Rows of the database.
    let many: Allowed = (0..2000)
        .map(|n| format!("model-{n}"))
        .collect::<Vec<_>>()
        .join(",")
        .parse()
        .expect("names");
    let settings = Settings { models: many, ..Settings::default() };
    let mut n_apps = 1;
    let error = loop {
        match registry.add_app(&app(&format!("app-{n_apps}")), &settings) {
            Ok(_) => n_apps += 1,
            Err(error) => break error,
        }
    };
    assert!(is_typed(&error), "{error:?}");
    drop(registry);
    let registry = Registry::open(dir).expect("a registry");
    assert_eq!(registry.apps().expect("apps").len(), n_apps);
    assert!(check(dir).expect("checked").is_clean());

    // With room again, everything works.
    fs::remove_file(ballast).expect("removed");
    let largest = files.pop().expect("a file");
    registry.remove_file(&app("home"), &largest.id).expect("removed");
    files.push(upload(&registry, &content(200, 4096)).expect("room"));
    let mut found = registry.files(&app("home"), Page::default()).expect("files");
    found.reverse();
    assert_eq!(found, files);
    assert!(check(dir).expect("checked").is_clean());
}

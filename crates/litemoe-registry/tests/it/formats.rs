use std::fs;
use std::path::Path;

use litemoe_registry::{Registry, RegistryError, check};
use rusqlite::Connection;
use tempfile::tempdir;

use crate::scene::{Scene, app, names};

fn both(dir: &Path) -> [RegistryError; 3] {
    [
        Registry::open(dir).expect_err("refused"),
        Registry::create(dir).expect_err("refused"),
        check(dir).expect_err("refused"),
    ]
}

#[test]
fn a_registry_is_where_one_was_created() {
    let dir = tempdir().expect("a directory");
    let missing = dir.path().join("missing");
    assert!(matches!(Registry::open(&missing), Err(RegistryError::NoRegistry { .. })));
    assert!(matches!(check(dir.path()), Err(RegistryError::NoRegistry { .. })));
    assert!(names(dir.path()).is_empty());
    let deep = missing.join("deep");
    let registry = Registry::create(&deep).expect("a registry");
    assert_eq!(registry.dir(), deep);
    drop(registry);
    Registry::open(&deep).expect("a registry");
    Registry::create(&deep).expect("the same");
    assert_eq!(names(&deep), ["files", "registry.db"]);
    // An empty folder becomes one.
    fs::create_dir(dir.path().join("empty")).expect("a folder");
    Registry::create(&dir.path().join("empty")).expect("a registry");
}

#[cfg(unix)]
#[test]
fn a_new_registry_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    for folder in ["registry", "registry/files"] {
        let mode = fs::metadata(scene.path(folder)).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
    for file in ["registry/registry.db", "registry/registry.db-wal", "registry/registry.db-shm"] {
        let mode = fs::metadata(scene.path(file)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_creation_that_was_cut_short_is_finished() {
    for files in [&[][..], &["registry.db"]] {
        let dir = tempdir().expect("a directory");
        fs::create_dir(dir.path().join("files")).expect("a folder");
        files.iter().for_each(|name| fs::write(dir.path().join(name), "").expect("a file"));
        Registry::create(dir.path()).expect("a registry");
        assert!(check(dir.path()).expect("checked").is_clean());
    }
}

#[test]
fn a_later_version_is_refused_and_left() {
    let scene = Scene::new();
    scene.add("home");
    let (dir, file) = (scene.path("registry"), scene.path("registry/registry.db"));
    let version = |version: i64| {
        let database = Connection::open(&file).expect("open");
        database.pragma_update(None, "user_version", version).expect("set");
    };
    version(3);
    for error in both(&dir) {
        assert!(matches!(error, RegistryError::Newer { found: 3, known: 2, .. }), "{error}");
    }
    version(-1);
    for error in both(&dir) {
        assert!(matches!(error, RegistryError::Foreign { .. }), "{error}");
    }
    version(2);
    let registry = Registry::open(&dir).expect("a registry");
    assert_eq!(registry.app(&app("home")).expect("an app").name.as_str(), "home");
}

#[test]
fn what_others_wrote_is_refused_and_left() {
    let scene = tempdir().expect("a directory");
    // A folder with other files.
    let folder = scene.path().join("folder");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("notes.txt"), "mine").expect("a file");
    let error = Registry::create(&folder).expect_err("not empty");
    assert!(matches!(error, RegistryError::Foreign { .. }), "{error}");
    assert!(!folder.join("registry.db").exists());
    // Another program's database.
    let other = scene.path().join("other");
    fs::create_dir(&other).expect("a folder");
    let database = Connection::open(other.join("registry.db")).expect("open");
    database.execute("CREATE TABLE notes (text TEXT)", []).expect("a table");
    drop(database);
    // No database at all.
    let text = scene.path().join("text");
    fs::create_dir(&text).expect("a folder");
    fs::write(text.join("registry.db"), "a text that is longer than nothing").expect("a file");
    for dir in [other, text] {
        let before = fs::read(dir.join("registry.db")).expect("a file");
        for error in both(&dir) {
            let is_typed =
                matches!(error, RegistryError::Foreign { .. } | RegistryError::Damaged { .. });
            assert!(is_typed, "{error}");
        }
        assert_eq!(fs::read(dir.join("registry.db")).expect("a file"), before);
        assert_eq!(names(&dir), ["registry.db"]);
    }
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let scene = tempdir().expect("a directory");
    let file = scene.path().join("file");
    fs::write(&file, "mine").expect("a file");
    Registry::create(&file).expect_err("a file");
    Registry::open(&file).expect_err("a file");
    assert_eq!(fs::read(&file).expect("a file"), b"mine");
}

#[test]
fn a_damaged_database_is_an_error() {
    let scene = Scene::new();
    for index in 0..50 {
        scene.add(&format!("app-{index}"));
    }
    let (dir, file) = (scene.path("copy"), scene.path("copy/registry.db"));
    fs::create_dir_all(dir.join("files")).expect("a folder");
    let database = Connection::open(scene.path("registry/registry.db")).expect("open");
    database.execute("VACUUM INTO ?", [file.to_str()]).expect("a copy");
    let whole = fs::read(&file).expect("a file");
    assert!(check(&dir).expect("checked").is_clean());
    let (mut n_damaged, mut n_found) = (0, 0);
    for at in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at..(at + 48).min(whole.len())].fill(0xff);
        for name in names(&dir).iter().filter(|name| name.starts_with("registry.db-")) {
            fs::remove_file(dir.join(name)).expect("removed");
        }
        fs::write(&file, &damaged).expect("written");
        n_damaged += 1;
        n_found += usize::from(!check(&dir).is_ok_and(|checked| checked.is_clean()));
        if let Ok(registry) = Registry::open(&dir) {
            let _ = (registry.apps(), registry.keys(&app("app-1")), registry.collect_garbage());
        }
    }
    // SQLite has no checksums: free bytes may be anything, and so may texts and numbers as long as they are of their form.
    println!("{n_found} of {n_damaged} damages are found");
    assert!(n_found > n_damaged / 10, "{n_found} of {n_damaged}");
}

#[test]
fn a_registry_of_the_first_version_is_brought_to_this_one() {
    let scene = Scene::new();
    scene.add("home");
    let file = scene.upload("home", b"rows").expect("a file");
    let (dir, database) = (scene.path("registry"), scene.path("registry/registry.db"));
    let connection = Connection::open(&database).expect("open");
    connection.execute_batch("ALTER TABLE apps DROP COLUMN storage_bytes").expect("dropped");
    connection.pragma_update(None, "user_version", 1).expect("set");
    drop(connection);
    let registry = Registry::open(&dir).expect("opened");
    let home = registry.app(&app("home")).expect("the app");
    assert_eq!(home.settings.storage_bytes, None);
    assert_eq!(registry.file(&app("home"), &file.id).expect("it"), file);
    let set = registry.set_app(&app("home"), |settings| settings.storage_bytes = Some(1));
    assert_eq!(set.expect("set").settings.storage_bytes, Some(1));
    assert!(check(&dir).expect("checked").is_clean());
}

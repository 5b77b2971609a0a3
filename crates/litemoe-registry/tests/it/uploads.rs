use std::io::{Read, Write};

use litemoe_registry::{MAX_FILES_PER_APP, Order, Page, RegistryError};
use rusqlite::Connection;

use crate::scene::{Scene, app, owned};

#[test]
fn a_file_is_read_as_it_was_uploaded() {
    let scene = Scene::new();
    scene.add("home");
    let file = scene.upload("home", b"rows").expect("a file");
    assert_eq!((file.name.as_str(), &*file.purpose, file.bytes), ("rows.jsonl", "fine-tune", 4));
    assert!(file.id.starts_with("file-") && file.id.len() == 29, "{}", file.id);
    assert_eq!(scene.registry.file(&app("home"), &file.id).expect("it"), file);
    let mut content = String::new();
    let mut open = scene.registry.open_file(&app("home"), &file.id).expect("open");
    scene.registry.remove_file(&app("home"), &file.id).expect("removed");
    open.read_to_string(&mut content).expect("still readable");
    assert_eq!(content, "rows");
    assert!(scene.contents().is_empty());
    let again = scene.registry.remove_file(&app("home"), &file.id).expect_err("removed before");
    assert_eq!(again.to_string(), format!("there is no file `{}`", file.id));
}

#[test]
fn equal_files_share_a_content_until_the_last_is_removed() {
    let scene = Scene::new();
    scene.add("home");
    scene.add("other");
    let mine = scene.upload("home", b"rows").expect("a file");
    let theirs = scene.upload("other", b"rows").expect("a file");
    assert_ne!(mine.id, theirs.id);
    assert_eq!(scene.contents().len(), 1);
    scene.registry.remove_file(&app("home"), &mine.id).expect("removed");
    assert_eq!(scene.contents().len(), 1);
    scene.registry.open_file(&app("other"), &theirs.id).expect("still there");
    scene.registry.remove_file(&app("other"), &theirs.id).expect("removed");
    assert!(scene.contents().is_empty());
}

#[test]
fn an_upload_that_is_not_finished_leaves_nothing() {
    let scene = Scene::new();
    let mut upload = scene.registry.upload().expect("an upload");
    upload.write_all(b"half").expect("written");
    assert_eq!((upload.bytes(), scene.contents().len()), (4, 1));
    drop(upload);
    assert!(scene.contents().is_empty());
    assert!(matches!(scene.upload("nobody", b"rows"), Err(RegistryError::NoApp { .. })));
    assert!(scene.contents().is_empty());
}

#[test]
fn files_are_listed_in_pages_in_either_order() {
    let scene = Scene::new();
    scene.add("home");
    scene.add("other");
    let mut ids = Vec::new();
    for content in 0..5 {
        ids.push(scene.upload("home", &[content]).expect("a file").id);
        scene.upload("other", &[content]).expect("a file");
    }
    ids.reverse();
    let page = |after, limit| {
        let files = scene
            .registry
            .files(&app("home"), Page { after, limit, ..Page::default() })
            .expect("files");
        files.into_iter().map(|file| file.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, u32::MAX), ids);
    assert_eq!(page(None, 2), ids[..2]);
    assert_eq!(page(Some(&ids[1]), 2), ids[2..4]);
    assert_eq!(page(Some(&ids[4]), 2), [""; 0]);
    let page = |after, limit| {
        let page = Page { after, limit, order: Order::OldestFirst };
        let files = scene.registry.files(&app("home"), page).expect("files");
        files.into_iter().map(|file| file.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 2), [ids[4].as_str(), &ids[3]]);
    assert_eq!(page(Some(&ids[3]), 9), [ids[2].as_str(), &ids[1], &ids[0]]);
    assert_eq!(page(Some(&ids[0]), 9), [""; 0]);
    let theirs = scene.registry.files(&app("other"), Page::default()).expect("files");
    let page = Page { after: Some(&theirs[0].id), limit: 2, ..Page::default() };
    let error = scene.registry.files(&app("home"), page).expect_err("another app's");
    assert_eq!(error.to_string(), format!("there is no file `{}`", theirs[0].id));
}

#[test]
fn an_app_has_a_maximum_number_of_files() {
    let scene = Scene::new();
    scene.add("home");
    scene.add("other");
    let file = scene.upload("home", b"rows").expect("a file");
    let database = Connection::open(scene.path("registry/registry.db")).expect("a database");
    let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) \
               INSERT INTO files (id, app, name, purpose, bytes, sha256, created) \
               SELECT 'file-' || n, app, name, purpose, bytes, sha256, created FROM files, n";
    database.execute(sql, [MAX_FILES_PER_APP - 1]).expect("more files");
    let refused = scene.upload("home", b"one more").expect_err("too many");
    assert!(matches!(refused, RegistryError::TooManyFiles { limit: MAX_FILES_PER_APP }));
    assert_eq!(refused.to_string(), "the app has 10000 files, as many as it may have");
    assert_eq!(scene.contents().len(), 1);
    scene.upload("other", b"another app's").expect("a file");
    scene.registry.remove_file(&app("home"), &file.id).expect("removed");
    scene.upload("home", b"one more").expect("a file");
}

#[test]
fn files_and_adapters_of_an_app_share_its_storage() {
    let scene = Scene::new();
    scene.add("home");
    scene.add("other");
    let file = scene.upload("home", b"rows").expect("a file");
    let set = |bytes| {
        let set = scene.registry.set_app(&app("home"), |settings| settings.storage_bytes = bytes);
        set.expect("set");
    };
    let put = |content: &[u8], replaces| {
        let dir = scene.folder("adapter", &[("weights", content)]);
        scene.put(&owned("home"), "a", &dir, replaces)
    };
    set(Some(10));
    let adapter = put(b"123456", None).expect("within it");
    let refused = scene.upload("home", b"1").expect_err("beyond it");
    assert_eq!(
        refused.to_string(),
        "the app's files and adapters would have 11 bytes together, but may have 10"
    );
    // What is replaced makes room, and equal contents count each time.
    let longer = put(b"1234567", Some(adapter.generation));
    assert!(matches!(longer, Err(RegistryError::TooManyBytes { bytes: 11, limit: 10 })));
    let shorter = put(b"12345", Some(adapter.generation)).expect("within it");
    assert!(scene.upload("home", b"rows").is_err());
    scene.upload("home", b"1").expect("within it");
    scene.upload("other", b"more than ten bytes").expect("another app's");
    scene.registry.remove_file(&app("home"), &file.id).expect("removed");
    scene.upload("home", b"rows").expect("within it again");
    set(Some(0));
    assert!(scene.upload("home", b"1").is_err());
    let none = put(b"1", Some(shorter.generation));
    assert!(none.is_err(), "what is there stays, and nothing is added");
    set(None);
    scene.upload("home", b"1").expect("no limit");
    let contents = scene.contents().len();
    assert_eq!(contents, 4, "nothing is left of what was refused");
}

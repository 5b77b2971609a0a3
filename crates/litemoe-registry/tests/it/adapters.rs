use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use litemoe_registry::{Allowed, Owner, RegistryError, check};
use proptest::prelude::*;

use crate::scene::{Scene, adapter, app, names, owned, provenance};

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| (name.clone(), fs::read(dir.join(name)).expect("a file"));
    names(dir).into_iter().map(read).collect()
}

#[test]
fn an_adapter_is_written_as_it_was_stored() {
    let scene = Scene::new();
    scene.add("home");
    let dir = scene
        .folder("dir", &[("adapter_config.json", b"{}"), ("weights", b"1234"), ("w", b"1234")]);
    let stored = scene.put(&owned("home"), "mounted", &dir, None).expect("stored");
    assert_eq!(stored.provenance, provenance());
    assert_eq!((&stored.owner, stored.name.as_str()), (&owned("home"), "mounted"));
    let listed: Vec<_> = stored.files.iter().map(|file| (file.name.as_str(), file.bytes)).collect();
    assert_eq!(listed, [("adapter_config.json", 2), ("w", 4), ("weights", 4)]);
    assert_eq!(scene.contents().len(), 2, "equal contents are stored once");
    assert_eq!(scene.registry.adapter(&owned("home"), &adapter("mounted")).expect("it"), stored);

    // What happens to the folder afterwards does not matter.
    let original = files(&dir);
    fs::remove_dir_all(&dir).expect("removed");
    let out = scene.path("deep/out");
    let written = scene.registry.materialise_adapter(&owned("home"), &adapter("mounted"), &out);
    assert_eq!(written.expect("written"), stored);
    assert_eq!(files(&out), original);
    let error = scene.registry.materialise_adapter(&owned("home"), &adapter("mounted"), &out);
    assert!(error.is_err(), "the folder is not empty");
    assert_eq!(files(&out), original);
}

#[test]
fn an_adapter_is_read_in_a_folder_that_is_gone_afterwards() {
    let scene = Scene::new();
    scene.add("home");
    let dir = scene.folder("dir", &[("a", b"1"), ("b", b"2")]);
    let stored = scene.put(&owned("home"), "mounted", &dir, None).expect("stored");
    let read = |name: &str| {
        scene.registry.read_adapter(&owned("home"), &adapter(name), |dir| {
            assert!(dir.starts_with(scene.registry.dir()));
            (dir.to_owned(), files(dir))
        })
    };
    let (found, (staged, content)) = read("mounted").expect("read");
    assert_eq!((found, content), (stored, files(&dir)));
    assert!(!staged.exists());
    assert!(matches!(read("other"), Err(RegistryError::NoAdapter { .. })));
}

#[test]
fn an_adapter_is_removed_by_its_generation() {
    let scene = Scene::new();
    scene.add("home");
    let dir = scene.folder("dir", &[("a", b"1")]);
    let stored = scene.put(&owned("home"), "mounted", &dir, None).expect("stored");
    let remove = |generation| {
        scene.registry.remove_adapter(&owned("home"), &adapter("mounted"), Some(generation))
    };
    let error = remove(stored.generation + 1).expect_err("another generation");
    assert!(matches!(error, RegistryError::OtherGeneration { .. }), "{error}");
    remove(stored.generation).expect("removed");
    assert!(matches!(remove(stored.generation), Err(RegistryError::NoAdapter { .. })));
}

#[test]
fn a_replacement_names_the_generation_that_it_replaces() {
    let scene = Scene::new();
    scene.add("home");
    let (old, new) = (scene.folder("old", &[("a", b"old")]), scene.folder("new", &[("b", b"new")]));
    let put = |dir: &Path, replaces| scene.put(&owned("home"), "mounted", dir, replaces);
    let error = put(&old, Some(1)).expect_err("nothing to replace");
    assert!(matches!(error, RegistryError::NoAdapter { .. }), "{error}");
    let first = put(&old, None).expect("stored");
    scene.pass(5);
    let error = put(&new, None).expect_err("there is one");
    assert!(
        matches!(error, RegistryError::AdapterExists { found, .. } if found == first.generation)
    );
    let error = put(&new, Some(first.generation + 1)).expect_err("another generation");
    assert!(matches!(error, RegistryError::OtherGeneration { expected, found, .. }
            if expected == first.generation + 1 && found == first.generation));
    assert_eq!(
        scene.contents(),
        [first.files[0].sha256.to_string()],
        "nothing of what was refused"
    );

    let second = put(&new, Some(first.generation)).expect("replaced");
    assert!(second.generation > first.generation);
    assert_eq!((second.created, second.updated.0), (first.created, first.updated.0 + 5));
    assert_eq!(scene.contents(), [second.files[0].sha256.to_string()]);
    let error = put(&old, Some(first.generation)).expect_err("replaced before");
    assert!(matches!(error, RegistryError::OtherGeneration { .. }), "{error}");
    // Not even after a removal is a generation given again.
    scene.registry.remove_adapter(&owned("home"), &adapter("mounted"), None).expect("removed");
    assert!(scene.contents().is_empty());
    let third = put(&old, None).expect("stored");
    assert!(third.generation > second.generation);
}

#[test]
fn one_of_several_replacements_succeeds() {
    let scene = Scene::new();
    scene.add("home");
    let dir = scene.folder("dir", &[("a", b"first")]);
    let first = scene.put(&owned("home"), "mounted", &dir, None).expect("stored").generation;
    let n_replaced: usize = std::thread::scope(|scope| {
        let threads = (0..4).map(|i| {
            let dir = scene.folder(&format!("dir-{i}"), &[("a", &[i])]);
            let scene = &scene;
            scope.spawn(move || scene.put(&owned("home"), "mounted", &dir, Some(first)).is_ok())
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| usize::from(thread.join().expect("no panic"))).sum()
    });
    assert_eq!((n_replaced, scene.contents().len()), (1, 1));
    assert!(check(&scene.path("registry")).expect("checked").is_clean());
}

#[test]
fn only_folders_of_files_are_stored() {
    let scene = Scene::new();
    scene.add("home");
    let put = |dir: &Path| scene.put(&owned("home"), "mounted", dir, None).expect_err("refused");
    assert!(matches!(put(&scene.folder("empty", &[])), RegistryError::NoFiles { .. }));
    assert!(matches!(put(&scene.path("missing")), RegistryError::Io { .. }));
    let nested = scene.folder("nested", &[("a", b"a")]);
    fs::create_dir(nested.join("inner")).expect("a folder");
    assert!(matches!(put(&nested), RegistryError::NotAFile { path } if path.ends_with("inner")));
    #[cfg(unix)]
    {
        let linked = scene.folder("linked", &[("a", b"a")]);
        std::os::unix::fs::symlink(nested.join("a"), linked.join("link")).expect("a link");
        assert!(matches!(put(&linked), RegistryError::NotAFile { path } if path.ends_with("link")));
        let odd = scene.folder("odd", &[("a\nb", b"a")]);
        assert!(matches!(put(&odd), RegistryError::FileName(_)));
    }
    let many: Vec<String> = (0..257).map(|i| i.to_string()).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (&**name, &b"a"[..])).collect();
    assert!(matches!(put(&scene.folder("many", &many)), RegistryError::ManyFiles { .. }));
    assert!(scene.contents().is_empty());
    assert!(scene.registry.adapters(&owned("home")).expect("adapters").is_empty());
}

#[test]
fn an_app_uses_its_own_adapters_and_the_shared_ones_that_it_may() {
    let scene = Scene::new();
    let (home, _) = scene.add("home");
    let (other, _) = scene.add("other");
    let dir = scene.folder("dir", &[("a", b"a")]);
    for (owner, name) in [
        (owned("home"), "own"),
        (owned("home"), "both"),
        (Owner::Shared, "both"),
        (Owner::Shared, "shared"),
        (Owner::Shared, "barred"),
        (owned("other"), "theirs"),
    ] {
        scene.put(&owner, name, &dir, None).expect("stored");
    }
    let only = |names: &str| {
        let names: Allowed = names.parse().expect("names");
        scene.registry.set_app(&home.name, |home| home.adapters = names).expect("set")
    };
    let usable = |names: &str| -> Vec<(String, bool)> {
        let home = only(names);
        let usable = scene.registry.usable_adapters(&home).expect("adapters");
        for found in &usable {
            assert_eq!(scene.registry.usable_adapter(&home, &found.name).expect("it"), *found);
        }
        usable.iter().map(|a| (a.name.to_string(), a.owner == Owner::Shared)).collect()
    };
    let own = [("both".to_owned(), false), ("own".to_owned(), false)];
    assert_eq!(usable(""), own);
    assert_eq!(usable("theirs,own,both"), own);
    assert_eq!(usable("shared"), [&own[..], &[("shared".to_owned(), true)]].concat());
    let all = usable("*");
    let all: BTreeSet<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(all, BTreeSet::from(["barred", "both", "own", "shared"]));
    // One that is not there, another app's, and one that it may not use give the same error.
    let home = only("shared");
    for name in ["none", "theirs", "barred"] {
        let error = scene.registry.usable_adapter(&home, &adapter(name)).expect_err(name);
        assert_eq!(error.to_string(), format!("there is no adapter `{name}`"));
    }
    let theirs = scene.registry.usable_adapters(&other).expect("adapters");
    assert!(theirs.iter().all(|adapter| adapter.owner != owned("home")));
}

#[test]
fn a_damaged_content_is_not_written() {
    let scene = Scene::new();
    scene.add("home");
    let dir = scene.folder("dir", &[("a", b"content"), ("b", b"other")]);
    let stored = scene.put(&owned("home"), "mounted", &dir, None).expect("stored");
    let path =
        |index: usize| scene.path("registry/files").join(stored.files[index].sha256.to_string());
    let write = || {
        let out = scene.path("out");
        let error = scene.registry.materialise_adapter(&owned("home"), &adapter("mounted"), &out);
        assert!(!out.exists() && !names(&scene.path("")).iter().any(|n| n.starts_with(".out")));
        error.expect_err("damaged")
    };
    fs::write(path(1), b"other!").expect("damaged");
    assert!(
        matches!(write(), RegistryError::DamagedContent { sha256, .. } if sha256 == stored.files[1].sha256)
    );
    fs::remove_file(path(0)).expect("removed");
    assert!(
        matches!(write(), RegistryError::MissingContent { sha256 } if sha256 == stored.files[0].sha256)
    );
    // Storing the same again repairs them.
    scene.put(&Owner::Shared, "again", &dir, None).expect("stored");
    let out = scene.path("out");
    scene.registry.materialise_adapter(&owned("home"), &adapter("mounted"), &out).expect("written");
    assert_eq!(files(&out), files(&dir));
}

#[test]
fn an_adapter_needs_its_app() {
    let scene = Scene::new();
    scene.add("home");
    let dir = scene.folder("dir", &[("a", b"a")]);
    let error = scene.put(&owned("nobody"), "mounted", &dir, None).expect_err("no app");
    assert!(matches!(error, RegistryError::NoApp { .. }), "{error}");
    scene.put(&owned("home"), "mounted", &dir, None).expect("stored");
    scene.registry.revoke_app(&app("home")).expect("revoked");
    let error = scene.put(&owned("home"), "more", &dir, None).expect_err("revoked");
    assert!(matches!(error, RegistryError::Revoked { .. }), "{error}");
    assert_eq!(scene.contents().len(), 1);
    // The administrator can still clear up.
    scene.registry.remove_adapter(&owned("home"), &adapter("mounted"), None).expect("removed");
    assert!(scene.contents().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_files_are_stored_and_written_unchanged(
        first in prop::collection::btree_map("[a-zA-Z0-9._ é-]{1,12}", prop::collection::vec(any::<u8>(), 0..300), 1..6),
        second in prop::collection::btree_map("[a-z]{1,3}", prop::collection::vec(0..3_u8, 0..2), 1..6),
    ) {
        let is_name = |name: &String| name != "." && name != "..";
        prop_assume!(first.keys().all(is_name));
        let scene = Scene::new();
        scene.add("home");
        let mut replaces = None;
        for (index, expected) in [&first, &second, &first].into_iter().enumerate() {
            let listed: Vec<(&str, &[u8])> =
                expected.iter().map(|(name, content)| (&**name, &**content)).collect();
            let dir = scene.folder(&format!("in-{index}"), &listed);
            let stored = scene.put(&owned("home"), "mounted", &dir, replaces).expect("stored");
            replaces = Some(stored.generation);
            let out = scene.path(&format!("out-{index}"));
            scene.registry.materialise_adapter(&owned("home"), &adapter("mounted"), &out).expect("written");
            prop_assert_eq!(&files(&out), expected);
            let contents: BTreeSet<&Vec<u8>> = expected.values().collect();
            prop_assert_eq!(scene.contents().len(), contents.len());
        }
        prop_assert!(check(&scene.path("registry")).expect("checked").is_clean());
    }
}

use std::time::Duration;

use litemoe_registry::Settings;
use proptest::prelude::*;

use crate::scene::{Scene, app, names};

/// Name of the app that a key belongs to.
fn owner(scene: &Scene, key: &str) -> Option<String> {
    scene.registry.authenticate(key).expect("read").map(|app| app.name.into())
}

#[test]
fn a_key_is_of_its_app_and_no_two_are_equal() {
    let scene = Scene::new();
    let (home, key) = scene.add("home");
    let (_, other) = scene.add("other");
    assert_ne!(key, other);
    assert_eq!(scene.registry.authenticate(&key).expect("read"), Some(home));
    assert_eq!(owner(&scene, &other).as_deref(), Some("other"));
    let parts: Vec<&str> = key.split('-').collect();
    assert_eq!((parts[0], parts[1].len(), parts[2].len(), parts.len()), ("lm", 16, 64, 3));
    // The id of one and the secret of the other.
    let mixed = format!("lm-{}-{}", parts[1], other.split('-').nth(2).expect("a secret"));
    assert_eq!(owner(&scene, &mixed), None);
}

#[test]
fn texts_that_are_no_keys_are_of_no_app() {
    let scene = Scene::new();
    let (_, key) = scene.add("home");
    let (id, secret) = key[3..].split_once('-').expect("id and secret");
    let long = "x".repeat(1 << 20);
    for text in [
        "",
        "lm-",
        "lm--",
        id,
        secret,
        &format!("lm-{id}"),
        &format!("lm-{id}-"),
        &format!("{id}-{secret}"),
        &format!("sk-{id}-{secret}"),
        &format!("lm-{id}-{secret} "),
        &format!(" {key}"),
        &format!("lm-{id}-{}", secret.to_uppercase()),
        &format!("lm-{}-{secret}", id.to_uppercase()),
        &format!("lm--{secret}"),
        &format!("lm-{id}-{}", "0".repeat(64)),
        &format!("lm-{}-{secret}", "0".repeat(16)),
        &format!("lm-' OR 1=1 --{secret}"),
        &format!("lm-%-{secret}"),
        "lm-\0-\0",
        &long,
    ] {
        let is_same = text == key;
        assert_eq!(owner(&scene, text).is_some(), is_same, "{}", &text[..text.len().min(99)]);
    }
}

#[test]
fn no_secret_is_stored_or_printed() {
    let scene = Scene::new();
    let key = scene.registry.add_app(&app("home"), &Settings::default()).expect("added");
    let revealed = key.reveal();
    let secret = revealed.rsplit('-').next().expect("a secret");
    assert!(!format!("{key:?}").contains(secret));
    for name in names(&scene.path("registry")) {
        let path = scene.path("registry").join(name);
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("a file");
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

#[test]
fn a_rotated_key_stops_at_once_or_after_its_grace() {
    let scene = Scene::new();
    let (_, first) = scene.add("home");
    let rotate = |grace| {
        let grace = Duration::from_secs(grace);
        scene.registry.rotate_key(&app("home"), grace).expect("rotated").reveal()
    };
    let second = rotate(60);
    let valid = |keys: &[&String]| -> Vec<bool> {
        keys.iter().map(|key| owner(&scene, key).is_some()).collect()
    };
    assert_eq!(valid(&[&first, &second]), [true, true]);
    scene.pass(59);
    assert_eq!(valid(&[&first, &second]), [true, true]);
    // A longer grace does not prolong an earlier one.
    let third = rotate(600);
    scene.pass(1);
    assert_eq!(valid(&[&first, &second, &third]), [false, true, true]);
    let keys = scene.registry.keys(&app("home")).expect("keys");
    let ids: Vec<_> = keys.iter().map(|key| (&*key.id, key.expires.is_some())).collect();
    let part = |key: &String| key.split('-').nth(1).expect("an id").to_owned();
    assert_eq!(ids, [(&*part(&second), true), (&*part(&third), false)]);

    let fourth = rotate(0);
    assert_eq!(valid(&[&first, &second, &third, &fourth]), [false, false, false, true]);
    // Nor does a clock that is put back.
    scene.set_clock(0);
    assert_eq!(valid(&[&first, &second, &third, &fourth]), [false, false, false, true]);
    scene.registry.revoke_app(&app("home")).expect("revoked");
    assert_eq!(valid(&[&first, &second, &third, &fourth]), [false; 4]);
    assert!(scene.registry.keys(&app("home")).expect("keys").is_empty());
}

#[test]
fn keys_of_other_apps_are_not_rotated() {
    let scene = Scene::new();
    let (_, key) = scene.add("home");
    scene.add("other");
    scene.registry.rotate_key(&app("other"), Duration::ZERO).expect("rotated");
    scene.registry.revoke_app(&app("other")).expect("revoked");
    assert_eq!(owner(&scene, &key).as_deref(), Some("home"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_key_with_any_other_character_is_no_key(at in 0..84_usize, byte in 0x20..0x7f_u8) {
        let scene = Scene::new();
        let (_, key) = scene.add("home");
        prop_assert_eq!(key.len(), 84);
        let mut other = key.clone().into_bytes();
        other[at] = byte;
        let other = String::from_utf8(other).expect("ASCII");
        prop_assert_eq!(owner(&scene, &other).is_some(), other == key);
        let cut = &key[..at];
        prop_assert_eq!(owner(&scene, cut), None);
    }
}

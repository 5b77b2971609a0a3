use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use litemoe_registry::{
    Allowed, JobState, Page, Priority, Registry, RegistryError, Settings, UnixTime,
};
use proptest::prelude::*;
use serde_json::json;

use crate::scene::{MIDNIGHT, Scene, app};

fn settings() -> Settings {
    Settings {
        models: "foundation,org/other".parse().expect("names"),
        adapters: Allowed::All,
        requests_per_minute: NonZeroU32::new(60),
        tokens_per_minute: NonZeroU64::new(100_000),
        concurrency: NonZeroU32::new(4),
        cache_bytes: Some(0),
        storage_bytes: Some(u64::MAX >> 1),
        tokens_per_day: NonZeroU64::new(i64::MAX as u64),
        weight: NonZeroU32::new(3).expect("3"),
        priority: Priority::Background,
    }
}

#[test]
fn an_app_is_found_as_it_was_added_also_by_another_process() {
    let scene = Scene::new();
    assert!(!scene.registry.has_apps().expect("read"));
    scene.registry.add_app(&app("home"), &settings()).expect("added");
    let again = Registry::open(&scene.path("registry")).expect("a registry");
    for registry in [&scene.registry, &again] {
        let home = registry.app(&app("home")).expect("an app");
        assert_eq!((home.name.as_str(), &home.settings), ("home", &settings()));
        assert_eq!((home.created, home.revoked), (UnixTime(MIDNIGHT as i64), None));
        assert_eq!(registry.apps().expect("read"), [home]);
        assert!(registry.has_apps().expect("read"));
    }
    let json = serde_json::to_value(again.app(&app("home")).expect("an app")).expect("JSON");
    assert_eq!(json["models"], json!(["foundation", "org/other"]));
    assert_eq!((&json["adapters"], &json["priority"]), (&json!("*"), &json!("background")));
}

#[test]
fn an_apps_name_is_taken_for_good() {
    let scene = Scene::new();
    scene.add("home");
    let taken = |error| matches!(error, RegistryError::AppExists { name } if name == "home");
    assert!(scene.registry.add_app(&app("home"), &settings()).is_err_and(taken));
    assert_eq!(scene.registry.app(&app("home")).expect("as before").settings, Settings::default());
    scene.registry.revoke_app(&app("home")).expect("revoked");
    assert!(scene.registry.add_app(&app("home"), &settings()).is_err_and(taken));
}

#[test]
fn a_change_of_settings_is_whole_or_nothing() {
    let scene = Scene::new();
    scene.add("home");
    let changed = scene.registry.set_app(&app("home"), |home| *home = settings()).expect("set");
    assert_eq!(changed, scene.registry.app(&app("home")).expect("an app"));
    assert_eq!(changed.settings, settings());
    let too_large = scene.registry.set_app(&app("home"), |home| {
        home.weight = NonZeroU32::MIN;
        home.cache_bytes = Some(1 << 63);
    });
    assert!(matches!(too_large, Err(RegistryError::TooLarge { .. })), "{too_large:?}");
    assert_eq!(scene.registry.app(&app("home")).expect("an app"), changed);
}

#[test]
fn an_app_that_is_not_there_is_named() {
    let scene = Scene::new();
    let registry = &scene.registry;
    let nobody = app("nobody");
    let days = registry.today()..=registry.today();
    for error in [
        registry.app(&nobody).expect_err("none"),
        registry.set_app(&nobody, |_| {}).expect_err("none"),
        registry.rotate_key(&nobody, Duration::ZERO).expect_err("none"),
        registry.revoke_app(&nobody).expect_err("none"),
        registry.keys(&nobody).expect_err("none"),
        registry.usage(&nobody, days).expect_err("none"),
        registry.record_usage(&nobody, &litemoe_registry::Usage::default()).expect_err("none"),
        registry.create_job(&nobody, json!({})).expect_err("none"),
    ] {
        assert_eq!(error.to_string(), "there is no app `nobody`");
    }
}

#[test]
fn a_revoked_app_does_nothing_any_more_and_what_it_has_is_left() {
    let scene = Scene::new();
    let (_, key) = scene.add("home");
    let home = app("home");
    let registry = &scene.registry;
    let worker = registry.worker().expect("the worker");
    let first = registry.create_job(&home, json!(1)).expect("a job");
    let claimed = worker.claim_next().expect("read").expect("a job");
    registry.create_job(&home, json!(2)).expect("a job");
    let file = scene.upload("home", b"rows").expect("a file");
    scene.pass(9);
    registry.revoke_app(&home).expect("revoked");

    assert_eq!(registry.app(&home).expect("it").revoked, Some(UnixTime(MIDNIGHT as i64 + 9)));
    assert!(registry.has_apps().expect("read"), "keys are asked for still");
    assert_eq!(registry.authenticate(&key).expect("read"), None);
    assert_eq!(registry.file(&home, &file.id).expect("a file"), file);
    let jobs = registry.jobs(&home, Page::default()).expect("jobs");
    assert!(jobs.len() == 2 && jobs.iter().all(|job| job.state == JobState::Cancelled));
    assert_eq!(worker.claim_next().expect("read"), None);
    let error = worker.succeed(&claimed).expect_err("cancelled").to_string();
    assert_eq!(error, format!("the job `{}` is cancelled", first.id));

    let revoked = "the app `home` is revoked";
    for error in [
        registry.set_app(&home, |_| {}).expect_err("revoked"),
        registry.rotate_key(&home, Duration::ZERO).expect_err("revoked"),
        registry.revoke_app(&home).expect_err("revoked"),
        registry.create_job(&home, json!({})).expect_err("revoked"),
        scene.upload("home", b"more").expect_err("revoked"),
    ] {
        assert_eq!(error.to_string(), revoked);
    }
    registry.record_usage(&home, &Default::default()).expect("what it used before");
    assert_eq!(scene.contents(), [file.sha256.to_string()], "nothing of what was refused");
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let names = prop::collection::btree_set("[a-z/]{1,6}", 0..4).prop_map(Allowed::Only);
    let allowed = prop_oneof![Just(Allowed::All), names];
    let small = any::<Option<NonZeroU32>>();
    let large = (1..=i64::MAX as u64).prop_map(NonZeroU64::new);
    let large = prop_oneof![Just(None), large];
    let bytes = prop_oneof![Just(None), (0..=i64::MAX as u64).prop_map(Some)];
    let priority = prop_oneof![Just(Priority::Interactive), Just(Priority::Background)];
    let numbers = (small.clone(), large.clone(), small, bytes.clone(), large, bytes);
    (allowed.clone(), allowed, numbers, any::<NonZeroU32>(), priority).prop_map(
        |(models, adapters, numbers, weight, priority)| Settings {
            models,
            adapters,
            requests_per_minute: numbers.0,
            tokens_per_minute: numbers.1,
            concurrency: numbers.2,
            cache_bytes: numbers.3,
            tokens_per_day: numbers.4,
            storage_bytes: numbers.5,
            weight,
            priority,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn settings_are_kept_as_they_are(first in any_settings(), second in any_settings()) {
        let scene = Scene::new();
        scene.registry.add_app(&app("home"), &first).expect("added");
        prop_assert_eq!(&scene.registry.app(&app("home")).expect("it").settings, &first);
        scene.registry.set_app(&app("home"), |home| *home = second.clone()).expect("set");
        prop_assert_eq!(&scene.registry.app(&app("home")).expect("it").settings, &second);
    }
}

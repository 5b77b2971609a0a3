use litemoe_registry::{DayUsage, Usage};
use proptest::prelude::*;
use serde_json::json;
use time::{Date, Month};

use crate::scene::{Scene, app};

const DAY: u64 = 86_400;

fn day(day: u8) -> Date {
    Date::from_calendar_date(2026, Month::November, day).expect("a day")
}

fn usage(scene: &Scene, owner: &str) -> Vec<DayUsage> {
    scene.registry.usage(&app(owner), Date::MIN..=Date::MAX).expect("usage")
}

#[test]
fn usage_is_of_an_app_and_a_day_in_utc() {
    let scene = Scene::new();
    let (home, _) = scene.add("home");
    scene.add("other");
    let one = Usage { requests: 1, prompt_tokens: 20, cached_tokens: 16, completion_tokens: 5 };
    let record = || scene.registry.record_usage(&home.name, &one).expect("recorded");
    assert_eq!(scene.registry.usage_today(&home.name).expect("usage"), Usage::default());
    record();
    scene.pass(DAY - 1);
    record();
    assert_eq!(scene.registry.usage_today(&home.name).expect("usage").tokens(), 50);
    scene.pass(1);
    assert_eq!(scene.registry.usage_today(&home.name).expect("usage"), Usage::default());
    record();
    scene.pass(2 * DAY);
    record();
    let two = Usage { requests: 2, prompt_tokens: 40, cached_tokens: 32, completion_tokens: 10 };
    let days =
        [(27, two), (28, one), (30, one)].map(|(at, usage)| DayUsage { day: day(at), usage });
    assert_eq!(usage(&scene, "home"), days);
    let some = scene.registry.usage(&home.name, day(28)..=day(29)).expect("usage");
    assert_eq!(some, days[1..2]);
    let none = scene.registry.usage(&home.name, day(29)..=day(28)).expect("usage");
    assert!(none.is_empty() && usage(&scene, "other").is_empty());
    assert_eq!(
        serde_json::to_value(days[0]).expect("JSON"),
        json!({"day": "2026-11-27", "requests": 2, "prompt_tokens": 40, "cached_tokens": 32, "completion_tokens": 10})
    );
}

#[test]
fn threads_count_every_request() {
    let scene = Scene::new();
    scene.add("home");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let one = Usage { requests: 1, completion_tokens: 3, ..Usage::default() };
                for _ in 0..25 {
                    scene.registry.record_usage(&app("home"), &one).expect("recorded");
                }
            });
        }
    });
    let found = scene.registry.usage_today(&app("home")).expect("usage");
    assert_eq!((found.requests, found.completion_tokens), (100, 300));
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let largest = i64::MAX as u64;
    let count = prop_oneof![4 => 0..1_000_000_u64, 1 => (largest - 1000)..=largest];
    [count.clone(), count.clone(), count.clone(), count].prop_map(
        |[requests, prompt_tokens, cached_tokens, completion_tokens]| Usage {
            requests,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_usage_of_a_day_is_the_sum_that_fits(all in prop::collection::vec(any_usage(), 1..8)) {
        let scene = Scene::new();
        scene.add("home");
        for usage in &all {
            scene.registry.record_usage(&app("home"), usage).expect("recorded");
        }
        let largest = i64::MAX as u64;
        let sum = |count: fn(&Usage) -> u64| {
            all.iter().fold(0_u64, |sum, usage| sum.saturating_add(count(usage)).min(largest))
        };
        let expected = Usage {
            requests: sum(|usage| usage.requests),
            prompt_tokens: sum(|usage| usage.prompt_tokens),
            cached_tokens: sum(|usage| usage.cached_tokens),
            completion_tokens: sum(|usage| usage.completion_tokens),
        };
        prop_assert_eq!(scene.registry.usage_today(&app("home")).expect("usage"), expected);
    }
}

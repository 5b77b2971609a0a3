use litemoe_registry::{AdapterName, Allowed, AppName, FileName, Level, Priority, Sha256Hash};
use proptest::prelude::*;

#[test]
fn names_are_short_and_plain() {
    let longest = "a".repeat(64);
    for name in ["a", "0", "a.b-c_d", "home", "9lives", &longest] {
        assert_eq!(name.parse::<AppName>().expect("a name").as_str(), name);
        assert_eq!(name.parse::<AdapterName>().expect("a name").to_string(), name);
    }
    let too_long = "a".repeat(65);
    for text in ["", ".", "..", "-rf", "_a", "A", "a b", "a/b", "é", "a\n", "a\0", &too_long] {
        let error = text.parse::<AppName>().expect_err(text).to_string();
        assert!(error.contains("an app") && error.contains("1 to 64"), "{error}");
        assert!(text.parse::<AdapterName>().is_err(), "{text}");
        assert!(serde_json::from_value::<AppName>(text.into()).is_err(), "{text}");
    }
}

#[test]
fn a_file_name_is_no_path() {
    let longest = "é".repeat(127);
    for name in ["a", "adapter_config.json", ".hidden", "a b", "…", "C", &longest] {
        assert_eq!(name.parse::<FileName>().expect("a name").as_str(), name);
    }
    let too_long = "é".repeat(128);
    for text in ["", ".", "..", "a/b", "/a", "a\\b", "../a", "a\u{7}", "a\0b", &too_long] {
        assert!(text.parse::<FileName>().is_err(), "{text:?}");
    }
}

#[test]
fn words_are_parsed_and_others_are_refused_with_the_words() {
    for word in Priority::WORDS {
        assert_eq!(word.parse::<Priority>().expect("a priority").as_str(), *word);
    }
    let error = "urgent".parse::<Priority>().expect_err("no priority").to_string();
    assert!(error.contains("interactive, background"), "{error}");
    assert_eq!("warn".parse(), Ok(Level::Warn));
}

proptest! {
    #[test]
    fn a_name_is_its_text(name in "[a-z0-9][a-z0-9._-]{0,63}") {
        let parsed: AppName = name.parse().expect("a name");
        prop_assert_eq!(parsed.to_string(), &*name);
        let json = serde_json::to_value(&parsed).expect("JSON");
        prop_assert_eq!(&json, &*name);
        prop_assert_eq!(serde_json::from_value::<AppName>(json).expect("a name"), parsed);
    }

    #[test]
    fn what_is_allowed_is_what_is_listed(
        names in prop::collection::btree_set("[a-zA-Z0-9/._-]{1,8}", 0..6),
        other in "[a-zA-Z0-9/._-]{1,8}",
    ) {
        let allowed = Allowed::Only(names.clone());
        prop_assert_eq!(allowed.has(&other), names.contains(&other));
        prop_assert!(names.iter().all(|name| allowed.has(name)) && Allowed::All.has(&other));
        let json = serde_json::to_string(&allowed).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Allowed>(&json).expect("the same"), allowed.clone());
        prop_assert_eq!(allowed.to_string().parse::<Allowed>().expect("the same"), allowed);
    }

    #[test]
    fn a_hash_has_one_text(bytes in any::<[u8; 32]>()) {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let hash: Sha256Hash = text.parse().expect("a hash");
        prop_assert_eq!(hash.to_string(), &*text);
        let upper = text.to_uppercase();
        prop_assert_eq!(upper.parse::<Sha256Hash>().is_ok(), upper == text);
        prop_assert!(text[1..].parse::<Sha256Hash>().is_err());
    }
}

#[test]
fn all_names_are_a_star_and_nothing_else() {
    assert_eq!("*".parse::<Allowed>(), Ok(Allowed::All));
    assert_eq!(serde_json::to_string(&Allowed::All).expect("JSON"), "\"*\"");
    assert_eq!(serde_json::from_str::<Allowed>("\"*\"").expect("all"), Allowed::All);
    for json in ["\"a\"", "null", "{}", "1", "[1]"] {
        assert!(serde_json::from_str::<Allowed>(json).is_err(), "{json}");
    }
    let two: Allowed = " a , b,,".parse().expect("names");
    assert_eq!(two.to_string(), "a,b");
    assert!("".parse::<Allowed>().is_ok_and(|none| !none.has("a") && !none.has("")));
}

use std::fmt::Display;
use std::str::FromStr;

use litemoe_core::{Alignment, Criterion, MergeMethod, RouterRule, SimilarityKind};
use serde::Serialize;

const README: &str = include_str!("../../README.md");

/// The table's rows of an option are its values, in order.
fn expect_in_readme<T: Copy + Display + Serialize + FromStr + PartialEq>(
    option: &str,
    all: &[T],
    about: fn(T) -> &'static str,
) {
    let start = format!("| `{option}` | ");
    let rows: Vec<&str> = README.lines().filter(|line| line.starts_with(&start)).collect();
    assert_eq!(rows.len(), all.len(), "{option}");
    for (row, &value) in rows.into_iter().zip(all) {
        assert_eq!(row, format!("{start}`{value}` | {} |", about(value)));
        assert_eq!(serde_json::to_value(value).expect("JSON"), value.to_string());
        assert!(value.to_string().parse::<T>().is_ok_and(|parsed| parsed == value));
    }
}

#[test]
fn the_readme_tells_of_every_value_what_help_texts_tell() {
    expect_in_readme("score", Criterion::ALL, Criterion::about);
    expect_in_readme("merge", MergeMethod::ALL, MergeMethod::about);
    expect_in_readme("similarity", SimilarityKind::ALL, SimilarityKind::about);
    expect_in_readme("alignment", Alignment::ALL, Alignment::about);
    expect_in_readme("router", RouterRule::ALL, RouterRule::about);
}

use std::fs;
use std::path::PathBuf;

use litemoe_text::{Row, TextError, read_rows};
use proptest::prelude::*;
use tempfile::TempDir;

fn file(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn refused(text: impl AsRef<[u8]>) -> TextError {
    let (_dir, path) = file(text);
    read_rows(&path).unwrap_err()
}

#[test]
fn rows_keep_label_and_references_and_ignore_other_keys() {
    let (_dir, path) = file(concat!(
        r#"{"prompt":"p","completion":"c","label":"l","references":["c","d"],"source":7}"#,
        "\r\n",
        r#"{"prompt":"","completion":""}"#
    ));
    let first = Row {
        label: Some("l".into()),
        references: vec!["c".into(), "d".into()],
        ..Row::new("p", "c")
    };
    assert_eq!(read_rows(&path).unwrap(), [first, Row::new("", "")]);
}

#[test]
fn an_empty_file_has_no_rows() {
    for text in ["", "\n"] {
        let error = refused(text);
        assert!(matches!(error, TextError::NoRows { .. }), "{error}");
        assert!(error.to_string().contains("rows.jsonl"), "{error}");
    }
}

#[test]
fn a_bad_line_is_named_by_its_number() {
    let good = r#"{"prompt":"p","completion":"c"}"#;
    for (bad, reason) in [
        ("", "the line is empty"),
        ("  \t", "the line is empty"),
        ("{", "EOF"),
        ("not json", "not a JSON object"),
        (r#"["p","c"]"#, "not a JSON object"),
        (r#"{"prompt":"p"}"#, "missing field `completion`"),
        (r#"{"completion":"c"}"#, "missing field `prompt`"),
        (r#"{"prompt":1,"completion":"c"}"#, "invalid type: integer `1`, expected a string"),
        (r#"{"prompt":"p","completion":null}"#, "invalid type: null, expected a string"),
        (r#"{"prompt":"p","prompt":"q","completion":"c"}"#, "duplicate field `prompt`"),
        (r#"{"prompt":"p","completion":"c"} {}"#, "trailing characters"),
        (r#"{"prompt":"p","completion":"\ud800"}"#, "hex escape"),
    ] {
        let error = refused(format!("{good}\n{bad}\n{good}\n")).to_string();
        assert!(error.contains("rows.jsonl, line 2: "), "{error}");
        assert!(error.contains(reason), "{bad}: {error}");
        assert!(!error.contains("line 1"), "{error}");
    }
}

#[test]
fn bytes_that_are_no_text_are_a_bad_line() {
    let error = refused(b"{\"prompt\":\"\xff\",\"completion\":\"c\"}\n");
    assert!(matches!(error, TextError::Row { line: 1, .. }), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = read_rows("no/such/rows.jsonl").unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such/rows.jsonl: "), "{error}");
}

proptest! {
    #[test]
    fn written_rows_are_read_back(rows in prop::collection::vec((any::<String>(), any::<String>()), 1..20)) {
        let rows: Vec<_> = rows.into_iter().map(|(prompt, completion)| Row::new(prompt, completion)).collect();
        let lines: Vec<_> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        let (_dir, path) = file(lines.join("\n"));
        prop_assert_eq!(read_rows(&path).unwrap(), rows);
    }
}

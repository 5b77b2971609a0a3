//! Formats, encodings and lines of files.

use std::time::{Duration, Instant};

use litemoe_text::{Row, RowContent, RowFormat, RowShape, TextError, read_rows};
use proptest::prelude::*;

use super::{file, one, read, refused};

fn pairs() -> [Row; 2] {
    [Row::new("a", "b"), Row::new("c \"é\"\n", "d, e")]
}

/// The pairs as JSON Lines, as JSON arrays and as CSV, and the lines at which they begin.
fn texts() -> [(String, RowFormat, [usize; 2]); 4] {
    let [first, second] = pairs().map(|row| serde_json::to_string(&row).unwrap());
    let pretty = serde_json::to_string_pretty(&pairs()).unwrap();
    [
        (format!("\n{first}\n \t\n{second}\n\n"), RowFormat::JsonLines, [2, 4]),
        (format!(" [{first}, {second}]\n"), RowFormat::JsonArray, [1, 1]),
        (pretty, RowFormat::JsonArray, [2, 6]),
        (
            "prompt, completion ,id\na,b,1\n\n\"c \"\"é\"\"\n\",\"d, e\",2\n".to_owned(),
            RowFormat::Csv,
            [2, 4],
        ),
    ]
}

#[test]
fn json_lines_json_arrays_and_csv_with_their_lines() {
    for (text, format, lines) in texts() {
        let file = read(&text);
        assert_eq!(file.rows, pairs(), "{text}");
        assert_eq!((file.format, file.shape), (format, RowShape::PromptCompletion), "{text}");
        assert_eq!(file.lines, lines, "{text}");
    }
}

#[test]
fn byte_order_marks_crlf_and_utf_16() {
    for (text, _, _) in texts() {
        assert_eq!(read(format!("\u{feff}{text}")).rows, pairs(), "{text}");
        let utf16 = |bytes: fn(u16) -> [u8; 2]| {
            let marked = format!("\u{feff}{text}");
            marked.encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
        };
        for bytes in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
            assert_eq!(read(bytes).rows, pairs(), "{text}");
        }
    }
    for (text, format, lines) in texts().into_iter().filter(|text| text.1 != RowFormat::Csv) {
        let file = read(text.replace('\n', "\r\n"));
        assert_eq!((file.rows, file.format, file.lines), (pairs().into(), format, lines.into()));
    }
    let file = read("prompt,completion\r\na,b\r\n\"c\",d\r\n");
    assert_eq!((file.rows, file.lines), (vec![Row::new("a", "b"), Row::new("c", "d")], vec![2, 3]));
}

#[test]
fn csv_of_other_shapes() {
    let file = read("text\nOnce.\n\"Twice,\nat least.\"\n");
    assert_eq!((file.shape, file.lines), (RowShape::Text, vec![2, 3]));
    assert_eq!(file.rows[1].content, RowContent::Text("Twice,\nat least.".into()));
    let file = read("instruction,input,output\nSay hello.,,Hello\nTranslate.,Hallo,Hello\n");
    assert_eq!(
        file.rows,
        [Row::new("Say hello.", "Hello"), Row::new("Translate.\nHallo", "Hello")]
    );
    let messages = r#"[{""role"":""user"",""content"":""Hi""},{""role"":""assistant"",""content"":""Hello""}]"#;
    let row = one(format!("messages\n\"{messages}\"\n"));
    assert_eq!(row.completion(), Some("Hello"));
    assert_eq!(one("prompt,completion,label\n,c,\n"), Row::new("", "c"));
}

#[test]
fn csv_of_lists_of_messages() {
    let prompt = r#"[{""role"":""user"",""content"":""Hi""}]"#;
    let completion = r#"[{""role"":""assistant"",""content"":""Hello""}]"#;
    let file = read(format!("prompt,completion\n\"{prompt}\",\"{completion}\"\n"));
    assert_eq!((file.shape, file.rows[0].completion()), (RowShape::MessageLists, Some("Hello")));
    for (cells, key) in [
        (format!("\"{prompt}\",Hello"), "`completion` is a text, expected a list of messages"),
        (format!("Hi,\"{completion}\""), "`prompt` is a text, expected a list of messages"),
        (
            format!("\"{}\",Hello", prompt.replace("\"\"", "'")),
            "`prompt`: a list of messages as Python prints it",
        ),
    ] {
        let error = refused(format!("prompt,completion\n{cells}\n")).to_string();
        assert!(error.contains("line 2: ") && error.contains(key), "{error}");
    }
    let lists = one("prompt,completion\n[1],\"[{\"\"a\"\":1}]\"\n");
    assert_eq!(lists, Row::new("[1]", r#"[{"a":1}]"#));
}

#[test]
fn csv_of_many_columns_is_read_in_linear_time() {
    let columns: String = (0..80_000).map(|column| format!(",{column}")).collect();
    let start = Instant::now();
    let row = one(format!("prompt,completion{columns}\na,b{}\n", ",".repeat(80_000)));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(row, Row::new("a", "b"));
    let error = refused(format!("prompt,completion{columns},7\n")).to_string();
    assert!(error.contains("line 1: the header has the column `7` twice"), "{error}");
}

#[test]
fn csv_that_is_broken_is_refused_with_its_line() {
    for (text, line, reason) in [
        ("prompt,completion\na,b\nc\n", 3, "the line has 1 cells, but the header has 2"),
        ("prompt,completion\na,\"b\nc,d\n", 2, "a quoted cell is not closed"),
        (
            "prompt,completion\n\n\"a \"b\" c\",d\n",
            3,
            "a quoted cell goes on after its closing quote",
        ),
        ("prompt,prompt,completion\na,b,c\n", 1, "the header has the column `prompt` twice"),
        ("prompt,completion\na,b\nc,  \n", 3, "empty completion: `completion` has no text"),
        ("question,answer\na,b\n", 1, "rename `question` to `prompt` and `answer` to `completion`"),
    ] {
        let error = refused(text);
        assert!(matches!(error, TextError::Row { line: at, .. } if at == line), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(matches!(refused("prompt,completion\n"), TextError::NoRows { .. }));
}

#[test]
fn an_empty_file_has_no_rows() {
    for text in ["", "\n \r\n", "\u{feff}", "[]", " [ ] "] {
        let error = refused(text);
        assert!(matches!(error, TextError::NoRows { .. }), "{error}");
        assert!(error.to_string().contains("rows.txt"), "{error}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    let error = refused(
        b"{\"prompt\":\"a\",\"completion\":\"c\"}\n{\"prompt\":\"\xff\",\"completion\":\"c\"}\n",
    );
    let text = error.to_string();
    assert!(matches!(error, TextError::Row { line: 2, .. }), "{text}");
    assert!(text.contains("not UTF-8: byte 0xff at offset 43; save the file as UTF-8"), "{text}");
    for bytes in [&b"\xff\xfe{"[..], b"\xff\xfe\x00\xd8"] {
        let error = refused(bytes).to_string();
        assert!(error.contains("its byte order mark says UTF-16, which it is not"), "{error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = read_rows("no/such/rows.jsonl").unwrap_err().to_string();
    assert!(error.starts_with("cannot read no/such/rows.jsonl: "), "{error}");
}

/// Text that is not blank.
fn completion() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("not blank", |text| !text.trim().is_empty())
}

fn message(role: &'static str) -> impl Strategy<Value = serde_json::Value> {
    completion().prop_map(move |content| serde_json::json!({"role": role, "content": content}))
}

proptest! {
    #[test]
    fn written_pairs_are_read_back(rows in prop::collection::vec((any::<String>(), completion()), 1..20)) {
        let rows: Vec<_> = rows.into_iter().map(|(prompt, completion)| Row::new(prompt, completion)).collect();
        let lines: Vec<_> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        let (_dir, path) = file(lines.join("\n"));
        prop_assert_eq!(read_rows(&path).unwrap(), rows);
    }

    #[test]
    fn written_conversations_are_read_back(
        turns in prop::collection::vec((message("user"), message("assistant"), any::<bool>()), 1..6),
        tool in prop::option::of("[a-z]{1,5}"),
    ) {
        let mut messages: Vec<_> = turns
            .into_iter()
            .flat_map(|(user, mut assistant, is_covered)| {
                if !is_covered {
                    assistant["weight"] = 0.into();
                }
                [user, assistant]
            })
            .collect();
        messages.extend([serde_json::json!({"role": "user", "content": ""})]);
        messages.extend([serde_json::json!({"role": "assistant", "content": "x"})]);
        let tools = tool.map(|name| vec![serde_json::json!({"name": name})]);
        let row = one(serde_json::json!({"messages": messages, "tools": tools, "label": "l"}).to_string());
        prop_assert_eq!(&one(serde_json::to_string(&row).unwrap()), &row);
    }
}

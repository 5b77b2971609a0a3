//! Files that hold no rows, named for what they look like.

use litemoe_text::TextError;

use super::refused;

#[test]
fn files_of_other_kinds_are_named_with_what_to_do() {
    let tar = [&[b'a'; 257][..], b"ustar\0"].concat();
    let files: [(&[u8], &str, &str); 33] = [
        (b"PAR1\x15\x04", "a Parquet file", "to_json of the Python library datasets"),
        (b"ARROW1\0\0", "an Arrow file", "JSON Lines"),
        (b"\xff\xff\xff\xff\x10\0", "an Arrow stream", "JSON Lines"),
        (b"FEA1", "a Feather file", "JSON Lines"),
        (b"Obj\x01\x04", "an Avro file", "JSON Lines"),
        (b"PK\x03\x04\x14", "a zip archive or an Excel workbook (xlsx)", "save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1", "an Excel workbook (xls)", "save it as CSV"),
        (b"\x1f\x8b\x08\0", "gzip-compressed data", "gunzip"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd-compressed data", "unzstd"),
        (b"\xfd7zXZ\0", "xz-compressed data", "unxz"),
        (b"BZh91AY", "bzip2-compressed data", "bunzip2"),
        (&tar, "a tar archive", "unpack it"),
        (b"%PDF-1.7", "a PDF document", "as rows"),
        (b"SQLite format 3\0", "an SQLite database", "CSV"),
        (b"\x89HDF\r\n", "an HDF5 file", "JSON Lines"),
        (b"\x93NUMPY\x01", "a NumPy array", "JSON Lines"),
        (b"\x80\x04\x95", "a Python pickle", "JSON Lines"),
        (b"\xff\xfe\0\0{\0\0\0", "UTF-32 text", "save it as UTF-8"),
        (b"abc\0def", "binary data", "JSON Lines"),
        (b"\n<!DOCTYPE html>\n<html>", "an HTML page", "download the file itself"),
        (b"<?xml version=\"1.0\"?>", "XML", "rows of JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer", "git lfs pull"),
        (b"[\"a\", \"b\"]", "a plain list of strings", "objects with `text`"),
        (b"\"a\"\n\"b\"\n", "a list of JSON strings", "objects with `prompt`"),
        (b"[[\"a\", \"b\"]]", "a list of lists", "objects with `prompt`"),
        (b"[\"a\", \"b\"]\n[\"c\", \"d\"]\n", "lists on several lines", "one object per line"),
        (b"{\n  \"prompt\": \"a\"\n}\n", "one JSON object over several lines", "JSON array"),
        (b"{\n\"a\": 1\n}\n{\n\"a\": 2\n}\n", "JSON objects that take several lines each", "jq -c"),
        (b"prompt\tcompletion\na\tb\n", "a table separated by tabs", "separated by commas"),
        (b"prompt;completion\na;b\n", "a table separated by semicolons", "separated by commas"),
        (b"a,b\nc,d\n", "CSV without the columns of rows", "prompt,completion"),
        (b"- prompt: a\n  completion: b\n", "YAML or Markdown", "rows of JSON"),
        (b"Once upon a time there was a row.\n", "plain text", "{\"text\": "),
    ];
    for (bytes, what, todo) in files {
        let error = refused(bytes);
        let TextError::NotRows { looks, advice, .. } = &error else { panic!("{what}: {error}") };
        assert_eq!(*looks, what);
        assert!(advice.contains(todo), "{what}: {advice}");
        let text = error.to_string();
        assert!(text.contains(&format!("rows.txt has no rows: it looks like {what}; ")), "{text}");
    }
}

#[test]
fn a_directory_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let error = litemoe_text::read_rows(dir.path()).unwrap_err();
    assert!(matches!(error, TextError::Read { .. }), "{error}");
}

//! What a file looks like that holds no rows, and what to do with it.

/// Beginnings of binary files: the bytes, what they are, and what to do.
const BINARY: &[(&[u8], &str, &str)] = &[
    (b"PAR1", "a Parquet file", DATASETS),
    (b"ARROW1", "an Arrow file", DATASETS),
    (b"FEA1", "a Feather file", DATASETS),
    (b"\xff\xff\xff\xff", "an Arrow stream", DATASETS),
    (b"Obj\x01", "an Avro file", DATASETS),
    (b"ORC", "an ORC file", DATASETS),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook (xlsx)", "unpack it, or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (xls)", "save it as CSV"),
    (b"\x1f\x8b", "gzip-compressed data", "decompress it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data", "decompress it with unzstd"),
    (b"\xfd7zXZ\0", "xz-compressed data", "decompress it with unxz"),
    (b"BZh", "bzip2-compressed data", "decompress it with bunzip2"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"%PDF", "a PDF document", "write its contents as rows"),
    (b"\x89HDF", "an HDF5 file", DATASETS),
    (b"\x93NUMPY", "a NumPy array", DATASETS),
    (b"\x80\x02", "a Python pickle", DATASETS),
    (b"\x80\x03", "a Python pickle", DATASETS),
    (b"\x80\x04", "a Python pickle", DATASETS),
    (b"\x80\x05", "a Python pickle", DATASETS),
    (b"\xff\xfe\0\0", "UTF-32 text", "save it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32 text", "save it as UTF-8"),
];

const DATASETS: &str =
    "write it as JSON Lines, for example with to_json of the Python library datasets";

/// A file that holds no rows: what it looks like, and what to do.
pub(super) type Looks = (&'static str, &'static str);

/// What binary data looks like, if it is not text.
pub(super) fn binary(bytes: &[u8]) -> Option<Looks> {
    let begins = |(start, what, todo): &(&[u8], &'static str, &'static str)| {
        bytes.starts_with(start).then_some((*what, *todo))
    };
    if let Some(looks) = BINARY.iter().find_map(begins) {
        return Some(looks);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it"));
    }
    let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    (!is_utf16 && bytes.contains(&0)).then_some(("binary data", DATASETS))
}

/// What text looks like that is neither JSON nor CSV with the columns of rows.
pub(super) fn text(text: &str) -> Looks {
    let start = text.trim_start();
    let header = start.lines().next().unwrap_or_default();
    let begins = |prefixes: &[&str]| {
        prefixes.iter().any(|prefix| {
            start.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
        })
    };
    if begins(&["<!doctype", "<html", "<head", "<body"]) {
        return ("an HTML page", "download the file itself, not the page that shows it");
    }
    if begins(&["<?xml", "<"]) {
        return ("XML", "write its contents as rows of JSON");
    }
    if begins(&["version https://git-lfs"]) {
        return ("a Git LFS pointer", "fetch the file itself with git lfs pull");
    }
    if serde_json::from_str::<String>(header).is_ok() {
        return (
            "a list of JSON strings",
            "write objects with `prompt` and `completion`, or `text`",
        );
    }
    if begins(&["---\n", "---\r\n", "- "]) {
        return ("YAML or Markdown", "write its contents as rows of JSON");
    }
    if header.contains('\t') {
        return ("a table separated by tabs", "save it as CSV, separated by commas");
    }
    if header.matches(';').count() > header.matches(',').count() {
        return ("a table separated by semicolons", "save it as CSV, separated by commas");
    }
    if header.contains(',') && start.lines().nth(1).is_some() {
        return (
            "CSV without the columns of rows",
            "its first line must name columns such as prompt,completion or text",
        );
    }
    ("plain text", "write rows: a line of JSON each, such as {\"text\": …}")
}

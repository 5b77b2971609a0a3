use std::io::ErrorKind;
use std::path::Path;

use litemoe_files::{JsonLimits, n_json_values, read_json_limited, read_limited};

#[test]
fn a_file_at_its_limit_is_read_and_one_above_is_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[1,{\"a\":[]}]").unwrap();
    let read = |max_bytes| read_limited(file.path(), max_bytes);
    assert_eq!(read(12).unwrap(), b"[1,{\"a\":[]}]");
    let error = read(11).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    assert_eq!(error.to_string(), "it has more than 11 bytes");
    let read = |max_values| {
        read_json_limited(file.path(), JsonLimits { max_bytes: 12, max_values })
            .map_err(|error| error.to_string())
    };
    assert_eq!(read(5).unwrap(), b"[1,{\"a\":[]}]");
    assert_eq!(read(4), Err("it has more than 4 values".to_owned()));
}

#[cfg(unix)]
#[test]
fn an_endless_file_ends_at_the_limit() {
    let error = read_limited(Path::new("/dev/zero"), 1000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
}

#[test]
fn no_value_is_missed() {
    for (json, n) in [
        ("1", 1),
        ("[]", 2),
        ("[1, 2, [3]]", 5),
        (r#"{"a": 1, "b": {"c": [0, 0]}}"#, 6),
        ("[[[", 4),
        (r#"["a,b"]"#, 3),
    ] {
        assert_eq!(n_json_values(json.as_bytes()), n, "{json}");
    }
}

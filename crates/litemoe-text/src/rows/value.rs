//! Values of JSON, with integers as Python reads them.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Parses JSON. `-0` is 0; an integer beyond 64 bits, which would lose digits, is refused.
///
/// # Errors
/// The reason, without a line, which is that of the value.
pub(super) fn parsed<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    let value = serde_json::from_str(json).map_err(|error| without_line(&error))?;
    match with_integers(json)? {
        Cow::Borrowed(_) => Ok(value),
        Cow::Owned(json) => serde_json::from_str(&json).map_err(|error| without_line(&error)),
    }
}

/// The message of a JSON error, without its line, which is that of the value.
pub(super) fn without_line(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column ", error.line());
    error.to_string().replace(&place, " at column ")
}

/// Valid JSON with `-0` as 0.
fn with_integers(json: &str) -> Result<Cow<'_, str>, String> {
    let (mut written, mut copied, mut at) = (String::new(), 0, 0);
    let bytes = json.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        at += match byte {
            b'"' => string_len(rest),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                let len = rest.iter().take_while(|byte| is_part(byte)).count();
                let number = &json[at..at + len];
                if number == "-0" {
                    written.push_str(&json[copied..at]);
                    copied = at + 1;
                }
                let is_integer = !number.contains(['.', 'e', 'E']);
                if is_integer && number.parse::<u64>().is_err() && number.parse::<i64>().is_err() {
                    return Err(format!("the integer {number} has more than 64 bits"));
                }
                len
            }
            _ => 1,
        };
    }
    match copied {
        0 => Ok(Cow::Borrowed(json)),
        _ => Ok(Cow::Owned(written + &json[copied..])),
    }
}

/// Bytes of the string literal at the start of JSON.
fn string_len(json: &[u8]) -> usize {
    let mut escaped = false;
    let end = json.iter().skip(1).position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

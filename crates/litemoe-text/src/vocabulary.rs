//! Limits of vocabularies, checked before the library `tokenizers` builds its tables. Its trie of a `Unigram` model takes
//! hundreds of bytes for each byte of a token, and the stack overflows when one of a very long token is freed; its
//! automaton of added tokens takes as many.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Maximum bytes of a token, and of a merge of two.
const MAX_TOKEN: usize = 2048;

/// Maximum bytes of all tokens of a `Unigram` model, twice those of the largest known one.
const MAX_UNIGRAM: usize = 4 << 20;

/// Maximum bytes of all added tokens.
const MAX_ADDED: usize = 1 << 20;

/// Models without a trie.
const TABLES: [&str; 3] = ["BPE", "WordPiece", "WordLevel"];

#[derive(Deserialize)]
struct Model<'j> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'j RawValue>,
}

/// Checks the tokens of `tokenizer.json`'s model.
///
/// # Errors
/// A token that is too long, or too many of a `Unigram` model.
pub(crate) fn check_model(json: &str) -> Result<(), String> {
    let (longest, all) =
        strings(json).fold((0, 0), |(longest, all), len| (len.max(longest), all + len));
    if longest > MAX_TOKEN {
        return Err(format!("a token of {longest} bytes, longer than {MAX_TOKEN}"));
    }
    let model: Model<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let kind = model.kind.and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
    if kind.is_none_or(|kind| !TABLES.contains(&kind.as_str())) && all > MAX_UNIGRAM {
        return Err(format!("the tokens have {all} bytes, more than {MAX_UNIGRAM}"));
    }
    Ok(())
}

/// Checks the texts of added tokens.
///
/// # Errors
/// When they are too long, one or all.
pub(crate) fn check_added<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<(), String> {
    let mut all = 0;
    for text in texts {
        if text.len() > MAX_TOKEN {
            return Err(format!("an added token of {} bytes, longer than {MAX_TOKEN}", text.len()));
        }
        all += text.len();
    }
    match all > MAX_ADDED {
        true => Err(format!("the added tokens have {all} bytes, more than {MAX_ADDED}")),
        false => Ok(()),
    }
}

/// Bytes of each string of JSON, as written.
fn strings(json: &str) -> impl Iterator<Item = usize> {
    let mut rest = json.as_bytes();
    std::iter::from_fn(move || {
        let start = rest.iter().position(|&byte| byte == b'"')?;
        let (mut len, mut escaped) = (0, false);
        for &byte in &rest[start + 1..] {
            if byte == b'"' && !escaped {
                break;
            }
            escaped = byte == b'\\' && !escaped;
            len += 1;
        }
        rest = rest.get(start + len + 2..).unwrap_or_default();
        Some(len)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_measured_as_written() {
        let json = r#"{"a": ["", "b\"c", "\\"], "\u0041": 1}"#;
        assert_eq!(strings(json).collect::<Vec<_>>(), [1, 0, 4, 2, 6]);
        assert_eq!(strings("\"ab").collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn tokens_are_bounded_by_bytes_one_by_one_and_together() {
        let model = |kind: &str, len: usize, n: usize| {
            let tokens = vec![format!("\"{}\"", "a".repeat(len)); n].join(",");
            check_model(&format!("{{\"type\":\"{kind}\",\"vocab\":[{tokens}]}}"))
        };
        assert_eq!(model("BPE", 2048, 2100), Ok(()));
        assert!(model("BPE", 2049, 1).is_err());
        assert_eq!(model("Unigram", 2048, 2047), Ok(()));
        assert!(model("Unigram", 2048, 2048).is_err());
        assert!(model("", 2048, 2048).is_err());
        let long = "a".repeat(2048);
        assert_eq!(check_added([long.as_str(); 512]), Ok(()));
        assert!(check_added([long.as_str(); 513]).is_err());
        assert!(check_added([format!("{long}a").as_str()]).is_err());
    }
}

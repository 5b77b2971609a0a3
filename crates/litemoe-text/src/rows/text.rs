//! From a file's bytes to text: encodings by their byte order marks.

use std::path::Path;

use super::RowError;
use crate::TextError;

/// The text of a file: UTF-8, or UTF-16 by its byte order mark; without the mark.
pub(super) fn decoded(file: &Path, bytes: Vec<u8>) -> Result<String, TextError> {
    if let Some(units) = bytes.strip_prefix(b"\xff\xfe") {
        return utf16(file, units, u16::from_le_bytes);
    }
    if let Some(units) = bytes.strip_prefix(b"\xfe\xff") {
        return utf16(file, units, u16::from_be_bytes);
    }
    let mut text = String::from_utf8(bytes).map_err(|error| not_utf8(file, &error))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

fn utf16(file: &Path, bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, TextError> {
    let malformed = || TextError::Malformed {
        file: file.into(),
        reason: "its byte order mark says UTF-16, which it is not: save it as UTF-8".to_owned(),
    };
    let (pairs, []) = bytes.as_chunks() else { return Err(malformed()) };
    let units: Vec<u16> = pairs.iter().map(|&pair| unit(pair)).collect();
    String::from_utf16(&units).map_err(|_| malformed())
}

fn not_utf8(file: &Path, error: &std::string::FromUtf8Error) -> TextError {
    let (bytes, offset) = (error.as_bytes(), error.utf8_error().valid_up_to());
    let line = 1 + bytes[..offset].iter().filter(|&&byte| byte == b'\n').count();
    let byte = bytes.get(offset).copied().unwrap_or_default();
    TextError::Row { file: file.into(), line, error: RowError::NotUtf8 { byte, offset } }
}

//! Reading of untrusted files within limits. A parsed JSON value takes many times the bytes of a short one, so both
//! numbers are checked before anything is parsed.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Limits of a JSON file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonLimits {
    /// Bytes of the file.
    pub max_bytes: u64,
    /// Values in it; names of members do not count.
    pub max_values: usize,
}

/// Reads a file of at most `max_bytes` bytes.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] before a longer file is read, or those of reading.
pub fn read_limited(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    check(len, max_bytes)?;
    let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
    // Pipes and devices state no length.
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    check(bytes.len() as u64, max_bytes)?;
    Ok(bytes)
}

/// Reads a JSON file within limits, unparsed.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] for a file beyond the limits, or those of reading.
pub fn read_json_limited(path: &Path, limits: JsonLimits) -> io::Result<Vec<u8>> {
    let JsonLimits { max_bytes, max_values } = limits;
    let json = read_limited(path, max_bytes)?;
    if n_json_values(&json) > max_values {
        return Err(too_large(format!("it has more than {max_values} values")));
    }
    Ok(json)
}

/// Upper bound of the number of values in JSON, however malformed: every value but the first, or its name, follows a
/// comma or a bracket. Those inside strings count too.
pub fn n_json_values(json: &[u8]) -> usize {
    1 + json.iter().filter(|byte| b",[{".contains(byte)).count()
}

fn check(bytes: u64, max_bytes: u64) -> io::Result<()> {
    if bytes > max_bytes {
        return Err(too_large(format!("it has more than {max_bytes} bytes")));
    }
    Ok(())
}

fn too_large(message: String) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, message)
}

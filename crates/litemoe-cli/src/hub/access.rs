//! Access to the Hugging Face Hub, from the environment.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use litemoe_files::read_limited;

use super::{cache, variable};

/// Default seconds without progress after which a request is given up.
const PATIENCE: u64 = 30;
const MAX_PATIENCE: u64 = 3600;
/// Maximum bytes of the token's file.
const MAX_TOKEN_BYTES: u64 = 1 << 16;

/// Offline mode: whether the environment forbids network access.
pub(super) fn is_offline() -> bool {
    let value = variable("HF_HUB_OFFLINE").or_else(|| variable("TRANSFORMERS_OFFLINE"));
    value.is_some_and(|value| is_true(&value))
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Address of the Hub: `$HF_ENDPOINT`, or the public one.
pub(super) fn endpoint() -> String {
    variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned())
}

/// Time without progress after which a request is given up: `$HF_HUB_DOWNLOAD_TIMEOUT`, in seconds.
pub(super) fn patience() -> anyhow::Result<Duration> {
    let Some(text) = variable("HF_HUB_DOWNLOAD_TIMEOUT") else {
        return Ok(Duration::from_secs(PATIENCE));
    };
    let seconds = text.trim().parse().ok().filter(|seconds| (1..=MAX_PATIENCE).contains(seconds));
    let seconds = seconds.with_context(|| {
        format!(
            "HF_HUB_DOWNLOAD_TIMEOUT is {text:?}, not a number of seconds from 1 to {MAX_PATIENCE}"
        )
    })?;
    Ok(Duration::from_secs(seconds))
}

/// Access token: `$HF_TOKEN`, or the token file that a login writes.
pub(super) fn token() -> anyhow::Result<Option<String>> {
    if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
        return Ok(None);
    }
    let said = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
    let path: PathBuf = match variable("HF_TOKEN_PATH") {
        Some(path) => path.into(),
        None => cache::home()?.join("token"),
    };
    let token = said.or_else(|| String::from_utf8(read_limited(&path, MAX_TOKEN_BYTES).ok()?).ok());
    let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        bail!("the hub's token, from HF_TOKEN or a login, holds a character that no token has");
    }
    Ok(token)
}

use std::path::Path;

use serde::Deserialize;

use crate::ModelError;
use crate::config::read::file::ConfigFile;

/// A token id or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// Reads the end-of-sequence (EOS) token ids; `None` without the key.
pub(crate) fn read(config: &mut ConfigFile) -> Result<Option<Vec<u32>>, ModelError> {
    let ids = config.optional("eos_token_id", "a token id or a list of them")?;
    Ok(ids.map(|ids| match ids {
        Ids::One(id) => vec![id],
        Ids::Many(ids) => ids,
    }))
}

/// As [`read`], from `generation_config.json` if it exists. It takes precedence over `config.json`.
pub(crate) fn read_generation(dir: &Path) -> Result<Option<Vec<u32>>, ModelError> {
    let path = dir.join("generation_config.json");
    if !path.exists() {
        return Ok(None);
    }
    read(&mut ConfigFile::open(&path)?)
}

use std::path::Path;

use serde::Deserialize;

use crate::ModelError;
use crate::config::read::file::ConfigFile;

/// A number or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// The ids that end a text, as a configuration says; `None` when it says nothing.
pub(crate) fn read(config: &mut ConfigFile) -> Result<Option<Vec<u32>>, ModelError> {
    let ids = config.optional("eos_token_id", "a token id or a list of them")?;
    Ok(ids.map(|ids| match ids {
        Ids::One(id) => vec![id],
        Ids::Many(ids) => ids,
    }))
}

/// The same from `generation_config.json`, where there is one: it goes before `config.json`.
pub(crate) fn read_generation(dir: &Path) -> Result<Option<Vec<u32>>, ModelError> {
    let path = dir.join("generation_config.json");
    if !path.exists() {
        return Ok(None);
    }
    read(&mut ConfigFile::open(&path)?)
}

use std::path::Path;

use litemoe_files::read_limited;

use crate::ModelError;

/// Name of the weight file.
pub(crate) const WEIGHT_FILE: &str = "model.safetensors";

/// Files of a model directory besides its configuration and weights; copied to a proxy unchanged.
pub const SIDE_FILES: [&str; 9] = [
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// Maximum bytes of a side file, several times the largest known tokenizer.
pub(super) const MAX_SIDE_BYTES: u64 = 128 << 20;

/// Reads a side file.
pub(crate) fn read_side_file(path: &Path) -> Result<Vec<u8>, ModelError> {
    read_limited(path, MAX_SIDE_BYTES).map_err(ModelError::io(path))
}

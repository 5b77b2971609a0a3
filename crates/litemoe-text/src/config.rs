use std::io;
use std::path::{Path, PathBuf};

use litemoe_files::{JsonLimits, read_json_limited, read_limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::TextError;
use crate::template::MAX_SOURCE;

/// Limits of a configuration file, ten times the largest known one.
const LIMITS: JsonLimits = JsonLimits { max_bytes: 16 << 20, max_values: 500_000 };

/// Text configuration of a model directory, without its tokens.
#[derive(Debug, Default)]
pub(crate) struct TextConfig {
    /// `tokenizer_config.json`.
    pub(crate) tokenizer: Map<String, Value>,
    /// `model_type` of `config.json`.
    pub(crate) model_type: Option<String>,
    /// Tokenizer class of `tokenizer_config.json`, else of `config.json`.
    pub(crate) tokenizer_class: Option<String>,
    /// Source of the chat template.
    pub(crate) template: Option<String>,
    /// `eos_token_id` of `generation_config.json`, else of `config.json`.
    pub(crate) end_ids: Vec<u32>,
    /// Decoder start token of an encoder–decoder; `None` for decoder-only models.
    pub(crate) decoder_start: Option<u32>,
}

impl TextConfig {
    pub(crate) fn read(dir: &Path) -> Result<Self, TextError> {
        let file = dir.join("tokenizer_config.json");
        let tokenizer: Map<String, Value> = read_json(&file)?.unwrap_or_default();
        let model: ModelConfig = read_json(&dir.join("config.json"))?.unwrap_or_default();
        let declared = TokenizerConfig::deserialize(&tokenizer).map_err(|error| {
            TextError::Malformed { file: file.clone(), reason: error.to_string() }
        })?;
        let template = match read_template(&dir.join("chat_template.jinja"))? {
            Some(template) => Some(template),
            None => declared.chat_template.map(|written| written.choose(file)).transpose()?,
        };
        Ok(Self {
            tokenizer,
            model_type: model.model_type,
            tokenizer_class: declared.tokenizer_class.or(model.tokenizer_class),
            template,
            end_ids: end_ids(dir)?,
            decoder_start: decoder_start(dir)?,
        })
    }
}

#[derive(Debug, Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<WrittenTemplate>,
    tokenizer_class: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct ModelConfig {
    model_type: Option<String>,
    tokenizer_class: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenTemplate {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Debug, Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl WrittenTemplate {
    fn choose(self, file: PathBuf) -> Result<String, TextError> {
        let mut named = match self {
            Self::One(template) => return Ok(template),
            Self::Named(named) => named,
        };
        match named.iter().position(|template| template.name == "default") {
            Some(default) => Ok(named.swap_remove(default).template),
            None if named.len() == 1 => Ok(named.swap_remove(0).template),
            None => {
                let names = named.into_iter().map(|template| template.name).collect();
                Err(TextError::WhichTemplate { file, names })
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct EndConfig {
    eos_token_id: Option<EndIds>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum EndIds {
    One(u32),
    Several(Vec<u32>),
}

fn end_ids(dir: &Path) -> Result<Vec<u32>, TextError> {
    for name in ["generation_config.json", "config.json"] {
        let config: Option<EndConfig> = read_json(&dir.join(name))?;
        match config.and_then(|config| config.eos_token_id) {
            Some(EndIds::One(id)) => return Ok(vec![id]),
            Some(EndIds::Several(ids)) => return Ok(ids),
            None => {}
        }
    }
    Ok(Vec::new())
}

#[derive(Debug, Deserialize)]
struct StartConfig {
    is_encoder_decoder: Option<bool>,
    decoder_start_token_id: Option<u32>,
    pad_token_id: Option<u32>,
}

fn decoder_start(dir: &Path) -> Result<Option<u32>, TextError> {
    let config: Option<StartConfig> = read_json(&dir.join("config.json"))?;
    let config = config.filter(|config| config.is_encoder_decoder == Some(true));
    Ok(config.map(|config| config.decoder_start_token_id.or(config.pad_token_id).unwrap_or(0)))
}

/// The value of a JSON file within [`LIMITS`]; `None` if the file does not exist.
pub(crate) fn read_json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, TextError> {
    let malformed = |reason: serde_json::Error| TextError::Malformed {
        file: file.into(),
        reason: reason.to_string(),
    };
    let json = optional(file, read_json_limited(file, LIMITS))?;
    json.map(|json| serde_json::from_slice(&json).map_err(malformed)).transpose()
}

/// The text of a template's file; `None` if it does not exist.
fn read_template(file: &Path) -> Result<Option<String>, TextError> {
    let bytes = optional(file, read_limited(file, MAX_SOURCE as u64))?;
    let not_text = |error: std::string::FromUtf8Error| TextError::Malformed {
        file: file.into(),
        reason: error.to_string(),
    };
    bytes.map(|bytes| String::from_utf8(bytes).map_err(not_text)).transpose()
}

/// What was read of a file; `None` if it does not exist.
fn optional(file: &Path, read: io::Result<Vec<u8>>) -> Result<Option<Vec<u8>>, TextError> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(TextError::Read { file: file.into(), reason }),
    }
}

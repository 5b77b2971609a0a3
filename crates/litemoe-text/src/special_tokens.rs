//! Added and special tokens of a tokenizer, which are in up to four files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::TextError;
use crate::config::read_json;
use crate::tokenizer_class::TokenizerClass;
use crate::vocabulary;

/// Special tokens that every tokenizer may name.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Added and special tokens, merged as transformers does it. `added_tokens_decoder` of `tokenizer_config.json` hides the
/// older files `special_tokens_map.json` and `added_tokens.json`.
#[derive(Debug, Default)]
pub(crate) struct SpecialTokens {
    /// Added tokens by id.
    added: BTreeMap<u32, AddedToken>,
    /// Special tokens with a name, as `eos_token`.
    named: Vec<(String, Special)>,
    /// Further special tokens.
    extra: Vec<Special>,
}

/// A special token as a file has it: only its text, or with its flags.
#[derive(Debug, Clone)]
struct Special {
    content: String,
    flags: Option<AddedToken>,
}

/// An added token in a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenToken {
    #[serde(default, rename = "__type")]
    _kind: Option<String>,
    #[serde(default)]
    id: Option<u32>,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl WrittenToken {
    pub(crate) fn content(&self) -> &str {
        &self.content
    }

    fn token(self) -> AddedToken {
        AddedToken::from(self.content, self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}

impl SpecialTokens {
    /// Reads the tokens of a directory. `config` is `tokenizer_config.json`, `in_tokenizer` the added tokens of
    /// `tokenizer.json`.
    pub(crate) fn read(
        dir: &Path,
        config: &Map<String, Value>,
        in_tokenizer: Vec<WrittenToken>,
        class: TokenizerClass,
    ) -> Result<Self, TextError> {
        let file = dir.join("tokenizer_config.json");
        let mut tokens = Self::default();
        let mut merged = Merged { file, values: config.clone() };
        merged.rename_extra();
        if let Some(decoder) = config.get("added_tokens_decoder") {
            let decoder: BTreeMap<u32, WrittenToken> = Deserialize::deserialize(decoder)
                .map_err(|error| merged.malformed("added_tokens_decoder", &error))?;
            tokens.added = decoder.into_iter().map(|(id, token)| (id, token.token())).collect();
        } else {
            merged.add_special_tokens_map(dir)?;
            tokens.add_legacy(dir, &merged)?;
            tokens.added.extend(
                in_tokenizer.into_iter().filter_map(|token| Some((token.id?, token.token()))),
            );
        }
        merged.rename_extra();
        tokens.named = merged.named(class.defaults())?;
        tokens.extra = merged.extra()?;
        if !merged.values.contains_key("extra_special_tokens") {
            let extra =
                class.extra(config).map_err(|reason| merged.malformed("extra_ids", &reason))?;
            tokens.extra.extend(extra.into_iter().map(|content| Special { content, flags: None }));
        }
        let added = tokens.added.values().map(|token| token.content.as_str());
        vocabulary::check_added(added.chain(tokens.all_special()))
            .map_err(|reason| TextError::Malformed { file: merged.file.clone(), reason })?;
        // Of two tokens with the same text, the first counts.
        let known: HashMap<&str, &AddedToken> =
            tokens.added.values().rev().map(|token| (&*token.content, token)).collect();
        for (_, special) in &mut tokens.named {
            let known = known.get(&*special.content).copied();
            special.flags = known.cloned().or(special.flags.take());
        }
        Ok(tokens)
    }

    /// Adds the tokens of `added_tokens.json`, which has ids but no flags.
    fn add_legacy(&mut self, dir: &Path, merged: &Merged) -> Result<(), TextError> {
        let added: BTreeMap<String, u32> =
            read_json(&dir.join("added_tokens.json"))?.unwrap_or_default();
        let named = merged.named(&[])?.into_iter().map(|(_, special)| special);
        let special: HashSet<String> =
            named.chain(merged.extra()?).map(|special| special.content).collect();
        for (content, id) in added {
            let is_special = special.contains(&content);
            self.added.insert(id, AddedToken::from(content, is_special));
        }
        Ok(())
    }

    /// Texts of the named tokens by name, as `eos_token`: `</s>`.
    pub(crate) fn texts(&self) -> BTreeMap<String, String> {
        self.named.iter().map(|(name, special)| (name.clone(), special.content.clone())).collect()
    }

    /// Whether a token of this text is among the added ones.
    pub(crate) fn adds(&self, text: &str) -> bool {
        self.added.values().any(|token| token.content == text)
    }

    /// Texts of all special tokens.
    fn all_special(&self) -> impl Iterator<Item = &str> {
        let named = self.named.iter().map(|(_, special)| special);
        named.chain(&self.extra).map(|special| special.content.as_str())
    }

    /// Adds the tokens to a tokenizer. A token that it knows gets the flags of the files.
    pub(crate) fn add_to(&self, tokenizer: &mut tokenizers::Tokenizer) -> tokenizers::Result<()> {
        let mut tokens: Vec<AddedToken> = self.added.values().cloned().collect();
        let mut known: HashSet<String> =
            tokenizer.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        known.extend(tokens.iter().map(|token| token.content.clone()));
        for special in self.named.iter().map(|(_, special)| special).chain(&self.extra) {
            if known.insert(special.content.clone()) {
                let token = special.flags.clone();
                tokens.push(token.unwrap_or_else(|| AddedToken::from(&*special.content, true)));
            }
        }
        let named: HashSet<&str> =
            self.named.iter().map(|(_, special)| &*special.content).collect();
        for token in &mut tokens {
            token.special |= named.contains(&*token.content);
        }
        tokenizer.add_tokens(tokens)?;
        Ok(())
    }

    /// Adds all special tokens again, without flags.
    pub(crate) fn add_plain_to(
        &self,
        tokenizer: &mut tokenizers::Tokenizer,
    ) -> tokenizers::Result<()> {
        tokenizer.add_tokens(self.all_special().map(|text| AddedToken::from(text, true)))?;
        Ok(())
    }
}

/// `tokenizer_config.json` with the values of `special_tokens_map.json`.
struct Merged {
    file: PathBuf,
    values: Map<String, Value>,
}

impl Merged {
    fn malformed(&self, key: &str, reason: &dyn std::fmt::Display) -> TextError {
        TextError::Malformed { file: self.file.clone(), reason: format!("`{key}`: {reason}") }
    }

    /// `extra_special_tokens` was `additional_special_tokens`.
    fn rename_extra(&mut self) {
        let is_set =
            |value: &Value| !value.is_null() && value.as_array().is_none_or(|a| !a.is_empty());
        if !self.values.get("extra_special_tokens").is_some_and(is_set)
            && let Some(extra) = self.values.remove("additional_special_tokens")
        {
            self.values.insert("extra_special_tokens".to_owned(), extra);
        }
    }

    fn add_special_tokens_map(&mut self, dir: &Path) -> Result<(), TextError> {
        let map: Map<String, Value> =
            read_json(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        for (key, mut value) in map {
            if key == "extra_special_tokens"
                && let Value::Array(added) = &value
            {
                let before = self.values.get(&key).and_then(Value::as_array);
                let before = before.map(Vec::as_slice).unwrap_or_default();
                let known: HashSet<&Value> = before.iter().collect();
                let new = added.iter().filter(|token| !known.contains(token));
                value = before.iter().chain(new).cloned().collect();
            } else if let Value::Object(flags) = &mut value {
                flags.insert("special".to_owned(), true.into());
            }
            self.values.insert(key, value);
        }
        Ok(())
    }

    fn special(&self, key: &str, value: &Value) -> Result<Special, TextError> {
        if let Some(text) = value.as_str() {
            return Ok(Special { content: text.to_owned(), flags: None });
        }
        let token =
            WrittenToken::deserialize(value).map_err(|error| self.malformed(key, &error))?;
        let token = token.token();
        Ok(Special { content: token.content.clone(), flags: Some(token) })
    }

    /// Named tokens: those of all tokenizers, then the model's own.
    fn named(&self, defaults: &[(&str, &str)]) -> Result<Vec<(String, Special)>, TextError> {
        let mut named = Vec::new();
        for name in NAMED {
            match (self.values.get(name), defaults.iter().find(|(key, _)| *key == name)) {
                (None, Some((_, text))) => {
                    let special = Special { content: (*text).to_owned(), flags: None };
                    named.push((name.to_owned(), special));
                }
                (None | Some(Value::Null), _) => {}
                (Some(value), _) => named.push((name.to_owned(), self.special(name, value)?)),
            }
        }
        for (name, value) in &self.values {
            let is_token = value.is_string() || value.is_object();
            if name.ends_with("_token") && is_token && !NAMED.contains(&name.as_str()) {
                named.push((name.clone(), self.special(name, value)?));
            }
        }
        if let Some(Value::Object(tokens)) = self.values.get("extra_special_tokens") {
            named.retain(|(name, _)| !tokens.contains_key(name));
            for (name, value) in tokens {
                named.push((name.clone(), self.special(name, value)?));
            }
        }
        Ok(named)
    }

    fn extra(&self) -> Result<Vec<Special>, TextError> {
        let key = "extra_special_tokens";
        match self.values.get(key) {
            None | Some(Value::Null | Value::Object(_)) => Ok(Vec::new()),
            Some(Value::Array(tokens)) => {
                tokens.iter().map(|token| self.special(key, token)).collect()
            }
            Some(_) => Err(self.malformed(key, &"it is neither a list nor an object")),
        }
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokenizers::Encoding;

use crate::calls::CallFormat;
use crate::config::TextConfig;
use crate::constraint::{GrammarCompiler, GrammarError, Part};
use crate::tokenizer_file::{self, catch_panic};
use crate::{ChatTemplate, Message, TextError};

/// Maximum bytes of a text that a template inserts before an answer; every special token is searched for in it.
const MAX_PREFIX: usize = 4096;

/// Tokenizer and chat template of a model.
#[derive(Debug)]
pub struct Tokenizer {
    pub(crate) inner: tokenizers::Tokenizer,
    template: Option<ChatTemplate>,
    special_ids: BTreeSet<u32>,
    end_ids: BTreeSet<u32>,
    end_id: Option<u32>,
    decoder_start: Option<u32>,
    assistant_prefix: String,
    /// The same with special tokens.
    pub(crate) assistant_lead: String,
    pub(crate) grammar_compiler: OnceLock<Result<GrammarCompiler, GrammarError>>,
    pub(crate) call_format: OnceLock<Option<Arc<CallFormat>>>,
}

impl Tokenizer {
    /// Loads a Hugging Face model directory: `tokenizer.json`, and if present `tokenizer_config.json`,
    /// `added_tokens.json`, `special_tokens_map.json`, `chat_template.jinja` (which takes precedence over a template in
    /// the configuration), and the end tokens in `generation_config.json`, or else `config.json`. The tokenizer's class
    /// and tokens are those of transformers' `AutoTokenizer`.
    ///
    /// # Errors
    /// A missing or malformed file, a tokenizer class that is not known, or an end token that is not in the vocabulary;
    /// the error names it.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, TextError> {
        let dir = dir.as_ref();
        let config = TextConfig::read(dir)?;
        let (inner, named) = tokenizer_file::read(dir, &config)?;
        Self::new(inner, named, config)
    }

    fn new(
        inner: tokenizers::Tokenizer,
        named: BTreeMap<String, String>,
        config: TextConfig,
    ) -> Result<Self, TextError> {
        let eos = named.get("eos_token").map(|eos| id_of(&inner, eos)).transpose()?;
        let mut end_ids: BTreeSet<u32> = config.end_ids.iter().copied().collect();
        if end_ids.is_empty() {
            end_ids.extend(eos);
        }
        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id);
        let special_ids = special.chain(end_ids.iter().copied()).chain(eos).collect();
        let end_id = eos.or_else(|| config.end_ids.first().copied());
        let template =
            config.template.map(|source| ChatTemplate::new(&source, named)).transpose()?;
        let decoder_start = config.decoder_start;
        let mut tokenizer = Self {
            inner,
            template,
            special_ids,
            end_ids,
            end_id,
            decoder_start,
            assistant_prefix: String::new(),
            assistant_lead: String::new(),
            grammar_compiler: OnceLock::new(),
            call_format: OnceLock::new(),
        };
        if let Some(plain) = tokenizer.plain_answer() {
            tokenizer.end_ids.extend(plain.end);
            if plain.lead.len() <= MAX_PREFIX {
                tokenizer.assistant_prefix = tokenizer.printed(plain.lead.clone());
                tokenizer.assistant_lead = plain.lead;
            }
        }
        Ok(tokenizer)
    }

    /// The chat template, if the model has one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// End-of-sequence tokens of an answer: those of the model's configuration (`eos_token_id`, or else the tokenizer's
    /// `eos_token`), and the token with which the chat template ends the assistant's message. May be empty.
    pub fn end_ids(&self) -> &BTreeSet<u32> {
        &self.end_ids
    }

    /// Text that the chat template inserts between a prompt and the assistant's message, such as a space or an empty
    /// think block, without special tokens: a model may generate it, but it is not part of the message. Empty if it has
    /// more than 4 KiB.
    pub fn assistant_prefix(&self) -> &str {
        &self.assistant_prefix
    }

    /// End token of a completion without a template: `eos_token`, or else the first `eos_token_id`.
    pub(crate) fn end_id(&self) -> Result<u32, TextError> {
        self.end_id.ok_or_else(|| TextError::NoEndToken {
            reason: "the model has neither a chat template nor an eos_token".to_owned(),
        })
    }

    /// Whether a token is special, i.e. not text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// Vocabulary size of the tokenizer. The model's may be larger.
    pub fn vocab(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Tokenizes a text without template and without added special tokens. Special tokens written in the text are
    /// recognised, as in transformers.
    ///
    /// # Errors
    /// [`TextError::Encode`]
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(self.encoding(text, false)?.get_ids().to_vec())
    }

    /// Decoder start token of an encoder–decoder; `None` for decoder-only models.
    pub(crate) fn decoder_start(&self) -> Option<u32> {
        self.decoder_start
    }

    /// Tokenizes a conversation up to where the assistant continues. Without a template: a single user message with the
    /// tokenizer's own prefix, and for an encoder also its suffix.
    ///
    /// # Errors
    /// If the template refuses the messages, or there is no template and they are not a single user message.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, TextError> {
        match (&self.template, messages) {
            (Some(template), _) => self.encode_text(&template.render(messages, true)?),
            (None, [message]) if message.role == "user" => {
                self.encode_text_prompt(&message.content)
            }
            (None, _) => Err(TextError::NoTemplate { given: roles(messages) }),
        }
    }

    /// Decodes tokens, omitting special ones.
    ///
    /// # Errors
    /// [`TextError::Decode`]
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        catch_panic(|| self.inner.decode(ids, true)).map_err(|reason| TextError::Decode { reason })
    }

    /// Decodes tokens, special ones to their names.
    ///
    /// # Errors
    /// [`TextError::Decode`]
    pub fn decode_all(&self, ids: &[u32]) -> Result<String, TextError> {
        catch_panic(|| self.inner.decode(ids, false)).map_err(|reason| TextError::Decode { reason })
    }

    /// Whether a token is an added token, which is its own text.
    pub(crate) fn is_added(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id)
    }

    /// What the template inserts before an answer, with some of the special tokens.
    pub(crate) fn lead_showing(&self, shown: &BTreeSet<u32>) -> String {
        let text = |part| match part {
            Part::Text(text) => Some(text),
            Part::Token(id) if shown.contains(&id) => self.special_text(id),
            Part::Token(_) => None,
        };
        self.parts(&self.assistant_lead).into_iter().filter_map(text).collect()
    }

    /// A template's text as it is decoded: without special tokens.
    fn printed(&self, mut text: String) -> String {
        for token in self.inner.get_added_tokens_decoder().into_values().filter(|t| t.special) {
            text = text.replace(&token.content, "");
        }
        text
    }

    /// A template's text as special tokens and the text between them.
    pub(crate) fn parts(&self, text: &str) -> Vec<Part> {
        let added = self.inner.get_added_tokens_decoder();
        let special: Vec<_> =
            added.iter().filter(|(_, token)| token.special && !token.content.is_empty()).collect();
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let found = special.iter().filter_map(|(id, token)| {
                let at = rest.find(&token.content)?;
                Some((at, std::cmp::Reverse(token.content.len()), **id))
            });
            let (at, len, id) = match found.min() {
                Some((at, len, id)) => (at, len.0, Some(id)),
                None => (rest.len(), 0, None),
            };
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            parts.extend(id.map(Part::Token));
            rest = &rest[at + len..];
        }
        parts
    }

    /// Text of a special token, which is not decoded.
    pub(crate) fn special_text(&self, id: u32) -> Option<String> {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        added.get(&id).filter(|token| token.special).map(|token| token.content.clone())
    }

    /// Whether a token is decoded: known and not special.
    pub(crate) fn is_text(&self, id: u32) -> bool {
        let special = |token: String| self.inner.get_added_vocabulary().is_special_token(&token);
        self.inner.id_to_token(id).is_some_and(|token| !special(token))
    }

    /// Whether a token is a byte-fallback token, as `<0xE2>`.
    pub(crate) fn is_byte(&self, id: u32) -> bool {
        let token = self.inner.id_to_token(id);
        token.is_some_and(|token| {
            token.len() == 6 && token.starts_with("<0x") && token.ends_with('>')
        })
    }

    pub(crate) fn encoding(&self, text: &str, begun: bool) -> Result<Encoding, TextError> {
        catch_panic(|| self.inner.encode(text, begun))
            .map_err(|reason| TextError::Encode { reason })
    }

    /// Tokenizes a plain text to be continued: with the tokenizer's own prefix, such as a beginning-of-sequence token, and
    /// for an encoder also its suffix.
    ///
    /// # Errors
    /// [`TextError::Encode`]
    pub fn encode_text_prompt(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match self.decoder_start {
            Some(_) => Ok(self.encoding(text, true)?.get_ids().to_vec()),
            None => self.encode_begun(text),
        }
    }

    /// Tokenizes a text with the tokenizer's own prefix but without its suffix.
    fn encode_begun(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self.encoding(text, true)?;
        Ok(encoding.get_ids()[..n_before_end(&encoding)].to_vec())
    }
}

/// Number of tokens before the suffix that the tokenizer appended.
pub(crate) fn n_before_end(encoding: &Encoding) -> usize {
    let put = encoding.get_special_tokens_mask();
    put.iter().rposition(|&put| put == 0).map_or(put.len(), |last| last + 1)
}

fn id_of(tokenizer: &tokenizers::Tokenizer, token: &str) -> Result<u32, TextError> {
    let unknown = || TextError::UnknownToken { token: token.to_owned() };
    tokenizer.token_to_id(token).ok_or_else(unknown)
}

fn roles(messages: &[Message]) -> String {
    match messages {
        [] => "none".to_owned(),
        _ => messages.iter().map(|message| message.role.as_str()).collect::<Vec<_>>().join(", "),
    }
}

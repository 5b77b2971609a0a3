use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use std::sync::Arc;

use super::GrammarError;
use crate::tokenizer_file::catch_panic;
use crate::{TextError, Tokenizer};

/// Maximum bytes of a token in a constrained text; longer ones are not sampled there. The library's trie is no deeper.
const MAX_TOKEN: usize = 1000;

/// Bytes of a vocabulary's tokens, as a grammar needs them.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    /// Bytes by token id; empty for unknown ids, a mark and the name for special tokens.
    pub(crate) words: Vec<Vec<u8>>,
    /// End-of-sequence tokens, not empty.
    pub(crate) end_ids: Vec<u32>,
    /// Tokens whose text at the start of an answer is not that of their bytes.
    pub(crate) not_first: Vec<u32>,
    /// Whether decoding removes one space at the start of a text.
    pub(crate) strips_space: bool,
}

impl Vocabulary {
    /// # Errors
    /// A tokenizer without end tokens, or whose tokens cannot be decoded.
    pub(crate) fn new(tokenizer: &Tokenizer) -> Result<Self, GrammarError> {
        let ids = tokenizer.inner.get_vocab(true).into_values();
        let n = ids.max().map_or(0, |id| id as usize + 1);
        let end_ids: Vec<u32> =
            tokenizer.end_ids().iter().copied().filter(|&id| (id as usize) < n).collect();
        if end_ids.is_empty() {
            return Err(GrammarError::NoEndToken);
        }
        let broken = |error: TextError| GrammarError::Vocabulary { reason: error.to_string() };
        let words: Vec<Vec<u8>> = (0..n as u32)
            .map(|id| word(tokenizer, id))
            .collect::<Result<_, _>>()
            .map_err(broken)?;
        let mut vocabulary = Self { words, end_ids, not_first: Vec::new(), strips_space: false };
        if !tokenizer.is_byte_level() {
            vocabulary.decode_first(tokenizer).map_err(broken)?;
        }
        Ok(vocabulary)
    }

    /// Decodes each token at the start of a text.
    fn decode_first(&mut self, tokenizer: &Tokenizer) -> Result<(), TextError> {
        let is_text = |word: &[u8]| !word.is_empty() && !is_special(word);
        for (id, word) in (0u32..).zip(&self.words) {
            if !is_text(word) || tokenizer.is_byte(id) {
                continue;
            }
            let first = tokenizer.decode(&[id])?;
            let stripped = word.strip_prefix(b" ");
            self.strips_space |= word.len() > 1 && stripped == Some(first.as_bytes());
            if first.as_bytes() != word && stripped != Some(first.as_bytes()) {
                self.not_first.push(id);
            }
        }
        Ok(())
    }

    /// The tokens as a trie.
    pub(crate) fn trie(&self) -> Result<TokEnv, GrammarError> {
        let info = TokRxInfo::new(self.words.len() as u32, self.end_ids[0]);
        let trie =
            catch_panic(|| Ok(TokTrie::from(&info, &self.words).with_eos_tokens(&self.end_ids)));
        let too_large = |_| GrammarError::Vocabulary { reason: "it is too large".to_owned() };
        Ok(Arc::new(ApproximateTokEnv::new(trie.map_err(too_large)?)))
    }
}

fn word(tokenizer: &Tokenizer, id: u32) -> Result<Vec<u8>, TextError> {
    let mut word = tokenizer.token_bytes(id)?;
    if tokenizer.is_special(id) {
        word.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
    }
    if word.len() > MAX_TOKEN {
        word.clear();
    }
    Ok(word)
}

fn is_special(word: &[u8]) -> bool {
    word.len() > 1 && word[0] == TokTrie::SPECIAL_TOKEN_MARKER
}

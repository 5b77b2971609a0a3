use llguidance::toktrie::TokTrie;

use super::GrammarError;
use super::vocabulary::Vocabulary;
use crate::{TextError, Tokenizer};

/// Maximum bytes of a token in a constrained text; longer ones are not sampled there. The library's trie is no deeper.
const MAX_TOKEN: usize = 1000;

impl Tokenizer {
    /// The vocabulary, as grammars need it.
    ///
    /// # Errors
    /// A tokenizer without end tokens, or whose tokens cannot be decoded.
    pub(super) fn vocabulary(&self) -> Result<Vocabulary, GrammarError> {
        let ids = self.inner.get_vocab(true).into_values();
        let n = ids.max().map_or(0, |id| id as usize + 1);
        let end_ids: Vec<u32> =
            self.end_ids().iter().copied().filter(|&id| (id as usize) < n).collect();
        if end_ids.is_empty() {
            return Err(GrammarError::NoEndToken);
        }
        let broken = |error: TextError| GrammarError::Vocabulary { reason: error.to_string() };
        let words: Vec<Vec<u8>> =
            (0..n as u32).map(|id| word(self, id)).collect::<Result<_, _>>().map_err(broken)?;
        let mut vocabulary =
            Vocabulary { words, end_ids, not_first: Vec::new(), strips_space: false };
        if !self.is_byte_level() {
            decode_first(self, &mut vocabulary).map_err(broken)?;
        }
        Ok(vocabulary)
    }
}

/// Decodes each token at the start of a text.
fn decode_first(tokenizer: &Tokenizer, vocabulary: &mut Vocabulary) -> Result<(), TextError> {
    let is_text = |word: &[u8]| !word.is_empty() && !is_special(word);
    for (id, word) in (0u32..).zip(&vocabulary.words) {
        if !is_text(word) || tokenizer.is_byte(id) {
            continue;
        }
        let first = tokenizer.decode(&[id])?;
        let stripped = word.strip_prefix(b" ");
        vocabulary.strips_space |= word.len() > 1 && stripped == Some(first.as_bytes());
        if first.as_bytes() != word && stripped != Some(first.as_bytes()) {
            vocabulary.not_first.push(id);
        }
    }
    Ok(())
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

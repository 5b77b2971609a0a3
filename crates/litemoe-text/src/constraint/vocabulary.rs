use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use super::GrammarError;
use crate::tokenizer_file::catch_panic;

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
    /// The tokens as a trie.
    pub(crate) fn trie(&self) -> Result<TokEnv, GrammarError> {
        let info = TokRxInfo::new(self.words.len() as u32, self.end_ids[0]);
        let trie =
            catch_panic(|| Ok(TokTrie::from(&info, &self.words).with_eos_tokens(&self.end_ids)));
        let too_large = |_| GrammarError::Vocabulary { reason: "it is too large".to_owned() };
        Ok(Arc::new(ApproximateTokEnv::new(trie.map_err(too_large)?)))
    }
}

use litemoe_core::Logprobs;
use serde::Serialize;

use crate::{TextError, Tokenizer};

/// Logprob of a token, with the fields of OpenAI's API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Logprob {
    /// The token's text; incomplete characters are replaced.
    pub token: String,
    /// Natural logarithm of the model's probability.
    pub logprob: f32,
    /// The token's bytes.
    pub bytes: Vec<u8>,
}

/// Logprobs of a sampled token and of the most probable tokens at its position.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The sampled token.
    #[serde(flatten)]
    pub drawn: Logprob,
    /// The most probable tokens, in descending order; as many as requested.
    pub top_logprobs: Vec<Logprob>,
}

impl Tokenizer {
    /// Converts a sampled token's logprobs from ids to texts.
    ///
    /// # Errors
    /// [`TextError::Decode`]
    pub fn token_logprob(&self, token: u32, found: &Logprobs) -> Result<TokenLogprob, TextError> {
        let top = found.top.iter().map(|&(token, logprob)| self.logprob(token, logprob));
        Ok(TokenLogprob {
            drawn: self.logprob(token, found.token)?,
            top_logprobs: top.collect::<Result<_, _>>()?,
        })
    }

    /// Logprob of one token, with its text.
    ///
    /// # Errors
    /// [`TextError::Decode`]
    pub fn logprob(&self, token: u32, logprob: f32) -> Result<Logprob, TextError> {
        let bytes = self.token_bytes(token)?;
        Ok(Logprob { token: String::from_utf8_lossy(&bytes).into_owned(), logprob, bytes })
    }
}

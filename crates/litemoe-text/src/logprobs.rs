use litemoe_core::Logprobs;
use serde::Serialize;

use crate::{TextError, Tokenizer};

/// A token as text and how probable it was, in the fields of OpenAI's interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Logprob {
    /// The token's text; what is no whole character is replaced.
    pub token: String,
    /// Natural logarithm of the model's probability.
    pub logprob: f32,
    /// The token's bytes.
    pub bytes: Vec<u8>,
}

/// A drawn token and the most probable ones in its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token.
    #[serde(flatten)]
    pub drawn: Logprob,
    /// The most probable tokens, largest first; as many as were asked for.
    pub top_logprobs: Vec<Logprob>,
}

impl Tokenizer {
    /// Writes a drawn token's log-probabilities with texts in place of ids.
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

    fn logprob(&self, token: u32, logprob: f32) -> Result<Logprob, TextError> {
        let bytes = self.token_bytes(token)?;
        Ok(Logprob { token: String::from_utf8_lossy(&bytes).into_owned(), logprob, bytes })
    }
}

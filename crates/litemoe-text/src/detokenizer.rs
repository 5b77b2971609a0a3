use crate::{TextError, Tokenizer};

/// Turns tokens into text as they come. The pieces together are the [decoded](Tokenizer::decode) whole, and no piece
/// ends inside a character.
#[derive(Debug)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    /// The text tokens of the last piece and those after it. Decoders treat a text's first token in their own way, so
    /// new tokens are decoded after old ones.
    window: Vec<u32>,
    /// What the last piece's tokens are as a text of their own.
    given: String,
    /// How many tokens of the window are in `given`.
    n_given: usize,
}

impl Tokenizer {
    /// Starts turning tokens into text one by one.
    pub fn detokenizer(&self) -> Detokenizer<'_> {
        Detokenizer { tokenizer: self, window: Vec::new(), given: String::new(), n_given: 0 }
    }
}

impl Detokenizer<'_> {
    /// The text that is now certain; empty while a character is incomplete.
    ///
    /// # Errors
    /// [`TextError::Decode`]
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        if !self.tokenizer.is_text(id) {
            return Ok(String::new());
        }
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window)?;
        match text.strip_prefix(&self.given) {
            Some(new) if !new.is_empty() && self.is_whole(&text, id) => {
                self.window.drain(..self.n_given);
                self.given = self.tokenizer.decode(&self.window)?;
                self.n_given = self.window.len();
                Ok(new.to_owned())
            }
            _ => Ok(String::new()),
        }
    }

    /// The text that was still held back; bytes that never became a character are replaced.
    ///
    /// # Errors
    /// [`TextError::Decode`]
    pub fn finish(self) -> Result<String, TextError> {
        let text = self.tokenizer.decode(&self.window)?;
        Ok(text.strip_prefix(&self.given).unwrap_or_default().to_owned())
    }

    /// Whether more tokens cannot change this text, which ends with token `id`. A run of byte tokens is decoded
    /// together, so it is whole only when it is over.
    fn is_whole(&self, text: &str, id: u32) -> bool {
        !text.ends_with(char::REPLACEMENT_CHARACTER) && !self.tokenizer.is_byte(id)
    }
}

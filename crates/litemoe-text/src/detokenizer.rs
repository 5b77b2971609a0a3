use crate::{TextError, Tokenizer};

/// Incremental detokenization. The concatenated pieces equal the [decoded](Tokenizer::decode) text, and no piece ends
/// inside a character.
#[derive(Debug)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    /// Text tokens of the last piece and those after it. Decoders treat a text's first token specially, so new tokens
    /// are decoded after earlier ones.
    window: Vec<u32>,
    /// Text of the last piece's tokens decoded on their own.
    given: String,
    /// Number of tokens of the window in `given`.
    n_given: usize,
}

impl Tokenizer {
    /// Starts incremental detokenization.
    pub fn detokenizer(&self) -> Detokenizer<'_> {
        Detokenizer { tokenizer: self, window: Vec::new(), given: String::new(), n_given: 0 }
    }
}

impl Detokenizer<'_> {
    /// Adds a token and returns the text that is now final; empty while a character is incomplete.
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

    /// The text held back so far; bytes that form no character are replaced.
    ///
    /// # Errors
    /// [`TextError::Decode`]
    pub fn finish(self) -> Result<String, TextError> {
        let text = self.tokenizer.decode(&self.window)?;
        Ok(text.strip_prefix(&self.given).unwrap_or_default().to_owned())
    }

    /// Whether further tokens cannot change this text, which ends with token `id`. A run of byte-fallback tokens is
    /// decoded together, so it is final only when it ends.
    fn is_whole(&self, text: &str, id: u32) -> bool {
        !text.ends_with(char::REPLACEMENT_CHARACTER) && !self.tokenizer.is_byte(id)
    }
}

use tokenizers::DecoderWrapper;

use crate::{TextError, Tokenizer};

impl Tokenizer {
    /// Bytes of a token inside a text: possibly part of a character; the name of a special token; empty for an unknown
    /// id.
    pub fn token_bytes(&self, id: u32) -> Result<Vec<u8>, TextError> {
        let Some(token) = self.inner.id_to_token(id) else { return Ok(Vec::new()) };
        if self.is_added(id) {
            return Ok(token.into_bytes());
        }
        if self.is_byte_level() {
            let bytes: Option<Vec<u8>> = token.chars().map(byte_level).collect();
            return Ok(bytes.unwrap_or_else(|| token.into_bytes()));
        }
        if self.is_byte(id) {
            return Ok(u8::from_str_radix(&token[3..5], 16).into_iter().collect());
        }
        // A decoder may treat the first token of a text specially, so the second of two is used.
        let (one, two) = (self.decode(&[id])?, self.decode(&[id, id])?);
        Ok(two.strip_prefix(one.as_str()).unwrap_or(&one).as_bytes().to_vec())
    }

    /// Whether the vocabulary has a letter for each byte.
    pub(crate) fn is_byte_level(&self) -> bool {
        self.inner.get_decoder().is_some_and(is_byte_level)
    }
}

fn is_byte_level(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(decoders) => decoders.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// The byte of a letter in a byte-level vocabulary, as in GPT-2's `bytes_to_unicode`: printable bytes map to
/// themselves, the others follow in order from U+0100.
fn byte_level(letter: char) -> Option<u8> {
    let is_printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u8::try_from(letter) {
        Ok(byte) => Some(byte).filter(is_printable),
        Err(_) => {
            let mut others = (0..=u8::MAX).filter(|byte| !is_printable(byte));
            others.nth((u32::from(letter) - 0x100) as usize)
        }
    }
}

use litemoe_text::{Prompt, TextError, Tokenizer};

use crate::limits::{Context, Excess};

/// Maximum bytes of a segment of a long text.
const SEGMENT: usize = 32 << 10;

/// Maximum number of tokens by which the tokens of a segment may exceed its share of the whole text's.
const MAX_EXTRA: usize = 128;

/// Reason for which a conversation has no prompt.
#[derive(Debug)]
pub(crate) enum PromptError {
    Text(TextError),
    Excess(Excess),
}

impl From<TextError> for PromptError {
    fn from(error: TextError) -> Self {
        Self::Text(error)
    }
}

/// Tokenizes a conversation. If it certainly has more tokens than the context, it is refused without being tokenized as
/// a whole, which would take hundreds of bytes of memory for each of its bytes.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    prompt: &Prompt,
    context: Context,
) -> Result<Vec<u32>, PromptError> {
    if let Some(template) = tokenizer.template() {
        let text = prompt.render(template)?;
        check(tokenizer, &text, context)?;
        return Ok(tokenizer.encode_text(&text)?);
    }
    if let Some(text) = prompt.user_text() {
        check(tokenizer, text, context)?;
    }
    Ok(tokenizer.encode_chat(prompt)?)
}

/// Tokenizes a plain text, with the special tokens that the tokenizer adds to texts.
pub(crate) fn encode_plain(
    tokenizer: &Tokenizer,
    text: &str,
    context: Context,
) -> Result<Vec<u32>, PromptError> {
    check(tokenizer, text, context)?;
    Ok(tokenizer.encode_text_prompt(text)?)
}

/// Tokenizes a plain text without further special tokens.
pub(crate) fn encode_bare(
    tokenizer: &Tokenizer,
    text: &str,
    context: Context,
) -> Result<Vec<u32>, PromptError> {
    check(tokenizer, text, context)?;
    Ok(tokenizer.encode_text(text)?)
}

/// Refuses a text that certainly has more tokens than the context.
fn check(tokenizer: &Tokenizer, text: &str, context: Context) -> Result<(), PromptError> {
    let max_tokens = context.max_tokens();
    // Few texts have more tokens than bytes, and none many more.
    if text.len() <= max_tokens {
        return Ok(());
    }
    let mut n_tokens = 0;
    for segment in segments(text) {
        n_tokens += tokenizer.encode_text(segment)?.len().saturating_sub(MAX_EXTRA);
        if n_tokens > max_tokens {
            return Err(PromptError::Excess(Excess::Text { max_tokens }));
        }
    }
    Ok(())
}

/// Cuts a text into segments, before white space where there is some.
fn segments(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let end = text.floor_char_boundary(SEGMENT);
        let cut = match text.len() > end {
            true => text[..end].rfind(char::is_whitespace).filter(|&cut| cut > end / 2),
            false => None,
        };
        let (segment, rest) = text.split_at(cut.unwrap_or(end));
        text = rest;
        (!segment.is_empty()).then_some(segment)
    })
}

#[cfg(test)]
mod tests {
    use litemoe_text::Message;

    use super::*;
    use crate::RequestLimits;

    fn context(max_tokens: usize) -> Context {
        Context::new(max_tokens, false, &RequestLimits::default())
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_dir(litemoe_fixtures::foundation_dir()).unwrap()
    }

    #[test]
    fn segments_are_the_text_and_not_too_long() {
        for text in
            ["", "a", &"a word ".repeat(20_000), &"ß🙂".repeat(30_000), &" ".repeat(SEGMENT)]
        {
            let all: Vec<_> = segments(text).collect();
            assert_eq!(all.concat(), *text);
            assert!(all.iter().all(|segment| segment.len() <= SEGMENT));
        }
        assert!(
            segments(&"a word ".repeat(20_000)).skip(1).all(|segment| segment.starts_with(' '))
        );
    }

    #[test]
    fn a_prompt_is_what_the_tokenizer_makes_of_it() {
        let tokenizer = tokenizer();
        for text in ["hi", &"Turn on the lights in the attic. ".repeat(4000), &"ß🙂".repeat(20_000)]
        {
            let messages = [Message::user(text)];
            let prompt = tokenizer.encode_prompt(&messages).unwrap();
            let encoded = encode(&tokenizer, &messages[..].into(), context(prompt.len())).unwrap();
            assert_eq!(encoded, prompt);
        }
    }

    #[test]
    fn a_text_of_too_many_tokens_is_refused_by_its_segments() {
        let tokenizer = tokenizer();
        let messages = [Message::user("Turn on the lights in the attic. ".repeat(4000))];
        let n_prompt = tokenizer.encode_prompt(&messages).unwrap().len();
        let max_tokens = n_prompt * 9 / 10;
        let error = encode(&tokenizer, &messages[..].into(), context(max_tokens)).unwrap_err();
        let expected = Excess::Text { max_tokens };
        assert!(matches!(error, PromptError::Excess(excess) if excess == expected), "{error:?}");
    }
}

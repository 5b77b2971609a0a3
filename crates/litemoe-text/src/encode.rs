use litemoe_core::Sequence;
use tokenizers::Encoding;

use crate::tokenizer::n_before_end;
use crate::{ChatTemplate, Message, Row, RowContent, TextError, Tokenizer};

/// Placeholder for a completion, to find what a template appends to it: a private-use character, which no template
/// trims or changes.
const MARK: &str = "\u{e000}";

/// Tokenized rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encoded {
    /// Sequences of the rows within the length limit, in order.
    pub sequences: Vec<Sequence>,
    /// Row index of each sequence, from 0.
    pub rows: Vec<usize>,
    /// Number of rows skipped because they are too long.
    pub skipped_too_long: usize,
}

impl Tokenizer {
    /// Tokenizes a row through the chat template, up to the end token of the last message in the loss.
    ///
    /// A prompt with its completion are a user's and the assistant's message: the loss covers the tokens after the
    /// rendered prompt, end token included; so also a think block that the template inserts before the completion, which
    /// the model has to write. A token across the boundary belongs to the completion. Without a template: prompt, one
    /// space, completion, end token, with the tokenizer's own prefix.
    ///
    /// Of a conversation, the loss covers the assistant's messages with their end tokens: what the template's
    /// `generation` blocks write, or without such blocks as above, each message after the conversation so far.
    ///
    /// Running text has the tokenizer's own prefix and the end token. The loss covers all tokens after the first, which
    /// nothing predicts.
    ///
    /// For an encoder–decoder: the encoder gets the prompt as in [`encode_prompt`](Self::encode_prompt), the decoder
    /// its start token, the completion and the end token.
    ///
    /// # Errors
    /// If the rendered prompt is not a prefix of the rendered conversation, if no end token follows the completion, or
    /// if the template fails; if the model cannot take rows of this kind.
    pub fn encode(&self, row: &Row) -> Result<Sequence, TextError> {
        let (prompt, completion) = match &row.content {
            RowContent::Pair { prompt, completion } => (prompt, completion),
            RowContent::Conversation(conversation) => {
                return self.encode_conversation(conversation);
            }
            RowContent::Text(text) => return self.encode_running(text),
        };
        if let Some(start) = self.decoder_start() {
            let encoder = self.encode_prompt(&[Message::user(prompt)])?;
            return self.encode_decoder(encoder, completion, start);
        }
        match self.template() {
            Some(template) => self.encode_rendered(&Rendered::new(template, prompt, completion)?),
            None => self.encode_plain(prompt, completion),
        }
    }

    /// Tokenizes what precedes a row's last completion, up to where the assistant continues.
    ///
    /// # Errors
    /// Those of [`encode_prompt`](Self::encode_prompt); for running text [`TextError::NoPrompt`].
    pub fn encode_row_prompt(&self, row: &Row) -> Result<Vec<u32>, TextError> {
        match &row.content {
            RowContent::Pair { prompt, .. } => self.encode_prompt(&[Message::user(prompt)]),
            RowContent::Conversation(conversation) => self.encode_conversation_prompt(conversation),
            RowContent::Text(_) => Err(TextError::NoPrompt),
        }
    }

    /// Tokenizes rows, skipping those of more than `max_tokens` tokens (in encoder or decoder).
    ///
    /// # Errors
    /// [`TextError::InRow`] for the first row that [`encode`](Self::encode) refuses, counted from 1.
    pub fn encode_all(&self, rows: &[Row], max_tokens: usize) -> Result<Encoded, TextError> {
        self.encode_some(rows, 0..rows.len(), max_tokens)
    }

    /// Tokenizes some of the rows, by index.
    ///
    /// # Errors
    /// Those of [`encode_all`](Self::encode_all); a row's number is its number among all rows.
    pub fn encode_some(
        &self,
        rows: &[Row],
        which: impl IntoIterator<Item = usize>,
        max_tokens: usize,
    ) -> Result<Encoded, TextError> {
        let mut encoded = Encoded::default();
        for index in which {
            let in_row = |error| TextError::InRow { row: index + 1, error: Box::new(error) };
            if let RowContent::Conversation(conversation) = &rows[index].content
                && self.is_far_too_long(conversation, max_tokens).map_err(in_row)?
            {
                encoded.skipped_too_long += 1;
                continue;
            }
            let sequence = self.encode(&rows[index]).map_err(in_row)?;
            let encoder = sequence.encoder.as_ref().map_or(0, Vec::len);
            if sequence.tokens.len().max(encoder) > max_tokens {
                encoded.skipped_too_long += 1;
            } else {
                encoded.sequences.push(sequence);
                encoded.rows.push(index);
            }
        }
        Ok(encoded)
    }

    /// What the template inserts around an assistant's message; `None` if it does not render a plain conversation.
    pub(crate) fn plain_answer(&self) -> Option<PlainAnswer> {
        let rendered = Rendered::new(self.template()?, MARK, MARK).ok()?;
        let before_end = &rendered.whole[rendered.prompt.len()..rendered.completion_end];
        let lead = before_end.strip_suffix(MARK).unwrap_or_default().to_owned();
        let end = self.encode_rendered(&rendered).ok()?.tokens.last().copied();
        Some(PlainAnswer { lead, end })
    }

    fn encode_rendered(&self, rendered: &Rendered) -> Result<Sequence, TextError> {
        let encoding = self.encoding(&rendered.whole, false)?;
        let ends = |&(id, &(_, end)): &(&u32, &(usize, usize))| {
            end > rendered.completion_end && self.is_special(*id)
        };
        let end =
            encoding.get_ids().iter().zip(encoding.get_offsets()).position(|pair| ends(&pair));
        let end = end.ok_or_else(|| TextError::NoEndToken {
            reason: format!("no special token follows it in {:?}", rendered.whole),
        })?;
        let tokens = encoding.get_ids()[..=end].to_vec();
        let prompt = self.encode_text(&rendered.prompt)?;
        Ok(covered_after(n_prompt(&prompt, &encoding, rendered.prompt.len()), tokens))
    }

    /// A row of an encoder–decoder.
    pub(crate) fn encode_decoder(
        &self,
        encoder: Vec<u32>,
        completion: &str,
        start: u32,
    ) -> Result<Sequence, TextError> {
        let mut tokens = vec![start];
        tokens.extend(self.encode_text(completion)?);
        tokens.push(self.end_id()?);
        Ok(Sequence { encoder: Some(encoder), ..covered_after(1, tokens) })
    }

    pub(crate) fn encode_plain(
        &self,
        prompt: &str,
        completion: &str,
    ) -> Result<Sequence, TextError> {
        let end = self.end_id()?;
        let encoding = self.encoding(&format!("{prompt} {completion}"), true)?;
        let mut tokens = encoding.get_ids()[..n_before_end(&encoding)].to_vec();
        tokens.push(end);
        let n_bytes = prompt.len();
        let prompt = self.encode_prompt(&[Message::user(prompt)])?;
        Ok(covered_after(n_prompt(&prompt, &encoding, n_bytes), tokens))
    }

    fn encode_running(&self, text: &str) -> Result<Sequence, TextError> {
        if self.decoder_start().is_some() {
            return Err(TextError::NotAPair { given: "running text" });
        }
        let end = self.end_id()?;
        let encoding = self.encoding(text, true)?;
        let mut tokens = encoding.get_ids()[..n_before_end(&encoding)].to_vec();
        if tokens.last() != Some(&end) {
            tokens.push(end);
        }
        Ok(covered_after(1, tokens))
    }
}

/// What a template inserts around an assistant's message.
pub(crate) struct PlainAnswer {
    /// Text between the prompt and the message.
    pub(crate) lead: String,
    /// Token that ends the message.
    pub(crate) end: Option<u32>,
}

/// A row rendered by a template.
struct Rendered {
    /// The prompt, up to where the assistant continues.
    prompt: String,
    /// Both messages.
    whole: String,
    /// Byte offset in `whole` of the end of the completion, where the template's closing text begins.
    completion_end: usize,
}

impl Rendered {
    fn new(template: &ChatTemplate, prompt: &str, completion: &str) -> Result<Self, TextError> {
        let user = Message::user(prompt);
        let both = |completion: &str| [user.clone(), Message::assistant(completion)];
        let prompt = template.render(std::slice::from_ref(&user), true)?;
        let whole = template.render(&both(completion), false)?;
        if !whole.starts_with(&prompt) {
            return Err(TextError::NotAPrefix { prompt, whole });
        }
        let marked = template.render(&both(MARK), false)?;
        let closing = marked.rsplit_once(MARK).map(|(_, closing)| closing);
        match closing.and_then(|closing| whole.strip_suffix(closing)).map(str::len) {
            Some(completion_end) if completion_end >= prompt.len() => {
                Ok(Self { prompt, whole, completion_end })
            }
            _ => Err(TextError::NoCompletion { whole }),
        }
    }
}

/// Number of prompt tokens in `whole`; the prompt is its first `prompt_bytes` bytes.
pub(crate) fn n_prompt(prompt: &[u32], whole: &Encoding, prompt_bytes: usize) -> usize {
    if whole.get_ids().starts_with(prompt) {
        return prompt.len();
    }
    // The prompt's last characters and the completion's first ones form one token.
    n_until(whole, prompt_bytes)
}

/// Number of tokens that end in the first `n_bytes` bytes.
fn n_until(whole: &Encoding, n_bytes: usize) -> usize {
    let after = |&(_, end): &(usize, usize)| end > n_bytes;
    whole.get_offsets().iter().position(after).unwrap_or(whole.len())
}

fn covered_after(n_prompt: usize, tokens: Vec<u32>) -> Sequence {
    let completion = (0..tokens.len()).map(|index| index >= n_prompt).collect();
    Sequence { tokens, completion, encoder: None }
}

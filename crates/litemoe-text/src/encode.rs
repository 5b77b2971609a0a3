use litemoe_core::Sequence;
use tokenizers::Encoding;

use crate::tokenizer::n_before_end;
use crate::{ChatTemplate, Message, Row, TextError, Tokenizer};

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
    /// Tokenizes a row: one user and one assistant message through the chat template, up to the end token of the
    /// assistant's message. The loss covers the tokens of the answer, end token included: those after the rendered prompt
    /// and after a think block that the template inserts. A token across the boundary belongs to the completion.
    ///
    /// Without a template: prompt, one space, completion, end token, with the tokenizer's own prefix.
    ///
    /// For an encoder–decoder: the encoder gets the prompt as in [`encode_prompt`](Self::encode_prompt), the decoder
    /// its start token, the completion and the end token.
    ///
    /// # Errors
    /// If the rendered prompt is not a prefix of the rendered conversation, if no end token follows the completion, or
    /// if the template fails.
    pub fn encode(&self, row: &Row) -> Result<Sequence, TextError> {
        if let Some(start) = self.decoder_start() {
            return self.encode_pair(row, start);
        }
        match self.template() {
            Some(template) => self.encode_rendered(&Rendered::new(template, row)?),
            None => self.encode_plain(row),
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
        let rendered = Rendered::new(self.template()?, &Row::new(MARK, MARK)).ok()?;
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
        let n_before = match rendered.answer_begin > rendered.prompt.len() {
            true => n_until(&encoding, rendered.answer_begin),
            false => {
                let prompt = self.encode_text(&rendered.prompt)?;
                n_prompt(&prompt, &encoding, rendered.prompt.len())
            }
        };
        Ok(covered_after(n_before, tokens))
    }

    fn encode_pair(&self, row: &Row, start: u32) -> Result<Sequence, TextError> {
        let encoder = self.encode_prompt(&[Message::user(&*row.prompt)])?;
        let mut tokens = vec![start];
        tokens.extend(self.encode_text(&row.completion)?);
        tokens.push(self.end_id()?);
        Ok(Sequence { encoder: Some(encoder), ..covered_after(1, tokens) })
    }

    fn encode_plain(&self, row: &Row) -> Result<Sequence, TextError> {
        let end = self.end_id()?;
        let encoding = self.encoding(&format!("{} {}", row.prompt, row.completion), true)?;
        let mut tokens = encoding.get_ids()[..n_before_end(&encoding)].to_vec();
        tokens.push(end);
        let prompt = self.encode_prompt(&[Message::user(&*row.prompt)])?;
        Ok(covered_after(n_prompt(&prompt, &encoding, row.prompt.len()), tokens))
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
    /// Byte offset in `whole` of the answer's begin: after a think block or the like that the template inserts. White
    /// space that it inserts belongs to the answer's first token.
    answer_begin: usize,
    /// Byte offset in `whole` of the end of the completion, where the template's closing text begins.
    completion_end: usize,
}

impl Rendered {
    fn new(template: &ChatTemplate, row: &Row) -> Result<Self, TextError> {
        let user = Message::user(&*row.prompt);
        let both = |completion: &str| [user.clone(), Message::assistant(completion)];
        let prompt = template.render(std::slice::from_ref(&user), true)?;
        let whole = template.render(&both(&row.completion), false)?;
        if !whole.starts_with(&prompt) {
            return Err(TextError::NotAPrefix { prompt, whole });
        }
        let marked = template.render(&both(MARK), false)?;
        let closing = marked.rsplit_once(MARK).map(|(_, closing)| closing);
        match closing.and_then(|closing| whole.strip_suffix(closing)).map(str::len) {
            Some(completion_end) if completion_end >= prompt.len() => {
                let inserted =
                    marked.strip_prefix(&prompt).and_then(|rest| rest.split(MARK).next());
                let inserted = inserted.filter(|text| !text.trim().is_empty()).unwrap_or_default();
                let answer_begin = match whole[prompt.len()..completion_end].starts_with(inserted) {
                    true => prompt.len() + inserted.len(),
                    false => prompt.len(),
                };
                Ok(Self { prompt, whole, answer_begin, completion_end })
            }
            _ => Err(TextError::NoCompletion { whole }),
        }
    }
}

/// Number of prompt tokens in `whole`; the prompt is its first `prompt_bytes` bytes.
fn n_prompt(prompt: &[u32], whole: &Encoding, prompt_bytes: usize) -> usize {
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

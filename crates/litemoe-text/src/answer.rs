use std::collections::{BTreeSet, VecDeque};

use litemoe_core::{GenerationError, SampledToken};

use crate::prefix::Prefix;
use crate::stop::{Passed, StopScanner};
use crate::{Detokenizer, TextError, TokenLogprob, Tokenizer};

/// Tokens of a prompt that its continuation is decoded after.
const N_BEFORE: usize = 8;

/// Finish reason of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// End-of-sequence token; it is not part of the text.
    EndToken,
    /// Stop string; it is not part of the text.
    StopString,
    /// No more tokens: the length limit.
    Length,
}

impl Finish {
    /// OpenAI's `finish_reason`: `stop` or `length`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::EndToken | Self::StopString => "stop",
            Self::Length => "length",
        }
    }
}

/// A streamed piece of an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Piece {
    /// Whole characters; empty while a character is incomplete or the text may be the start of a stop string.
    pub text: String,
    /// Logprobs of the text's tokens, if known: of all tokens that begin before the answer's end.
    pub logprobs: Vec<TokenLogprob>,
    /// Finish reason; set in the last piece.
    pub finish: Option<Finish>,
}

impl Piece {
    /// Appends the next piece.
    pub fn append(&mut self, next: Self) {
        self.text += &next.text;
        self.logprobs.extend(next.logprobs);
        self.finish = next.finish;
    }
}

/// Streamed answer from sampled tokens, up to an end token or a stop string: one piece per token. The concatenated text
/// does not depend on the tokenization and contains no part of a stop string. It begins after what the chat template puts
/// before an answer ([`Tokenizer::assistant_prefix`]).
#[derive(Debug)]
pub struct Answer<'t> {
    tokenizer: &'t Tokenizer,
    /// Special tokens whose text is part of the answer's.
    shown: BTreeSet<u32>,
    /// Tokens that end the answer besides the tokenizer's.
    ends: BTreeSet<u32>,
    /// Whether the token that ends the answer has logprobs.
    logs_end: bool,
    prefix: Prefix,
    /// `None` once the answer is over.
    detokenizer: Option<Detokenizer<'t>>,
    scanner: StopScanner,
    pending: Pending,
    n_drawn: usize,
}

impl Tokenizer {
    /// Starts an answer. Stop strings must not be empty; one that is the text of a special token stops at that token.
    pub fn answer(&self, stops: &[String]) -> Answer<'_> {
        self.text_after(self.assistant_prefix(), stops)
    }

    /// Starts the continuation of a plain text, of which `prompt` are the tokens: as [`Self::answer`], but no chat template
    /// puts anything before it, and the end token and a special token that is a stop string have logprobs too, as in
    /// OpenAI's completions.
    ///
    /// # Errors
    /// [`TextError::Decode`]
    pub fn continuation(&self, prompt: &[u32], stops: &[String]) -> Result<Answer<'_>, TextError> {
        let mut detokenizer = self.detokenizer();
        // Decoders treat a text's first token specially.
        for &token in &prompt[prompt.len().saturating_sub(N_BEFORE)..] {
            detokenizer.push(token)?;
        }
        let text = self.text_after("", stops);
        Ok(Answer { detokenizer: Some(detokenizer), logs_end: true, ..text })
    }

    fn text_after(&self, prefix: &str, stops: &[String]) -> Answer<'_> {
        Answer {
            tokenizer: self,
            shown: BTreeSet::new(),
            ends: BTreeSet::new(),
            logs_end: false,
            prefix: Prefix::new(prefix.to_owned()),
            detokenizer: Some(self.detokenizer()),
            scanner: StopScanner::new(stops.to_vec()),
            pending: Pending::default(),
            n_drawn: 0,
        }
    }
}

impl Answer<'_> {
    /// The answer, not begun yet, with the texts of these special tokens, such as those around tool calls
    /// ([`CallFormat::special_tokens`](crate::CallFormat::special_tokens)).
    #[must_use]
    pub fn showing(self, tokens: BTreeSet<u32>) -> Self {
        let prefix = Prefix::new(self.tokenizer.lead_showing(&tokens));
        Self { shown: tokens, prefix, ..self }
    }

    /// The answer, not begun yet, that also ends at these tokens, which are no part of it.
    #[must_use]
    pub fn ending_at(self, tokens: BTreeSet<u32>) -> Self {
        Self { ends: tokens, ..self }
    }

    /// Number of tokens so far, an end token included.
    pub fn n_drawn(&self) -> usize {
        self.n_drawn
    }

    /// Whether the last piece was returned.
    pub fn is_over(&self) -> bool {
        self.detokenizer.is_none()
    }

    /// Detokenizes the next token into a piece; empty once the answer is over.
    ///
    /// # Errors
    /// [`TextError::Decode`]; the answer is over then.
    pub fn push(&mut self, drawn: &SampledToken) -> Result<Piece, TextError> {
        let Some(mut detokenizer) = self.detokenizer.take() else { return Ok(Piece::default()) };
        self.n_drawn += 1;
        let special = self.tokenizer.special_text(drawn.token);
        let is_end = |ends: &BTreeSet<u32>| ends.contains(&drawn.token);
        let finish = if is_end(self.tokenizer.end_ids()) || is_end(&self.ends) {
            Some(Finish::EndToken)
        } else {
            let stops = self.scanner.stops();
            let is_stop = special.as_ref().is_some_and(|text| stops.contains(text));
            is_stop.then_some(Finish::StopString)
        };
        if let Some(logprobs) = &drawn.logprobs
            && (finish.is_none() || self.logs_end)
        {
            self.pending.push(self.tokenizer.token_logprob(drawn.token, logprobs)?);
        }
        if let Some(finish) = finish {
            return self.end(detokenizer, finish);
        }
        let text = match special.filter(|_| self.shown.contains(&drawn.token)) {
            Some(special) => {
                let before = std::mem::replace(&mut detokenizer, self.tokenizer.detokenizer());
                before.finish()? + &special
            }
            None => detokenizer.push(drawn.token)?,
        };
        let Passed { text, stopped } = self.scan(&text);
        let logprobs = self.pending.take(text.len());
        match stopped {
            true => Ok(Piece { text, logprobs, finish: Some(Finish::StopString) }),
            false => {
                self.detokenizer = Some(detokenizer);
                Ok(Piece { text, logprobs, finish: None })
            }
        }
    }

    /// The last piece if there are no more tokens; empty once the answer is over.
    pub fn finish(&mut self) -> Result<Piece, TextError> {
        match self.detokenizer.take() {
            Some(detokenizer) => self.end(detokenizer, Finish::Length),
            None => Ok(Piece::default()),
        }
    }

    /// The pieces of an iterator of sampled tokens. An error, of [`Self::push`] or of the iterator, is the last item.
    pub fn pieces(
        &mut self,
        mut tokens: impl Iterator<Item = Result<SampledToken, GenerationError>>,
    ) -> impl Iterator<Item = Result<Piece, TextError>> {
        std::iter::from_fn(move || {
            if self.is_over() {
                return None;
            }
            Some(match tokens.next() {
                Some(Ok(drawn)) => self.push(&drawn),
                Some(Err(error)) => {
                    self.detokenizer = None;
                    Err(error.into())
                }
                None => self.finish(),
            })
        })
    }

    /// The last piece: the text held back so far, which may still contain a stop string.
    fn end(&mut self, detokenizer: Detokenizer<'_>, finish: Finish) -> Result<Piece, TextError> {
        let Passed { mut text, stopped } = self.scan(&detokenizer.finish()?);
        if stopped {
            let logprobs = self.pending.take(text.len());
            return Ok(Piece { text, logprobs, finish: Some(Finish::StopString) });
        }
        let held = self.prefix.finish();
        let Passed { text: held, stopped } = self.scanner.push(&held);
        text += &held;
        if stopped {
            let logprobs = self.pending.take(text.len());
            return Ok(Piece { text, logprobs, finish: Some(Finish::StopString) });
        }
        text += &self.scanner.finish();
        Ok(Piece { text, logprobs: self.pending.take_all(), finish: Some(finish) })
    }

    fn scan(&mut self, text: &str) -> Passed {
        self.pending.n_known += text.len();
        let (text, n_removed) = self.prefix.push(text);
        self.pending.skip(n_removed);
        self.scanner.push(&text)
    }
}

/// Tokens whose text is not emitted yet.
#[derive(Debug, Default)]
struct Pending {
    /// Tokens with the start of their text, as a byte offset in the answer.
    tokens: VecDeque<(usize, TokenLogprob)>,
    /// Bytes of text so far, including text held back.
    n_known: usize,
    /// Bytes emitted.
    n_given: usize,
}

impl Pending {
    fn push(&mut self, token: TokenLogprob) {
        self.tokens.push_back((self.n_known, token));
    }

    /// The tokens of the next `n_bytes` emitted bytes.
    fn take(&mut self, n_bytes: usize) -> Vec<TokenLogprob> {
        self.n_given += n_bytes;
        let given = self.tokens.iter().take_while(|(begin, _)| *begin < self.n_given).count();
        self.tokens.drain(..given).map(|(_, token)| token).collect()
    }

    /// Drops the tokens of the next `n_bytes` bytes, which are not emitted. A token that ends after them stays.
    fn skip(&mut self, n_bytes: usize) {
        self.n_given += n_bytes;
        while let Some(&(begin, _)) = self.tokens.front() {
            let end = self.tokens.get(1).map_or(self.n_known, |&(begin, _)| begin);
            if begin >= self.n_given || end > self.n_given {
                break;
            }
            self.tokens.pop_front();
        }
    }

    fn take_all(&mut self) -> Vec<TokenLogprob> {
        self.tokens.drain(..).map(|(_, token)| token).collect()
    }
}

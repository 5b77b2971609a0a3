use std::collections::VecDeque;

use litemoe_core::Drawn;

use crate::stop::{Passed, StopScanner};
use crate::{Detokenizer, TextError, TokenLogprob, Tokenizer};

/// Why an answer is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An end token came; it is not part of the text.
    EndToken,
    /// A stop string came; it is not part of the text.
    StopString,
    /// No more tokens came.
    Length,
}

impl Finish {
    /// What OpenAI's interface calls it: `stop` or `length`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::EndToken | Self::StopString => "stop",
            Self::Length => "length",
        }
    }
}

/// The next piece of an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Piece {
    /// Whole characters; empty while a character is incomplete or a stop string may have begun.
    pub text: String,
    /// The tokens that the text is from, where their log-probabilities are known: all that begin before the answer's
    /// end.
    pub logprobs: Vec<TokenLogprob>,
    /// Set in the last piece.
    pub finish: Option<Finish>,
}

impl Piece {
    /// Puts the next piece after this one.
    pub fn append(&mut self, next: Self) {
        self.text += &next.text;
        self.logprobs.extend(next.logprobs);
        self.finish = next.finish;
    }
}

/// An answer that is made of tokens as they are drawn, up to an end token or a stop string: a piece for each. The pieces'
/// texts, joined, do not depend on how the text is cut into tokens, and no part of a stop string is in them.
#[derive(Debug)]
pub struct Answer<'t> {
    tokenizer: &'t Tokenizer,
    /// `None` when the answer is over.
    detokenizer: Option<Detokenizer<'t>>,
    scanner: StopScanner<'t>,
    pending: Pending,
    n_drawn: usize,
}

impl Tokenizer {
    /// Begins an answer. The stop strings must not be empty.
    pub fn answer<'t>(&'t self, stops: &'t [String]) -> Answer<'t> {
        Answer {
            tokenizer: self,
            detokenizer: Some(self.detokenizer()),
            scanner: StopScanner::new(stops),
            pending: Pending::default(),
            n_drawn: 0,
        }
    }
}

impl Answer<'_> {
    /// How many tokens were drawn so far, an end token included.
    pub fn n_drawn(&self) -> usize {
        self.n_drawn
    }

    /// Whether its last piece was made.
    pub fn is_over(&self) -> bool {
        self.detokenizer.is_none()
    }

    /// Takes the next token and makes its piece; an empty one of an answer that is over.
    ///
    /// # Errors
    /// [`TextError::Decode`]; the answer is then over.
    pub fn push(&mut self, drawn: &Drawn) -> Result<Piece, TextError> {
        let Some(mut detokenizer) = self.detokenizer.take() else { return Ok(Piece::default()) };
        self.n_drawn += 1;
        if self.tokenizer.end_ids().contains(&drawn.token) {
            return self.end(detokenizer, Finish::EndToken);
        }
        if let Some(logprobs) = &drawn.logprobs {
            self.pending.push(self.tokenizer.token_logprob(drawn.token, logprobs)?);
        }
        let text = detokenizer.push(drawn.token)?;
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

    /// The last piece, where no more tokens come; an empty one of an answer that is over.
    ///
    /// # Errors
    /// [`TextError::Decode`]
    pub fn finish(&mut self) -> Result<Piece, TextError> {
        match self.detokenizer.take() {
            Some(detokenizer) => self.end(detokenizer, Finish::Length),
            None => Ok(Piece::default()),
        }
    }

    /// The pieces of tokens that an iterator draws.
    pub fn pieces(
        &mut self,
        mut tokens: impl Iterator<Item = Drawn>,
    ) -> impl Iterator<Item = Result<Piece, TextError>> {
        std::iter::from_fn(move || {
            if self.is_over() {
                return None;
            }
            Some(match tokens.next() {
                Some(drawn) => self.push(&drawn),
                None => self.finish(),
            })
        })
    }

    /// The last piece: what was held back. It can hold a stop string too.
    fn end(&mut self, detokenizer: Detokenizer<'_>, finish: Finish) -> Result<Piece, TextError> {
        let Passed { mut text, stopped } = self.scan(&detokenizer.finish()?);
        if stopped {
            let logprobs = self.pending.take(text.len());
            return Ok(Piece { text, logprobs, finish: Some(Finish::StopString) });
        }
        text += &self.scanner.finish();
        Ok(Piece { text, logprobs: self.pending.take_all(), finish: Some(finish) })
    }

    fn scan(&mut self, text: &str) -> Passed {
        self.pending.n_known += text.len();
        self.scanner.push(text)
    }
}

/// Tokens whose text was not given out yet.
#[derive(Debug, Default)]
struct Pending {
    /// A token and where its text begins, in bytes of the answer.
    tokens: VecDeque<(usize, TokenLogprob)>,
    /// Bytes of text known so far, those held back included.
    n_known: usize,
    /// Bytes given out.
    n_given: usize,
}

impl Pending {
    fn push(&mut self, token: TokenLogprob) {
        self.tokens.push_back((self.n_known, token));
    }

    /// The tokens of the next `n_bytes` that are given out.
    fn take(&mut self, n_bytes: usize) -> Vec<TokenLogprob> {
        self.n_given += n_bytes;
        let given = self.tokens.iter().take_while(|(begin, _)| *begin < self.n_given).count();
        self.tokens.drain(..given).map(|(_, token)| token).collect()
    }

    fn take_all(&mut self) -> Vec<TokenLogprob> {
        self.tokens.drain(..).map(|(_, token)| token).collect()
    }
}

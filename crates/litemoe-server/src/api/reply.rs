use litemoe_text::{Piece, TokenLogprob};

use crate::usage::Usage;

/// How the events of a request are written: whole, or as the data of server-sent events.
pub(crate) trait Reply: Send + 'static {
    /// First data of a stream.
    fn begin(&mut self) -> Vec<String>;

    /// Data of the logprobs of a prompt's tokens after the first.
    fn prompt(&mut self, prompt: usize, scores: &[TokenLogprob]) -> Vec<String>;

    /// Data of a piece of a text, and its finish reason.
    fn piece(&mut self, text: usize, piece: &Piece) -> Vec<String>;

    /// Last data of a stream: token usage, if requested.
    fn end(&mut self, usage: Usage) -> Vec<String>;

    /// The whole answer as JSON. It is written without JSON values in between, which would take many times its memory.
    fn whole(&self, prompts: &[Vec<TokenLogprob>], texts: &[Piece], usage: Usage) -> String;
}

use std::ops::Range;

/// How far back a token attends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionSpan {
    /// To all tokens before it.
    All,
    /// Sliding window of this many tokens, itself included.
    Window(usize),
    /// Chunk of this length: back to the start of the token's chunk.
    Chunk(usize),
}

impl AttentionSpan {
    /// Positions of the keys that the query at a position attends to; the last is its own.
    pub fn keys(self, query: usize) -> Range<usize> {
        let first = match self {
            Self::All => 0,
            Self::Window(window) => (query + 1).saturating_sub(window),
            Self::Chunk(chunk) => query / chunk * chunk,
        };
        first..query + 1
    }
}

use std::collections::BTreeSet;
use std::sync::Arc;

use litemoe_core::{MountedAdapter, Sampling};
use litemoe_text::Grammar;

use crate::apps::Admission;

/// Generation request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Tokens of the prompts, none empty, each fewer than the model's maximum.
    pub(crate) prompts: Vec<Vec<u32>>,
    pub(crate) kind: TextKind,
    /// What the texts must be; `None` for any text.
    pub(crate) grammar: Option<Grammar>,
    /// Special tokens that are part of the texts.
    pub(crate) shown: BTreeSet<u32>,
    pub(crate) mounted: Option<Arc<MountedAdapter>>,
    pub(crate) sampling: Sampling,
    /// Number of texts per prompt.
    pub(crate) n: usize,
    /// Number of alternatives in every token's logprobs; `None`: no logprobs.
    pub(crate) n_top: Option<usize>,
    /// Whether the prompts' tokens have logprobs too.
    pub(crate) scores_prompts: bool,
    /// Maximum number of new tokens per text.
    pub(crate) max_new: usize,
    /// Stop strings, not empty.
    pub(crate) stop: Vec<String>,
    pub(crate) ending: Ending,
    /// Whether it waits while requests that are not in the background run.
    pub(crate) is_background: bool,
    /// The app's admission, to which its tokens are charged; `None` without an app.
    pub(crate) admission: Option<Admission>,
}

/// Which tokens end a text, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Tokens that end it besides the model's own; they are not part of it.
    pub(crate) tokens: BTreeSet<u32>,
    /// Number of tokens before which no token ends it; `usize::MAX`: none ever does.
    pub(crate) min_new: usize,
}

/// What the generated text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextKind {
    /// An answer: what the chat template puts before it is not part of it.
    Answer,
    /// The continuation of a plain text.
    Continuation,
}

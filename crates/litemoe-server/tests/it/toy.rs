//! Scripted language models.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::mpsc;

use burn::tensor::{Device, Tensor};
use litemoe_core::{
    Adapters, CausalLm, Input, LanguageModel, LinearSite, Lora, MoeLayer, MoeModel, MountedAdapter,
    Pass, RowStep, Site, Stream,
};
use litemoe_text::Tokenizer;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The vocabulary of the fixture foundation's tokenizer.
const VOCAB: usize = 4096;
/// Its tokens for single letters and signs.
const LETTERS: std::ops::Range<usize> = 36..94;
/// Its `<|endoftext|>`.
const END: u32 = 0;
/// Its `<|assistant|>`, which ends a prompt.
const ASSISTANT: u32 = 2;
pub(crate) const MAX_TOKENS: usize = 256;

/// The model's output at one step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// This token has probability 1.
    Say(u32),
    /// Every letter is equally likely.
    Babble,
    /// Every token is equally likely, also the end.
    Any,
    /// The letters' logits are a hash of all tokens so far.
    Hash,
    /// The logit of token 7 is NaN.
    Nan,
    /// Panics.
    Panic,
}

/// Follows a script, then ends its text; with an adapter, follows another script.
pub(crate) struct Toy {
    pub(crate) script: Vec<Step>,
    pub(crate) adapted: Vec<Step>,
    pub(crate) gate: Option<Gate>,
}

/// Lets a test observe and block every step.
pub(crate) struct Gate {
    entered: UnboundedSender<()>,
    permits: mpsc::Receiver<()>,
}

/// The test's side of a gate.
pub(crate) struct Keeper {
    pub(crate) entered: UnboundedReceiver<()>,
    /// One permit per step; if dropped, the gate stays open.
    pub(crate) permits: mpsc::Sender<()>,
}

pub(crate) fn gate() -> (Gate, Keeper) {
    let ((entered_in, entered), (permits, permits_out)) = (unbounded_channel(), mpsc::channel());
    (Gate { entered: entered_in, permits: permits_out }, Keeper { entered, permits })
}

impl Toy {
    pub(crate) fn doing(script: Vec<Step>) -> Self {
        Self { script, adapted: Vec::new(), gate: None }
    }

    pub(crate) fn saying(text: &str) -> Self {
        Self::doing(tokens(text).into_iter().map(Step::Say).collect())
    }
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::from_dir(litemoe_fixtures::foundation_dir()).unwrap()
}

pub(crate) fn tokens(text: &str) -> Vec<u32> {
    tokenizer().encode_text(text).unwrap()
}

/// An arbitrary adapter: the toy only checks whether there is one.
pub(crate) fn adapter() -> MountedAdapter {
    let zeros = || Tensor::zeros([1, 1], &Device::flex());
    let toy = (Site::new("toy"), Lora { a: zeros(), b: zeros(), scale: 1.0 });
    Adapters::from_iter([toy]).into()
}

impl MoeModel for Toy {
    fn moe_layers(&self) -> &[MoeLayer] {
        &[]
    }

    fn linear_sites(&self) -> &[LinearSite] {
        &[]
    }
}

impl LanguageModel for Toy {
    fn device(&self) -> Device {
        Device::flex()
    }

    fn vocab(&self) -> usize {
        VOCAB
    }

    fn max_tokens(&self) -> usize {
        MAX_TOKENS
    }

    fn embed(&self, _: &Input) -> Stream {
        unreachable!("a server only continues texts")
    }

    fn n_blocks(&self) -> usize {
        0
    }

    fn block(&self, _: usize, _: Stream, _: &mut Pass<'_>) -> Stream {
        unreachable!("a server only continues texts")
    }

    fn head(&self, _: Tensor<2>, _: &mut Pass<'_>) -> Tensor<2> {
        unreachable!("a server only continues texts")
    }
}

/// The tokens so far.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    tokens: Vec<u32>,
    /// Tokens of the first step: the prompt's, if no token ends it.
    n_first: usize,
}

/// Memory that the toy says a cached token takes.
pub(crate) const BYTES_PER_TOKEN: u64 = 1000;

impl CausalLm for Toy {
    type Cache = Seen;

    fn new_cache(&self) -> Seen {
        Seen::default()
    }

    fn n_cached(&self, seen: &Seen) -> usize {
        seen.tokens.len()
    }

    fn truncate(&self, seen: &mut Seen, n: usize) {
        assert!(n <= seen.tokens.len());
        seen.tokens.truncate(n);
        seen.n_first = 0;
    }

    fn cache_bytes(&self, seen: &Seen) -> u64 {
        // In blocks, as the caches of models.
        seen.tokens.len().next_multiple_of(64) as u64 * BYTES_PER_TOKEN
    }

    fn step(&self, rows: &mut [RowStep<'_, Seen>]) -> Tensor<2> {
        if let Some(gate) = &self.gate {
            // The test may be over.
            let _ = gate.entered.send(());
            let _ = gate.permits.recv();
        }
        Tensor::cat(rows.iter_mut().flat_map(|row| self.row(row)).collect(), 0)
    }
}

impl Toy {
    fn row(&self, row: &mut RowStep<'_, Seen>) -> Vec<Tensor<2>> {
        let RowStep { tokens, cache: seen, mounted, wanted } = row;
        assert!(!tokens.is_empty());
        if seen.n_first == 0 {
            seen.n_first = seen.tokens.len() + tokens.len();
        }
        let steps = tokens.iter().map(|&token| {
            seen.tokens.push(token);
            let n_tokens = seen.tokens.len();
            assert!(n_tokens <= MAX_TOKENS, "{n_tokens} tokens");
            // Its place in the script: the tokens after the prompt.
            let place = seen.tokens.iter().rev().position(|&token| token == ASSISTANT);
            let place = place.or_else(|| n_tokens.checked_sub(seen.n_first));
            let script = if mounted.is_some() { &self.adapted } else { &self.script };
            place.map_or(Step::Babble, |place| script.get(place).copied().unwrap_or(Step::Say(END)))
        });
        let steps: Vec<Step> = steps.collect();
        let wanted = &steps[steps.len() - wanted.n_rows(steps.len())..];
        let begin = seen.tokens.len() - wanted.len();
        let of = |(nth, &step): (usize, &Step)| {
            logits(step, &seen.tokens[..begin + nth + 1]).unsqueeze_dim(0)
        };
        wanted.iter().enumerate().map(of).collect()
    }
}

fn logits(step: Step, tokens: &[u32]) -> Tensor<1> {
    let mut logits = vec![-1e4f32; VOCAB];
    match step {
        Step::Say(token) => logits[token as usize] = 0.0,
        Step::Babble => logits[LETTERS].fill(0.0),
        Step::Any => logits.fill(0.0),
        Step::Hash => {
            for (letter, logit) in LETTERS.zip(&mut logits[LETTERS]) {
                let mut hasher = DefaultHasher::new();
                (letter, tokens).hash(&mut hasher);
                *logit = (hasher.finish() % 1000) as f32 / 500.0;
            }
        }
        Step::Nan => logits[7] = f32::NAN,
        Step::Panic => panic!("as the test wants"),
    }
    Tensor::from_data(logits.as_slice(), &Device::flex())
}

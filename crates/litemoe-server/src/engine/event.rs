use litemoe_core::{ConstraintError, NotFiniteLogit};
use litemoe_text::{Piece, TokenLogprob};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::usage::Usage;

/// Event of a request, from the engine to the submitter.
#[derive(Debug)]
pub(crate) enum Event {
    /// Logprobs of a prompt's tokens, without the first, which has none; before the pieces of its texts. Prompts count
    /// from 0.
    Prompt(usize, Vec<TokenLogprob>),
    /// Next piece of a text. Texts count from 0: those of the first prompt, then those of the next.
    Piece(usize, Piece),
    /// All texts are finished.
    Finished(Usage),
    /// Another client's request took this one's place in the queue.
    Displaced,
    /// The request's deadline has passed.
    Late,
    /// The request was cancelled because its events were not received.
    Unread,
    /// The model's logits for the request are not finite.
    NotFinite(NotFiniteLogit),
    /// The grammar of the request's texts allows none of the model's tokens, or is too complex.
    Constraint(ConstraintError),
    /// Internal failure, not caused by the request; details are in the log.
    Failed,
}

/// How fast the events of a request are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once: the receiver does not depend on the client, so there is room for all of them.
    AtOnce,
    /// As fast as the client reads its stream. The request is cancelled after the maximum of unread events.
    Client,
}

/// Sender of a request's events. It never waits.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    events: mpsc::Sender<Event>,
    is_unread: bool,
}

impl Sender {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, is_unread: false }
    }

    pub(super) fn send(&mut self, event: Event) {
        self.is_unread |= matches!(self.events.try_send(event), Err(TrySendError::Full(_)));
    }

    /// Whether there was no room for an event.
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// Whether the receiver is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.events.is_closed()
    }
}

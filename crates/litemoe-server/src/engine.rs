use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use litemoe_core::{CausalLm, NotFiniteLogit};
use litemoe_text::{Piece, TextError, Tokenizer};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tracing::Span;

use crate::generation::{Listener, Request, Usage, generate};
use crate::queue::{self, Queue};
use crate::turns::Client;
use crate::{ServerError, ServerOptions};

/// Event of a request, from the engine to the submitter.
#[derive(Debug)]
pub(crate) enum Event {
    /// Next piece of a text; texts count from 0.
    Piece(usize, Piece),
    /// All texts are finished.
    Finished(Usage),
    /// Another client's request took this one's place in the queue.
    Displaced,
    /// The request was cancelled because its events were not received.
    Unread,
    /// The model's logits for the request are not finite.
    NotFinite(NotFiniteLogit),
    /// Internal failure, not caused by the request; details are in the log.
    Failed,
}

/// Reason for refusing a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request queue is full.
    Busy,
    /// The engine has stopped.
    Stopped,
}

/// What the engine does when a request's events are not received as fast as it sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Waits: the receiver does not depend on the client.
    Wait,
    /// Cancels the request after the maximum of unread pieces: the client does not read its stream.
    Cancel,
}

#[derive(Debug)]
struct Job {
    request: Request,
    events: Sender,
    /// Span of the request in the log.
    span: Span,
}

#[derive(Debug)]
struct Sender {
    events: mpsc::Sender<Event>,
    pace: Pace,
    is_unread: bool,
}

/// Engine: a thread that owns the model, with a request queue. Requests run one at a time. The thread ends when the
/// engine is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    queue: Arc<Queue<Job>>,
    thread: JoinHandle<()>,
    max_unread: usize,
}

/// Place of a request in the queue.
#[derive(Debug)]
pub(crate) struct Place {
    place: queue::Place<Job>,
    max_unread: usize,
}

/// Events of a request. Dropping it cancels the request, also while it waits.
#[derive(Debug)]
pub(crate) struct Events {
    events: mpsc::Receiver<Event>,
    pace: Pace,
    is_over: bool,
    _place: Place,
}

impl Engine {
    pub(crate) fn start<M>(
        model: M,
        tokenizer: Arc<Tokenizer>,
        options: &ServerOptions,
    ) -> Result<Self, ServerError>
    where
        M: CausalLm + Send + 'static,
    {
        let queue = Queue::<Job>::new(options.max_queued.get());
        let jobs = queue.clone();
        let work = move || {
            while let Some(job) = jobs.next() {
                answer(&model, &tokenizer, job);
            }
        };
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(work);
        let thread = thread.map_err(|reason| ServerError::Thread { reason })?;
        Ok(Self { queue, thread, max_unread: options.max_unread.get() })
    }

    /// Takes a place in the queue, before the request is prepared.
    pub(crate) fn enter(&self, client: Client) -> Result<Place, Refusal> {
        if !self.is_running() {
            return Err(Refusal::Stopped);
        }
        let (place, displaced) = self.queue.enter(client).ok_or(Refusal::Busy)?;
        if let Some(Job { events, .. }) = displaced {
            // It is the first event, so there is room for it, unless the client has disconnected.
            let _ = events.events.try_send(Event::Displaced);
        }
        Ok(Place { place, max_unread: self.max_unread })
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Place {
    /// Submits the request.
    pub(crate) fn submit(self, request: Request, pace: Pace) -> Result<Events, Refusal> {
        // What one step may send: a piece and an end of each text, and the end of all.
        let one_step = request.n.saturating_mul(2).saturating_add(1);
        let max_unread = self.max_unread.max(one_step).min(Semaphore::MAX_PERMITS);
        let (sender, events) = mpsc::channel(max_unread);
        let sender = Sender { events: sender, pace, is_unread: false };
        match self.place.fill(Job { request, events: sender, span: Span::current() }) {
            true => Ok(Events { events, pace, is_over: false, _place: self }),
            false => Err(Refusal::Busy),
        }
    }
}

impl Events {
    /// The next event; `None` after the last, which is no piece.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        let event = self.events.recv().await.unwrap_or(match self.pace {
            Pace::Wait => Event::Failed,
            Pace::Cancel => Event::Unread,
        });
        self.is_over = !matches!(event, Event::Piece(..));
        Some(event)
    }
}

fn answer<M: CausalLm>(model: &M, tokenizer: &Tokenizer, job: Job) {
    let (Job { request, mut events, span }, begin) = (job, Instant::now());
    let _entered = span.enter();
    // A request that makes the model panic must not affect others; a forward pass does not change the model.
    let run = AssertUnwindSafe(|| generate(model, tokenizer, &request, &mut events));
    let last = match catch_unwind(run) {
        Ok(Ok(_)) if events.is_unread => {
            return tracing::warn!(elapsed = ?begin.elapsed(), "the client does not read its stream");
        }
        Ok(Ok(Some(usage))) => {
            tracing::debug!(?usage, elapsed = ?begin.elapsed(), "generated");
            Event::Finished(usage)
        }
        Ok(Ok(None)) => {
            return tracing::debug!(elapsed = ?begin.elapsed(), "cancelled: its connection is gone");
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the generation failed");
            match error {
                TextError::Logits(error) => Event::NotFinite(error),
                _ => Event::Failed,
            }
        }
        Err(_) => {
            tracing::error!("the generation panicked");
            Event::Failed
        }
    };
    events.send(last);
}

impl Sender {
    fn send(&mut self, event: Event) {
        match self.pace {
            // A disconnected client is detected before the next token.
            Pace::Wait => drop(self.events.blocking_send(event)),
            Pace::Cancel => {
                self.is_unread |= matches!(self.events.try_send(event), Err(TrySendError::Full(_)));
            }
        }
    }
}

impl Listener for Sender {
    fn hear(&mut self, text: usize, piece: Piece) {
        self.send(Event::Piece(text, piece));
    }

    fn is_gone(&self) -> bool {
        self.is_unread || self.events.is_closed()
    }
}

//! Engine: a thread that owns the model and answers requests in continuous batches.

mod caches;
mod end;
mod event;
mod prefixes;
mod request;
mod row;
mod running;
mod scheduler;
mod selection;
mod shares;
mod unended;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use litemoe_core::CausalLm;
use litemoe_text::Tokenizer;
use tokio::sync::{Semaphore, mpsc};
use tracing::Span;

pub(crate) use event::{Event, Pace};
pub(crate) use request::{Ending, Request, TextKind};

use crate::client::Client;
use crate::metrics::Metrics;
use crate::queue::{self, Queue};
use crate::{ServerError, ServerOptions};
use event::Sender;
use running::Job;
use scheduler::{Limits, Scheduler};
use selection::StepLimits;

/// Number of logits of scored prompts in one step: 8 MiB in f32.
const SCORED_LOGITS: usize = 1 << 21;

/// Reason for refusing a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request queue is full.
    Busy,
    /// The engine has stopped.
    Stopped,
}

/// Engine with a request queue. The thread ends when the engine is dropped.
#[derive(Debug)]
pub(crate) struct Engine {
    queue: Arc<Queue<Job>>,
    thread: JoinHandle<()>,
    metrics: Arc<Metrics>,
    max_unread: usize,
}

/// Place of a request in the queue.
#[derive(Debug)]
pub(crate) struct Place {
    place: queue::Place<Job>,
    client: Client,
    max_unread: usize,
    begin: Instant,
}

/// Events of a request. Dropping it cancels the request, also while it waits.
#[derive(Debug)]
pub(crate) struct Events {
    events: mpsc::Receiver<Event>,
    pace: Pace,
    is_over: bool,
    _place: queue::Place<Job>,
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
        let limits = Limits {
            step: StepLimits {
                max_rows: options.max_batch.get(),
                max_prefill: options.max_prefill.get(),
                max_prefill_mixed: options.max_prefill_mixed.get(),
                max_scored: (SCORED_LOGITS / model.vocab().max(1)).max(1),
            },
            keeps_prefixes: options.prefix_cache,
            max_cache: options.max_cache,
            deadline: options.deadline,
        };
        let metrics = Arc::new(Metrics::new());
        let counted = metrics.clone();
        let work = move || Scheduler::new(model, &tokenizer, jobs, limits, counted).run();
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(work);
        let thread = thread.map_err(|reason| ServerError::Thread { reason })?;
        Ok(Self { queue, thread, metrics, max_unread: options.max_unread.get() })
    }

    /// Takes a place in the queue, before the request is prepared.
    pub(crate) fn enter(&self, client: Client) -> Result<Place, Refusal> {
        if !self.is_running() {
            return Err(Refusal::Stopped);
        }
        let (place, displaced) = self.queue.enter(client.clone()).ok_or(Refusal::Busy)?;
        if let Some(Job { mut events, .. }) = displaced {
            // It is the first event, so there is room for it.
            events.send(Event::Displaced);
        }
        Ok(Place { place, client, max_unread: self.max_unread, begin: Instant::now() })
    }

    /// Metrics in OpenMetrics' text format.
    pub(crate) fn metrics(&self) -> String {
        self.metrics.requests_waiting.set(self.queue.len() as i64);
        self.metrics.text()
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
        let n_texts = request.prompts.len().saturating_mul(request.n);
        // What one step may send: a piece and an end of each text, the logprobs of each prompt, and the end of all.
        let one_step = n_texts.saturating_mul(2).saturating_add(request.prompts.len() + 1);
        let capacity = match pace {
            Pace::AtOnce => n_texts.saturating_mul(request.max_new).saturating_add(one_step),
            Pace::Client => self.max_unread.max(one_step),
        };
        let (sender, events) = mpsc::channel(capacity.min(Semaphore::MAX_PERMITS));
        let Self { place, client, begin, .. } = self;
        let (events_in, span) = (Sender::new(sender), Span::current());
        match place.fill(Job { client, request, events: events_in, span, begin }) {
            true => Ok(Events { events, pace, is_over: false, _place: place }),
            false => Err(Refusal::Busy),
        }
    }
}

impl Events {
    /// The next event; `None` after the last, which is neither a prompt nor a piece.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        let event = self.events.recv().await.unwrap_or(match self.pace {
            Pace::AtOnce => Event::Failed,
            Pace::Client => Event::Unread,
        });
        self.is_over = !matches!(event, Event::Piece(..) | Event::Prompt(..));
        Some(event)
    }
}

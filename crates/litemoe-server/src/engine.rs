use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use litemoe_core::CausalLm;
use litemoe_text::{Piece, Tokenizer};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::generation::{Listener, Request, Usage, generate};
use crate::{ServerError, ServerOptions};

/// Event of a request, from the engine to the submitter.
#[derive(Debug)]
pub(crate) enum Event {
    /// Next piece of a text; texts count from 0.
    Piece(usize, Piece),
    /// All texts are finished.
    Finished(Usage),
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

struct Job {
    request: Request,
    events: UnboundedSender<Event>,
}

/// Engine: a thread that owns the model, with a request queue. Requests run one at a time, in order of arrival. The
/// thread ends with the last handle. A request whose receiver is dropped is cancelled.
#[derive(Debug)]
pub(crate) struct Engine {
    jobs: mpsc::Sender<Job>,
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
        let (jobs, mut queue) = mpsc::channel::<Job>(options.max_queued.get());
        let work = move || {
            while let Some(job) = queue.blocking_recv() {
                answer(&model, &tokenizer, job);
            }
        };
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(work);
        thread.map_err(|reason| ServerError::Thread { reason })?;
        Ok(Self { jobs })
    }

    /// Adds a request to the queue; its events arrive at the receiver.
    pub(crate) fn submit(&self, request: Request) -> Result<UnboundedReceiver<Event>, Refusal> {
        let (events, receiver) = mpsc::unbounded_channel();
        match self.jobs.try_send(Job { request, events }) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(Refusal::Busy),
            Err(TrySendError::Closed(_)) => Err(Refusal::Stopped),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.jobs.is_closed()
    }
}

fn answer<M: CausalLm>(model: &M, tokenizer: &Tokenizer, job: Job) {
    let (Job { request, mut events }, begin) = (job, Instant::now());
    // A request that makes the model panic must not affect others; a forward pass does not change the model.
    let run = AssertUnwindSafe(|| generate(model, tokenizer, &request, &mut events));
    let last = match catch_unwind(run) {
        Ok(Ok(Some(usage))) => {
            tracing::debug!(?usage, elapsed = ?begin.elapsed(), "answered");
            Event::Finished(usage)
        }
        Ok(Ok(None)) => return tracing::debug!(elapsed = ?begin.elapsed(), "the client went away"),
        Ok(Err(error)) => {
            tracing::error!(%error, "the generation failed");
            Event::Failed
        }
        Err(_) => {
            tracing::error!("the generation panicked");
            Event::Failed
        }
    };
    // The client may have disconnected.
    let _ = events.send(last);
}

impl Listener for UnboundedSender<Event> {
    fn hear(&mut self, text: usize, piece: Piece) {
        // A disconnected client is detected before the next token.
        let _ = self.send(Event::Piece(text, piece));
    }

    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

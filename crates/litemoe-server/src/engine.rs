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

/// What an engine tells whoever submitted a request.
#[derive(Debug)]
pub(crate) enum Event {
    /// The next piece of a text, counted from 0.
    Piece(usize, Piece),
    /// All texts were told.
    Finished(Usage),
    /// Something broke that the request is not to blame for; the log says what.
    Failed,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many are waiting.
    Busy,
    /// The engine does not run any more.
    Stopped,
}

struct Job {
    request: Request,
    events: UnboundedSender<Event>,
}

/// A thread that owns the model and answers requests one at a time, in the order they came. It ends with the last
/// handle. A request whose receiver is dropped is given up.
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

    /// Queues a request; its answer comes through the receiver.
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
    // A request that breaks the model must not take the others down; the model is not changed by a forward pass.
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
    // The client may have gone in the meantime.
    let _ = events.send(last);
}

impl Listener for UnboundedSender<Event> {
    fn hear(&mut self, text: usize, piece: Piece) {
        // Whether anyone still listens is asked before the next token.
        let _ = self.send(Event::Piece(text, piece));
    }

    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

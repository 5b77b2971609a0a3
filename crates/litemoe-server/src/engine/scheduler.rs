use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use litemoe_core::{CausalLm, logits_rows};
use litemoe_text::{TextError, Tokenizer};

use super::end::{End, guarded};
use super::event::Event;
use super::prefixes::Prefixes;
use super::running::{Job, Running};
use super::selection::{Candidate, StepLimits, select};
use super::shares::{Shares, number_of};
use crate::apps::Admission;
use crate::client::Client;
use crate::metrics::{Metrics, Outcome};
use crate::queue::Queue;

/// Limits of the scheduler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) step: StepLimits,
    /// Maximum bytes of all KV caches.
    pub(super) max_cache: u64,
    /// Whether the caches of finished texts are kept.
    pub(super) keeps_prefixes: bool,
    /// Maximum time of a request.
    pub(super) deadline: Option<Duration>,
}

/// Scheduler with continuous batching: requests join and leave the batch between steps. It owns the model.
pub(super) struct Scheduler<'t, M: CausalLm> {
    pub(super) model: M,
    tokenizer: &'t Tokenizer,
    queue: Arc<Queue<Job>>,
    pub(super) limits: Limits,
    pub(super) running: Vec<Running<'t, M::Cache>>,
    pub(super) shares: Shares,
    /// Of the requests in the background, among each other.
    pub(super) background: Shares,
    pub(super) prefixes: Prefixes<M::Cache>,
    /// Most bytes of a cache per token so far.
    pub(super) bytes_per_token: u64,
    pub(super) metrics: Arc<Metrics>,
}

impl<'t, M: CausalLm> Scheduler<'t, M> {
    pub(super) fn new(
        model: M,
        tokenizer: &'t Tokenizer,
        queue: Arc<Queue<Job>>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (running, prefixes) = (Vec::new(), Prefixes::new());
        Self {
            model,
            tokenizer,
            queue,
            limits,
            running,
            shares: Shares::default(),
            background: Shares::default(),
            prefixes,
            bytes_per_token: 0,
            metrics,
        }
    }

    fn shares_of(&mut self, is_background: bool) -> &mut Shares {
        if is_background { &mut self.background } else { &mut self.shares }
    }

    /// Answers requests until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while self.admit() {
            self.settle();
            self.step();
            self.settle();
            self.bound_caches();
            self.report();
        }
    }

    /// Sets the metrics of what runs.
    fn report(&self) {
        let n_rows: usize = self.running.iter().map(|running| running.rows.len()).sum();
        self.metrics.requests_running.set(self.running.len() as i64);
        self.metrics.texts_running.set(n_rows as i64);
        self.metrics.running_cache.set(self.cache_bytes(|_| true) as i64);
        self.metrics.prefix_cache.set(self.prefixes.bytes() as i64);
    }

    /// Takes requests from the queue: as many as have room in the batch, and one of every client that has none there;
    /// those for the background only if there are no others. Waits for one if nothing runs; `false` when the queue is
    /// closed and empty.
    fn admit(&mut self) -> bool {
        loop {
            let n_rows = |background: bool| -> usize {
                let running = self.running.iter();
                running.filter(|it| it.is_background() == background).map(|it| it.rows.len()).sum()
            };
            let (n_front, n_back) = (n_rows(false), n_rows(true));
            let max_rows = self.limits.step.max_rows;
            let in_front = |client: &Client, job: &Job| {
                let has_room = n_front < max_rows || !self.shares.is_running(client);
                !job.request.is_background && has_room
            };
            let in_back = |client: &Client, job: &Job| {
                let has_room = n_back < max_rows || !self.background.is_running(client);
                job.request.is_background && n_front == 0 && has_room
            };
            let next = self.queue.next_if(in_front).or_else(|| self.queue.next_if(in_back));
            let job = match next {
                Some(job) => job,
                None if !self.running.is_empty() => return true,
                None => {
                    let Some(job) = self.queue.next() else { return false };
                    job
                }
            };
            self.begin(job);
        }
    }

    fn begin(&mut self, job: Job) {
        let (client, is_background) = (job.client.clone(), job.request.is_background);
        let (mut events, begin) = (job.events.clone(), job.begin);
        let weight = job.request.admission.as_ref().map_or(NonZeroU32::MIN, Admission::weight);
        match guarded(|| Running::new(&self.model, self.tokenizer, job)) {
            Ok(running) => {
                self.shares_of(is_background).enter(&client, weight);
                self.running.push(running);
            }
            Err(end) => {
                match end {
                    End::Error(error) => tracing::error!(%error, "a request cannot begin"),
                    _ => tracing::error!("the beginning of a request panicked"),
                }
                self.metrics.ended(Outcome::failed, begin.elapsed());
                events.send(Event::Failed);
            }
        }
    }

    /// Ends requests that are finished, late, or whose receiver is gone.
    fn settle(&mut self) {
        let mut index = 0;
        while let Some(running) = self.running.get_mut(index) {
            let (model, prefixes) = (&self.model, &mut self.prefixes);
            let settled = guarded(|| running.settle(model, prefixes));
            let is_late = self.limits.deadline.is_some_and(|time| running.begin.elapsed() > time);
            let end = match settled {
                Err(end) => end,
                Ok(()) if running.events.is_unread() => End::Unread,
                Ok(()) if running.rows.is_empty() => End::Finished,
                Ok(()) if running.events.is_gone() => End::Gone,
                Ok(()) if is_late => End::Late,
                Ok(()) => {
                    index += 1;
                    continue;
                }
            };
            self.end(index, end);
        }
    }

    pub(super) fn end(&mut self, index: usize, end: End) {
        let mut running = self.running.remove(index);
        self.shares_of(running.is_background()).leave(&running.key.client);
        // Before the client learns that its request has ended, and may send the next.
        running.release();
        let _entered = running.span.enter();
        let (elapsed, usage) = (running.begin.elapsed(), running.usage);
        let outcome = match &end {
            End::Finished => Outcome::finished,
            End::Gone | End::Unread => Outcome::cancelled,
            End::Late => Outcome::late,
            End::Error(_) | End::Panicked => Outcome::failed,
        };
        self.metrics.ended(outcome, elapsed);
        let last = match end {
            End::Finished => {
                tracing::debug!(?usage, ?elapsed, "generated");
                Event::Finished(usage)
            }
            End::Gone => return tracing::debug!(?elapsed, "cancelled: its connection is gone"),
            End::Unread => return tracing::warn!(?elapsed, "the client does not read its stream"),
            End::Late => {
                tracing::debug!(?elapsed, "cancelled: its deadline has passed");
                Event::Late
            }
            End::Error(error) => {
                tracing::error!(%error, "the generation failed");
                match error {
                    TextError::Logits(error) => Event::NotFinite(error),
                    TextError::Constraint(error) => Event::Constraint(error),
                    _ => Event::Failed,
                }
            }
            End::Panicked => {
                tracing::error!("the generation panicked");
                Event::Failed
            }
        };
        running.events.send(last);
    }

    /// Runs one batched step.
    fn step(&mut self) {
        self.choose();
        let chosen = |running: &Running<'_, M::Cache>| {
            running.rows.iter().filter(|row| row.is_chosen()).count()
        };
        let n_rows: usize = self.running.iter().map(chosen).sum();
        if n_rows == 0 {
            return;
        }
        self.metrics.steps.inc();
        self.metrics.rows.inc_by(n_rows as u64);
        let (model, running) = (&self.model, &mut self.running);
        // A request that makes the model panic must not affect others; a forward pass does not change the model.
        let logits = catch_unwind(AssertUnwindSafe(|| {
            let steps = running.iter_mut().flat_map(|running| {
                let mounted = running.key.mounted.as_deref();
                running.rows.iter_mut().filter_map(move |row| row.step(mounted))
            });
            logits_rows(model.step(&mut steps.collect::<Vec<_>>()))
        }));
        match logits {
            Ok(logits) => self.advance(logits),
            Err(_) if n_rows > 1 => self.isolate(),
            Err(_) => {
                let index = self.running.iter().position(|running| chosen(running) > 0);
                self.end(index.unwrap_or(0), End::Panicked);
            }
        }
    }

    /// Chooses the rows of the next step.
    fn choose(&mut self) {
        let in_front = self.running.iter().any(|running| !running.is_background());
        self.open_rows(in_front);
        let (mut candidates, mut places) = (Vec::new(), Vec::new());
        let mut clients: Vec<&Client> = Vec::new();
        for (index, running) in self.running.iter().enumerate() {
            if running.is_background() && in_front {
                continue;
            }
            let client = number_of(&mut clients, &running.key.client);
            let rows = running.rows.iter().enumerate().filter(|(_, row)| row.has_cache());
            for (place, row) in rows.filter(|(_, row)| row.n_left() > 0) {
                let (n_left, decodes) = (row.n_left(), row.decodes());
                let (scored, alone) = (row.is_scored(), row.alone);
                candidates.push(Candidate { client, n_left, decodes, scored, alone });
                places.push((index, place));
            }
        }
        let shares = if in_front { &mut self.shares } else { &mut self.background };
        let mut served: Vec<_> = clients.iter().map(|client| shares.of(client)).collect();
        for (candidate, n_tokens) in select(&candidates, &mut served, self.limits.step) {
            let (index, place) = places[candidate];
            let Running { key, rows, .. } = &mut self.running[index];
            rows[place].choose(n_tokens);
            let (n_prompt, n_sampled) =
                if candidates[candidate].decodes { (0, 1) } else { (n_tokens, 0) };
            self.metrics.prompt_tokens.inc_by(n_prompt as u64);
            shares.charge(&key.client, n_prompt, n_sampled);
        }
    }

    /// Hands each row of the step its logits.
    fn advance(&mut self, logits: Vec<Vec<f32>>) {
        let mut logits = logits.into_iter();
        let mut failed = Vec::new();
        for (index, running) in self.running.iter_mut().enumerate() {
            for place in 0..running.rows.len() {
                let n_logits = running.rows[place].n_logits();
                let own: Vec<_> = logits.by_ref().take(n_logits).collect();
                if n_logits == 0 {
                    continue;
                }
                match guarded(|| running.advance(place, &own)) {
                    Ok(false) => {}
                    Ok(true) => {
                        self.metrics.completion_tokens.inc();
                        if running.is_first_token() {
                            self.metrics.first_token(running.begin.elapsed());
                        }
                    }
                    Err(end) => failed.push((index, end)),
                }
            }
        }
        // From the last, so that the others keep their indices.
        failed.dedup_by_key(|(index, _)| *index);
        for (index, end) in failed.into_iter().rev() {
            self.end(index, end);
        }
    }

    /// After a panic of a step with several rows: each of them begins again, alone, so that the one at fault fails alone.
    fn isolate(&mut self) {
        let rows = self.running.iter_mut().flat_map(|running| &mut running.rows);
        for row in rows.filter(|row| row.is_chosen()) {
            row.drop_cache();
            row.alone = true;
        }
    }
}

impl<M: CausalLm> Drop for Scheduler<'_, M> {
    /// Requests that wait find that no more events come.
    fn drop(&mut self) {
        self.queue.clear();
    }
}

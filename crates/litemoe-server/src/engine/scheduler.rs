use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use litemoe_core::{CausalLm, logits_rows};
use litemoe_text::{TextError, Tokenizer};

use super::event::Event;
use super::prefixes::Prefixes;
use super::running::{Job, Running};
use super::selection::{Candidate, StepLimits, select};
use super::shares::Shares;
use crate::metrics::{Metrics, Outcome};
use crate::queue::Queue;
use crate::turns::Client;

/// Limits of the scheduler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) step: StepLimits,
    /// Maximum bytes of all KV caches.
    pub(super) max_cache: u64,
    /// Maximum time of a request.
    pub(super) deadline: Option<Duration>,
}

/// Scheduler with continuous batching: requests join and leave the batch between steps. It owns the model.
pub(super) struct Scheduler<'t, M: CausalLm> {
    model: M,
    tokenizer: &'t Tokenizer,
    queue: Arc<Queue<Job>>,
    limits: Limits,
    running: Vec<Running<'t, M::Cache>>,
    shares: Shares,
    prefixes: Prefixes<M::Cache>,
    /// Most bytes of a cache per token so far.
    bytes_per_token: u64,
    metrics: Arc<Metrics>,
}

/// How a request ends.
enum End {
    Finished,
    Gone,
    Unread,
    Late,
    Error(TextError),
    Panicked,
}

impl<'t, M: CausalLm> Scheduler<'t, M> {
    pub(super) fn new(
        model: M,
        tokenizer: &'t Tokenizer,
        queue: Arc<Queue<Job>>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (running, shares, prefixes) = (Vec::new(), Shares::default(), Prefixes::new());
        Self {
            model,
            tokenizer,
            queue,
            limits,
            running,
            shares,
            prefixes,
            bytes_per_token: 0,
            metrics,
        }
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
        self.metrics.running_cache.set(self.cache_bytes() as i64);
        self.metrics.prefix_cache.set(self.prefixes.bytes() as i64);
    }

    /// Takes requests from the queue: as many as have room in the batch, and one of every client that has none there.
    /// Waits for one if nothing runs; `false` when the queue is closed and empty.
    fn admit(&mut self) -> bool {
        loop {
            let n_rows: usize = self.running.iter().map(|running| running.rows.len()).sum();
            let job = if self.running.is_empty() {
                let Some(job) = self.queue.next() else { return false };
                job
            } else {
                let (has_room, shares) = (n_rows < self.limits.step.max_rows, &self.shares);
                let fits = |client: &Client| has_room || !shares.is_running(client);
                let Some(job) = self.queue.next_if(fits) else { return true };
                job
            };
            self.shares.enter(&job.client);
            self.running.push(Running::new(&self.model, self.tokenizer, job));
        }
    }

    /// Ends requests that are finished, late, or whose receiver is gone.
    fn settle(&mut self) {
        let mut index = 0;
        while let Some(running) = self.running.get_mut(index) {
            let settled = running.settle(&self.model, &mut self.prefixes);
            let is_late = self.limits.deadline.is_some_and(|time| running.begin.elapsed() > time);
            let end = match settled {
                Err(error) => End::Error(error),
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

    fn end(&mut self, index: usize, end: End) {
        let mut running = self.running.remove(index);
        self.shares.leave(&running.key.client);
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
        let in_foreground = self.running.iter().any(|running| !running.is_background());
        let mut n_bytes: u64 = self.cache_bytes();
        let (mut candidates, mut places) = (Vec::new(), Vec::new());
        let mut clients: Vec<&Client> = Vec::new();
        for (index, running) in self.running.iter().enumerate() {
            if running.is_background() && in_foreground {
                continue;
            }
            let client = clients.iter().position(|&client| *client == running.key.client);
            let client = client.unwrap_or_else(|| {
                clients.push(&running.key.client);
                clients.len() - 1
            });
            for (place, row) in running.rows.iter().enumerate() {
                if !row.has_cache() {
                    let bytes = self.bytes_per_token * row.tokens.len() as u64;
                    if n_bytes > 0 && n_bytes + bytes > self.limits.max_cache {
                        continue;
                    }
                    n_bytes += bytes;
                }
                let (n_left, decodes, alone) = (row.n_left(), row.decodes(), row.alone);
                candidates.push(Candidate { client, n_left, decodes, alone });
                places.push((index, place));
            }
        }
        let mut failed = Vec::new();
        let mut served: Vec<_> = clients.iter().map(|client| self.shares.of(client)).collect();
        for (candidate, n_tokens) in select(&candidates, &mut served, self.limits.step) {
            let (index, place) = places[candidate];
            let Running { key, rows, usage, .. } = &mut self.running[index];
            let row = &mut rows[place];
            let (model, prefixes) = (&self.model, &mut self.prefixes);
            // An encoder runs here.
            let chosen =
                catch_unwind(AssertUnwindSafe(|| row.choose(model, prefixes, key, n_tokens)));
            match chosen {
                Ok(n_cached) => {
                    usage.n_cached += n_cached;
                    self.metrics.cached_tokens.inc_by(n_cached as u64);
                }
                Err(_) => failed.push(index),
            }
            let (n_prompt, n_sampled) = if row.decodes() { (0, 1) } else { (n_tokens, 0) };
            self.metrics.prompt_tokens.inc_by(row.n_chosen().saturating_sub(n_sampled) as u64);
            self.shares.charge(&key.client, n_prompt, n_sampled);
        }
        failed.sort_unstable();
        failed.dedup();
        for index in failed.into_iter().rev() {
            self.end(index, End::Panicked);
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
                match running.advance(place, &own) {
                    Ok(false) => {}
                    Ok(true) => {
                        self.metrics.completion_tokens.inc();
                        if running.is_first_token() {
                            self.metrics.first_token(running.begin.elapsed());
                        }
                    }
                    Err(error) => failed.push((index, error)),
                }
            }
        }
        // From the last, so that the others keep their indices.
        failed.dedup_by_key(|(index, _)| *index);
        for (index, error) in failed.into_iter().rev() {
            self.end(index, End::Error(error));
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

    fn cache_bytes(&self) -> u64 {
        let rows = self.running.iter().flat_map(|running| &running.rows);
        rows.map(|row| row.cache_bytes(&self.model)).sum()
    }

    /// Keeps the caches within their memory: drops prefixes, then caches of rows, the newest of the client that has the
    /// most. Those rows run their tokens again when there is room (preemption by recomputation). The oldest row keeps its cache.
    fn bound_caches(&mut self) {
        let model = &self.model;
        let rows = || self.running.iter().flat_map(|running| &running.rows);
        let per_token =
            rows().map(|row| row.cache_bytes(model).div_ceil(row.tokens.len().max(1) as u64)).max();
        self.bytes_per_token = self.bytes_per_token.max(per_token.unwrap_or(0));
        let mut n_bytes = self.cache_bytes();
        while n_bytes > self.limits.max_cache {
            let of = |client: &Client| {
                let own = self.running.iter().filter(|running| running.key.client == *client);
                own.flat_map(|running| &running.rows)
                    .map(|row| row.cache_bytes(&self.model))
                    .sum::<u64>()
            };
            let most = self.running.iter().map(|running| of(&running.key.client)).max();
            let of_most = |running: &&Running<'_, M::Cache>| Some(of(&running.key.client)) == most;
            let places = self.running.iter().enumerate().filter(|(_, running)| of_most(running));
            let places = places.flat_map(|(index, running)| {
                let rows = running.rows.iter().enumerate().filter(|(_, row)| row.has_cache());
                rows.map(move |(place, _)| (index, place))
            });
            let n_caches =
                self.running.iter().flat_map(|running| &running.rows).filter(|row| row.has_cache());
            let (victim, n_caches) = (places.last(), n_caches.count());
            let Some((index, place)) = victim.filter(|_| n_caches > 1) else { break };
            let row = &mut self.running[index].rows[place];
            n_bytes -= row.cache_bytes(&self.model);
            row.drop_cache();
            self.metrics.preemptions.inc();
        }
        self.prefixes.shrink(self.limits.max_cache.saturating_sub(n_bytes));
    }
}

//! The memory of KV caches: which rows have one.

use litemoe_core::CausalLm;

use super::end::{End, guarded};
use super::row::Row;
use super::running::Running;
use super::scheduler::Scheduler;
use super::shares::number_of;
use crate::client::Client;

impl<'t, M: CausalLm> Scheduler<'t, M> {
    /// Gives caches to rows that have none, while there is memory: those of the client first that was served the least,
    /// then in order of arrival. The first that does not fit waits until it does, and so do those behind it; but the
    /// first of all always fits.
    pub(super) fn open_rows(&mut self, in_front: bool) {
        let mut closed = Vec::new();
        for (index, running) in self.running.iter().enumerate() {
            if running.is_background() && in_front {
                continue;
            }
            let shares = if running.is_background() { &self.background } else { &self.shares };
            let served = (running.is_background(), shares.of(&running.key.client).order());
            let rows = running.rows.iter().enumerate().filter(|(_, row)| !row.has_cache());
            closed.extend(rows.map(|(place, _)| (served, index, place)));
        }
        closed.sort();
        let mut n_bytes = self.cache_bytes(|_| true);
        let mut failed = Vec::new();
        for (_, index, place) in closed {
            let bytes = self.bytes_of(&self.running[index].rows[place]);
            let max_bytes = self.limits.max_cache;
            let fits = |n_bytes: u64| n_bytes == 0 || n_bytes + bytes <= max_bytes;
            if !fits(n_bytes) && in_front {
                let in_back = self.cache_bytes(Running::is_background);
                self.drop_background();
                n_bytes -= in_back;
            }
            if !fits(n_bytes) {
                break;
            }
            n_bytes += bytes;
            let Running { key, rows, .. } = &mut self.running[index];
            let (model, prefixes, row) = (&self.model, &mut self.prefixes, &mut rows[place]);
            // An encoder runs here.
            match guarded(|| Ok(row.open(model, prefixes, key))) {
                Ok(n_cached) => {
                    self.running[index].note_cached(n_cached);
                    self.metrics.cached_tokens.inc_by(n_cached as u64);
                }
                Err(_) => failed.push(index),
            }
        }
        failed.sort_unstable();
        failed.dedup();
        for index in failed.into_iter().rev() {
            self.end(index, End::Panicked);
        }
    }

    /// Drops the caches of requests in the background.
    fn drop_background(&mut self) {
        let background = self.running.iter_mut().filter(|running| running.is_background());
        for row in background.flat_map(|running| &mut running.rows).filter(|row| row.has_cache()) {
            row.drop_cache();
            self.metrics.preemptions.inc();
        }
    }

    /// Memory that a row needs for its keys and values, also of tokens that are not run yet.
    fn bytes_of(&self, row: &Row<'_, M::Cache>) -> u64 {
        row.n_memory().saturating_mul(self.bytes_per_token)
    }

    /// Memory that the rows with a cache need, of some requests.
    pub(super) fn cache_bytes(&self, of: impl Fn(&Running<'t, M::Cache>) -> bool) -> u64 {
        let rows = self.running.iter().filter(|running| of(running)).flat_map(|it| &it.rows);
        rows.filter(|row| row.has_cache()).map(|row| self.bytes_of(row)).sum()
    }

    /// Keeps the caches within their memory: drops prefixes, then caches of rows, the newest of the client that has the
    /// most. Those rows run their tokens again when there is room (preemption by recomputation). The oldest row keeps its
    /// cache.
    pub(super) fn bound_caches(&mut self) {
        let mut rows = self.running.iter().flat_map(|running| &running.rows);
        if let Some(bytes) = rows.find_map(|row| row.bytes_per_token(&self.model)) {
            self.bytes_per_token = self.bytes_per_token.max(bytes);
        }
        let mut n_bytes = self.cache_bytes(|_| true);
        if n_bytes > self.limits.max_cache {
            n_bytes = self.preempt(n_bytes);
        }
        let left = if self.limits.keeps_prefixes { self.limits.max_cache } else { 0 };
        self.prefixes.shrink(left.saturating_sub(n_bytes));
    }

    /// Drops caches of rows until they need at most the maximum; returns what they need then.
    fn preempt(&mut self, mut n_bytes: u64) -> u64 {
        let (mut caches, mut of_clients) = (Vec::new(), Vec::new());
        let mut clients: Vec<&Client> = Vec::new();
        for (index, running) in self.running.iter().enumerate() {
            let client = number_of(&mut clients, &running.key.client);
            of_clients.resize(clients.len(), 0);
            for (place, row) in running.rows.iter().enumerate().filter(|(_, row)| row.has_cache()) {
                let bytes = self.bytes_of(row);
                of_clients[client] += bytes;
                caches.push((index, place, client, bytes));
            }
        }
        while n_bytes > self.limits.max_cache {
            // Not the oldest of all.
            let others = caches.iter().enumerate().skip(1);
            let victim = others.max_by_key(|(at, (_, _, client, _))| (of_clients[*client], *at));
            let Some((at, &(index, place, client, bytes))) = victim else { break };
            caches.remove(at);
            of_clients[client] -= bytes;
            n_bytes -= bytes;
            self.running[index].rows[place].drop_cache();
            self.metrics.preemptions.inc();
        }
        n_bytes
    }
}

use std::sync::Arc;

use litemoe_core::{CausalLm, MountedAdapter};

use crate::client::{Client, Peer};

/// Minimum number of tokens of a prefix that is worth an entry.
const MIN_TOKENS: usize = 16;

/// Prefix cache: KV caches of finished texts, from which texts that begin with the same tokens continue. An entry serves
/// only the client that made it, and only with the same mounted adapter, so that nobody learns from the time of an
/// answer what another one asked.
#[derive(Debug)]
pub(super) struct Prefixes<C> {
    /// The least recently used first.
    entries: Vec<Entry<C>>,
}

#[derive(Debug)]
struct Entry<C> {
    key: Key,
    tokens: Vec<u32>,
    cache: C,
    bytes: u64,
}

/// Whose keys and values they are, and of which adapter. An adapter that is replaced is another one.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) client: Client,
    pub(super) mounted: Option<Arc<MountedAdapter>>,
    /// Maximum bytes of all entries of the client's app, if it has a limit.
    pub(super) max_bytes: Option<u64>,
}

impl Key {
    fn is(&self, other: &Self) -> bool {
        let same_adapter = match (&self.mounted, &other.mounted) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same_adapter && self.client == other.client
    }
}

impl<C: Clone> Prefixes<C> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Memory of all entries.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// The cache with the longest common prefix of a text's tokens, cut there, and the prefix's length. At least the
    /// text's last token is left to run.
    pub(super) fn find<M: CausalLm<Cache = C>>(
        &mut self,
        model: &M,
        key: &Key,
        tokens: &[u32],
    ) -> Option<(C, usize)> {
        let own = self.entries.iter().enumerate().filter(|(_, entry)| entry.key.is(key));
        let lengths = own.map(|(index, entry)| (common(&entry.tokens, tokens), index));
        let (common, index) = lengths.max()?;
        let n = common.min(tokens.len() - 1);
        if n < MIN_TOKENS {
            return None;
        }
        let entry = self.entries.remove(index);
        let mut cache = entry.cache.clone();
        self.entries.push(entry);
        model.truncate(&mut cache, n);
        Some((cache, n))
    }

    /// Keeps the cache of a text, of its first tokens. Entries that are prefixes of it are dropped, and so are the least
    /// recently used of its app while they take more than its limit.
    pub(super) fn insert<M: CausalLm<Cache = C>>(
        &mut self,
        model: &M,
        key: Key,
        mut tokens: Vec<u32>,
        cache: C,
    ) {
        tokens.truncate(model.n_cached(&cache));
        if tokens.len() < MIN_TOKENS {
            return;
        }
        self.entries.retain(|entry| !(entry.key.is(&key) && tokens.starts_with(&entry.tokens)));
        let is_known = |entry: &Entry<C>| entry.key.is(&key) && entry.tokens.starts_with(&tokens);
        if self.entries.iter().any(is_known) {
            return;
        }
        let (bytes, max_bytes, peer) =
            (model.cache_bytes(&cache), key.max_bytes, key.client.peer.clone());
        self.entries.push(Entry { key, tokens, cache, bytes });
        let Some(max_bytes) = max_bytes else { return };
        while self.bytes_of(&peer) > max_bytes {
            let oldest = self.entries.iter().position(|entry| entry.key.client.peer == peer);
            let Some(oldest) = oldest else { return };
            self.entries.remove(oldest);
        }
    }

    fn bytes_of(&self, peer: &Peer) -> u64 {
        let own = self.entries.iter().filter(|entry| entry.key.client.peer == *peer);
        own.map(|entry| entry.bytes).sum()
    }

    /// Drops entries until all take at most `max` bytes: always the least recently used one of the app or address whose
    /// entries take the most, and there of the model whose do, so that a flood of one client takes away none of another
    /// that has less.
    pub(super) fn shrink(&mut self, max: u64) {
        while self.bytes() > max {
            let of_client = |client: &Client| {
                let own = self.entries.iter().filter(|entry| entry.key.client == *client);
                own.map(|entry| entry.bytes).sum::<u64>()
            };
            let of = |client: &Client| (self.bytes_of(&client.peer), of_client(client));
            let most = self.entries.iter().map(|entry| of(&entry.key.client)).max();
            let victim = self.entries.iter().position(|entry| Some(of(&entry.key.client)) == most);
            let Some(victim) = victim else { return };
            self.entries.remove(victim);
        }
    }
}

/// Length of the common prefix.
fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

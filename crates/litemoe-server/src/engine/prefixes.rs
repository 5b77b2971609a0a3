use std::sync::{Arc, Weak};

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
    client: Client,
    /// Not kept in memory by the entry, which is of no use without it.
    mounted: Option<Weak<MountedAdapter>>,
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

impl<C> Entry<C> {
    fn is_of(&self, key: &Key) -> bool {
        let same_adapter = match (&self.mounted, &key.mounted) {
            (None, None) => true,
            // The address is not used again while the entry is there.
            (Some(one), Some(other)) => Weak::as_ptr(one) == Arc::as_ptr(other),
            _ => false,
        };
        same_adapter && self.client == key.client
    }

    /// Whether its adapter is gone, so that no text can continue from it.
    fn is_dead(&self) -> bool {
        self.mounted.as_ref().is_some_and(|mounted| mounted.strong_count() == 0)
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
        let own = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_of(key));
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
        let is_prefix = |entry: &Entry<C>| entry.is_of(&key) && tokens.starts_with(&entry.tokens);
        self.entries.retain(|entry| !(entry.is_dead() || is_prefix(entry)));
        let is_known = |entry: &Entry<C>| entry.is_of(&key) && entry.tokens.starts_with(&tokens);
        if self.entries.iter().any(is_known) {
            return;
        }
        let bytes = model.cache_bytes(&cache);
        let Key { client, mounted, max_bytes } = key;
        let (mounted, peer) = (mounted.as_ref().map(Arc::downgrade), client.peer.clone());
        self.entries.push(Entry { client, mounted, tokens, cache, bytes });
        let Some(max_bytes) = max_bytes else { return };
        while self.bytes_of(&peer) > max_bytes {
            let oldest = self.entries.iter().position(|entry| entry.client.peer == peer);
            let Some(oldest) = oldest else { return };
            self.entries.remove(oldest);
        }
    }

    fn bytes_of(&self, peer: &Peer) -> u64 {
        let own = self.entries.iter().filter(|entry| entry.client.peer == *peer);
        own.map(|entry| entry.bytes).sum()
    }

    /// Drops entries until all take at most `max` bytes: always the least recently used one of the app or address whose
    /// entries take the most, and there of the model whose do, so that a flood of one client takes away none of another
    /// that has less.
    pub(super) fn shrink(&mut self, max: u64) {
        self.entries.retain(|entry| !entry.is_dead());
        while self.bytes() > max {
            let of_client = |client: &Client| {
                let own = self.entries.iter().filter(|entry| entry.client == *client);
                own.map(|entry| entry.bytes).sum::<u64>()
            };
            let of = |client: &Client| (self.bytes_of(&client.peer), of_client(client));
            let most = self.entries.iter().map(|entry| of(&entry.client)).max();
            let victim = self.entries.iter().position(|entry| Some(of(&entry.client)) == most);
            let Some(victim) = victim else { return };
            self.entries.remove(victim);
        }
    }
}

/// Length of the common prefix.
fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

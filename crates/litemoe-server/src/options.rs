use std::num::NonZeroUsize;
use std::time::Duration;

use litemoe_core::{PREFILL_CHUNK, Sampling};

use crate::{RequestLimits, Secret, Timeouts};

/// Server options.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Request queue: maximum number of waiting requests; further ones get 503.
    pub max_queued: NonZeroUsize,
    /// Maximum number of texts that decode in one batched step. Requests are admitted to the batch while there are
    /// fewer; a client that has none in it is always admitted, and texts then take turns.
    pub max_batch: NonZeroUsize,
    /// Maximum number of prompt tokens in one step.
    pub max_prefill: NonZeroUsize,
    /// The same in a step in which other texts decode, which wait for it.
    pub max_prefill_mixed: NonZeroUsize,
    /// Maximum bytes of all KV caches, prefixes of finished texts included. A single text may exceed it.
    pub max_cache: u64,
    /// Whether a prompt is continued from the keys and values of an earlier text of the same client and model. Where no keys
    /// are asked for, clients are told apart by their addresses: without it, those behind one proxy cannot learn of each other's prompts from
    /// `cached_tokens` or the time of an answer.
    pub prefix_cache: bool,
    /// Maximum time from a request's arrival to the end of its answer; then it is cancelled, with 503. `None`: no limit.
    pub deadline: Option<Duration>,
    /// Maximum bytes of all request bodies in memory; a request that would exceed it gets 503. A quarter is for bodies of
    /// at most 64 KiB.
    pub max_in_flight: usize,
    /// Whether `/metrics` is served: to any client that sends `metrics_token`, or to all if there is none and no keys are
    /// asked for.
    pub metrics: bool,
    /// Bearer token for `/metrics`.
    pub metrics_token: Option<Secret>,
    /// Maximum number of adapters of the registry in memory; the least recently used one makes room.
    pub max_adapters: NonZeroUsize,
    /// Maximum bytes of the files of these adapters; a single one may have more.
    pub max_adapter_bytes: u64,
    /// Maximum bytes of all files of one upload, which are written to the disk as they arrive.
    pub max_upload: u64,
    /// Maximum number of open connections; further ones are accepted when one closes.
    pub max_connections: NonZeroUsize,
    /// Values of the sampling parameters that a request does not have.
    pub sampling: Sampling,
    /// Limits of one request.
    pub limits: RequestLimits,
    /// Time-outs of a connection.
    pub timeouts: Timeouts,
    /// Maximum number of tokens of a request, of all its texts together, that wait for a client that reads its stream
    /// slowly; the request is cancelled. At least those of one step wait.
    pub max_unread: NonZeroUsize,
    /// `Retry-After` of a 503 answer; whole seconds.
    pub retry_after: Duration,
    /// Idle time of a server-sent event stream before `: ping` is sent.
    pub keep_alive: Duration,
    /// Served `Host` names or addresses, each with or without a port, in addition to the loopback ones; `*` is any. If
    /// empty, a server that does not listen on a loopback address serves any.
    pub allowed_hosts: Vec<String>,
    /// Served `Origin` headers, such as `https://app.example`, in addition to the server's own; `*` is any.
    pub allowed_origins: Vec<String>,
}

impl Default for ServerOptions {
    /// Greedy decoding, 64 waiting requests, 32 texts and 512 prompt tokens in a step, 128 with texts that decode, 256 MiB
    /// of KV caches, prefixes kept, no deadline, no metrics, 64 adapters and 1 GiB of them in memory, 64 MiB of bodies and of an upload, 4096 connections, 1024 unread tokens, retry after 1 second, ping after 15
    /// seconds, loopback hosts, own origin.
    fn default() -> Self {
        Self {
            max_queued: NonZeroUsize::new(64).expect("64 is not zero"),
            max_batch: NonZeroUsize::new(32).expect("32 is not zero"),
            max_prefill: NonZeroUsize::new(PREFILL_CHUNK).expect("a chunk has tokens"),
            max_prefill_mixed: NonZeroUsize::new(128).expect("128 is not zero"),
            max_cache: 256 << 20,
            prefix_cache: true,
            deadline: None,
            metrics: false,
            metrics_token: None,
            max_adapters: NonZeroUsize::new(64).expect("64 is not zero"),
            max_adapter_bytes: 1 << 30,
            max_in_flight: 64 << 20,
            max_upload: 64 << 20,
            max_connections: NonZeroUsize::new(4096).expect("4096 is not zero"),
            max_unread: NonZeroUsize::new(1024).expect("1024 is not zero"),
            sampling: Sampling::default(),
            limits: RequestLimits::default(),
            timeouts: Timeouts::default(),
            retry_after: Duration::from_secs(1),
            keep_alive: Duration::from_secs(15),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

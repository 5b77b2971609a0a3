use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Metrics of a server, for Prometheus. Totals of all clients alone: nothing tells one client from another.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Ended, Counter>,
    pub(crate) requests_waiting: Gauge,
    pub(crate) requests_running: Gauge,
    pub(crate) texts_running: Gauge,
    pub(crate) prompt_tokens: Counter,
    pub(crate) cached_tokens: Counter,
    pub(crate) completion_tokens: Counter,
    pub(crate) steps: Counter,
    pub(crate) rows: Counter,
    pub(crate) preemptions: Counter,
    pub(crate) running_cache: Gauge,
    pub(crate) prefix_cache: Gauge,
    first_token: Histogram,
    duration: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: Outcome,
}

/// How a request to the engine has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "as labels are written")]
pub(crate) enum Outcome {
    finished,
    cancelled,
    late,
    failed,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // Seconds: from a short answer of a small model to a long one of a large one.
        let seconds = || Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]);
        let mut metrics = Self {
            registry: Registry::with_prefix("litemoe"),
            requests: Family::default(),
            requests_waiting: Gauge::default(),
            requests_running: Gauge::default(),
            texts_running: Gauge::default(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            completion_tokens: Counter::default(),
            steps: Counter::default(),
            rows: Counter::default(),
            preemptions: Counter::default(),
            running_cache: Gauge::default(),
            prefix_cache: Gauge::default(),
            first_token: seconds(),
            duration: seconds(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let all = &mut self.registry;
        all.register("requests", "Requests that have ended, by how", self.requests.clone());
        all.register("requests_waiting", "Requests in the queue", self.requests_waiting.clone());
        all.register("requests_running", "Requests being answered", self.requests_running.clone());
        all.register("texts_running", "Prompts and texts in the batch", self.texts_running.clone());
        let tokens = "Prompt tokens that were run";
        all.register("prompt_tokens", tokens, self.prompt_tokens.clone());
        let tokens = "Prompt tokens whose keys and values were cached";
        all.register("cached_tokens", tokens, self.cached_tokens.clone());
        all.register(
            "completion_tokens",
            "Tokens that were sampled",
            self.completion_tokens.clone(),
        );
        all.register("steps", "Batched steps", self.steps.clone());
        all.register("step_rows", "Rows of all batched steps", self.rows.clone());
        let preempted = "KV caches of running texts that were dropped, to be computed again";
        all.register("preemptions", preempted, self.preemptions.clone());
        let (bytes, caches) = (Unit::Bytes, "KV caches of running texts");
        all.register_with_unit("running_cache", caches, bytes, self.running_cache.clone());
        let (bytes, caches) = (Unit::Bytes, "KV caches of finished texts");
        all.register_with_unit("prefix_cache", caches, bytes, self.prefix_cache.clone());
        let (seconds, time) = (Unit::Seconds, "From a request's arrival to its first token");
        all.register_with_unit("time_to_first_token", time, seconds, self.first_token.clone());
        let (seconds, time) = (Unit::Seconds, "From a request's arrival to the end of its answer");
        all.register_with_unit("request_duration", time, seconds, self.duration.clone());
    }

    pub(crate) fn first_token(&self, time: Duration) {
        self.first_token.observe(time.as_secs_f64());
    }

    pub(crate) fn ended(&self, outcome: Outcome, time: Duration) {
        self.requests.get_or_create(&Ended { outcome }).inc();
        self.duration.observe(time.as_secs_f64());
    }

    /// All metrics in OpenMetrics' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }
}

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::generation::{FinishReason, Finished};

/// What all parts of an answer say of themselves.
#[derive(Debug)]
pub(crate) struct Answer {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
}

impl Answer {
    pub(crate) fn new(model: String, include_usage: bool) -> Self {
        let id = format!("chatcmpl-{:016x}", RandomState::new().build_hasher().finish());
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self { id, created, model, include_usage }
    }

    /// The answer in one.
    pub(crate) fn whole(&self, text: &str, finished: Finished) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text },
                "logprobs": null,
                "finish_reason": reason(finished.reason),
            }],
            "usage": usage(finished),
        })
    }

    /// The first chunk of a stream: who speaks.
    pub(crate) fn begin(&self) -> Value {
        self.choice(&json!({ "role": "assistant", "content": "" }), None)
    }

    /// A piece of text.
    pub(crate) fn piece(&self, text: &str) -> Value {
        self.choice(&json!({ "content": text }), None)
    }

    /// Why the text ended and, when it was asked for, what it cost.
    pub(crate) fn end(&self, finished: Finished) -> Vec<Value> {
        let last = self.choice(&json!({}), Some(finished.reason));
        let cost = self.include_usage.then(|| self.chunk(&json!([]), &usage(finished)));
        [last].into_iter().chain(cost).collect()
    }

    fn choice(&self, delta: &Value, finish: Option<FinishReason>) -> Value {
        let choice = json!({
            "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish.map(reason),
        });
        self.chunk(&json!([choice]), &Value::Null)
    }

    /// Chunks have a usage, null but in the last, only when it was asked for.
    fn chunk(&self, choices: &Value, usage: &Value) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = usage.clone();
        }
        chunk
    }
}

fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

fn usage(finished: Finished) -> Value {
    let Finished { n_prompt, n_completion, .. } = finished;
    json!({
        "prompt_tokens": n_prompt,
        "completion_tokens": n_completion,
        "total_tokens": n_prompt + n_completion,
    })
}

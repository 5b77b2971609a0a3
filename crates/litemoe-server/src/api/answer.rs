use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use litemoe_text::{Finish, Piece};
use serde_json::{Value, json};

use crate::generation::Usage;

/// Fields common to all chunks of a chat completion.
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

    /// The whole chat completion.
    pub(crate) fn whole(&self, texts: &[Piece], used: Usage) -> Value {
        let choice = |(index, text): (usize, &Piece)| {
            json!({
                "index": index,
                "message": { "role": "assistant", "content": text.text },
                "logprobs": logprobs(text),
                "finish_reason": text.finish.map(Finish::reason),
            })
        };
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": texts.iter().enumerate().map(choice).collect::<Vec<_>>(),
            "usage": usage(used),
        })
    }

    /// First chunk of a text's stream: the role.
    pub(crate) fn begin(&self, text: usize) -> Value {
        let delta = json!({ "role": "assistant", "content": "" });
        self.choice(text, &delta, &Value::Null, None)
    }

    /// Chunks of a piece of a text, and its finish reason.
    pub(crate) fn piece(&self, text: usize, piece: &Piece) -> Vec<Value> {
        let is_empty = piece.text.is_empty() && piece.logprobs.is_empty();
        let delta = json!({ "content": piece.text });
        let next = (!is_empty).then(|| self.choice(text, &delta, &logprobs(piece), None));
        let ended = |finish| self.choice(text, &json!({}), &Value::Null, Some(finish));
        next.into_iter().chain(piece.finish.map(ended)).collect()
    }

    /// Token usage, if requested.
    pub(crate) fn end(&self, used: Usage) -> Option<Value> {
        self.include_usage.then(|| self.chunk(&json!([]), &usage(used)))
    }

    fn choice(
        &self,
        text: usize,
        delta: &Value,
        logprobs: &Value,
        finish: Option<Finish>,
    ) -> Value {
        let choice = json!({
            "index": text, "delta": delta, "logprobs": logprobs,
            "finish_reason": finish.map(Finish::reason),
        });
        self.chunk(&json!([choice]), &Value::Null)
    }

    /// A chunk. It has a `usage` field only if requested, null except in the last chunk.
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

/// Logprobs; null if not requested, or if the text has no tokens.
fn logprobs(piece: &Piece) -> Value {
    match piece.logprobs.as_slice() {
        [] => Value::Null,
        tokens => json!({ "content": tokens, "refusal": null }),
    }
}

fn usage(used: Usage) -> Value {
    let Usage { n_prompt, n_completion } = used;
    json!({
        "prompt_tokens": n_prompt,
        "completion_tokens": n_completion,
        "total_tokens": n_prompt + n_completion,
    })
}

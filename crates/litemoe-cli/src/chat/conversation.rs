use anyhow::bail;
use litemoe_core::{CausalLm, Decoding, LanguageModel, MountedAdapter, Sampler, Sampling};
use litemoe_model::KvCache;
use litemoe_text::{Finish, Message, Prompt};
use serde::{Deserialize, Serialize};

use crate::model::Loaded;

/// Conversation with a model: the messages, and the KV cache of what the model has processed.
pub(crate) struct Conversation<'a> {
    loaded: &'a Loaded,
    mounted: Option<&'a MountedAdapter>,
    rule: Sampling,
    /// Tools and documents.
    context: Prompt,
    system: Option<String>,
    /// Messages of user and assistant in alternation.
    messages: Vec<Message>,
    cache: KvCache,
    /// Tokens in the cache.
    held: Vec<u32>,
}

/// Result of one answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Finish reason; `None` if the answer was interrupted.
    pub(crate) finish: Option<Finish>,
    /// Whether the context is full.
    pub(crate) is_full: bool,
    /// Tokens of the conversation before the answer.
    pub(crate) n_prompt: usize,
    /// How many of them were prefilled; the others were in the cache.
    pub(crate) n_run: usize,
}

/// File format of a saved conversation. A file with anything else is none, as it would be lost.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    messages: Vec<Message>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(
        loaded: &'a Loaded,
        mounted: Option<&'a MountedAdapter>,
        rule: Sampling,
        context: Prompt,
    ) -> Self {
        let (cache, held) = (loaded.model.new_cache(), Vec::new());
        Self { loaded, mounted, rule, context, system: None, messages: Vec::new(), cache, held }
    }

    /// Sets the system message.
    pub(crate) fn set_system(&mut self, system: Option<String>) {
        self.system = system;
    }

    /// Removes all messages of user and assistant.
    pub(crate) fn reset(&mut self) {
        self.messages.clear();
    }

    pub(crate) fn saved(&self) -> Saved {
        let system = self.system.iter().map(|content| {
            let role = "system".to_owned();
            Message { role, content: content.clone() }
        });
        Saved { messages: system.chain(self.messages.iter().cloned()).collect() }
    }

    /// Sends a message and generates the answer. `on_text` receives the text as it is generated and returns whether to
    /// continue. An interrupted answer keeps its text so far. If there is no answer, the message is removed again.
    pub(crate) fn say(
        &mut self,
        text: String,
        max_new: Option<usize>,
        stops: &[String],
        on_text: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<Reply> {
        self.messages.push(Message::user(text));
        let answered = self.answer(max_new, stops, on_text);
        match &answered {
            Ok((answer, reply)) if reply.finish.is_some() || !answer.is_empty() => {
                self.messages.push(Message::assistant(answer));
            }
            _ => drop(self.messages.pop()),
        }
        answered.map(|(_, reply)| reply)
    }

    fn answer(
        &mut self,
        max_new: Option<usize>,
        stops: &[String],
        mut on_text: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<(String, Reply)> {
        let Loaded { model, tokenizer, .. } = self.loaded;
        let prompt = self.prompt()?;
        let n_held = self.keep_common(&prompt);
        // Each answer has its own random stream.
        let sampler = Sampler::new(self.rule.clone()).for_text(self.messages.len() as u64 / 2);
        let mut tokens = prompt.clone();
        let decoding =
            Decoding::new(model, self.mounted, &prompt, &mut self.cache, n_held, sampler)
                .take(max_new.unwrap_or(usize::MAX))
                .inspect(|drawn| tokens.extend(drawn.iter().map(|drawn| drawn.token)));
        let (mut text, mut finish) = (String::new(), None);
        for piece in tokenizer.answer(stops).pieces(decoding) {
            let piece = piece?;
            text += &piece.text;
            finish = piece.finish;
            if !on_text(&piece.text) {
                break;
            }
        }
        let is_full = tokens.len() == model.max_tokens();
        tokens.truncate(self.cache.len());
        self.held = tokens;
        let (n_prompt, n_run) = (prompt.len(), prompt.len() - n_held);
        Ok((text, Reply { finish, is_full, n_prompt, n_run }))
    }

    /// Tokens of the conversation up to the start of the assistant's answer.
    fn prompt(&self) -> anyhow::Result<Vec<u32>> {
        let prompt = self.context.clone().with_messages(&self.saved().messages);
        let prompt = self.loaded.tokenizer.encode_chat(&prompt)?;
        let (n_prompt, max_tokens) = (prompt.len(), self.loaded.model.max_tokens());
        if n_prompt >= max_tokens {
            bail!(
                "with this message the conversation is {n_prompt} tokens, but the model takes \
                 {max_tokens} with at least one for the answer; /reset forgets the conversation"
            );
        }
        Ok(prompt)
    }

    /// Truncates the cache to its common prefix with the prompt and returns the prefix length. The prompt's last token
    /// is always run, because the answer starts from its logits. An encoder–decoder reuses nothing.
    fn keep_common(&mut self, prompt: &[u32]) -> usize {
        if self.loaded.model.has_encoder() {
            return 0;
        }
        let both = self.held.iter().zip(prompt);
        let n_held = both.take_while(|(held, token)| held == token).count().min(prompt.len() - 1);
        self.held.truncate(n_held);
        self.cache.truncate(n_held);
        n_held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::device::{DeviceArgs, DeviceName};
    use crate::args::weights::WeightArgs;

    fn loaded() -> Loaded {
        let device = DeviceArgs { device: DeviceName::Cpu };
        Loaded::open(&litemoe_fixtures::foundation_dir(), device, WeightArgs::default())
            .expect("the foundation loads")
    }

    fn conversation(loaded: &Loaded) -> Conversation<'_> {
        let rule = Sampling { temperature: 0.7, seed: 3, ..Sampling::default() };
        Conversation::new(loaded, None, rule, Prompt::default())
    }

    fn say(conversation: &mut Conversation<'_>, text: &str) -> (String, Reply) {
        let mut answer = String::new();
        let reply = conversation.say(text.to_owned(), Some(12), &[], |piece| {
            answer += piece;
            true
        });
        (answer, reply.expect("there is room"))
    }

    #[test]
    fn what_was_run_is_not_run_again_and_changes_no_answer() {
        let loaded = loaded();
        let (mut kept, mut forgetful) = (conversation(&loaded), conversation(&loaded));
        let questions = ["How many legs has a spider?", "And an ant?", "And a snake?"];
        for question in questions {
            let (answer, reply) = say(&mut kept, question);
            forgetful.keep_common(&[0]);
            let (again, whole) = say(&mut forgetful, question);
            assert_eq!((answer, reply.n_prompt), (again, whole.n_prompt));
            assert_eq!(whole.n_run, whole.n_prompt);
            // New are the question, the special tokens around it, and the end of the last answer: its last token, which
            // was sampled but not run, and the end token.
            let question = loaded.tokenizer.encode_text(question).expect("text").len();
            assert!(reply.n_run <= question + 4, "{reply:?}");
        }
        assert_eq!(kept.saved().messages.len(), 2 * questions.len());
    }

    #[test]
    fn a_new_system_message_is_told_and_reset_forgets_the_others() {
        let loaded = loaded();
        let mut conversation = conversation(&loaded);
        let plain = say(&mut conversation, "Hello").1.n_prompt;
        conversation.reset();
        conversation.set_system(Some("Answer in one word.".to_owned()));
        assert!(say(&mut conversation, "Hello").1.n_prompt > plain);
        let roles = |conversation: &Conversation<'_>| -> Vec<String> {
            conversation.saved().messages.into_iter().map(|message| message.role).collect()
        };
        assert_eq!(roles(&conversation), ["system", "user", "assistant"]);
        conversation.reset();
        assert_eq!(roles(&conversation), ["system"]);
        conversation.set_system(None);
        assert_eq!(say(&mut conversation, "Hello").1.n_prompt, plain);
    }

    #[test]
    fn an_interrupted_answer_stands_as_far_as_it_came() {
        let loaded = loaded();
        let mut conversation = conversation(&loaded);
        let mut pieces = 0;
        let reply = conversation.say("Hello".to_owned(), None, &[], |_| {
            pieces += 1;
            pieces < 3
        });
        assert_eq!(reply.expect("there is room").finish, None);
        assert_eq!(conversation.saved().messages.len(), 2);
        let begun = conversation.saved().messages[1].content.clone();
        assert!(!begun.is_empty() && !begun.starts_with(' '), "{begun:?}");
        say(&mut conversation, "Go on");
    }

    #[test]
    fn a_conversation_that_is_too_long_is_refused_and_stays_as_it_was() {
        let loaded = loaded();
        let mut conversation = conversation(&loaded);
        say(&mut conversation, "Hello");
        let before = conversation.saved().messages;
        let error = conversation.say("7".repeat(1100), None, &[], |_| true);
        let error = error.expect_err("there is no room").to_string();
        assert!(error.contains("1024") && error.contains("/reset"), "{error}");
        assert_eq!(conversation.saved().messages, before);
        say(&mut conversation, "Hello");
    }
}

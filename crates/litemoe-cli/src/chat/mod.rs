//! `litemoe chat`.

mod command;
mod conversation;
mod editor;
mod input;
mod interrupt;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use litemoe_core::LanguageModel;
use litemoe_text::Finish;

use crate::args::cache::CacheArgs;
use crate::args::device::DeviceArgs;
use crate::args::prompt::ContextArgs;
use crate::args::sampling::SamplingArgs;
use crate::args::weights::WeightArgs;
use crate::artefact;
use crate::chat::command::{Command, HELP};
use crate::chat::conversation::{Conversation, Saved};
use crate::chat::input::{Input, Read};
use crate::chat::interrupt::Interrupt;
use crate::model::{self, Loaded};
use crate::output;

/// Chat with a model in the terminal
///
/// Ctrl-C stops an answer, Ctrl-D quits, /help lists the commands. If standard input is not a terminal, every line of
/// it is a message or a command, answers go to standard output, and the first error ends the program.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The model: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Adapter to mount, a PEFT directory.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// System message.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Maximum number of tokens of an answer [default: up to the end of the model's context].
    #[arg(long)]
    max_tokens: Option<usize>,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

impl ChatArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let inputs = model::inputs(&self.model, self.adapter.as_deref())?;
        let context = self.context.read()?;
        let loaded = Loaded::open(&self.model, self.device, self.weights)?;
        let loaded = loaded.cached_as(self.cache, self.weights)?;
        if loaded.tokenizer.template().is_none() {
            bail!(
                "{} has no chat template, so it cannot talk; `litemoe generate` answers one prompt",
                self.model.display()
            );
        }
        let mounted = self.adapter.as_deref().map(|dir| loaded.adapter(dir)).transpose()?;
        let rule = self.sampling.rule(loaded.sampling()?);
        inputs.expect_unchanged()?;
        let mut conversation = Conversation::new(&loaded, mounted.as_ref(), rule, context);
        conversation.set_system(self.system.clone());
        let mut chat = Chat { args: &self, conversation, interrupt: Interrupt::watch()? };
        chat.talk(&mut Input::open(), &loaded)
    }
}

struct Chat<'a> {
    args: &'a ChatArgs,
    conversation: Conversation<'a>,
    interrupt: Interrupt,
}

impl Chat<'_> {
    /// Processes inputs until the input ends or the user quits.
    fn talk(&mut self, input: &mut Input, loaded: &Loaded) -> anyhow::Result<()> {
        if input.is_terminal() {
            let (name, max) = (loaded.checkpoint.name(), loaded.model.max_tokens());
            output::note(&format!("{name}, {max} tokens of context; /help names the commands"));
        }
        loop {
            let done = match input.read()? {
                Read::End => return Ok(()),
                Read::Interrupted => {
                    output::note("/quit or Ctrl-D leaves");
                    continue;
                }
                Read::Text(text) => self.obey(&text),
            };
            match done {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Ok(()),
                Err(error) if input.is_terminal() && !output::is_closed_pipe(&error) => {
                    output::error(&error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn obey(&mut self, text: &str) -> anyhow::Result<ControlFlow<()>> {
        match Command::parse(text)? {
            None => {}
            Some(Command::Say(text)) => self.say(text)?,
            Some(Command::Help) => output::note(HELP),
            Some(Command::Reset) => self.conversation.reset(),
            Some(Command::System(text)) => self.conversation.set_system(text),
            Some(Command::Save(file)) => save(&file, &self.conversation.saved())?,
            Some(Command::Quit) => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Sends a message and prints the answer as it is generated.
    fn say(&mut self, text: String) -> anyhow::Result<()> {
        let Self { args, conversation, interrupt } = self;
        let mut printed = Ok(());
        let reply = interrupt.while_answering(|interrupted| {
            conversation.say(text, args.max_tokens, &args.sampling.stop, |piece| {
                printed = output::piece(piece);
                printed.is_ok() && !interrupted()
            })
        })?;
        printed?;
        output::line("")?;
        tracing::debug!(n_prompt = reply.n_prompt, n_run = reply.n_run, "answered");
        match reply.finish {
            None => output::note("(stopped)"),
            Some(Finish::Length) if reply.is_full => output::note(
                "(the answer ends here: the model's context is full; /reset forgets the conversation)",
            ),
            Some(Finish::Length) => output::note("(the answer ends here: --max-tokens)"),
            Some(Finish::EndToken | Finish::StopString) => {}
        }
        Ok(())
    }
}

/// Saves the conversation. An existing file is replaced only if it is a saved conversation.
fn save(file: &Path, saved: &Saved) -> anyhow::Result<()> {
    expect_saved(file)?;
    artefact::write(file, saved)?;
    output::note(&format!("(saved in {})", file.display()));
    Ok(())
}

/// Checks that what is at a path, if anything, is a saved conversation and nothing more.
fn expect_saved(file: &Path) -> anyhow::Result<()> {
    if file.exists() && artefact::read::<Saved>(file).is_err() {
        bail!("{} is there, and it is not a saved conversation", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use litemoe_fixtures::fuzz::fuzz_json;
    use serde_json::{Value, json};

    use super::*;
    use crate::artefact::BOUND;

    #[test]
    fn fuzzed_saved_conversations_are_replaced_only_if_nothing_else_is_lost() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("chat.json");
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let messages = [message("system", "Be brief."), message("user", "\u{e9}\n")];
        let documents = [
            json!({ "messages": messages }),
            json!({ "messages": [], "tools": [{ "name": "f" }] }),
            json!({ "messages": [{ "role": "user", "content": "a", "tool_calls": [] }] }),
        ];
        let documents = documents.map(|document| document.to_string().into_bytes());
        let mut replaced = [0; 3];
        fuzz_json(&documents, |from, document| {
            fs::write(&file, document).expect("written");
            let mut is_saved = false;
            let allocated = allocation_counter::measure(|| is_saved = expect_saved(&file).is_ok());
            BOUND.check(document, allocated.bytes_max);
            if !is_saved {
                return;
            }
            replaced[from] += 1;
            let saved: Saved = artefact::read(&file).expect("a saved conversation");
            let found: Value = serde_json::from_slice(document).expect("JSON");
            assert_eq!(serde_json::to_value(saved).expect("JSON"), found);
        });
        assert!(replaced.iter().all(|&n| n > 0), "{replaced:?}");
    }
}

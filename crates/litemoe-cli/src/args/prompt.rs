use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use litemoe_text::{Message, Prompt};

use crate::artefact;

/// Prompt of `generate`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PromptArgs {
    /// The user's message; the model's chat template, if any, is applied.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// JSON file of a conversation to answer: a list of messages, or an object with `messages`, and perhaps `tools`,
    /// `documents` and `chat_template_kwargs` for the chat template.
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,
}

impl PromptArgs {
    /// Option or file that the prompt is from.
    pub(crate) fn origin(&self) -> String {
        self.messages.as_deref().map_or_else(|| "--prompt".to_owned(), at)
    }

    pub(crate) fn read(&self) -> anyhow::Result<Prompt> {
        match &self.messages {
            Some(file) => {
                let text = artefact::read_text(file)?;
                Prompt::from_json(&text).with_context(|| file.display().to_string())
            }
            None => {
                let message = Message::user(self.prompt.as_deref().unwrap_or_default());
                Ok(std::slice::from_ref(&message).into())
            }
        }
    }
}

/// What a conversation's chat template renders besides its messages.
#[derive(Debug, Args)]
pub(crate) struct ContextArgs {
    /// JSON file of the tools that the model is told of: a list of JSON schemas. Calls are printed as text.
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// JSON file of documents for the chat template: a list of objects.
    #[arg(long, value_name = "FILE")]
    documents: Option<PathBuf>,
}

impl ContextArgs {
    /// A prompt without messages.
    pub(crate) fn read(&self) -> anyhow::Result<Prompt> {
        let mut prompt = Prompt::default();
        if let Some(file) = &self.tools {
            prompt = prompt.with_tools(artefact::read_plain(file)?).with_context(|| at(file))?;
        }
        if let Some(file) = &self.documents {
            prompt =
                prompt.with_documents(artefact::read_plain(file)?).with_context(|| at(file))?;
        }
        Ok(prompt)
    }
}

fn at(file: &Path) -> String {
    file.display().to_string()
}

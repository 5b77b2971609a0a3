use anyhow::bail;
use clap::Args;
use litemoe_text::LossTurns;
use serde::{Deserialize, Serialize};

use crate::args::listed;

/// Maximum row length that is not given.
pub(crate) const MAX_TOKENS: usize = 512;

/// Options of turning rows into tokens.
#[derive(Debug, Clone, Copy, Args, Serialize, Deserialize, PartialEq)]
pub(crate) struct RowArgs {
    /// Maximum row length in tokens; longer rows are skipped and counted.
    #[arg(long, default_value_t = MAX_TOKENS)]
    pub(crate) max_tokens: usize,
    /// Which of the assistant's messages in a conversation the loss covers.
    #[arg(long, value_name = "TURNS", default_value_t, value_parser = listed::loss_turns())]
    pub(crate) loss: LossTurns,
}

impl RowArgs {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.max_tokens == 0 {
            bail!("--max-tokens is 0, but at least 1 is needed");
        }
        Ok(())
    }
}

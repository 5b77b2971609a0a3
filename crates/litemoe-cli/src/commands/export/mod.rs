mod gguf_lora;
mod gguf_names;
mod gguf_tensors;
mod vllm;

use clap::{Args, Subcommand};

use self::gguf_lora::GgufLoraArgs;
use self::vllm::VllmArgs;

/// Write adapters in the format of another program
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Format {
    GgufLora(GgufLoraArgs),
    Vllm(VllmArgs),
}

impl ExportArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.format {
            Format::GgufLora(args) => args.run(),
            Format::Vllm(args) => args.run(),
        }
    }
}

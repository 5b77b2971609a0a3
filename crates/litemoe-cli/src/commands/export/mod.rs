mod gguf_lora;
mod gguf_names;
mod gguf_tensors;

use clap::{Args, Subcommand};

use self::gguf_lora::GgufLoraArgs;

/// Write an adapter in the format of another program
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Format {
    GgufLora(GgufLoraArgs),
}

impl ExportArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Format::GgufLora(args) = self.format;
        args.run()
    }
}

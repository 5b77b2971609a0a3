use std::path::PathBuf;

use clap::Args;

use crate::device::DeviceArgs;

/// Serve the foundation and its adapters over HTTP, as OpenAI's interface
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The foundation, a Hugging Face directory.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// An adapter and the model name it is served under; may be repeated.
    #[arg(long = "adapter", value_name = "NAME=DIR")]
    adapters: Vec<String>,
    /// The name the foundation is served under [default: its folder's].
    #[arg(long)]
    name: Option<String>,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    #[command(flatten)]
    device: DeviceArgs,
}

impl ServeArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let _ = (self.model, self.adapters, self.name, self.host, self.port, self.device);
        anyhow::bail!("not yet")
    }
}

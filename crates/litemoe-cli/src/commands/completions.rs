use clap::{Args, Command};
use clap_complete::Shell;

use crate::output;

/// Print a shell's completion script
#[derive(Debug, Args)]
#[command(after_help = "For bash: source <(litemoe completions bash)")]
pub(crate) struct CompletionsArgs {
    /// Shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script for `program`.
    pub(crate) fn run(&self, mut program: Command) -> anyhow::Result<()> {
        let name = program.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, name, &mut script);
        output::piece(&String::from_utf8(script)?)
    }
}

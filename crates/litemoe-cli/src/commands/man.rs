use anyhow::{Context, bail};
use clap::{Args, Command};
use clap_mangen::Man;

use crate::output;

/// Print a manual page
#[derive(Debug, Args)]
#[command(after_help = "To read one: litemoe man tune | man -l -")]
pub(crate) struct ManArgs {
    /// Command, as in `tune` or `data check` [default: litemoe itself]
    command: Vec<String>,
}

impl ManArgs {
    /// Prints the page of one of `program`'s commands.
    pub(crate) fn run(&self, mut program: Command) -> anyhow::Result<()> {
        program.build();
        let mut found = &program;
        for name in &self.command {
            let inner = found.find_subcommand(name);
            found = inner
                .with_context(|| format!("there is no command {:?}", self.command.join(" ")))?;
        }
        if found.is_hide_set() {
            bail!("{:?} has no manual page", self.command.join(" "));
        }
        let mut page = Vec::new();
        Man::new(found.clone()).render(&mut page)?;
        output::piece(&String::from_utf8(page)?)
    }
}

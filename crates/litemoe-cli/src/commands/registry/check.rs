use anyhow::bail;
use clap::Args;
use litemoe_registry::{Checked, Finding, check};

use crate::args::registry::RegistryArgs;
use crate::output;

/// Verify everything that the registry has stored
///
/// Reads every content and compares its hash; finds contents that are missing, damaged or not referred to, and temporary
/// files of processes that died. Removes nothing. Garbage is no failure: the next command that opens the registry
/// removes temporary files, and `registry collect-garbage` the contents that nothing refers to.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl CheckArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let checked = check(&self.registry.dir()?)?;
        match self.json {
            true => output::json(&checked)?,
            false => print(&checked)?,
        }
        let faults = checked.findings.iter().filter(|finding| !finding.is_garbage());
        match faults.clone().count() {
            0 => Ok(()),
            1 => bail!("{}", faults.map(sentence).collect::<String>()),
            n => bail!("the registry has {n} faults"),
        }
    }
}

fn print(checked: &Checked) -> anyhow::Result<()> {
    for finding in &checked.findings {
        output::line(&sentence(finding))?;
    }
    let contents = output::counted(usize::try_from(checked.contents)?, "content", "contents");
    let bytes = output::bytes(checked.bytes);
    let verdict = if checked.is_clean() { ": everything is as it should be" } else { "" };
    output::line(&format!("{contents} of {bytes}{verdict}"))
}

fn sentence(finding: &Finding) -> String {
    let of = |referrers: &[String]| match referrers {
        [] => String::new(),
        referrers => format!(" ({})", referrers.join("; ")),
    };
    match finding {
        Finding::Database { message } => format!("the database is damaged: {message}"),
        Finding::Missing { sha256, referrers } => format!("{sha256} is missing{}", of(referrers)),
        Finding::Corrupt { sha256, found, referrers } => {
            format!("{sha256} is damaged: its hash is {found}{}", of(referrers))
        }
        Finding::Length { sha256, expected, found, referrers } => {
            format!("{sha256} has {found} bytes instead of {expected}{}", of(referrers))
        }
        Finding::Unreadable { sha256, reason } => format!("{sha256} cannot be read: {reason}"),
        Finding::Orphan { sha256, bytes } => {
            format!("garbage: nothing refers to {sha256}, {}", output::bytes(*bytes))
        }
        Finding::Temporary { name } => format!("garbage: a process that died left {name}"),
        Finding::Unknown { name } => format!("{name} is no content of the registry"),
        _ => format!("{finding:?}"),
    }
}

//! The programs that are measured, each in a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::args::{Figure, PeersArgs};

/// Program that runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Litemoe,
    LlamaCpp,
    Transformers,
    Peft,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Litemoe => "litemoe",
            Self::LlamaCpp => "llama.cpp",
            Self::Transformers => "transformers",
            Self::Peft => "PEFT",
        }
    }

    /// Script of a peer.
    fn script(self) -> &'static str {
        match self {
            Self::Litemoe => "",
            Self::LlamaCpp => "llama.py",
            Self::Transformers => "transformers_model.py",
            Self::Peft => "peft_lora.py",
        }
    }
}

/// Formats of llama.cpp, each with ours of about its size.
const GGUF: [(&str, &str); 4] =
    [("bf16", "bf16"), ("q8_0", "q8"), ("q4_0", "q4"), ("q4_k_m", "q4")];

/// Our format of about the size of a peer's.
pub(super) fn our_format(format: &str) -> &str {
    GGUF.iter().find(|(theirs, _)| *theirs == format).map_or(format, |(_, ours)| ours)
}

/// A program with weights in a format.
pub(super) struct Contender {
    pub(super) program: Program,
    pub(super) format: &'static str,
    /// What the command line begins with, up to the model.
    command: Vec<PathBuf>,
}

/// What a process printed.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Printed {
    pub(super) seconds: f64,
    #[serde(default)]
    pub(super) versions: BTreeMap<String, String>,
}

/// The contenders, litemoe first.
pub(super) fn all(args: &PeersArgs, root: &Path, litemoe: &Path) -> Result<Vec<Contender>> {
    let ours = |format: &'static str| Contender {
        program: Program::Litemoe,
        format,
        command: vec![litemoe.to_owned(), "bench".into(), args.our_model(format)],
    };
    let peer = |program: Program, format, model: PathBuf| {
        let script = root.join("xtask/peers").join(program.script());
        Contender { program, format, command: vec![args.python.clone(), script, model] }
    };
    let mut contenders: Vec<Contender> = ["bf16", "q8", "q4"].map(ours).into();
    if let Some(dir) = &args.gguf {
        let file = |format: &str| dir.join(format!("{format}.gguf"));
        let there = GGUF.iter().filter(|(format, _)| file(format).is_file());
        let found = contenders.len();
        contenders.extend(there.map(|(format, _)| peer(Program::LlamaCpp, format, file(format))));
        if contenders.len() == found {
            bail!("{} has none of bf16, q8_0, q4_0 and q4_k_m.gguf", dir.display());
        }
    }
    contenders.push(peer(Program::Transformers, "bf16", args.model.clone()));
    contenders.push(peer(Program::Peft, "bf16", args.model.clone()));
    Ok(contenders)
}

impl Contender {
    /// Whether it measures a figure. Training is compared in bf16 alone, which is what PEFT trains on.
    pub(super) fn has(&self, figure: Figure) -> bool {
        match self.program {
            Program::Litemoe => figure != Figure::Train || self.format == "bf16",
            Program::LlamaCpp | Program::Transformers => figure != Figure::Train,
            Program::Peft => figure == Figure::Train,
        }
    }

    /// Runs it once.
    pub(super) fn measure(&self, figure: Figure, args: &PeersArgs) -> Result<Printed> {
        let mut line: Vec<PathBuf> =
            args.under.iter().flat_map(|it| it.split_whitespace()).map(PathBuf::from).collect();
        line.extend(self.command.iter().cloned());
        line.extend(self.options(figure, args).into_iter().map(PathBuf::from));
        let (program, rest) = line.split_first().context("an empty command")?;
        let output = Command::new(program).args(rest).output();
        let output = output.with_context(|| format!("cannot run {}", program.display()))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {}", output.status, message(&errors).unwrap_or("no message"));
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        let last = printed.lines().last().context("nothing was printed")?;
        match self.program {
            Program::Litemoe => ours(last, figure),
            _ => Ok(serde_json::from_str(last).with_context(|| last.to_owned())?),
        }
    }

    fn options(&self, figure: Figure, args: &PeersArgs) -> Vec<String> {
        let PeersArgs { prompt, tokens, rows, row_tokens, repetitions, threads, .. } = args;
        let mut options = vec![format!("--threads={threads}")];
        options.extend([format!("--prompt={prompt}"), format!("--tokens={tokens}")]);
        options.push(format!("--repetitions={repetitions}"));
        if self.program == Program::Litemoe {
            let others = [
                (Figure::Load, "load"),
                (Figure::Prefill, "prefill"),
                (Figure::Decode, "decode"),
                (Figure::Train, "tune"),
            ];
            let skipped = others.iter().filter(|(it, _)| *it != figure).map(|(_, name)| *name);
            let skipped: Vec<&str> = skipped.chain(["limits"]).collect();
            options.extend([
                format!("--dtype={}", self.format),
                format!("--train={rows}x{row_tokens}"),
            ]);
            options.extend([format!("--skip={}", skipped.join(",")), "--json".to_owned()]);
        } else {
            options.extend([format!("--rows={rows}"), format!("--row-tokens={row_tokens}")]);
            options.push(figure.name().to_owned());
        }
        options
    }
}

/// What a program that failed says: the first line that begins with `error:`, else the last line.
fn message(errors: &str) -> Option<&str> {
    let mut lines = errors.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let last = lines.clone().next_back();
    lines.find(|line| line.starts_with("error:")).or(last)
}

/// Seconds of a figure in a report of `litemoe bench --json`.
fn ours(report: &str, figure: Figure) -> Result<Printed> {
    let report: Value = serde_json::from_str(report).context("litemoe printed no JSON")?;
    let place = match figure {
        Figure::Decode => "/decode/seconds/median",
        Figure::Prefill => "/prefill/seconds/median",
        Figure::Load => "/load/median",
        Figure::Train => "/tune/seconds/median",
    };
    let seconds = report.pointer(place).and_then(Value::as_f64);
    let seconds = seconds.with_context(|| format!("the report has no {place}"))?;
    let set = report["machine"]["instruction_set"].as_str().map(str::to_owned);
    let versions = set.map(|set| ("litemoe's products".to_owned(), set)).into_iter().collect();
    Ok(Printed { seconds, versions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_about_one_size_are_compared() {
        for (theirs, expected) in
            [("bf16", "bf16"), ("q8_0", "q8"), ("q4_0", "q4"), ("q4_k_m", "q4")]
        {
            assert_eq!(our_format(theirs), expected);
        }
    }

    #[test]
    fn an_error_line_goes_before_the_last_line() {
        let ours =
            "measuring\nerror: --prompt 9 is too long\n\nFor more information, try '--help'.\n";
        assert_eq!(message(ours), Some("error: --prompt 9 is too long"));
        let python = "Traceback (most recent call last):\n  File\nModuleNotFoundError: torch\n\n";
        assert_eq!(message(python), Some("ModuleNotFoundError: torch"));
        assert_eq!(message(" \n"), None);
    }

    #[test]
    fn a_figure_of_our_report() {
        let report = r#"{"load": {"median": 2.5}, "decode": {"seconds": {"median": 0.5}}, "prefill": null,
                         "machine": {"instruction_set": "avx2"}}"#;
        assert_eq!(ours(report, Figure::Load).unwrap().seconds, 2.5);
        let decode = ours(report, Figure::Decode).unwrap();
        assert_eq!((decode.seconds, &*decode.versions["litemoe's products"]), (0.5, "avx2"));
        assert!(ours(report, Figure::Prefill).is_err());
        assert!(ours("", Figure::Load).is_err());
    }
}

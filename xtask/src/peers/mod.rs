//! `cargo xtask peers`: the speed of litemoe and of other programs on one model, in turn, as a Markdown table.

mod args;
mod contender;
mod machine;
mod round;
mod table;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

pub(crate) use self::args::PeersArgs;
use self::contender::{Contender, Program};
use self::machine::Machine;
use self::round::rounds;
use self::table::Measured;
use crate::eval::Binary;

/// Measures everything and prints the table. A program that fails is left out of the figure.
///
/// # Errors
/// What cannot be run at all; after the table, that programs failed.
pub(crate) fn run(args: &PeersArgs, root: &Path) -> Result<()> {
    args.check()?;
    expect_python(&args.python)?;
    let litemoe = match &args.litemoe {
        Some(path) => path.clone(),
        None => Binary::build(root)?.path().to_owned(),
    };
    let contenders = contender::all(args, root, &litemoe)?;
    let mut machine = Machine::this(root, args.litemoe.as_deref())?;
    let (mut measured, mut n_failed) = (Vec::<Measured>::new(), 0);
    for &figure in &args.only {
        let of_figure: Vec<&Contender> = contenders.iter().filter(|it| it.has(figure)).collect();
        if !of_figure.iter().any(|it| it.program != Program::Litemoe) {
            eprintln!("{}: no peer measures it", figure.name());
            continue;
        }
        let seconds = rounds(args.rounds, of_figure.len(), |round, at| {
            let contender = of_figure[at];
            let name = format!("{} {}", contender.program.name(), contender.format);
            let place = format!("{} {round}/{}: {name}", figure.name(), args.rounds);
            match contender.measure(figure, args) {
                Ok(result) => {
                    eprintln!("{place} {:.3} s", result.seconds);
                    machine.versions.extend(result.versions);
                    Some(result.seconds)
                }
                Err(error) => {
                    eprintln!("{place} failed, left out: {error:#}");
                    n_failed += 1;
                    None
                }
            }
        });
        let of_figure = of_figure.into_iter().zip(seconds);
        measured.extend(of_figure.filter_map(|(it, seconds)| {
            Some(Measured { figure, program: it.program, format: it.format, seconds: seconds? })
        }));
    }
    print!("{}", table::markdown(&measured, &machine, args));
    if n_failed > 0 {
        bail!("{n_failed} of the measurements failed and are left out, see above");
    }
    Ok(())
}

/// Runs the interpreter of the peers once, before anything is built or measured.
fn expect_python(python: &Path) -> Result<()> {
    let output = Command::new(python).arg("--version").output();
    let output = output.with_context(|| format!("--python: cannot run {}", python.display()))?;
    if !output.status.success() {
        bail!("--python: {} --version: {}", python.display(), output.status);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_that_is_not_there_is_named() {
        let error = expect_python(Path::new("no/such/python")).unwrap_err();
        assert!(format!("{error:#}").contains("--python: cannot run no/such/python"), "{error:#}");
    }
}

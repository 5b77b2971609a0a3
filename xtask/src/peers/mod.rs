//! `cargo xtask peers`: the speed of litemoe and of other programs on one model, in turn, as a Markdown table.

mod args;
mod contender;
mod machine;
mod table;

use std::path::Path;

use anyhow::{Context, Result, bail};

pub(crate) use self::args::PeersArgs;
use self::contender::{Contender, Program};
use self::machine::Machine;
use self::table::Measured;
use crate::eval::Binary;

/// Measures everything and prints the table.
pub(crate) fn run(args: &PeersArgs, root: &Path) -> Result<()> {
    for (option, n) in
        [("rounds", args.rounds), ("threads", args.threads), ("repetitions", args.repetitions)]
    {
        if n == 0 {
            bail!("--{option} is 0, but at least 1 is needed");
        }
    }
    let litemoe = match &args.litemoe {
        Some(path) => path.clone(),
        None => Binary::build(root)?.path().to_owned(),
    };
    let contenders = contender::all(args, root, &litemoe)?;
    let mut machine = Machine::this(root)?;
    let mut measured: Vec<Measured> = Vec::new();
    for &figure in &args.only {
        let of_figure: Vec<&Contender> = contenders.iter().filter(|it| it.has(figure)).collect();
        if !of_figure.iter().any(|it| it.program != Program::Litemoe) {
            eprintln!("{}: no peer measures it", figure.name());
            continue;
        }
        let mut seconds = vec![Vec::new(); of_figure.len()];
        for round in 1..=args.rounds {
            for (contender, seconds) in of_figure.iter().zip(&mut seconds) {
                let name = format!("{} {}", contender.program.name(), contender.format);
                let result = contender.measure(figure, args);
                let result = result.with_context(|| format!("{name}, {}", figure.name()))?;
                eprintln!(
                    "{} {round}/{}: {name} {:.3} s",
                    figure.name(),
                    args.rounds,
                    result.seconds
                );
                seconds.push(result.seconds);
                machine.versions.extend(result.versions);
            }
        }
        let of_figure = of_figure.into_iter().zip(seconds);
        measured.extend(of_figure.map(|(it, seconds)| Measured {
            figure,
            program: it.program,
            format: it.format,
            seconds,
        }));
    }
    print!("{}", table::markdown(&measured, &machine, args));
    Ok(())
}

//! The Markdown table.

use std::fmt::Write;

use super::args::{Figure, PeersArgs};
use super::contender::{Program, our_format};
use super::machine::Machine;

/// Seconds of a figure of one program, a value for each round.
pub(super) struct Measured {
    pub(super) figure: Figure,
    pub(super) program: Program,
    pub(super) format: &'static str,
    pub(super) seconds: Vec<f64>,
}

/// The table, below what was run, where and when.
pub(super) fn markdown(measured: &[Measured], machine: &Machine, args: &PeersArgs) -> String {
    let Machine { date, cpu, sets, versions } = machine;
    let versions: Vec<String> =
        versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let model = args.model.file_name().unwrap_or(args.model.as_os_str()).to_string_lossy();
    let mut text = format!(
        "`{model}`, {date}, {cpu} ({}), {}, {} in turn; {}. Decode: {} tokens after a prompt of {}; \
         train: LoRA of rank 8 on attention, {}×{}. Ratio: speed of litemoe to that of the peer, median of the rounds \
         (least–most).\n\n",
        sets.join(", "),
        counted(args.threads, "thread"),
        counted(args.rounds, "round"),
        versions.join(", "),
        args.tokens,
        args.prompt,
        args.rows,
        args.row_tokens
    );
    text.push_str("| figure | litemoe | | peer | | ratio |\n|---|---|---|---|---|---|\n");
    for peer in measured.iter().filter(|it| it.program != Program::Litemoe) {
        let is_ours = |it: &&Measured| {
            it.program == Program::Litemoe
                && it.figure == peer.figure
                && it.format == our_format(peer.format)
        };
        let Some(ours) = measured.iter().find(is_ours) else { continue };
        let (figure, unit) = unit(peer.figure);
        let ratios = ours.seconds.iter().zip(&peer.seconds).map(|(ours, theirs)| theirs / ours);
        let ratios: Vec<f64> = ratios.collect();
        let [least, most] = [f64::min, f64::max]
            .map(|pick| ratios.iter().copied().reduce(pick).unwrap_or(f64::NAN));
        let _ = writeln!(
            text,
            "| {figure}, {unit} | {} | {} | {} {} | {} | {:.2} ({least:.2}–{most:.2}) |",
            ours.format,
            value(ours, args),
            peer.program.name(),
            peer.format,
            value(peer, args),
            median(&ratios)
        );
    }
    text
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn unit(figure: Figure) -> (&'static str, &'static str) {
    (figure.name(), if figure == Figure::Load { "s" } else { "tok/s" })
}

/// Median in the figure's unit.
fn value(measured: &Measured, args: &PeersArgs) -> String {
    let seconds = median(&measured.seconds);
    match args.tokens_of(measured.figure) {
        Some(tokens) => format!("{:.1}", tokens as f64 / seconds),
        None => format!("{seconds:.2}"),
    }
}

/// Median; NaN of nothing.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (n, half) = (values.len(), values.len() / 2);
    match n {
        0 => f64::NAN,
        n if n % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PeersArgs,
    }

    #[test]
    fn a_line_for_each_peer_with_the_median_of_the_rounds_ratios() {
        let line =
            Line::parse_from(["peers", "models/mid", "--python=p", "--tokens=10", "--threads=1"]);
        let machine = Machine {
            date: "2026-11-27".to_owned(),
            cpu: "A CPU".to_owned(),
            sets: vec!["avx2", "fma"],
            versions: [("litemoe".to_owned(), "abc".to_owned())].into(),
        };
        let measured = |figure, program, format, seconds: &[f64]| Measured {
            figure,
            program,
            format,
            seconds: seconds.to_vec(),
        };
        let (ours, theirs) = (Program::Litemoe, Program::LlamaCpp);
        let text = markdown(
            &[
                measured(Figure::Decode, ours, "q4", &[1.0, 4.0, 2.0]),
                measured(Figure::Decode, theirs, "q4_k_m", &[2.0, 4.0, 6.0]),
                measured(Figure::Load, ours, "bf16", &[1.0]),
                measured(Figure::Load, Program::Transformers, "bf16", &[0.5]),
                // Without one of ours to compare with.
                measured(Figure::Load, theirs, "q8_0", &[0.5]),
            ],
            &machine,
            &line.args,
        );
        assert!(
            text.starts_with(
                "`mid`, 2026-11-27, A CPU (avx2, fma), 1 thread, 5 rounds in turn; litemoe abc."
            ),
            "{text}"
        );
        let rows: Vec<&str> = text.lines().skip(4).collect();
        assert_eq!(
            rows,
            [
                "| decode, tok/s | q4 | 5.0 | llama.cpp q4_k_m | 2.5 | 2.00 (1.00–3.00) |",
                "| load, s | bf16 | 1.00 | transformers bf16 | 0.50 | 0.50 (0.50–0.50) |",
            ]
        );
    }
}

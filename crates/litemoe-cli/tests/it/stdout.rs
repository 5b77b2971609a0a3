//! Standard output that cannot be written.

use std::fs;
use std::process::{Command, Stdio};

use crate::bench::{Bench, Run};

const GENERATE: [&str; 6] = ["generate", "model", "--prompt", "add 1 and 2", "--max-tokens", "8"];

fn run(mut command: Command, out: impl Into<Stdio>) -> Run {
    Run::of(&command.stdout(out).stderr(Stdio::piped()).output().expect("the binary runs"))
}

fn commands() -> [Vec<&'static str>; 5] {
    [
        vec!["inspect", "model"],
        vec!["inspect", "model", "--json"],
        vec!["plan", "model", "scores.json", "--budget", "0.5", "--progress", "none"],
        GENERATE.to_vec(),
        [&GENERATE[..], &["--json"]].concat(),
    ]
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let bench = Bench::new();
    bench.json(&["score", "model", "rows.jsonl"]);
    for args in commands() {
        let full = fs::File::options().write(true).open("/dev/full").expect("a device");
        let run = run(bench.command(&args), full);
        assert_eq!(run.code, 1, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("cannot write to standard output"), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let bench = Bench::new();
    bench.json(&["score", "model", "rows.jsonl"]);
    for args in commands() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let run = run(bench.command(&args), writer);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn an_error_is_one_even_if_the_pipe_is_closed() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let run = run(Bench::new().command(&["inspect", "missing"]), writer);
    assert!(run.code == 1 && run.stderr.contains("missing"), "{}", run.stderr);
}

#[test]
fn a_chat_whose_reader_is_gone_ends() {
    use std::io::Write;

    let bench = Bench::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = bench.command(&["chat", "model", "--max-tokens", "4"]);
    command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // The chat may end before it reads all of this.
    let _ = stdin.write_all(b"one\ntwo\nthree\n");
    drop(stdin);
    let run = Run::of(&child.wait_with_output().expect("it ends"));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

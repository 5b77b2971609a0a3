//! Commands that are killed at random times: an output is the old one or the new one, and the next run of the same
//! command finishes, leaves nothing behind and repeats nothing that was finished. `LITEMOE_KILLS` is the number of
//! kills.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::Bench;

const KILLS: &str = "LITEMOE_KILLS";
const DEFAULT_KILLS: usize = 20;

/// Seconds that processes of a killed command may take to end.
const MAX_ORPHAN: Duration = Duration::from_secs(5);

/// Commands, the outputs that they replace, and what to write instead of what for other outputs.
const COMMANDS: [(&str, &[&str], [&str; 2]); 9] = [
    (
        "score model rows.jsonl --similarity affinity --similarity-out similar --out scored",
        &["scored", "similar"],
        ["rows.jsonl", "others.jsonl"],
    ),
    ("score merge 1.json 2.json --out merged", &["merged"], ["2.json", "3.json"]),
    (
        "plan model scores.json --similarity-file similarity.json --out planned --budget 0.5",
        &["planned"],
        ["0.5", "0.75"],
    ),
    ("extract model plan.json --out extracted", &["extracted"], ["plan.json", "other.json"]),
    (
        "extract model plan.json --data rows.jsonl --refit full --out refitted",
        &["refitted"],
        ["rows.jsonl", "others.jsonl"],
    ),
    (
        "extract model plan.json --refit low-rank --refit-rank 2 --out low --data rows.jsonl",
        &["low", "low-refit"],
        ["rows.jsonl", "others.jsonl"],
    ),
    (
        "tune proxy rows.jsonl --validation rows.jsonl --plan plan.json --steps 3 --validate-every 1 --batch 2 \
         --validation-rows 2 --warmup 1 --out tuned --seed 0",
        &["tuned"],
        ["--seed 0", "--seed 1"],
    ),
    (
        "mount model adapter --validation rows.jsonl --plan plan.json --out mounted --scale 1",
        &["mounted"],
        ["--scale 1", "--scale 0.5"],
    ),
    (
        "eval model rows.jsonl --max-new 2 --predictions predicted",
        &["predicted"],
        ["rows.jsonl", "others.jsonl"],
    ),
];

const CUSTOMIZE: &str = "customize --foundation model --app app --no-controls --budget 0.5 --steps 2 --batch 2 \
     --validate-every 1 --validation-rows 2 --calibration-rows 8 --limit 2 --guard-rows 2 --out out";

/// A kill of this many is one of `customize`.
const CUSTOMIZE_EVERY: usize = 10;

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Names and contents below a path; none if there is nothing.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            found.extend(contents(&entry.expect("an entry").path()));
        }
    } else if let Ok(bytes) = fs::read(path) {
        found.insert(path.to_owned(), bytes);
    }
    found
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// Writes what [`contents`] found.
fn restore(path: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    remove(path);
    for (path, bytes) in files {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }
}

/// Names in the folder, without the cache of fingerprints, which is kept once the model's files are old enough.
fn names(bench: &Bench) -> Vec<String> {
    let mut names = bench.names();
    names.retain(|name| name != "cache");
    names
}

/// Number of processes whose working directory is the bench's.
fn n_processes(bench: &Bench) -> usize {
    let dir = fs::canonicalize(bench.path("")).expect("a folder");
    let is_here = |entry: fs::DirEntry| fs::read_link(entry.path().join("cwd")).ok();
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    processes.filter_map(is_here).filter(|cwd| *cwd == dir).count()
}

fn expect_no_orphan(bench: &Bench) {
    let start = Instant::now();
    while n_processes(bench) > 0 {
        assert!(start.elapsed() < MAX_ORPHAN, "a process outlives the command that started it");
        sleep(Duration::from_millis(2));
    }
}

/// Starts a command, kills it after a time, and checks that no process of it goes on.
fn kill_after(bench: &Bench, line: &str, time: Duration) {
    let mut command: Command = bench.command(&words(line));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    sleep(time);
    child.kill().expect("killed");
    child.wait().expect("ended");
    expect_no_orphan(bench);
}

#[track_caller]
fn run(bench: &Bench, line: &str) -> (Duration, String) {
    let start = Instant::now();
    let run = bench.run(&words(line));
    assert_eq!(run.code, 0, "{line}: {}", run.stderr);
    (start.elapsed(), run.stderr)
}

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write_rows("rows.jsonl", 12);
    bench.write_rows("others.jsonl", 11);
    bench.extract(&[]);
    bench.tune("proxy", "adapter", &["--plan", "plan.json"]);
    for (shard, out) in [("1/2", "1.json"), ("2/2", "2.json")] {
        run(&bench, &format!("score model rows.jsonl --batch 2 --shard {shard} --out {out}"));
    }
    run(&bench, "score model others.jsonl --batch 2 --shard 2/2 --out 3.json");
    run(
        &bench,
        "plan model scores.json --similarity-file similarity.json --out other.json --budget 0.75",
    );
    fs::create_dir(bench.path("app")).expect("a folder");
    for split in ["train", "validation", "test"] {
        fs::copy(bench.path("rows.jsonl"), bench.path(&format!("app/{split}.jsonl")))
            .expect("copied");
    }
    bench
}

/// A command with its outputs before and after it.
struct Case<'b> {
    bench: &'b Bench,
    line: &'static str,
    time: Duration,
    outputs: Vec<Output>,
}

struct Output {
    path: PathBuf,
    old: BTreeMap<PathBuf, Vec<u8>>,
    new: BTreeMap<PathBuf, Vec<u8>>,
}

impl<'b> Case<'b> {
    fn new(
        bench: &'b Bench,
        (line, outputs, [new, old]): (&'static str, &[&str], [&str; 2]),
    ) -> Self {
        let paths: Vec<PathBuf> = outputs.iter().map(|name| bench.path(name)).collect();
        let all = || paths.iter().map(|path| contents(path)).collect::<Vec<_>>();
        run(bench, &line.replacen(new, old, 1));
        let before = all();
        let (time, _) = run(bench, line);
        let outputs = paths.iter().cloned().zip(before.into_iter().zip(all()));
        let outputs: Vec<_> = outputs.map(|(path, (old, new))| Output { path, old, new }).collect();
        assert!(outputs.iter().any(|output| output.old != output.new), "{line} is as before");
        Self { bench, line, time, outputs }
    }

    /// Kills the command at a share of its time, with or without old outputs, and runs it again.
    fn kill(&self, share: f32, is_fresh: bool) {
        let before = names(self.bench);
        for output in &self.outputs {
            restore(&output.path, if is_fresh { const { &BTreeMap::new() } } else { &output.old });
        }
        kill_after(self.bench, self.line, self.time.mul_f32(share));
        for output in &self.outputs {
            let found = contents(&output.path);
            let is_old = if is_fresh { found.is_empty() } else { found == output.old };
            let name = output.path.display();
            assert!(is_old || found == output.new, "{}: {name} is broken at {share}", self.line);
        }
        run(self.bench, self.line);
        for output in &self.outputs {
            assert!(contents(&output.path) == output.new, "{} differs at {share}", self.line);
        }
        assert_eq!(names(self.bench), before, "{} at {share}", self.line);
    }
}

/// Names of the stages whose records are there.
fn recorded(bench: &Bench) -> Vec<String> {
    let records = fs::read_dir(bench.path("out/app/stages")).into_iter().flatten().flatten();
    let names = records.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
}

/// Files that `customize` makes, without those that have times in them.
fn customized(bench: &Bench) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = contents(&bench.path("out"));
    files.retain(|path, _| {
        !path.ends_with("report.json") && path.parent().is_none_or(|dir| !dir.ends_with("stages"))
    });
    files
}

fn file_names(bench: &Bench) -> Vec<PathBuf> {
    contents(&bench.path("out")).into_keys().collect()
}

#[test]
fn killed_commands_leave_old_or_new_outputs_and_nothing_else() {
    let n_kills = std::env::var(KILLS).map_or(DEFAULT_KILLS, |kills| kills.parse().expect(KILLS));
    let bench = bench();
    let cases = COMMANDS.map(|command| Case::new(&bench, command));
    let (time, _) = run(&bench, CUSTOMIZE);
    let (whole, names) = (customized(&bench), file_names(&bench));
    let shares = litemoe_fixtures::uniform(7, n_kills);
    for (index, share) in shares.into_iter().enumerate() {
        // Uniform in [0, 1.2).
        let share = 0.6 * (share + 1.0);
        if index % CUSTOMIZE_EVERY > 0 {
            cases[index % cases.len()].kill(share, index % 2 == 0);
            continue;
        }
        remove(&bench.path("out"));
        kill_after(&bench, CUSTOMIZE, time.mul_f32(share));
        let finished = recorded(&bench);
        let (_, log) = run(&bench, CUSTOMIZE);
        for stage in &finished {
            let skips = |line: &str| {
                line.split_whitespace().next() == Some(stage) && line.contains("skipped")
            };
            assert!(log.lines().any(skips), "{stage} is done again at {share}: {log}");
        }
        assert!(customized(&bench) == whole, "customize killed at {share} differs");
        assert_eq!(file_names(&bench), names, "customize killed at {share}");
    }
}

#[test]
fn a_stage_does_not_begin_when_the_process_that_started_it_has_ended() {
    let bench = Bench::new();
    let run = bench.run(&[
        "stage",
        "--parent",
        "1",
        "--app",
        "app",
        "--stage",
        "score",
        "job.json",
        "report.json",
    ]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("process 1, which started this one, has ended"), "{}", run.stderr);
}

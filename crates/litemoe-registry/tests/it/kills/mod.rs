//! Processes that are killed at random moments while they change a registry: every operation that they acknowledged is
//! there, the one that was interrupted is there whole or not at all, and no temporary file is left. `LITEMOE_KILLS` is
//! the number of kills.

mod child;
mod operation;
mod state;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use litemoe_registry::{Finding, Registry, check};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::operation::{Operation, Outcome};
use self::state::State;
use crate::scene::names;

const KILLS: &str = "LITEMOE_KILLS";
const DEFAULT_KILLS: u64 = 100;

/// Maximum number of lines of a child before it is killed, and of microseconds after them.
const MAX_LINES: usize = 40;
const MAX_MICROSECONDS: u64 = 3000;

const SIGKILL: i32 = 9;

/// What the parent knows of a registry.
struct Known {
    state: State,
    /// Keys that were acknowledged: the app while they are valid.
    keys: BTreeMap<String, Option<String>>,
}

/// What a child said before it was killed.
#[derive(Default)]
struct Said {
    done: Vec<(Operation, Outcome)>,
    /// The operation that was begun and not acknowledged.
    interrupted: Option<Operation>,
}

#[test]
fn killed_processes_lose_nothing_that_was_acknowledged() {
    let n_kills = std::env::var(KILLS).map_or(DEFAULT_KILLS, |kills| kills.parse().expect(KILLS));
    let scene = tempfile::tempdir().expect("a directory");
    let dir = scene.path().join("registry");
    drop(Registry::create(&dir).expect("a registry"));
    let mut known = Known { state: State::default(), keys: BTreeMap::new() };
    let (mut n_done, mut n_interrupted, mut n_whole) = (0, 0, 0);
    for seed in 0..n_kills {
        let said = kill_one(scene.path(), &dir, seed);
        n_done += said.done.len();
        for (operation, outcome) in &said.done {
            known.apply(operation, outcome);
        }
        let registry = Registry::open(&dir).expect("it opens");
        let expected = ["files", "registry.db", "registry.db-shm", "registry.db-wal"];
        let left: Vec<_> =
            names(&dir).into_iter().filter(|name| name != ".jobs.litemoe-lock").collect();
        assert_eq!(left, expected, "kill {seed}");
        assert!(names(&dir.join("files")).iter().all(|name| !name.starts_with('.')), "kill {seed}");
        let found = State::of(&registry);
        if let Some(operation) = said.interrupted {
            n_interrupted += 1;
            if found != known.state {
                n_whole += 1;
                let outcome = known.state.outcome(&operation, &found);
                known.apply(&operation, &outcome);
            }
            assert_eq!(found, known.state, "kill {seed} during {operation:?}");
        }
        assert_eq!(found, known.state, "kill {seed}");
        for (key, app) in &known.keys {
            let owner = registry.authenticate(key).expect("read").map(|app| app.name.to_string());
            assert_eq!(owner, *app, "kill {seed}");
        }
        // Jobs that were running are queued again, once.
        known.state.resume();
        for _ in 0..2 {
            drop(registry.worker().expect("no other worker"));
            assert_eq!(State::of(&registry), known.state, "kill {seed}");
        }
        for finding in check(&dir).expect("checked").findings {
            assert!(matches!(finding, Finding::Orphan { .. }), "kill {seed}: {finding:?}");
        }
        registry.collect_garbage().expect("collected");
        assert!(check(&dir).expect("checked").is_clean(), "kill {seed}");
    }
    println!(
        "{n_kills} kills, {n_done} operations acknowledged, {n_interrupted} interrupted, {n_whole} of them whole"
    );
    assert!(n_done as u64 > n_kills && n_interrupted as u64 > n_kills / 4);
}

impl Known {
    fn apply(&mut self, operation: &Operation, outcome: &Outcome) {
        self.state.apply(operation, outcome);
        let mut end_keys = |app: &String| {
            self.keys
                .values_mut()
                .filter(|owner| owner.as_ref() == Some(app))
                .for_each(|o| *o = None);
        };
        match operation {
            Operation::Rotate { app, grace: false } | Operation::Revoke { app } => end_keys(app),
            _ => {}
        }
        if let (Some(key), Some(app)) = (&outcome.key, operation.app()) {
            self.keys.insert(key.clone(), Some(app.clone()));
        }
    }
}

/// Starts a child on a registry, kills it at a random moment, and returns what it said.
fn kill_one(scene: &Path, dir: &Path, seed: u64) -> Said {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut child = child::start(scene, dir, seed);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut said = Said::default();
    let mut line = String::new();
    for _ in 0..rng.random_range(0..MAX_LINES) {
        line.clear();
        lines.read_line(&mut line).expect("a line");
        said.hear(&line);
    }
    let (start, time) =
        (Instant::now(), Duration::from_micros(rng.random_range(0..MAX_MICROSECONDS)));
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
    kill(&mut child, seed);
    // What it said until it was dead.
    let mut rest = String::new();
    lines.read_to_string(&mut rest).expect("lines");
    let whole = rest.rfind('\n').map_or("", |end| &rest[..=end]);
    whole.lines().for_each(|line| said.hear(line));
    said
}

fn kill(child: &mut Child, seed: u64) {
    child.kill().expect("killed");
    let status = child.wait().expect("ended");
    if status.signal() != Some(SIGKILL) {
        let mut stderr = String::new();
        let mut pipe = child.stderr.take().expect("a pipe");
        pipe.read_to_string(&mut stderr).expect("text");
        panic!("the child of seed {seed} ended by itself: {status}: {stderr}");
    }
}

impl Said {
    fn hear(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(operation) = line.strip_prefix("begin ") {
            assert!(self.interrupted.is_none(), "{line}");
            self.interrupted = Some(serde_json::from_str(operation).expect("an operation"));
        } else if let Some(outcome) = line.strip_prefix("done ") {
            let operation = self.interrupted.take().expect("an operation");
            self.done.push((operation, serde_json::from_str(outcome).expect("an outcome")));
        } else if line.starts_with("refused ") {
            self.interrupted = None;
        }
    }
}

/// The test binary, running one test with an environment variable.
pub(crate) fn this_test(name: &str, variable: (&str, &Path)) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(variable.0, variable.1);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

//! The process that is killed: changes a registry at random, and says what it begins and what is done.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;
use std::{env, fs, io};

use litemoe_registry::{
    Job, JobResult, JobState, Level, NewAdapter, Owner, Page, Registry, RegistryError, Settings,
    Worker,
};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::operation::{Operation, Outcome, bytes};
use super::state::live_apps;
use super::this_test;
use crate::scene::{adapter, app, provenance};

/// Set in a child: the registry's directory, and the seed after a colon.
const CHILD: &str = "LITEMOE_REGISTRY_CHILD";

/// Starts a child, with its own folder in `scene`.
pub(crate) fn start(scene: &Path, dir: &Path, seed: u64) -> Child {
    let mut variable = dir.as_os_str().to_owned();
    variable.push(format!(":{seed}"));
    let mut command = this_test("kills::child::child", (CHILD, Path::new(&variable)));
    command.current_dir(scene).spawn().expect("it starts")
}

#[test]
fn child() {
    let Ok(variable) = env::var(CHILD) else { return };
    let (dir, seed) = variable.rsplit_once(':').expect("a directory and a seed");
    let registry = Registry::open(Path::new(dir)).expect("it opens");
    let worker = registry.worker().expect("no other worker");
    let mut rng = ChaCha8Rng::seed_from_u64(seed.parse().expect("a seed"));
    // Behind what the test harness has printed on the line.
    say("");
    loop {
        let Some((operation, job)) = draw(&registry, &mut rng) else { continue };
        say(&format!("begin {}", serde_json::to_string(&operation).expect("JSON")));
        match run(&registry, &worker, &operation, job.as_ref()) {
            Ok(outcome) => say(&format!("done {}", serde_json::to_string(&outcome).expect("JSON"))),
            Err(error) => say(&format!("refused {error}")),
        }
    }
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    // After the parent is gone, too.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Draws an operation that is possible now, with its job.
fn draw(registry: &Registry, rng: &mut ChaCha8Rng) -> Option<(Operation, Option<Job>)> {
    let live = live_apps(registry);
    if live.len() < 2 || live.len() < 5 && rng.random_ratio(1, 20) {
        let app = format!("app-{:x}", rng.random::<u32>());
        return Some((Operation::AddApp { app }, None));
    }
    let name = live.choose(rng)?.clone();
    let app = name.to_string();
    let files = registry.files(&name, Page::default()).expect("files");
    let jobs = registry.jobs(&name, Page { limit: 20, ..Page::default() }).expect("jobs");
    let running = jobs.iter().find(|job| job.state == JobState::Running).cloned();
    let content = rng.random_range(0..6);
    let (adapter_name, is_shared) =
        (format!("adapter-{}", rng.random_range(0..3)), rng.random_ratio(1, 4));
    let owner = if is_shared { Owner::Shared } else { Owner::App(name.clone()) };
    let own = Owner::App(name.clone());
    let replaces = |owner: &Owner| {
        registry.adapter(owner, &adapter(&adapter_name)).ok().map(|found| found.generation)
    };
    let named = (!is_shared).then(|| app.clone());
    let operation = match rng.random_range(0..22) {
        0 => Operation::SetWeight { app, weight: rng.random_range(1..100) },
        1 => Operation::Rotate { app, grace: rng.random() },
        2 if rng.random_ratio(1, 5) => Operation::Revoke { app },
        3..=5 => Operation::Record { app, tokens: rng.random_range(0..1000) },
        6..=9 => {
            let replaces = replaces(&owner);
            Operation::Put { owner: named, name: adapter_name, content, replaces }
        }
        10 => Operation::RemoveAdapter { owner: named, name: adapter_name },
        11 | 12 if files.len() < 8 => Operation::Upload { app, content },
        13 => Operation::RemoveFile { app, id: files.choose(rng)?.id.clone() },
        14 | 15 if jobs.len() < 20 => Operation::CreateJob { app },
        16 => Operation::Claim,
        17 | 18 => Operation::AddEvent { app, id: running.as_ref()?.id.clone() },
        19 => {
            let (id, replaces) = (running.as_ref()?.id.clone(), replaces(&own));
            Operation::Succeed { app, id, name: adapter_name, content, replaces }
        }
        20 if rng.random() => Operation::Fail { app, id: running.as_ref()?.id.clone() },
        20 => Operation::Cancel { app, id: jobs.choose(rng)?.id.clone() },
        21 => Operation::CollectGarbage,
        _ => return None,
    };
    Some((operation, running))
}

fn run(
    registry: &Registry,
    worker: &Worker,
    operation: &Operation,
    job: Option<&Job>,
) -> Result<Outcome, RegistryError> {
    let mut outcome = Outcome::default();
    let owned = |owner: &Option<String>| match owner {
        Some(name) => Owner::App(app(name)),
        None => Owner::Shared,
    };
    let job = || job.expect("a running job");
    match operation {
        Operation::AddApp { app: name } => {
            let key = registry.add_app(&app(name), &Settings::default())?;
            (outcome.key, outcome.key_id) = (Some(key.reveal()), Some(key.id().to_owned()));
        }
        Operation::SetWeight { app: name, weight } => {
            let weight = std::num::NonZeroU32::new(*weight).expect("above 0");
            registry.set_app(&app(name), |settings| settings.weight = weight)?;
        }
        Operation::Rotate { app: name, grace } => {
            let grace = if *grace { Duration::from_secs(86_400) } else { Duration::ZERO };
            let key = registry.rotate_key(&app(name), grace)?;
            (outcome.key, outcome.key_id) = (Some(key.reveal()), Some(key.id().to_owned()));
        }
        Operation::Revoke { app: name } => registry.revoke_app(&app(name))?,
        Operation::Record { app: name, tokens } => {
            let usage = litemoe_registry::Usage {
                requests: 1,
                prompt_tokens: *tokens,
                ..litemoe_registry::Usage::default()
            };
            registry.record_usage(&app(name), &usage)?;
        }
        Operation::Put { owner, name, content, replaces } => {
            let (owner, name, dir, provenance) =
                (owned(owner), adapter(name), folder(*content), provenance());
            let new = NewAdapter {
                owner: &owner,
                name: &name,
                dir: &dir,
                provenance: &provenance,
                replaces: *replaces,
            };
            outcome.generation = Some(registry.put_adapter(&new)?.generation);
        }
        Operation::RemoveAdapter { owner, name } => {
            registry.remove_adapter(&owned(owner), &adapter(name), None)?;
        }
        Operation::Upload { app: name, content } => {
            let mut upload = registry.upload()?;
            upload.write_all(&bytes(*content)).expect("written");
            let file_name = "rows.jsonl".parse().expect("a name");
            outcome.id = Some(registry.add_file(&app(name), &file_name, "fine-tune", upload)?.id);
        }
        Operation::RemoveFile { app: name, id } => registry.remove_file(&app(name), id)?,
        Operation::CreateJob { app: name } => {
            outcome.id = Some(registry.create_job(&app(name), json!({"steps": 10}))?.id);
        }
        Operation::Claim => {
            if let Some(claimed) = worker.claim_next()? {
                (outcome.app, outcome.id) = (Some(claimed.app.into()), Some(claimed.id));
            }
        }
        Operation::AddEvent { .. } => {
            worker.add_event(job(), Level::Info, "step", json!({"loss": 0.5}))?;
        }
        Operation::Succeed { name, content, replaces, .. } => {
            let (name, provenance) = (adapter(name), provenance());
            let dir = folder(*content);
            let result =
                JobResult { name: &name, dir, provenance: &provenance, replaces: *replaces };
            outcome.generation = Some(worker.succeed_with(job(), &result)?.generation);
        }
        Operation::Fail { .. } => worker.fail(job(), "failed")?,
        Operation::Cancel { app: name, id } => drop(registry.cancel_job(&app(name), id)?),
        Operation::CollectGarbage => drop(registry.collect_garbage()?),
    }
    Ok(outcome)
}

/// A folder with a content, made once.
fn folder(content: u8) -> PathBuf {
    let dir = env::current_dir().expect("a folder").join(format!("content-{content}"));
    fs::create_dir_all(&dir).expect("a folder");
    for name in ["weights", "config"] {
        let path = dir.join(name);
        let bytes = if name == "weights" { vec![content] } else { bytes(content) };
        if fs::read(&path).ok().as_ref() != Some(&bytes) {
            fs::write(path, bytes).expect("a file");
        }
    }
    dir
}

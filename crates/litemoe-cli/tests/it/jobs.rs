//! Fine-tuning jobs that `serve` runs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use litemoe_registry::{
    AppName, Job, JobEvent, JobSpec, JobState, Owner, Registry, Settings, check,
};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::serving::answer;

/// Longest time of a job.
const LONG: Duration = Duration::from_secs(300);

/// Number of kills, if not by default, and longest time from the start to one.
const KILLS: &str = "LITEMOE_KILLS";
const DEFAULT_KILLS: usize = 3;
const MAX_TIME: Duration = Duration::from_secs(4);

/// Interruptions of a job after which it is let end.
const MAX_INTERRUPTED: u32 = 4;

/// Time in which an interruption is noticed.
const PROMPT: Duration = Duration::from_secs(10);

/// A registry with the app `home`.
struct Scene {
    bench: Bench,
    registry: Registry,
    app: AppName,
    key: String,
}

impl Scene {
    fn new() -> Self {
        let bench = Bench::new();
        let registry = Registry::create(&bench.path("apps")).expect("a registry");
        let app: AppName = "home".parse().expect("a name");
        let key = registry.add_app(&app, &Settings::default()).expect("added").reveal();
        Self { bench, registry, app, key }
    }

    fn upload(&self, rows: &str) -> String {
        let mut upload = self.registry.upload().expect("an upload");
        upload.write_all(rows.as_bytes()).expect("written");
        let name = "rows.jsonl".parse().expect("a name");
        self.registry.add_file(&self.app, &name, "fine-tune", upload).expect("stored").id
    }

    /// Queues a job on a few rows of the app `home`, with a few steps.
    fn quick(&self) -> Job {
        let validation = self.upload(&rows("validation", 16));
        let spec = JobSpec::new("foundation", self.upload(&rows("train", 96)));
        self.queue(&JobSpec {
            validation_file: Some(validation),
            n_epochs: Some(2),
            batch_size: Some(8),
            learning_rate_multiplier: Some(2.0),
            suffix: Some("lamps".parse().expect("a name")),
            ..spec
        })
    }

    fn queue(&self, spec: &JobSpec) -> Job {
        self.registry.create_tuning_job(&self.app, spec).expect("queued")
    }

    fn job(&self, job: &Job) -> Job {
        self.registry.job(&self.app, &job.id).expect("the job")
    }

    fn events(&self, job: &Job) -> Vec<JobEvent> {
        self.registry.job_events(&self.app, &job.id, 0, 1000).expect("events")
    }

    fn has_event(&self, job: &Job, text: &str) -> bool {
        self.events(job).iter().any(|event| event.message.contains(text))
    }

    /// Serves the embedded foundation and runs the jobs.
    fn serve(&self, options: &[&str]) -> Service {
        let foundation = litemoe_fixtures::foundation_dir();
        let foundation = foundation.to_str().expect("text");
        let args = ["serve", foundation, "--registry", "apps", "--port", "0"];
        let mut command = self.bench.command(&[&args[..], options].concat());
        let log = fs::File::create(self.bench.path("log")).expect("a file");
        let mut child =
            command.stdout(Stdio::piped()).stderr(log).spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("a line").expect("text");
        let address = line.rsplit("http://").next().expect("an address").trim().to_owned();
        Service { child, address }
    }

    fn wait(&self, time: Duration, what: &str, is_there: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_there() {
            let log = fs::read_to_string(self.bench.path("log")).unwrap_or_default();
            assert!(begin.elapsed() < time, "{what}: {log}");
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a job is over.
    fn end(&self, job: &Job) -> Job {
        self.wait(LONG, "the job ends", || self.job(job).state.is_final());
        self.job(job)
    }

    /// Number of processes that work in the folder of a job.
    fn n_processes(&self, job: &Job) -> usize {
        let folder = self.bench.path("apps").join("jobs").join(&job.id);
        let processes = fs::read_dir("/proc").expect("processes").flatten();
        processes
            .filter(|it| fs::read_link(it.path().join("cwd")).is_ok_and(|cwd| cwd == folder))
            .count()
    }

    fn jobs_left(&self) -> usize {
        fs::read_dir(self.bench.path("apps/jobs")).map_or(0, Iterator::count)
    }
}

/// The first rows of a split of the app `home`.
fn rows(split: &str, count: usize) -> String {
    let file = litemoe_fixtures::home_dir().join(format!("{split}.jsonl"));
    let rows = fs::read_to_string(file).expect("rows");
    rows.lines().take(count).map(|row| format!("{row}\n")).collect()
}

/// Folders below a directory that others than their user can read.
fn open_to_others(dir: &Path) -> Vec<String> {
    let mut open = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(info) = fs::symlink_metadata(&path) else { continue };
        if info.is_dir() {
            if info.permissions().mode() & 0o077 != 0 {
                open.push(path.display().to_string());
            }
            open.extend(open_to_others(&path));
        }
    }
    open
}

/// A running `litemoe serve`.
struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([format!("-{name}"), id]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Service {
    /// The JSON of the answer to a request, which must succeed.
    fn ask(&self, scene: &Scene, method: &str, path: &str, kind: &str, body: &str) -> Value {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {}",
            scene.key
        );
        let request = format!(
            "{head}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        let answer = answer(&mut stream, &request);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    fn get(&self, scene: &Scene, path: &str) -> Value {
        self.ask(scene, "GET", path, "application/json", "")
    }

    fn post(&self, scene: &Scene, path: &str, body: &Value) -> Value {
        self.ask(scene, "POST", path, "application/json", &body.to_string())
    }

    /// Uploads rows, and returns the id of their file.
    fn upload(&self, scene: &Scene, rows: &str) -> String {
        let part = "--part\r\ncontent-disposition: form-data; name=";
        let body = format!(
            "{part}\"purpose\"\r\n\r\nfine-tune\r\n{part}\"file\"; filename=\"rows.jsonl\"\r\n\r\n{rows}\r\n--part--\r\n"
        );
        let file =
            self.ask(scene, "POST", "/v1/files", "multipart/form-data; boundary=part", &body);
        file["id"].as_str().expect("an id").to_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_job_makes_an_adapter_of_its_app_also_after_its_service_was_killed() {
    let scene = Scene::new();
    let job = scene.quick();
    let mut service = scene.serve(&[]);
    scene.wait(LONG, "the first stages end", || scene.has_event(&job, "the stage score is done"));
    assert_eq!(open_to_others(&scene.bench.path("apps/jobs")), [""; 0]);
    service.signal("KILL");
    service.child.wait().expect("ended");
    scene.wait(PROMPT, "nothing outlives the service", || scene.n_processes(&job) == 0);
    assert_eq!(scene.job(&job).state, JobState::Running);

    let mut service = scene.serve(&[]);
    scene.wait(LONG, "the job goes on", || scene.has_event(&job, "was done before"));
    service.signal("TERM");
    assert_eq!(service.child.wait().expect("ended").code(), Some(0));
    let stopped = scene.job(&job);
    assert_eq!(
        (stopped.state, stopped.attempts),
        (JobState::Queued, 1),
        "an orderly end is no attempt"
    );
    assert_eq!((scene.n_processes(&job), scene.jobs_left()), (0, 1));

    let _service = scene.serve(&[]);
    let done = scene.end(&job);
    assert_eq!((done.state, done.error.as_deref(), done.attempts), (JobState::Succeeded, None, 2));
    let name = done.adapter.expect("an adapter");
    assert_eq!(name.as_str(), format!("lamps-{}", &job.id[4..12]));
    let adapter = scene.registry.adapter(&Owner::App(scene.app.clone()), &name).expect("stored");
    let provenance = &adapter.provenance;
    assert_eq!(
        (provenance.foundation.len(), provenance.plan.as_ref().map(String::len)),
        (64, Some(64))
    );
    let training = JobSpec::of(&job).expect("its specification").training_file;
    let training = scene.registry.file(&scene.app, &training).expect("a file");
    assert_eq!(provenance.data, Some(training.sha256.to_string()));
    let metrics = &provenance.metrics;
    assert!(
        metrics["mounted"]["perplexity"].as_f64() < metrics["foundation"]["perplexity"].as_f64()
    );
    assert_eq!((&metrics["rows"], &metrics["job"]), (&8.into(), &job.id.clone().into()));
    assert!(metrics["trained_tokens"].as_u64().is_some_and(|tokens| tokens > 1000), "{metrics}");
    let events = scene.events(&job);
    let validation = events.iter().find(|event| event.message == "step 24 of 24");
    let validation = &validation.expect("a validation").data;
    assert!(validation["valid_loss"].is_f64() && validation["train_loss"].is_f64());
    assert!(events.len() < 60, "{}", events.len());
    let place = scene.bench.path("");
    let place = place.to_str().expect("text");
    assert!(events.iter().all(|event| !event.message.contains(place.trim_end_matches('/'))));
    scene.wait(PROMPT, "its folder is removed", || scene.jobs_left() == 0);
    let faults = check(&scene.bench.path("apps")).expect("checked").findings;
    assert!(faults.is_empty(), "{faults:?}");
}

/// At a random moment of loading, of any stage, or of storing the adapter: whatever is cut off, every job ends with its
/// adapter.
#[test]
fn a_kill_at_any_moment_loses_no_job() {
    let n_kills = std::env::var(KILLS).map_or(DEFAULT_KILLS, |kills| kills.parse().expect(KILLS));
    let scene = Scene::new();
    let mut jobs = vec![scene.quick()];
    for draw in litemoe_fixtures::uniform(n_kills as u64, n_kills) {
        let mut service = scene.serve(&[]);
        sleep(MAX_TIME.mul_f32((draw + 1.0) / 2.0));
        service.signal("KILL");
        service.child.wait().expect("ended");
        let last = jobs.last().expect("a job").clone();
        let last = &last;
        scene.wait(PROMPT, "nothing outlives the service", || scene.n_processes(last) == 0);
        let faults = check(&scene.bench.path("apps")).expect("checked").findings;
        let lost = faults.iter().find(|finding| !finding.is_garbage());
        assert!(lost.is_none(), "{lost:?}");
        // One that is interrupted more often is given up.
        if scene.job(last).attempts == MAX_INTERRUPTED {
            let _service = scene.serve(&[]);
            scene.end(last);
        }
        match scene.job(last).state {
            JobState::Succeeded => jobs.push(scene.quick()),
            JobState::Queued | JobState::Running => {}
            state => panic!("{state:?}: {:?}", scene.job(last).error),
        }
    }
    let _service = scene.serve(&[]);
    for job in &jobs {
        let done = scene.end(job);
        assert_eq!((done.state, done.error), (JobState::Succeeded, None));
        let name = done.adapter.expect("an adapter");
        let adapter = scene.registry.adapter(&Owner::App(scene.app.clone()), &name);
        assert_eq!(adapter.expect("stored").provenance.metrics["job"], job.id);
    }
    scene.wait(PROMPT, "all folders are removed", || scene.jobs_left() == 0);
    println!("{n_kills} kills, {} jobs", jobs.len());
}

#[test]
fn a_client_uploads_rows_tunes_a_model_and_chats_with_it() {
    let scene = Scene::new();
    let service = scene.serve(&["--name", "base"]);
    let training = service.upload(&scene, &rows("train", 96));
    let job = json!({
        "model": "base", "training_file": training,
        "method": { "type": "supervised", "supervised": { "hyperparameters": {
            "n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 2,
        }}},
    });
    let job = service.post(&scene, "/v1/fine_tuning/jobs", &job);
    let path = format!("/v1/fine_tuning/jobs/{}", job["id"].as_str().expect("an id"));
    let (begin, mut seen) = (Instant::now(), Vec::new());
    let done = loop {
        let job = service.get(&scene, &path);
        let events = service.get(&scene, &format!("{path}/events?limit=100"));
        for event in events["data"].as_array().expect("events").iter().rev() {
            if !seen.contains(&event["id"]) {
                seen.push(event["id"].clone());
            }
        }
        if !["queued", "running"].contains(&job["status"].as_str().expect("a status")) {
            break job;
        }
        assert!(begin.elapsed() < LONG, "{events}");
        sleep(Duration::from_millis(100));
    };
    assert_eq!(done["status"], "succeeded", "{done}");
    assert!(seen.len() > 10 && done["trained_tokens"].as_u64() > Some(1000), "{done}");
    let model = done["fine_tuned_model"].as_str().expect("a model");
    assert!(model.starts_with("ft-"));
    let models = service.get(&scene, "/v1/models");
    let models = models["data"].as_array().expect("models");
    assert!(models.iter().any(|card| card["id"] == model), "{models:?}");
    let say = |model: &str| {
        let message = json!({ "role": "user", "content": "turn on the lamp in the kitchen" });
        let chat = json!({ "model": model, "messages": [message], "max_tokens": 16 });
        let answer = service.post(&scene, "/v1/chat/completions", &chat);
        answer["choices"][0]["message"]["content"].as_str().expect("text").to_owned()
    };
    assert_ne!(say(model), say("base"));
}

#[test]
fn a_job_that_is_cancelled_stops_at_once_and_the_next_begins() {
    let scene = Scene::new();
    let (first, second) = (scene.quick(), scene.quick());
    let _service = scene.serve(&[]);
    scene.wait(LONG, "a stage runs", || scene.has_event(&first, "scoring"));
    assert!(scene.n_processes(&first) > 0);
    scene.registry.cancel_job(&scene.app, &first.id).expect("cancelled");
    scene.wait(PROMPT, "its processes end", || scene.n_processes(&first) == 0);
    scene.wait(PROMPT, "the next begins", || scene.job(&second).state == JobState::Running);
    let folder = scene.bench.path("apps/jobs").join(&first.id);
    scene.wait(PROMPT, "its folder is removed", || !folder.exists());
    assert_eq!(scene.job(&first).state, JobState::Cancelled);
    scene.registry.revoke_app(&scene.app).expect("revoked");
    scene.wait(PROMPT, "a revoked app has no jobs", || scene.n_processes(&second) == 0);
}

#[test]
fn jobs_that_cannot_be_done_fail_with_the_reason() {
    let scene = Scene::new();
    let good = rows("train", 40);
    let spec = |rows: &str| JobSpec::new("foundation", scene.upload(rows));
    let of_other_model = JobSpec { model: "other".to_owned(), ..spec(&good) };
    let one_row = Some(scene.upload(&rows("validation", 1)));
    let table = Some(scene.upload("prompt,completion\na,b\nc,d\n"));
    let broken = format!("{good}{{\"prompt\": \"a\"}}\n");
    let jobs = [
        (spec(&broken), "training_file, line 41: "),
        (spec("not rows"), "training_file "),
        (spec(&rows("train", 2)), "training_file: its 2 rows are too few"),
        (of_other_model, "the model `other` is not served here"),
        (JobSpec { validation_file: one_row, ..spec(&good) }, "validation_file needs at least 2"),
        (JobSpec { validation_file: table, ..spec(&good) }, "validation_file must be JSON Lines"),
    ]
    .map(|(spec, reason)| (scene.queue(&spec), reason));
    // Its worker's process died five times.
    let lost = scene.queue(&spec(&good));
    let others: Vec<_> = jobs.iter().map(|(job, _)| job).collect();
    let service = scene.serve(&[]);
    for (job, reason) in &jobs {
        let failed = scene.end(job);
        let error = failed.error.expect("a reason");
        assert_eq!(failed.state, JobState::Failed, "{error}");
        assert!(error.starts_with(reason), "{error}");
        assert!(!error.contains('/'), "{error}");
        assert_eq!(scene.events(job).last().map(|event| event.message.clone()), Some(error));
    }
    assert_eq!(others.len(), 6);
    scene.wait(LONG, "the last begins", || scene.job(&lost).state == JobState::Running);
    drop(service);
    scene.wait(PROMPT, "nothing outlives the service", || scene.n_processes(&lost) == 0);
    while scene.job(&lost).attempts < 5 {
        scene.registry.worker().expect("the worker").claim_next().expect("claimed");
    }
    let service = scene.serve(&["--job-memory", "30000000"]);
    let error = scene.end(&lost).error.expect("a reason");
    assert_eq!(
        error,
        "given up after 5 attempts: the service ended, or could not store how the job ended"
    );
    let large = scene.queue(&spec(&good));
    let error = scene.end(&large).error.expect("a reason");
    assert!(error.contains("of memory, and a job may have 28.61 MiB"), "{error}");
    drop(service);
}

#[test]
fn no_job_holds_up_the_others_for_longer_than_it_may() {
    let scene = Scene::new();
    let training: String =
        (0..2001).map(|n| format!("{{\"prompt\": \"{n}\", \"completion\": \"{n}\"}}\n")).collect();
    let spec = JobSpec::new("foundation", scene.upload(&training));
    let many = scene.queue(&JobSpec {
        validation_file: Some(scene.upload(&rows("validation", 16))),
        n_epochs: Some(50),
        batch_size: Some(1),
        ..spec
    });
    let service = scene.serve(&[]);
    let error = scene.end(&many).error.expect("a reason");
    assert!(error.contains("which is 100050 steps with 2001 training rows"), "{error}");
    drop(service);
    let (first, second) = (scene.quick(), scene.quick());
    let _service = scene.serve(&["--job-time", "1"]);
    for job in [&first, &second] {
        let late = scene.end(job);
        let error = "the job takes longer than the 1 s that it may take here";
        assert_eq!((late.state, late.error.as_deref()), (JobState::Failed, Some(error)));
        scene.wait(PROMPT, "its processes end", || scene.n_processes(job) == 0);
    }
}

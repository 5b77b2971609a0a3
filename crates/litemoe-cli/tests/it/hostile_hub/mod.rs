//! A hostile hub: a pull from it fails and ends, changes nothing outside the cache, and tells its token to nobody else.

mod hangs;
#[cfg(unix)]
mod links;
mod listings;
mod redirects;
mod transfers;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::Run;
use crate::hub_server::{HubServer, ID, Request, hash_of};
use crate::pull::{self, Pull};

const TOKEN: &str = "hf_secret";
const WEIGHTS: &str = "model.safetensors";

/// A pull from a hostile hub, which needs a token.
struct Scene {
    pull: Pull,
}

/// What is at a path.
#[derive(Debug, PartialEq)]
enum Entry {
    Folder,
    File(Vec<u8>),
    Link(PathBuf),
    Other,
}

impl Scene {
    fn new() -> Self {
        let pull = Pull::new();
        pull.server.hub().token = Some(TOKEN.to_owned());
        Self { pull }
    }

    /// Hub whose list of files is edited.
    fn lists(edit: impl Fn(&mut Value) + Send + 'static) -> Self {
        let scene = Self::new();
        scene.pull.server.hub().edit = Some(Box::new(edit));
        scene
    }

    /// Hub that answers the requests whose path contains `part` by a function.
    fn answers(
        part: &'static str,
        answer: impl Fn(&Request, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let scene = Self::new();
        attack(&scene.pull.server, part, answer);
        scene
    }

    /// Hub that answers the requests whose path contains `part` by these bytes.
    fn sends(part: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::answers(part, move |_, stream| stream.write_all(&bytes))
    }

    /// Contents of one of the hub's files.
    fn contents(&self, name: &str) -> Vec<u8> {
        self.pull.server.hub().files[name].clone()
    }

    fn command(&self, id: &str) -> Command {
        let mut command = self.pull.command(&["pull", id]);
        command.env("HF_TOKEN", TOKEN);
        command
    }

    /// Pulls, and checks what holds after every pull.
    #[track_caller]
    fn run(&self, command: &mut Command) -> Run {
        let before = tree(&self.pull.bench.path(""));
        let run = Run::of(&command.output().expect("the binary runs"));
        let after = tree(&self.pull.bench.path(""));
        check(&before, &after);
        let seen = self.pull.server.hub().seen.clone();
        assert!(seen.iter().all(|request| request.token.as_deref() == Some(TOKEN)), "{seen:?}");
        let is_plain = |c: char| c == '\n' || !c.is_control();
        assert!(run.stderr.chars().all(is_plain), "{:?}", run.stderr);
        run
    }

    /// Pulls, and checks that it fails, mentions all of these, and makes no ref.
    #[track_caller]
    fn fails(&self, mentions: &[&str]) {
        self.fails_by(&mut self.command(ID), mentions);
    }

    #[track_caller]
    fn fails_by(&self, command: &mut Command, mentions: &[&str]) {
        let reference = self.pull.repo().join("refs/main");
        let before = fs::read(&reference).ok();
        pull::refused(&self.run(command), mentions);
        assert_eq!(fs::read(&reference).ok(), before);
    }

    /// As [`fails`](Self::fails), soon after a second without progress.
    #[track_caller]
    fn ends(&self, mentions: &[&str]) {
        let begin = Instant::now();
        self.fails_by(self.command(ID).env("HF_HUB_DOWNLOAD_TIMEOUT", "1"), mentions);
        let seconds = begin.elapsed().as_secs_f64();
        assert!(seconds < 10.0, "{seconds} s");
    }

    /// Pulls, and checks that it succeeds.
    #[track_caller]
    fn succeeds(&self) {
        let run = self.run(&mut self.command(ID));
        assert_eq!(run.code, 0, "{}", run.stderr);
        for name in ["config.json", WEIGHTS] {
            let found = fs::read(self.pull.snapshot().join(name)).expect("a file");
            assert!(found == self.pull.bench.read(&format!("model/{name}")), "{name}");
        }
    }
}

/// Answers the requests of a server whose path contains `part` by a function.
fn attack(
    server: &HubServer,
    part: &'static str,
    answer: impl Fn(&Request, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
) {
    server.hub().attack = Some(Arc::new(move |request: &Request, stream: &mut TcpStream| {
        let is_hit = request.path.contains(part);
        if is_hit {
            answer(request, stream)?;
        }
        Ok(is_hit)
    }));
}

/// Sends the same bytes again and again, until the other end hangs up.
fn drip(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> io::Result<()> {
    loop {
        stream.write_all(bytes)?;
        std::thread::sleep(pause);
    }
}

/// All paths below a folder, without following links.
fn tree(root: &Path) -> BTreeMap<PathBuf, Entry> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
        for entry in fs::read_dir(dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            let kind = fs::symlink_metadata(&path).expect("metadata").file_type();
            let entry = if kind.is_dir() {
                walk(root, &path, found);
                Entry::Folder
            } else if kind.is_symlink() {
                Entry::Link(fs::read_link(&path).expect("a link"))
            } else if kind.is_file() {
                Entry::File(fs::read(&path).expect("a file"))
            } else {
                Entry::Other
            };
            found.insert(path.strip_prefix(root).expect("below").to_owned(), entry);
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

/// Checks that only the cache has changed, that its new links lead to its blobs, and that blobs have their names' hashes.
#[track_caller]
fn check(before: &BTreeMap<PathBuf, Entry>, after: &BTreeMap<PathBuf, Entry>) {
    let cache = Path::new("hf/hub");
    let is_outside = |path: &Path| !path.starts_with(cache) && !cache.starts_with(path);
    for (path, entry) in before.iter().filter(|(path, _)| is_outside(path)) {
        assert_eq!(after.get(path), Some(entry), "{} has changed", path.display());
    }
    for (path, entry) in after.iter().filter(|(path, _)| before.get(*path) != after.get(*path)) {
        assert!(!is_outside(path), "{} is new", path.display());
        let parts: Vec<&str> = path.iter().map(|part| part.to_str().expect("text")).collect();
        match (&parts[..], entry) {
            (
                ["hf"] | ["hf", "hub"] | ["hf", "hub", ".locks" | "models--org--tiny"],
                Entry::Folder,
            )
            | (["hf", "hub", ".locks", "models--org--tiny"], Entry::Folder)
            | (["hf", "hub", ".locks", "models--org--tiny", _], Entry::File(_))
            | (["hf", "hub", _, "blobs" | "refs" | "snapshots"], Entry::Folder)
            | (["hf", "hub", _, "snapshots", _], Entry::Folder)
            | (["hf", "hub", _, "refs", "main"], Entry::File(_)) => {}
            (["hf", "hub", _, "snapshots", _, _], Entry::Link(to)) => {
                let is_blob = to.parent() == Some(Path::new("../../blobs"));
                assert!(is_blob, "{} leads to {}", path.display(), to.display());
            }
            (["hf", "hub", _, "blobs", name], Entry::File(bytes)) => {
                let is_partial = name.ends_with(".incomplete");
                assert!(is_partial || hash_of(name, bytes) == *name, "{name} has another hash");
            }
            _ => panic!("{} is new: {entry:?}", path.display()),
        }
    }
}

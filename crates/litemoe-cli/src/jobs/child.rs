//! The process of a job.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::group_memory::group_bytes;
use super::line::Line;

/// Longest time after which an interruption is noticed.
const PAUSE: Duration = Duration::from_millis(250);

/// Maximum bytes of a result.
const MAX_RESULT: u64 = 64 << 20;

/// Lines that wait to be read.
const MAX_LINES: usize = 64;

/// What a program says when an allocation fails.
const NO_MEMORY: &str = "memory allocation of";

/// Why a process is ended before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interruption {
    /// The job is no longer to run.
    Cancelled,
    /// The service ends.
    Stopped,
    /// The job has had all of its time.
    Late,
}

/// Bounds of a process and what it starts.
pub(super) struct Bounds<F> {
    /// Maximum anonymous memory of all of them.
    pub(super) memory: Option<u64>,
    /// Whether they are to end now.
    pub(super) interruption: F,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// With its result.
    Done(String),
    /// With an error; `None` if it did not say which.
    Failed(Option<String>),
    /// With the error of a disk that is full or cannot be written to.
    NoRoom(String),
    /// Because it took more memory than it may have, or than there is.
    NoMemory,
    Interrupted(Interruption),
}

/// Runs a process and what it starts to its end, or until it exceeds its bounds.
pub(super) fn run(
    mut command: Command,
    bounds: &Bounds<impl Fn() -> Option<Interruption>>,
    mut on_line: impl FnMut(&Line),
) -> anyhow::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C is for the service alone, and all processes of the job can be ended at once.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut running = Running(command.spawn().context("cannot start the process of the job")?);
    let stdout = running.0.stdout.take().context("the job has no standard output")?;
    let stderr = running.0.stderr.take().context("the job has no standard error")?;
    let result = thread::spawn(move || {
        let mut result = String::new();
        stdout.take(MAX_RESULT).read_to_string(&mut result).map(|_| result)
    });
    let (sender, lines) = mpsc::sync_channel(MAX_LINES);
    thread::spawn(move || {
        let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
        lines
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .try_for_each(|line| sender.send(line))
    });
    let (mut error, mut no_memory, mut asked) = (None, false, Instant::now());
    loop {
        match lines.recv_timeout(PAUSE) {
            Ok(line) => match Line::parse(&line) {
                Some(line) => {
                    if let Line::Error { message, no_room } = &line {
                        // The first: later ones say that what it ended has failed.
                        error.get_or_insert_with(|| (message.clone(), *no_room));
                    }
                    on_line(&line);
                }
                None => no_memory |= line.starts_with(NO_MEMORY),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if asked.elapsed() >= PAUSE {
            asked = Instant::now();
            if let Some(interruption) = (bounds.interruption)() {
                return Ok(Ended::Interrupted(interruption));
            }
            if bounds.memory.is_some_and(|bytes| group_bytes(running.0.id()) > bytes) {
                return Ok(Ended::NoMemory);
            }
        }
    }
    let status = running.0.wait().context("cannot wait for the process of the job")?;
    if !status.success() {
        return Ok(match error {
            _ if no_memory => Ended::NoMemory,
            Some((message, true)) => Ended::NoRoom(message),
            error => Ended::Failed(error.map(|(message, _)| message)),
        });
    }
    let result = result.join().ok().context("the result of the job cannot be read")?;
    Ok(Ended::Done(result.context("the result of the job cannot be read")?))
}

/// A process that ends, with its group, when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process_group};
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

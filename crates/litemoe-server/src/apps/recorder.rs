use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use litemoe_registry::{AppName, Registry, Usage};

use super::meter::Meter;

/// Time until usage that could not be recorded is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Usage of a request that has ended.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) app: AppName,
    pub(super) meter: Arc<Meter>,
    pub(super) usage: Usage,
}

/// Way to the thread that records usage.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    queue: Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Used(Used),
    Stop,
}

/// The thread that records usage in the registry: what comes while it writes is written together, because each write
/// waits for the disk. When it is dropped, what has come is recorded.
#[derive(Debug)]
pub(super) struct RecorderThread {
    recorder: Recorder,
    thread: Option<JoinHandle<()>>,
}

/// Usage that is not recorded yet.
type Unrecorded = BTreeMap<AppName, (Arc<Meter>, Usage)>;

impl RecorderThread {
    pub(super) fn start(registry: Registry) -> io::Result<Self> {
        let (queue, messages) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("usage".to_owned())
            .spawn(move || run(&registry, &messages))?;
        Ok(Self { recorder: Recorder { queue }, thread: Some(thread) })
    }

    pub(super) fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }
}

impl Drop for RecorderThread {
    fn drop(&mut self) {
        let _ = self.recorder.queue.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Recorder {
    /// Never waits. What comes after the thread has stopped is lost.
    pub(super) fn record(&self, used: Used) {
        let _ = self.queue.send(Message::Used(used));
    }
}

fn run(registry: &Registry, messages: &Receiver<Message>) {
    let mut unrecorded = Unrecorded::new();
    let mut is_stopping = false;
    while !is_stopping {
        let first = match unrecorded.is_empty() {
            true => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => messages.recv_timeout(RETRY),
        };
        is_stopping = matches!(first, Err(RecvTimeoutError::Disconnected));
        for message in first.into_iter().chain(messages.try_iter()) {
            match message {
                Message::Used(used) => add(&mut unrecorded, used),
                Message::Stop => is_stopping = true,
            }
        }
        unrecorded.retain(|app, (meter, usage)| match registry.record_usage(app, usage) {
            Ok(()) => {
                meter.recorded(usage.tokens());
                false
            }
            Err(error) => {
                tracing::error!(%app, %error, "usage is not recorded");
                true
            }
        });
    }
}

fn add(unrecorded: &mut Unrecorded, used: Used) {
    let Used { app, meter, usage } = used;
    let (_, sum) = unrecorded.entry(app).or_insert_with(|| (meter, Usage::default()));
    sum.requests = sum.requests.saturating_add(usage.requests);
    sum.prompt_tokens = sum.prompt_tokens.saturating_add(usage.prompt_tokens);
    sum.cached_tokens = sum.cached_tokens.saturating_add(usage.cached_tokens);
    sum.completion_tokens = sum.completion_tokens.saturating_add(usage.completion_tokens);
}

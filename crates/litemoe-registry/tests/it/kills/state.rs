use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use litemoe_registry::{AppName, JobState, Owner, Page, Registry, StoredAdapter};

use super::operation::{Operation, Outcome, bytes};
use crate::scene::app;

type Id = (String, String);

/// Everything in a registry, as a test compares it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    apps: BTreeMap<String, AppState>,
    /// By owner and name: generation and content.
    adapters: BTreeMap<(Option<String>, String), (u64, u8)>,
    /// By app and id: content.
    files: BTreeMap<Id, u8>,
    jobs: BTreeMap<Id, JobSeen>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct AppState {
    weight: u32,
    is_revoked: bool,
    keys: BTreeSet<String>,
    requests: u64,
    tokens: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct JobSeen {
    state: &'static str,
    attempts: u32,
    n_events: u64,
    adapter: Option<String>,
    error: Option<String>,
}

impl State {
    pub(crate) fn of(registry: &Registry) -> Self {
        let mut state = Self::default();
        state.read_adapters(registry.adapters(&Owner::Shared).expect("adapters"));
        for app in registry.apps().expect("apps") {
            let (name, key) = (&app.name, app.name.to_string());
            let usage = registry.usage(name, time::Date::MIN..=time::Date::MAX).expect("usage");
            let sum = |count: fn(&litemoe_registry::Usage) -> u64| {
                usage.iter().map(|day| count(&day.usage)).sum()
            };
            let seen = AppState {
                weight: app.settings.weight.get(),
                is_revoked: app.revoked.is_some(),
                keys: registry.keys(name).expect("keys").into_iter().map(|key| key.id).collect(),
                requests: sum(|usage| usage.requests),
                tokens: sum(|usage| usage.tokens()),
            };
            state.read_adapters(registry.adapters(&Owner::App(name.clone())).expect("adapters"));
            state.read_files(registry, name);
            state.read_jobs(registry, name);
            state.apps.insert(key, seen);
        }
        state
    }

    fn read_adapters(&mut self, adapters: Vec<StoredAdapter>) {
        for adapter in adapters {
            let owner = match adapter.owner {
                Owner::Shared => None,
                Owner::App(name) => Some(name.to_string()),
            };
            assert_eq!(adapter.files.len(), 2);
            let content = (adapter.files[0].bytes - 100) / 300;
            let seen = (adapter.generation, u8::try_from(content).expect("a byte"));
            self.adapters.insert((owner, adapter.name.to_string()), seen);
        }
    }

    fn read_files(&mut self, registry: &Registry, app: &AppName) {
        for file in registry.files(app, Page::default()).expect("files") {
            let mut content = Vec::new();
            let mut open = registry.open_file(app, &file.id).expect("a content");
            open.read_to_end(&mut content).expect("read");
            assert!(content == bytes(content[0]), "{} is damaged", file.id);
            self.files.insert((app.to_string(), file.id), content[0]);
        }
    }

    fn read_jobs(&mut self, registry: &Registry, app: &AppName) {
        for job in registry.jobs(app, Page::default()).expect("jobs") {
            let events = registry.job_events(app, &job.id, 0, u32::MAX).expect("events");
            let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
            assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
            let seen = JobSeen {
                state: job.state.as_str(),
                attempts: job.attempts,
                n_events: numbers.len() as u64,
                adapter: job.adapter.map(String::from),
                error: job.error,
            };
            self.jobs.insert((app.to_string(), job.id), seen);
        }
    }

    /// What a new worker does.
    pub(crate) fn resume(&mut self) {
        for job in self.jobs.values_mut().filter(|job| job.state == JobState::Running.as_str()) {
            job.state = JobState::Queued.as_str();
        }
    }

    /// The outcome of an interrupted operation, if it was done.
    pub(crate) fn outcome(&self, operation: &Operation, found: &Self) -> Outcome {
        let mut outcome = Outcome::default();
        let new = |old: BTreeSet<&Id>, new: BTreeSet<&Id>| {
            new.difference(&old).next().map(|(_, id)| id.clone())
        };
        let key = match operation {
            Operation::Put { owner, name, .. } => Some((owner.clone(), name.clone())),
            Operation::Succeed { app, name, .. } => Some((Some(app.clone()), name.clone())),
            _ => None,
        };
        outcome.generation = key.and_then(|key| found.adapters.get(&key)).map(|seen| seen.0);
        match operation {
            Operation::AddApp { app } | Operation::Rotate { app, .. } => {
                let keys = |state: &Self| {
                    state.apps.get(app).map(|app| app.keys.clone()).unwrap_or_default()
                };
                outcome.key_id = keys(found).difference(&keys(self)).next().cloned();
            }
            Operation::Upload { .. } => {
                outcome.id = new(self.files.keys().collect(), found.files.keys().collect());
            }
            Operation::CreateJob { .. } => {
                outcome.id = new(self.jobs.keys().collect(), found.jobs.keys().collect());
            }
            Operation::Claim => {
                let claimed = found.jobs.iter().find(|(id, job)| {
                    job.state == JobState::Running.as_str() && self.jobs.get(*id) != Some(job)
                });
                if let Some(((app, id), _)) = claimed {
                    (outcome.app, outcome.id) = (Some(app.clone()), Some(id.clone()));
                }
            }
            _ => {}
        }
        outcome
    }

    pub(crate) fn apply(&mut self, operation: &Operation, outcome: &Outcome) {
        let new_key = || outcome.key_id.iter().cloned().collect();
        let new_id = || outcome.id.clone().unwrap_or_default();
        let generation = outcome.generation.unwrap_or_default();
        match operation.clone() {
            Operation::AddApp { app } => {
                self.apps
                    .insert(app, AppState { weight: 1, keys: new_key(), ..AppState::default() });
            }
            Operation::SetWeight { app, weight } => self.app(&app).weight = weight,
            Operation::Rotate { app, grace: true } => self.app(&app).keys.extend(new_key()),
            Operation::Rotate { app, grace: false } => self.app(&app).keys = new_key(),
            Operation::Revoke { app } => {
                self.app(&app).is_revoked = true;
                self.app(&app).keys.clear();
                let own = self.jobs.iter_mut().filter(|((owner, _), _)| *owner == app);
                let open = ["queued", "running"];
                own.filter(|(_, job)| open.contains(&job.state))
                    .for_each(|(_, job)| job.state = JobState::Cancelled.as_str());
            }
            Operation::Record { app, tokens } => {
                self.app(&app).requests += 1;
                self.app(&app).tokens += tokens;
            }
            Operation::Put { owner, name, content, .. } => {
                self.adapters.insert((owner, name), (generation, content));
            }
            Operation::RemoveAdapter { owner, name } => {
                self.adapters.remove(&(owner, name));
            }
            Operation::Upload { app, content } => {
                self.files.insert((app, new_id()), content);
            }
            Operation::RemoveFile { app, id } => {
                self.files.remove(&(app, id));
            }
            Operation::CreateJob { app } => {
                let job = JobSeen {
                    state: JobState::Queued.as_str(),
                    attempts: 0,
                    n_events: 0,
                    adapter: None,
                    error: None,
                };
                self.jobs.insert((app, new_id()), job);
            }
            Operation::Claim => {
                let app = outcome.app.clone().unwrap_or_default();
                if let Some(job) = self.jobs.get_mut(&(app, new_id())) {
                    job.state = JobState::Running.as_str();
                    job.attempts += 1;
                }
            }
            Operation::AddEvent { app, id } => self.job(app, id).n_events += 1,
            Operation::Succeed { app, id, name, content, .. } => {
                let job = self.job(app.clone(), id);
                (job.state, job.adapter) = (JobState::Succeeded.as_str(), Some(name.clone()));
                self.adapters.insert((Some(app), name), (generation, content));
            }
            Operation::Fail { app, id } => {
                let job = self.job(app, id);
                (job.state, job.error) = (JobState::Failed.as_str(), Some("failed".to_owned()));
            }
            Operation::Cancel { app, id } => {
                self.job(app, id).state = JobState::Cancelled.as_str();
            }
            Operation::CollectGarbage => {}
        }
    }

    fn app(&mut self, name: &str) -> &mut AppState {
        self.apps.get_mut(name).expect("an app")
    }

    fn job(&mut self, app: String, id: String) -> &mut JobSeen {
        self.jobs.get_mut(&(app, id)).expect("a job")
    }
}

/// Names of the apps that are not revoked.
pub(crate) fn live_apps(registry: &Registry) -> Vec<AppName> {
    let apps = registry.apps().expect("apps").into_iter();
    apps.filter(|found| found.revoked.is_none()).map(|found| app(found.name.as_str())).collect()
}

use litemoe_registry::{
    Job, JobResult, JobState, Level, MAX_QUEUED_JOBS, Order, Page, Registry, RegistryError,
    UnixTime, check,
};
use proptest::prelude::*;
use serde_json::json;

use crate::scene::{MIDNIGHT, Scene, adapter, app, owned, provenance};

fn job(scene: &Scene, owner: &str, spec: u32) -> Job {
    scene.registry.create_job(&app(owner), json!(spec)).expect("a job")
}

#[test]
fn a_job_goes_from_the_queue_to_its_end() {
    let scene = Scene::new();
    scene.add("home");
    let worker = scene.registry.worker().expect("the worker");
    assert_eq!(worker.claim_next().expect("read"), None);
    let spec = json!({"rows": "file-1", "steps": 10, "rate": 1e-4});
    let created = scene.registry.create_job(&app("home"), spec.clone()).expect("a job");
    assert_eq!((created.state, &created.spec, created.attempts), (JobState::Queued, &spec, 0));
    scene.pass(3);
    let running = worker.claim_next().expect("read").expect("a job");
    let now = UnixTime(MIDNIGHT as i64 + 3);
    assert_eq!(
        running,
        Job { state: JobState::Running, attempts: 1, started: Some(now), ..created }
    );
    assert_eq!(scene.registry.job(&app("home"), &running.id).expect("it"), running);
    assert_eq!(worker.claim_next().expect("read"), None);

    let event =
        |message: &str| worker.add_event(&running, Level::Info, message, json!({"step": 1}));
    assert_eq!(event("begun").expect("added"), 1);
    scene.pass(1);
    assert_eq!(event("going on").expect("added"), 2);
    assert_eq!(worker.add_event(&running, Level::Warn, "slow", json!(null)).expect("added"), 3);
    let events = |after, limit| {
        let events = scene.registry.job_events(&app("home"), &running.id, after, limit);
        events.expect("events").into_iter().map(|event| event.number).collect::<Vec<_>>()
    };
    assert_eq!((events(0, 9), events(1, 1), events(3, 9)), (vec![1, 2, 3], vec![2], vec![]));
    let last =
        scene.registry.job_events(&app("home"), &running.id, 2, 1).expect("events").remove(0);
    assert_eq!((last.level, &*last.message, last.data), (Level::Warn, "slow", json!(null)));

    worker.fail(&running, "too few rows").expect("ended");
    let failed = scene.registry.job(&app("home"), &running.id).expect("it");
    assert_eq!((failed.state, failed.error.as_deref()), (JobState::Failed, Some("too few rows")));
    assert_eq!(failed.finished, Some(UnixTime(MIDNIGHT as i64 + 4)));
    for error in [
        event("late").expect_err("over"),
        worker.succeed(&running).expect_err("over"),
        worker.fail(&running, "again").expect_err("over"),
        scene.registry.cancel_job(&app("home"), &running.id).expect_err("over"),
    ] {
        assert_eq!(error.to_string(), format!("the job `{}` is failed", running.id));
    }
}

#[test]
fn a_job_and_its_adapter_are_done_together() {
    let scene = Scene::new();
    scene.add("home");
    let (registry, provenance, name) = (&scene.registry, provenance(), adapter("tuned"));
    let dir = scene.folder("dir", &[("a", b"a")]);
    let worker = registry.worker().expect("the worker");
    let result =
        |replaces| JobResult { name: &name, dir: dir.clone(), provenance: &provenance, replaces };
    job(&scene, "home", 1);
    job(&scene, "home", 2);
    let first = worker.claim_next().expect("read").expect("a job");
    let stored = worker.succeed_with(&first, &result(None)).expect("done");
    assert_eq!(registry.adapter(&owned("home"), &name).expect("an adapter"), stored);
    let first = registry.job(&app("home"), &first.id).expect("it");
    assert_eq!((first.state, first.adapter.as_ref()), (JobState::Succeeded, Some(&name)));

    let second = worker.claim_next().expect("read").expect("a job");
    let error = worker.succeed_with(&second, &result(None)).expect_err("there is one");
    assert!(matches!(error, RegistryError::AdapterExists { .. }), "{error}");
    assert_eq!(registry.job(&app("home"), &second.id).expect("it"), second, "as before");
    registry.cancel_job(&app("home"), &second.id).expect("cancelled");
    let error = worker.succeed_with(&second, &result(Some(stored.generation)));
    assert!(matches!(error, Err(RegistryError::JobIs { state: JobState::Cancelled, .. })));
    assert_eq!(registry.adapter(&owned("home"), &name).expect("an adapter"), stored);
    assert!(check(&scene.path("registry")).expect("checked").is_clean());
}

#[test]
fn apps_take_turns_and_the_jobs_of_each_go_in_order() {
    let scene = Scene::new();
    for (name, n_jobs) in [("a", 4), ("b", 2), ("c", 1)] {
        scene.add(name);
        (0..n_jobs).for_each(|spec| drop(job(&scene, name, spec)));
    }
    let worker = scene.registry.worker().expect("the worker");
    let claim = || {
        let job = worker.claim_next().expect("read").expect("a job");
        format!("{}{}", job.app, job.spec)
    };
    let order: Vec<String> = (0..4).map(|_| claim()).collect();
    assert_eq!(order, ["a0", "b0", "c0", "a1"]);
    // One that comes later waits for no long queue.
    job(&scene, "c", 1);
    let order: Vec<String> = (0..4).map(|_| claim()).collect();
    assert_eq!(order, ["b1", "c1", "a2", "a3"]);
    assert_eq!(worker.claim_next().expect("read"), None);
}

#[test]
fn what_ran_when_the_worker_died_is_queued_again() {
    let scene = Scene::new();
    scene.add("home");
    let [first, second, third] = [1, 2, 3].map(|spec| job(&scene, "home", spec));
    let worker = scene.registry.worker().expect("the worker");
    let running = worker.claim_next().expect("read").expect("a job");
    worker.add_event(&running, Level::Info, "begun", json!(null)).expect("added");
    let done = worker.claim_next().expect("read").expect("a job");
    worker.succeed(&done).expect("done");
    assert_eq!((&running.id, &done.id), (&first.id, &second.id));
    assert!(matches!(scene.registry.worker(), Err(RegistryError::WorkerBusy)));
    // Opening alone does not touch what another process may be running.
    let again = Registry::open(&scene.path("registry")).expect("a registry");
    assert!(matches!(again.worker(), Err(RegistryError::WorkerBusy)));
    assert_eq!(again.job(&app("home"), &first.id).expect("it").state, JobState::Running);
    drop(worker);

    for _ in 0..2 {
        drop(again.worker().expect("the worker"));
        let states = [&first, &second, &third].map(|job| {
            let job = again.job(&app("home"), &job.id).expect("it");
            (job.state, job.started.is_some(), job.attempts)
        });
        assert_eq!(
            states,
            [
                (JobState::Queued, false, 1),
                (JobState::Succeeded, true, 1),
                (JobState::Queued, false, 0)
            ]
        );
    }
    let worker = again.worker().expect("the worker");
    let resumed = worker.claim_next().expect("read").expect("a job");
    assert_eq!((&resumed.id, resumed.attempts), (&first.id, 2));
    assert_eq!(worker.add_event(&resumed, Level::Info, "again", json!(null)).expect("added"), 2);
}

#[test]
fn a_queued_job_is_cancelled_and_never_begun() {
    let scene = Scene::new();
    scene.add("home");
    let [first, second] = [1, 2].map(|spec| job(&scene, "home", spec));
    let cancelled = scene.registry.cancel_job(&app("home"), &first.id).expect("cancelled");
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert_eq!(scene.registry.job(&app("home"), &first.id).expect("it"), cancelled);
    let worker = scene.registry.worker().expect("the worker");
    assert_eq!(worker.claim_next().expect("read").expect("a job").id, second.id);
    assert_eq!(worker.claim_next().expect("read"), None);
}

#[test]
fn jobs_are_listed_in_pages_in_either_order() {
    let scene = Scene::new();
    scene.add("home");
    scene.add("other");
    let mut ids: Vec<String> = (0..5).map(|spec| job(&scene, "home", spec).id).collect();
    let theirs = job(&scene, "other", 0);
    ids.reverse();
    let page = |after, limit| {
        let jobs = scene
            .registry
            .jobs(&app("home"), Page { after, limit, ..Page::default() })
            .expect("jobs");
        jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, u32::MAX), ids);
    assert_eq!(page(Some(&ids[0]), 3), ids[1..4]);
    let page = Page { after: Some(&ids[3]), limit: 2, order: Order::OldestFirst };
    let jobs = scene.registry.jobs(&app("home"), page).expect("jobs");
    assert_eq!([&jobs[0].id, &jobs[1].id], [&ids[2], &ids[1]]);
    let page = Page { after: Some(&theirs.id), limit: 1, ..Page::default() };
    assert!(matches!(scene.registry.jobs(&app("home"), page), Err(RegistryError::NoJob { .. })));
}

#[test]
fn an_app_has_a_maximum_number_of_jobs_that_are_not_over() {
    let scene = Scene::new();
    scene.add("home");
    scene.add("other");
    (0..MAX_QUEUED_JOBS).for_each(|spec| drop(job(&scene, "home", spec)));
    let worker = scene.registry.worker().expect("the worker");
    let running = worker.claim_next().expect("read").expect("a job");
    let refused = scene.registry.create_job(&app("home"), json!(0)).expect_err("too many");
    assert!(matches!(refused, RegistryError::TooManyJobs { limit: MAX_QUEUED_JOBS }));
    assert_eq!(
        refused.to_string(),
        "the app has 20 jobs that are not over, as many as it may have"
    );
    job(&scene, "other", 0);
    worker.succeed(&running).expect("done");
    job(&scene, "home", 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// No app with queued jobs waits for more than one claim of each other app, and jobs of an app stay in order.
    #[test]
    fn no_app_waits_for_two_jobs_of_another(
        steps in prop::collection::vec((0..4_usize, any::<bool>()), 1..40),
    ) {
        let scene = Scene::new();
        let apps = ["a", "b", "c", "d"];
        apps.iter().for_each(|name| drop(scene.add(name)));
        let worker = scene.registry.worker().expect("the worker");
        let mut queues = vec![std::collections::VecDeque::new(); 4];
        // Claims of each app since each other app began to wait.
        let mut since = [[0; 4]; 4];
        for (spec, (index, claims)) in (0..).zip(steps) {
            if !claims {
                if queues[index].is_empty() {
                    since[index] = [0; 4];
                }
                queues[index].push_back(job(&scene, apps[index], spec).id);
                continue;
            }
            let claimed = worker.claim_next().expect("read");
            prop_assert_eq!(claimed.is_none(), queues.iter().all(|queue| queue.is_empty()));
            let Some(claimed) = claimed else { continue };
            let turn = apps.iter().position(|name| *name == claimed.app.as_str()).expect("an app");
            prop_assert_eq!(Some(claimed.id), queues[turn].pop_front());
            since[turn] = [0; 4];
            for waiting in (0..4).filter(|&waiting| waiting != turn && !queues[waiting].is_empty()) {
                since[waiting][turn] += 1;
                prop_assert!(since[waiting][turn] <= 1, "{} waits for {}", apps[waiting], apps[turn]);
            }
        }
    }
}

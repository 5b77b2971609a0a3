//! Specifications of fine-tuning jobs.

use litemoe_registry::{JobSpec, JobState, RegistryError};
use serde_json::json;

use crate::scene::{Scene, app};

/// A registry with the app `home` and a job on a file of it.
fn scene_with_job() -> (Scene, JobSpec, String) {
    let scene = Scene::new();
    scene.add("home");
    let file = scene.upload("home", b"{}").expect("a file").id;
    let spec = JobSpec::new("model", &*file);
    let job = scene.registry.create_tuning_job(&app("home"), &spec).expect("a job");
    assert_eq!(JobSpec::of(&job).expect("its specification"), spec);
    (scene, spec, job.id)
}

#[test]
fn an_adapter_is_named_by_the_suffix_and_the_jobs_id() {
    let (_, spec, id) = scene_with_job();
    let digits = &id[4..12];
    assert_eq!(spec.adapter(&id).expect("a name").as_str(), format!("ft-{digits}"));
    let suffix = Some("a".repeat(55).parse().expect("a name"));
    let long = JobSpec { suffix, ..spec };
    long.check().expect("in range");
    assert_eq!(long.adapter(&id).expect("a name").as_str().len(), 64);
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let (scene, spec, _) = scene_with_job();
    for (wrong, message) in [
        (JobSpec { n_epochs: Some(0), ..spec.clone() }, "n_epochs is 0"),
        (JobSpec { n_epochs: Some(51), ..spec.clone() }, "n_epochs is 51"),
        (JobSpec { batch_size: Some(0), ..spec.clone() }, "batch_size is 0"),
        (
            JobSpec { learning_rate_multiplier: Some(0.0), ..spec.clone() },
            "learning_rate_multiplier is 0",
        ),
        (
            JobSpec { learning_rate_multiplier: Some(f64::NAN), ..spec.clone() },
            "learning_rate_multiplier is NaN",
        ),
        (JobSpec { budget: Some(1.5), ..spec.clone() }, "budget is 1.5"),
        (
            JobSpec { suffix: Some("a".repeat(56).parse().expect("a name")), ..spec.clone() },
            "suffix is aaaa",
        ),
    ] {
        let error = scene.registry.create_tuning_job(&app("home"), &wrong).expect_err(message);
        assert!(error.to_string().starts_with(message), "{error}");
    }
    assert_eq!(scene.registry.jobs(&app("home"), Default::default()).expect("jobs").len(), 1);
}

#[test]
fn a_job_reads_files_of_its_own_app_alone() {
    let (scene, spec, _) = scene_with_job();
    scene.add("other");
    let error = scene.registry.create_tuning_job(&app("other"), &spec).expect_err("not its own");
    assert_eq!(error.to_string(), format!("there is no file `{}`", spec.training_file));
    let validation_file = Some("file-none".to_owned());
    let spec = JobSpec { validation_file, ..spec };
    let error = scene.registry.create_tuning_job(&app("home"), &spec).expect_err("none");
    assert_eq!(error.to_string(), "there is no file `file-none`");
}

#[test]
fn a_file_stays_until_the_jobs_that_read_it_are_over() {
    let (scene, spec, id) = scene_with_job();
    let (registry, home) = (&scene.registry, app("home"));
    let validation = scene.upload("home", b"{}").expect("a file").id;
    let validating = JobSpec { validation_file: Some(validation.clone()), ..spec.clone() };
    let second = registry.create_tuning_job(&home, &validating).expect("a job").id;
    let error = registry.remove_file(&home, &validation).expect_err("read");
    assert_eq!(
        error.to_string(),
        format!("the file `{validation}` is used by the job `{second}`, which is not over")
    );
    let worker = registry.worker().expect("the worker");
    let running = worker.claim_next().expect("read").expect("a job");
    assert_eq!(running.id, id);
    registry.cancel_job(&home, &second).expect("cancelled");
    registry.remove_file(&home, &validation).expect("free");
    let error = registry.remove_file(&home, &spec.training_file).expect_err("read");
    assert!(matches!(error, RegistryError::FileInUse { job, .. } if job == id));
    worker.fail(&running, "no rows").expect("ended");
    registry.remove_file(&home, &spec.training_file).expect("free");
}

#[test]
fn a_job_that_is_put_back_was_not_begun() {
    let (scene, _, id) = scene_with_job();
    let worker = scene.registry.worker().expect("the worker");
    let running = worker.claim_next().expect("read").expect("a job");
    assert_eq!(worker.unfinished().expect("ids"), [&*id]);
    worker.put_back(&running).expect("queued");
    let queued = scene.registry.job(&app("home"), &id).expect("it");
    assert_eq!((queued.state, queued.attempts, queued.started), (JobState::Queued, 0, None));
    scene.registry.cancel_job(&app("home"), &id).expect("cancelled");
    assert!(worker.unfinished().expect("ids").is_empty());
    assert!(matches!(worker.put_back(&running), Err(RegistryError::JobIs { .. })));
}

#[test]
fn an_attempt_that_is_to_be_repeated_counts() {
    let (scene, _, id) = scene_with_job();
    let worker = scene.registry.worker().expect("the worker");
    let running = worker.claim_next().expect("read").expect("a job");
    worker.retry_later(&running).expect("queued");
    let queued = scene.registry.job(&app("home"), &id).expect("it");
    assert_eq!((queued.state, queued.attempts, queued.started), (JobState::Queued, 1, None));
}

#[test]
fn a_specification_of_another_kind_is_an_error() {
    let (scene, spec, _) = scene_with_job();
    let mut later = json!(spec);
    later["temperature"] = json!(1);
    for unknown in [json!({}), json!(1), later] {
        let job = scene.registry.create_job(&app("home"), unknown).expect("a job");
        let error = JobSpec::of(&job).expect_err("unknown");
        assert!(error.to_string().contains(&job.id), "{error}");
    }
}

//! An app learns nothing of what others have: what is theirs gives the same error as what does not exist.

use litemoe_registry::{JobResult, Owner, Page, RegistryError};
use serde_json::json;

use crate::scene::{Scene, adapter, app, owned, provenance};

/// The error's text with the id that was asked for replaced.
fn text(error: &RegistryError, id: &str) -> String {
    let text = error.to_string();
    assert!(text.contains(id), "{text}");
    text.replace(id, "ID")
}

#[test]
fn what_is_anothers_is_as_if_it_were_not_there() {
    let scene = Scene::new();
    let (home, _) = scene.add("home");
    scene.add("other");
    let (registry, me) = (&scene.registry, &home.name);
    let file = scene.upload("other", b"secret rows").expect("a file");
    let job = registry.create_job(&app("other"), json!({"file": file.id})).expect("a job");
    let dir = scene.folder("dir", &[("a", b"a")]);
    let theirs = scene.put(&owned("other"), "secret", &dir, None).expect("stored");

    type Ask<'a> = (&'a str, &'a str, &'a dyn Fn(&str) -> RegistryError);
    fn page(id: &str) -> Page<'_> {
        Page { after: Some(id), limit: 9, ..Page::default() }
    }
    let asks: [Ask<'_>; 10] = [
        (&file.id, "file-0", &|id| registry.file(me, id).expect_err("none")),
        (&file.id, "file-0", &|id| registry.open_file(me, id).expect_err("none")),
        (&file.id, "file-0", &|id| registry.remove_file(me, id).expect_err("none")),
        (&file.id, "file-0", &|id| registry.files(me, page(id)).expect_err("none")),
        (&job.id, "job-0", &|id| registry.job(me, id).expect_err("none")),
        (&job.id, "job-0", &|id| registry.job_events(me, id, 0, 9).expect_err("none")),
        (&job.id, "job-0", &|id| registry.cancel_job(me, id).expect_err("none")),
        (&job.id, "job-0", &|id| registry.jobs(me, page(id)).expect_err("none")),
        ("secret", "none", &|name| {
            registry.usable_adapter(&home, &adapter(name)).expect_err("none")
        }),
        ("secret", "none", &|name| {
            let out = scene.path("out");
            registry.materialise_adapter(&owned("home"), &adapter(name), &out).expect_err("none")
        }),
    ];
    for (theirs, nobodys, ask) in asks {
        assert_eq!(text(&ask(theirs), theirs), text(&ask(nobodys), nobodys));
    }
    // The generation does not tell either.
    for name in ["secret", "none"] {
        let error = scene.put(&owned("home"), name, &dir, Some(theirs.generation));
        assert_eq!(text(&error.expect_err("none"), name), "there is no adapter `ID`");
        let error =
            registry.remove_adapter(&owned("home"), &adapter(name), None).expect_err("none");
        assert_eq!(text(&error, name), "there is no adapter `ID`");
    }
    assert!(registry.files(me, Page::default()).expect("files").is_empty());
    assert!(registry.jobs(me, Page::default()).expect("jobs").is_empty());
    assert!(registry.usable_adapters(&home).expect("adapters").is_empty());
    // Everything is as it was, and a name is free to each app.
    assert_eq!(registry.file(&app("other"), &file.id).expect("it"), file);
    assert_eq!(registry.job(&app("other"), &job.id).expect("it"), job);
    scene.put(&owned("home"), "secret", &dir, None).expect("a name of its own");
    assert_eq!(registry.adapter(&owned("other"), &adapter("secret")).expect("it"), theirs);
    assert_eq!(registry.adapters(&Owner::Shared).expect("adapters"), []);
}

#[test]
fn a_job_makes_an_adapter_of_its_own_app_alone() {
    let scene = Scene::new();
    scene.add("home");
    scene.add("other");
    let dir = scene.folder("dir", &[("a", b"a")]);
    let theirs = scene.put(&owned("other"), "tuned", &dir, None).expect("stored");
    scene.registry.create_job(&app("home"), json!({})).expect("a job");
    let worker = scene.registry.worker().expect("the worker");
    let job = worker.claim_next().expect("read").expect("a job");
    let (name, provenance) = (adapter("tuned"), provenance());
    let result = JobResult { name: &name, dir, provenance: &provenance, replaces: None };
    let made = worker.succeed_with(&job, &result).expect("done");
    assert_eq!(made.owner, owned("home"));
    assert_eq!(scene.registry.adapter(&owned("other"), &name).expect("it"), theirs);
    // A job under another app's name is none.
    let forged = litemoe_registry::Job { app: app("other"), ..job };
    assert!(matches!(worker.succeed(&forged), Err(RegistryError::NoJob { .. })));
}

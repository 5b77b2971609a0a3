//! Fine-tuning jobs of apps. Here the test is the worker that runs them.

use axum::body::Body;
use axum::http::Response;
use litemoe_registry::{
    Allowed, Job, JobResult, JobSpec, JobState, Level, MAX_QUEUED_JOBS, Provenance, Settings,
    Worker,
};
use serde_json::{Value, json};

use crate::client::{read, text};
use crate::files::{id, upload};
use crate::shop::{FOUNDATION, Shop, app};
use crate::toy::{Step, Toy, tokens};

const JOBS: &str = "/v1/fine_tuning/jobs";

async fn create(shop: &Shop, key: &str, fields: &Value) -> Response<Body> {
    let mut body = json!({ "model": "toy" });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    shop.send("POST", JOBS, key, body.to_string()).await
}

async fn created(shop: &Shop, key: &str, fields: &Value) -> Value {
    let response = create(shop, key, fields).await;
    assert_eq!(response.status(), 200);
    read(response).await
}

async fn shown(shop: &Shop, key: &str, path: &str) -> Value {
    let response = shop.get(&format!("{JOBS}/{path}"), key).await;
    assert_eq!(response.status(), 200);
    read(response).await
}

/// Stores an adapter as the result of a running job.
fn succeed(shop: &Shop, worker: &Worker, job: &Job) -> String {
    let name = JobSpec::of(job).unwrap().adapter(&job.id).unwrap();
    let metrics = json!({ "job": job.id, "trained_tokens": 500, "step": 8, "valid_loss": 0.25 });
    let provenance =
        Provenance { foundation: FOUNDATION.to_owned(), plan: None, data: None, metrics };
    let dir = shop.folder("good");
    worker
        .succeed_with(job, &JobResult { name: &name, dir, provenance: &provenance, replaces: None })
        .unwrap();
    name.to_string()
}

#[tokio::test]
async fn a_job_is_queued_and_its_adapter_is_served_at_once() {
    let shop = Shop::of(Toy { adapted: vec![Step::Say(tokens("y")[0])], ..Toy::saying("hi") });
    let key = shop.add("home");
    let [training, validation] = ["a", "b"].map(|rows| upload(&shop, &key, rows));
    let (training, validation) = (training.await, validation.await);
    let job = created(
        &shop,
        &key,
        &json!({
            "training_file": id(&training), "validation_file": id(&validation), "suffix": "lamps",
            "seed": 7, "hyperparameters": { "n_epochs": 2, "batch_size": "auto" },
        }),
    )
    .await;
    let hyperparameters =
        json!({ "n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": "auto" });
    let expected = json!({
        "object": "fine_tuning.job", "id": id(&job), "model": "toy",
        "created_at": job["created_at"], "finished_at": null, "fine_tuned_model": null,
        "organization_id": "home", "result_files": [], "status": "queued",
        "validation_file": id(&validation), "training_file": id(&training),
        "hyperparameters": hyperparameters, "trained_tokens": null, "error": null,
        "user_provided_suffix": "lamps", "seed": 7, "estimated_finish": null, "integrations": [],
        "metadata": null,
        "method": { "type": "supervised", "supervised": { "hyperparameters": hyperparameters } },
    });
    assert_eq!(job, expected);
    assert_eq!(shown(&shop, &key, id(&job)).await, expected);
    let worker = shop.registry.worker().unwrap();
    let running = worker.claim_next().unwrap().unwrap();
    assert_eq!(shown(&shop, &key, id(&job)).await["status"], "running");
    let checkpoints = format!("{}/checkpoints", id(&job));
    assert_eq!(shown(&shop, &key, &checkpoints).await["data"], json!([]));
    let name = succeed(&shop, &worker, &running);
    assert_eq!(name, format!("lamps-{}", &id(&job)[4..12]));
    let done = shown(&shop, &key, id(&job)).await;
    assert_eq!((&done["status"], &done["fine_tuned_model"]), (&json!("succeeded"), &json!(name)));
    assert_eq!(done["trained_tokens"], 500);
    assert!(done["finished_at"].as_i64() >= done["created_at"].as_i64());
    let found = shown(&shop, &key, &checkpoints).await;
    assert_eq!(
        found["data"],
        json!([{
            "object": "fine_tuning.job.checkpoint", "id": id(&job).replace("job-", "ftckpt-"),
            "created_at": done["finished_at"], "fine_tuned_model_checkpoint": name,
            "fine_tuning_job_id": id(&job), "step_number": 8,
            "metrics": { "step": 8, "full_valid_loss": 0.25 },
        }])
    );
    assert!(shop.models(&key).await.contains(&name));
    assert_eq!(shop.content(&key, &name).await, "y");
    let removed = shop.send("DELETE", &format!("/v1/models/{name}"), &key, Body::empty()).await;
    assert_eq!(removed.status(), 200);
    assert_eq!(shown(&shop, &key, id(&job)).await["trained_tokens"], Value::Null);
    assert_eq!(shown(&shop, &key, &checkpoints).await["data"], json!([]));
}

#[tokio::test]
async fn a_failed_job_says_what_is_wrong_with_which_file() {
    let shop = Shop::of(Toy::saying("hi"));
    let key = shop.add("home");
    let file = upload(&shop, &key, "{}").await;
    let worker = shop.registry.worker().unwrap();
    for (message, code, param) in [
        ("training_file, line 3: no prompt", "invalid_training_file", json!("training_file")),
        ("validation_file needs more", "invalid_validation_file", json!("validation_file")),
        ("the service stopped", "job_failed", Value::Null),
    ] {
        let job = created(&shop, &key, &json!({ "training_file": id(&file) })).await;
        worker.fail(&worker.claim_next().unwrap().unwrap(), message).unwrap();
        let failed = shown(&shop, &key, id(&job)).await;
        assert_eq!(failed["status"], "failed");
        assert_eq!(failed["fine_tuned_model"], Value::Null);
        assert_eq!(failed["error"], json!({ "code": code, "message": message, "param": param }));
    }
}

#[tokio::test]
async fn a_job_is_cancelled_once() {
    let shop = Shop::of(Toy::saying("hi"));
    let key = shop.add("home");
    let file = upload(&shop, &key, "{}").await;
    let job = created(&shop, &key, &json!({ "training_file": id(&file) })).await;
    let path = format!("{JOBS}/{}/cancel", id(&job));
    let cancelled = read(shop.send("POST", &path, &key, Body::empty()).await).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["finished_at"].is_i64());
    let again = shop.send("POST", &path, &key, Body::empty()).await;
    assert_eq!(again.status(), 409);
    assert_eq!(read(again).await["error"]["code"], "invalid_state");
}

#[tokio::test]
async fn jobs_and_events_are_listed_in_parts_newest_first() {
    let shop = Shop::of(Toy::saying("hi"));
    let key = shop.add("home");
    let file = upload(&shop, &key, "{}").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let job = created(&shop, &key, &json!({ "training_file": id(&file) })).await;
        ids.push(id(&job).to_owned());
    }
    let list = read(shop.get(&format!("{JOBS}?limit=2"), &key).await).await;
    let found: Vec<_> = list["data"].as_array().unwrap().iter().map(id).collect();
    assert_eq!((found, &list["has_more"]), (vec![&*ids[2], &*ids[1]], &json!(true)));
    let list = read(shop.get(&format!("{JOBS}?after={}", ids[1]), &key).await).await;
    assert_eq!((id(&list["data"][0]), &list["has_more"]), (&*ids[0], &json!(false)));

    let worker = shop.registry.worker().unwrap();
    let running = worker.claim_next().unwrap().unwrap();
    assert_eq!(running.id, ids[0]);
    worker.add_event(&running, Level::Info, "begun", Value::Null).unwrap();
    let data = json!({ "step": 2, "train_loss": 0.5 });
    worker.add_event(&running, Level::Info, "step 2 of 8", data.clone()).unwrap();
    worker.add_event(&running, Level::Warn, "slow", Value::Null).unwrap();
    let events = shown(&shop, &key, &format!("{}/events?limit=2", ids[0])).await;
    let event_id = |number: u32| format!("{}-{number}", ids[0].replace("job-", "ftevent-"));
    let created_at = &events["data"][0]["created_at"];
    assert_eq!(
        events["data"],
        json!([
            { "object": "fine_tuning.job.event", "id": event_id(3), "created_at": created_at,
              "level": "warn", "message": "slow", "type": "message", "data": null },
            { "object": "fine_tuning.job.event", "id": event_id(2), "created_at": events["data"][1]["created_at"],
              "level": "info", "message": "step 2 of 8", "type": "metrics", "data": data },
        ])
    );
    assert_eq!(events["has_more"], true);
    let rest = shown(&shop, &key, &format!("{}/events?after={}", ids[0], event_id(2))).await;
    assert_eq!((id(&rest["data"][0]), &rest["has_more"]), (&*event_id(1), &json!(false)));
    let none = shop.get(&format!("{JOBS}/{}/events?after=ftevent-0", ids[0]), &key).await;
    assert_eq!(none.status(), 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_refused_by_name() {
    let shop = Shop::of(Toy::saying("hi"));
    let key = shop.add("home");
    let file = upload(&shop, &key, "{}").await;
    let file = id(&file);
    for (fields, status, param) in [
        (json!({}), 400, "training_file"),
        (json!({ "training_file": "file-none" }), 404, "training_file"),
        (json!({ "training_file": file, "validation_file": "file-none" }), 404, "validation_file"),
        (json!({ "training_file": file, "model": "fixed" }), 404, "model"),
        (json!({ "training_file": file, "hyperparameters": { "n_epochs": 0 } }), 400, "n_epochs"),
        (
            json!({ "training_file": file, "hyperparameters": { "batch_size": 2000 } }),
            400,
            "batch_size",
        ),
        (json!({ "training_file": file, "budget": 2 }), 400, "budget"),
        (json!({ "training_file": file, "suffix": "a".repeat(60) }), 400, "suffix"),
        (json!({ "training_file": file, "method": { "type": "dpo" } }), 400, "method.type"),
    ] {
        let response = create(&shop, &key, &fields).await;
        assert_eq!(response.status(), status, "{fields}");
        assert_eq!(read(response).await["error"]["param"], param, "{fields}");
    }
    let none = Settings { models: Allowed::Only(Default::default()), ..Settings::default() };
    let barred = shop.add_with("barred", &none);
    let file = upload(&shop, &barred, "{}").await;
    let refused = create(&shop, &barred, &json!({ "training_file": id(&file) })).await;
    assert_eq!(refused.status(), 404);
    assert!(shop.registry.jobs(&app("home"), Default::default()).unwrap().is_empty());
}

#[tokio::test]
async fn an_app_with_many_jobs_that_are_not_over_waits_for_them() {
    let shop = Shop::of(Toy::saying("hi"));
    let key = shop.add("home");
    let file = upload(&shop, &key, "{}").await;
    let fields = json!({ "training_file": id(&file) });
    let mut job = Value::Null;
    for _ in 0..MAX_QUEUED_JOBS {
        job = created(&shop, &key, &fields).await;
    }
    let refused = create(&shop, &key, &fields).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(read(refused).await["error"]["code"], "limit_reached");
    shop.registry.cancel_job(&app("home"), id(&job)).unwrap();
    created(&shop, &key, &fields).await;
}

#[tokio::test]
async fn a_job_of_an_unknown_kind_is_shown_without_hyperparameters() {
    let shop = Shop::of(Toy::saying("hi"));
    let key = shop.add("home");
    let file = upload(&shop, &key, "{}").await;
    let known = created(&shop, &key, &json!({ "training_file": id(&file) })).await;
    for spec in [json!({ "kind": "later", "model": "toy", "n_epochs": 2 }), json!(7)] {
        shop.registry.create_job(&app("home"), spec).unwrap();
    }
    let list = read(shop.get(JOBS, &key).await).await;
    let [other, later, first] = &list["data"].as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!(first, &known);
    assert_eq!((&later["model"], &other["model"]), (&json!("toy"), &Value::Null));
    for job in [later, other] {
        assert_eq!((&job["hyperparameters"], &job["status"]), (&json!({}), &json!("queued")));
        assert_eq!(&shown(&shop, &key, id(job)).await, job);
    }
}

#[tokio::test]
async fn jobs_of_other_apps_do_not_exist() {
    let shop = Shop::of(Toy::saying("hi"));
    let (home, other) = (shop.add("home"), shop.add("other"));
    let file = upload(&shop, &home, "{}").await;
    let job = created(&shop, &home, &json!({ "training_file": id(&file) })).await;
    let unknown = id(&job).replace(char::is_numeric, "0");
    for (method, path) in
        [("GET", ""), ("GET", "/events"), ("GET", "/checkpoints"), ("POST", "/cancel")]
    {
        let answer = |id: String| {
            let path = format!("{JOBS}/{id}{path}");
            let (shop, other) = (&shop, &other);
            async move { text(shop.send(method, &path, other, Body::empty()).await).await }
        };
        let expected = answer(unknown.clone()).await.replace(&unknown, id(&job));
        assert!(expected.contains("not_found"), "{expected}");
        assert_eq!(answer(id(&job).to_owned()).await, expected, "{method} {path}");
    }
    let stolen = create(&shop, &other, &json!({ "training_file": id(&file) })).await;
    assert_eq!(stolen.status(), 404);
    assert_eq!(read(shop.get(JOBS, &other).await).await["data"], json!([]));
    assert_eq!(shop.registry.job(&app("home"), id(&job)).unwrap().state, JobState::Queued);
}

use litemoe_registry::{Job, JobSpec, JobState, Owner, Registry, RegistryError};
use serde_json::{Value, json};

/// A job as OpenAI's API shows it; without hyperparameters if its specification is none that is known.
pub(super) fn shown(registry: &Registry, job: &Job) -> Result<Value, RegistryError> {
    let hyperparameters = JobSpec::of(job).map_or_else(|_| json!({}), |spec| shown_of(&spec));
    let spec = &job.spec;
    let adapter = job.adapter.as_ref().filter(|_| job.state == JobState::Succeeded);
    Ok(json!({
        "object": "fine_tuning.job",
        "id": job.id,
        "model": spec["model"],
        "created_at": job.created.0,
        "finished_at": job.finished.map(|time| time.0),
        "fine_tuned_model": adapter,
        "organization_id": job.app,
        "result_files": [],
        "status": job.state,
        "validation_file": spec["validation_file"],
        "training_file": spec["training_file"],
        "hyperparameters": hyperparameters,
        "trained_tokens": metrics(registry, job)?["trained_tokens"],
        "error": job.error.as_deref().map(error),
        "user_provided_suffix": spec["suffix"],
        "seed": spec["seed"].as_u64().unwrap_or(0),
        "estimated_finish": null,
        "integrations": [],
        "metadata": null,
        "method": {
            "type": "supervised",
            "supervised": { "hyperparameters": hyperparameters },
        },
    }))
}

fn shown_of(spec: &JobSpec) -> Value {
    let auto = |value: Option<Value>| value.unwrap_or_else(|| "auto".into());
    json!({
        "n_epochs": auto(spec.n_epochs.map(Value::from)),
        "batch_size": auto(spec.batch_size.map(Value::from)),
        "learning_rate_multiplier": auto(spec.learning_rate_multiplier.map(Value::from)),
    })
}

/// The adapter of a job as its last checkpoint; `None` unless it succeeded and the adapter is still there.
pub(super) fn checkpoint(registry: &Registry, job: &Job) -> Result<Option<Value>, RegistryError> {
    let metrics = metrics(registry, job)?;
    if metrics.is_null() {
        return Ok(None);
    }
    Ok(Some(json!({
        "object": "fine_tuning.job.checkpoint",
        "id": job.id.replacen("job-", "ftckpt-", 1),
        "created_at": job.finished.map(|time| time.0),
        "fine_tuned_model_checkpoint": job.adapter,
        "fine_tuning_job_id": job.id,
        "step_number": metrics["step"],
        "metrics": { "step": metrics["step"], "full_valid_loss": metrics["valid_loss"] },
    })))
}

/// Figures of the adapter that a job made; `null` unless there is one, and its content is still the job's.
fn metrics(registry: &Registry, job: &Job) -> Result<Value, RegistryError> {
    let Some(adapter) = &job.adapter else { return Ok(Value::Null) };
    match registry.adapter(&Owner::App(job.app.clone()), adapter) {
        Ok(adapter) if adapter.provenance.metrics["job"] == *job.id => {
            Ok(adapter.provenance.metrics)
        }
        Ok(_) | Err(RegistryError::NoAdapter { .. }) => Ok(Value::Null),
        Err(error) => Err(error),
    }
}

/// The error of a failed job; messages about a file begin with the parameter that names it.
fn error(message: &str) -> Value {
    let files = ["training_file", "validation_file"];
    let param = files.into_iter().find(|file| message.starts_with(file));
    let code = match param {
        Some("training_file") => "invalid_training_file",
        Some(_) => "invalid_validation_file",
        None => "job_failed",
    };
    json!({ "code": code, "message": message, "param": param })
}

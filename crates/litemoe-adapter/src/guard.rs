use litemoe_core::{Adapters, LanguageModel, Sequence};

use crate::{AdapterError, Evaluation, evaluate};

/// The scales that [`choose_scale`] usually tries.
pub const SCALES: [f32; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// How strongly an adapter should be mounted, and what was measured at each strength.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// The best scale; 0 means that the model is better off without the adapter.
    pub scale: f32,
    /// Every candidate, ascending, with its evaluation.
    pub evaluations: Vec<(f32, Evaluation)>,
}

/// Tries an adapter at several strengths on validation rows and chooses the one of lowest loss, the smaller of equals.
///
/// An adapter tuned on a much weaker proxy can harm a model that already knows the task; this is the guard against it.
/// It needs inference only. The caller mounts [`Adapters::scaled`], and nothing when the scale is 0.
///
/// # Errors
/// No candidate or one that is negative or no number, and those of [`evaluate`].
pub fn choose_scale<M: LanguageModel + ?Sized>(
    model: &M,
    adapters: &Adapters,
    validation: &[Sequence],
    candidates: &[f32],
    batch_tokens: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Guard, AdapterError> {
    let candidates = ascending(candidates)?;
    let mut evaluations = Vec::with_capacity(candidates.len());
    for scale in candidates {
        let scaled = (scale > 0.0).then(|| adapters.scaled(scale));
        let before = evaluations.len() * validation.len();
        let mut rows = |done| progress(before + done);
        let evaluation = evaluate(model, validation, scaled.as_ref(), batch_tokens, &mut rows)?;
        evaluations.push((scale, evaluation));
    }
    Ok(Guard { scale: best(&evaluations), evaluations })
}

fn ascending(candidates: &[f32]) -> Result<Vec<f32>, AdapterError> {
    let usable = |scale: &f32| scale.is_finite() && *scale >= 0.0;
    if candidates.is_empty() || !candidates.iter().all(usable) {
        let given = format!("{candidates:?}");
        let expected = "one or more numbers, none below 0";
        return Err(AdapterError::Option { option: "scale", given, expected });
    }
    let mut candidates = candidates.to_vec();
    candidates.sort_by(f32::total_cmp);
    candidates.dedup();
    Ok(candidates)
}

/// The first scale of the lowest loss.
fn best(evaluations: &[(f32, Evaluation)]) -> f32 {
    let lower = |x: &&(f32, Evaluation), y: &&(f32, Evaluation)| x.1.loss().total_cmp(&y.1.loss());
    evaluations.iter().min_by(lower).map_or(0.0, |&(scale, _)| scale)
}

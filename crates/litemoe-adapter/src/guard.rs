use litemoe_core::{Adapters, LanguageModel, MountedAdapter, Sequence};
use serde::{Deserialize, Serialize};

use crate::evaluate::{evaluate_with, evaluation_workers};
use crate::workers::Workers;
use crate::{AdapterError, Evaluation, KeptExperts, MountRouting};

/// LoRA scales to try, in descending order.
pub const SCALES: [f32; 4] = [1.0, 0.75, 0.5, 0.25];

/// Router-logit penalties to try on experts outside the proxy, in descending order: from restricted to full routing.
pub const PENALTIES: [f32; 5] = [f32::INFINITY, 4.0, 2.0, 1.0, 0.0];

/// Metric that ranks mounting choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// Mean negative log-likelihood per token in the loss; lower is better.
    Loss,
    /// Exact-match accuracy; ties are broken by the lower loss.
    Accuracy,
}

/// Options of [`choose_mount`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardOptions {
    /// Fixed routing; `None` to choose one.
    pub routing: Option<MountRouting>,
    /// Fixed LoRA scale, finite and above 0; `None` to choose one.
    pub scale: Option<f32>,
    /// Metric.
    pub by: Measure,
    /// Approximate number of tokens per evaluation batch.
    pub batch_tokens: usize,
}

/// Mounting choice: routing and LoRA scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountChoice {
    /// Routing of the app's tokens on the foundation.
    pub routing: MountRouting,
    /// Factor on the scale of every LoRA.
    pub scale: f32,
}

/// A mounting choice and its evaluation on the validation rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// The choice; `None` is the foundation alone.
    pub choice: Option<MountChoice>,
    /// Evaluation on the validation rows.
    pub evaluation: Evaluation,
}

/// Result of [`choose_mount`].
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// The best choice; `None` if the foundation is better without the adapter.
    pub choice: Option<MountChoice>,
    /// All evaluated choices, in order; the first is the foundation alone.
    pub tried: Vec<Tried>,
}

impl MountChoice {
    /// Mounts the adapter with this choice; `kept` are the experts of the proxy it was tuned on.
    ///
    /// # Panics
    /// If the routing needs `kept` and it is `None`.
    pub fn mount(self, adapters: &Adapters, kept: Option<&KeptExperts>) -> MountedAdapter {
        let router_bias = match (self.routing, kept) {
            (MountRouting::Full, _) => None,
            (routing, Some(kept)) => kept.router_bias(routing),
            (routing, None) => panic!("{routing} routing of no proxy's experts"),
        };
        let adapters =
            if self.scale == 1.0 { adapters.clone() } else { adapters.scaled(self.scale) };
        MountedAdapter { adapters, router_bias }
    }
}

/// Chooses routing and LoRA scale for mounting an adapter, by evaluation on validation rows. Ties go to the choice
/// evaluated first; the first is the foundation alone.
///
/// An adapter tuned on a proxy depends on the proxy's experts and is best mounted with tokens routed only to those
/// ([`MountRouting::Restricted`]). On a task that the foundation already knows, the proxy is the weaker model, and all
/// experts at a small scale, or no adapter, are better. The search needs only inference and does not try every pair:
/// first restricted and full routing, then penalties from the better end while they improve, then smaller scales under
/// the best routing.
///
/// # Errors
/// Options out of range, a routing that needs a proxy's experts without `kept`, and those of [`crate::evaluate`].
pub fn choose_mount<M: LanguageModel + Sync + ?Sized>(
    model: &M,
    adapters: &Adapters,
    kept: Option<&KeptExperts>,
    validation: &[Sequence],
    options: GuardOptions,
    progress: &mut dyn FnMut(usize),
) -> Result<Guard, AdapterError> {
    options.check(kept)?;
    let (workers, tried) = (evaluation_workers(), Vec::new());
    let mut search =
        Search { model, adapters, kept, validation, options, progress, workers, tried };
    search.run()?;
    let best = search.best();
    Ok(Guard { choice: search.tried[best].choice, tried: search.tried })
}

impl GuardOptions {
    /// Maximum number of evaluations, including the foundation alone.
    pub fn max_tried(&self, on_proxy: bool) -> usize {
        let routings = if self.routing.is_none() && on_proxy { PENALTIES.len() } else { 1 };
        let scales = if self.scale.is_none() { SCALES.len() - 1 } else { 0 };
        1 + routings + scales
    }

    /// Checks the options.
    ///
    /// # Errors
    /// [`AdapterError::Option`], [`AdapterError::NoProxyRouting`]
    pub fn check(&self, kept: Option<&KeptExperts>) -> Result<(), AdapterError> {
        if let Some(scale) = self.scale.filter(|scale| !(scale.is_finite() && *scale > 0.0)) {
            let (option, given) = ("scale", scale.to_string());
            return Err(AdapterError::Option { option, given, expected: "a number above 0" });
        }
        match (self.routing, kept) {
            (None | Some(MountRouting::Full), _) | (_, Some(_)) => Ok(()),
            (Some(routing), None) => Err(AdapterError::NoProxyRouting { routing }),
        }
    }
}

impl Measure {
    fn is_better(self, new: &Evaluation, old: &Evaluation) -> bool {
        match self {
            Self::Accuracy if new.accuracy() != old.accuracy() => new.accuracy() > old.accuracy(),
            Self::Loss | Self::Accuracy => new.loss() < old.loss(),
        }
    }
}

struct Search<'a, M: ?Sized> {
    model: &'a M,
    adapters: &'a Adapters,
    kept: Option<&'a KeptExperts>,
    validation: &'a [Sequence],
    options: GuardOptions,
    progress: &'a mut dyn FnMut(usize),
    workers: Workers,
    tried: Vec<Tried>,
}

impl<M: LanguageModel + Sync + ?Sized> Search<'_, M> {
    fn run(&mut self) -> Result<(), AdapterError> {
        let scale = self.options.scale.unwrap_or(SCALES[0]);
        self.evaluate(None)?;
        let routing = match (self.options.routing, self.kept) {
            (Some(routing), _) => self.routing(routing, scale)?.routing,
            (None, None) => self.routing(MountRouting::Full, scale)?.routing,
            (None, Some(_)) => self.best_routing(scale)?,
        };
        if self.options.scale.is_none() {
            for &scale in &SCALES[1..] {
                self.routing(routing, scale)?;
            }
        }
        Ok(())
    }

    /// Evaluates both ends of the penalties, then continues from the better one while that improves.
    fn best_routing(&mut self, scale: f32) -> Result<MountRouting, AdapterError> {
        let ladder = PENALTIES.map(|penalty| {
            MountRouting::of_penalty(penalty).expect("the penalties are numbers not below 0")
        });
        let [mut best, .., full] = ladder;
        self.routing(best, scale)?;
        self.routing(full, scale)?;
        let [.., restricted, of_full] = &self.tried[..] else { unreachable!("both were tried") };
        let inward: Vec<MountRouting> =
            match self.options.by.is_better(&of_full.evaluation, &restricted.evaluation) {
                true => {
                    best = full;
                    ladder[1..4].iter().rev().copied().collect()
                }
                false => ladder[1..4].to_vec(),
            };
        let mut least = self.evaluation_of(best);
        for routing in inward {
            self.routing(routing, scale)?;
            let found = self.evaluation_of(routing);
            if !self.options.by.is_better(&found, &least) {
                break;
            }
            (best, least) = (routing, found);
        }
        Ok(best)
    }

    /// The last evaluation under a routing.
    fn evaluation_of(&self, routing: MountRouting) -> Evaluation {
        let under = |tried: &&Tried| tried.choice.is_some_and(|choice| choice.routing == routing);
        self.tried.iter().rev().find(under).expect("it was tried").evaluation
    }

    fn routing(&mut self, routing: MountRouting, scale: f32) -> Result<MountChoice, AdapterError> {
        let choice = MountChoice { routing, scale };
        self.evaluate(Some(choice)).map(|()| choice)
    }

    fn evaluate(&mut self, choice: Option<MountChoice>) -> Result<(), AdapterError> {
        let mounted = choice.map(|choice| choice.mount(self.adapters, self.kept));
        if let Some(mounted) = &mounted {
            let checked = mounted.check_routing(self.model.moe_layers());
            checked.map_err(|source| AdapterError::Routing { source })?;
        }
        let before = self.tried.len() * self.validation.len();
        let mut rows = |done| (self.progress)(before + done);
        let (model, tokens) = (self.model, self.options.batch_tokens);
        let (workers, mounted) = (&self.workers, mounted.as_ref());
        let evaluation =
            evaluate_with(workers, model, self.validation, mounted, tokens, &mut rows)?;
        self.tried.push(Tried { choice, evaluation });
        Ok(())
    }

    /// Index of the best choice; ties go to the first.
    fn best(&self) -> usize {
        (1..self.tried.len()).fold(0, |best, index| {
            let [new, old] = [index, best].map(|index| &self.tried[index].evaluation);
            if self.options.by.is_better(new, old) { index } else { best }
        })
    }
}

use litemoe_core::{Adapters, LanguageModel, MountedAdapter, Sequence};
use serde::{Deserialize, Serialize};

use crate::{AdapterError, Evaluation, KeptExperts, MountRouting, evaluate};

/// The scales that are tried, the largest first.
pub const SCALES: [f32; 4] = [1.0, 0.75, 0.5, 0.25];

/// The penalties on experts outside the proxy that are tried, the largest first: restricted routing to full routing.
pub const PENALTIES: [f32; 5] = [f32::INFINITY, 4.0, 2.0, 1.0, 0.0];

/// What makes one way of mounting better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Measure {
    /// Mean loss per covered token, the lower the better.
    Loss,
    /// The share of exact rows; of equals, the lower loss.
    Accuracy,
}

/// What the guard may choose among.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardOptions {
    /// The routing, where it is given.
    pub routing: Option<MountRouting>,
    /// The scale, where it is given: above 0, finite.
    pub scale: Option<f32>,
    /// What is better.
    pub by: Measure,
    /// How many tokens run at once, about.
    pub batch_tokens: usize,
}

/// A way of mounting an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountChoice {
    /// How the foundation routes the app's tokens.
    pub routing: MountRouting,
    /// What the updates are multiplied by.
    pub scale: f32,
}

/// A way of mounting, and how the foundation then does on the validation rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// `None` is the foundation alone.
    pub choice: Option<MountChoice>,
    /// How it does.
    pub evaluation: Evaluation,
}

/// How an adapter should be mounted, and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// The best way; `None` means that the foundation is better off without the adapter.
    pub choice: Option<MountChoice>,
    /// All that was tried, in order; the first is the foundation alone.
    pub tried: Vec<Tried>,
}

impl MountChoice {
    /// The adapter mounted this way; `kept` are the experts of the proxy it was tuned on.
    ///
    /// # Panics
    /// When the routing needs them and they are not given.
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

/// Tries ways of mounting an adapter on validation rows and chooses the best one, the first tried of equals; the first is
/// the foundation alone.
///
/// An adapter tuned on a proxy leans on the proxy's experts, and is best mounted where tokens are sent to those alone
/// ([`MountRouting::Restricted`]); on a task that the foundation knows already the proxy is the weaker model, and all experts
/// at a small scale, or no adapter at all, are better. Needs inference only, and does not try every pair: restricted and full
/// routing first, then penalties from the better end on while they help, then the smaller scales under the best routing.
///
/// # Errors
/// Options out of range, a routing that needs the experts of a proxy where there is none, and those of [`evaluate`].
pub fn choose_mount<M: LanguageModel + ?Sized>(
    model: &M,
    adapters: &Adapters,
    kept: Option<&KeptExperts>,
    validation: &[Sequence],
    options: GuardOptions,
    progress: &mut dyn FnMut(usize),
) -> Result<Guard, AdapterError> {
    options.check(kept)?;
    let mut search = Search { model, adapters, kept, validation, options, progress, tried: vec![] };
    search.run()?;
    let best = search.best();
    Ok(Guard { choice: search.tried[best].choice, tried: search.tried })
}

impl GuardOptions {
    /// How many ways of mounting are tried at most, the foundation alone among them.
    pub fn max_tried(&self, on_proxy: bool) -> usize {
        let routings = if self.routing.is_none() && on_proxy { PENALTIES.len() } else { 1 };
        let scales = if self.scale.is_none() { SCALES.len() - 1 } else { 0 };
        1 + routings + scales
    }

    /// Refuses what cannot be tried.
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
    tried: Vec<Tried>,
}

impl<M: LanguageModel + ?Sized> Search<'_, M> {
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

    /// Tries both ends of the penalties, then goes on from the better one for as long as that helps.
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

    /// What was found last under a routing.
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
        let tokens = self.options.batch_tokens;
        let evaluation =
            evaluate(self.model, self.validation, mounted.as_ref(), tokens, &mut rows)?;
        self.tried.push(Tried { choice, evaluation });
        Ok(())
    }

    /// The first of the best.
    fn best(&self) -> usize {
        (1..self.tried.len()).fold(0, |best, index| {
            let [new, old] = [index, best].map(|index| &self.tried[index].evaluation);
            if self.options.by.is_better(new, old) { index } else { best }
        })
    }
}

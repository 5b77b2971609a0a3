use std::collections::BTreeMap;

use litemoe_core::{ExpertPart, ExpertStack, LayerId, LinearSite};

/// The sites of a layer's experts that PEFT can name as stacks.
#[derive(Debug)]
pub(super) struct Bank<'a> {
    /// The stacks.
    pub(super) stack: &'a ExpertStack,
    /// Gate, up and down of each expert.
    pub(super) experts: Vec<[&'a LinearSite; 3]>,
}

impl<'a> Bank<'a> {
    /// Of every layer whose experts are in stacks.
    pub(super) fn all(sites: &'a [LinearSite]) -> Vec<Self> {
        let mut parts: BTreeMap<LayerId, BTreeMap<(usize, ExpertPart), &LinearSite>> =
            BTreeMap::new();
        for site in sites.iter().filter(|site| site.stack.is_some()) {
            if let Some((expert, part)) = site.role.expert() {
                parts.entry(expert.layer).or_default().insert((expert.expert, part), site);
            }
        }
        parts.into_values().filter_map(Self::of).collect()
    }

    /// Of one layer's matrices in order of expert and part.
    fn of(parts: BTreeMap<(usize, ExpertPart), &'a LinearSite>) -> Option<Self> {
        let sites: Vec<&LinearSite> = parts.into_values().collect();
        let stack = sites.first()?.stack.as_ref()?;
        let (experts, rest) = sites.as_chunks();
        rest.is_empty().then(|| Self { stack, experts: experts.to_vec() })
    }

    /// The paths of the two parameters: gate and up, and down.
    pub(super) fn parameters(&self) -> [String; 2] {
        ["gate_up_proj", "down_proj"].map(|leaf| format!("{}.{leaf}", self.stack.module))
    }

    /// The modules that PEFT saves updates beside those parameters under: it wraps the stacks' module for each, what comes
    /// first innermost.
    pub(super) fn modules(&self, is_there: [bool; 2]) -> [String; 2] {
        let outer = self.stack.module.to_string();
        let inner =
            if is_there == [true; 2] { format!("{outer}.base_layer") } else { outer.clone() };
        [inner, outer]
    }

    /// The parts that each of the parameters holds.
    pub(super) const PARTS: [std::ops::Range<usize>; 2] = [0..2, 2..3];
}

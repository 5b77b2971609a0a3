use std::collections::BTreeMap;

use litemoe_core::{ExpertPart, ExpertStack, LayerId, LinearSite};

/// Sites of a layer's experts, for experts that PEFT can address as stacks.
#[derive(Debug)]
pub(super) struct Bank<'a> {
    /// The layer's stacks.
    pub(super) stack: &'a ExpertStack,
    /// Gate, up and down site of each expert.
    pub(super) experts: Vec<[&'a LinearSite; 3]>,
}

impl<'a> Bank<'a> {
    /// Banks of all layers with stacked experts.
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

    /// Bank of one layer's sites, in order of expert and part; `None` unless all experts have three parts.
    fn of(parts: BTreeMap<(usize, ExpertPart), &'a LinearSite>) -> Option<Self> {
        let sites: Vec<&LinearSite> = parts.into_values().collect();
        let stack = sites.first()?.stack.as_ref()?;
        let (experts, rest) = sites.as_chunks();
        rest.is_empty().then(|| Self { stack, experts: experts.to_vec() })
    }

    /// Paths of the two stacked parameters: gate and up, and down.
    pub(super) fn parameters(&self) -> [String; 2] {
        ["gate_up_proj", "down_proj"].map(|leaf| format!("{}.{leaf}", self.stack.module))
    }

    /// Module paths under which PEFT saves the LoRAs of those parameters: it wraps the experts' module once per adapted
    /// parameter, the first one innermost.
    pub(super) fn modules(&self, is_there: [bool; 2]) -> [String; 2] {
        let outer = self.stack.module.to_string();
        let inner =
            if is_there == [true; 2] { format!("{outer}.base_layer") } else { outer.clone() };
        [inner, outer]
    }

    /// Ranges of parts in each stacked parameter.
    pub(super) const PARTS: [std::ops::Range<usize>; 2] = [0..2, 2..3];
}

use litemoe_core::{LayerId, LinearRole, LinearSite, Site};

use crate::checkpoint::tensors::RELATIVE_BIAS;
use crate::config::FeedForwardConfig;
use crate::layers::ExpertSites;
use crate::{Checkpoint, Part, StoredPart};

impl Checkpoint {
    /// Linear weights that can have an adapter, as of the loaded model but in another order: block by block, by name,
    /// routed experts last. Reads no weights.
    pub fn linear_sites(&self) -> Vec<LinearSite> {
        let mut sites = Vec::new();
        for (block, feed_forward) in self.config.blocks() {
            let stored = self.stored_parts().filter(|part| part.block == Some(block));
            let used = stored.filter(|part| {
                part.part != Part::SharedExperts || has_shared_experts(feed_forward)
            });
            sites.extend(used.filter_map(|part| self.linear_site(block, part)));
            if let FeedForwardConfig::Moe(moe) = feed_forward {
                let (n_experts, d_model) = (self.n_experts(block), self.config.d_model);
                let experts = ExpertSites::new(self.family, block, n_experts, moe, d_model);
                sites.extend(experts.linear_sites());
            }
        }
        sites
    }

    /// The site of a stored matrix outside the experts.
    fn linear_site(&self, block: LayerId, stored: StoredPart<'_>) -> Option<LinearSite> {
        let path =
            stored.name.strip_suffix(".weight").filter(|path| !path.ends_with(RELATIVE_BIAS));
        let &[d_out, d_in] = &self.tensor(stored.name).shape[..] else { return None };
        let plain = |role| {
            let site = Site::new(path?);
            Some(LinearSite { site, role, d_in, d_out, stack: None, parameter: None })
        };
        match stored.part {
            Part::Attention => plain(LinearRole::Attention),
            Part::Dense | Part::SharedExperts => plain(LinearRole::Dense),
            Part::Routers => {
                let [released, held] = [self.family.released_names(), self.family.held_names()];
                let site = Site::new(released.path(block, released.router));
                let parameter =
                    (!held.linear_router).then(|| Site::new(held.path(block, held.router)));
                let router = plain(LinearRole::Router { layer: block })?;
                Some(LinearSite { site, parameter, ..router })
            }
            Part::Embedding | Part::Experts | Part::Norms | Part::Head => None,
        }
    }
}

/// Whether the configuration has shared experts; their tensors may be there without.
fn has_shared_experts(feed_forward: &FeedForwardConfig) -> bool {
    matches!(feed_forward, FeedForwardConfig::Moe(moe) if moe.shared != Some(0))
}

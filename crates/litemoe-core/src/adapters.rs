use std::collections::BTreeMap;
use std::ops::Bound;

use burn::tensor::Tensor;

use crate::{Lora, Site};

/// Adapter of one frozen weight.
///
/// A new kind of adapter is a new variant: the signatures of forward passes stay, and the compiler flags every `match`.
#[derive(Debug, Clone)]
pub enum Adapter {
    /// LoRA: a low-rank update.
    Lora(Lora),
}

impl Adapter {
    /// Output delta of the adapter, to be added to the frozen weight's output.
    ///
    /// # Shapes
    /// - `x`: `[n, d_in]`
    /// - output: `[n, d_out]`
    pub fn delta(&self, x: Tensor<2>) -> Tensor<2> {
        let Self::Lora(lora) = self;
        lora.delta(x)
    }

    /// The LoRA.
    pub fn lora(&self) -> &Lora {
        let Self::Lora(lora) = self;
        lora
    }
}

impl From<Lora> for Adapter {
    fn from(lora: Lora) -> Self {
        Self::Lora(lora)
    }
}

/// Adapters of a model's frozen weights, keyed by site.
#[derive(Debug, Clone, Default)]
pub struct Adapters {
    sites: BTreeMap<Site, Adapter>,
}

impl Adapters {
    /// Inserts an adapter at a site and returns the one it replaces.
    pub fn insert(&mut self, site: Site, adapter: impl Into<Adapter>) -> Option<Adapter> {
        self.sites.insert(site, adapter.into())
    }

    /// The adapter at a site.
    pub fn at(&self, site: &str) -> Option<&Adapter> {
        self.sites.get(site)
    }

    /// Whether any site whose path begins with `prefix` has an adapter.
    pub fn reach(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let next = self.sites.range::<str, _>(from).next();
        next.is_some_and(|(site, _)| site.as_str().starts_with(prefix))
    }

    /// All LoRAs in ascending order of their sites.
    pub fn loras(&self) -> impl Iterator<Item = (&Site, &Lora)> {
        self.sites.iter().map(|(site, adapter)| (site, adapter.lora()))
    }

    /// Number of sites with an adapter.
    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// Whether no site has an adapter.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// A copy with every LoRA scale multiplied by `factor`.
    pub fn scaled(&self, factor: f32) -> Self {
        let scale = |(site, lora): (&Site, &Lora)| {
            (site.clone(), Lora { scale: lora.scale * factor, ..lora.clone() })
        };
        self.loras().map(scale).collect()
    }
}

impl<A: Into<Adapter>> FromIterator<(Site, A)> for Adapters {
    fn from_iter<I: IntoIterator<Item = (Site, A)>>(sites: I) -> Self {
        Self { sites: sites.into_iter().map(|(site, adapter)| (site, adapter.into())).collect() }
    }
}

use std::collections::BTreeMap;
use std::ops::Bound;

use burn::tensor::Tensor;

use crate::Site;

/// A low-rank update beside a frozen weight: `y + scale · (x·A)·B` (LoRA, arXiv 2106.09685).
///
/// Both matrices are stored as they multiply, `[in, out]`: the transposes of PEFT's.
#[derive(Debug, Clone)]
pub struct Lora {
    /// A, `[d_in, rank]`.
    pub a: Tensor<2>,
    /// B, `[rank, d_out]`.
    pub b: Tensor<2>,
    /// α/r, or α/√r.
    pub scale: f32,
}

impl Lora {
    /// The rank.
    pub fn rank(&self) -> usize {
        self.a.dims()[1]
    }

    /// What the update adds to the output for `x` `[tokens, d_in]`: `[tokens, d_out]`.
    pub fn delta(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.a.clone()).matmul(self.b.clone()).mul_scalar(self.scale)
    }
}

/// Which low-rank update stands beside which frozen weight.
#[derive(Debug, Clone, Default)]
pub struct Adapters {
    sites: BTreeMap<Site, Lora>,
}

impl Adapters {
    /// Puts an update at a site, returning the one that stood there.
    pub fn insert(&mut self, site: Site, lora: Lora) -> Option<Lora> {
        self.sites.insert(site, lora)
    }

    /// The update at a site.
    pub fn at(&self, site: &str) -> Option<&Lora> {
        self.sites.get(site)
    }

    /// Whether some site whose path begins with `prefix` has an update.
    pub fn reach(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let next = self.sites.range::<str, _>(from).next();
        next.is_some_and(|(site, _)| site.as_str().starts_with(prefix))
    }

    /// All updates in order of their sites.
    pub fn iter(&self) -> impl Iterator<Item = (&Site, &Lora)> {
        self.sites.iter()
    }

    /// How many sites have an update.
    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// Whether no site has one.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// The same updates with every scale multiplied by `factor`.
    pub fn scaled(&self, factor: f32) -> Self {
        let scale = |(site, lora): (&Site, &Lora)| {
            (site.clone(), Lora { scale: lora.scale * factor, ..lora.clone() })
        };
        Self { sites: self.sites.iter().map(scale).collect() }
    }

    /// Adds the update at `site`, if there is one, to the frozen weight's output `y` for input `x`.
    pub fn apply(&self, site: &Site, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
        match self.sites.get(site) {
            Some(lora) => y + lora.delta(x),
            None => y,
        }
    }
}

impl FromIterator<(Site, Lora)> for Adapters {
    fn from_iter<I: IntoIterator<Item = (Site, Lora)>>(sites: I) -> Self {
        Self { sites: sites.into_iter().collect() }
    }
}

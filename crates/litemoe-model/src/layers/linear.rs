use burn::tensor::Tensor;
use litemoe_core::{Adapters, ByTokens, LinearRole, LinearSite, Site};
use litemoe_kernels::{LinearWeight, adapter_delta};

/// Frozen linear layer that accepts a LoRA adapter.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) site: Site,
    pub(crate) weight: LinearWeight,
    pub(crate) bias: Option<Tensor<1>>,
}

impl Linear {
    /// # Shapes
    /// - `x`: `[tokens, d_in]`
    /// - output: `[tokens, d_out]`
    pub(crate) fn forward(&self, x: Tensor<2>, adapters: &ByTokens<'_, Adapters>) -> Tensor<2> {
        let y = self.weight.forward(x.clone());
        let y = match &self.bias {
            Some(bias) => y + bias.clone().unsqueeze_dim(0),
            None => y,
        };
        adapters.add(x, y, |adapters, x| Some(adapter_delta(adapters.at(self.site.as_str())?, x)))
    }

    /// Its module path and widths.
    pub(crate) fn site(&self, role: LinearRole) -> LinearSite {
        let (d_in, d_out) = (self.weight.d_in(), self.weight.d_out());
        LinearSite { site: self.site.clone(), role, d_in, d_out, stack: None, parameter: None }
    }
}

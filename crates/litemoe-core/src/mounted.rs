use crate::{Adapters, MoeLayer, RouterBias, RouterBiasError};

/// A mounted adapter: what an app brings to a model that others use too. Low-rank updates beside frozen weights, and a
/// bias on the routers' logits.
#[derive(Debug, Clone, Default)]
pub struct MountedAdapter {
    /// The low-rank updates.
    pub adapters: Adapters,
    /// The router bias; without one the model routes as it always does.
    pub router_bias: Option<RouterBias>,
}

impl MountedAdapter {
    /// Checks the router bias against a model's layers.
    ///
    /// # Errors
    /// Those of [`RouterBias::check`].
    pub fn check_routing(&self, layers: &[MoeLayer]) -> Result<(), RouterBiasError> {
        self.router_bias.as_ref().map_or(Ok(()), |bias| bias.check(layers))
    }
}

impl From<Adapters> for MountedAdapter {
    fn from(adapters: Adapters) -> Self {
        Self { adapters, router_bias: None }
    }
}

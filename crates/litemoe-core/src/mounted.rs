use crate::{Adapters, MoeLayer, RouterBias, RouterBiasError};

/// Mounted adapter: LoRAs and a router bias of one app, for a foundation that several apps share.
#[derive(Debug, Clone, Default)]
pub struct MountedAdapter {
    /// The LoRAs.
    pub adapters: Adapters,
    /// Bias on the router logits; `None` leaves routing unchanged.
    pub router_bias: Option<RouterBias>,
}

impl MountedAdapter {
    /// Checks the router bias against the model's layers.
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

use crate::{Adapters, ByRows, MountedAdapter, Observer, RouterBias, RouterNoise};

/// Context of a forward pass besides the data: adapters, router biases, router noise and observer. The row layout is in
/// the stream's [`Packing`](crate::Packing).
///
/// Adapters are passed per call and never installed in the model: one loaded foundation serves many, and one batch can
/// mix them.
#[derive(Default)]
pub struct Pass<'a> {
    /// Observer of the pass.
    pub observer: Option<&'a mut dyn Observer>,
    /// Adapters of the frozen weights, per range of rows.
    pub adapters: ByRows<'a, Adapters>,
    /// Router biases, per range of rows. They must fit the model, see [`RouterBias::check`].
    pub router_bias: ByRows<'a, RouterBias>,
    /// Noise on the router logits, for tuning only.
    pub router_noise: Option<&'a RouterNoise>,
}

impl<'a> Pass<'a> {
    /// Pass without adapters or observer.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Pass with the same adapters for all rows.
    pub fn adapted(adapters: &'a Adapters) -> Self {
        Self::default().with_adapters(Some(adapters))
    }

    /// Pass with one mounted adapter, or none, for all rows.
    pub fn mounted(mounted: Option<&'a MountedAdapter>) -> Self {
        let Some(MountedAdapter { adapters, router_bias }) = mounted else { return Self::plain() };
        let router_bias = router_bias.as_ref().map(ByRows::all).unwrap_or_default();
        Self { router_bias, ..Self::adapted(adapters) }
    }

    /// Pass with a mounted adapter, or none, per row.
    pub fn mounted_by_row(rows: impl IntoIterator<Item = Option<&'a MountedAdapter>>) -> Self {
        let (mut adapters, mut biases) = (Vec::new(), Vec::new());
        for (row, mounted) in rows.into_iter().enumerate() {
            let Some(MountedAdapter { adapters: of_row, router_bias }) = mounted else { continue };
            adapters.push((row..row + 1, of_row));
            biases.extend(router_bias.as_ref().map(|bias| (row..row + 1, bias)));
        }
        let (adapters, router_bias) = (ByRows::ranges(adapters), ByRows::ranges(biases));
        Self { adapters, router_bias, ..Self::default() }
    }

    /// Pass with an observer.
    pub fn observed(observer: &'a mut dyn Observer) -> Self {
        Self { observer: Some(observer), ..Self::default() }
    }

    /// Replaces the adapters of all rows; `None` removes them.
    pub fn with_adapters(self, adapters: Option<&'a Adapters>) -> Self {
        Self { adapters: adapters.map(ByRows::all).unwrap_or_default(), ..self }
    }
}

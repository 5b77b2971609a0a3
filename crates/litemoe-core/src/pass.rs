use crate::{Adapters, ByRows, MountedAdapter, Observer, RouterBias, RouterNoise};

/// The context of a forward pass: what applies to its rows besides the data, and who observes it. Where the rows lie is in
/// the stream's [`Packing`](crate::Packing).
///
/// Adapters are looked up here and never installed in the model, so one loaded foundation serves many of them, and one batch
/// may use several.
#[derive(Default)]
pub struct Pass<'a> {
    /// Who observes it.
    pub observer: Option<&'a mut dyn Observer>,
    /// The adapters of frozen weights, for ranges of the batch's rows.
    pub adapters: ByRows<'a, Adapters>,
    /// The router biases, for ranges of the batch's rows. They fit the model, see [`RouterBias::check`].
    pub router_bias: ByRows<'a, RouterBias>,
    /// Noise on the router logits; only while tuning.
    pub router_noise: Option<&'a RouterNoise>,
}

impl<'a> Pass<'a> {
    /// Without adapters and observer.
    pub fn plain() -> Self {
        Self::default()
    }

    /// With adapters for every row.
    pub fn adapted(adapters: &'a Adapters) -> Self {
        Self::default().with_adapters(Some(adapters))
    }

    /// With a mounted adapter for every row, or with none.
    pub fn mounted(mounted: Option<&'a MountedAdapter>) -> Self {
        let Some(MountedAdapter { adapters, router_bias }) = mounted else { return Self::plain() };
        let router_bias = router_bias.as_ref().map(ByRows::all).unwrap_or_default();
        Self { router_bias, ..Self::adapted(adapters) }
    }

    /// With a mounted adapter, or none, for each row.
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

    /// With an observer.
    pub fn observed(observer: &'a mut dyn Observer) -> Self {
        Self { observer: Some(observer), ..Self::default() }
    }

    /// The same pass with these adapters for every row, or with none.
    pub fn with_adapters(self, adapters: Option<&'a Adapters>) -> Self {
        Self { adapters: adapters.map(ByRows::all).unwrap_or_default(), ..self }
    }
}

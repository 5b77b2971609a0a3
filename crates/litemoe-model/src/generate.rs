use litemoe_core::{Adapters, CausalLm, Sampler};

/// What ends a generation besides the caller.
#[derive(Debug, Clone, Copy)]
pub struct Stop<'a> {
    /// At most this many new tokens; the model's longest row may end it sooner.
    pub max_new: usize,
    /// Ids that end the text; one that was drawn is not part of it.
    pub eos_ids: &'a [u32],
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model drew an end token.
    Eos,
    /// The longest allowed text was reached.
    Length,
    /// The caller wanted no more.
    Cancelled,
}

/// Continues a prompt token by token; `on_token` sees each as it is drawn and says whether to go on.
///
/// # Panics
/// When the prompt is empty or longer than the model's longest row.
pub fn generate<M: CausalLm>(
    model: &M,
    adapters: Option<&Adapters>,
    prompt: &[u32],
    sampler: &mut Sampler,
    stop: Stop<'_>,
    mut on_token: impl FnMut(u32) -> bool,
) -> (Vec<u32>, Finish) {
    let max_new = stop.max_new.min(model.room_after(prompt.len()));
    let (mut cache, mut drawn) = (model.new_cache(), Vec::new());
    while drawn.len() < max_new {
        let logits = match drawn.last() {
            None => model.begin(prompt, &mut cache, adapters),
            Some(&last) => model.extend(&[last], &mut cache, adapters),
        };
        let logits = logits.into_data();
        let token = sampler.next(&logits.try_into_vec().expect("logits are f32"));
        if stop.eos_ids.contains(&token) {
            return (drawn, Finish::Eos);
        }
        drawn.push(token);
        if !on_token(token) {
            return (drawn, Finish::Cancelled);
        }
    }
    (drawn, Finish::Length)
}

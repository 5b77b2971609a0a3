use litemoe_core::{Adapters, LinearSite, Lora};

use super::bank::Bank;
use super::order::Order;
use super::padding::{common_scale, rescaled};
use super::stack::Stack;
use crate::evaluate::floats;

/// LoRAs of a layer's experts in PEFT's stacked form (`target_parameters`).
///
/// PEFT has one A for gate and up. If an adapter has two, the stack's rank is doubled: the first half is the gate's,
/// the second half up's, and B is zero elsewhere. The update is the same; with one A for both it would not be.
#[derive(Debug)]
pub(super) struct Stacked {
    /// Path of the parameter.
    pub(super) parameter: String,
    pub(super) rank: usize,
    pub(super) scale: f32,
    /// Names, values and shapes of A and B.
    pub(super) matrices: [(String, Vec<f32>, [usize; 2]); 2],
}

impl Stacked {
    /// Stacked LoRAs of one layer.
    pub(super) fn of(bank: &Bank<'_>, adapters: &Adapters) -> Vec<Self> {
        let is_there = Bank::PARTS.map(|parts| {
            let mut sites = bank.experts.iter().flat_map(|sites| &sites[parts.clone()]);
            sites.any(|site| adapters.at(site.site.as_str()).is_some())
        });
        Stack::of(bank, is_there).map(|stack| Self::new(&stack, adapters)).collect()
    }

    fn new(stack: &Stack<'_>, adapters: &Adapters) -> Self {
        let experts = stack.experts.iter().map(|sites| {
            let update =
                |site: &&LinearSite| Some(Update::new(adapters.at(site.site.as_str())?.lora()));
            sites.iter().map(update).collect()
        });
        let experts: Vec<Vec<Option<Update>>> = experts.collect();
        let updates = || experts.iter().flatten().flatten();
        let slots = updates().map(|update| update.rank).max().unwrap_or(1);
        let rank = if experts.iter().all(|parts| share(parts)) { slots } else { 2 * slots };
        let scale = common_scale(updates().map(|update| update.scale));
        let is_straight = Order::written(stack.held()) == Order::InOut;
        let mut a = Grid::new(is_straight, stack.d_in(), rank, experts.len());
        let mut b = Grid::new(!is_straight, stack.d_out(), rank, experts.len());
        for (expert, parts) in experts.iter().enumerate() {
            for (part, update) in parts.iter().enumerate() {
                let Some(update) = update else { continue };
                let first = if rank == slots { 0 } else { part * slots };
                let scaled = rescaled(update.b.clone(), update.scale, scale);
                for slot in 0..update.rank {
                    let a_of = update.a.iter().skip(slot).step_by(update.rank).enumerate();
                    a_of.for_each(|(input, &value)| a.set([expert, first + slot, input], value));
                    let b_of = scaled.chunks(scaled.len() / update.rank).nth(slot).into_iter();
                    for (neuron, &value) in b_of.flatten().enumerate() {
                        let output = stack.output(part, neuron);
                        b.set([expert, first + slot, output], value);
                    }
                }
            }
        }
        let names = stack.tensor_names();
        let matrices = [a.named(&names), b.named(&names)];
        Self { parameter: stack.parameter.clone(), rank, scale, matrices }
    }
}

/// A LoRA in host memory: A `[d_in, rank]` and B `[rank, d_out]`, row-major.
struct Update {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
    scale: f32,
}

impl Update {
    fn new(lora: &Lora) -> Self {
        let (a, b) = (floats(lora.a.clone()), floats(lora.b.clone()));
        Self { a, b, rank: lora.rank(), scale: lora.scale }
    }
}

/// Whether gate and up of an expert can share one A.
fn share(parts: &[Option<Update>]) -> bool {
    match parts {
        [Some(gate), Some(up)] => gate.rank == up.rank && gate.a == up.a,
        [None, None] | [_] => true,
        _ => false,
    }
}

/// A or B of all experts in one matrix.
struct Grid {
    /// Whether it is PEFT's A, `[experts · rank, width]`, expert by expert, or its B, `[width, rank · experts]`, expert
    /// fastest.
    is_first: bool,
    width: usize,
    rank: usize,
    n_experts: usize,
    values: Vec<f32>,
}

impl Grid {
    fn new(is_first: bool, width: usize, rank: usize, n_experts: usize) -> Self {
        Self { is_first, width, rank, n_experts, values: vec![0.0; n_experts * rank * width] }
    }

    fn set(&mut self, [expert, slot, at]: [usize; 3], value: f32) {
        let place = match self.is_first {
            true => (expert * self.rank + slot) * self.width + at,
            false => (at * self.rank + slot) * self.n_experts + expert,
        };
        self.values[place] = value;
    }

    fn named(self, [first, last]: &[String; 2]) -> (String, Vec<f32>, [usize; 2]) {
        let n = self.n_experts * self.rank;
        match self.is_first {
            true => (first.clone(), self.values, [n, self.width]),
            false => (last.clone(), self.values, [self.width, n]),
        }
    }
}

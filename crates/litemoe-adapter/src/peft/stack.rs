use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{LinearSite, Lora, Site, StackOrder};

use super::bank::Bank;
use super::config::LoraConfig;
use super::order::Order;
use super::{tensor_names, transposed};
use crate::AdapterError;
use crate::init_lora::ends_with;
use crate::tensors::Matrices;

/// LoRA of a stacked expert parameter (`target_parameters`): A and B of all experts in two matrices.
#[derive(Debug)]
pub(super) struct Stack<'a> {
    /// Path of the parameter, which patterns match.
    pub(super) parameter: String,
    /// Module path under which PEFT saves it.
    module: String,
    /// Layout of a matrix in the parameter.
    held: StackOrder,
    /// Sites of each expert in the parameter: one, or gate and up.
    pub(super) experts: Vec<&'a [&'a LinearSite]>,
}

impl<'a> Stack<'a> {
    /// Stacks that a configuration targets.
    pub(super) fn claimed(config: &LoraConfig, banks: &'a [Bank<'a>]) -> Vec<Self> {
        let is_claimed = |parameter: &String| {
            config.parameters.iter().any(|target| ends_with(parameter, target))
        };
        let of = |bank: &'a Bank<'a>| Self::of(bank, bank.parameters().each_ref().map(is_claimed));
        banks.iter().flat_map(of).collect()
    }

    /// Stacks of a layer: gate and up, and down.
    pub(super) fn of(bank: &'a Bank<'a>, is_there: [bool; 2]) -> impl Iterator<Item = Self> {
        let names = bank.parameters().into_iter().zip(bank.modules(is_there));
        let stacks = names.zip(Bank::PARTS).zip(is_there).filter(|(_, is_there)| *is_there);
        stacks.map(|(((parameter, module), parts), _)| {
            let experts = bank.experts.iter().map(|sites| &sites[parts.clone()]).collect();
            Self { parameter, module, held: bank.stack.order, experts }
        })
    }

    /// Tensor names of A and B.
    pub(super) fn tensor_names(&self) -> [String; 2] {
        tensor_names(&self.module)
    }

    pub(super) fn held(&self) -> StackOrder {
        self.held
    }

    pub(super) fn d_in(&self) -> usize {
        self.experts[0][0].d_in
    }

    pub(super) fn d_out(&self) -> usize {
        self.experts[0].iter().map(|site| site.d_out).sum()
    }

    /// Output index in the stack of output `neuron` of an expert's part 0 or 1.
    pub(super) fn output(&self, part: usize, neuron: usize) -> usize {
        match self.held {
            StackOrder::Interleaved => neuron * self.experts[0].len() + part,
            StackOrder::Rows | StackOrder::Columns => part * self.experts[0][0].d_out + neuron,
        }
    }

    /// Reads the LoRAs from a file. Gate and up share A, or each has one half of the rank, see [`is_halved`].
    pub(super) fn read(
        &self,
        config: &LoraConfig,
        order: Order,
        matrices: &mut Matrices,
        device: &Device,
    ) -> Result<Vec<(Site, Lora)>, AdapterError> {
        let rank = config.rank_at(&self.parameter)?;
        let experts = self.pairs(order, rank, matrices)?;
        let is_halved = is_halved(&experts, rank);
        let scale = config.scale_at(&self.parameter)?;
        let lora = |site: &LinearSite, pair: Pair| {
            let rank = pair.a.len() / site.d_in;
            let a = Tensor::from_data(TensorData::new(pair.a, [site.d_in, rank]), device);
            let b = Tensor::from_data(TensorData::new(pair.b, [rank, site.d_out]), device);
            (site.site.clone(), Lora { a, b, scale })
        };
        let mut updates = Vec::new();
        for (sites, parts) in self.experts.iter().zip(experts) {
            for (part, (site, pair)) in sites.iter().zip(parts).enumerate() {
                updates.push(lora(site, if is_halved { pair.half(part, rank) } else { pair }));
            }
        }
        Ok(updates)
    }

    /// A and B of every part of every expert.
    fn pairs(
        &self,
        order: Order,
        rank: usize,
        matrices: &mut Matrices,
    ) -> Result<Vec<Vec<Pair>>, AdapterError> {
        let (n_experts, d_in, d_out) = (self.experts.len(), self.d_in(), self.d_out());
        let [first, last] = match order {
            Order::InOut => [d_in, d_out],
            Order::OutIn => [d_out, d_in],
        };
        let [name_a, name_b] = self.tensor_names();
        let of_a = matrices.take(&name_a, [n_experts * rank, first])?;
        let of_b = matrices.take(&name_b, [last, n_experts * rank])?;
        let pair = |expert: usize| {
            // [rank, first] and [last, rank]
            let a = &of_a[expert * rank * first..][..rank * first];
            let b: Vec<f32> = of_b.iter().skip(expert).step_by(n_experts).copied().collect();
            match order {
                Order::InOut => (transposed(a, [rank, first]), transposed(&b, [last, rank])),
                // For the transposed weight: (B·A)ᵀ = Aᵀ·Bᵀ.
                Order::OutIn => (b, a.to_vec()),
            }
        };
        let part = |b: &[f32], part: usize, site: &LinearSite| -> Vec<f32> {
            let row = |slot: usize| &b[slot * d_out..][..d_out];
            let neurons = |row: usize| (0..site.d_out).map(move |neuron| (row, neuron));
            let at = |(slot, neuron): (usize, usize)| row(slot)[self.output(part, neuron)];
            (0..rank).flat_map(neurons).map(at).collect()
        };
        let expert = |(expert, sites): (usize, &&[&LinearSite])| -> Vec<Pair> {
            let (a, b) = pair(expert);
            let sites = sites.iter().enumerate();
            sites.map(|(at, site)| Pair { a: a.clone(), b: part(&b, at, site) }).collect()
        };
        Ok(self.experts.iter().enumerate().map(expert).collect())
    }
}

/// A `[d_in, rank]` and B `[rank, d_out]` of one matrix, row-major.
struct Pair {
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Pair {
    /// A and B restricted to one half of the rank.
    fn half(&self, half: usize, rank: usize) -> Self {
        let columns = self.a.chunks(rank).flat_map(|row| &row[half * rank / 2..][..rank / 2]);
        Self { a: columns.copied().collect(), b: self.half_of_b(half).to_vec() }
    }

    fn half_of_b(&self, half: usize) -> &[f32] {
        let middle = self.b.len() / 2;
        if half == 0 { &self.b[..middle] } else { &self.b[middle..] }
    }
}

/// Whether gate and up of every expert use separate halves of the rank, as when two LoRAs are merged into one stack.
fn is_halved(experts: &[Vec<Pair>], rank: usize) -> bool {
    let is_zero = |values: &[f32]| values.iter().all(|&value| value == 0.0);
    let apart = |parts: &Vec<Pair>| match &parts[..] {
        [gate, up] => is_zero(gate.half_of_b(1)) && is_zero(up.half_of_b(0)),
        _ => false,
    };
    let moves = |parts: &Vec<Pair>| parts.iter().any(|pair| !is_zero(&pair.b));
    rank.is_multiple_of(2) && experts.iter().all(apart) && experts.iter().any(moves)
}

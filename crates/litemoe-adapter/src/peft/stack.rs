use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{LinearSite, Lora, Site};

use super::bank::Bank;
use super::config::LoraConfig;
use super::{tensor_names, transposed};
use crate::AdapterError;
use crate::fresh::ends_with;
use crate::tensors::Matrices;

/// An update beside a stack of experts' matrices (`target_parameters`): all experts' A and B in two matrices.
#[derive(Debug)]
pub(super) struct Stack<'a> {
    /// The parameter's path, which patterns match.
    parameter: String,
    /// The module that PEFT saves it under.
    module: String,
    /// The weights of each expert that it holds, one or gate and up, side by side in B.
    experts: Vec<&'a [&'a LinearSite]>,
}

/// How the two matrices of a stack lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Since PEFT 0.19.1: A `[experts · r, d_in]`, expert by expert; B `[d_out, r · experts]`, expert fastest.
    InOut,
    /// Before, the same of the transposed weight: A `[experts · r, d_out]` and B `[d_in, r · experts]`.
    OutIn,
}

impl<'a> Stack<'a> {
    /// The stacks that a configuration claims.
    ///
    /// # Errors
    /// When it claims something that is no stack of the model's.
    pub(super) fn claimed(
        path: &Path,
        config: &LoraConfig,
        banks: &'a [Bank<'a>],
    ) -> Result<Vec<Self>, AdapterError> {
        let all: Vec<Self> = banks.iter().flat_map(|bank| Self::of(bank, config)).collect();
        let known = |target: &&String| all.iter().any(|stack| ends_with(&stack.parameter, target));
        match config.parameters.iter().find(|target| !known(target)) {
            None => Ok(all),
            Some(target) => Err(AdapterError::Unsupported {
                path: path.to_owned(),
                key: "target_parameters".to_owned(),
                found: target.clone(),
                expected: "the model has no such stack of experts".to_owned(),
            }),
        }
    }

    /// Of gate and up, and of down: PEFT wraps a module for each, what comes first innermost.
    fn of(bank: &'a Bank<'a>, config: &LoraConfig) -> Vec<Self> {
        let parameters = ["gate_up_proj", "down_proj"].map(|leaf| format!("{}.{leaf}", bank.path));
        let is_claimed = |parameter: &String| {
            config.parameters.iter().any(|target| ends_with(parameter, target))
        };
        let both = parameters.iter().all(is_claimed);
        let inner = if both { format!("{}.base_layer", bank.path) } else { bank.path.clone() };
        let modules = [inner, bank.path.clone()];
        let stacks = parameters.into_iter().zip(modules).zip([0..2, 2..3]);
        let claimed = stacks.filter(|((parameter, _), _)| is_claimed(parameter));
        let stack = |((parameter, module), parts): ((String, String), std::ops::Range<usize>)| {
            let experts = bank.experts.iter().map(|parts_of| &parts_of[parts.clone()]).collect();
            Self { parameter, module, experts }
        };
        claimed.map(stack).collect()
    }

    /// The names of A and B.
    pub(super) fn tensor_names(&self) -> [String; 2] {
        tensor_names(&self.module)
    }

    fn d_in(&self) -> usize {
        self.experts[0][0].d_in
    }

    fn d_out(&self) -> usize {
        self.experts[0].iter().map(|site| site.d_out).sum()
    }

    /// Takes the updates out of a file.
    pub(super) fn read(
        &self,
        config: &LoraConfig,
        order: Order,
        matrices: &mut Matrices,
        device: &Device,
    ) -> Result<Vec<(Site, Lora)>, AdapterError> {
        let (n_experts, rank) = (self.experts.len(), config.rank_at(&self.parameter));
        let (d_in, d_out) = (self.d_in(), self.d_out());
        let [first, last] = match order {
            Order::InOut => [d_in, d_out],
            Order::OutIn => [d_out, d_in],
        };
        let [name_a, name_b] = self.tensor_names();
        let of_a = matrices.take(&name_a, [n_experts * rank, first])?;
        let of_b = matrices.take(&name_b, [last, n_experts * rank])?;
        let lora = |expert: usize| {
            // [rank, first] and [last, rank]
            let a = &of_a[expert * rank * first..][..rank * first];
            let b: Vec<f32> = of_b.iter().skip(expert).step_by(n_experts).copied().collect();
            let [a, b] = match order {
                Order::InOut => [transposed(a, [rank, first]), transposed(&b, [last, rank])],
                // Of the transposed weight: (B·A)ᵀ = Aᵀ·Bᵀ.
                Order::OutIn => [b, a.to_vec()],
            };
            let a = Tensor::from_data(TensorData::new(a, [d_in, rank]), device);
            let b = Tensor::from_data(TensorData::new(b, [rank, d_out]), device);
            Lora { a, b, scale: config.scale_at(&self.parameter) }
        };
        let updates = self.experts.iter().enumerate();
        Ok(updates.flat_map(|(expert, sites)| split(sites, &lora(expert))).collect())
    }
}

/// An update beside weights side by side as one of each: they share A.
fn split(sites: &[&LinearSite], lora: &Lora) -> Vec<(Site, Lora)> {
    let mut end = 0;
    let one = |site: &&LinearSite| {
        let b = lora.b.clone().narrow(1, end, site.d_out);
        end += site.d_out;
        (site.site.clone(), Lora { b, ..lora.clone() })
    };
    sites.iter().map(one).collect()
}

impl Order {
    /// What the PEFT that wrote a file says, or the shapes of its stacks.
    ///
    /// # Errors
    /// When neither does.
    pub(super) fn of(
        path: &Path,
        config: &LoraConfig,
        stacks: &[Stack<'_>],
        matrices: &Matrices,
    ) -> Result<Self, AdapterError> {
        let version = config.peft_version.as_deref();
        let by_shape = || stacks.iter().find_map(|stack| Self::by_shape(stack, matrices));
        version.and_then(Self::by_version).or_else(by_shape).ok_or_else(|| {
            AdapterError::Unsupported {
                path: path.to_owned(),
                key: "peft_version".to_owned(),
                found: version.unwrap_or("missing").to_owned(),
                expected: "experts in stacks lie otherwise since PEFT 0.19.1, and these shapes do not say how".to_owned(),
            }
        })
    }

    /// What releases did. 0.19.0 asked the model, the wrong way round at first; development versions may be on either side.
    fn by_version(version: &str) -> Option<Self> {
        let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
        match numbers.ok()?[..] {
            [0, 17 | 18, _] => Some(Self::OutIn),
            [0, 19, 0] | [0, ..17, ..] => None,
            [_, _, _] => Some(Self::InOut),
            _ => None,
        }
    }

    fn by_shape(stack: &Stack<'_>, matrices: &Matrices) -> Option<Self> {
        let [name_a, _] = stack.tensor_names();
        let &[_, width] = matrices.shape(&name_a)? else { return None };
        let (d_in, d_out) = (stack.d_in(), stack.d_out());
        match width {
            _ if d_in == d_out => None,
            width if width == d_in => Some(Self::InOut),
            width if width == d_out => Some(Self::OutIn),
            _ => None,
        }
    }
}

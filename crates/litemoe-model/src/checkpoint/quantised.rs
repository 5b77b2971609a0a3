use litemoe_core::{Fingerprint, WeightDtype};
use serde::{Deserialize, Serialize};

use super::stored::{BlockDtype, StoredDtype};
use crate::config::read::file::ConfigFile;
use crate::{Checkpoint, ModelError};

/// Key of the configuration that says how the weights are quantised.
pub(crate) const KEY: &str = "quantization_config";

/// `quant_method` of quantised checkpoints, which other runtimes refuse.
const METHOD: &str = "litemoe";

/// How a checkpoint was quantised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Quantised {
    /// Format of the routed experts; with q4, what every token uses is in q8.
    pub dtype: WeightDtype,
    /// Fingerprint of the model that it was made from.
    pub source: Fingerprint,
}

/// The value of [`KEY`] in a quantised checkpoint.
#[derive(Serialize, Deserialize)]
pub(crate) struct QuantizationConfig {
    quant_method: String,
    format: String,
    source: Fingerprint,
}

impl Quantised {
    pub(crate) fn config(&self) -> QuantizationConfig {
        QuantizationConfig {
            quant_method: METHOD.to_owned(),
            format: self.dtype.name().to_owned(),
            source: self.source.clone(),
        }
    }

    /// Takes the key out of a configuration, if it is that of this format.
    pub(crate) fn take(
        file: &mut ConfigFile,
        model_type: &str,
    ) -> Result<Option<Self>, ModelError> {
        let is_ours = |object: &mut ConfigFile| {
            let method: Option<String> = object.optional("quant_method", "a name").ok().flatten();
            method.as_deref() == Some(METHOD)
        };
        let Some(mut object) = file.take_object(KEY, is_ours)? else { return Ok(None) };
        let expected = BlockDtype::ALL.map(|blocks| blocks.weights().name()).join(" or ");
        let format: String = object.required("format", &expected)?;
        let dtype = format.parse().ok().filter(|&dtype| BlockDtype::of(dtype).is_some());
        let dtype = dtype.ok_or_else(|| object.wrong("format", &expected))?;
        const FINGERPRINT: &str = "a fingerprint, 64 hexadecimal digits";
        let source: String = object.required("source", FINGERPRINT)?;
        if source.len() != 64 || !source.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(object.wrong("source", FINGERPRINT));
        }
        let source = Fingerprint::new(source);
        file.close(object, model_type, &[])?;
        Ok(Some(Self { dtype, source }))
    }
}

impl Checkpoint {
    /// Checks that the matrices are quantised as the configuration says, and nothing else is.
    pub(super) fn check_quantised(&self) -> Result<(), ModelError> {
        let experts = self.quantised.as_ref().and_then(|of| BlockDtype::of(of.dtype));
        for (name, tensor) in &self.tensors {
            let part = self.stored_part(name, tensor);
            let expected = experts.and_then(|experts| part.blocks_of(&tensor.shape, experts));
            let (found, is_bytes) = match tensor.dtype {
                StoredDtype::Blocks(blocks) => (Some(blocks), false),
                dtype => (None, dtype == StoredDtype::U8),
            };
            if found != expected || experts.is_some() && is_bytes {
                return Err(ModelError::QuantisedAs {
                    path: tensor.path().to_owned(),
                    tensor: name.to_string(),
                    found: part.dtype,
                    expected: expected.map(|blocks| StoredDtype::Blocks(blocks).name()),
                });
            }
        }
        Ok(())
    }

    /// Refuses a quantised model for what its values are too coarse for.
    ///
    /// # Errors
    /// When it is quantised.
    pub fn expect_unquantised(&self, what: &'static str) -> Result<(), ModelError> {
        let Some(Quantised { dtype, source }) = self.quantised() else { return Ok(()) };
        let (dir, dtype, source_model) = (self.dir.clone(), *dtype, source.clone());
        Err(ModelError::IsQuantised { dir, dtype, what, source_model })
    }
}

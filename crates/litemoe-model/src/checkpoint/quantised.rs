use std::path::Path;

use litemoe_core::{Fingerprint, WeightDtype};
use serde::{Deserialize, Serialize};

use super::stored::{BlockDtype, StoredDtype, StoredTensors};
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
        let source = object.required("source", "a fingerprint")?;
        file.close(object, model_type, &[])?;
        Ok(Some(Self { dtype, source }))
    }

    /// Checks that a model has tensors in blocks if and only if its configuration says so.
    pub(crate) fn check(
        of: Option<&Self>,
        tensors: &StoredTensors,
        dir: &Path,
    ) -> Result<(), ModelError> {
        let in_blocks = |dtype| matches!(dtype, StoredDtype::Blocks(_));
        let tensor = tensors.values().find(|tensor| in_blocks(tensor.dtype));
        match (of, tensor) {
            (None, Some(tensor)) => Err(ModelError::Dtype {
                path: tensor.path().to_owned(),
                tensor: tensor.name.to_string(),
                found: format!("{}, of which config.json says nothing", tensor.dtype.name()),
            }),
            (Some(of), None) => {
                let (path, dtype) = (dir.join("config.json"), of.dtype);
                Err(ModelError::NotQuantised { path, dtype })
            }
            _ => Ok(()),
        }
    }
}

impl Checkpoint {
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

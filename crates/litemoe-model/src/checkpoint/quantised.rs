use litemoe_core::{Fingerprint, WeightDtype};
use serde::{Deserialize, Serialize};

use super::block_dtype::BlockDtype;
use crate::ModelError;
use crate::config::read::file::ConfigFile;

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

//! Which tensors of a checkpoint are quantised.

use super::block_dtype::BlockDtype;
use super::quantised::Quantised;
use super::stored::StoredDtype;
use crate::{Checkpoint, ModelError};

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

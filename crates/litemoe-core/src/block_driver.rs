use crate::{Input, LanguageModel, Observer, Pass, Stream};

/// Block-by-block driver: runs all batches through one block before it runs the next, so a model that streams its
/// weights from disk reads each block once. Keeps the hidden states of all batches in memory.
///
/// To run two models in lockstep, use two drivers.
#[derive(Debug)]
pub struct BlockDriver<'m, M: ?Sized> {
    model: &'m M,
    streams: Vec<Stream>,
    next: usize,
}

impl<'m, M: LanguageModel + ?Sized> BlockDriver<'m, M> {
    /// Embeds the batches; the next block is the first.
    pub fn new(model: &'m M, batches: &[Input]) -> Self {
        let streams = batches.iter().map(|input| model.embed(input)).collect();
        Self { model, streams, next: 0 }
    }

    /// Residual streams of the batches before the next block.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Runs the next block on every batch, and calls `each` with the observer and the batch index after each batch.
    ///
    /// # Errors
    /// The first error of `each`. The driver must not be used afterwards.
    ///
    /// # Panics
    /// After the last block.
    pub fn run_block<O: Observer, E>(
        &mut self,
        observer: &mut O,
        mut each: impl FnMut(&mut O, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        for (batch, stream) in self.streams.iter_mut().enumerate() {
            let after = self.model.block(self.next, stream.clone(), &mut Pass::observed(observer));
            *stream = after.waiting();
            each(observer, batch)?;
        }
        self.next += 1;
        Ok(())
    }
}

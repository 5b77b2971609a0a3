use crate::{Input, LanguageModel, Observer, Pass, Stream};

/// Drives batches through a model block by block: all of them run through a block before the next one is run, so that a model
/// which reads its blocks when they are used reads each once. The hidden states of all batches are in memory meanwhile.
///
/// Two models are driven in lockstep by two drivers.
#[derive(Debug)]
pub struct BlockDriver<'m, M: ?Sized> {
    model: &'m M,
    streams: Vec<Stream>,
    next: usize,
}

impl<'m, M: LanguageModel + ?Sized> BlockDriver<'m, M> {
    /// Starts before the first block.
    pub fn new(model: &'m M, batches: &[Input]) -> Self {
        let streams = batches.iter().map(|input| model.embed(input)).collect();
        Self { model, streams, next: 0 }
    }

    /// The batches' residual streams before the next block.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Runs the next block over every batch. After each of them `each` is told of the observer and the batch's index.
    ///
    /// # Errors
    /// What `each` refuses; the driver is then of no use.
    ///
    /// # Panics
    /// After the last block.
    pub fn run_block<O: Observer, E>(
        &mut self,
        observer: &mut O,
        mut each: impl FnMut(&mut O, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        for (batch, stream) in self.streams.iter_mut().enumerate() {
            *stream = self.model.block(self.next, stream.clone(), &mut Pass::observed(observer));
            each(observer, batch)?;
        }
        self.next += 1;
        Ok(())
    }
}

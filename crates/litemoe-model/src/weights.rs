use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Int, Tensor, TensorData};
use litemoe_core::{LayerId, LinearSite, Stack, WeightDtype};

use crate::layers::block::Block;
use crate::layers::embedding::EmbeddingTable;
use crate::layers::head::LmHead;
use crate::load::Loader;
use crate::{Checkpoint, ModelError};

/// Embeddings, blocks and head of a model.
#[derive(Debug)]
pub(crate) enum Weights {
    /// All in memory.
    Loaded(Box<Loaded>),
    /// Read from the files on use.
    Streamed(Box<Streamed>),
}

/// Weights in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// `None` with tied embeddings.
    embeddings: Option<Embeddings>,
    /// Encoder blocks first.
    blocks: Vec<Arc<Block>>,
    head: Arc<LmHead>,
}

/// Token embeddings.
#[derive(Debug)]
struct Embeddings {
    decoder: EmbeddingTable,
    /// `None` if shared with the decoder.
    encoder: Option<EmbeddingTable>,
}

/// Streamed weights, with a cache of the last used block.
#[derive(Debug)]
pub(crate) struct Streamed {
    checkpoint: Checkpoint,
    device: Device,
    /// Encoder blocks first.
    blocks: Vec<LayerId>,
    last: Mutex<Option<CachedBlock>>,
    /// Until the next block is read.
    head: Mutex<Option<Arc<LmHead>>>,
}

/// Cached block.
#[derive(Debug)]
struct CachedBlock {
    index: usize,
    /// Experts that were not read, ascending.
    unread: Vec<usize>,
    block: Arc<Block>,
}

/// Maps a layer and its expert count to the unused experts, ascending.
pub(crate) type Unused<'a> = &'a dyn Fn(LayerId, usize) -> Vec<usize>;

impl Weights {
    pub(crate) fn load(loader: Loader<'_>) -> Result<Self, ModelError> {
        // Largest tensor first: loading it makes two temporary copies.
        let head = Arc::new(loader.head()?);
        let embeddings = match loader.is_tied() {
            true => None,
            false => Some(Embeddings::load(loader)?),
        };
        let blocks = loader.checkpoint.config.blocks();
        let blocks = blocks.map(|(id, _)| loader.block(id, &[]).map(Arc::new));
        let blocks = blocks.collect::<Result<_, _>>()?;
        Ok(Self::Loaded(Box::new(Loaded { embeddings, blocks, head })))
    }

    pub(crate) fn stream(checkpoint: &Checkpoint, device: &Device) -> Result<Self, ModelError> {
        checkpoint.check_finite()?;
        let blocks = checkpoint.config.blocks().map(|(id, _)| id).collect();
        let (checkpoint, device) = (checkpoint.clone(), device.clone());
        let (last, head) = (Mutex::new(None), Mutex::new(None));
        Ok(Self::Streamed(Box::new(Streamed { checkpoint, device, blocks, last, head })))
    }

    /// Embedding lookup in a stack's table, `[ids, d_model]`.
    pub(crate) fn embed(&self, stack: Stack, ids: &[u32]) -> Tensor<2> {
        match self {
            Self::Loaded(loaded) => loaded.embed(stack, ids),
            Self::Streamed(streamed) => unchanged(streamed.embed(stack, ids)),
        }
    }

    pub(crate) fn n_blocks(&self) -> usize {
        match self {
            Self::Loaded(loaded) => loaded.blocks.len(),
            Self::Streamed(streamed) => streamed.blocks.len(),
        }
    }

    /// Block `index`; the weights of unused experts may be absent.
    pub(crate) fn block(&self, index: usize, unused: Unused<'_>) -> Arc<Block> {
        match self {
            Self::Loaded(loaded) => loaded.blocks[index].clone(),
            Self::Streamed(streamed) => unchanged(streamed.block(index, unused)),
        }
    }

    /// Frees the cached block of streamed weights.
    pub(crate) fn release(&self) {
        if let Self::Streamed(streamed) = self {
            *streamed.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
            streamed.forget_head();
        }
    }

    pub(crate) fn head(&self) -> Arc<LmHead> {
        match self {
            Self::Loaded(loaded) => loaded.head.clone(),
            Self::Streamed(streamed) => unchanged(streamed.head()),
        }
    }

    /// Linear layers of all blocks that accept a LoRA adapter.
    pub(crate) fn linear_sites(&self) -> Vec<LinearSite> {
        let all = |_, _| Vec::new();
        (0..self.n_blocks()).flat_map(|index| self.block(index, &all).linear_sites()).collect()
    }
}

/// Unwraps a read of streamed weights, which were checked when opened.
fn unchanged<T>(read: Result<T, ModelError>) -> T {
    read.unwrap_or_else(|error| panic!("mapped weights were changed: {error}"))
}

impl Loaded {
    fn embed(&self, stack: Stack, ids: &[u32]) -> Tensor<2> {
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &self.head.weight.device());
        match &self.embeddings {
            None => self.head.weight.stored_rows(ids),
            Some(embeddings) => embeddings.of(stack).rows(ids),
        }
    }
}

impl Embeddings {
    fn load(loader: Loader<'_>) -> Result<Self, ModelError> {
        let decoder = loader.embedding(Stack::Decoder)?;
        let encoder = match loader.checkpoint.config.embeds_twice() {
            true => Some(loader.embedding(Stack::Encoder)?),
            false => None,
        };
        Ok(Self { decoder, encoder })
    }

    fn of(&self, stack: Stack) -> &EmbeddingTable {
        match (stack, &self.encoder) {
            (Stack::Encoder, Some(encoder)) => encoder,
            _ => &self.decoder,
        }
    }
}

impl Streamed {
    fn loader(&self) -> Loader<'_> {
        let dtype = WeightDtype::F32;
        Loader { checkpoint: &self.checkpoint, device: &self.device, dtype }
    }

    fn embed(&self, stack: Stack, ids: &[u32]) -> Result<Tensor<2>, ModelError> {
        let table = self.checkpoint.embedding(stack);
        let mut values = Vec::with_capacity(ids.len() * self.checkpoint.config.d_model);
        for &id in ids {
            values.extend(table.part(id as usize).values()?);
        }
        let shape = [ids.len(), self.checkpoint.config.d_model];
        Ok(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }

    /// Reads a block, or returns the cached one, so that consecutive batches cost one read.
    fn block(&self, index: usize, unused: Unused<'_>) -> Result<Arc<Block>, ModelError> {
        let id = self.blocks[index];
        let unread = unused(id, self.checkpoint.n_experts(id));
        // A panic elsewhere cannot leave it half-written.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*last
            && last.index == index
            && last.unread.iter().all(|expert| unread.binary_search(expert).is_ok())
        {
            return Ok(last.block.clone());
        }
        *last = None; // freed before the next one is read
        self.forget_head();
        let block = Arc::new(self.loader().block(id, &unread)?);
        *last = Some(CachedBlock { index, unread, block: block.clone() });
        Ok(block)
    }

    /// Reads the head, or returns the cached one, which the next block takes the place of.
    fn head(&self) -> Result<Arc<LmHead>, ModelError> {
        let mut cached = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = &*cached {
            return Ok(head.clone());
        }
        let head = Arc::new(self.loader().head()?);
        *cached = Some(head.clone());
        Ok(head)
    }

    fn forget_head(&self) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use litemoe_core::{Input, LanguageModel, Pass};
use serde::Serialize;

use crate::args::cache::CacheArgs;
use crate::args::device::DeviceArgs;
use crate::args::weights::WeightArgs;
use crate::model::{self, Loaded};
use crate::output;

/// Print the logits at every position, for comparison with other implementations
#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    /// The model: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Token ids, comma-separated; of the encoder in an encoder–decoder model.
    #[arg(long, value_delimiter = ',', required = true)]
    ids: Vec<u32>,
    /// Token ids of the decoder, comma-separated, for encoder–decoder models.
    #[arg(long, value_delimiter = ',')]
    decoder_ids: Option<Vec<u32>>,
    /// Adapter to mount, a PEFT directory.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Print JSON, {"logits": [[…], …]}, instead of the five largest logits per position.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    weights: WeightArgs,
}

#[derive(Serialize)]
struct Logits {
    logits: Vec<Vec<f32>>,
}

impl LogitsArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let inputs = model::inputs(&self.model, self.adapter.as_deref())?;
        let loaded = Loaded::open(&self.model, self.device, self.weights)?
            .cached_as(CacheArgs::default(), self.weights)?;
        let input = self.input(&loaded)?;
        let mounted = self.adapter.as_deref().map(|dir| loaded.adapter(dir)).transpose()?;
        inputs.expect_unchanged()?;
        let mut pass = Pass::mounted(mounted.as_ref());
        let logits = loaded.model.logits(&input, &mut pass);
        let flat = logits.try_into_vec_as::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let vocab = loaded.model.vocab();
        if let Some(index) = flat.iter().position(|logit| !logit.is_finite()) {
            let (position, token, logit) = (index / vocab, index % vocab, flat[index]);
            bail!("at position {position} the logit of token {token} is {logit}");
        }
        let rows = flat.chunks(vocab).map(<[f32]>::to_vec);
        if self.json {
            return output::json(&Logits { logits: rows.collect() });
        }
        for (id, row) in input.rows[0].iter().zip(rows) {
            let mut best: Vec<(usize, f32)> = row.into_iter().enumerate().collect();
            best.sort_by(|x, y| y.1.total_cmp(&x.1));
            let best = best.iter().take(5).map(|(token, logit)| format!("{token}: {logit:.4}"));
            output::line(&format!("after {id}: {}", best.collect::<Vec<_>>().join("  ")))?;
        }
        Ok(())
    }

    fn input(&self, loaded: &Loaded) -> anyhow::Result<Input> {
        loaded.expect_ids(&self.ids)?;
        let rows = vec![self.ids.clone()];
        match (&self.decoder_ids, loaded.model.has_encoder()) {
            (None, false) => Ok(Input::decoder(rows)),
            (Some(ids), true) => {
                loaded.expect_ids(ids)?;
                Ok(Input { rows: vec![ids.clone()], encoder_rows: Some(rows) })
            }
            (None, true) => {
                bail!("{} is an encoder–decoder: --decoder-ids is needed", self.model.display())
            }
            (Some(_), false) => bail!(
                "--decoder-ids is for encoder–decoder models, and {} is none",
                self.model.display()
            ),
        }
    }
}

use crate::ModelError;
use crate::config::read::file::ConfigFile;
use crate::config::rope::yarn_mscale;
use crate::config::{RopeConfig, RopeScaling};

/// RoPE base of most families when the configuration has none.
pub(crate) const THETA: f64 = 1e4;

/// Key of the original context length.
const ORIGINAL: &str = "original_max_position_embeddings";

/// Family whose LongRoPE has its own keys for the attention factor.
const OWN_MSCALE: &str = "phimoe";

/// Reads RoPE from `rope_parameters`, or from `rope_scaling` and a top-level `rope_theta`; `theta` is the family's
/// default.
pub(crate) fn read(
    config: &mut ConfigFile,
    model_type: &str,
    theta: f64,
    max_tokens: usize,
) -> Result<RopeConfig, ModelError> {
    let context = Context { max_tokens, original: config.optional_size(ORIGINAL)? };
    let outer = config.optional_positive("rope_theta")?.unwrap_or(theta);
    let (new, old) = (config.object("rope_parameters")?, config.object("rope_scaling")?);
    // As in transformers, the old spelling takes precedence.
    let Some(mut rope) = old.or(new) else {
        return Ok(RopeConfig { theta: outer, scaling: RopeScaling::None, interleaved: false });
    };
    let theta = rope.optional_positive("rope_theta")?.unwrap_or(outer);
    let scaling = scaling(&mut rope, model_type, context)?;
    config.close(rope, model_type, &[])?;
    Ok(RopeConfig { theta, scaling, interleaved: false })
}

fn scaling(
    rope: &mut ConfigFile,
    model_type: &str,
    context: Context,
) -> Result<RopeScaling, ModelError> {
    let spelled: Option<String> = rope.optional("rope_type", "a name")?;
    let old: Option<String> = rope.optional("type", "a name")?;
    let key = if spelled.is_some() { "rope_type" } else { "type" };
    match spelled.or(old).as_deref().unwrap_or("default") {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: rope.positive("factor")? }),
        "dynamic" => {
            rope.positive("factor")?;
            Ok(RopeScaling::None)
        }
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: rope.positive("factor")?,
            low: rope.positive("low_freq_factor")?,
            high: rope.positive("high_freq_factor")?,
            original: context.original(rope)?,
        }),
        "yarn" => yarn(rope, context),
        "longrope" => longrope(rope, model_type, context),
        _ => Err(rope.wrong(key, "default, linear, dynamic, llama3, yarn or longrope")),
    }
}

fn longrope(
    rope: &mut ConfigFile,
    model_type: &str,
    context: Context,
) -> Result<RopeScaling, ModelError> {
    let expected = "a list of numbers above 0, one for each pair of dimensions";
    let original = context.original(rope)?;
    let factors: Vec<f64> = rope.required("short_factor", expected)?;
    let _: Option<Vec<f64>> = rope.optional("long_factor", expected)?;
    if !factors.iter().all(|factor| factor.is_finite() && *factor > 0.0) {
        return Err(rope.wrong("short_factor", expected));
    }
    let stretch = context.max_tokens as f64 / original as f64;
    let factor = rope.optional_positive("factor")?.unwrap_or(stretch);
    let suggested =
        if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
    let attention_factor = if model_type == OWN_MSCALE {
        rope.optional_positive("long_mscale")?;
        rope.positive("short_mscale")?
    } else {
        rope.optional_positive("attention_factor")?.unwrap_or(suggested)
    };
    Ok(RopeScaling::Long { factors, attention_factor, original })
}

fn yarn(rope: &mut ConfigFile, context: Context) -> Result<RopeScaling, ModelError> {
    let original = context.original(rope)?;
    let stretch = context.max_tokens as f64 / original as f64;
    let factor = rope.optional_positive("factor")?.unwrap_or(stretch);
    let (mscale, all) = (
        rope.optional::<f64>("mscale", "a number")?,
        rope.optional::<f64>("mscale_all_dim", "a number")?,
    );
    let suggested = match (mscale.unwrap_or(0.0), all.unwrap_or(0.0)) {
        (mscale, all) if mscale != 0.0 && all != 0.0 => {
            yarn_mscale(factor, mscale) / yarn_mscale(factor, all)
        }
        _ => yarn_mscale(factor, 1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: rope.optional_positive("beta_fast")?.unwrap_or(32.0),
        beta_slow: rope.optional_positive("beta_slow")?.unwrap_or(1.0),
        truncate: rope.flag("truncate", true)?,
        attention_factor: rope.optional_positive("attention_factor")?.unwrap_or(suggested),
        original,
        all_dims: yarn_mscale(factor, all.unwrap_or(0.0)),
    })
}

/// Context lengths in tokens: configured, and original if the configuration has it.
#[derive(Clone, Copy)]
struct Context {
    max_tokens: usize,
    original: Option<usize>,
}

impl Context {
    /// Original context length. The top-level key takes precedence over the one in the RoPE object.
    fn original(self, rope: &mut ConfigFile) -> Result<usize, ModelError> {
        let inner = rope.optional_size(ORIGINAL)?;
        Ok(self.original.or(inner).unwrap_or(self.max_tokens))
    }
}

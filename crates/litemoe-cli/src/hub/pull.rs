//! Order of fetching a model's files: small files that can rule the model out first, weights last.

use anyhow::{Context, bail};
use litemoe_model::{Checkpoint, SIDE_FILES, shards};
use litemoe_text::Tokenizer;

use super::access::{Remote, is_offline};
use super::{ModelId, Pulled, cache};

const CONFIG: &str = "config.json";
/// Plan, in proxies with their own router rule.
const PLAN: &str = "plan.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Fetches a model into the cache; in offline mode, finds it there.
pub(crate) fn pull(id: &ModelId) -> anyhow::Result<Pulled> {
    if is_offline() {
        return find(id);
    }
    let remote = Remote::ask(id)?;
    let has = |name: &str| remote.names().iter().any(|there| there == name);
    if !has(CONFIG) || !(has(WEIGHTS) || has(INDEX)) {
        bail!("{id} is of no use here: it needs a {CONFIG}, and {WEIGHTS} or {INDEX}");
    }
    let snapshot = remote.snapshot();
    let useless = || format!("{id} is of no use here, its weights are not fetched");
    let mut fetched = remote.fetch(CONFIG)?;
    Checkpoint::check_config(&snapshot).with_context(useless)?;
    for name in SIDE_FILES.into_iter().chain([PLAN]).filter(|name| has(name)) {
        fetched += remote.fetch(name)?;
    }
    Tokenizer::from_dir(&snapshot).with_context(useless)?;
    if has(WEIGHTS) {
        fetched += remote.fetch(WEIGHTS)?;
    } else {
        fetched += remote.fetch(INDEX)?;
        for shard in shards(&snapshot.join(INDEX))? {
            if !has(&shard) {
                bail!("{id} has no file {shard}, which its {INDEX} names");
            }
            fetched += remote.fetch(&shard)?;
        }
    }
    remote.refer()?;
    Ok(Pulled { snapshot, fetched })
}

fn find(id: &ModelId) -> anyhow::Result<Pulled> {
    let cache = cache::dir()?;
    let snapshot = cache::snapshot(&cache, id).with_context(|| {
        format!("{id} is not in the hub's cache, {}, and HF_HUB_OFFLINE is set", cache.display())
    })?;
    Ok(Pulled { snapshot, fetched: 0 })
}

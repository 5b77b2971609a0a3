//! Order of fetching a model's files: small files that can rule the model out first, weights last.

use anyhow::{Context, bail};
use litemoe_model::{Checkpoint, SIDE_FILES, shards};
use litemoe_text::Tokenizer;

use super::access::is_offline;
use super::id::is_plain;
use super::remote::Remote;
use super::weight_index::check_total;
use super::{ModelId, Pulled, cache};

const CONFIG: &str = "config.json";
/// Plan, in proxies with their own router rule.
const PLAN: &str = "plan.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Maximum bytes of a file that is read whole; the longest tokenizers have 40 MB.
const MAX_READ: u64 = 256 << 20;

/// Fetches a model into the cache; in offline mode, finds it there.
pub(crate) fn pull(id: &ModelId) -> anyhow::Result<Pulled> {
    if is_offline() {
        return find(id);
    }
    let remote = Remote::ask(id)?;
    let has = |name: &str| remote.listing.has(name);
    if !has(CONFIG) || !(has(WEIGHTS) || has(INDEX)) {
        bail!("{id} is of no use here: it needs a {CONFIG}, and {WEIGHTS} or {INDEX}");
    }
    let weights = if has(WEIGHTS) { WEIGHTS } else { INDEX };
    let small = SIDE_FILES.into_iter().chain([PLAN]).filter(|name| has(name));
    let mut names: Vec<&str> = [CONFIG].into_iter().chain(small).collect();
    for name in names.iter().chain([&INDEX].into_iter().filter(|_| weights == INDEX)) {
        remote.expect_at_most(name, MAX_READ)?;
    }
    names.push(weights);
    remote.expect_room(&names)?;

    let snapshot = remote.snapshot();
    let useless = || format!("{id} is of no use here, its weights are not fetched");
    let mut fetched = remote.fetch(CONFIG)?;
    Checkpoint::check_config(snapshot).with_context(useless)?;
    for name in &names[1..names.len() - 1] {
        fetched += remote.fetch(name)?;
    }
    Tokenizer::from_dir(snapshot).with_context(useless)?;
    fetched += remote.fetch(weights)?;
    if weights == INDEX {
        fetched += fetch_shards(&remote)?;
    }
    remote.refer()?;
    Ok(Pulled { snapshot: snapshot.to_owned(), fetched })
}

/// Fetches the shards that the index names.
fn fetch_shards(remote: &Remote) -> anyhow::Result<u64> {
    let (id, index) = (&remote.id, remote.snapshot().join(INDEX));
    let names = shards(&index)?;
    let mut sizes = Vec::new();
    for name in &names {
        if !is_plain(name) {
            bail!("{INDEX} of {id} names a file {name:?}, which is not one of its folder");
        }
        if !remote.listing.has(name) {
            bail!("{id} has no file {name}, which its {INDEX} names");
        }
        sizes.push(remote.listing.file(name)?.size);
    }
    check_total(&index, &sizes)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    remote.expect_room(&names)?;
    names.iter().try_fold(0, |fetched, name| Ok(fetched + remote.fetch(name)?))
}

fn find(id: &ModelId) -> anyhow::Result<Pulled> {
    let cache = cache::dir()?;
    let snapshot = cache::snapshot(&cache, id).with_context(|| {
        format!("{id} is not in the hub's cache, {}, and HF_HUB_OFFLINE is set", cache.display())
    })?;
    Ok(Pulled { snapshot, fetched: 0 })
}

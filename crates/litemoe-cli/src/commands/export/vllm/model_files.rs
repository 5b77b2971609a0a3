use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context;
use litemoe_files::{StagedDir, sync_dir};
use litemoe_model::{Checkpoint, SIDE_FILES, shards};

use crate::progress;

/// Directory of the model in the output.
pub(super) const MODEL: &str = "model";

/// Bytes that are copied at once.
const BLOCK: usize = 1 << 20;

/// The files of a model: configuration, weights, tokenizer, and the record of a proxy.
#[derive(Debug)]
pub(super) struct ModelFiles {
    pub(super) names: Vec<String>,
    pub(super) bytes: u64,
}

impl ModelFiles {
    /// Names and sizes of the files that are there.
    pub(super) fn of(checkpoint: &Checkpoint) -> anyhow::Result<Self> {
        const SINGLE: &str = "model.safetensors";
        const INDEX: &str = "model.safetensors.index.json";
        let dir = checkpoint.dir();
        let mut names = vec!["config.json".to_owned()];
        let others = SIDE_FILES.into_iter().chain(["litemoe_proxy.json"]);
        names.extend(others.filter(|name| dir.join(name).exists()).map(str::to_owned));
        if dir.join(SINGLE).exists() {
            names.push(SINGLE.to_owned());
        } else {
            names.push(INDEX.to_owned());
            names.extend(shards(&dir.join(INDEX))?);
        }
        let size = |name: &String| {
            let path = dir.join(name);
            let size = fs::metadata(&path).map(|file| file.len());
            size.with_context(|| format!("cannot read {}", path.display()))
        };
        let bytes = names.iter().map(size).sum::<anyhow::Result<u64>>()?;
        Ok(Self { names, bytes })
    }

    /// Copies the files into the output.
    pub(super) fn copy(&self, from: &Path, staged: &mut StagedDir) -> anyhow::Result<()> {
        let to = staged.path().join(MODEL);
        fs::create_dir(&to).with_context(|| format!("cannot create {}", to.display()))?;
        let bar = progress::begin("copying", self.bytes, "bytes");
        for name in &self.names {
            let path = from.join(name);
            let copied = copy(&path, staged, &Path::new(MODEL).join(name), &mut |n| bar.add(n));
            copied.with_context(|| format!("cannot copy {}", path.display()))?;
        }
        bar.finish();
        sync_dir(&to).with_context(|| format!("cannot write {}", to.display()))
    }
}

fn copy(
    from: &Path,
    staged: &mut StagedDir,
    to: &Path,
    copied: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, staged.file(to)?);
    let mut block = vec![0; BLOCK];
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                to.write_all(&block[..n])?;
                copied(n as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

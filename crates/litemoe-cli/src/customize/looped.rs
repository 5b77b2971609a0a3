use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use litemoe_adapter::{EXPERTS, MountChoice};
use litemoe_core::{Criterion, MergeMethod, MoeLayer, Plan, Stack};
use litemoe_merge::{RefitOptions, sum_bytes};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::app::App;
use super::args::CustomizeArgs;
use super::options::RecordedOptions;
use super::report::{
    AdapterBytes, AppReport, ExpertBytes, PeakBytes, Quality, ServeBytes, recovery,
    recovery_perplexity,
};
use super::stage::{Runner, Stage};
use crate::artefact;
use crate::auto::Auto;
use crate::commands::extract::RefitKind;
use crate::memory::Peak;

/// The loop for one app.
pub(super) struct Loop<'a> {
    options: &'a CustomizeArgs,
    foundation: &'a Path,
    app: &'a App,
    dir: PathBuf,
    runner: Runner,
    seconds: std::cell::RefCell<BTreeMap<String, f64>>,
}

/// What the loop is judged by.
struct Controls {
    full: Quality,
    tuned: Tuned,
    random: Branch,
}

/// What one proxy came to.
struct Branch {
    proxy: Quality,
    tuned_proxy: Option<Quality>,
    mounted: Quality,
    mount: Mounted,
    proxy_bytes: u64,
    tuned: Tuned,
}

/// What a tuning stage said.
#[derive(Deserialize)]
struct Tuned {
    /// Of its files.
    adapter_bytes: u64,
    /// Of its matrices.
    memory_bytes: u64,
    peak_bytes: Peak,
}

/// What a mounting stage said.
#[derive(Deserialize)]
struct Mounted {
    choice: Option<MountChoice>,
    adapter_bytes: u64,
    memory_bytes: u64,
}

impl<'a> Loop<'a> {
    pub(super) fn new(
        options: &'a CustomizeArgs,
        foundation: &'a Path,
        app: &'a App,
    ) -> anyhow::Result<Self> {
        let dir = options.out.join(&app.name);
        let runner = Runner::new(dir.join("stages"), options.force)?;
        Ok(Self { options, foundation, app, dir, runner, seconds: Default::default() })
    }

    /// Runs every stage and sums up.
    pub(super) fn run(&self) -> anyhow::Result<AppReport> {
        crate::output::note(&format!("{}: {}", self.app.name, self.dir.display()));
        let (foundation, rows) = self.eval("foundation", self.foundation, None)?;
        let fingerprint = self.score()?;
        let branch = self.branch("", self.options.plan.score, foundation)?;
        let controls = match self.options.no_controls {
            true => None,
            false => Some(self.controls(foundation)?),
        };
        let controls = controls.as_ref();
        let (full, random) = (controls.map(|it| it.full), controls.map(|it| &it.random));
        Ok(AppReport {
            app: self.app.name.clone(),
            budget: self.options.plan.budget.to_string(),
            rows,
            seed: self.options.seed,
            options: self.recorded_options()?,
            fingerprint,
            foundation,
            proxy: branch.proxy,
            random_proxy: random.map(|random| random.proxy),
            random_mounted: random.map(|random| random.mounted),
            tuned_proxy: branch.tuned_proxy.context("the tuned proxy was not evaluated")?,
            mounted: branch.mounted,
            full,
            choice: branch.mount.choice,
            random_choice: random.and_then(|random| random.mount.choice),
            recovery: full.and_then(|full| recovery(foundation, branch.mounted, full)),
            recovery_perplexity: full
                .and_then(|full| recovery_perplexity(foundation, branch.mounted, full)),
            expert_bytes: ExpertBytes {
                foundation: self.foundation_bytes()?,
                proxy: branch.proxy_bytes,
            },
            adapter_bytes: AdapterBytes {
                mounted: branch.mount.adapter_bytes,
                full: controls.map(|controls| controls.tuned.adapter_bytes),
            },
            serve_bytes: ServeBytes {
                mounted: branch.mount.memory_bytes,
                full: controls.map(|controls| controls.tuned.memory_bytes),
                proxy: memory_bytes(&self.dir.join("proxy"))? + branch.tuned.memory_bytes,
                foundation: memory_bytes(self.foundation)?,
            },
            peak_bytes: PeakBytes {
                tune_proxy: branch.tuned.peak_bytes.anonymous,
                tune_full: controls.map(|controls| controls.tuned.peak_bytes.anonymous),
            },
            seconds: self.seconds.borrow().clone(),
        })
    }

    fn controls(&self, foundation: Quality) -> anyhow::Result<Controls> {
        let adapter = self.dir.join("full-adapter");
        let tuned = self.tune("tune_full", self.foundation, &adapter, None)?;
        let (full, _) = self.eval("full", self.foundation, Some(&adapter))?;
        let random = self.branch("random_", Criterion::Random, foundation)?;
        Ok(Controls { full, tuned, random })
    }

    /// From a score to a mounted adapter; `prefix` names the stages.
    fn branch(
        &self,
        prefix: &str,
        score: Criterion,
        foundation: Quality,
    ) -> anyhow::Result<Branch> {
        let dir = if prefix.is_empty() { self.dir.clone() } else { self.dir.join("random") };
        let name = |stage: &str| format!("{prefix}{stage}");
        let (plan, proxy) = (dir.join("plan.json"), dir.join("proxy"));
        self.plan(&name("plan"), score, &plan)?;
        let extracted = self.extract(&name("extract"), &plan, &proxy)?;
        let (proxy_quality, _) = self.eval(&name("proxy"), &proxy, None)?;
        let adapter = dir.join("adapter");
        let tuned = self.tune(&name("tune"), &proxy, &adapter, Some(&plan))?;
        let tuned_proxy = match prefix {
            "" => Some(self.eval("tuned_proxy", &proxy, Some(&adapter))?.0),
            _ => None,
        };
        let mounted_dir = dir.join("mounted");
        let mount = self.mount(&name("mount"), &adapter, &plan, &mounted_dir)?;
        let mounted = match mount.choice {
            None => foundation,
            Some(_) => self.eval(&name("mounted"), self.foundation, Some(&mounted_dir))?.0,
        };
        Ok(Branch {
            proxy: proxy_quality,
            tuned_proxy,
            mounted,
            mount,
            proxy_bytes: field(&extracted, "/expert_bytes/proxy")?,
            tuned,
        })
    }

    fn eval(
        &self,
        name: &str,
        model: &Path,
        adapter: Option<&Path>,
    ) -> anyhow::Result<(Quality, u64)> {
        let mut args = words(["eval", &text(model), &text(&self.app.test)]);
        args.extend(words(["--limit", &self.options.limit.to_string()]));
        args.extend(words(["--seed", &self.options.seed.to_string()]));
        args.extend(words(["--max-tokens", &self.options.tune.max_tokens.to_string()]));
        let mut inputs = vec![model, self.app.test.as_path()];
        if let Some(adapter) = adapter {
            args.extend(words(["--adapter", &text(adapter)]));
            inputs.push(adapter);
        }
        let about = format!("evaluating on the test rows{}", with(adapter));
        let result = self.stage(Stage {
            name,
            about: &about,
            args,
            inputs,
            outputs: vec![],
            resumes: None,
        })?;
        let quality = Quality {
            accuracy: field(&result, "/accuracy")?,
            accuracy_95: field(&result, "/accuracy_95")?,
            perplexity: field(&result, "/perplexity")?,
        };
        Ok((quality, field(&result, "/rows")?))
    }

    fn score(&self) -> anyhow::Result<String> {
        let scores = self.dir.join("scores.json");
        let similarity = self.dir.join("similarity.json");
        let mut args = words([
            "score",
            &text(self.foundation),
            &text(&self.app.train),
            "--out",
            &text(&scores),
        ]);
        args.extend(words(["--rows", &self.options.calibration_rows.to_string()]));
        args.extend(words(["--seed", &self.options.seed.to_string()]));
        args.extend(words(["--max-tokens", &self.options.tune.max_tokens.to_string()]));
        let mut outputs = vec![scores.as_path()];
        if self.merges() {
            args.extend(words(["--similarity", self.options.plan.similarity.name()]));
            args.extend(words(["--similarity-out", &text(&similarity)]));
            outputs.push(&similarity);
        }
        let inputs = vec![self.foundation, self.app.train.as_path()];
        let about = "scoring the foundation's experts on training rows";
        let result =
            self.stage(Stage { name: "score", about, args, inputs, outputs, resumes: None })?;
        field(&result, "/fingerprint")
    }

    fn plan(&self, name: &str, score: Criterion, plan: &Path) -> anyhow::Result<Value> {
        let scores = self.dir.join("scores.json");
        let similarity = self.dir.join("similarity.json");
        let mut args =
            words(["plan", &text(self.foundation), &text(&scores), "--out", &text(plan)]);
        args.extend(self.options.plan.to_args(score));
        let mut inputs = vec![self.foundation, scores.as_path()];
        if self.merges() {
            args.extend(words(["--similarity-file", &text(&similarity)]));
            inputs.push(&similarity);
        }
        let about = "choosing the experts to keep, merge and drop";
        self.stage(Stage { name, about, args, inputs, outputs: vec![plan], resumes: None })
    }

    fn extract(&self, name: &str, plan: &Path, proxy: &Path) -> anyhow::Result<Value> {
        let kind = self.refit()?;
        let mut args =
            words(["extract", &text(self.foundation), &text(plan), "--out", &text(proxy)]);
        args.extend(words(["--refit", &kind.to_string()]));
        let (mut inputs, mut outputs) = (vec![self.foundation, plan], vec![proxy]);
        let change = proxy_refit(proxy);
        if kind != RefitKind::None {
            args.extend(words(["--data", &text(&self.app.train)]));
            args.extend(words(["--rows", &self.options.calibration_rows.to_string()]));
            args.extend(words(["--seed", &self.options.seed.to_string()]));
            args.extend(words(["--max-tokens", &self.options.tune.max_tokens.to_string()]));
            args.extend(words(["--device", self.options.device.name()]));
            inputs.push(&self.app.train);
        }
        if kind == RefitKind::LowRank {
            args.extend(words(["--refit-rank", &self.options.refit_rank.to_string()]));
            outputs.push(&change);
        }
        let about = match kind {
            RefitKind::None => "writing the proxy",
            _ => "writing the proxy and solving its down projections anew",
        };
        self.stage(Stage { name, about, args, inputs, outputs, resumes: None })
    }

    fn tune(
        &self,
        name: &str,
        model: &Path,
        adapter: &Path,
        plan: Option<&Path>,
    ) -> anyhow::Result<Tuned> {
        let mut args = words(["tune", &text(model), &text(&self.app.train)]);
        args.extend(words(["--validation", &text(&self.app.validation), "--out", &text(adapter)]));
        args.extend(words(["--seed", &self.options.seed.to_string()]));
        args.extend(self.options.tune.to_args());
        let scores = self.dir.join("scores.json");
        let mut inputs = vec![model, self.app.train.as_path(), self.app.validation.as_path()];
        if self.options.tune.hot_experts.is_some() {
            args.extend(words(["--scores", &text(&scores)]));
            inputs.push(&scores);
        }
        let change = proxy_refit(model);
        if let Some(plan) = plan {
            args.extend(words(["--plan", &text(plan)]));
            inputs.push(plan);
            if self.refit()? == RefitKind::LowRank {
                args.extend(words(["--init", &text(&change)]));
                inputs.push(&change);
            }
        }
        let about = if plan.is_some() {
            "tuning an adapter on the proxy"
        } else {
            "tuning on the whole foundation"
        };
        let checkpoint = artefact::checkpoint_of(adapter);
        let resumes = Some(checkpoint.as_path());
        let outputs = vec![adapter];
        let result = self.stage(Stage { name, about, args, inputs, outputs, resumes })?;
        serde_json::from_value(result).context("tune printed something odd")
    }

    fn mount(
        &self,
        name: &str,
        adapter: &Path,
        plan: &Path,
        mounted: &Path,
    ) -> anyhow::Result<Mounted> {
        let mut args =
            words(["mount", &text(self.foundation), &text(adapter), "--out", &text(mounted)]);
        args.extend(words(["--plan", &text(plan)]));
        args.extend(words(["--validation", &text(&self.app.validation)]));
        args.extend(self.options.mount.to_args());
        args.extend(words(["--max-tokens", &self.options.tune.max_tokens.to_string()]));
        let inputs = vec![self.foundation, adapter, plan, self.app.validation.as_path()];
        let about = "mounting the adapter on the foundation";
        let result =
            self.stage(Stage { name, about, args, inputs, outputs: vec![mounted], resumes: None })?;
        serde_json::from_value(result).context("mount printed something odd")
    }

    fn stage(&self, mut stage: Stage<'_>) -> anyhow::Result<Value> {
        if stage.args[0] != "plan" && stage.args[0] != "extract" {
            stage.args.extend(words(["--device", self.options.device.name()]));
        }
        let result = self.runner.run(&stage)?;
        self.seconds.borrow_mut().insert(stage.name.to_owned(), field(&result, "/seconds")?);
        Ok(result)
    }

    /// How the proxy is refitted.
    fn refit(&self) -> anyhow::Result<RefitKind> {
        if let Auto::Given(kind) = self.options.refit {
            return Ok(kind);
        }
        let tune = &self.options.tune;
        let carried = |target: &String| target == EXPERTS || target == "down_proj";
        let is_carried = tune.hot_experts.is_none()
            && (tune.targets.is_empty() || tune.targets.iter().any(carried));
        let checkpoint = crate::model::open(self.foundation)?;
        let in_encoder = |layer: &MoeLayer| layer.id.stack == Stack::Encoder;
        let is_decoder = !checkpoint.moe_layers().iter().any(in_encoder);
        let plan: Plan = artefact::read(&self.dir.join("plan.json"))?;
        let is_small = |layer: &MoeLayer| {
            let kept = plan.layers.get(&layer.id).map_or(0, |layer| layer.groups.len());
            sum_bytes(kept * layer.d_expert) <= RefitOptions::default().max_sum_bytes
        };
        let fits = checkpoint.moe_layers().iter().all(is_small);
        Ok(if is_carried && is_decoder && fits { RefitKind::LowRank } else { RefitKind::None })
    }

    fn foundation_bytes(&self) -> anyhow::Result<u64> {
        Ok(crate::model::open(self.foundation)?.expert_bytes())
    }

    fn merges(&self) -> bool {
        self.options.plan.merge != MergeMethod::None
    }

    fn recorded_options(&self) -> anyhow::Result<RecordedOptions> {
        Ok(RecordedOptions {
            plan: self.options.plan.options(),
            tune: self.options.tune.clone(),
            calibration_rows: self.options.calibration_rows,
            refit: self.refit()?.to_string(),
            refit_rank: self.options.refit_rank,
            mount: self.options.mount.to_args(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            threads: self.options.tune.tune().threads,
        })
    }
}

/// Where `extract` writes the low-rank change of a proxy.
fn proxy_refit(proxy: &Path) -> PathBuf {
    let mut name = proxy.file_name().unwrap_or_default().to_owned();
    name.push("-refit");
    proxy.with_file_name(name)
}

/// Bytes of a model's parameters in f32.
fn memory_bytes(model: &Path) -> anyhow::Result<u64> {
    let checkpoint = crate::model::open(model)?;
    let parameters: u64 = checkpoint.stored_parts().map(|part| part.parameters).sum();
    Ok(parameters * size_of::<f32>() as u64)
}

fn with(adapter: Option<&Path>) -> &'static str {
    if adapter.is_some() { ", with the adapter" } else { "" }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

/// A field of a stage's result by JSON pointer.
fn field<T: DeserializeOwned>(result: &Value, pointer: &str) -> anyhow::Result<T> {
    let value = result.pointer(pointer).with_context(|| format!("a stage printed no {pointer}"))?;
    serde_json::from_value(value.clone())
        .with_context(|| format!("a stage printed an odd {pointer}"))
}

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use litemoe_core::LinearSite;
use litemoe_files::{JsonLimits, read_json_limited};
use serde_json::{Map, Value};

use super::pattern::Pattern;
use super::sha256::{self, INERT, is_off};
use super::targets::{Layers, Targets};
use super::{LITEMOE_FILE, LITEMOE_TYPE, LORA_TYPE, MODEL_FILE};
use crate::AdapterError;
use crate::init_lora::ends_with;

/// Limits of `adapter_config.json`, enough for a rank and an α of every expert.
const LIMITS: JsonLimits = JsonLimits { max_bytes: 16 << 20, max_values: 500_000 };

/// Maximum entries of a table whose patterns are more than a name.
const MAX_EXPRESSIONS: usize = 256;

/// Fields of a PEFT configuration other than ranks, α and targets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PeftConfig {
    /// `base_model_name_or_path`.
    pub base_model: Option<String>,
    /// `task_type`, e.g. `CAUSAL_LM`.
    pub task_type: Option<String>,
    /// `use_rslora`: α is divided by √r instead of r.
    pub rslora: bool,
    /// Whether `peft_type` is [`LITEMOE_TYPE`]: the adapter has a router bias, stored in `litemoe.json`.
    pub routed: bool,
}

impl PeftConfig {
    /// Name of the tensor file.
    pub(crate) fn model_file(&self) -> &'static str {
        if self.routed { LITEMOE_FILE } else { MODEL_FILE }
    }
}

/// Keys that are read.
const READ: [&str; 14] = [
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "peft_type",
    "peft_version",
    "r",
    "rank_pattern",
    "target_modules",
    "target_parameters",
    "use_rslora",
];

/// Keys of features that are not implemented; accepted only while off.
const FEATURES: [&str; 14] = [
    "alora_invocation_tokens",
    "arrow_config",
    "ensure_weight_tying",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "monteclora_config",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
];

/// Initialisations that leave the base weights unchanged; others change them when PEFT loads the adapter.
const INITIALISATIONS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// A parsed configuration without unimplemented options.
#[derive(Debug)]
pub(super) struct LoraConfig {
    pub(super) written: PeftConfig,
    pub(super) targets: Targets,
    /// PEFT `target_parameters`: path suffixes of parameters, stacks of experts or weights.
    pub(super) parameters: Vec<String>,
    /// Layers that target names are limited to.
    pub(super) layers: Option<Layers>,
    /// PEFT version that wrote it.
    pub(super) peft_version: Option<String>,
    /// SHA-256 of the keys that affect the computation.
    pub(super) sha256: String,
    excluded: Targets,
    rank: usize,
    alpha: f64,
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
}

/// A weight that a configuration targets.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) weight: &'a LinearSite,
    /// Path of the module, or of the parameter if that is targeted, which patterns match.
    pub(super) path: String,
    /// Whether `target_parameters` targets it.
    pub(super) is_parameter: bool,
}

/// Module paths of a weight: that of released checkpoints, and that of transformers 5 if it differs.
pub(super) fn module_paths(weight: &LinearSite) -> impl Iterator<Item = &str> {
    let held = weight.parameter.iter().filter(|held| **held != weight.site);
    std::iter::once(&weight.site).chain(held).map(litemoe_core::Site::as_str)
}

impl LoraConfig {
    pub(super) fn read(path: &Path) -> Result<Self, AdapterError> {
        let bytes = read_json_limited(path, LIMITS).map_err(AdapterError::io(path))?;
        let json = serde_json::from_slice(&bytes).map_err(AdapterError::json(path))?;
        let keys = Keys { path, json };
        keys.refuse_unimplemented()?;
        let parameters = keys.parameters()?;
        let no_modules = (!parameters.is_empty()).then(Targets::none);
        let targets = keys.targets("target_modules")?.or(no_modules);
        let targets = targets.ok_or_else(|| keys.missing("target_modules"))?;
        Ok(Self {
            written: keys.written()?,
            layers: keys.layers(&targets)?,
            targets,
            parameters,
            peft_version: keys.text("peft_version"),
            sha256: sha256::of_config(&keys.json),
            excluded: keys.targets("exclude_modules")?.unwrap_or_else(Targets::none),
            rank: keys.rank("r", keys.required("r")?)?,
            alpha: keys.alpha("lora_alpha", keys.required("lora_alpha")?)?,
            ranks: keys.patterns("rank_pattern", |value| keys.rank("rank_pattern", value))?,
            alphas: keys.patterns("alpha_pattern", |value| keys.alpha("alpha_pattern", value))?,
        })
    }

    /// The weights that the configuration targets.
    ///
    /// # Errors
    /// A pattern that takes too many steps, and a linear layer that is targeted as module and as parameter.
    pub(super) fn targeted<'a>(
        &self,
        path: &Path,
        weights: &'a [LinearSite],
    ) -> Result<Vec<Target<'a>>, AdapterError> {
        let mut targets = Vec::new();
        for weight in weights {
            let (module, parameter) = (self.module(weight)?, self.parameter(weight));
            if let (Some(_), Some(found), None) = (module, &parameter, &weight.parameter) {
                return Err(AdapterError::Unsupported {
                    path: path.to_owned(),
                    key: "target_parameters".to_owned(),
                    found: found.clone(),
                    expected: "target_modules has that linear layer too".to_owned(),
                });
            }
            let is_parameter = parameter.is_some();
            let target = parameter.or(module.map(str::to_owned));
            targets.extend(target.map(|path| Target { weight, path, is_parameter }));
        }
        Ok(targets)
    }

    /// Module path by which `target_modules` means a weight.
    fn module<'a>(&self, weight: &'a LinearSite) -> Result<Option<&'a str>, AdapterError> {
        for path in module_paths(weight) {
            if self.is_meant(path)? && !self.excluded.matches(path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn is_meant(&self, path: &str) -> Result<bool, AdapterError> {
        match &self.layers {
            _ if !self.targets.matches(path)? => Ok(false),
            // As in PEFT, a whole path is meant in whatever layer.
            Some(layers) if !self.targets.names(path) => layers.have(path),
            _ => Ok(true),
        }
    }

    /// Parameter path by which `target_parameters` means a weight. Experts are parts of stacks, not parameters.
    fn parameter(&self, weight: &LinearSite) -> Option<String> {
        let path = format!("{}.weight", weight.parameter.as_ref().unwrap_or(&weight.site));
        let is_meant = self.parameters.iter().any(|target| ends_with(&path, target));
        (is_meant && !weight.role.is_expert()).then_some(path)
    }

    /// Rank at a path: that of the first matching pattern, or the default.
    ///
    /// # Errors
    /// A pattern that takes too many steps.
    pub(super) fn rank_at(&self, path: &str) -> Result<usize, AdapterError> {
        Ok(first(&self.ranks, path)?.unwrap_or(self.rank))
    }

    /// LoRA scale at a path.
    ///
    /// # Errors
    /// A pattern that takes too many steps.
    pub(super) fn scale_at(&self, path: &str) -> Result<f32, AdapterError> {
        let alpha = first(&self.alphas, path)?.unwrap_or(self.alpha);
        Ok(crate::init_lora::scale(alpha, self.rank_at(path)?, self.written.rslora))
    }
}

fn first<T: Copy>(patterns: &[(Pattern, T)], path: &str) -> Result<Option<T>, AdapterError> {
    for (pattern, value) in patterns {
        if pattern.matches(path)? {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

/// The keys of a configuration, and its path for errors.
struct Keys<'a> {
    path: &'a Path,
    json: Map<String, Value>,
}

impl Keys<'_> {
    fn refuse_unimplemented(&self) -> Result<(), AdapterError> {
        for (key, value) in &self.json {
            let known = |keys: &[&str]| keys.contains(&key.as_str());
            if known(&INERT) || known(&READ) || is_off(value) {
                continue;
            }
            if known(&FEATURES) {
                return Err(self.unsupported(key, value, "that is not implemented"));
            }
            let (key, found) = (key.clone(), value.to_string());
            return Err(AdapterError::UnknownKey { path: self.path.to_owned(), key, found });
        }
        self.check_values()
    }

    /// Checks keys of which only some values are implemented.
    fn check_values(&self) -> Result<(), AdapterError> {
        let kind = self.required("peft_type")?;
        if kind != LORA_TYPE && kind != LITEMOE_TYPE {
            let expected = "only LORA is read, and our own LITEMOE_LORA";
            return Err(self.unsupported("peft_type", kind, expected));
        }
        if let Some(bias) = self.json.get("bias").filter(|bias| !is_off(bias) && **bias != "none") {
            return Err(self.unsupported("bias", bias, "only none is read"));
        }
        let plain = |init: &&Value| {
            init.is_boolean() || init.is_null() || init.as_str().is_some_and(is_plain)
        };
        match self.json.get("init_lora_weights").filter(|init| !plain(init)) {
            Some(init) => {
                let expected = "only initialisations that leave the base weights alone are read";
                Err(self.unsupported("init_lora_weights", init, expected))
            }
            None => Ok(()),
        }
    }

    fn written(&self) -> Result<PeftConfig, AdapterError> {
        let rslora = match self.json.get("use_rslora") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(rslora)) => *rslora,
            Some(other) => {
                return Err(self.unsupported("use_rslora", other, "must be true or false"));
            }
        };
        let (base_model, task_type) =
            (self.text("base_model_name_or_path"), self.text("task_type"));
        let routed = self.required("peft_type")? == LITEMOE_TYPE;
        Ok(PeftConfig { base_model, task_type, rslora, routed })
    }

    fn text(&self, key: &str) -> Option<String> {
        self.json.get(key).and_then(Value::as_str).map(str::to_owned)
    }

    fn parameters(&self) -> Result<Vec<String>, AdapterError> {
        match self.json.get("target_parameters") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(list) => self.names("target_parameters", list),
        }
    }

    fn targets(&self, key: &'static str) -> Result<Option<Targets>, AdapterError> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) if name.eq_ignore_ascii_case("all-linear") => {
                Ok(Some(Targets::AllLinear))
            }
            Some(Value::String(text)) => {
                Pattern::full(self.path, key, text).map(Targets::Pattern).map(Some)
            }
            Some(list) => self.names(key, list).map(Targets::Ends).map(Some),
        }
    }

    fn layers(&self, targets: &Targets) -> Result<Option<Layers>, AdapterError> {
        const NUMBERS: &str = "layers_to_transform";
        const PATTERNS: &str = "layers_pattern";
        let Some(found) = self.json.get(NUMBERS).filter(|found| !is_off(found)) else {
            return Ok(None);
        };
        let numbers: Option<BTreeSet<u64>> = match found {
            Value::Array(list) => list.iter().map(Value::as_u64).collect(),
            one => one.as_u64().map(|one| BTreeSet::from([one])),
        };
        let Some(numbers) = numbers else {
            return Err(self.unsupported(NUMBERS, found, "must be a layer's number or a list"));
        };
        if !matches!(targets, Targets::Ends(_)) {
            let expected = "only names in target_modules can be limited to layers, as in PEFT";
            return Err(self.unsupported(NUMBERS, found, expected));
        }
        let patterns = match self.json.get(PATTERNS).filter(|found| !is_off(found)) {
            None => Vec::new(),
            Some(Value::String(one)) if one.is_empty() => Vec::new(),
            Some(Value::String(one)) => vec![one.clone()],
            Some(list) => self.names(PATTERNS, list)?,
        };
        let pattern = |text: &String| Pattern::layers(self.path, PATTERNS, text);
        let patterns = match &patterns[..] {
            [] => vec![Pattern::any_layers(self.path, PATTERNS)?],
            some => some.iter().map(pattern).collect::<Result<_, _>>()?,
        };
        Ok(Some(Layers { numbers, patterns }))
    }

    fn names<T: FromIterator<String>>(&self, key: &str, list: &Value) -> Result<T, AdapterError> {
        let name = |value: &Value| value.as_str().map(str::to_owned);
        let names = list.as_array().and_then(|list| list.iter().map(name).collect());
        names.ok_or_else(|| self.unsupported(key, list, "must be a name or a list of names"))
    }

    /// A table from patterns to values, in the file's order; the first match wins.
    fn patterns<T>(
        &self,
        key: &'static str,
        read: impl Fn(&Value) -> Result<T, AdapterError>,
    ) -> Result<Vec<(Pattern, T)>, AdapterError> {
        let entry = |(text, value): (&String, &Value)| {
            Ok((Pattern::suffix(self.path, key, text)?, read(value)?))
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_expression = |text: &&String| !text.replace("\\.", "").bytes().all(is_name);
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(table))
                if table.keys().filter(is_expression).count() > MAX_EXPRESSIONS =>
            {
                let expected = format!("at most {MAX_EXPRESSIONS} expressions that are no names");
                Err(self.unsupported(key, &table.len().into(), &expected))
            }
            Some(Value::Object(table)) => table.iter().map(entry).collect(),
            Some(other) => Err(self.unsupported(key, other, "must be a table")),
        }
    }

    fn rank(&self, key: &str, value: &Value) -> Result<usize, AdapterError> {
        let rank =
            value.as_u64().and_then(|rank| u32::try_from(rank).ok()).filter(|&rank| rank > 0);
        let rank = rank.map(|rank| rank as usize);
        rank.ok_or_else(|| {
            self.unsupported(key, value, "must be a whole number above 0, and below 2³²")
        })
    }

    fn alpha(&self, key: &str, value: &Value) -> Result<f64, AdapterError> {
        let alpha = value.as_f64().filter(|alpha| alpha.is_finite());
        alpha.ok_or_else(|| self.unsupported(key, value, "must be a number"))
    }

    fn required(&self, key: &'static str) -> Result<&Value, AdapterError> {
        self.json.get(key).ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &'static str) -> AdapterError {
        AdapterError::MissingKey { path: PathBuf::from(self.path), key }
    }

    fn unsupported(&self, key: &str, found: &Value, expected: &str) -> AdapterError {
        AdapterError::Unsupported {
            path: self.path.to_owned(),
            key: key.to_owned(),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }
}

fn is_plain(init: &str) -> bool {
    INITIALISATIONS.iter().any(|plain| init.eq_ignore_ascii_case(plain))
}

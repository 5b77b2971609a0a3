//! A checkpoint with an adapter in its weights gives PEFT's logits of model and adapter.

use burn::tensor::Device;
use litemoe_adapter::peft;
use litemoe_core::{LanguageModel, MoeModel, Pass};
use litemoe_model::{Checkpoint, Fusion, Model, Outline};
use tempfile::TempDir;

use crate::fixture::{distance, farthest, floats, golden};
use crate::goldens::{input, reference};

#[test]
fn fused_goldens_give_pefts_logits() {
    let base = reference("logits.safetensors", "base");
    for (name, file) in
        [("plain", "logits"), ("patterned", "logits"), ("stacked", "logits_stacked")]
    {
        let checkpoint = Checkpoint::open(golden("base")).unwrap();
        let sites = Outline::of(&checkpoint);
        let read = peft::read(&golden(name), sites.linear_sites(), &Device::flex()).unwrap();
        let dir = TempDir::new().unwrap();
        let out = dir.path().join("fused");
        Fusion::of(&checkpoint, &read.adapters).unwrap().write(&out, &mut |_| ()).unwrap();
        let model = Model::load(&Checkpoint::open(out).unwrap(), &Device::flex()).unwrap();
        let found = floats(model.logits(&input(), &mut Pass::plain()));
        let expected = reference(&format!("{file}.safetensors"), name);
        assert!(farthest(&expected, &base) > 0.02, "{name} changes something");
        assert!(distance(&found, &expected) < 1e-5, "{name}: {}", distance(&found, &expected));
    }
}

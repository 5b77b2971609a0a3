//! Model parts of a checkpoint's tensors.

use std::collections::{BTreeMap, BTreeSet};

use litemoe_core::{LayerId, MoeModel};
use litemoe_model::{Checkpoint, Part};

use crate::setup::{TINY, load, tiny};

const EVERYWHERE: [Part; 5] =
    [Part::Embedding, Part::Attention, Part::Routers, Part::Experts, Part::Norms];

#[test]
fn parts_add_up_and_experts_are_the_layers_experts() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let (mut bytes, mut experts): (BTreeMap<Part, u64>, u64) = (BTreeMap::new(), 0);
        for tensor in checkpoint.stored_parts() {
            *bytes.entry(tensor.part).or_default() += tensor.bytes;
            experts += match (tensor.part, tensor.dtype) {
                // In a proxy they are in bf16.
                (Part::Experts, "MXFP4") => 2 * tensor.parameters,
                (Part::Experts, _) => tensor.bytes,
                _ => 0,
            };
            match tensor.dtype {
                // Two values per byte, and one scale per 32.
                "MXFP4" => assert!(tensor.parameters == 0 || tensor.parameters == 2 * tensor.bytes),
                "F32" => assert_eq!(tensor.bytes, 4 * tensor.parameters, "{}", tensor.name),
                _ => assert_eq!(tensor.bytes, 2 * tensor.parameters, "{}", tensor.name),
            }
        }
        assert_eq!(bytes.values().sum::<u64>(), checkpoint.bytes(), "{name}");
        assert_eq!(experts, checkpoint.expert_bytes(), "{name}");
        let n_rows: u64 =
            checkpoint.moe_layers().iter().map(|l| (l.n_experts * l.d_model) as u64).sum();
        let rows = checkpoint
            .stored_parts()
            .filter(|tensor| tensor.part == Part::Routers && tensor.name.ends_with(".weight"));
        assert_eq!(rows.map(|tensor| tensor.parameters).sum::<u64>(), n_rows, "{name}");
    }
}

#[test]
fn a_model_has_the_parts_its_family_has() {
    for (name, more) in [
        ("qwen3_moe", &[Part::Head][..]),
        ("windowed", &[Part::Dense]),
        ("fused", &[Part::Dense, Part::Head]),
        ("granitemoe", &[Part::Head]),
        ("mixtral", &[Part::Head]),
        ("mixtral_fused", &[]),
        ("olmoe", &[Part::Head]),
        ("qwen2_moe", &[Part::Dense, Part::SharedExperts, Part::Head]),
        ("phimoe", &[Part::Head]),
        ("deepseek_v3", &[Part::Dense, Part::SharedExperts, Part::Head]),
        ("gpt_oss_mxfp4", &[Part::Head]),
        ("llama4_text", &[Part::Dense, Part::SharedExperts, Part::Head]),
        ("switch_transformers", &[Part::Dense]),
    ] {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let found: BTreeSet<Part> = checkpoint.stored_parts().map(|tensor| tensor.part).collect();
        let expected: BTreeSet<Part> = EVERYWHERE.iter().chain(more).copied().collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn experts_are_in_the_blocks_of_the_layers() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let layers: BTreeSet<LayerId> = checkpoint.moe_layers().iter().map(|l| l.id).collect();
        let experts = checkpoint.stored_parts().filter(|tensor| tensor.part == Part::Experts);
        assert_eq!(experts.filter_map(|tensor| tensor.block).collect::<BTreeSet<_>>(), layers);
        let outside = checkpoint.stored_parts().filter(|tensor| tensor.block.is_none());
        for tensor in outside {
            let known = [Part::Embedding, Part::Norms, Part::Head];
            assert!(known.contains(&tensor.part), "{name}: {}", tensor.name);
        }
    }
}

#[test]
fn linear_sites_of_the_headers_are_the_models() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let mut found = checkpoint.linear_sites();
        let mut expected = load(tiny(name)).linear_sites().to_vec();
        for sites in [&mut found, &mut expected] {
            sites.sort_by(|x, y| x.site.cmp(&y.site));
        }
        assert_eq!(found, expected, "{name}");
    }
}

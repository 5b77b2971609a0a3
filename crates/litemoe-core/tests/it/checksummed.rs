//! Checksums of records.

use std::collections::BTreeMap;

use litemoe_core::{
    ChecksumError, Checksummed, Fingerprint, Group, LayerId, LayerPlan, PLAN_VERSION, Plan,
    PlanOptions, sha256_hex,
};
use proptest::prelude::*;

fn plan() -> Plan {
    let layer = LayerPlan {
        n_experts: 3,
        groups: vec![Group { share: 0.1 + 0.2, ..Group::single(0) }, Group::single(2)],
        removed: vec![1],
    };
    Plan {
        version: PLAN_VERSION,
        fingerprint: Fingerprint::new("f"),
        input_sha256: "é".to_owned(),
        options: PlanOptions::default(),
        layers: BTreeMap::from([(LayerId::decoder(0), layer)]),
    }
}

fn written(indented: bool) -> String {
    let json = if indented { serde_json::to_string_pretty } else { serde_json::to_string };
    json(&Checksummed(plan())).expect("JSON")
}

#[test]
fn the_checksum_is_that_of_the_canonical_json_however_it_is_laid_out() {
    let hash = sha256_hex(&serde_json::to_vec(&plan()).expect("JSON"));
    assert_eq!(hash, plan().hash());
    for json in [written(false), written(true)] {
        assert!(json.contains(&hash), "{json}");
        assert_eq!(Checksummed::<Plan>::parse(json.as_bytes()).expect("it is whole"), plan());
    }
}

#[test]
fn a_record_without_a_checksum_is_read_and_one_with_another_is_refused() {
    let plain = serde_json::to_string(&plan()).expect("JSON");
    assert_eq!(Checksummed::<Plan>::parse(plain.as_bytes()).expect("it is a plan"), plan());
    let edited = written(false).replace("[1]", "[2]");
    match Checksummed::<Plan>::parse(edited.as_bytes()) {
        Err(ChecksumError::Changed { stated, found }) => {
            assert_eq!(stated, plan().hash());
            assert_ne!(found, stated);
        }
        other => panic!("{other:?}"),
    }
    let twice = written(false).replacen('{', "{\"sha256\": \"\",", 1);
    let error = Checksummed::<Plan>::parse(twice.as_bytes()).expect_err("two checksums");
    assert!(error.to_string().contains("duplicate field `sha256`"), "{error}");
    let stranger = written(false).replacen("sha256\":", "sha257\":", 1);
    assert!(matches!(Checksummed::<Plan>::parse(stranger.as_bytes()), Err(ChecksumError::Json(_))));
}

proptest! {
    #[test]
    fn a_flipped_bit_is_noticed_or_changes_nothing(place in any::<prop::sample::Index>(), bit in 0..8) {
        let mut json = written(true).into_bytes();
        let place = place.index(json.len());
        json[place] ^= 1u8 << bit;
        if let Ok(read) = Checksummed::<Plan>::parse(&json) {
            prop_assert_eq!(read, plan());
        }
    }
}

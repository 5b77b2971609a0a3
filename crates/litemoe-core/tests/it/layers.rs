use litemoe_core::{LayerId, Plan};

/// A plan of two layers, as JSON.
fn plan(layers: &str) -> Result<Plan, serde_json::Error> {
    let options = r#""budget": "0.5", "score": "task", "merge": "none", "similarity": "affinity", "alpha": 0.6,
        "max_merged": 3, "alignment": "hungarian", "router": "drop_rows""#;
    serde_json::from_str(&format!(
        r#"{{"version": 1, "fingerprint": "f", "input_sha256": "", "options": {{{options}}}, "layers": {{{layers}}}}}"#
    ))
}

#[test]
fn a_layer_has_one_spelling_and_is_there_once() {
    let layer = r#"{"n_experts": 1, "groups": [{"host": 0, "share": 1.0}], "removed": []}"#;
    let read = |first: &str, second: &str| {
        plan(&format!(r#""{first}": {layer}, "{second}": {layer}"#)).map_err(|e| e.to_string())
    };
    let layers = read("encoder.1", "1").expect("a plan").layers;
    assert!(layers.keys().eq(&[LayerId::encoder(1), LayerId::decoder(1)]));
    for (first, second, message) in [
        ("1", "1", "layer 1 is there twice"),
        ("encoder.2", "encoder.2", "layer encoder.2 is there twice"),
        ("1", "01", "`01`"),
        ("0", "+1", "`+1`"),
        ("0", "encoder.", "`encoder.`"),
    ] {
        let error = read(first, second).expect_err("a plan was read");
        assert!(error.contains(message), "{error}");
    }
}

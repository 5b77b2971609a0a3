use litemoe_core::{Alignment, LitemoeOptions, PlanMethod, PlanOptions};
use serde_json::json;

/// The options in `plan.json` are flat, so that plans keep their hashes.
#[test]
fn options_are_flat_in_files_and_go_there_and_back() {
    let pruning = json!({
        "budget": "0.33", "score": "task", "merge": "none", "similarity": "affinity", "alpha": 0.6,
        "max_merged": 3, "alignment": "hungarian", "router": "drop_rows",
    });
    let options = LitemoeOptions { alpha: 0.25, alignment: Alignment::None, ..Default::default() };
    let merging = PlanOptions { method: PlanMethod::Litemoe(options), ..PlanOptions::default() };
    let mut flat = pruning.clone();
    for (key, value) in
        [("merge", json!("litemoe")), ("alpha", json!(0.25)), ("alignment", json!("none"))]
    {
        flat[key] = value;
    }
    for (options, file) in [(PlanOptions::default(), &pruning), (merging, &flat)] {
        assert_eq!(&serde_json::to_value(&options).expect("JSON"), file);
        let read: PlanOptions = serde_json::from_value(file.clone()).expect("options");
        assert_eq!(read, options);
    }
}

#[test]
fn options_of_merging_without_merging_are_refused() {
    let mut file = serde_json::to_value(PlanOptions::default()).expect("JSON");
    file["max_merged"] = json!(2);
    let error = serde_json::from_value::<PlanOptions>(file).expect_err("nothing uses them");
    assert!(error.to_string().contains("merges nothing"), "{error}");
}

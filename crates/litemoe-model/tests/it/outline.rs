//! The outline of a checkpoint, from its headers, is that of the loaded model.

use litemoe_core::{LinearSite, MoeModel};
use litemoe_model::{Checkpoint, Outline};

use crate::setup::{TINY, load, tiny};

#[test]
fn an_outline_has_the_sites_of_the_loaded_model() {
    for name in TINY {
        let outline = Outline::of(&Checkpoint::open(tiny(name)).unwrap());
        let model = load(tiny(name));
        assert_eq!(outline.moe_layers(), model.moe_layers(), "{name}");
        let sorted = |sites: &[LinearSite]| {
            let mut sites = sites.to_vec();
            sites.sort_by(|x, y| x.site.cmp(&y.site));
            sites
        };
        assert_eq!(sorted(outline.linear_sites()), sorted(model.linear_sites()), "{name}");
    }
}

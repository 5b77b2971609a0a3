use std::sync::LazyLock;

/// Long version: version, commit, features and target of this build.
pub(crate) fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let on = FEATURES.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name);
        format!(
            "{}\ncommit: {}\nfeatures: {}\ntarget: {}",
            env!("CARGO_PKG_VERSION"),
            env!("LITEMOE_COMMIT"),
            on.collect::<Vec<_>>().join(", "),
            env!("LITEMOE_TARGET"),
        )
    });
    &LONG
}

/// Features, and whether this build has them.
const FEATURES: [(&str, bool); 5] = [
    ("flex", cfg!(feature = "flex")),
    ("wgpu", cfg!(feature = "wgpu")),
    ("vulkan", cfg!(feature = "vulkan")),
    ("hub", cfg!(feature = "hub")),
    ("embedded", cfg!(feature = "embedded")),
];

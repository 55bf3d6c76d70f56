//! What `--version` says: enough to build the same bytes again.

use std::sync::LazyLock;

/// The commit that `cross/build/resightd` gives to the compiler; without it nobody knows.
const COMMIT: Option<&str> = option_env!("RESIGHT_COMMIT");

/// Version, commit, processor and features, on one line.
pub(crate) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let features: Vec<&str> =
        [("rppal", cfg!(feature = "rppal")), ("documentation", cfg!(feature = "documentation"))]
            .into_iter()
            .filter_map(|(name, enabled)| enabled.then_some(name))
            .collect();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(" ") };
    format!(
        "{} (commit {}, {}, features {features})",
        env!("CARGO_PKG_VERSION"),
        COMMIT.unwrap_or("unknown"),
        std::env::consts::ARCH
    )
});

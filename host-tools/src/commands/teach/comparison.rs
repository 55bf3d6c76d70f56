//! `resight teach --normal --compare`.

use std::str::FromStr;

use resight_teach::Comparison;

/// [`Comparison`] on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ComparisonArgument(Comparison);

/// What is neither of the two.
#[derive(Debug, thiserror::Error)]
#[error("places or patches is expected")]
pub(crate) struct NoComparison;

impl ComparisonArgument {
    pub(super) fn comparison(self) -> Comparison {
        self.0
    }
}

impl FromStr for ComparisonArgument {
    type Err = NoComparison;

    fn from_str(name: &str) -> Result<Self, NoComparison> {
        match name {
            "places" => Ok(Self(Comparison::Places)),
            "patches" => Ok(Self(Comparison::Patches)),
            _ => Err(NoComparison),
        }
    }
}

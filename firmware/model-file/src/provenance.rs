//! Where a network came from: the member `provenance.json`.

use serde::{Deserialize, Serialize};

/// Where a network came from: the member `provenance.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the source file, without its folder.
    pub source: String,
    /// sha256 of the source file, see [`sha256_of_file`](crate::sha256_of_file).
    pub source_sha256: String,
    /// What the activations' ranges were found with; none when nothing was calibrated.
    pub calibration: Option<Calibration>,
    /// The program that made the network, with its version.
    pub tool: String,
}

/// The calibration of a network, part of its [`Provenance`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Number of images.
    pub images: usize,
    /// Digest of the images: the sha256 over one line `sha256  name` for each file.
    pub sha256: String,
    /// Name of the method that chose the ranges.
    pub method: String,
}

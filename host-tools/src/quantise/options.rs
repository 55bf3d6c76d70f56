//! What can be chosen.

use resight_imaging::Preprocessing;

use super::range::Method;

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// How ranges are chosen.
    pub method: Method,
    /// How images become the network's input.
    pub preprocessing: Preprocessing,
}

/// Called with a phase, how many of its items are done, and how many there are.
pub type Progress<'a> = &'a (dyn Fn(&str, usize, usize) + Sync);

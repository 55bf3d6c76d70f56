//! The passes of the quantiser, one file each. A pass reads what earlier ones have annotated and
//! annotates more; to add one, write its file and put it in the list.

pub mod bias;
pub mod fold;
pub mod ranges;
pub mod round;
pub mod scales;

use super::calibrate::Calibration;
use super::error::QuantiseError;
use super::graph::QuantisationGraph;

/// What a pass is.
pub type Pass = fn(&mut QuantisationGraph<'_>, &Calibration<'_>) -> Result<(), QuantiseError>;

/// The passes in their order.
pub const PASSES: &[Pass] = &[ranges::run, scales::run, round::run, bias::run, fold::run];

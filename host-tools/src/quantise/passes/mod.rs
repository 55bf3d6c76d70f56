//! The passes of the quantiser, one file each. A pass reads what earlier ones have annotated and
//! annotates more; to add one, write its file and put it in the list.

pub mod bias;
pub mod fold;
pub mod gptq;
pub mod ranges;
pub mod round;
pub mod scales;
pub mod share;
pub mod shift;

use super::calibrate::Calibration;
use super::error::QuantiseError;
use super::graph::QuantisationGraph;
use super::options::{Options, Rounding};

/// What a pass is.
pub type Pass = fn(&mut QuantisationGraph<'_>, &Calibration<'_>) -> Result<(), QuantiseError>;

/// The passes in their order.
pub fn passes(options: &Options) -> Vec<Pass> {
    let always: [Pass; 6] = [ranges::run, share::run, scales::run, round::run, bias::run, fold::run];
    let second_order: [Pass; 2] = [gptq::run, shift::run];
    match options.rounding {
        Rounding::Nearest => always.to_vec(),
        Rounding::Gptq => always.into_iter().chain(second_order).collect(),
    }
}

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
pub mod temperature;

use super::calibrate::Calibration;
use super::error::QuantiseError;
use super::graph::QuantisationGraph;
use super::options::{Options, Rounding};

/// What a pass is.
pub type Pass = fn(&mut QuantisationGraph<'_>, &Calibration<'_>) -> Result<(), QuantiseError>;

/// The passes in their order.
pub fn passes(options: &Options) -> Vec<Pass> {
    let always: [Pass; 6] = [ranges::run, share::run, scales::run, round::run, bias::run, fold::run];
    always.into_iter().chain(improving(options).into_iter().map(|(_, pass)| pass)).collect()
}

/// The passes that bring a network that is whole closer to f32, with what they do.
pub fn improving(options: &Options) -> Vec<(&'static str, Pass)> {
    let mut passes: Vec<(&'static str, Pass)> = vec![];
    if options.rounding == Rounding::Gptq {
        passes.push(("weights rounded by second moments", gptq::run));
        passes.push(("logits without their mean error", shift::run));
    }
    if options.temperature {
        passes.push(("probabilities as sure as f32's", temperature::run));
    }
    passes
}

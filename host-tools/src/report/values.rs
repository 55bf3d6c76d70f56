//! What values the weights and activations of a network have.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rayon::prelude::*;
use resight_imaging::{ImageView, Preprocessor, decode};
use resight_kernels::Sequential;
use resight_runtime::layers::{Convolution, Linear};
use resight_runtime::{Model, Target};
use tract_onnx::tract_core::internal::Tensor;

use crate::quantise::Progress;

/// Bins of a histogram of int8 values; four values each.
pub const BINS: usize = 64;

/// How often values fall into each bin, from -128 on.
pub type Counts = [u64; BINS];

/// A layer with weights.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerValues {
    /// Its name.
    pub name: String,
    /// Its int8 weights.
    pub weights: Counts,
    /// Its int8 outputs on some pictures; none where there were no pictures, or for the logits.
    pub outputs: Option<Counts>,
}

/// Share of values at either end of the int8 range, `0..=1`.
pub fn at_the_ends(counts: &Counts) -> [f64; 2] {
    let all = counts.iter().sum::<u64>().max(1) as f64;
    [counts[0] as f64 / all, counts[BINS - 1] as f64 / all]
}

fn bin(value: i8) -> usize {
    (i32::from(value) + 128) as usize * BINS / 256
}

fn counted(counts: &mut Counts, values: &[i8]) {
    for &value in values {
        counts[bin(value)] += 1;
    }
}

/// The layers with weights, in their order.
pub fn weights(model: &Model) -> Vec<LayerValues> {
    let layer = |node: &tract_onnx::prelude::TypedNode| {
        let convolution = node.op.downcast_ref::<Convolution>().map(|layer| &layer.weights);
        let tensor = convolution.or_else(|| node.op.downcast_ref::<Linear>().map(|layer| &layer.weights))?;
        let mut weights = [0; BINS];
        counted(&mut weights, int8(tensor)?);
        Some(LayerValues { name: node.name.clone(), weights, outputs: None })
    };
    model.graph().nodes.iter().filter_map(layer).collect()
}

fn int8(tensor: &Tensor) -> Option<&[i8]> {
    tensor.try_as_plain_ram().ok()?.as_slice::<i8>().ok()
}

/// Counts the outputs of `layers` on pictures.
///
/// # Errors
/// Pictures that cannot be read, a model that cannot be run.
pub fn activations(
    model: &Model,
    pictures: &[&Path],
    target: &Target,
    layers: &mut [LayerValues],
    progress: Progress<'_>,
) -> Result<()> {
    let places: HashMap<&str, usize> =
        layers.iter().enumerate().map(|(place, layer)| (layer.name.as_str(), place)).collect();
    let done = AtomicUsize::new(0);
    let of_picture = |path: &&Path| -> Result<Vec<Option<Counts>>> {
        let mut program = model.compile(&target.with_whole_layers())?;
        let places: Vec<Option<usize>> =
            program.steps().iter().map(|step| places.get(step.name.as_str()).copied()).collect();
        let mut preprocessor = Preprocessor::new(model.preprocessing())?;
        let mut input = vec![0; preprocessor.input_len()];
        let image = decode(path)?;
        preprocessor.quantise(&ImageView::of(&image)?, &mut input)?;
        let mut counts = vec![None; layers.len()];
        program.run_observed(&Sequential, &input, |step, output| {
            // Of the types that steps give, only int8 has these bins.
            if let (Some(place), Ok(values)) = (places[step], output.slice::<i8>()) {
                counted(counts[place].get_or_insert([0; BINS]), values);
            }
        })?;
        progress("counting activations", done.fetch_add(1, Ordering::Relaxed) + 1, pictures.len());
        Ok(counts)
    };
    let all: Vec<_> = pictures
        .par_iter()
        .map(|path| of_picture(path).with_context(|| path.display().to_string()))
        .collect::<Result<_>>()?;
    drop(places);
    for counts in all {
        for (layer, counts) in layers.iter_mut().zip(counts) {
            let Some(counts) = counts else { continue };
            let sums = layer.outputs.get_or_insert([0; BINS]);
            sums.iter_mut().zip(counts).for_each(|(sum, more)| *sum += more);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_values_share_a_bin() {
        assert_eq!([-128, -125, -124, 0, 127].map(bin), [0, 0, 1, 32, 63]);
        let mut counts = [0; BINS];
        counted(&mut counts, &[-128, -128, 127, 5]);
        assert_eq!(at_the_ends(&counts), [0.5, 0.25]);
        assert_eq!(at_the_ends(&[0; BINS]), [0.0, 0.0]);
    }
}

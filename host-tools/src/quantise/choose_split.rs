//! Which channels of the first layer are split, and where.

use rayon::prelude::*;

use super::error::QuantiseError;
use super::observed::{InputImage, ObservedReference};
use super::split::{Split, affordable, in_parts, stem};
use super::statistics::Histogram;
use crate::graph::{FloatGraph, NodeId};

/// Steps of an int8 number.
const STEPS: f64 = 255.0;
/// Thresholds that are tried, in parts of the largest value.
const CANDIDATES: usize = 128;

/// Chooses what to split by what some images make of the first layer, for `share` more
/// multiplications at most, `0..`. `None` where nothing can be split or nothing is gained.
///
/// # Errors
/// Images that cannot be read, networks that cannot be run.
pub fn choose(
    float: &FloatGraph,
    reference: &ObservedReference,
    images: &[usize],
    load: &(dyn Fn(usize) -> Result<InputImage, QuantiseError> + Sync),
    share: f64,
) -> Result<Option<Split>, QuantiseError> {
    let Some((stem, _)) = stem(float) else { return Ok(None) };
    let most = affordable(float, stem, share);
    if most == 0 {
        return Ok(None);
    }
    if float.outputs.iter().any(|output| in_parts(float, stem)[output.node]) {
        return Ok(None);
    }
    // Where a pool follows, only what is largest in its windows is read.
    let parts = in_parts(float, stem);
    let observed = (0..float.nodes.len()).rev().find(|&id| parts[id]).unwrap_or(stem);
    let channels = float.nodes[observed].shape[0];
    let of_image = |&image: &usize| -> Result<Vec<Histogram>, QuantiseError> {
        let image = load(image)?;
        let values = reference.run(&image.float)?;
        let tensor = values.tensor(observed).unwrap_or_default();
        let mut histograms = vec![Histogram::default(); channels];
        let planes = tensor.chunks_exact((tensor.len() / channels).max(1));
        // What is not finite is refused when statistics are gathered.
        histograms.iter_mut().zip(planes).for_each(|(histogram, plane)| {
            histogram.add(plane);
        });
        Ok(histograms)
    };
    let merged = images.par_iter().map(of_image).try_reduce(
        || vec![Histogram::default(); channels],
        |mut all, more| {
            all.iter_mut().zip(more).for_each(|(all, more)| all.merge(more));
            Ok(all)
        },
    )?;
    Ok(best(stem, &merged, most))
}

/// The threshold and at most so many channels with the least squared error.
fn best(stem: NodeId, histograms: &[Histogram], most: usize) -> Option<Split> {
    let bins: Vec<Vec<(f64, u64)>> = histograms.iter().map(|histogram| histogram.bins().collect()).collect();
    let largest = histograms.iter().map(|h| f64::from(h.maximum())).fold(0.0, f64::max);
    if !(largest > 0.0 && largest.is_finite()) {
        return None;
    }
    // What is cut off of each channel at a value.
    let cut = |at: f64| -> Vec<f64> {
        let of = |bins: &Vec<(f64, u64)>| {
            bins.iter().map(|&(value, count)| count as f64 * (value - at).max(0.0).powi(2)).sum()
        };
        bins.iter().map(of).collect()
    };
    let counted: f64 = bins.iter().flatten().map(|&(_, count)| count as f64).sum();
    let try_at = |part: usize, most: usize| {
        let threshold = largest * part as f64 / CANDIDATES as f64;
        let (once, twice) = (cut(threshold), cut(2.0 * threshold));
        let mut order: Vec<usize> =
            (0..once.len()).filter(|&channel| once[channel] > twice[channel]).collect();
        order.sort_by(|&a, &b| (once[b] - twice[b]).total_cmp(&(once[a] - twice[a])).then(a.cmp(&b)));
        order.truncate(most);
        let saved: f64 = order.iter().map(|&channel| once[channel] - twice[channel]).sum();
        let rounding = counted * (threshold / STEPS).powi(2) / 12.0;
        order.sort_unstable();
        (rounding + once.iter().sum::<f64>() - saved, threshold, order)
    };
    let least = |most: usize| {
        let all = (CANDIDATES / 16..=CANDIDATES).map(|part| try_at(part, most));
        all.min_by(|a, b| a.0.total_cmp(&b.0))
    };
    let (error, threshold, channels) = least(most)?;
    let (plain, ..) = least(0)?;
    (error < plain && !channels.is_empty()).then_some(Split { stem, threshold, channels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_tail_is_split_and_what_is_even_is_not() {
        let histogram = |largest: f32| {
            let mut histogram = Histogram::default();
            assert!(histogram.add(&(1..1000).map(|n| n as f32 / 1000.0 * largest).collect::<Vec<_>>()));
            histogram
        };
        // One channel is twice as large as the others: its second part lets all steps be half as large.
        let histograms = [histogram(1.0), histogram(4.0), histogram(0.5), histogram(2.0)];
        let found = best(1, &histograms, 1).unwrap();
        assert_eq!(found.channels, [1]);
        assert!((1.9..2.1).contains(&found.threshold), "{found:?}");
        assert!(best(1, &histograms, 4).unwrap().channels.contains(&1));
        assert_eq!(best(1, &histograms, 0), None);
        assert_eq!(best(1, &[Histogram::default()], 1), None);
    }
}

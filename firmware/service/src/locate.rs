//! Boxes, masks, points and vectors of one image, on the command line.

use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use resight_base::console::print_line;
use resight_imaging::{ImageView, Photograph, read_photograph};
use resight_runtime::{Embedder, Found, Head, Locator, Model, Target, ThreadSettings};

/// Whether a model says where things are.
pub(crate) fn is_for(model: &Model) -> bool {
    model.head().says_where()
}

/// Whether a model says what a picture shows by a vector.
pub(crate) fn is_for_vectors(model: &Model) -> bool {
    matches!(model.head(), Head::Embedding(_))
}

/// A locator that has passed the model's self-test, and what it passed.
///
/// # Errors
/// A board that does not compute what the model file says.
pub(crate) fn tested(model: &Model, threads: Option<NonZeroUsize>) -> Result<(Locator, String)> {
    let target = Target::of_this_machine()?;
    let isa = target.isa;
    let mut locator = Locator::new(model, &target, ThreadSettings { threads, pin: false })?;
    locator.self_test(model)?;
    Ok((locator, format!("{}: {} golden vectors reproduced by {isa}", model.name(), model.golden().len())))
}

/// Prints the boxes of an image, the likeliest first, or the share that each class has of its mask, the
/// largest first.
///
/// # Errors
/// An image that cannot be read, a board that does not compute what the model file says.
pub(crate) fn print(model: &Model, image: &Path, threads: Option<NonZeroUsize>) -> Result<()> {
    let (mut locator, passed) = tested(model, threads)?;
    log::info!("{passed}");
    let Photograph { image: picture, treatment } = read_photograph(image)?;
    let treatment = treatment.to_string();
    if !treatment.is_empty() {
        log::info!("{}: {treatment}", image.display());
    }
    let name = |class: usize| model.labels().name(class).unwrap_or_default();
    let start = Instant::now();
    let found = locator.locate(&ImageView::of(&picture)?)?;
    log::info!("located in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    match found {
        Found::Boxes(boxes) => {
            for found in boxes {
                let percent = found.score * 100.0;
                print_line(format_args!("{percent:6.2} %  {}  {}", name(found.class), found.bounds))?;
            }
        }
        Found::Points(points) => {
            let things = points.chunk_by(|a, b| a.thing == b.thing);
            let several = things.clone().count() > 1;
            for (number, thing) in things.enumerate() {
                if several {
                    print_line(format_args!("thing {}:", number + 1))?;
                }
                for point in thing {
                    let (percent, [down, right]) = (point.score.clamp(0.0, 1.0) * 100.0, point.place);
                    print_line(format_args!(
                        "{percent:6.2} %  {}  at {right:.1}, {down:.1}",
                        name(point.class)
                    ))?;
                }
            }
        }
        Found::Mask { classes, .. } => {
            for (class, pixels) in shares(classes, model.labels().len()) {
                let percent = 100.0 * pixels as f64 / classes.len().max(1) as f64;
                print_line(format_args!("{percent:6.2} %  {} of the picture", name(class)))?;
            }
        }
    }
    Ok(())
}

/// Prints the vector of an image, its numbers on one line.
///
/// # Errors
/// An image that cannot be read, a board that does not compute what the model file says.
pub(crate) fn print_vector(model: &Model, image: &Path, threads: Option<NonZeroUsize>) -> Result<()> {
    let (mut embedder, passed) = tested_embedder(model, threads)?;
    log::info!("{passed}");
    let Photograph { image: picture, treatment } = read_photograph(image)?;
    let treatment = treatment.to_string();
    if !treatment.is_empty() {
        log::info!("{}: {treatment}", image.display());
    }
    let start = Instant::now();
    let vector = embedder.embed(&ImageView::of(&picture)?)?;
    log::info!("computed in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let numbers: Vec<String> = vector.iter().map(ToString::to_string).collect();
    print_line(format_args!("{}", numbers.join(" ")))?;
    Ok(())
}

/// As [`tested`], of a network that ends in a vector.
///
/// # Errors
/// As [`tested`].
pub(crate) fn tested_embedder(model: &Model, threads: Option<NonZeroUsize>) -> Result<(Embedder, String)> {
    let target = Target::of_this_machine()?;
    let isa = target.isa;
    let mut embedder = Embedder::new(model, &target, ThreadSettings { threads, pin: false })?;
    embedder.self_test(model)?;
    Ok((embedder, format!("{}: {} golden vectors reproduced by {isa}", model.name(), model.golden().len())))
}

/// How many pixels each class has that has any, the most first.
fn shares(mask: &[u8], classes: usize) -> Vec<(usize, usize)> {
    let pixels = |class: usize| mask.iter().filter(|&&found| usize::from(found) == class).count();
    let mut shares: Vec<(usize, usize)> = (0..classes).map(|class| (class, pixels(class))).collect();
    shares.retain(|(_, pixels)| *pixels > 0);
    shares.sort_by_key(|share| Reverse(share.1));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_most_pixels_is_first() {
        assert_eq!(shares(&[2, 0, 2, 2, 0, 4], 5), [(2, 3), (0, 2), (4, 1)]);
        assert_eq!(shares(&[], 5), []);
    }
}

//! Which images of a job can be read, before work that takes its time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use resight_imaging::{ImagingError, TreatmentCounts, read_photograph};

use crate::quantise::Progress;

/// Images that are named in a message that there are unreadable ones.
const NAMED: usize = 5;

/// The images of a job that can be decoded.
#[derive(Debug, Default)]
pub struct ReadableImages {
    /// Those, in the order in which they were given.
    pub files: Vec<PathBuf>,
    /// What was done to them.
    pub treatments: TreatmentCounts,
    /// Why the others cannot be.
    pub refused: Vec<ImagingError>,
}

impl ReadableImages {
    /// Decodes every image once, before work that takes its time.
    ///
    /// # Errors
    /// The first image that cannot be decoded, if the job is `strict`, or if none can.
    pub fn check(files: &[PathBuf], strict: bool, progress: Progress<'_>) -> Result<Self, ImagingError> {
        let done = AtomicUsize::new(0);
        progress("checking pictures", 0, files.len());
        let treatments: Vec<_> = files
            .par_iter()
            .map(|file| {
                let treatment = read_photograph(file).map(|photograph| photograph.treatment);
                progress("checking pictures", done.fetch_add(1, Ordering::Relaxed) + 1, files.len());
                treatment
            })
            .collect();
        let mut found = Self::default();
        for (file, treatment) in files.iter().zip(treatments) {
            match treatment {
                Ok(treatment) => {
                    found.treatments.add(&treatment);
                    found.files.push(file.clone());
                }
                Err(error) if strict => return Err(error),
                Err(error) => found.refused.push(error),
            }
        }
        match found.refused.pop() {
            Some(error) if found.files.is_empty() => Err(error),
            error => {
                found.refused.extend(error);
                Ok(found)
            }
        }
    }

    /// What there is to say: how many were passed over and which, and what was done to the others.
    pub fn sentences(&self) -> Vec<String> {
        let count = self.refused.len();
        let mut sentences = self.treatments.sentences();
        if count > 0 {
            let named: Vec<String> = self.refused.iter().take(NAMED).map(ToString::to_string).collect();
            let more = if count > NAMED { format!("; and {} more", count - NAMED) } else { String::new() };
            sentences.push(format!(
                "{count} of {} pictures passed over (--strict makes that an error): {}{more}",
                count + self.files.len(),
                named.join("; ")
            ));
        }
        sentences
    }
}

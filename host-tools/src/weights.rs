//! Weights of layers, of which very many need not be in memory all the time.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::{Deref, Range};
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

/// So many weights of a layer, 64 MiB, lie in a temporary file: only fully connected layers behind a flattened
/// image have them, and everything else fits into memory beside the reference.
const LEAST_STORED: usize = 1 << 24;

/// Weights of one layer, read as a slice.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    /// In memory, once for all copies; empty where they are stored.
    held: Arc<Vec<f32>>,
    stored: Option<Stored>,
}

/// Weights in a file that has no name and is never written to again.
#[derive(Debug, Clone)]
struct Stored {
    file: Arc<File>,
    map: Arc<Mmap>,
}

impl Weights {
    /// The weights for changing them, from now on in memory.
    pub fn to_mut(&mut self) -> &mut Vec<f32> {
        if let Some(stored) = self.stored.take() {
            self.held = Arc::new(stored.weights().to_vec());
        }
        Arc::make_mut(&mut self.held)
    }

    /// Whether they lie in a temporary file.
    pub fn are_stored(&self) -> bool {
        self.stored.is_some()
    }

    /// Moves very many weights into a temporary file, where there is room for one.
    pub fn store(&mut self) {
        if self.held.len() < LEAST_STORED {
            return;
        }
        match Stored::new(&self.held) {
            Ok(stored) => *self = Self { held: Arc::default(), stored: Some(stored) },
            Err(error) => log::debug!("{} weights stay in memory: {error}", self.held.len()),
        }
    }

    /// Some of the weights, which take memory only until they are dropped.
    ///
    /// # Panics
    /// Where the range ends behind the last weight.
    pub fn block(&self, range: Range<usize>) -> Block<'_> {
        if let Some(Stored { file, .. }) = &self.stored {
            assert!(
                range.start <= range.end && range.end <= self.len(),
                "{range:?} of {} weights",
                self.len()
            );
            let size = size_of::<f32>();
            if let Ok(map) = mapped(file, (range.start * size) as u64, range.len() * size) {
                return Block::Mapped(map);
            }
        }
        Block::Slice(&self[range])
    }
}

impl From<Vec<f32>> for Weights {
    fn from(held: Vec<f32>) -> Self {
        Self { held: Arc::new(held), stored: None }
    }
}

impl Deref for Weights {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.stored.as_ref().map_or(&self.held, Stored::weights)
    }
}

impl Stored {
    fn new(weights: &[f32]) -> io::Result<Self> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytemuck::cast_slice(weights))?;
        let map = mapped(&file, 0, size_of_val(weights))?;
        Ok(Self { file: Arc::new(file), map: Arc::new(map) })
    }

    fn weights(&self) -> &[f32] {
        // A map begins at a page.
        bytemuck::cast_slice(&self.map)
    }
}

/// Some weights of a layer.
pub enum Block<'a> {
    /// In memory.
    Slice(&'a [f32]),
    /// In a file.
    Mapped(Mmap),
}

impl Deref for Block<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Slice(weights) => weights,
            // memmap2 begins where it was told to, which is a whole number of weights.
            Self::Mapped(map) => bytemuck::cast_slice(map),
        }
    }
}

fn mapped(file: &File, offset: u64, bytes: usize) -> io::Result<Mmap> {
    let mut options = MmapOptions::new();
    // SAFETY: the file was made by `tempfile`, has no name that another program could open it by, and is not written
    // to after its first map.
    unsafe { options.offset(offset).len(bytes).map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many() -> Vec<f32> {
        (0..LEAST_STORED + 3).map(|at| at as f32).collect()
    }

    #[test]
    fn weights_in_a_file_are_the_same() {
        let mut weights = Weights::from(many());
        weights.store();
        assert!(weights.stored.is_some() && weights.held.is_empty());
        assert!(weights.iter().copied().eq(many()));
        for range in [0..5, 1023..1030, LEAST_STORED..LEAST_STORED + 3, 7..7] {
            let block = weights.block(range.clone());
            assert!(block.iter().copied().eq(range.clone().map(|at| at as f32)), "{range:?}");
        }
    }

    #[test]
    fn changed_weights_are_not_those_of_others() {
        let mut weights = Weights::from(many());
        weights.store();
        let others = weights.clone();
        weights.to_mut()[5] = -1.0;
        assert_eq!((weights[5], others[5]), (-1.0, 5.0));
    }

    #[test]
    fn few_weights_stay_in_memory() {
        let mut weights = Weights::from(vec![1.0, 2.0]);
        weights.store();
        assert!(weights.stored.is_none());
        assert_eq!(*weights.block(1..2), [2.0]);
    }
}

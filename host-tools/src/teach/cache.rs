//! Features that were computed before, so that a second run computes only what is new.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use resight_base::files::{FileError, write_atomically};
use resight_base::text::hex;
use resight_teach::{SIDE, Thumbnail};

/// What the file begins with.
const MAGIC: &[u8; 16] = b"resight teach 1\n";

/// sha256 of a file.
pub type Digest = [u8; 32];

/// What is known of a photograph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The features of each view, one after the other.
    pub features: Vec<i16>,
    /// For finding photographs that are nearly the same.
    pub thumbnail: Thumbnail,
    /// Width and height in pixels.
    pub size: [u32; 2],
}

/// Features by the digest of the photograph, for one backbone and one way to make views.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    key: Digest,
    /// Numbers of each photograph.
    len: usize,
    known: HashMap<Digest, Known>,
}

impl Cache {
    /// What is in `folder` for this key, whose photographs have so many features in all their views. A
    /// file that is missing or damaged is an empty cache.
    pub fn open(folder: &Path, key: Digest, len: usize) -> Self {
        let path = folder.join(format!("features-{}.bin", &hex(&key)[..16]));
        let known = fs::read(&path).ok().and_then(|bytes| parse(&bytes, &key, len)).unwrap_or_default();
        Self { path, key, len, known }
    }

    /// What is known of a photograph.
    pub fn get(&self, digest: &Digest) -> Option<&Known> {
        self.known.get(digest)
    }

    /// Remembers a photograph.
    pub fn insert(&mut self, digest: Digest, known: Known) {
        self.known.insert(digest, known);
    }

    /// Writes everything that is known.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self) -> Result<(), FileError> {
        let mut order: Vec<&Digest> = self.known.keys().collect();
        order.sort();
        write_atomically(&self.path, |file| {
            let mut file = std::io::BufWriter::new(file);
            file.write_all(MAGIC)?;
            file.write_all(&self.key)?;
            file.write_all(&(self.len as u64).to_le_bytes())?;
            for digest in order {
                let known = &self.known[digest];
                file.write_all(digest)?;
                file.write_all(&known.thumbnail)?;
                known.size.iter().try_for_each(|side| file.write_all(&side.to_le_bytes()))?;
                let bytes: Vec<u8> = known.features.iter().flat_map(|value| value.to_le_bytes()).collect();
                file.write_all(&bytes)?;
            }
            file.flush()
        })
    }
}

fn parse(bytes: &[u8], key: &Digest, len: usize) -> Option<HashMap<Digest, Known>> {
    let bytes = bytes.strip_prefix(MAGIC)?.strip_prefix(key)?;
    let bytes = bytes.strip_prefix(&(len as u64).to_le_bytes())?;
    let record = 32 + SIDE * SIDE + 8 + 2 * len;
    if bytes.len() % record != 0 {
        return None;
    }
    let mut known = HashMap::new();
    for record in bytes.chunks_exact(record) {
        let (digest, rest) = record.split_first_chunk::<32>()?;
        let (thumbnail, rest) = rest.split_first_chunk::<{ SIDE * SIDE }>()?;
        let (width, rest) = rest.split_first_chunk::<4>()?;
        let (height, rest) = rest.split_first_chunk::<4>()?;
        let (features, _) = rest.as_chunks::<2>();
        let features = features.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect();
        let size = [u32::from_le_bytes(*width), u32::from_le_bytes(*height)];
        known.insert(*digest, Known { features, thumbnail: *thumbnail, size });
    }
    Some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_there_for_the_same_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let known = Known { features: vec![-5, 300, 7], thumbnail: [9; SIDE * SIDE], size: [640, 480] };
        let mut cache = Cache::open(folder.path(), [1; 32], 3);
        cache.insert([7; 32], known.clone());
        cache.save().unwrap();
        assert_eq!(Cache::open(folder.path(), [1; 32], 3).get(&[7; 32]), Some(&known));
        assert_eq!(Cache::open(folder.path(), [2; 32], 3).get(&[7; 32]), None);
        assert_eq!(Cache::open(folder.path(), [1; 32], 4).get(&[7; 32]), None);
        // Cut off in the middle: begun anew.
        let bytes = fs::read(&cache.path).unwrap();
        fs::write(&cache.path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(Cache::open(folder.path(), [1; 32], 3).get(&[7; 32]), None);
    }
}

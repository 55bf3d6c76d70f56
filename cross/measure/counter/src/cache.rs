//! A model of data caches: true LRU, write-back, write-allocate, 64-byte lines, no prefetcher,
//! virtual addresses. What it says is traffic, not time.

/// log2 of the bytes of a line.
const LINE: u32 = 6;

struct Level {
    ways: usize,
    sets: u64,
    /// `[set][way]`: line + 1, or 0; most recently used first.
    lines: Vec<u64>,
    dirty: Vec<bool>,
}

/// Levels from the nearest to the farthest, and what crossed to memory.
pub(crate) struct Caches {
    levels: Vec<Level>,
    /// Lines read from memory and written to it.
    pub(crate) memory: u64,
    /// Lines that each level had to fetch.
    pub(crate) misses: [u64; 3],
}

impl Caches {
    /// From `(KiB, ways)` of each level.
    pub(crate) fn new(sizes: &[(u64, usize)]) -> Self {
        let level = |&(kib, ways): &(u64, usize)| {
            let sets = (kib << 10 >> LINE) / ways as u64;
            let lines = sets as usize * ways;
            Level { ways, sets, lines: vec![0; lines], dirty: vec![false; lines] }
        };
        Self { levels: sizes.iter().map(level).collect(), memory: 0, misses: [0; 3] }
    }

    /// Reads or writes `size` bytes.
    pub(crate) fn access(&mut self, address: u64, size: u64, write: bool) {
        let (first, last) = (address >> LINE, (address + size - 1) >> LINE);
        for line in first..=last {
            self.touch(0, line, write);
        }
    }

    fn touch(&mut self, index: usize, line: u64, write: bool) {
        let Some(level) = self.levels.get_mut(index) else {
            self.memory += 1;
            return;
        };
        let start = (line % level.sets) as usize * level.ways;
        let set = start..start + level.ways;
        let (lines, dirty) = (&mut level.lines[set.clone()], &mut level.dirty[set]);
        let found = lines.iter().position(|&held| held == line + 1);
        let way = found.unwrap_or(level.ways - 1);
        let evicted = (lines[way], dirty[way]);
        lines[..=way].rotate_right(1);
        dirty[..=way].rotate_right(1);
        if found.is_some() {
            dirty[0] |= write;
            return;
        }
        lines[0] = line + 1;
        dirty[0] = write;
        self.misses[index] += 1;
        if let (1.., true) = evicted {
            self.touch(index + 1, evicted.0 - 1, true);
        }
        self.touch(index + 1, line, false);
    }
}

#[cfg(test)]
mod tests {
    use super::Caches;

    #[test]
    fn a_working_set_that_fits_is_read_once() {
        let mut caches = Caches::new(&[(1, 2), (4, 4)]);
        for _ in 0..3 {
            (0..4096).step_by(16).for_each(|address| caches.access(address, 16, false));
        }
        assert_eq!(caches.memory, 64);
        assert_eq!(caches.misses[0], 3 * 64);
    }

    #[test]
    fn written_lines_come_back_to_memory_once() {
        let mut caches = Caches::new(&[(1, 2)]);
        (0..8192).step_by(8).for_each(|address| caches.access(address, 8, true));
        // 128 lines read to be written, and all but the 16 still held written back.
        assert_eq!(caches.memory, 128 + 112);
    }
}

/// Data caches of the CPU that a layer is packed for, in bytes.
///
/// They choose how a layer is cut into blocks, never what it computes: any sizes give the same
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSizes {
    /// First level, of one core.
    pub l1d: usize,
    /// Second level.
    pub l2: usize,
    /// Cores that share the second level, at least 1.
    pub l2_cores: usize,
    /// Third level, shared by all cores; 0 when there is none.
    pub l3: usize,
}

impl Default for CacheSizes {
    /// Small enough for the boards that this is made for.
    fn default() -> Self {
        Self { l1d: 32 << 10, l2: 512 << 10, l2_cores: 1, l3: 2 << 20 }
    }
}

impl CacheSizes {
    /// The second level that is left to each of so many threads. Where it is the last one, half of
    /// it is for what passes from layer to layer.
    pub(crate) fn l2_share(&self, threads: usize) -> usize {
        let own = if self.l3 > 0 { self.l2 } else { self.l2 / 2 };
        own / threads.clamp(1, self.l2_cores.max(1))
    }

    /// The most weights that stay in the last level from one block to the next, beside what
    /// else passes through it.
    #[cfg_attr(not(target_arch = "aarch64"), expect(dead_code, reason = "only NEON blocks by it"))]
    pub(crate) fn lasting_weights(&self) -> usize {
        if self.l3 > 0 { self.l3 / 4 } else { self.l2 / 2 }
    }
}

//! The format's version, names of members, and the largest model file.

/// The format that this program writes and reads.
pub const FORMAT_VERSION: u64 = 1;

/// What the manifest's `format` says.
pub(crate) const FORMAT_NAME: &str = "resight model";

/// The name of the network's graph.
pub const GRAPH: &str = "graph.nnef";

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const SIGNATURE: &str = "signature";
pub(crate) const LABELS: &str = "labels.txt";
pub(crate) const PREPROCESSING: &str = "preprocessing.json";
pub(crate) const PROVENANCE: &str = "provenance.json";
pub(crate) const REPORT: &str = "report.json";
pub(crate) const TASK: &str = "task.json";

pub(crate) const MAX_MEMBERS: usize = 4096;
pub(crate) const MAX_NAME: usize = 200;
pub(crate) const MAX_MEMBER_SIZE: u64 = 512 << 20;
pub(crate) const MAX_TOTAL_SIZE: u64 = 1 << 30;
pub(crate) const MAX_MANIFEST_SIZE: u64 = 4 << 20;
/// A file of the largest total has headers and padding besides.
pub(crate) const MAX_FILE_SIZE: u64 = MAX_TOTAL_SIZE + (MAX_MEMBERS as u64 + 2) * 4 * BLOCK as u64;

/// A tar archive consists of blocks of this size.
pub(crate) const BLOCK: usize = 512;

//! The model file: one tar archive that holds a network and everything about it.
//!
//! `NAME.resight.tar` begins with `manifest.json`, which names each other member with its
//! size and sha256, followed by the members in the order of their names:
//!
//! | member | content |
//! |---|---|
//! | `graph.nnef`, `*.dat` | the network, as tract-nnef writes it |
//! | `labels.txt` | see [`Labels`] |
//! | `preprocessing.json` | see [`Preprocessing`](resight_imaging::Preprocessing) |
//! | `provenance.json` | see [`Provenance`] |
//! | `report.json` | what quantisation found; any JSON |
//! | `golden/N.input.bin`, `golden/N.logits.bin` or `golden/N.output.M.bin` | see [`Golden`] |
//! | `task.json` | not in the file of a classifier by softmax; see [`Task`] |
//! | `signature` | optional, over the bytes of `manifest.json`; the only member that the manifest does not name |
//!
//! Identical members give identical files. Reading checks everything before anything is
//! handed out: what passes is whole and as it was written.

mod activation;
mod causes;
mod decoder;
mod digest;
mod error;
mod formats;
mod golden;
mod graph_text;
mod labels;
mod limits;
mod manifest;
mod preprocessing;
mod provenance;
mod reader;
mod signature;
mod tar;
mod task;
mod tensor;
mod writer;

pub use activation::{Activation, UnknownActivation};
pub use causes::{
    DamageCause, ForeignCause, KeyCause, ManifestCause, MemberCause, NameError, SignatureCause, TextCause,
    TruncationCause,
};
pub use decoder::{
    AnchorClip, AnchorLevel, AnchorShapes, Anchors, BoxDecoder, CenterNet, DecoderError, Fcos, FieldOrder,
    Fields, LengthUnit, MAX_BOXES, MAX_CANDIDATES, MAX_LINKED_POINTS, MAX_LINKS, MAX_THINGS, OutputNames,
    PointDecoder, Refinement, level_name,
};
pub use digest::sha256_of_file;
pub use error::ModelFileError;
pub use formats::FileFormat;
pub use golden::{Expected, Golden};
pub use labels::Labels;
pub use limits::{FORMAT_VERSION, GRAPH};
pub use manifest::{Manifest, MemberInfo};
pub use preprocessing::{preprocessing_from_json, preprocessing_to_json};
pub use provenance::{Calibration, Provenance};
pub use reader::Archive;
pub use signature::{PrivateKey, PublicKey, Signature, signature_path};
pub use task::{OutputMap, Task};
pub use writer::ArchiveBuilder;

//! Everything that can go wrong with a model file, its parts, a signature or a key.

use resight_base::files::FileError;
use resight_imaging::ImagingError;

use crate::causes::{DamageCause, ForeignCause, KeyCause, MemberCause, SignatureCause, TruncationCause};

/// An error of this crate. The message is one line and names the file, the cause and, where
/// there is one, the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// A file cannot be read or written, or its text is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no model file at all.
    #[error("{file} is not a resight model: {cause}; make one with `resight quantize`")]
    NotAModel {
        /// The file.
        file: String,
        /// What it is instead.
        cause: ForeignCause,
    },
    /// The model file was cut off.
    #[error("{file} is truncated: {cause}; copy it again from where it came")]
    Truncated {
        /// The file.
        file: String,
        /// What is missing.
        cause: TruncationCause,
    },
    /// The model file was altered or made by somebody who does not follow the format.
    #[error("{file} is damaged: {cause}; copy it again or make it anew with `resight quantize`")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: DamageCause,
    },
    /// One member of a model file is wrong.
    #[error("{file}: member {member}: {cause}")]
    Member {
        /// The file.
        file: String,
        /// The member's name.
        member: String,
        /// What is wrong with it.
        cause: MemberCause,
    },
    /// The model file is of a later format.
    #[error(
        "{file} has model format {version}, this program reads format {supported}: update resight here, \
         or make the model with a resight as old as this one"
    )]
    FutureFormat {
        /// The file.
        file: String,
        /// The version that its manifest gives.
        version: u64,
        /// The version that this program reads.
        supported: u64,
    },
    /// The file is not signed, or not by whom it must be.
    #[error("{file}: signature: {cause}")]
    Signature {
        /// The file.
        file: String,
        /// What is wrong with its signature.
        cause: SignatureCause,
    },
    /// A key file is wrong.
    #[error("{file}: key: {cause}")]
    Key {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: KeyCause,
    },
    /// The preprocessing is invalid.
    #[error(transparent)]
    Imaging(#[from] ImagingError),
}

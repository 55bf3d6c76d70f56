//! What can be wrong with a model file, its members, keys and signatures.

use resight_base::text::printable;

use crate::formats::FileFormat;
use crate::graph_text::GraphTextError;
use crate::limits::{
    MANIFEST, MAX_FILE_SIZE, MAX_MANIFEST_SIZE, MAX_MEMBER_SIZE, MAX_MEMBERS, MAX_NAME, MAX_TOTAL_SIZE,
};
use crate::tensor::TensorError;

/// What a signature's `algorithm` says.
pub(crate) const ALGORITHM: &str = "ed25519";

/// What is wrong with a key file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyCause {
    /// A folder, a pipe, or more than a key has.
    #[error("it is no regular file of up to 4 KiB")]
    File,
    /// Others may read a private key: the file, for the remedy.
    #[error("others may read it; `chmod 600 {0}`")]
    Readable(String),
    /// What follows the first word.
    #[error("not 64 lower-case hexadecimal digits")]
    Digits,
    /// No point of the curve, or one that anybody can sign for.
    #[error("these bytes are no ed25519 key")]
    Bytes,
    /// Where a public key belongs.
    #[error("it is a private key, which belongs on no board: use the file NAME.pub beside it")]
    Private,
    /// Where a private key belongs.
    #[error("it is a public key; signing takes the file NAME.key beside it")]
    Public,
    /// Neither of them, where a public key belongs.
    #[error("it is no public key; `resight keygen` makes one")]
    NoPublic,
    /// Neither of them, where a private key belongs.
    #[error("it is no private key; `resight keygen` makes one")]
    NoPrivate,
}

/// Why a signature vouches for nothing. Keys are named by their fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureCause {
    /// A model without one.
    #[error("it is not signed, and a signature by key {0} is demanded; `resight sign MODEL --key KEY`")]
    Unsigned(String),
    /// A program without one.
    #[error(
        "there is no {beside}, and a signature by key {key} is demanded; `resight sign PROGRAM --key KEY`"
    )]
    NoFile {
        /// Where it should be.
        beside: String,
        /// Whose it should be.
        key: String,
    },
    /// The file that should hold it.
    #[error(transparent)]
    File(#[from] KeyCause),
    /// No JSON, or other fields.
    #[error("{0}")]
    Json(String),
    /// Another algorithm.
    #[error("the algorithm is {0}, not {ALGORITHM}")]
    Algorithm(String),
    /// The same in other characters.
    #[error("it is not written as resight writes it")]
    Spelling,
    /// The key that it names.
    #[error("its public key is no ed25519 key")]
    Key,
    /// The signature itself.
    #[error("it is not 128 lower-case hexadecimal digits")]
    Digits,
    /// It is over something else.
    #[error("key {0} did not sign this content")]
    OtherContent(String),
    /// It is somebody else's.
    #[error("key {signer} signed it, not key {demanded}")]
    OtherKey {
        /// Who signed.
        signer: String,
        /// Who should have.
        demanded: String,
    },
}

/// What a file is that is no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignCause {
    /// A folder.
    #[error("it is a folder")]
    Folder,
    /// A pipe, a socket or a device.
    #[error("it is not a regular file")]
    NotRegular,
    /// Larger than any model; its bytes.
    #[error("it has {} MiB, a model at most {}", .0 >> 20, MAX_FILE_SIZE >> 20)]
    Size(u64),
    /// Another known format.
    #[error("it is {0}")]
    Format(FileFormat),
    /// Nothing.
    #[error("the file is empty")]
    Empty,
    /// A network in ONNX's format.
    #[error("it is an ONNX file")]
    Onnx,
    /// Anything else that is no archive.
    #[error("it is not a tar archive")]
    NoTar,
    /// Another archive.
    #[error("it is a tar archive without {MANIFEST}")]
    NoManifest,
    /// A manifest of another kind of file.
    #[error("its {MANIFEST} is of a {}", printable(.0))]
    Other(String),
}

/// Where a model file was cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TruncationCause {
    /// Within a member.
    #[error("it ends after {bytes} bytes, within member {}", printable(.member))]
    Member {
        /// How many there are.
        bytes: usize,
        /// The member's name.
        member: String,
    },
    /// Before the two blocks that end it.
    #[error("it ends after {bytes} bytes, before its end mark")]
    BeforeEnd {
        /// How many there are.
        bytes: usize,
    },
    /// Within these.
    #[error("it ends after {bytes} bytes, within its end mark")]
    End {
        /// How many there are.
        bytes: usize,
    },
}

/// What is wrong with a model file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageCause {
    /// A header of the archive was altered.
    #[error("the member header at byte {0} has a wrong checksum")]
    Checksum(usize),
    /// A name in a header is not UTF-8: what of it can be shown.
    #[error("the name of member {0} is not UTF-8")]
    Name(String),
    /// More members than any model has.
    #[error("it has more than {MAX_MEMBERS} members")]
    Members,
    /// A long name without a member.
    #[error("it ends with a name without a member")]
    NameAlone,
    /// Bytes behind its end.
    #[error("something follows its end mark")]
    Behind,
    /// The manifest is elsewhere.
    #[error("{MANIFEST} is not the first member")]
    ManifestPlace,
    /// The manifest is larger than any.
    #[error("{MANIFEST} is over {} MiB", MAX_MANIFEST_SIZE >> 20)]
    ManifestSize,
    /// The manifest itself.
    #[error("{MANIFEST}: {0}")]
    Manifest(#[from] ManifestCause),
    /// A member that the manifest names is not there.
    #[error("member {} of the manifest is missing", printable(.0))]
    Missing(String),
    /// A member has another size than the manifest says.
    #[error("member {} has {found} bytes, the manifest says {expected}", printable(.member))]
    Size {
        /// The member's name.
        member: String,
        /// How many bytes it has.
        found: usize,
        /// How many it should have.
        expected: u64,
    },
    /// A member has another content than the manifest says.
    #[error("the sha256 of member {} is not that of the manifest", printable(.0))]
    Digest(String),
    /// A member that the manifest does not name.
    #[error("member {} is not in the manifest", printable(.0))]
    Surplus(String),
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestCause {
    /// No JSON, or other fields.
    #[error("{}", printable(.0))]
    Json(String),
    /// A format that there never was.
    #[error("there is no model format {0}")]
    Version(u64),
    /// A text that a message could not show: which one, and why.
    #[error("the {what} {cause}")]
    Text {
        /// `tool` or `name`.
        what: &'static str,
        /// Why not.
        cause: TextCause,
    },
    /// More members than any model has.
    #[error("more than {MAX_MEMBERS} members")]
    Members,
    /// What it says of one member.
    #[error("{}", printable(&format!("member {}: {cause}", printable(.member))))]
    Member {
        /// The member's name.
        member: String,
        /// What is wrong.
        cause: MemberCause,
    },
    /// All members together are larger than any model.
    #[error("the members are over {} MiB together", MAX_TOTAL_SIZE >> 20)]
    TotalSize,
    /// A member is named twice.
    #[error("{}", printable(&format!("member {} occurs twice", printable(.0))))]
    Twice(String),
    /// Members are not in the order of their names.
    #[error("{}", printable(&format!("member {} stands after {}, out of order", printable(.member), printable(.before))))]
    Order {
        /// The member's name.
        member: String,
        /// That of the one before it.
        before: String,
    },
    /// It was altered.
    #[error("its own sha256 is wrong")]
    Digest,
    /// The same in other characters.
    #[error("it is not written as resight writes it")]
    Spelling,
}

/// Why a text cannot be shown in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextCause {
    /// Nothing, or too much.
    #[error("is empty or too long")]
    Length,
    /// Control characters.
    #[error("has control characters")]
    Control,
}

/// Why a member cannot have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing.
    #[error("an empty name")]
    Empty,
    /// Too much.
    #[error("a name of over {MAX_NAME} bytes")]
    Long,
    /// It begins at the root.
    #[error("an absolute name")]
    Absolute,
    /// What separates folders on other systems.
    #[error("a name with a backslash")]
    Backslash,
    /// Control characters.
    #[error("a name with control characters")]
    Control,
    /// It may lead out of a folder, or have several spellings.
    #[error("a name with `..`, `.` or empty parts")]
    Parts,
}

/// What is wrong with one member of a model file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberCause {
    /// It is not there.
    #[error("missing")]
    Missing,
    /// No JSON, or other fields.
    #[error("{}", printable(.0))]
    Json(String),
    /// Its name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name that belongs to the manifest or the signature.
    #[error("a manifest cannot name this one")]
    Reserved,
    /// It is larger than any member of a model.
    #[error("over {} MiB", MAX_MEMBER_SIZE >> 20)]
    Size,
    /// Its digest in the manifest.
    #[error("the sha256 is not 64 lower-case hexadecimal digits")]
    Digits,
    /// Its header's size.
    #[error("its header has no valid size")]
    HeaderSize,
    /// Bytes between its end and the next header.
    #[error("something is hidden behind its end")]
    Hidden,
    /// A long name that is not UTF-8.
    #[error("its name is not UTF-8")]
    NameText,
    /// No file: what it is.
    #[error("it is {0}, not a regular file")]
    NotRegular(&'static str),
    /// There are two of this name.
    #[error("it occurs twice")]
    Twice,
    /// It is there already, in a file that is being written.
    #[error("added twice")]
    AddedTwice,
    /// Something else in the network that is to be written.
    #[error("neither a graph nor a tensor")]
    NoPart,
    /// A network in a folder of its own.
    #[error("a network within the network")]
    InnerNetwork,
    /// The text of the graph.
    #[error("{}", printable(&.0.to_string()))]
    Graph(#[from] GraphTextError),
    /// A tensor of the graph.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A part of a golden vector that is none.
    #[error("belongs to no golden vector")]
    NoGolden,
    /// Bytes that make no numbers.
    #[error("not a whole number of f32")]
    Floats,
}

//! What can be wrong with keys and signatures.

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

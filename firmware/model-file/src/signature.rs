//! ed25519 signatures of model files and programs, and the keys that make and check them.
//!
//! A model's signature is over the bytes of `manifest.json`, which names the sha256 of every
//! other member, so it vouches for the whole file. It travels in the member `signature`, see
//! [`Signature`]. A program's lies beside it, in `NAME.sig`, and is over the line
//! `program SHA256`: no manifest, which is JSON, so that neither can stand for the other. That of
//! a whole release lies in `SHA256SUMS.sig` and is over the line `release SHA256` of its list of
//! sums, which names every other file.
//!
//! The algorithm is that of RFC 8032; verification is the strict one, which accepts neither weak
//! keys nor a second encoding of the same signature.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use resight_base::files::{FileError, write_atomically};
use resight_base::text::{hex, printable};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::causes::{ALGORITHM, KeyCause, SignatureCause};
use crate::digest::{sha256_hex, sha256_of_file};
use crate::error::ModelFileError;
use crate::reader::Archive;
use crate::writer::ArchiveBuilder;

/// Bytes of a private key, a public key and half a signature.
const KEY_BYTES: usize = 32;

/// Largest key file, in bytes.
const MAX_KEY_FILE: u64 = 4096;

/// First word of the files.
const PRIVATE: &str = "resight-private-key-ed25519";
const PUBLIC: &str = "resight-public-key-ed25519";

/// Who may sign: the half of a key pair that boards have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a key file that `resight keygen` wrote.
    ///
    /// # Errors
    /// A file that cannot be read or is no public key.
    pub fn read(path: &Path) -> Result<Self, ModelFileError> {
        Self::from_text(&path.display().to_string(), &read_key_file(path)?)
    }

    /// Parses the content of a key file; `file` is for messages.
    ///
    /// # Errors
    /// Text that is no public key, or a key that anybody can sign for.
    pub fn from_text(file: &str, text: &str) -> Result<Self, ModelFileError> {
        let refuse = |cause| key_error(file, cause);
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [PUBLIC, digits] => {
                let bytes = from_hex(digits).ok_or_else(|| refuse(KeyCause::Digits))?;
                Self::from_bytes(bytes).ok_or_else(|| refuse(KeyCause::Bytes))
            }
            [PRIVATE, ..] => Err(refuse(KeyCause::Private)),
            _ => Err(refuse(KeyCause::NoPublic)),
        }
    }

    fn from_bytes(bytes: [u8; KEY_BYTES]) -> Option<Self> {
        VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak()).map(Self)
    }

    /// The content of a key file.
    pub fn to_text(&self) -> String {
        format!("{PUBLIC} {}\n", hex(self.0.as_bytes()))
    }

    /// The first half of the key's sha256, 32 hexadecimal digits: enough to tell keys apart.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes())[..16])
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 2 * KEY_BYTES]) -> bool {
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }

    /// Checks that this key signed the program `path`, by the file [`signature_path`] beside it.
    ///
    /// # Errors
    /// A file that cannot be read, no signature, one that is damaged or was made for another
    /// content, or by another key.
    pub fn check_program(&self, path: &Path) -> Result<(), ModelFileError> {
        let refuse = |cause| ModelFileError::Signature { file: path.display().to_string(), cause };
        let message = program_message(path)?;
        let beside = signature_path(path);
        let unsigned = || {
            refuse(SignatureCause::NoFile { beside: beside.display().to_string(), key: self.fingerprint() })
        };
        let json = match read_key_file(&beside) {
            Ok(json) => json,
            Err(ModelFileError::File(FileError::System { cause, .. }))
                if cause.kind() == io::ErrorKind::NotFound =>
            {
                return Err(unsigned());
            }
            Err(ModelFileError::Key { cause, .. }) => return Err(refuse(cause.into())),
            Err(error) => return Err(error),
        };
        let checked =
            Signature::from_json(json.as_bytes()).and_then(|signature| signature.check(&message, self));
        checked.map_err(refuse)
    }
}

impl PublicKey {
    /// Checks that this key signed the list of a release's sums, by the content of its signature
    /// file.
    ///
    /// # Errors
    /// The reason, without the file.
    pub fn check_release(&self, sums: &[u8], signature: &[u8]) -> Result<(), SignatureCause> {
        Signature::from_json(signature).and_then(|signature| signature.check(&release_message(sums), self))
    }
}

/// What is signed of a release.
fn release_message(sums: &[u8]) -> Vec<u8> {
    format!("release {}\n", sha256_hex(sums)).into_bytes()
}

/// Where the signature of the program `path` is: `NAME.sig` beside it.
pub fn signature_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// What is signed of a program.
fn program_message(path: &Path) -> Result<Vec<u8>, ModelFileError> {
    // Before opening: a named pipe would block for ever. A symbolic link is what it leads to, for
    // whoever signs.
    if !fs::metadata(path).map_err(|error| FileError::system(path, "read", error))?.is_file() {
        let cause = "it is not a regular file".to_owned();
        return Err(FileError::Content { file: path.display().to_string(), cause }.into());
    }
    Ok(format!("program {}\n", sha256_of_file(path)?).into_bytes())
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", self.fingerprint())
    }
}

/// What signs. It stays on the workstation; its memory is wiped when it is dropped.
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// The key that grows from `seed`: 32 bytes of the operating system's entropy.
    pub fn from_seed(seed: [u8; KEY_BYTES]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Reads a key file that `resight keygen` wrote.
    ///
    /// # Errors
    /// A file that cannot be read, that others may read, or that is no private key.
    pub fn read(path: &Path) -> Result<Self, ModelFileError> {
        let file = path.display().to_string();
        let key = Self::from_text(&file, &read_key_file(path)?)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let metadata = fs::metadata(path).map_err(|error| FileError::system(path, "read", error))?;
            if metadata.permissions().mode() & 0o077 != 0 {
                return Err(key_error(&file, KeyCause::Readable(file.clone())));
            }
        }
        Ok(key)
    }

    /// Parses the content of a key file; `file` is for messages.
    ///
    /// # Errors
    /// Text that is no private key.
    pub fn from_text(file: &str, text: &str) -> Result<Self, ModelFileError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [PRIVATE, digits] => {
                from_hex(digits).map(Self::from_seed).ok_or_else(|| key_error(file, KeyCause::Digits))
            }
            [PUBLIC, ..] => Err(key_error(file, KeyCause::Public)),
            _ => Err(key_error(file, KeyCause::NoPrivate)),
        }
    }

    /// The content of a key file. Whoever reads it can sign.
    pub fn to_text(&self) -> String {
        format!("{PRIVATE} {}\n", hex(self.0.as_bytes()))
    }

    /// The other half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The signature over `message`: always the same for the same message.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature {
            algorithm: ALGORITHM.to_owned(),
            public_key: hex(self.0.verifying_key().as_bytes()),
            signature: hex(&self.0.sign(message).to_bytes()),
        }
    }

    /// `archive` with this key's signature in the place of any other.
    pub fn sign_model(&self, archive: &Archive) -> ArchiveBuilder {
        let mut builder = ArchiveBuilder::from(archive);
        builder.set_signature(self.sign(archive.manifest_bytes()).to_json());
        builder
    }

    /// The content of the signature file of a release, whose list of sums this is.
    pub fn sign_release(&self, sums: &[u8]) -> Vec<u8> {
        self.sign(&release_message(sums)).to_json()
    }

    /// Writes this key's signature of the program `path` to [`signature_path`], which it gives,
    /// in the place of any other.
    ///
    /// # Errors
    /// A program that cannot be read, a signature that cannot be written.
    pub fn sign_program(&self, path: &Path) -> Result<PathBuf, ModelFileError> {
        let json = self.sign(&program_message(path)?).to_json();
        let beside = signature_path(path);
        write_atomically(&beside, |file| file.write_all(&json))?;
        Ok(beside)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PrivateKey(of {})", self.public().fingerprint())
    }
}

/// A detached signature: the member `signature` of a model file, or the file `NAME.sig` beside a
/// program, as JSON.
///
/// It names the key that made it, so that a message can say whose it is. Only a key from
/// elsewhere makes it worth anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Always `ed25519`.
    pub algorithm: String,
    /// The public key, 64 lower-case hexadecimal digits.
    pub public_key: String,
    /// The signature of RFC 8032, 128 lower-case hexadecimal digits.
    pub signature: String,
}

impl Signature {
    /// Parses what [`to_json`](Self::to_json) writes, and nothing else.
    ///
    /// # Errors
    /// The reason, without the file.
    pub fn from_json(json: &[u8]) -> Result<Self, SignatureCause> {
        let signature: Self = serde_json::from_slice(json)
            .map_err(|error| SignatureCause::Json(printable(&error.to_string())))?;
        if signature.algorithm != ALGORITHM {
            return Err(SignatureCause::Algorithm(printable(&signature.algorithm)));
        }
        if signature.to_json() != json {
            return Err(SignatureCause::Spelling);
        }
        Ok(signature)
    }

    /// The content of a signature file or member.
    #[expect(clippy::missing_panics_doc, reason = "strings always serialise")]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("strings only");
        json.push(b'\n');
        json
    }

    /// The key that made it, if it is a signature over `message` at all.
    ///
    /// # Errors
    /// The reason, without the file: digits that are no key or signature, or another message.
    pub fn signer(&self, message: &[u8]) -> Result<PublicKey, SignatureCause> {
        let key = from_hex(&self.public_key).and_then(PublicKey::from_bytes);
        let key = key.ok_or(SignatureCause::Key)?;
        let signature = from_hex(&self.signature).ok_or(SignatureCause::Digits)?;
        if !key.verifies(message, &signature) {
            return Err(SignatureCause::OtherContent(key.fingerprint()));
        }
        Ok(key)
    }

    /// Checks that `key` made it over `message`.
    ///
    /// # Errors
    /// The reason, without the file: another key, or see [`signer`](Self::signer).
    pub fn check(&self, message: &[u8], key: &PublicKey) -> Result<(), SignatureCause> {
        let signer = self.signer(message)?;
        if signer != *key {
            return Err(SignatureCause::OtherKey {
                signer: signer.fingerprint(),
                demanded: key.fingerprint(),
            });
        }
        Ok(())
    }
}

impl Archive {
    /// The key that signed it, if it is signed. Anybody can sign: compare it with a key from
    /// elsewhere, or use [`check_signature`](Self::check_signature).
    ///
    /// # Errors
    /// A signature that is damaged or was made for another file.
    pub fn signer(&self) -> Result<Option<PublicKey>, ModelFileError> {
        let signer = self.signature().map(|json| {
            Signature::from_json(json).and_then(|signature| signature.signer(self.manifest_bytes()))
        });
        signer.transpose().map_err(|cause| self.signature_error(cause))
    }

    /// Checks that `key` signed it.
    ///
    /// # Errors
    /// No signature, one that is damaged or was made for another file, or by another key.
    pub fn check_signature(&self, key: &PublicKey) -> Result<(), ModelFileError> {
        let unsigned = || self.signature_error(SignatureCause::Unsigned(key.fingerprint()));
        let json = self.signature().ok_or_else(unsigned)?;
        let checked =
            Signature::from_json(json).and_then(|signature| signature.check(self.manifest_bytes(), key));
        checked.map_err(|cause| self.signature_error(cause))
    }

    fn signature_error(&self, cause: SignatureCause) -> ModelFileError {
        ModelFileError::Signature { file: self.file().to_owned(), cause }
    }
}

fn key_error(file: &str, cause: KeyCause) -> ModelFileError {
    ModelFileError::Key { file: file.to_owned(), cause }
}

fn read_key_file(path: &Path) -> Result<String, ModelFileError> {
    let cannot_read = |error| FileError::system(path, "read", error);
    let metadata = fs::metadata(path).map_err(cannot_read)?;
    if !metadata.is_file() || metadata.len() > MAX_KEY_FILE {
        return Err(key_error(&path.display().to_string(), KeyCause::File));
    }
    Ok(fs::read_to_string(path).map_err(cannot_read)?)
}

/// Exactly `N` bytes from lower-case hexadecimal digits.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().map(digit).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)).collect();
    (digits.len() == 2 * N).then(|| bytes.try_into().ok()).flatten()
}

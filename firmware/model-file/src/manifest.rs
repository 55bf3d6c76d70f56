//! What a model file contains: the member `manifest.json`.

use resight_base::text::printable;
use serde::{Deserialize, Serialize};

use crate::causes::{ForeignCause, ManifestCause, MemberCause, NameError, TextCause};
use crate::digest::sha256_hex;
use crate::error::ModelFileError;
use crate::limits::{
    FORMAT_NAME, FORMAT_VERSION, MANIFEST, MAX_MEMBER_SIZE, MAX_MEMBERS, MAX_NAME, MAX_TOTAL_SIZE, SIGNATURE,
};

/// What a model file contains: the member `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always `resight model`.
    pub format: String,
    /// The format's version, [`FORMAT_VERSION`].
    pub version: u64,
    /// The program that wrote the file, with its version.
    pub tool: String,
    /// The network's name.
    pub name: String,
    /// Every member but the manifest and the signature, in the order of their names.
    pub members: Vec<MemberInfo>,
    /// sha256 of this manifest with this field empty, so that an altered name is noticed too.
    pub sha256: String,
}

/// One member in a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberInfo {
    /// The member's name: relative, with `/` between its parts.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its sha256, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    /// Parses and checks a manifest; `file` is the model file, for the message.
    ///
    /// # Errors
    /// Bytes that are no manifest, a later format, a member name that is unsafe or occurs
    /// twice, too many or too large members.
    pub fn from_json(file: &str, json: &[u8]) -> Result<Self, ModelFileError> {
        /// Enough of any version to tell which it is.
        #[derive(Deserialize)]
        struct Version {
            format: String,
            version: u64,
        }
        let wrong =
            |cause: ManifestCause| ModelFileError::Damaged { file: file.to_string(), cause: cause.into() };
        let no_json = |error: serde_json::Error| wrong(ManifestCause::Json(error.to_string()));
        let version: Version = serde_json::from_slice(json).map_err(no_json)?;
        if version.format != FORMAT_NAME {
            return Err(ModelFileError::NotAModel {
                file: file.to_string(),
                cause: ForeignCause::Other(version.format),
            });
        }
        if version.version > FORMAT_VERSION {
            return Err(ModelFileError::FutureFormat {
                file: file.to_string(),
                version: version.version,
                supported: FORMAT_VERSION,
            });
        }
        if version.version != FORMAT_VERSION {
            return Err(wrong(ManifestCause::Version(version.version)));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(no_json)?;
        for (what, text) in [("tool", &manifest.tool), ("name", &manifest.name)] {
            check_text(text).map_err(|cause| wrong(ManifestCause::Text { what, cause }))?;
        }
        if manifest.members.len() > MAX_MEMBERS {
            return Err(wrong(ManifestCause::Members));
        }
        let mut total = 0u64;
        for member in &manifest.members {
            let wrong = |cause| wrong(ManifestCause::Member { member: member.name.clone(), cause });
            check_name(&member.name).map_err(|cause| wrong(cause.into()))?;
            if [MANIFEST, SIGNATURE].contains(&member.name.as_str()) {
                return Err(wrong(MemberCause::Reserved));
            }
            if member.size > MAX_MEMBER_SIZE {
                return Err(wrong(MemberCause::Size));
            }
            if member.sha256.len() != 64
                || !member.sha256.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            {
                return Err(wrong(MemberCause::Digits));
            }
            total += member.size;
        }
        if total > MAX_TOTAL_SIZE {
            return Err(wrong(ManifestCause::TotalSize));
        }
        if let Some(pair) = manifest.members.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            let (before, member) = (pair[0].name.clone(), pair[1].name.clone());
            return Err(wrong(if printable(&before) == printable(&member) {
                ManifestCause::Twice(member)
            } else {
                ManifestCause::Order { member, before }
            }));
        }
        if manifest.sha256 != manifest.digest() {
            return Err(wrong(ManifestCause::Digest));
        }
        if manifest.to_json() != json {
            return Err(wrong(ManifestCause::Spelling));
        }
        Ok(manifest)
    }

    /// What [`sha256`](Self::sha256) must be.
    pub fn digest(&self) -> String {
        sha256_hex(&Manifest { sha256: String::new(), ..self.clone() }.to_json())
    }

    /// The content of `manifest.json`.
    #[expect(clippy::missing_panics_doc, reason = "strings and numbers always serialise")]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("strings and numbers only");
        json.push(b'\n');
        json
    }
}

/// Refuses text that a one-line message could not show.
fn check_text(text: &str) -> Result<(), TextCause> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(TextCause::Length);
    }
    if text.chars().any(char::is_control) {
        return Err(TextCause::Control);
    }
    Ok(())
}

/// Refuses a name that could mean another place, or two names that mean the same one.
pub(crate) fn check_name(name: &str) -> Result<(), NameError> {
    let refuse = |is_so: bool, error| if is_so { Err(error) } else { Ok(()) };
    refuse(name.is_empty(), NameError::Empty)?;
    refuse(name.len() > MAX_NAME, NameError::Long)?;
    refuse(name.starts_with('/'), NameError::Absolute)?;
    refuse(name.contains('\\'), NameError::Backslash)?;
    refuse(name.chars().any(char::is_control), NameError::Control)?;
    refuse(name.split('/').any(|part| matches!(part, "" | "." | "..")), NameError::Parts)
}

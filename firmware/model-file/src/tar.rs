//! Tar archives of regular files.

use std::collections::BTreeMap;
use std::ops::Range;

use ::tar::{EntryType, Header};
use resight_base::text::printable;

use crate::error::ModelFileError;
use crate::limits::{BLOCK, MAX_MEMBER_SIZE, MAX_MEMBERS, MAX_NAME};
use crate::manifest::check_name;

/// Where a member lies in the bytes of a tar archive.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Headers, content and padding.
    pub(crate) whole: Range<usize>,
    pub(crate) content: Range<usize>,
}

/// Indexes the members of a tar archive that holds nothing but regular files, by name.
pub(crate) fn parse_tar(file: &str, bytes: &[u8]) -> Result<BTreeMap<String, Entry>, ModelFileError> {
    let truncated = |cause: String| ModelFileError::Truncated { file: file.to_string(), cause };
    let damaged = |cause: String| ModelFileError::Damaged { file: file.to_string(), cause };
    let mut members = BTreeMap::new();
    let mut long_name: Option<(String, usize)> = None;
    let mut position = 0;
    loop {
        let start = position;
        let Some(header) = header_at(file, bytes, start)? else { break };
        position += BLOCK;
        let name = match &long_name {
            Some((name, _)) => name.clone(),
            None => header_name(header).map_err(|cause| damaged(cause.to_string()))?,
        };
        let wrong = |cause: &str| ModelFileError::Member {
            file: file.to_string(),
            member: printable(&name),
            cause: cause.to_string(),
        };
        let kind = header.entry_type();
        let size = header.entry_size().map_err(|_| wrong("its header has no valid size"))?;
        if size > MAX_MEMBER_SIZE {
            return Err(wrong(&format!("over {} MiB", MAX_MEMBER_SIZE >> 20)));
        }
        let content = position..position + size as usize;
        position += (size as usize).next_multiple_of(BLOCK);
        if bytes.len() < position {
            return Err(truncated(format!(
                "it ends after {} bytes, within member {}",
                bytes.len(),
                printable(&name)
            )));
        }
        if bytes[content.end..position].iter().any(|byte| *byte != 0) {
            return Err(wrong("something is hidden behind its end"));
        }
        if kind == EntryType::GNULongName && long_name.is_none() {
            let name = &bytes[content];
            let name = name.strip_suffix(b"\0").unwrap_or(name);
            if name.len() > MAX_NAME {
                return Err(wrong(&format!("a name of over {MAX_NAME} bytes")));
            }
            let name = str::from_utf8(name).map_err(|_| wrong("its name is not UTF-8"))?;
            long_name = Some((name.to_string(), start));
            continue;
        }
        if !matches!(kind, EntryType::Regular) {
            return Err(wrong(&format!("it is {}, not a regular file", describe(kind))));
        }
        let start = long_name.take().map_or(start, |(_, start)| start);
        // tract writes `./` before a name that began with a slash, and drops it when reading.
        let name = name.strip_prefix("./").unwrap_or(&name);
        check_name(name).map_err(|cause| wrong(&cause.to_string()))?;
        // Manifest and signature are not in the manifest.
        if members.len() == MAX_MEMBERS + 2 {
            return Err(damaged(format!("it has more than {MAX_MEMBERS} members")));
        }
        if members.contains_key(name) {
            return Err(wrong("it occurs twice"));
        }
        members.insert(name.to_string(), Entry { whole: start..position, content });
    }
    if long_name.is_some() {
        return Err(damaged("it ends with a name without a member".to_string()));
    }
    if bytes.len() < position + 2 * BLOCK {
        return Err(truncated(format!("it ends after {} bytes, within its end mark", bytes.len())));
    }
    if bytes[position..].iter().any(|byte| *byte != 0) {
        return Err(damaged("something follows its end mark".to_string()));
    }
    Ok(members)
}

/// The header of the member that begins at `start`; none at the end mark.
fn header_at<'a>(file: &str, bytes: &'a [u8], start: usize) -> Result<Option<&'a Header>, ModelFileError> {
    let Some(block) = bytes.get(start..start + BLOCK) else {
        return Err(ModelFileError::Truncated {
            file: file.to_string(),
            cause: format!("it ends after {} bytes, before its end mark", bytes.len()),
        });
    };
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let header = Header::from_byte_slice(block);
    let checksum: u32 = block.iter().map(|byte| u32::from(*byte)).sum::<u32>()
        - header.as_old().cksum.iter().map(|byte| u32::from(*byte)).sum::<u32>()
        + 8 * u32::from(b' ');
    if header.cksum().ok() != Some(checksum) {
        return Err(ModelFileError::Damaged {
            file: file.to_string(),
            cause: format!("the member header at byte {start} has a wrong checksum"),
        });
    }
    Ok(Some(header))
}

/// The name in a header itself.
fn header_name(header: &Header) -> Result<String, NameNotText> {
    let name = header.path_bytes();
    let refuse = |_| NameNotText { found: printable(&String::from_utf8_lossy(&name)) };
    str::from_utf8(&name).map(str::to_string).map_err(refuse)
}

/// The name of a member is not UTF-8.
#[derive(Debug, thiserror::Error)]
#[error("the name of member {found} is not UTF-8")]
struct NameNotText {
    /// What of it can be shown.
    found: String,
}

fn describe(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Directory => "a folder",
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        EntryType::GNUSparse => "a sparse file",
        EntryType::XHeader | EntryType::XGlobalHeader => "a pax extension",
        _ => "an entry of an unknown kind",
    }
}

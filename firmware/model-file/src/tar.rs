//! Tar archives of regular files.

use std::collections::BTreeMap;
use std::ops::Range;

use ::tar::{EntryType, Header};
use resight_base::text::printable;

use crate::causes::{DamageCause, MemberCause, NameError, TruncationCause};
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
    let truncated = |cause| ModelFileError::Truncated { file: file.to_string(), cause };
    let damaged = |cause| ModelFileError::Damaged { file: file.to_string(), cause };
    let mut members = BTreeMap::new();
    let mut long_name: Option<(String, usize)> = None;
    let mut position = 0;
    loop {
        let start = position;
        let Some(header) = header_at(file, bytes, start)? else { break };
        position += BLOCK;
        let name = match &long_name {
            Some((name, _)) => name.clone(),
            None => header_name(header).map_err(damaged)?,
        };
        let wrong =
            |cause| ModelFileError::Member { file: file.to_string(), member: printable(&name), cause };
        let kind = header.entry_type();
        let size = header.entry_size().map_err(|_| wrong(MemberCause::HeaderSize))?;
        if size > MAX_MEMBER_SIZE {
            return Err(wrong(MemberCause::Size));
        }
        let content = position..position + size as usize;
        position += (size as usize).next_multiple_of(BLOCK);
        if bytes.len() < position {
            return Err(truncated(TruncationCause::Member { bytes: bytes.len(), member: name }));
        }
        if bytes[content.end..position].iter().any(|byte| *byte != 0) {
            return Err(wrong(MemberCause::Hidden));
        }
        if kind == EntryType::GNULongName && long_name.is_none() {
            let name = &bytes[content];
            let name = name.strip_suffix(b"\0").unwrap_or(name);
            if name.len() > MAX_NAME {
                return Err(wrong(NameError::Long.into()));
            }
            let name = str::from_utf8(name).map_err(|_| wrong(MemberCause::NameText))?;
            long_name = Some((name.to_string(), start));
            continue;
        }
        if !matches!(kind, EntryType::Regular) {
            return Err(wrong(MemberCause::NotRegular(describe(kind))));
        }
        let start = long_name.take().map_or(start, |(_, start)| start);
        // tract writes `./` before a name that began with a slash, and drops it when reading.
        let name = name.strip_prefix("./").unwrap_or(&name);
        check_name(name).map_err(|cause| wrong(cause.into()))?;
        // Manifest and signature are not in the manifest.
        if members.len() == MAX_MEMBERS + 2 {
            return Err(damaged(DamageCause::Members));
        }
        if members.contains_key(name) {
            return Err(wrong(MemberCause::Twice));
        }
        members.insert(name.to_string(), Entry { whole: start..position, content });
    }
    if long_name.is_some() {
        return Err(damaged(DamageCause::NameAlone));
    }
    if bytes.len() < position + 2 * BLOCK {
        return Err(truncated(TruncationCause::End { bytes: bytes.len() }));
    }
    if bytes[position..].iter().any(|byte| *byte != 0) {
        return Err(damaged(DamageCause::Behind));
    }
    Ok(members)
}

/// The header of the member that begins at `start`; none at the end mark.
fn header_at<'a>(file: &str, bytes: &'a [u8], start: usize) -> Result<Option<&'a Header>, ModelFileError> {
    let Some(block) = bytes.get(start..start + BLOCK) else {
        return Err(ModelFileError::Truncated {
            file: file.to_string(),
            cause: TruncationCause::BeforeEnd { bytes: bytes.len() },
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
        return Err(ModelFileError::Damaged { file: file.to_string(), cause: DamageCause::Checksum(start) });
    }
    Ok(Some(header))
}

/// The name in a header itself.
fn header_name(header: &Header) -> Result<String, DamageCause> {
    let name = header.path_bytes();
    let refuse = |_| DamageCause::Name(printable(&String::from_utf8_lossy(&name)));
    str::from_utf8(&name).map(str::to_string).map_err(refuse)
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

//! The model file: one tar archive that holds a network and everything about it.
//!
//! `NAME.resight.tar` begins with `manifest.json`, which names each other member with its
//! size and sha256, followed by the members in the order of their names:
//!
//! | member | content |
//! |---|---|
//! | `graph.nnef`, `*.dat` | the network, as tract-nnef writes it |
//! | `labels.txt` | see [`Labels`] |
//! | `preprocessing.json` | see [`Preprocessing`] |
//! | `provenance.json` | see [`Provenance`] |
//! | `report.json` | what quantisation found; any JSON |
//! | `golden/N.input.bin`, `golden/N.logits.bin` | see [`Golden`] |
//! | `signature` | optional, over the bytes of `manifest.json`; the only member that the manifest does not name |
//!
//! Identical members give identical files. Reading checks everything before anything is
//! handed out: what passes is whole and as it was written.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::error::{NetworkError, printable};
use crate::graph_text::check_graph;
use crate::labels::Labels;
use crate::preprocessing::Preprocessing;

/// The format that this program writes and reads.
pub const FORMAT_VERSION: u64 = 1;

/// The name of the network's graph.
pub const GRAPH: &str = "graph.nnef";

const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "signature";
const LABELS: &str = "labels.txt";
const PREPROCESSING: &str = "preprocessing.json";
const PROVENANCE: &str = "provenance.json";
const REPORT: &str = "report.json";

/// What the manifest's `format` says.
const FORMAT_NAME: &str = "resight model";

const MAX_MEMBERS: usize = 4096;
const MAX_NAME: usize = 200;
const MAX_MEMBER_SIZE: u64 = 512 << 20;
const MAX_TOTAL_SIZE: u64 = 1 << 30;
const MAX_MANIFEST_SIZE: u64 = 4 << 20;
/// A file of the largest total has headers and padding besides.
const MAX_FILE_SIZE: u64 = MAX_TOTAL_SIZE + (MAX_MEMBERS as u64 + 2) * 4 * BLOCK as u64;

/// A tar archive consists of blocks of this size.
const BLOCK: usize = 512;

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
    pub fn from_json(file: &str, json: &[u8]) -> Result<Self, NetworkError> {
        /// Enough of any version to tell which it is.
        #[derive(Deserialize)]
        struct Version {
            format: String,
            version: u64,
        }
        let wrong = |cause: String| NetworkError::Damaged {
            file: file.to_string(),
            cause: format!("{MANIFEST}: {}", printable(&cause)),
        };
        let version: Version = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
        if version.format != FORMAT_NAME {
            return Err(NetworkError::NotAModel {
                file: file.to_string(),
                cause: format!("its {MANIFEST} is of a {}", printable(&version.format)),
            });
        }
        if version.version > FORMAT_VERSION {
            return Err(NetworkError::FutureFormat {
                file: file.to_string(),
                version: version.version,
                supported: FORMAT_VERSION,
            });
        }
        if version.version != FORMAT_VERSION {
            return Err(wrong(format!("there is no model format {}", version.version)));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
        for (what, text) in [("tool", &manifest.tool), ("name", &manifest.name)] {
            check_text(text).map_err(|cause| wrong(format!("the {what} {cause}")))?;
        }
        if manifest.members.len() > MAX_MEMBERS {
            return Err(wrong(format!("more than {MAX_MEMBERS} members")));
        }
        let mut total = 0u64;
        for member in &manifest.members {
            let wrong = |cause: &str| wrong(format!("member {}: {cause}", printable(&member.name)));
            check_name(&member.name).map_err(|cause| wrong(&cause))?;
            if [MANIFEST, SIGNATURE].contains(&member.name.as_str()) {
                return Err(wrong("a manifest cannot name this one"));
            }
            if member.size > MAX_MEMBER_SIZE {
                return Err(wrong(&format!("over {} MiB", MAX_MEMBER_SIZE >> 20)));
            }
            if member.sha256.len() != 64
                || !member.sha256.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            {
                return Err(wrong("the sha256 is not 64 lower-case hexadecimal digits"));
            }
            total += member.size;
        }
        if total > MAX_TOTAL_SIZE {
            return Err(wrong(format!("the members are over {} MiB together", MAX_TOTAL_SIZE >> 20)));
        }
        if let Some(pair) = manifest.members.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            let (name, next) = (printable(&pair[0].name), printable(&pair[1].name));
            return Err(wrong(if name == next {
                format!("member {name} occurs twice")
            } else {
                format!("member {next} stands after {name}, out of order")
            }));
        }
        if manifest.sha256 != manifest.digest() {
            return Err(wrong("its own sha256 is wrong".to_string()));
        }
        if manifest.to_json() != json {
            return Err(wrong("it is not written as resight writes it".to_string()));
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

/// Where a network came from: the member `provenance.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the source file, without its folder.
    pub source: String,
    /// sha256 of the source file, see [`sha256_of_file`].
    pub source_sha256: String,
    /// What the activations' ranges were found with; none for a network that came quantised.
    pub calibration: Option<Calibration>,
    /// The program that made the network, with its version.
    pub tool: String,
}

/// The calibration of a network, part of its [`Provenance`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Number of images.
    pub images: usize,
    /// Digest of the images, see [`sha256_of_image_files`].
    pub sha256: String,
    /// Name of the method that chose the ranges.
    pub method: String,
}

/// An input and the output that the network must have for it, bit for bit, on any machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// The int8 input, `[height, width, channels]`.
    pub input: Vec<i8>,
    /// The logits.
    pub logits: Vec<f32>,
}

/// A model file in memory, checked. It keeps the file's bytes and hands out slices of them.
#[derive(Clone)]
pub struct Archive {
    file: String,
    bytes: Vec<u8>,
    manifest: Manifest,
    members: BTreeMap<String, Entry>,
}

/// Where a member lies in the bytes of a tar archive.
#[derive(Debug, Clone)]
struct Entry {
    /// Headers, content and padding.
    whole: Range<usize>,
    content: Range<usize>,
}

impl fmt::Debug for Archive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the megabytes.
        formatter
            .debug_struct("Archive")
            .field("file", &self.file)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

impl Archive {
    /// Reads and checks a model file.
    ///
    /// # Errors
    /// A file that cannot be read, is not a model, is truncated, damaged or of a later format.
    pub fn read(path: &Path) -> Result<Self, NetworkError> {
        let cannot_read = |error| NetworkError::file(path, "read", error);
        let file = path.display().to_string();
        let not_a_model = |cause: String| NetworkError::NotAModel { file: file.clone(), cause };
        // Before opening: a named pipe would block for ever.
        let metadata = fs::metadata(path).map_err(cannot_read)?;
        if metadata.is_dir() {
            return Err(not_a_model("it is a folder".to_string()));
        }
        if !metadata.is_file() {
            return Err(not_a_model("it is not a regular file".to_string()));
        }
        if metadata.len() > MAX_FILE_SIZE {
            return Err(not_a_model(format!(
                "it has {} MiB, a model at most {}",
                metadata.len() >> 20,
                MAX_FILE_SIZE >> 20
            )));
        }
        let mut bytes = Vec::new();
        // One byte more, so that reading to the end does not double the buffer.
        bytes
            .try_reserve_exact(metadata.len() as usize + 1)
            .map_err(|error| cannot_read(io::Error::new(io::ErrorKind::OutOfMemory, error)))?;
        fs::File::open(path)
            .and_then(|opened| opened.take(MAX_FILE_SIZE).read_to_end(&mut bytes))
            .map_err(cannot_read)?;
        Self::from_bytes(&file, bytes)
    }

    /// Checks the bytes of a model file; `file` is for messages.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn from_bytes(file: &str, bytes: impl Into<Vec<u8>>) -> Result<Self, NetworkError> {
        let bytes = bytes.into();
        if let Some(cause) = foreign(&bytes) {
            return Err(NetworkError::NotAModel { file: file.to_string(), cause });
        }
        let mut members = parse_tar(file, &bytes)?;
        let damaged = |cause: String| NetworkError::Damaged { file: file.to_string(), cause };

        let Some(entry) = members.remove(MANIFEST) else {
            return Err(NetworkError::NotAModel {
                file: file.to_string(),
                cause: format!("it is a tar archive without {MANIFEST}"),
            });
        };
        if entry.whole.start != 0 {
            return Err(damaged(format!("{MANIFEST} is not the first member")));
        }
        if entry.content.len() as u64 > MAX_MANIFEST_SIZE {
            return Err(damaged(format!("{MANIFEST} is over {} MiB", MAX_MANIFEST_SIZE >> 20)));
        }
        let manifest = Manifest::from_json(file, &bytes[entry.content.clone()])?;

        for info in &manifest.members {
            let name = printable(&info.name);
            let Some(entry) = members.get(&info.name) else {
                return Err(damaged(format!("member {name} of the manifest is missing")));
            };
            if entry.content.len() as u64 != info.size {
                return Err(damaged(format!(
                    "member {name} has {} bytes, the manifest says {}",
                    entry.content.len(),
                    info.size
                )));
            }
            if sha256_hex(&bytes[entry.content.clone()]) != info.sha256 {
                return Err(damaged(format!("the sha256 of member {name} is not that of the manifest")));
            }
        }
        // Every name of the manifest was found, so a surplus shows in the numbers.
        if members.len() > manifest.members.len() {
            let listed =
                |name: &str| manifest.members.binary_search_by(|info| info.name.as_str().cmp(name)).is_ok();
            if let Some(name) = members.keys().find(|name| *name != SIGNATURE && !listed(name)) {
                return Err(damaged(format!("member {} is not in the manifest", printable(name))));
            }
        }
        members.insert(MANIFEST.to_string(), entry);
        let archive = Archive { file: file.to_string(), bytes, manifest, members };
        archive.check_network()?;
        Ok(archive)
    }

    /// Checks what tract would trust: the text of the graph and the headers of tensors.
    fn check_network(&self) -> Result<(), NetworkError> {
        for (name, entry) in &self.members {
            if name != GRAPH && name.ends_with(&format!("/{GRAPH}")) {
                return Err(self.wrong(name, "a network within the network"));
            }
            if name == GRAPH {
                check_graph(&self.bytes[entry.content.clone()]).map_err(|cause| self.wrong(name, cause))?;
            }
            if is_tensor(name) {
                check_tensor(&self.bytes[entry.content.clone()]).map_err(|cause| self.wrong(name, cause))?;
            }
        }
        Ok(())
    }

    /// The file that it was read from.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes of `manifest.json`: what a signature is over.
    pub fn manifest_bytes(&self) -> &[u8] {
        self.get(MANIFEST).unwrap_or_default()
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Names and contents of all members, in the order of their names.
    pub fn members(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.members.iter().map(|(name, entry)| (name.as_str(), &self.bytes[entry.content.clone()]))
    }

    /// The content of a member, if there is one of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.members.get(name).map(|entry| &self.bytes[entry.content.clone()])
    }

    /// The content of a member.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn member(&self, name: &str) -> Result<&[u8], NetworkError> {
        self.get(name).ok_or_else(|| self.wrong(name, "missing"))
    }

    /// The signature, unchecked.
    pub fn signature(&self) -> Option<&[u8]> {
        self.get(SIGNATURE)
    }

    /// This archive as if it had never been signed, well or badly.
    #[must_use]
    pub fn without_signature(mut self) -> Self {
        self.members.remove(SIGNATURE);
        self
    }

    /// The labels.
    ///
    /// # Errors
    /// There are none, or they cannot be parsed.
    pub fn labels(&self) -> Result<Labels, NetworkError> {
        Labels::parse(&self.name_of(LABELS), self.member(LABELS)?)
    }

    /// The preprocessing.
    ///
    /// # Errors
    /// There is none, or it is invalid.
    pub fn preprocessing(&self) -> Result<Preprocessing, NetworkError> {
        Preprocessing::from_json(&self.name_of(PREPROCESSING), self.member(PREPROCESSING)?)
    }

    /// The provenance.
    ///
    /// # Errors
    /// There is none, or it is invalid.
    pub fn provenance(&self) -> Result<Provenance, NetworkError> {
        self.json(PROVENANCE)
    }

    /// The quantisation report, as the type that wrote it (or `serde_json::Value`).
    ///
    /// # Errors
    /// There is none, or it is of another structure.
    pub fn report<T: for<'a> Deserialize<'a>>(&self) -> Result<T, NetworkError> {
        self.json(REPORT)
    }

    /// The golden vectors, in the order in which they were added.
    ///
    /// # Errors
    /// A vector of which one half is missing, logits that are not whole numbers of f32, or a
    /// member of `golden/` of another name.
    pub fn goldens(&self) -> Result<Vec<Golden>, NetworkError> {
        let mut goldens = Vec::new();
        while let Some(input) = self.get(&golden_input(goldens.len())) {
            let name = golden_logits(goldens.len());
            let logits = self.member(&name)?;
            if logits.len() % 4 != 0 {
                return Err(self.wrong(&name, "not a whole number of f32"));
            }
            goldens.push(Golden {
                input: input.iter().map(|byte| byte.cast_signed()).collect(),
                logits: logits
                    .chunks_exact(4)
                    .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                    .collect(),
            });
        }
        let surplus = self.members.keys().filter(|name| name.starts_with("golden/")).find(|name| {
            !(0..goldens.len()).any(|index| **name == golden_input(index) || **name == golden_logits(index))
        });
        match surplus {
            Some(name) => Err(self.wrong(name, "belongs to no golden vector")),
            None => Ok(goldens),
        }
    }

    /// The network alone as a tar archive, for tract-nnef, read from this archive's bytes
    /// without a copy.
    ///
    /// # Errors
    /// There is no graph.
    pub fn network(&self) -> Result<impl Read + '_, NetworkError> {
        /// Two blocks of zeros end an archive.
        const END: &[u8] = &[0; 2 * BLOCK];
        self.member(GRAPH)?;
        let entries = self.members.iter().filter(|(name, _)| *name == GRAPH || is_tensor(name));
        let parts = entries.map(|(_, entry)| &self.bytes[entry.whole.clone()]).chain([END]);
        Ok(Parts { parts: parts.collect() })
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, NetworkError> {
        serde_json::from_slice(self.member(name)?).map_err(|error| self.wrong(name, error.to_string()))
    }

    fn name_of(&self, member: &str) -> String {
        format!("{}: {member}", self.file)
    }

    fn wrong(&self, member: &str, cause: impl AsRef<str>) -> NetworkError {
        NetworkError::Member {
            file: self.file.clone(),
            member: printable(member),
            cause: printable(cause.as_ref()),
        }
    }
}

fn golden_input(index: usize) -> String {
    format!("golden/{index}.input.bin")
}

fn golden_logits(index: usize) -> String {
    format!("golden/{index}.logits.bin")
}

fn is_tensor(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "dat")
}

/// Slices, read one after the other.
struct Parts<'a> {
    parts: VecDeque<&'a [u8]>,
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.front_mut() {
            if part.is_empty() {
                self.parts.pop_front();
            } else {
                return part.read(buffer);
            }
        }
        Ok(0)
    }
}

/// What `bytes` are when they are clearly not a tar archive.
fn foreign(bytes: &[u8]) -> Option<String> {
    match FileFormat::of(bytes) {
        Some(FileFormat::Tar) => None,
        Some(format) => Some(format!("it is {format}")),
        None if bytes.is_empty() => Some("the file is empty".to_string()),
        None if looks_like_onnx(bytes) => Some("it is an ONNX file".to_string()),
        None => Some("it is not a tar archive".to_string()),
    }
}

/// A format that files have which are given to us by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// What our model files are, among others.
    Tar,
    /// What PyTorch saves, among others.
    Zip,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// HDF5, which Keras saves.
    Hdf5,
    /// A page of the web, of a login perhaps.
    Html,
    /// What Git puts in the place of a large file that it has not fetched.
    GitLfsPointer,
}

impl FileFormat {
    /// Recognises it by its first bytes (300 are enough).
    pub fn of(bytes: &[u8]) -> Option<Self> {
        const MAGIC_OFFSET: usize = 257;
        if bytes.get(MAGIC_OFFSET..MAGIC_OFFSET + 5) == Some(b"ustar") {
            return Some(Self::Tar);
        }
        let known: [(&[u8], Self); 9] = [
            (b"PK\x03\x04", Self::Zip),
            (b"\x1f\x8b", Self::Gzip),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"\x89PNG", Self::Png),
            (b"\xff\xd8\xff", Self::Jpeg),
            (b"\x89HDF", Self::Hdf5),
            (b"<!doctype html", Self::Html),
            (b"<html", Self::Html),
            (b"version https://git-lfs", Self::GitLfsPointer),
        ];
        let begins = |magic: &[u8]| bytes.get(..magic.len()).is_some_and(|b| b.eq_ignore_ascii_case(magic));
        known.into_iter().find(|(magic, _)| begins(magic)).map(|(_, format)| format)
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "a tar archive",
            Self::Zip => "a zip archive",
            Self::Gzip => "compressed with gzip",
            Self::Zstd => "compressed with zstd",
            Self::Png => "a PNG image",
            Self::Jpeg => "a JPEG image",
            Self::Hdf5 => "an HDF5 file",
            Self::Html => "a web page",
            Self::GitLfsPointer => "a pointer of Git LFS to a file that was not fetched",
        })
    }
}

/// Whether the bytes begin as the ONNX files of all known exporters: field 1, the version of
/// the representation, a small number, then another field of a model.
fn looks_like_onnx(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..])
}

/// Indexes the members of a tar archive that holds nothing but regular files, by name.
fn parse_tar(file: &str, bytes: &[u8]) -> Result<BTreeMap<String, Entry>, NetworkError> {
    let truncated = |cause: String| NetworkError::Truncated { file: file.to_string(), cause };
    let damaged = |cause: String| NetworkError::Damaged { file: file.to_string(), cause };
    let mut members = BTreeMap::new();
    let mut long_name: Option<(String, usize)> = None;
    let mut position = 0;
    loop {
        let Some(block) = bytes.get(position..position + BLOCK) else {
            return Err(truncated(format!("it ends after {} bytes, before its end mark", bytes.len())));
        };
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let header = Header::from_byte_slice(block);
        let start = position;
        position += BLOCK;
        let checksum: u32 = block.iter().map(|byte| u32::from(*byte)).sum::<u32>()
            - header.as_old().cksum.iter().map(|byte| u32::from(*byte)).sum::<u32>()
            + 8 * u32::from(b' ');
        if header.cksum().ok() != Some(checksum) {
            return Err(damaged(format!("the member header at byte {start} has a wrong checksum")));
        }
        let name = match &long_name {
            Some((name, _)) => name.clone(),
            None => header_name(header).map_err(&damaged)?,
        };
        let wrong = |cause: &str| NetworkError::Member {
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
        check_name(name).map_err(|cause| wrong(&cause))?;
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

/// The name in a header itself.
fn header_name(header: &Header) -> Result<String, String> {
    let name = header.path_bytes();
    str::from_utf8(&name).map(str::to_string).map_err(|_| {
        format!("the name of member {} is not UTF-8", printable(&String::from_utf8_lossy(&name)))
    })
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

/// Refuses a name that could mean another place, or two names that mean the same one.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("an empty name".to_string());
    }
    if name.len() > MAX_NAME {
        return Err(format!("a name of over {MAX_NAME} bytes"));
    }
    if name.starts_with('/') {
        return Err("an absolute name".to_string());
    }
    if name.contains('\\') {
        return Err("a name with a backslash".to_string());
    }
    if name.chars().any(char::is_control) {
        return Err("a name with control characters".to_string());
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("a name with `..`, `.` or empty parts".to_string());
    }
    Ok(())
}

/// Refuses text that a one-line message could not show.
fn check_text(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err("is empty or too long");
    }
    if text.chars().any(char::is_control) {
        return Err("has control characters");
    }
    Ok(())
}

/// Checks the 128-byte header of an NNEF tensor against the number of bytes that follow.
///
/// Only plain numbers of whole bytes are accepted: an int8 network has no others, and a
/// reader that believes the header of anything else reserves whatever memory it asks for.
fn check_tensor(bytes: &[u8]) -> Result<(), String> {
    const HEADER: usize = 128;
    const MAX_RANK: usize = 8;
    /// Float, unsigned, quantised unsigned, quantised signed, signed.
    const NUMBERS: std::ops::RangeInclusive<u16> = 0..=4;
    const BOOL: u16 = 5;
    let Some((header, data)) = bytes.split_at_checked(HEADER) else {
        return Err("a tensor shorter than its header".to_string());
    };
    let word = |index: usize| {
        u32::from_le_bytes([header[index], header[index + 1], header[index + 2], header[index + 3]])
    };
    let half = |index: usize| u16::from_le_bytes([header[index], header[index + 1]]);
    if header[..4] != [0x4e, 0xef, 1, 0] {
        return Err("not an NNEF 1.0 tensor".to_string());
    }
    let (stated, rank, bits) = (word(4), word(8) as usize, word(44));
    let (kind, vendor) = (half(48), half(50));
    if rank > MAX_RANK {
        return Err(format!("a tensor of {rank} dimensions"));
    }
    let plain = match kind {
        BOOL => bits == 8,
        0 => matches!(bits, 16 | 32 | 64),
        kind => NUMBERS.contains(&kind) && matches!(bits, 8 | 16 | 32 | 64),
    };
    if vendor != 0 || !plain {
        return Err(format!("a tensor of a type that no int8 network has ({vendor}, {kind}, {bits} bits)"));
    }
    let size =
        (0..rank).try_fold(u64::from(bits / 8), |size, axis| size.checked_mul(word(12 + 4 * axis).into()));
    if size != Some(data.len() as u64) || u64::from(stated) != data.len() as u64 {
        return Err(format!("a tensor whose header does not fit its {} bytes of data", data.len()));
    }
    Ok(())
}

/// Collects the members of a model file and writes it.
#[derive(Debug, Clone, Default)]
pub struct ArchiveBuilder {
    name: String,
    tool: String,
    members: BTreeMap<String, Vec<u8>>,
    signature: Option<Vec<u8>>,
}

/// Everything of an archive but its signature.
impl From<&Archive> for ArchiveBuilder {
    fn from(archive: &Archive) -> Self {
        let mut builder = Self::new(archive.name(), archive.manifest.tool.as_str());
        let own = |name: &str| ![MANIFEST, SIGNATURE].contains(&name);
        let members = archive.members().filter(|(name, _)| own(name));
        builder.members = members.map(|(name, content)| (name.to_owned(), content.to_vec())).collect();
        builder
    }
}

impl ArchiveBuilder {
    /// A model called `name`, written by `tool` (a program with its version).
    pub fn new(name: impl Into<String>, tool: impl Into<String>) -> Self {
        ArchiveBuilder { name: name.into(), tool: tool.into(), ..ArchiveBuilder::default() }
    }

    /// Adds a member. [`to_bytes`](Self::to_bytes) checks name and content.
    ///
    /// # Errors
    /// A name that is there already.
    pub fn add(&mut self, name: &str, content: impl Into<Vec<u8>>) -> Result<(), NetworkError> {
        if self.members.contains_key(name) {
            return Err(NetworkError::Member {
                file: self.name.clone(),
                member: printable(name),
                cause: "added twice".to_string(),
            });
        }
        self.members.insert(name.to_string(), content.into());
        Ok(())
    }

    /// Adds the network from the tar archive that tract-nnef writes.
    ///
    /// # Errors
    /// An archive that holds anything but one graph and its tensors.
    pub fn add_network(&mut self, tar: &[u8]) -> Result<(), NetworkError> {
        for (name, entry) in parse_tar(&self.name, tar)? {
            let content = &tar[entry.content];
            // What is written must be readable.
            let checked = match name.as_str() {
                GRAPH => check_graph(content),
                _ if is_tensor(&name) => check_tensor(content),
                _ => Err("neither a graph nor a tensor".to_string()),
            };
            checked.map_err(|cause| NetworkError::Member {
                file: self.name.clone(),
                member: printable(&name),
                cause,
            })?;
            self.add(&name, content)?;
        }
        Ok(())
    }

    /// Adds the labels.
    ///
    /// # Errors
    /// There are labels already.
    pub fn add_labels(&mut self, labels: &Labels) -> Result<(), NetworkError> {
        self.add(LABELS, labels.to_text())
    }

    /// Adds the preprocessing.
    ///
    /// # Errors
    /// It is invalid, or there is one already.
    pub fn add_preprocessing(&mut self, preprocessing: &Preprocessing) -> Result<(), NetworkError> {
        preprocessing.validate()?;
        self.add(PREPROCESSING, preprocessing.to_json())
    }

    /// Adds the provenance.
    ///
    /// # Errors
    /// There is one already.
    pub fn add_provenance(&mut self, provenance: &Provenance) -> Result<(), NetworkError> {
        self.add_json(PROVENANCE, provenance)
    }

    /// Adds the quantisation report.
    ///
    /// # Errors
    /// There is one already, or it cannot be written as JSON.
    pub fn add_report(&mut self, report: &impl Serialize) -> Result<(), NetworkError> {
        self.add_json(REPORT, report)
    }

    /// Adds one more golden vector.
    ///
    /// # Errors
    /// A member of its name is there already.
    pub fn add_golden(&mut self, golden: &Golden) -> Result<(), NetworkError> {
        let present = |name: &&String| name.starts_with("golden/") && name.ends_with(".input.bin");
        let index = self.members.keys().filter(present).count();
        let input: Vec<u8> = golden.input.iter().map(|value| value.cast_unsigned()).collect();
        let logits: Vec<u8> = golden.logits.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.add(&golden_input(index), input)?;
        self.add(&golden_logits(index), logits)
    }

    /// Sets the signature over the bytes of `manifest.json`.
    pub fn set_signature(&mut self, signature: impl Into<Vec<u8>>) {
        self.signature = Some(signature.into());
    }

    fn add_json(&mut self, name: &str, content: &impl Serialize) -> Result<(), NetworkError> {
        let mut json = serde_json::to_vec_pretty(content).map_err(|error| NetworkError::Member {
            file: self.name.clone(),
            member: name.to_string(),
            cause: printable(&error.to_string()),
        })?;
        json.push(b'\n');
        self.add(name, json)
    }

    /// The manifest of the members so far.
    ///
    /// # Errors
    /// A name or a size that a model file cannot have.
    pub fn manifest(&self) -> Result<Manifest, NetworkError> {
        let members = self.members.iter().map(|(name, content)| MemberInfo {
            name: name.clone(),
            size: content.len() as u64,
            sha256: sha256_hex(content),
        });
        let mut manifest = Manifest {
            format: FORMAT_NAME.to_string(),
            version: FORMAT_VERSION,
            tool: self.tool.clone(),
            name: self.name.clone(),
            members: members.collect(),
            sha256: String::new(),
        };
        manifest.sha256 = manifest.digest();
        // What is written must be readable.
        Manifest::from_json(&self.name, &manifest.to_json())
    }

    /// The bytes of the model file.
    ///
    /// # Errors
    /// A name or a size that a model file cannot have.
    pub fn to_bytes(&self) -> Result<Vec<u8>, NetworkError> {
        let mut bytes = Vec::new();
        let manifest = self.manifest()?;
        self.write_to(&manifest, &mut bytes)
            .map_err(|error| NetworkError::file(Path::new(&self.name), "build", error))?;
        Ok(bytes)
    }

    /// Writes the model file, see [`write_atomically`].
    ///
    /// # Errors
    /// A name or a size that a model file cannot have, or a file that cannot be written; then
    /// nothing is left behind, and a file that was there is untouched.
    pub fn write(&self, path: &Path) -> Result<(), NetworkError> {
        let manifest = self.manifest()?;
        write_atomically(path, |file| self.write_to(&manifest, file))
    }

    fn write_to(&self, manifest: &Manifest, output: &mut dyn Write) -> io::Result<()> {
        let manifest = manifest.to_json();
        let mut builder = tar::Builder::new(output);
        let signature = self.signature.as_deref().map(|signature| (SIGNATURE, signature));
        let members = self.members.iter().map(|(name, content)| (name.as_str(), content.as_slice()));
        let mut members: Vec<_> = members.chain(signature).collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        for (name, content) in [(MANIFEST, manifest.as_slice())].into_iter().chain(members) {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            builder.append_data(&mut header, name, content)?;
        }
        builder.finish()
    }
}

/// Writes a file so that it is there whole or not at all, even after a power failure: into a
/// temporary file of the same folder, which then takes the name.
///
/// # Errors
/// Whatever `write` or the operating system reports; then nothing is left behind, and a file
/// that was there is untouched.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), NetworkError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let attempt = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".resight-").suffix(".partial");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Like any new file: the process's mask decides.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        if !folder.is_dir() {
            let cause = format!("there is no folder {}; make it first", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, cause));
        }
        // Without the temporary name, which nobody asked for.
        let mut file = builder.tempfile_in(folder).map_err(|error| io::Error::from(error.kind()))?;
        let mut buffer = BufWriter::new(file.as_file_mut());
        write(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    attempt().map_err(|error| NetworkError::file(path, "write", error))?;
    // The file is complete; only that its name survives a power failure depends on this, and
    // not every file system can do it.
    if let Err(error) = fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        log::debug!("{}: cannot flush the folder: {error}", folder.display());
    }
    Ok(())
}

/// The sha256 of a file, 64 lower-case hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String, NetworkError> {
    let cannot_read = |error| NetworkError::file(path, "read", error);
    let mut file = BufReader::new(fs::File::open(path).map_err(cannot_read)?);
    let mut digest = Sha256::new();
    loop {
        let bytes = file.fill_buf().map_err(cannot_read)?;
        if bytes.is_empty() {
            break;
        }
        digest.update(bytes);
        let length = bytes.len();
        file.consume(length);
    }
    Ok(hex(&digest.finalize()))
}

/// The digest of a calibration set: the sha256 over one line `sha256  name` for each file (the
/// name without its folder), in the order of the names. `sha256sum * | sha256sum` in the
/// folder gives the same.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256_of_image_files(paths: &[PathBuf]) -> Result<String, NetworkError> {
    let mut lines = Vec::with_capacity(paths.len());
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        lines.push((name, sha256_of_file(path)?));
    }
    lines.sort();
    let mut digest = Sha256::new();
    for (name, sha256) in lines {
        digest.update(format!("{sha256}  {name}\n"));
    }
    Ok(hex(&digest.finalize()))
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

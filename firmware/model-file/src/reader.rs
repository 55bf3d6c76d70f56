//! Reading a model file: what passes is whole and as it was written.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use resight_base::files::FileError;
use resight_base::text::printable;
use resight_imaging::Preprocessing;
use serde::Deserialize;

use crate::causes::{DamageCause, ForeignCause, MemberCause};
use crate::digest::sha256_hex;
use crate::error::ModelFileError;
use crate::formats::{FileFormat, looks_like_onnx};
use crate::golden::{Expected, Golden, golden_input, golden_logits, golden_output};
use crate::graph_text::check_graph;
use crate::labels::Labels;
use crate::limits::{
    BLOCK, GRAPH, LABELS, MANIFEST, MAX_FILE_SIZE, MAX_MANIFEST_SIZE, PREPROCESSING, PROVENANCE, REPORT,
    SIGNATURE, TASK,
};
use crate::manifest::Manifest;
use crate::preprocessing::preprocessing_from_json;
use crate::provenance::Provenance;
use crate::tar::{Entry, parse_tar};
use crate::task::Task;
use crate::tensor::{check_tensor, is_tensor};

/// A model file in memory, checked. It keeps the file's bytes and hands out slices of them.
#[derive(Clone)]
pub struct Archive {
    file: String,
    bytes: Vec<u8>,
    manifest: Manifest,
    members: BTreeMap<String, Entry>,
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
    pub fn read(path: &Path) -> Result<Self, ModelFileError> {
        let cannot_read = |error| FileError::system(path, "read", error);
        let file = path.display().to_string();
        let not_a_model = |cause| ModelFileError::NotAModel { file: file.clone(), cause };
        // Before opening: a named pipe would block for ever.
        let metadata = fs::metadata(path).map_err(cannot_read)?;
        if metadata.is_dir() {
            return Err(not_a_model(ForeignCause::Folder));
        }
        if !metadata.is_file() {
            return Err(not_a_model(ForeignCause::NotRegular));
        }
        if metadata.len() > MAX_FILE_SIZE {
            return Err(not_a_model(ForeignCause::Size(metadata.len())));
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
    pub fn from_bytes(file: &str, bytes: impl Into<Vec<u8>>) -> Result<Self, ModelFileError> {
        let bytes = bytes.into();
        if let Some(cause) = foreign(&bytes) {
            return Err(ModelFileError::NotAModel { file: file.to_string(), cause });
        }
        let mut members = parse_tar(file, &bytes)?;
        let damaged = |cause| ModelFileError::Damaged { file: file.to_string(), cause };

        let Some(entry) = members.remove(MANIFEST) else {
            return Err(ModelFileError::NotAModel {
                file: file.to_string(),
                cause: ForeignCause::NoManifest,
            });
        };
        if entry.whole.start != 0 {
            return Err(damaged(DamageCause::ManifestPlace));
        }
        if entry.content.len() as u64 > MAX_MANIFEST_SIZE {
            return Err(damaged(DamageCause::ManifestSize));
        }
        let manifest = Manifest::from_json(file, &bytes[entry.content.clone()])?;

        for info in &manifest.members {
            let name = || info.name.clone();
            let Some(entry) = members.get(&info.name) else {
                return Err(damaged(DamageCause::Missing(name())));
            };
            if entry.content.len() as u64 != info.size {
                let (found, expected) = (entry.content.len(), info.size);
                return Err(damaged(DamageCause::Size { member: name(), found, expected }));
            }
            if sha256_hex(&bytes[entry.content.clone()]) != info.sha256 {
                return Err(damaged(DamageCause::Digest(name())));
            }
        }
        // Every name of the manifest was found, so a surplus shows in the numbers.
        if members.len() > manifest.members.len() {
            let listed =
                |name: &str| manifest.members.binary_search_by(|info| info.name.as_str().cmp(name)).is_ok();
            if let Some(name) = members.keys().find(|name| *name != SIGNATURE && !listed(name)) {
                return Err(damaged(DamageCause::Surplus(name.clone())));
            }
        }
        members.insert(MANIFEST.to_string(), entry);
        let archive = Archive { file: file.to_string(), bytes, manifest, members };
        archive.check_network()?;
        Ok(archive)
    }

    /// Checks what tract would trust: the text of the graph and the headers of tensors.
    fn check_network(&self) -> Result<(), ModelFileError> {
        for (name, entry) in &self.members {
            if name != GRAPH && name.ends_with(&format!("/{GRAPH}")) {
                return Err(self.wrong(name, MemberCause::InnerNetwork));
            }
            if name == GRAPH {
                check_graph(&self.bytes[entry.content.clone()])
                    .map_err(|cause| self.wrong(name, cause.into()))?;
            }
            if is_tensor(name) {
                check_tensor(&self.bytes[entry.content.clone()])
                    .map_err(|cause| self.wrong(name, cause.into()))?;
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
    pub fn member(&self, name: &str) -> Result<&[u8], ModelFileError> {
        self.get(name).ok_or_else(|| self.wrong(name, MemberCause::Missing))
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
    pub fn labels(&self) -> Result<Labels, ModelFileError> {
        Labels::parse(&self.name_of(LABELS), self.member(LABELS)?)
    }

    /// Whether there are labels.
    pub fn has_labels(&self) -> bool {
        self.get(LABELS).is_some()
    }

    /// The preprocessing.
    ///
    /// # Errors
    /// There is none, or it is invalid.
    pub fn preprocessing(&self) -> Result<Preprocessing, ModelFileError> {
        preprocessing_from_json(&self.name_of(PREPROCESSING), self.member(PREPROCESSING)?)
    }

    /// The provenance.
    ///
    /// # Errors
    /// There is none, or it is invalid.
    pub fn provenance(&self) -> Result<Provenance, ModelFileError> {
        self.json(PROVENANCE)
    }

    /// The quantisation report, as the type that wrote it (or `serde_json::Value`).
    ///
    /// # Errors
    /// There is none, or it is of another structure.
    pub fn report<T: for<'a> Deserialize<'a>>(&self) -> Result<T, ModelFileError> {
        self.json(REPORT)
    }

    /// What the outputs mean: [`Task::Classes`] where nothing is said.
    ///
    /// # Errors
    /// The member is of another structure.
    pub fn task(&self) -> Result<Task, ModelFileError> {
        if self.get(TASK).is_none() { Ok(Task::default()) } else { self.json(TASK) }
    }

    /// The golden vectors, in the order in which they were added.
    ///
    /// # Errors
    /// A vector of which one half is missing, logits that are not whole numbers of f32, or a
    /// member of `golden/` of another name.
    pub fn goldens(&self) -> Result<Vec<Golden>, ModelFileError> {
        let (mut goldens, mut names) = (Vec::new(), HashSet::new());
        while let Some(input) = self.get(&golden_input(goldens.len())) {
            let index = goldens.len();
            names.insert(golden_input(index));
            let outputs = (0..).map(|output| golden_output(index, output));
            let outputs: Vec<String> = outputs.take_while(|name| self.get(name).is_some()).collect();
            let expected = if outputs.is_empty() {
                names.insert(golden_logits(index));
                Expected::Logits(self.logits(&golden_logits(index))?)
            } else {
                let tensors = outputs.iter().map(|name| Ok(self.member(name)?.to_vec()));
                Expected::Tensors(tensors.collect::<Result<_, ModelFileError>>()?)
            };
            names.extend(outputs);
            goldens.push(Golden { input: input.iter().map(|byte| byte.cast_signed()).collect(), expected });
        }
        let mut members = self.members.keys().filter(|name| name.starts_with("golden/"));
        match members.find(|name| !names.contains(*name)) {
            Some(name) => Err(self.wrong(name, MemberCause::NoGolden)),
            None => Ok(goldens),
        }
    }

    fn logits(&self, name: &str) -> Result<Vec<f32>, ModelFileError> {
        let bytes = self.member(name)?;
        if bytes.len() % 4 != 0 {
            return Err(self.wrong(name, MemberCause::Floats));
        }
        let numbers = bytes.chunks_exact(4).map(|bytes| [bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok(numbers.map(f32::from_le_bytes).collect())
    }

    /// The network alone as a tar archive, for tract-nnef, read from this archive's bytes
    /// without a copy.
    ///
    /// # Errors
    /// There is no graph.
    pub fn network(&self) -> Result<impl Read + '_, ModelFileError> {
        /// Two blocks of zeros end an archive.
        const END: &[u8] = &[0; 2 * BLOCK];
        self.member(GRAPH)?;
        let entries = self.members.iter().filter(|(name, _)| *name == GRAPH || is_tensor(name));
        let parts = entries.map(|(_, entry)| &self.bytes[entry.whole.clone()]).chain([END]);
        Ok(Parts { parts: parts.collect() })
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, ModelFileError> {
        serde_json::from_slice(self.member(name)?)
            .map_err(|error| self.wrong(name, MemberCause::Json(error.to_string())))
    }

    fn name_of(&self, member: &str) -> String {
        format!("{}: {member}", self.file)
    }

    fn wrong(&self, member: &str, cause: MemberCause) -> ModelFileError {
        ModelFileError::Member { file: self.file.clone(), member: printable(member), cause }
    }
}

/// What `bytes` are when they are clearly not a tar archive.
fn foreign(bytes: &[u8]) -> Option<ForeignCause> {
    match FileFormat::of(bytes) {
        Some(FileFormat::Tar) => None,
        Some(format) => Some(ForeignCause::Format(format)),
        None if bytes.is_empty() => Some(ForeignCause::Empty),
        None if looks_like_onnx(bytes) => Some(ForeignCause::Onnx),
        None => Some(ForeignCause::NoTar),
    }
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

//! Writing a model file: identical members give identical bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use ::tar::Header;
use resight_base::files::{FileError, write_atomically};
use resight_base::text::printable;
use resight_imaging::Preprocessing;
use serde::Serialize;

use crate::causes::MemberCause;
use crate::digest::sha256_hex;
use crate::error::ModelFileError;
use crate::golden::{Expected, Golden, golden_input, golden_logits, golden_output};
use crate::graph_text::check_graph;
use crate::labels::Labels;
use crate::limits::{
    FORMAT_NAME, FORMAT_VERSION, GRAPH, LABELS, MANIFEST, PREPROCESSING, PROVENANCE, REPORT, SIGNATURE, TASK,
};
use crate::manifest::{Manifest, MemberInfo};
use crate::preprocessing::preprocessing_to_json;
use crate::provenance::Provenance;
use crate::reader::Archive;
use crate::tar::parse_tar;
use crate::task::Task;
use crate::tensor::{check_tensor, is_tensor};

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
        let mut builder = Self::new(archive.name(), archive.manifest().tool.as_str());
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
    pub fn add(&mut self, name: &str, content: impl Into<Vec<u8>>) -> Result<(), ModelFileError> {
        if self.members.contains_key(name) {
            return Err(ModelFileError::Member {
                file: self.name.clone(),
                member: printable(name),
                cause: MemberCause::AddedTwice,
            });
        }
        self.members.insert(name.to_string(), content.into());
        Ok(())
    }

    /// Adds the network from the tar archive that tract-nnef writes.
    ///
    /// # Errors
    /// An archive that holds anything but one graph and its tensors.
    pub fn add_network(&mut self, tar: &[u8]) -> Result<(), ModelFileError> {
        for (name, entry) in parse_tar(&self.name, tar)? {
            let content = &tar[entry.content];
            // What is written must be readable.
            let checked = match name.as_str() {
                GRAPH => check_graph(content).map_err(MemberCause::from),
                _ if is_tensor(&name) => check_tensor(content).map_err(MemberCause::from),
                _ => Err(MemberCause::NoPart),
            };
            checked.map_err(|cause| ModelFileError::Member {
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
    pub fn add_labels(&mut self, labels: &Labels) -> Result<(), ModelFileError> {
        self.add(LABELS, labels.to_text())
    }

    /// Adds the preprocessing.
    ///
    /// # Errors
    /// It is invalid, or there is one already.
    pub fn add_preprocessing(&mut self, preprocessing: &Preprocessing) -> Result<(), ModelFileError> {
        preprocessing.validate()?;
        self.add(PREPROCESSING, preprocessing_to_json(preprocessing))
    }

    /// Adds the provenance.
    ///
    /// # Errors
    /// There is one already.
    pub fn add_provenance(&mut self, provenance: &Provenance) -> Result<(), ModelFileError> {
        self.add_json(PROVENANCE, provenance)
    }

    /// Adds the quantisation report.
    ///
    /// # Errors
    /// There is one already, or it cannot be written as JSON.
    pub fn add_report(&mut self, report: &impl Serialize) -> Result<(), ModelFileError> {
        self.add_json(REPORT, report)
    }

    /// Adds what the outputs mean; nothing for a classifier.
    ///
    /// # Errors
    /// It is there already.
    pub fn add_task(&mut self, task: &Task) -> Result<(), ModelFileError> {
        if *task == Task::default() { Ok(()) } else { self.add_json(TASK, task) }
    }

    /// Adds one more golden vector.
    ///
    /// # Errors
    /// A member of its name is there already.
    pub fn add_golden(&mut self, golden: &Golden) -> Result<(), ModelFileError> {
        let present = |name: &&String| name.starts_with("golden/") && name.ends_with(".input.bin");
        let index = self.members.keys().filter(present).count();
        let input: Vec<u8> = golden.input.iter().map(|value| value.cast_unsigned()).collect();
        self.add(&golden_input(index), input)?;
        match &golden.expected {
            Expected::Logits(logits) => {
                let bytes: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.add(&golden_logits(index), bytes)
            }
            Expected::Tensors(tensors) => {
                let mut tensors = tensors.iter().enumerate();
                tensors
                    .try_for_each(|(output, bytes)| self.add(&golden_output(index, output), bytes.as_slice()))
            }
        }
    }

    /// Sets the signature over the bytes of `manifest.json`.
    pub fn set_signature(&mut self, signature: impl Into<Vec<u8>>) {
        self.signature = Some(signature.into());
    }

    fn add_json(&mut self, name: &str, content: &impl Serialize) -> Result<(), ModelFileError> {
        let mut json = serde_json::to_vec_pretty(content).map_err(|error| ModelFileError::Member {
            file: self.name.clone(),
            member: name.to_string(),
            cause: MemberCause::Json(error.to_string()),
        })?;
        json.push(b'\n');
        self.add(name, json)
    }

    /// The manifest of the members so far.
    ///
    /// # Errors
    /// A name or a size that a model file cannot have.
    pub fn manifest(&self) -> Result<Manifest, ModelFileError> {
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
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelFileError> {
        let mut bytes = Vec::new();
        let manifest = self.manifest()?;
        self.write_to(&manifest, &mut bytes)
            .map_err(|error| FileError::system(Path::new(&self.name), "build", error))?;
        Ok(bytes)
    }

    /// Writes the model file, see [`write_atomically`].
    ///
    /// # Errors
    /// A name or a size that a model file cannot have, or a file that cannot be written; then
    /// nothing is left behind, and a file that was there is untouched.
    pub fn write(&self, path: &Path) -> Result<(), ModelFileError> {
        let manifest = self.manifest()?;
        Ok(write_atomically(path, |file| self.write_to(&manifest, file))?)
    }

    fn write_to(&self, manifest: &Manifest, output: &mut dyn Write) -> io::Result<()> {
        let manifest = manifest.to_json();
        let mut builder = ::tar::Builder::new(output);
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

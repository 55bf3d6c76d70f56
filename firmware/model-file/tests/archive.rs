//! The model file: what is written is read back, and nothing else is accepted.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use resight_base::files::{FileError, write_atomically};
use resight_imaging::Preprocessing;
use resight_model_file::{
    Activation, Archive, ArchiveBuilder, Calibration, Expected, Golden, Labels, Manifest, MemberInfo,
    ModelFileError, Provenance, Task, sha256_of_file,
};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

const BLOCK: usize = 512;
const FILE: &str = "models/small.resight.tar";

/// The bytes of an NNEF tensor of i8.
fn tensor(values: &[i8]) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes[..4].copy_from_slice(&[0x4e, 0xef, 1, 0]);
    bytes[4..8].copy_from_slice(&(values.len() as u32).to_le_bytes());
    bytes[8] = 1;
    bytes[12..16].copy_from_slice(&(values.len() as u32).to_le_bytes());
    bytes[44] = 8;
    bytes[48] = 3;
    bytes.extend(values.iter().map(|value| value.cast_unsigned()));
    bytes
}

fn provenance() -> Provenance {
    Provenance {
        source: "small.onnx".to_string(),
        source_sha256: "0".repeat(64),
        calibration: Some(Calibration { images: 3, sha256: "1".repeat(64), method: "mse".to_string() }),
        tool: "resight 0.1.0".to_string(),
    }
}

fn goldens() -> Vec<Golden> {
    vec![
        Golden::classes(vec![-128, 0, 127], vec![0.0, -0.0, f32::MIN_POSITIVE]),
        Golden::classes(vec![1, 2, 3], vec![1.5, f32::NEG_INFINITY, -7.25]),
    ]
}

fn builder() -> ArchiveBuilder {
    let mut builder = ArchiveBuilder::new("small", "resight 0.1.0");
    let long = format!("{}.dat", "long_name_".repeat(15));
    let network = archive_of(&[
        ("graph.nnef", b"version 1.0;\ngraph net( input ) -> ( output ) {}\n"),
        ("./weights.dat", &tensor(&[1, -2, 3])),
        ("layer1/0.dat", &tensor(&[7; 600])),
        (&long, &tensor(&[])),
    ]);
    builder.add_network(&network).unwrap();
    builder.add_labels(&Labels::parse("labels.txt", b"cat\ndog\nbird\n").unwrap()).unwrap();
    builder.add_preprocessing(&Preprocessing::default()).unwrap();
    builder.add_provenance(&provenance()).unwrap();
    builder.add_report(&serde_json::json!({"layers": 1})).unwrap();
    for golden in goldens() {
        builder.add_golden(&golden).unwrap();
    }
    builder
}

fn valid() -> Vec<u8> {
    builder().to_bytes().unwrap()
}

/// One header block, with a right checksum.
fn header(name: &str, size: u64, kind: EntryType) -> Vec<u8> {
    let mut header = Header::new_gnu();
    // Not set_path: it refuses the names that are to be refused here.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(1234567890);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// One member as tar stores it, with a long name where needed.
fn entry(name: &str, content: &[u8], kind: EntryType) -> Vec<u8> {
    let mut bytes = Vec::new();
    if name.len() > 100 {
        bytes.extend(entry("././@LongLink", format!("{name}\0").as_bytes(), EntryType::GNULongName));
    }
    bytes.extend(header(&name[..name.len().min(100)], content.len() as u64, kind));
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn archive_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        members.iter().flat_map(|(name, content)| entry(name, content, EntryType::Regular)).collect();
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}

/// A manifest for `members`, of any version.
fn manifest_of(version: u64, members: &[(&str, &[u8])]) -> Vec<u8> {
    let members = members.iter().map(|(name, content)| member_info(name, content.len() as u64, content));
    sealed(Manifest { version, ..manifest(members.collect()) })
}

fn member_info(name: &str, size: u64, content: &[u8]) -> MemberInfo {
    MemberInfo { name: name.to_string(), size, sha256: sha256(content) }
}

fn manifest(members: Vec<MemberInfo>) -> Manifest {
    let text = str::to_string;
    Manifest {
        format: text("resight model"),
        version: 1,
        tool: text("t"),
        name: text("n"),
        members,
        sha256: text(""),
    }
}

/// The bytes of a manifest with its right digest.
fn sealed(mut manifest: Manifest) -> Vec<u8> {
    manifest.sha256 = manifest.digest();
    manifest.to_json()
}

/// A model file of `members`, made by hand.
fn model_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let manifest = manifest_of(1, members);
    let mut all = vec![("manifest.json", manifest.as_slice())];
    all.extend(members);
    archive_of(&all)
}

/// The message with which `bytes` are refused.
fn refusal(bytes: &[u8]) -> String {
    let message = Archive::from_bytes(FILE, bytes).expect_err("must be refused").to_string();
    assert!(message.contains(FILE), "{message}");
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = valid();
    let archive = Archive::from_bytes(FILE, bytes.clone()).unwrap();
    assert_eq!(archive.name(), "small");
    assert_eq!(archive.manifest().tool, "resight 0.1.0");
    assert_eq!(archive.manifest().members.len(), 12);
    assert_eq!(archive.labels().unwrap().name(1), Some("dog"));
    assert_eq!(archive.preprocessing().unwrap(), Preprocessing::default());
    assert_eq!(archive.provenance().unwrap(), provenance());
    assert_eq!(archive.report::<serde_json::Value>().unwrap()["layers"], 1);
    assert_eq!(archive.get("weights.dat"), Some(tensor(&[1, -2, 3]).as_slice()));
    assert_eq!(archive.get("nothing"), None);
    assert!(archive.signature().is_none());
    let found = archive.goldens().unwrap();
    for (found, expected) in found.iter().zip(goldens()) {
        assert_eq!(found.input, expected.input);
        let bits = |logits: &[f32]| logits.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(found.logits().unwrap()), bits(expected.logits().unwrap()));
    }
    assert_eq!(found.len(), 2);
    assert!(archive.members().any(|(name, _)| name == "manifest.json"));
    assert_eq!(
        Manifest::from_json(FILE, archive.manifest_bytes()).unwrap(),
        *archive.manifest(),
        "the manifest's bytes are the manifest"
    );
}

#[test]
fn identical_members_give_identical_files_in_canonical_order() {
    assert_eq!(valid(), valid());
    // The order in which members are added is no member.
    let build = |names: [&str; 3]| {
        let mut builder = ArchiveBuilder::new("order", "t");
        for name in names {
            builder.add(name, name.as_bytes()).unwrap();
        }
        builder.set_signature(*b"signed");
        builder.to_bytes().unwrap()
    };
    let bytes = build(["b", "a", "z"]);
    assert_eq!(bytes, build(["z", "b", "a"]));

    let mut reader = tar::Archive::new(bytes.as_slice());
    let mut names = Vec::new();
    for entry in reader.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert!(header.as_gnu().is_some());
        assert_eq!(header.entry_type(), EntryType::Regular);
        assert_eq!((header.mtime().unwrap(), header.mode().unwrap()), (0, 0o644));
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        names.push(entry.path().unwrap().to_str().unwrap().to_string());
    }
    assert_eq!(names, ["manifest.json", "a", "b", "signature", "z"]);
}

#[test]
fn a_signature_travels_outside_the_manifest() {
    let mut signed = builder();
    signed.set_signature([7; 64]);
    let archive = Archive::from_bytes(FILE, signed.to_bytes().unwrap()).unwrap();
    assert_eq!(archive.signature(), Some([7; 64].as_slice()));
    let unsigned = Archive::from_bytes(FILE, valid()).unwrap();
    assert_eq!(archive.manifest_bytes(), unsigned.manifest_bytes());
}

#[test]
fn tract_gets_the_network_alone() {
    let archive = Archive::from_bytes(FILE, valid()).unwrap();
    let mut bytes = Vec::new();
    archive.network().unwrap().read_to_end(&mut bytes).unwrap();
    let mut reader = tar::Archive::new(bytes.as_slice());
    let mut names = Vec::new();
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert_eq!(Some(content.as_slice()), archive.get(&name), "{name}");
        names.push(name);
    }
    assert_eq!(names.len(), 4);
    assert_eq!(names[0], "graph.nnef");
    // And back: the same members as before.
    let mut again = ArchiveBuilder::new("small", "resight 0.1.0");
    again.add_network(&bytes).unwrap();
    assert_eq!(again.manifest().unwrap().members.len(), 4);
}

#[test]
fn a_model_without_a_graph_or_other_members_says_so() {
    let archive = Archive::from_bytes(FILE, model_of(&[])).unwrap();
    let graph = archive.network().map(|_| ()).unwrap_err();
    for (error, member) in [
        (graph, "graph.nnef"),
        (archive.labels().unwrap_err(), "labels.txt"),
        (archive.preprocessing().unwrap_err(), "preprocessing.json"),
        (archive.provenance().unwrap_err(), "provenance.json"),
        (archive.report::<serde_json::Value>().unwrap_err(), "report.json"),
    ] {
        assert_eq!(error.to_string(), format!("{FILE}: member {member}: missing"));
    }
    assert!(archive.goldens().unwrap().is_empty());
}

#[test]
fn outputs_that_are_no_classes_are_kept() {
    let golden = |outputs: &[&[u8]]| Golden {
        input: vec![1, -1],
        expected: Expected::Tensors(outputs.iter().map(|bytes| bytes.to_vec()).collect()),
    };
    let vectors = [golden(&[b"abc", b"", b"defg"]), golden(&[b"x"])];
    let mut builder = ArchiveBuilder::new("m", "t");
    builder.add_task(&Task::Tensors).unwrap();
    for vector in &vectors {
        builder.add_golden(vector).unwrap();
    }
    let archive = Archive::from_bytes(FILE, builder.to_bytes().unwrap()).unwrap();
    assert_eq!((archive.task().unwrap(), archive.has_labels()), (Task::Tensors, false));
    assert_eq!(archive.goldens().unwrap(), vectors);
    assert_eq!(archive.get("golden/0.output.2.bin"), Some(b"defg".as_slice()));
    // What a classifier is, no member says.
    let mut builder = ArchiveBuilder::new("m", "t");
    builder.add_task(&Task::default()).unwrap();
    let archive = Archive::from_bytes(FILE, builder.to_bytes().unwrap()).unwrap();
    assert_eq!((archive.task().unwrap(), archive.get("task.json")), (Task::default(), None));
    // Of classes that do not exclude each other it names the activation.
    let sigmoid = Task::Classes { activation: Activation::Sigmoid };
    let mut builder = ArchiveBuilder::new("m", "t");
    builder.add_task(&sigmoid).unwrap();
    let archive = Archive::from_bytes(FILE, builder.to_bytes().unwrap()).unwrap();
    let json = b"{\n  \"kind\": \"classes\",\n  \"activation\": \"sigmoid\"\n}\n".as_slice();
    assert_eq!((archive.task().unwrap(), archive.get("task.json")), (sigmoid, Some(json)));
    let other = model_of(&[("task.json", br#"{"kind": "classes", "activation": "tanh"}"#)]);
    let message = Archive::from_bytes(FILE, other).unwrap().task().unwrap_err().to_string();
    assert!(message.contains("task.json: unknown variant `tanh`"), "{message}");
    let unknown = model_of(&[("task.json", br#"{"kind": "poems"}"#)]);
    let message = Archive::from_bytes(FILE, unknown).unwrap().task().unwrap_err().to_string();
    assert!(message.contains("task.json: unknown variant `poems`"), "{message}");
    let both = [
        ("golden/0.input.bin", b"".as_slice()),
        ("golden/0.logits.bin", b""),
        ("golden/0.output.0.bin", b""),
    ];
    let message = Archive::from_bytes(FILE, model_of(&both)).unwrap().goldens().unwrap_err().to_string();
    assert!(message.contains("golden/0.logits.bin: belongs to no golden vector"), "{message}");
}

#[test]
fn wrong_content_of_members_is_reported_with_its_place() {
    let members: [(&str, &[u8]); 6] = [
        ("golden/0.input.bin", b"abc"),
        ("golden/0.logits.bin", b"abc"),
        ("labels.txt", b"cat\n\xff\n"),
        ("preprocessing.json", b"{}"),
        ("provenance.json", b"[1]"),
        ("report.json", b"{"),
    ];
    let archive = Archive::from_bytes(FILE, model_of(&members)).unwrap();
    for (error, expected) in [
        (archive.goldens().unwrap_err(), "golden/0.logits.bin: not a whole number of f32"),
        (archive.labels().unwrap_err(), "labels.txt, line 2: not UTF-8"),
        (archive.preprocessing().unwrap_err(), "preprocessing.json: missing field"),
        (archive.provenance().unwrap_err(), "provenance.json: "),
        (archive.report::<serde_json::Value>().unwrap_err(), "report.json: "),
    ] {
        let message = error.to_string();
        assert!(message.contains(FILE) && message.contains(expected), "{message}");
    }
    for surplus in ["golden/1.input.bin", "golden/0.logits.bin", "golden/00.input.bin", "golden/readme"] {
        let archive = Archive::from_bytes(FILE, model_of(&[(surplus, b"")])).unwrap();
        let message = archive.goldens().unwrap_err().to_string();
        assert!(message.contains("belongs to no golden vector"), "{message}");
    }
    let archive = Archive::from_bytes(FILE, model_of(&[("golden/0.input.bin", b"")])).unwrap();
    assert!(archive.goldens().unwrap_err().to_string().contains("golden/0.logits.bin: missing"));
}

#[test]
fn foreign_files_are_told_what_they_are() {
    let onnx = [b"\x08\x07\x12\x07pytorch".as_slice(), &[0x42; 900]].concat();
    for (bytes, expected) in [
        (b"".as_slice(), "the file is empty"),
        (b"PK\x03\x04\x14\0\0\0", "it is a zip archive"),
        (b"\x1f\x8b\x08\0\0\0", "it is compressed with gzip"),
        (b"\x89PNG\r\n\x1a\n", "it is a PNG image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "it is a JPEG image"),
        (&onnx, "it is an ONNX file"),
        (b"<!DOCTYPE html><title>Log in", "it is a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "it is a pointer of Git LFS to a file that was not fetched",
        ),
        (b"hello, world", "it is not a tar archive"),
        (&[0; 10240], "it is not a tar archive"),
        (&archive_of(&[("graph.nnef", b"version 1.0;")]), "it is a tar archive without manifest.json"),
    ] {
        let message = refusal(bytes);
        assert_eq!(
            message,
            format!("{FILE} is not a resight model: {expected}; make one with `resight quantize`")
        );
    }
    let other = archive_of(&[("manifest.json", br#"{"format": "docker image", "version": 1}"#)]);
    assert!(refusal(&other).contains("is not a resight model: its manifest.json is of a docker image"));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = valid();
    for length in (0..bytes.len()).step_by(37).chain(bytes.len() - 2 * BLOCK..bytes.len()) {
        let message = refusal(&bytes[..length]);
        if length >= BLOCK {
            assert!(message.contains("is truncated: it ends after"), "{length}: {message}");
        }
    }
    // Cut between two members, and within one.
    let boundary = bytes.len() - 2 * BLOCK;
    assert!(refusal(&bytes[..boundary]).contains("before its end mark"));
    assert!(refusal(&bytes[..boundary - 1]).contains("within member weights.dat"));
    assert!(refusal(&bytes[..boundary + BLOCK]).contains("within its end mark"));
}

#[test]
fn any_altered_content_is_refused() {
    /// Where a header holds its checksum.
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let bytes = valid();
    let reference = Archive::from_bytes(FILE, bytes.clone()).unwrap();
    for position in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[position] ^= 1 << (position % 8);
        match Archive::from_bytes(FILE, altered) {
            Err(error) => assert!(error.to_string().contains(FILE)),
            // A header's checksum may be spelt in several ways: leading zeros or blanks.
            Ok(archive) => assert!(
                CHECKSUM.contains(&(position % BLOCK)) && archive.members().eq(reference.members()),
                "byte {position} was altered unseen"
            ),
        }
    }
    let weights = tensor(&[1, -2, 3]);
    let position = bytes.windows(weights.len()).position(|window| window == weights).unwrap();
    let mut altered = bytes.clone();
    altered[position + weights.len() - 1] ^= 1;
    assert!(refusal(&altered).contains("the sha256 of member weights.dat is not that of the manifest"));
    let mut altered = bytes;
    altered[position + weights.len()] = 1;
    assert!(refusal(&altered).contains("member weights.dat: something is hidden behind its end"));
}

#[test]
fn trailing_zeros_are_tolerated_and_trailing_data_is_not() {
    let mut bytes = valid();
    bytes.resize(bytes.len().next_multiple_of(10240), 0);
    Archive::from_bytes(FILE, bytes.clone()).unwrap();
    bytes.push(1);
    assert!(refusal(&bytes).contains("something follows its end mark"));
    // A second archive behind the first, as `cat` makes.
    let twice = [valid(), valid()].concat();
    assert!(refusal(&twice).contains("something follows its end mark"));
}

#[test]
fn manifest_and_members_must_agree() {
    let manifest = manifest_of(1, &[("a", b"1"), ("b", b"22")]);
    let with = |members: &[(&str, &[u8])]| {
        let mut all = vec![("manifest.json", manifest.as_slice())];
        all.extend(members);
        archive_of(&all)
    };
    Archive::from_bytes(FILE, with(&[("b", b"22"), ("a", b"1")])).unwrap();
    assert!(refusal(&with(&[("a", b"1")])).contains("member b of the manifest is missing"));
    let surplus = with(&[("a", b"1"), ("b", b"22"), ("c", b"")]);
    assert!(refusal(&surplus).contains("member c is not in the manifest"));
    let surplus = with(&[("a", b"1"), ("b", b"22"), ("c", b""), ("signature", b"")]);
    assert!(refusal(&surplus).contains("member c is not in the manifest"));
    let longer = with(&[("a", b"11"), ("b", b"22")]);
    assert!(refusal(&longer).contains("member a has 2 bytes, the manifest says 1"));
    assert!(refusal(&with(&[("a", b"2"), ("b", b"22")])).contains("the sha256 of member a"));
    let twice = with(&[("a", b"1"), ("b", b"22"), ("a", b"1")]);
    assert!(refusal(&twice).contains("member a: it occurs twice"));
    // The same name in another spelling.
    let twice = with(&[("a", b"1"), ("b", b"22"), ("./a", b"1")]);
    assert!(refusal(&twice).contains("member ./a: it occurs twice"));
    let late = archive_of(&[("a", b"1"), ("b", b"22"), ("manifest.json", &manifest)]);
    assert!(refusal(&late).contains("manifest.json is not the first member"));
}

#[test]
fn unsafe_names_are_refused() {
    let long = "x".repeat(201);
    for (name, expected) in [
        ("../evil", "a name with `..`"),
        ("a/../../evil", "a name with `..`"),
        ("a/./b", "a name with `..`, `.` or empty parts"),
        ("a//b", "a name with `..`, `.` or empty parts"),
        ("a/", "a name with `..`, `.` or empty parts"),
        ("/etc/passwd", "an absolute name"),
        (".//etc/passwd", "an absolute name"),
        ("..\\evil", "a name with a backslash"),
        ("line\nfeed", "a name with control characters"),
        ("\u{1b}[31m", "a name with control characters"),
        ("./", "an empty name"),
        (&long, "a name of over 200 bytes"),
    ] {
        let message = refusal(&archive_of(&[("manifest.json", b"{}"), (name, b"")]));
        assert!(message.contains(expected), "{name:?}: {message}");
        // The writer refuses them too, and says which; it does not leave out a leading `./` as readers do.
        if !name.starts_with("./") {
            let mut builder = ArchiveBuilder::new("m", "t");
            builder.add(name, "").unwrap();
            let error = builder.to_bytes().unwrap_err().to_string();
            assert!(error.contains(expected), "{name:?}: {error}");
        }
    }
    Archive::from_bytes(FILE, model_of(&[(&long[..200], b"")])).unwrap();
    let mut latin1 = archive_of(&[("manifest.json", b"{}"), ("x", b"")]);
    let mut name = Header::from_byte_slice(&latin1[2 * BLOCK..3 * BLOCK]).clone();
    name.as_old_mut().name[0] = 0xe4;
    name.set_cksum();
    latin1[2 * BLOCK..3 * BLOCK].copy_from_slice(name.as_bytes());
    assert!(refusal(&latin1).contains("is not UTF-8"));
}

#[test]
fn nothing_but_regular_files_is_accepted() {
    for (kind, expected) in [
        (EntryType::Directory, "a folder"),
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a named pipe"),
        (EntryType::GNUSparse, "a sparse file"),
        (EntryType::XHeader, "a pax extension"),
        (EntryType::XGlobalHeader, "a pax extension"),
        (EntryType::GNULongLink, "an entry of an unknown kind"),
        (EntryType::Continuous, "an entry of an unknown kind"),
        (EntryType::new(b'?'), "an entry of an unknown kind"),
    ] {
        let bytes = [
            entry("manifest.json", &manifest_of(1, &[]), EntryType::Regular),
            entry("odd", b"", kind),
            vec![0; 2 * BLOCK],
        ];
        let message = refusal(&bytes.concat());
        let expected = format!("{FILE}: member odd: it is {expected}, not a regular file");
        assert_eq!(message, expected);
    }
    // A name for a name, and a name for nothing.
    let name = entry("././@LongLink", b"name\0", EntryType::GNULongName);
    let end = vec![0; 2 * BLOCK];
    assert!(refusal(&[name.clone(), name.clone(), end.clone()].concat()).contains("not a regular file"));
    assert!(refusal(&[name, end].concat()).contains("a name without a member"));
}

#[test]
fn sizes_over_the_limits_are_refused_before_memory_is_taken() {
    let claims = |size: u64| [header("huge", size, EntryType::Regular), vec![0; 4 * BLOCK]].concat();
    assert!(refusal(&claims((512 << 20) + 1)).contains("member huge: over 512 MiB"));
    assert!(refusal(&claims(u64::MAX)).contains("member huge: "));
    assert!(refusal(&claims(512 << 20)).contains("is truncated"));

    let json = |members: Vec<MemberInfo>| {
        Manifest::from_json(FILE, &sealed(manifest(members))).map_err(|error| error.to_string())
    };
    let member = |name: &str, size: u64| member_info(name, size, b"");
    assert!(json(vec![member("a", 512 << 20)]).is_ok());
    assert!(json(vec![member("a", (512 << 20) + 1)]).unwrap_err().contains("over 512 MiB"));
    let three = vec![member("a", 512 << 20), member("b", 512 << 20), member("c", 1)];
    assert!(json(three).unwrap_err().contains("over 1024 MiB together"));
    let many = (0..4097).map(|index| member(&format!("{index:05}"), 0)).collect();
    assert!(json(many).unwrap_err().contains("more than 4096 members"));

    let names: Vec<String> = (0..4099).map(|index| index.to_string()).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    assert!(refusal(&archive_of(&members)).contains("more than 4096 members"));

    let mut builder = ArchiveBuilder::new("m", "t");
    for name in &names {
        builder.add(name, "").unwrap();
    }
    assert!(builder.to_bytes().unwrap_err().to_string().contains("more than 4096 members"));
}

#[test]
fn later_formats_are_named_and_earlier_ones_do_not_exist() {
    let with = |manifest: &[u8]| archive_of(&[("manifest.json", manifest)]);
    let later = with(&manifest_of(2, &[]));
    assert!(matches!(
        Archive::from_bytes(FILE, later.clone()),
        Err(ModelFileError::FutureFormat { version: 2, supported: 1, .. })
    ));
    assert!(refusal(&later).contains("has model format 2, this program reads format 1: update resight"));
    // A later manifest may have any structure.
    let later = with(br#"{"format": "resight model", "version": 99, "parts": {}}"#);
    assert!(refusal(&later).contains("has model format 99"));
    assert!(refusal(&with(&manifest_of(0, &[]))).contains("there is no model format 0"));
}

#[test]
fn malformed_manifests_are_refused() {
    let good: serde_json::Value = serde_json::from_slice(&manifest_of(1, &[("a", b""), ("b", b"")])).unwrap();
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        let error = Manifest::from_json(FILE, manifest.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(FILE) && !error.contains('\n'), "{error}");
        error
    };
    Manifest::from_json(FILE, &manifest_of(1, &[])).unwrap();
    assert!(refused(&|manifest| manifest["extra"] = 1.into()).contains("unknown field `extra`"));
    assert!(refused(&|manifest| manifest["members"][0]["extra"] = 1.into()).contains("extra"));
    assert!(refused(&|manifest| manifest["name"] = "".into()).contains("the name is empty"));
    assert!(refused(&|manifest| manifest["tool"] = "a\nb".into()).contains("control characters"));
    assert!(refused(&|manifest| manifest["version"] = "1".into()).contains("manifest.json"));
    assert!(refused(&|manifest| manifest["version"] = (-1).into()).contains("manifest.json"));
    assert!(refused(&|manifest| manifest["members"][1]["name"] = "a".into()).contains("a occurs twice"));
    assert!(refused(&|manifest| manifest["members"][0]["name"] = "c".into()).contains("out of order"));
    assert!(refused(&|manifest| manifest["members"][0]["name"] = "../a".into()).contains("`..`"));
    assert!(refused(&|manifest| manifest["members"][0]["name"] = "signature".into()).contains("cannot name"));
    assert!(refused(&|manifest| manifest["members"][0]["sha256"] = "A".repeat(64).into()).contains("sha256"));
    assert!(refused(&|manifest| manifest["members"][0]["sha256"] = "0".into()).contains("sha256"));
    assert!(refused(&|manifest| manifest["members"][0]["size"] = 1.5.into()).contains("manifest.json"));
    assert!(refused(&|manifest| manifest["name"] = "other".into()).contains("its own sha256 is wrong"));
    let respelt = String::from_utf8(manifest_of(1, &[])).unwrap().replacen('\n', "", 1);
    let error = Manifest::from_json(FILE, respelt.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("not written as resight writes it"), "{error}");
    for bytes in [b"".as_slice(), b"{", b"[]", b"\xff\xfe", &vec![b'['; 100_000]] {
        let error = Manifest::from_json(FILE, bytes).unwrap_err().to_string();
        assert!(error.starts_with(FILE) && error.contains("manifest.json"), "{error}");
    }
}

#[test]
fn tensors_that_promise_another_size_are_refused() {
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = tensor(&[1, 2, 3, 4, 5, 6, 7, 8]);
        change(&mut bytes);
        refusal(&model_of(&[("w.dat", &bytes)]))
    };
    assert!(with(&|bytes| bytes.truncate(100)).contains("member w.dat: a tensor shorter than its header"));
    assert!(with(&|bytes| bytes[0] = 0).contains("not an NNEF 1.0 tensor"));
    assert!(with(&|bytes| bytes[8] = 9).contains("a tensor of 9 dimensions"));
    assert!(with(&|bytes| bytes[12] = 9).contains("does not fit its 8 bytes"));
    assert!(with(&|bytes| bytes[4] = 9).contains("does not fit its 8 bytes"));
    assert!(with(&|bytes| bytes.push(0)).contains("does not fit its 9 bytes"));
    // 2^64 elements.
    assert!(
        with(&|bytes| {
            bytes[8] = 2;
            bytes[12..20].fill(0xff);
        })
        .contains("does not fit")
    );
    // Strings: tract would reserve room for all of them.
    assert!(
        with(&|bytes| {
            bytes[44..48].fill(0xff);
            bytes[48..52].copy_from_slice(&[0x00, 0x10, 0x52, 0x54]);
        })
        .contains("a type that no int8 network has")
    );
    // Single bits: tract computes with their number less eight.
    assert!(
        with(&|bytes| {
            bytes[44] = 1;
            bytes[48] = 5;
        })
        .contains("a type that no int8 network has")
    );
    assert!(refusal(&model_of(&[("sub/graph.nnef", b"")])).contains("a network within the network"));
}

/// A graph with this body, in every other respect as tract writes it.
fn graph_of(body: &str) -> String {
    format!(
        "version 1.0;\n\nextension tract_registry resight;\nextension tract_registry tract_core;\n\n\
         fragment tract_core_properties(\n) -> (properties: (string, tensor<scalar>)[])\n{{\n  \
         properties = [(\"tract_nnef_ser_version\", \"0.23.9\"), (\"format\", \"beta1\")];\n}}\n\n\
         graph network(input) -> (logits) {{\n{body}}}\n"
    )
}

#[test]
fn networks_that_resight_writes_are_accepted() {
    for body in [
        "",
        "  input = tract_core_external(shape = [1, 32, 32, 3], datum_type = \"I8\");\n",
        "  w = variable<scalar>(label = \"w\", shape = [16]);\n",
        "  i\"layer1.0/conv\" = resight_f(input = input, residual = [], weights = i\"a \\\" b\", shift = -1, \
         scale = 0.0125, more = 1e-10, zero_point = -128, many = [i\"x\", y]);\n",
    ] {
        let graph = graph_of(body);
        Archive::from_bytes(FILE, model_of(&[("graph.nnef", graph.as_bytes())])).unwrap();
        let mut builder = ArchiveBuilder::new("m", "t");
        builder.add_network(&archive_of(&[("graph.nnef", graph.as_bytes())])).unwrap();
    }
}

#[test]
fn any_other_text_of_a_network_is_refused_with_its_line() {
    let body = |body: &str| graph_of(&format!("{body}\n"));
    let nested = |open: &str, close: &str| {
        body(&format!("x = resight_f(x = {}1{});", open.repeat(100_000), close.repeat(100_000)))
    };
    for (graph, expected) in [
        (String::new(), "line 1: version is expected, found the end"),
        ("version 1.0".to_string(), "line 1: ; is expected, found the end"),
        // What tract's parser takes for ever, or the whole stack, to read.
        (nested("(", ")"), "line 13: a name, a number or a string is expected, found `((("),
        (nested("[", "]"), "line 13: a name, a number or a string is expected, found `[[["),
        (nested("-", ""), "a name, a number or a string is expected, found `---"),
        (nested("!", ""), "a name, a number or a string is expected, found `!!!"),
        (nested("f(x = ", ")"), "line 13: ) is expected, found `(x = f("),
        (nested("1 + ", ""), "line 13: ) is expected, found `+ 1"),
        // Fragments that call themselves.
        (
            "version 1.0;\nfragment f(x: scalar) -> (y: scalar) { y = f(x); }\ngraph n(a) -> (b) {}"
                .to_string(),
            "line 2: tract_core_properties is expected, found `f(x: scalar)",
        ),
        (graph_of("").replace("\"beta1\"", "f()"), "line 9: a string is expected, found `f()"),
        // Operators of the standard library make tensors of any size.
        (
            body("x = tile(input = input, repeats = [1000000]);"),
            "line 13: an operator of resight is expected",
        ),
        (body("x = tract_core_range(start = 0, end = 1);"), "an operator of resight is expected"),
        (body("x = resight_f(x = \"a\nb\");"), "is expected, found `\"a"),
        (body("x = resight_f(x = 'a');"), "is expected, found `'a'"),
        (body("x = resight_f(x = \"a"), "a name, a number or a string is expected, found `\"a"),
        (body("x = resight_f(x = \"it's\");"), "is expected, found `\"it's"),
        (body("# comment"), "a name is expected, found `# comment"),
        (body("[x, y] = resight_f();"), "a name is expected, found `[x, y]"),
        (body("1x = resight_f();"), "a name is expected, found `1x"),
        (body("x = resight_f(x = 1.);"), "is expected, found `1.)"),
        (body("x = resight_f(1);"), "a name is expected, found `1)"),
        (body("x = resight_f() y"), "; is expected, found `y"),
        (body("naïve = resight_f();"), "= is expected, found `ïve"),
        (graph_of("") + "graph", "line 14: the end is expected, found `graph"),
    ] {
        for message in [
            refusal(&model_of(&[("graph.nnef", graph.as_bytes())])),
            ArchiveBuilder::new(FILE, "t")
                .add_network(&archive_of(&[("graph.nnef", graph.as_bytes())]))
                .unwrap_err()
                .to_string(),
        ] {
            let start = format!("{FILE}: member graph.nnef: line ");
            assert!(message.starts_with(&start) && message.contains(expected), "{expected}: {message}");
        }
    }
    assert!(refusal(&model_of(&[("graph.nnef", b"\xff")])).contains("not UTF-8"));
    let long = vec![b' '; (4 << 20) + 1];
    assert!(refusal(&model_of(&[("graph.nnef", &long)])).contains("over 4 MiB of text"));
}

#[test]
fn members_cannot_be_added_twice_and_networks_hold_nothing_else() {
    let mut twice = builder();
    let error = twice.add("labels.txt", "x").unwrap_err().to_string();
    assert_eq!(error, "small: member labels.txt: added twice");
    let graph = b"version 1.0;\ngraph net( input ) -> ( output ) {}\n";
    let error = twice.add_network(&archive_of(&[("graph.nnef", graph)])).unwrap_err().to_string();
    assert_eq!(error, "small: member graph.nnef: added twice");
    let mut fresh = ArchiveBuilder::new("m", "t");
    let error = fresh.add_network(&archive_of(&[("graph.quant", b"")])).unwrap_err().to_string();
    assert!(error.contains("member graph.quant: neither a graph nor a tensor"), "{error}");
    let error = fresh.add("manifest.json", "{}").and_then(|()| fresh.to_bytes()).unwrap_err().to_string();
    assert!(error.contains("manifest.json"), "{error}");
    let unnamed = ArchiveBuilder::new("", "t");
    assert!(unnamed.to_bytes().unwrap_err().to_string().contains("the name is empty"));
    let bad = Preprocessing { resize_shorter: 0, ..Preprocessing::default() };
    let error = ArchiveBuilder::new("m", "t").add_preprocessing(&bad).unwrap_err().to_string();
    assert!(error.contains("resize_shorter is 0"), "{error}");
}

/// The names in a folder.
fn listing(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_are_written_and_read_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.resight.tar");
    fs::write(&path, "older").unwrap();
    builder().write(&path).unwrap();
    assert_eq!(listing(folder.path()), ["small.resight.tar"]);
    assert_eq!(fs::read(&path).unwrap(), valid());
    assert!(Archive::read(&path).unwrap().members().eq(Archive::from_bytes("x", valid()).unwrap().members()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = folder.path().join("plain");
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain), "a temporary file's private mode must not stay");
    }
}

#[test]
fn a_path_that_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| Archive::read(path).unwrap_err().to_string();
    let name = folder.path().display();
    assert_eq!(
        message(folder.path()),
        format!("{name} is not a resight model: it is a folder; make one with `resight quantize`")
    );
    let missing = message(&folder.path().join("missing.resight.tar"));
    assert!(missing.starts_with(&format!("{name}/missing.resight.tar: cannot read: ")), "{missing}");
    #[cfg(unix)]
    assert!(message(Path::new("/dev/zero")).contains("it is not a regular file"));
    // Too large, without taking the memory or the disk.
    let huge = folder.path().join("huge");
    fs::File::create(&huge).unwrap().set_len(3 << 30).unwrap();
    assert!(message(&huge).contains("it has 3072 MiB, a model at most"));
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    fs::write(&path, "older").unwrap();
    let error = write_atomically(&path, |file| {
        file.write_all(&vec![0; 100_000])?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    })
    .unwrap_err()
    .to_string();
    assert!(error.starts_with(&format!("{}: cannot write: ", path.display())), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"older");
    assert_eq!(listing(folder.path()), ["model"]);

    // The name cannot be taken: a folder has it.
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("inside"), "").unwrap();
    let error = builder().write(&taken).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: cannot write: ", taken.display())), "{error}");
    assert_eq!(listing(folder.path()), ["model", "taken"]);

    // There is no such folder.
    let error = builder().write(&folder.path().join("no/such/model")).unwrap_err().to_string();
    assert!(error.contains("no/such/model: cannot write: "), "{error}");

    // Invalid content: nothing is opened at all.
    let mut invalid = ArchiveBuilder::new("m", "t");
    invalid.add("../x", "").unwrap();
    let error = invalid.write(&folder.path().join("new")).unwrap_err().to_string();
    assert!(error.contains("`..`"), "{error}");
    assert_eq!(listing(folder.path()), ["model", "taken"]);
}

/// The folder that the child process of the next test writes into.
const CHILD_FOLDER: &str = "RESIGHT_TEST_WRITE_FOLDER";

/// Run by `a_full_disk...` in a process that may not write files over 4 KiB.
#[test]
fn child_that_writes_a_model() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let error = builder().write(&PathBuf::from(&folder).join("model")).unwrap_err().to_string();
    assert!(error.contains("model: cannot write: "), "{error}");
    assert!(!error.contains('\n'));
    assert_eq!(listing(Path::new(&folder)), Vec::<String>::new());
    println!("refused by the system");
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let itself = Command::new(std::env::current_exe().unwrap()).arg("--list").output();
    if !itself.is_ok_and(|output| output.status.success()) {
        println!("skipped: an emulated program cannot start itself here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // A limit on the size of files stands for a full disk: the system refuses a write in the
    // middle of the file.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_a_model", "--nocapture"])
        .env(CHILD_FOLDER, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("refused by the system"), "{text}");
    assert!(listing(folder.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere on a disk, but nobody in /proc.
    let read_only = if fs::write(inner.join("probe"), "").is_ok() { Path::new("/proc") } else { &inner };
    let error = builder().write(&read_only.join("model")).unwrap_err();
    assert!(matches!(error, ModelFileError::File(FileError::System { action: "write", .. })), "{error}");
    assert!(!read_only.join("model").exists());
}

#[test]
fn digests_of_files_are_those_of_sha256sum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.png");
    fs::write(&path, "second").unwrap();
    assert_eq!(sha256_of_file(&path).unwrap(), sha256(b"second"));
}

proptest! {
    #[test]
    fn mutations_never_panic_and_never_pass_unseen(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
        fix_checksums in any::<bool>(),
    ) {
        let reference = Archive::from_bytes(FILE, valid()).unwrap();
        let mut bytes = valid();
        for (index, value) in &changes {
            let index = index.index(bytes.len());
            bytes[index] = *value;
            // With a right checksum a mutation reaches what lies behind it.
            let start = index / BLOCK * BLOCK;
            if fix_checksums && bytes[start + 257..start + 262] == *b"ustar" {
                let mut header = Header::from_byte_slice(&bytes[start..start + BLOCK]).clone();
                header.set_cksum();
                bytes[start..start + BLOCK].copy_from_slice(header.as_bytes());
            }
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        match Archive::from_bytes(FILE, bytes) {
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
            Ok(archive) => prop_assert!(
                archive.members().eq(reference.members()),
                "other content passed as the same model"
            ),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let archive = Archive::from_bytes(FILE, bytes.clone()).err().map(|error| error.to_string());
        let manifest = Manifest::from_json(FILE, &bytes).err().map(|error| error.to_string());
        for error in [archive, manifest] {
            let error = error.unwrap_or_default();
            prop_assert!(error.starts_with(FILE) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn any_members_survive(
        members in prop::collection::btree_map("[a-z]{1,8}(/[a-zA-Z0-9_.]{0,120}[a-z])?", prop::collection::vec(any::<u8>(), 0..1500), 0..8),
    ) {
        let kept = |name: &&String| {
            let name = name.as_str();
            !["manifest.json", "signature"].contains(&name)
                && Path::new(name).extension().is_none_or(|extension| extension != "dat")
                && !name.ends_with("/graph.nnef")
        };
        let members: Vec<_> = members.iter().filter(|(name, _)| kept(name)).collect();
        let mut builder = ArchiveBuilder::new("m", "t");
        for (name, content) in &members {
            builder.add(name, content.as_slice()).unwrap();
        }
        let archive = Archive::from_bytes(FILE, builder.to_bytes().unwrap()).unwrap();
        prop_assert_eq!(archive.manifest().members.len(), members.len());
        for (name, content) in members {
            prop_assert_eq!(archive.get(name), Some(content.as_slice()));
        }
    }
}

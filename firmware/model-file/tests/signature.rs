//! Signatures of model files: only the right key over the untouched content passes.

use std::fs;

use resight_model_file::{
    Archive, ArchiveBuilder, ModelFileError, PrivateKey, PublicKey, Signature, signature_path,
};

const FILE: &str = "small.resight.tar";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed([seed; 32])
}

fn builder() -> ArchiveBuilder {
    let mut builder = ArchiveBuilder::new("small", "resight 0.1.0");
    for (name, content) in [("a", &b"1"[..]), ("labels.txt", b"cat\ndog\n"), ("z", &[7; 1000])] {
        builder.add(name, content).unwrap();
    }
    builder
}

fn archive(builder: &ArchiveBuilder) -> Archive {
    Archive::from_bytes(FILE, builder.to_bytes().unwrap()).unwrap()
}

fn signed(key: &PrivateKey) -> Archive {
    archive(&key.sign_model(&archive(&builder())))
}

/// The one-line message of a refusal, which names the file.
fn refused<T: std::fmt::Debug>(result: Result<T, ModelFileError>) -> String {
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with("small.resight.tar") && !message.contains('\n'), "{message}");
    message
}

#[test]
fn the_right_key_passes_and_the_members_stay_as_they_were() {
    let (plain, signed) = (archive(&builder()), signed(&key(1)));
    signed.check_signature(&key(1).public()).unwrap();
    assert_eq!(signed.signer().unwrap(), Some(key(1).public()));
    assert_eq!(signed.manifest_bytes(), plain.manifest_bytes());
    let others: Vec<_> = signed.members().filter(|(name, _)| *name != "signature").collect();
    assert_eq!(others, plain.members().collect::<Vec<_>>());
}

#[test]
fn signing_gives_the_same_bytes_whatever_signature_was_there() {
    let once = key(1).sign_model(&archive(&builder())).to_bytes().unwrap();
    assert_eq!(key(1).sign_model(&signed(&key(1))).to_bytes().unwrap(), once);
    assert_eq!(key(1).sign_model(&signed(&key(2))).to_bytes().unwrap(), once);
    assert_ne!(key(2).sign_model(&signed(&key(1))).to_bytes().unwrap(), once);
}

#[test]
fn unsigned_files_and_wrong_keys_are_refused() {
    let plain = archive(&builder());
    assert_eq!(plain.signer().unwrap(), None);
    assert!(refused(plain.check_signature(&key(1).public())).contains("it is not signed"));
    let message = refused(signed(&key(2)).check_signature(&key(1).public()));
    let (found, demanded) = (key(2).public().fingerprint(), key(1).public().fingerprint());
    assert!(message.contains(&format!("key {found} signed it, not key {demanded}")), "{message}");
}

#[test]
fn a_signature_does_not_fit_another_manifest() {
    let signature = signed(&key(1)).signature().unwrap().to_vec();
    // Another member, a member less, another name: each a valid file of its own.
    let mut longer = builder();
    longer.add("b", *b"2").unwrap();
    let mut fewer = ArchiveBuilder::new("small", "resight 0.1.0");
    fewer.add("a", *b"1").unwrap();
    let mut renamed = ArchiveBuilder::new("large", "resight 0.1.0");
    for (name, content) in archive(&builder()).members().filter(|(name, _)| *name != "manifest.json") {
        renamed.add(name, content).unwrap();
    }
    for mut other in [longer, fewer, renamed] {
        other.set_signature(signature.clone());
        let other = archive(&other);
        assert!(refused(other.check_signature(&key(1).public())).contains("did not sign this content"));
        assert!(refused(other.signer()).contains("did not sign this content"));
    }
}

#[test]
fn no_altered_byte_of_a_signed_file_passes() {
    let bytes = key(1).sign_model(&archive(&builder())).to_bytes().unwrap();
    let public = key(1).public();
    let passes = |bytes: &[u8]| {
        Archive::from_bytes(FILE, bytes).is_ok_and(|archive| archive.check_signature(&public).is_ok())
    };
    assert!(passes(&bytes));
    let content = Archive::from_bytes(FILE, bytes.clone()).unwrap();
    let content: Vec<Vec<u8>> = content.members().map(|(_, content)| content.to_vec()).collect();
    let mut checked = 0;
    for content in content {
        let start = bytes.windows(content.len()).position(|window| window == content).unwrap();
        for index in start..start + content.len() {
            for bit in [0x01, 0x20, 0x80] {
                let mut altered = bytes.clone();
                altered[index] ^= bit;
                assert!(!passes(&altered), "byte {index}");
                checked += 1;
            }
        }
    }
    assert!(checked > 3000, "{checked}");
}

#[test]
fn a_programs_signature_lies_beside_it_and_is_of_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resightd");
    let public = key(1).public();
    let message = || public.check_program(&path).unwrap_err().to_string();
    assert!(message().contains("cannot read"), "{}", message());
    fs::write(&path, b"\x7fELF program").unwrap();
    assert!(message().contains("resightd.sig, and a signature by key"), "{}", message());
    let beside = key(1).sign_program(&path).unwrap();
    assert_eq!(beside, signature_path(&path));
    public.check_program(&path).unwrap();
    let whole = fs::read(&beside).unwrap();
    for length in 0..whole.len() {
        fs::write(&beside, &whole[..length]).unwrap();
        assert!(message().contains("resightd: signature: "), "{}", message());
    }
    for index in 0..whole.len() {
        let mut altered = whole.clone();
        altered[index] ^= 1;
        fs::write(&beside, altered).unwrap();
        let error = message();
        assert!(error.contains("signature") || error.contains("signed"), "byte {index}: {error}");
    }
    fs::write(&beside, [b' '; 5000]).unwrap();
    assert!(message().contains("no regular file of up to 4 KiB"), "{}", message());
    key(2).sign_program(&path).unwrap();
    assert!(message().contains("signed it, not key"), "{}", message());
    key(1).sign_program(&path).unwrap();
    assert_eq!(fs::read(&beside).unwrap(), whole);
    fs::write(&path, b"\x7fELF Program").unwrap();
    assert!(message().contains("did not sign this content"), "{}", message());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(message().contains("not a regular file"), "{}", message());
    let error = key(1).sign_program(&path).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn truncated_and_foreign_signatures_are_refused() {
    let whole = signed(&key(1)).signature().unwrap().to_vec();
    let with = |signature: &[u8]| {
        let mut builder = builder();
        builder.set_signature(signature);
        archive(&builder)
    };
    with(&whole).check_signature(&key(1).public()).unwrap();
    for length in 0..whole.len() {
        let message = refused(with(&whole[..length]).check_signature(&key(1).public()));
        assert!(message.contains("signature: "), "{message}");
    }
    let text = String::from_utf8(whole).unwrap();
    let signature: Signature = serde_json::from_str(&text).unwrap();
    let alter = |change: &dyn Fn(&mut Signature)| {
        let mut signature = signature.clone();
        change(&mut signature);
        refused(with(&signature.to_json()).check_signature(&key(1).public()))
    };
    assert!(alter(&|s| s.signature.truncate(126)).contains("128 lower-case hexadecimal digits"));
    assert!(alter(&|s| s.signature.push('0')).contains("128 lower-case hexadecimal digits"));
    assert!(alter(&|s| s.signature = s.signature.to_uppercase()).contains("128 lower-case"));
    assert!(alter(&|s| s.signature = "00".repeat(64)).contains("did not sign"));
    assert!(alter(&|s| s.public_key.truncate(62)).contains("no ed25519 key"));
    // The neutral element: with such a key anybody could sign.
    assert!(alter(&|s| s.public_key = format!("01{}", "0".repeat(62))).contains("no ed25519 key"));
    assert!(alter(&|s| s.algorithm = "rsa".into()).contains("algorithm is rsa"));
    assert!(refused(with(text.trim_end().as_bytes()).signer()).contains("not written as resight writes it"));
}

#[test]
fn the_signature_is_that_of_rfc_8032() {
    // Section 7.1, test 2.
    let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let key = PrivateKey::from_text("k", &format!("resight-private-key-ed25519 {seed}")).unwrap();
    let signature = key.sign(&[0x72]);
    assert_eq!(signature.public_key, "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    assert_eq!(
        signature.signature,
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    );
    assert_eq!(signature.signer(&[0x72]), Ok(key.public()));
}

#[test]
fn key_files_are_read_back_and_confused_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (private, public) = (folder.path().join("k.key"), folder.path().join("k.pub"));
    fs::write(&private, key(1).to_text()).unwrap();
    fs::write(&public, key(1).public().to_text()).unwrap();
    assert_eq!(PublicKey::read(&public).unwrap(), key(1).public());
    let message = |error: ModelFileError| {
        let message = error.to_string();
        assert!(message.contains(folder.path().to_str().unwrap()), "{message}");
        message
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&private, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(message(PrivateKey::read(&private).unwrap_err()).contains("chmod 600"));
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&public, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(PrivateKey::read(&private).unwrap().public(), key(1).public());
    assert!(message(PublicKey::read(&private).unwrap_err()).contains("private key"));
    assert!(message(PrivateKey::read(&public).unwrap_err()).contains("public key"));
    assert!(message(PublicKey::read(folder.path()).unwrap_err()).contains("no regular file"));
    assert!(message(PublicKey::read(&folder.path().join("no")).unwrap_err()).contains("cannot read"));
    for text in ["", "resight-public-key-ed25519", "resight-public-key-ed25519 12", "hello there"] {
        fs::write(&public, text).unwrap();
        message(PublicKey::read(&public).unwrap_err());
    }
    assert!(!format!("{:?}", key(1)).contains("0101"), "a private key is never shown");
}

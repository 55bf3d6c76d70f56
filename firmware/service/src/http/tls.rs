//! Encryption: the user's certificate, or one of our own that is made once.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use super::settings::{HttpConfig, TlsConfig};
use crate::runtime;
use crate::secret::{Secret, small_file};

/// Names of our own files.
const CERTIFICATE: &str = "http_certificate.pem";
const KEY: &str = "http_key.pem";

/// Who the service is: certificates, its own first, and the key, both as PEM.
#[derive(PartialEq)]
pub(crate) struct Identity {
    certificates: Vec<u8>,
    key: Secret,
    name: String,
}

impl Identity {
    /// Reads what the configuration names; makes our own if it is not there yet.
    ///
    /// # Errors
    /// Files that cannot be read or written, or that hold something else.
    pub(crate) fn open(config: &HttpConfig) -> Result<Option<Self>> {
        let Some(tls) = &config.tls else { return Ok(None) };
        let identity = match tls {
            TlsConfig::Files { certificate, key } => Self::read(certificate, key)?,
            TlsConfig::Own => {
                let folder = runtime::state_directory().context(
                    "`output.tls` needs a folder for its certificate: set STATE_DIRECTORY, as systemd does, or HOME",
                )?;
                Self::own(&folder, &names(config))?
            }
        };
        Ok(Some(identity))
    }

    /// The one of a service that has been started before, wherever its state may be.
    ///
    /// # Errors
    /// A configuration without encryption, and a certificate that is not there.
    pub(crate) fn find(config: &HttpConfig) -> Result<Self> {
        match &config.tls {
            None => bail!("connections are not encrypted; `tls = true` in [output] does that"),
            Some(TlsConfig::Files { certificate, key }) => Self::read(certificate, key),
            Some(TlsConfig::Own) => {
                let folders = runtime::state_directories();
                let has = |folder: &&PathBuf| folder.join(CERTIFICATE).exists();
                let folder = folders.iter().find(has).with_context(|| {
                    format!("no certificate yet; the service makes it at its first start, in {folders:?}")
                })?;
                Self::read(&folder.join(CERTIFICATE), &folder.join(KEY))
            }
        }
    }

    fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let identity = Self {
            certificates: small_file(certificate)?,
            key: Secret::read(key)?,
            name: format!("{} and {}", certificate.display(), key.display()),
        };
        identity.server()?;
        Ok(identity)
    }

    /// The one in `folder`, which is made if it is not there.
    fn own(folder: &Path, names: &[String]) -> Result<Self> {
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        if !certificate.exists() || !key.exists() {
            let made = make(names)?;
            let written = fs::create_dir_all(folder)
                .and_then(|()| write(&key, &made.1, 0o600))
                .and_then(|()| write(&certificate, &made.0, 0o644));
            written
                .with_context(|| format!("{}: `output.tls` keeps its certificate here", folder.display()))?;
        }
        Self::read(&certificate, &key)
    }

    /// How to encrypt with it.
    ///
    /// # Errors
    /// No certificate, no key, or the key of another one.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>> {
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(&self.certificates).filter_map(Result::ok).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.text().as_bytes());
        let (false, Ok(key)) = (certificates.is_empty(), key) else {
            bail!("{}: a PEM file with the certificate and one with its private key are needed", self.name);
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .with_context(|| format!("{}: they do not belong together, or cannot be used", self.name))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// What a browser shows of the certificate: its SHA-256.
    pub(crate) fn fingerprint(&self) -> String {
        let certificate = CertificateDer::pem_slice_iter(&self.certificates).find_map(Result::ok);
        let digest = Sha256::digest(certificate.as_deref().unwrap_or_default());
        digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }
}

/// Names that a browser may know the service by.
fn names(config: &HttpConfig) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let host = host.trim();
    if !host.is_empty() && host.chars().all(is_plain) {
        names.extend([host.to_owned(), format!("{host}.local")]);
    }
    if !config.address.ip().is_unspecified() {
        names.push(config.address.ip().to_string());
    }
    names.extend(config.hosts.iter().filter(|host| host.chars().all(is_plain)).cloned());
    names.sort();
    names.dedup();
    names
}

/// A certificate for these names that signs itself, and its key. It holds for long, because a board
/// may not know the date.
fn make(names: &[String]) -> Result<(String, String)> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "resightd");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Writes a file at once, with these permissions from the beginning.
fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let new = path.with_extension("new");
    // One that an earlier attempt left may have other permissions.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn our_own_is_made_once_and_its_key_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let config =
            HttpConfig { hosts: vec!["board.example".into()], ..HttpConfig::at(([0, 0, 0, 0], 1).into()) };
        let names = names(&config);
        assert!(names.contains(&"board.example".into()) && !names.contains(&"0.0.0.0".into()), "{names:?}");
        let first = Identity::own(&folder, &names).unwrap();
        let again = Identity::own(&folder, &names).unwrap();
        assert!(first == again && first.fingerprint() == again.fingerprint());
        let mode = fs::metadata(folder.join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let fingerprint = first.fingerprint();
        assert!(fingerprint.len() == 95 && fingerprint.split(':').count() == 32, "{fingerprint}");
        fs::remove_file(folder.join(KEY)).unwrap();
        assert!(Identity::own(&folder, &names).unwrap() != first);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a", "b"] {
            let (certificate, key) = make(&["board.local".into()]).unwrap();
            fs::write(path(&format!("{name}.crt")), certificate).unwrap();
            fs::write(path(&format!("{name}.key")), key).unwrap();
        }
        Identity::read(&path("a.crt"), &path("a.key")).unwrap();
        let error = |certificate: &str, key: &str| {
            format!("{:#}", Identity::read(&path(certificate), &path(key)).err().unwrap())
        };
        assert!(error("a.crt", "b.key").contains("do not belong together"), "{}", error("a.crt", "b.key"));
        for (certificate, key) in [("a.key", "a.key"), ("a.crt", "a.crt")] {
            let error = error(certificate, key);
            assert!(
                error.contains("a PEM file with the certificate and one with its private key"),
                "{error}"
            );
        }
        assert!(error("none", "a.key").contains("none"));
    }
}

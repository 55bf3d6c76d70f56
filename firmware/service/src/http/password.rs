//! A password that people can remember, kept as its Argon2 hash.

use std::fmt;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::secret::Secret;
use crate::sync::lock;

/// Least characters of a password.
const LEAST: usize = 8;

/// Longest password in bytes: more would only take time.
const LONGEST: usize = 256;

/// Memory of a hash in KiB and rounds, as OWASP recommends for Argon2id where memory is short.
const MEMORY: u32 = 7 << 10;
const ROUNDS: u32 = 5;

/// What a hash of somebody else's may demand at most: this runs on small boards, for strangers too.
const MOST_MEMORY: u32 = 64 << 10;
const MOST_ROUNDS: u32 = 20;

/// The hash of a password, in the usual text (`$argon2id$v=19$…`).
pub(crate) struct Password {
    hash: String,
    salt: [u8; 32],
    /// The last right one by a fast hash with `salt`, which never leaves this process: who shows it
    /// with each request costs little.
    last: Mutex<Option<[u8; 32]>>,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Password {
    /// Reads a file that `resightd password` has made.
    ///
    /// # Errors
    /// A file that cannot be read or holds no such hash.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let secret = Secret::read(path)?;
        Self::of(secret.text()).with_context(|| path.display().to_string())
    }

    fn of(hash: &str) -> Result<Self> {
        let none = "no hash of a password; `resightd password` makes one";
        let parsed = PasswordHash::new(hash).map_err(|_| anyhow!(none))?;
        let params = Params::try_from(&parsed).map_err(|_| anyhow!(none))?;
        let is_whole = Algorithm::new(parsed.algorithm.as_str()).is_ok() && parsed.hash.is_some();
        ensure!(is_whole, none);
        if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_ROUNDS || params.p_cost() > 1 {
            bail!(
                "this hash costs more than {MOST_MEMORY} KiB, {MOST_ROUNDS} rounds and one thread; \
                 `resightd password` makes one for boards"
            );
        }
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| anyhow!("no random numbers: {error}"))?;
        Ok(Self { hash: hash.to_owned(), salt, last: Mutex::default() })
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// A password that is short or very long.
    pub(crate) fn hash(password: &str) -> Result<String> {
        ensure!(password.chars().count() >= LEAST, "the password needs {LEAST} or more characters");
        ensure!(password.len() <= LONGEST, "the password is longer than {LONGEST} bytes");
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| anyhow!("no random numbers: {error}"))?;
        let params = Params::new(MEMORY, ROUNDS, 1, None).map_err(|error| anyhow!("{error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt);
        Ok(hash.map_err(|error| anyhow!("{error}"))?.to_string())
    }

    /// Whether `given` is the last right one, which costs next to nothing.
    pub(crate) fn is_last(&self, given: &[u8]) -> bool {
        let last = *lock(&self.last);
        last.is_some_and(|last| bool::from(last.ct_eq(&self.fast(given))))
    }

    /// Whether `given` is the password. Costs some tenths of a second of a small board, and 7 MiB.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        let right =
            given.len() <= LONGEST && Argon2::default().verify_password(given, self.hash.as_str()).is_ok();
        if right {
            *lock(&self.last) = Some(self.fast(given));
        }
        right
    }

    fn fast(&self, given: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.salt).chain_update(given).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_password_matches() {
        let hash = Password::hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{hash}");
        assert_ne!(hash, Password::hash("correct horse").unwrap(), "without salt");
        let password = Password::of(&hash).unwrap();
        assert!(!password.is_last(b"correct horse"), "nobody has shown it");
        assert!(password.matches(b"correct horse") && password.is_last(b"correct horse"));
        for wrong in ["", "correct hors", "correct horse ", &"x".repeat(1000)] {
            assert!(!password.matches(wrong.as_bytes()) && !password.is_last(wrong.as_bytes()), "{wrong}");
        }
        assert!(password.is_last(b"correct horse"));
        assert_eq!(format!("{password:?}"), "Password");
    }

    #[test]
    fn a_hash_of_another_program_is_taken_and_what_is_none_refused() {
        // By argon2-cffi, which wraps the reference implementation.
        let reference = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$pfHDBkzTJeSGb9CkaX02MqeQm8kZ9elcFwI/2IL/vtk";
        assert!(Password::of(reference).unwrap().matches(b"secret-word"));
        for wrong in ["", "open sesame", "$2b$12$abcdefghijklmnopqrstuu", "$argon2id$v=19$m=64,t=1,p=1"] {
            let error = Password::of(wrong).unwrap_err().to_string();
            assert!(error.contains("resightd password"), "{error}");
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
        let costly = Password::hash("correct horse").unwrap().replace("m=7168", "m=9999999");
        let error = Password::of(&costly).unwrap_err().to_string();
        assert!(error.contains("65536 KiB"), "{error}");
        for (short, words) in [("1234567", "8 or more"), (&*"x".repeat(300), "longer than 256")] {
            assert!(Password::hash(short).unwrap_err().to_string().contains(words));
        }
    }
}

//! Ed25519 keys of references (RFC 8032), as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.

use std::path::{Path, PathBuf};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// What the DER of every Ed25519 public key begins with (RFC 8410).
const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Bytes of a public key.
const BYTES: usize = 32;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read, or holds no PEM of that kind.
    #[error("{}: {message}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why, and the mend.
        message: String,
    },
    /// It is a key of another kind.
    #[error("{} holds no Ed25519 key; `openssl genpkey -algorithm ed25519 -out FILE` makes one", .0.display())]
    OtherKind(PathBuf),
}

/// Signs references.
pub struct SigningKey(Ed25519KeyPair);

/// Verifies them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; BYTES]);

impl SigningKey {
    /// Reads a private key (PKCS#8, PEM).
    ///
    /// # Errors
    /// The file is none.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let key = PrivatePkcs8KeyDer::from_pem_file(path).map_err(|error| {
            let mend = "`openssl genpkey -algorithm ed25519 -out FILE` makes a private key";
            KeyError::Pem {
                path: path.to_owned(),
                message: format!("no private key in PEM: {error}; {mend}"),
            }
        })?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der())
            .map(Self)
            .map_err(|_| KeyError::OtherKind(path.to_owned()))
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        let mut bytes = [0; BYTES];
        bytes.iter_mut().zip(self.0.public_key().as_ref()).for_each(|(to, from)| *to = *from);
        VerifyingKey(bytes)
    }

    /// The signature of a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

impl VerifyingKey {
    /// Reads a public key (SubjectPublicKeyInfo, PEM).
    ///
    /// # Errors
    /// The file is none.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let key = SubjectPublicKeyInfoDer::from_pem_file(path).map_err(|error| {
            let mend = "`openssl pkey -in PRIVATE -pubout -out FILE` writes the public key of a private one";
            KeyError::Pem { path: path.to_owned(), message: format!("no public key in PEM: {error}; {mend}") }
        })?;
        let bytes = key.as_ref().strip_prefix(&PREFIX).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| KeyError::OtherKind(path.to_owned()))
    }

    /// Whether `signature` is one of `message` by the owner of this key.
    #[must_use]
    pub fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }

    /// What it is written down as.
    #[must_use]
    pub fn hexadecimal(&self) -> String {
        hex::encode(self.0)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A key pair as files, by what openssl 3 writes.
    pub const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    pub const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn what_one_key_signs_its_own_public_key_verifies_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let [private, public] = ["private", "public"].map(|name| folder.path().join(name));
        std::fs::write(&private, PRIVATE).unwrap();
        std::fs::write(&public, PUBLIC).unwrap();
        let (signing, verifying) =
            (SigningKey::read(&private).unwrap(), VerifyingKey::read(&public).unwrap());
        assert_eq!(signing.verifying(), verifying, "they are one pair (RFC 8032, 7.1, test 1)");
        let signature = signing.sign(b"word");
        assert!(verifying.holds(b"word", &signature), "its own");
        assert!(!verifying.holds(b"another", &signature), "another message");
        assert!(!VerifyingKey([9; BYTES]).holds(b"word", &signature), "another key");
    }

    #[test]
    fn files_that_hold_no_such_key_are_refused_with_the_mend() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, PRIVATE).unwrap();
        let refused = VerifyingKey::read(&path).unwrap_err().to_string();
        assert!(refused.contains("openssl pkey"), "a private key where a public one belongs: {refused}");
        std::fs::write(&path, PUBLIC).unwrap();
        assert!(SigningKey::read(&path).is_err(), "and the other way round");
        let rsa = PUBLIC.replace("MCowBQYDK2Vw", "MCowBQYDK2Vu");
        std::fs::write(&path, rsa).unwrap();
        let refused = VerifyingKey::read(&path).unwrap_err().to_string();
        assert!(refused.contains("no Ed25519 key"), "a key of another kind: {refused}");
    }
}

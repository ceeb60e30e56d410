//! Certificates and keys: a file that TLS could not use is refused here, before anything listens.

use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::files;

/// Refuses a chain file without a usable certificate.
pub(crate) fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = files::bytes(file)?;
    let chain: Result<Vec<_>, Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(format!(
            "{} holds no certificate; a PEM file has \"-----BEGIN CERTIFICATE-----\" lines",
            file.display()
        )),
        Ok(chain) => Ok(chain),
        Err(error) => Err(not_pem(file, &error)),
    }
}

/// Refuses a key file without a private key.
pub(crate) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&files::bytes(file)?).map_err(|error| match error {
        Error::NoItemsFound => format!(
            "{} holds no private key; a PEM file has a \"-----BEGIN PRIVATE KEY-----\" line, and an encrypted key must be decrypted first",
            file.display()
        ),
        error => not_pem(file, &error),
    })
}

/// What keeps TLS from using a chain with a key, and whether it lies with the chain (rather than with the key).
pub(crate) enum Unusable {
    /// The leaf is no certificate.
    Chain(String),
    /// The key is of an unknown kind, or another certificate's.
    Key(String),
}

/// Refuses a key that is not the leaf's.
pub(crate) fn matching(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<(), Unusable> {
    let provider = ring::default_provider();
    let signing = provider.key_provider.load_private_key(key).map_err(|_| {
        Unusable::Key(
            "this kind of private key is unknown; RSA, ECDSA (P-256, P-384) and Ed25519 are supported".into(),
        )
    })?;
    match CertifiedKey::new(chain, signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Unusable::Key("this private key belongs to another certificate; the chain begins with the certificate of the key".into()))
        }
        Err(error) => Err(Unusable::Chain(format!("the first certificate is broken ({error})"))),
    }
}

/// Refuses a file without authorities to believe.
pub(crate) fn authorities(file: &Path) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for authority in chain(file)? {
        roots
            .add(authority)
            .map_err(|error| format!("{} holds a broken certificate ({error})", file.display()))?;
    }
    Ok(())
}

/// No byte of the file is shown: it may be a key.
fn not_pem(file: &Path, error: &Error) -> String {
    let what = match error {
        Error::MissingSectionEnd { .. } => "a section has no \"-----END\" line",
        Error::IllegalSectionStart { .. } => "a \"-----BEGIN\" line is broken",
        Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read",
    };
    format!("{} is not PEM: {what}", file.display())
}

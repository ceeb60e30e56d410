//! TLS 1.2 and 1.3 as a server, with certificates that can be changed while it runs.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use checkgate_config::settings::{CertificateFiles, ClientCertificate, Tls};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::socket::Socket;

/// HTTP/2 in ALPN (RFC 9113, 3.2).
pub const ALPN_HTTP2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN (RFC 7301, 6).
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file that holds no certificate.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate that is none, or that its key does not fit.
    #[error("{} and its key cannot be used", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Authorities that no certificate can be checked against.
    #[error("{} cannot be used to check client certificates", path.display())]
    Authorities {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The settings of the protocol itself: a mistake of the build.
    #[error("TLS 1.2 and 1.3 cannot be set up")]
    Protocol(#[from] rustls::Error),
}

/// What handshakes are made with; it can be changed between two of them.
#[derive(Debug)]
pub struct TlsHandle {
    config: ArcSwap<ServerConfig>,
}

impl TlsHandle {
    /// Reads the files.
    ///
    /// # Errors
    /// A file is missing or holds something else.
    pub fn new(settings: &Tls) -> Result<Self, TlsError> {
        Ok(Self { config: ArcSwap::from(server_config(settings)?) })
    }

    /// Reads the files again: handshakes from now on use them, open connections go on. Sessions of before are not
    /// resumed, so that no client gets by a change of authorities.
    ///
    /// # Errors
    /// A file is missing or holds something else; what was in use stays in use.
    pub fn reload(&self, settings: &Tls) -> Result<(), TlsError> {
        self.config.store(server_config(settings)?);
        Ok(())
    }

    /// Shakes hands.
    pub(super) async fn accept(&self, session: Socket) -> io::Result<TlsStream<Socket>> {
        TlsAcceptor::from(self.config.load_full()).accept(session).await
    }
}

/// Whether `error` is TLS's own and not that of the connection under it.
pub fn is_handshake_failure(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// SHA-256 of the public key (`SubjectPublicKeyInfo`) in a certificate: it stays when the certificate is renewed.
#[must_use]
pub fn public_key_hash(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let digest = ::ring::digest::digest(&::ring::digest::SHA256, certificate.public_key().raw);
    digest.as_ref().try_into().ok()
}

/// The names of whoever a certificate is for: DNS names in lower case and URIs among its alternative names, and its
/// common name.
#[must_use]
pub fn certificate_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, leaf)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let alternatives = leaf.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.iter().flat_map(|names| &names.value.general_names);
    let named = alternatives.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    let common = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok().map(str::to_owned));
    named.chain(common).collect()
}

fn server_config(settings: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let certificates = Arc::new(Certificates::read(&settings.certificates, &provider)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            builder.with_client_cert_verifier(verifier(path, settings.client_certificate, provider)?)
        }
    };
    let mut config = builder.with_cert_resolver(certificates);
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(Arc::new(config))
}

fn verifier(
    path: &Path,
    wanted: ClientCertificate,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |reason: String| TlsError::Authorities { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for authority in certificates_in(path)? {
        roots.add(authority).map_err(|error| unusable(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match wanted {
        ClientCertificate::Required => builder,
        ClientCertificate::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| unusable(error.to_string()))
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read { path: path.to_owned(), source };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(read)?.collect();
    let certificates = certificates.map_err(read)?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

/// Certificates by the names in them.
#[derive(Debug)]
struct Certificates {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    fn read(files: &[CertificateFiles], provider: &CryptoProvider) -> Result<Self, TlsError> {
        let mut read = Self { by_name: HashMap::new(), first: None };
        for pair in files {
            let certificate = Arc::new(certified_key(pair, provider)?);
            for name in names(&certificate) {
                read.by_name.entry(name).or_insert_with(|| Arc::clone(&certificate));
            }
            read.first.get_or_insert(certificate);
        }
        Ok(read)
    }

    /// The one for a name: with the name itself, with a wildcard in place of its first label, or the first.
    fn of(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.map(str::to_ascii_lowercase).and_then(|name| {
            let (_, parent) = name.split_once('.').unwrap_or_default();
            self.by_name.get(&name).or_else(|| self.by_name.get(&format!("*.{parent}")))
        });
        named.or(self.first.as_ref()).map(Arc::clone)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.of(hello.server_name())
    }
}

fn certified_key(pair: &CertificateFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates_in(&pair.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&pair.key)
        .map_err(|source| TlsError::Read { path: pair.key.clone(), source })?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| TlsError::Unusable { path: pair.certificate.clone(), source })
}

/// The DNS names that a certificate is for, in lower case.
fn names(certificate: &CertifiedKey) -> Vec<String> {
    let parsed = certificate.end_entity_cert().ok().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let Some((_, leaf)) = parsed else { return Vec::new() };
    let Ok(Some(alternatives)) = leaf.subject_alternative_name() else { return Vec::new() };
    let names = alternatives.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

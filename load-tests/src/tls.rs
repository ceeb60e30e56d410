//! Certificates of a test's own, and TLS clients that choose what they offer.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Both versions that are served.
pub const BOTH_VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

/// An authority, with a folder for what it issues.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate and its key, as files and as bytes.
#[derive(Debug)]
pub struct Issued {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// The certificate itself.
    pub der: CertificateDer<'static>,
    pair: KeyPair,
}

impl Authority {
    /// A new authority that nobody else believes.
    ///
    /// # Errors
    /// Where no key can be made or no folder written.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("authority.crt"), issuer.pem())?;
        Ok(Self { issuer, folder })
    }

    /// Its own certificate (PEM).
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("authority.crt")
    }

    /// Issues a certificate for `names` into `file.crt` and `file.key`; a second time with another key.
    ///
    /// # Errors
    /// Where a name is none or a file cannot be written.
    pub fn issue(&self, file: &str, names: &[&str]) -> anyhow::Result<Issued> {
        let pair = KeyPair::generate()?;
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let signed = CertificateParams::new(names)?.signed_by(&pair, &self.issuer)?;
        let path = |end: &str| self.folder.path().join(format!("{file}.{end}"));
        let issued = Issued { certificate: path("crt"), key: path("key"), der: signed.der().clone(), pair };
        write_whole(&issued.certificate, &signed.pem())?;
        write_whole(&issued.key, &issued.pair.serialize_pem())?;
        Ok(issued)
    }

    /// A client that believes this authority, offers `alpn` and `versions`, and shows `own` if it has one.
    ///
    /// # Errors
    /// Where the key does not fit.
    pub fn client(
        &self,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Issued>,
    ) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
        let builder = builder.with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.pair.serialize_der()));
                builder.with_client_auth_cert(vec![own.der.clone()], key)?
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(config)
    }
}

/// Puts a file in place at once: nobody reads half of it.
fn write_whole(path: &Path, content: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, content)?;
    fs::rename(beside, path)
}

/// Connects and shakes hands. With TLS 1.3 a client's certificate is judged after this: read to hear of it.
///
/// # Errors
/// Where the handshake fails.
pub async fn connect(
    address: SocketAddr,
    config: ClientConfig,
    name: &str,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).context("no server name")?;
    let stream = TcpStream::connect(address).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// The certificate that the server showed.
#[must_use]
pub fn shown(stream: &TlsStream<TcpStream>) -> Option<CertificateDer<'static>> {
    Some(stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned())
}

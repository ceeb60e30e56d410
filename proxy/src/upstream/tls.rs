//! TLS towards servers: who is believed, and what is shown of this proxy.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use checkgate_config::settings::{HttpVersion, UpstreamTls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The configuration of all TLS connections to the servers of one upstream.
///
/// # Errors
/// Names the file that cannot be read or does not hold what it should.
pub fn config(settings: &UpstreamTls, http: HttpVersion) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if settings.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptsAny(provider)))
    } else {
        builder.with_root_certificates(roots(settings.ca.as_deref())?)
    };
    let mut config = match &settings.certificate {
        Some(own) => builder
            .with_client_auth_cert(certificates(&own.certificate)?, key(&own.key)?)
            .with_context(|| format!("{} and {}", own.certificate.display(), own.key.display()))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(http);
    Ok(Arc::new(config))
}

/// What is offered in the handshake, the first choice first (RFC 7301).
fn protocols(http: HttpVersion) -> Vec<Vec<u8>> {
    let names: &[&[u8]] = match http {
        HttpVersion::Auto => &[b"h2", b"http/1.1"],
        HttpVersion::Http1 => &[b"http/1.1"],
        HttpVersion::Http2 => &[b"h2"],
    };
    names.iter().map(|name| name.to_vec()).collect()
}

fn roots(ca: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca else {
        let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ensure!(added > 0, "this system has no certificate authorities; name a file with tls.ca");
        return Ok(roots);
    };
    for certificate in certificates(file)? {
        roots.add(certificate).with_context(|| format!("{}", file.display()))?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.with_context(|| format!("{} holds no certificates in PEM", file.display()))?;
    ensure!(!certificates.is_empty(), "{} holds no certificate", file.display());
    Ok(certificates)
}

fn key(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file)
        .with_context(|| format!("{} holds no private key in PEM", file.display()))
}

/// Believes any certificate, for the operator said `insecure`; that the server holds its key is still checked.
#[derive(Debug)]
struct AcceptsAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptsAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

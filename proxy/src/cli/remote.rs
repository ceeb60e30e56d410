//! Asking a running checkgate: where it is, which token opens it, one request and its answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use checkgate_config::Raw;
use clap::Args;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::serve::Source;
use crate::{state, told};

/// Longer than a running checkgate takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer answer is none of ours.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The environment variable that may hold the token.
const TOKEN: &str = "CHECKGATE_ADMIN_TOKEN";

/// Which checkgate, and what opens it. The token is taken from --token-file, from the environment variable
/// CHECKGATE_ADMIN_TOKEN, from the configuration, or from the file admin.token in the state folder, in this order.
#[derive(Args, Clone, Debug)]
pub struct Remote {
    /// Admin listener of the running checkgate: HOST:PORT or https://HOST:PORT [default: the configuration's, or
    /// 127.0.0.1:8766].
    #[arg(long, value_name = "URL", help_heading = "Which checkgate")]
    admin: Option<String>,
    /// Its configuration file, where its address, state folder and token are looked up.
    #[arg(short = 'c', long, value_name = "FILE", help_heading = "Which checkgate")]
    config: Option<PathBuf>,
    /// Its state folder, for the token in it [default: the configuration's, or checkgate-state].
    #[arg(long, value_name = "DIR", help_heading = "Which checkgate")]
    state: Option<PathBuf>,
    /// File that holds the token.
    #[arg(long, value_name = "FILE", help_heading = "Which checkgate")]
    token_file: Option<PathBuf>,
    /// Authorities (PEM) that its certificate is checked against, instead of the system's.
    #[arg(long, value_name = "FILE", help_heading = "Which checkgate")]
    ca: Option<PathBuf>,
    /// Certificate (PEM) to show to it.
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "Which checkgate")]
    certificate: Option<PathBuf>,
    /// Private key (PEM) of that certificate.
    #[arg(long, value_name = "FILE", requires = "certificate", help_heading = "Which checkgate")]
    key: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// A checkgate that was found.
pub struct Found {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    base: String,
    token: Option<String>,
    remote: Remote,
}

impl Remote {
    /// The checkgate that `config` describes.
    #[must_use]
    pub fn of(config: &Path, token_file: Option<PathBuf>, ca: Option<PathBuf>) -> Self {
        Self {
            admin: None,
            config: Some(config.to_owned()),
            state: None,
            token_file,
            ca,
            certificate: None,
            key: None,
            json: true,
        }
    }

    /// GET of any text.
    ///
    /// # Errors
    /// No answer comes, or a problem.
    pub fn text(&self, path: &str) -> anyhow::Result<String> {
        let found = self.find()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let asked = async { text(found.open(Method::GET, path, None).await?).await };
            let asked = tokio::time::timeout(PATIENCE, asked).await;
            asked.with_context(|| format!("{} did not answer", found.base))?
        })
    }

    /// Asks with a request that has an answer of JSON, or none.
    ///
    /// # Errors
    /// No answer comes, or a problem.
    pub fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let found = self.find()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let asked = tokio::time::timeout(PATIENCE, found.whole(method, path, body)).await;
            asked.with_context(|| format!("{} did not answer", found.base))?
        })
    }

    /// GET of JSON.
    ///
    /// # Errors
    /// No answer comes, or a problem.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None)
    }

    /// GET of text.
    ///
    /// # Errors
    /// No answer comes, or a problem.
    pub fn read(&self, path: &str) -> anyhow::Result<String> {
        let found = self.find()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let asked = async { text(found.open(Method::GET, path, None).await?).await };
            let asked = tokio::time::timeout(PATIENCE, asked).await;
            asked.with_context(|| format!("{} did not answer", found.base))?
        })
    }

    /// Where it is, and with what.
    ///
    /// # Errors
    /// The configuration or a file that was named cannot be read.
    pub fn find(&self) -> anyhow::Result<Found> {
        let settings = match &self.config {
            Some(file) => Some(Source { file: Some(file.clone()), flags: Raw::default() }.read().settings?),
            None => None,
        };
        let admin = settings.as_ref().map(|settings| &settings.admin);
        let address = self.admin.clone().or_else(|| {
            let scheme = if admin?.tls.is_some() { "https" } else { "http" };
            Some(format!("{scheme}://{}", admin?.listen))
        });
        let address = address.unwrap_or_else(|| "127.0.0.1:8766".to_owned());
        let base = if address.contains("://") { address } else { format!("http://{address}") };
        let state = self.state.clone().or_else(|| Some(settings.as_ref()?.state.clone()));
        let configured = admin.and_then(|admin| admin.token.as_ref()).map(|token| token.reveal().to_owned());
        let token = self.token(configured, &state.unwrap_or_else(|| "checkgate-state".into()))?;
        Ok(Found { base: base.trim_end_matches('/').to_owned(), token, remote: self.clone() })
    }

    /// The state folder that was named, or the configuration's.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub fn state_folder(&self) -> anyhow::Result<PathBuf> {
        let configured = match &self.config {
            Some(file) => {
                Some(Source { file: Some(file.clone()), flags: Raw::default() }.read().settings?.state)
            }
            None => None,
        };
        Ok(self.state.clone().or(configured).unwrap_or_else(|| "checkgate-state".into()))
    }

    fn token(&self, configured: Option<String>, state: &Path) -> anyhow::Result<Option<String>> {
        if let Some(file) = &self.token_file {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            return Ok(Some(text.trim().to_owned()));
        }
        let told = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
        Ok(told.or(configured).or_else(|| state::admin_token_in(state).ok()))
    }

    fn tls(&self) -> anyhow::Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        let authorities = match &self.ca {
            Some(file) => certificates(file)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        roots.add_parsable_certificates(authorities);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let key = PrivateKeyDer::from_pem_file(key)
                    .with_context(|| format!("cannot read {}", key.display()))?;
                config.with_client_auth_cert(certificates(certificate)?, key)?
            }
            _ => config.with_no_client_auth(),
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.with_context(|| format!("cannot read {}", file.display()))
}

impl Found {
    /// Sends one request; gives its answer as soon as its head is there. Problems are errors.
    ///
    /// # Errors
    /// No answer comes, or a problem.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let target: Uri = format!("{}{path}", self.base)
            .parse()
            .with_context(|| format!("{} is no address; write HOST:PORT", self.base.escape_debug()))?;
        let mut request =
            Request::builder().method(method).uri(target.path_and_query().map_or("/", |at| at.as_str()));
        request = request.header(header::HOST, target.authority().map_or("", |host| host.as_str()));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = request.body(Full::new(body))?;
        let response = self.send(&target, request).await.with_context(|| {
            format!("no checkgate answers at {}; name its admin listener with --admin", self.base)
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = text(response).await.unwrap_or_default();
        bail!("{} answered {status}: {}{}", self.base, told::detail(&text), self.hint(status))
    }

    /// What helps where the token is missing.
    fn hint(&self, status: StatusCode) -> String {
        let missing = status == StatusCode::UNAUTHORIZED && self.token.is_none();
        let words = format!("; this command found no token: give --token-file, set {TOKEN}, or name --state");
        if missing { words } else { String::new() }
    }

    async fn whole(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let response = self.open(method, path, body).await?;
        let text = text(response).await?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{} answers something else than JSON", self.base))
    }

    async fn send(&self, target: &Uri, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let secure = target.scheme_str() == Some("https");
        let host = target.host().context("the address names no host")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = target.port_u16().unwrap_or(if secure { 443 } else { 8766 });
        let stream = TcpStream::connect((bare, port)).await?;
        if !secure {
            return exchange(stream, request).await;
        }
        let name = ServerName::try_from(bare.to_owned())?;
        exchange(self.remote.tls()?.connect(name, stream).await?, request).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The connection's end is told by the answer's.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn text(response: Response<Incoming>) -> anyhow::Result<String> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// A part of a path or query with everything else than letters, digits and `-._~` percent-encoded (RFC 3986, 2.3).
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A query of what was given.
#[must_use]
pub fn query(given: &[(&str, Option<String>)]) -> String {
    let pairs = given.iter().filter_map(|(key, value)| Some(format!("{key}={}", encoded(value.as_deref()?))));
    let joined = pairs.collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_path_is_encoded() {
        assert_eq!(encoded("2001:db8::/32 ü"), "2001%3Adb8%3A%3A%2F32%20%C3%BC");
        assert_eq!(query(&[("a", None)]), "");
        assert_eq!(
            query(&[("a", Some("1 2".into())), ("b", None), ("c", Some("&".into()))]),
            "?a=1%202&c=%26"
        );
    }
}

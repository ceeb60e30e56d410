//! A client with an address of its own: loopback has sixteen million of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpSocket;

use crate::{Body, whole, within};

/// One HTTP/1.1 client on one kept connection; it connects again where the server closed it.
#[derive(Debug)]
pub struct Client {
    server: SocketAddr,
    source: IpAddr,
    headers: HeaderMap,
    connection: Option<SendRequest<Body>>,
    connections: usize,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Trailers after the body.
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// Shows a body that is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("{} is not JSON", self.text()))
    }

    /// The body as text, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, or nothing where it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Client {
    /// A client of `server` with the address 127.0.0.1.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self { server, source, headers: HeaderMap::new(), connection: None, connections: 0 }
    }

    /// The same client at another address of this machine; a text that is no address leaves it where it is.
    #[must_use]
    pub fn from(mut self, source: &str) -> Self {
        self.source = source.parse().unwrap_or(self.source);
        self
    }

    /// The same client with a header on every request, such as an API key.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.insert(name, value);
        }
        self
    }

    /// How many connections it took so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Sends a request; the answer's head is there, its body is still to be read.
    ///
    /// # Errors
    /// Where the connection fails before the head is whole.
    pub async fn open(&mut self, mut request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        request.headers_mut().entry(header::HOST).or_insert(self.server.to_string().parse()?);
        let connection = self.connection().await?;
        Ok(connection.send_request(request).await?)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Where the answer is not whole in time.
    pub async fn send(&mut self, request: Request<Body>) -> anyhow::Result<Reply> {
        let (head, body) = within("the head of an answer", self.open(request)).await??.into_parts();
        let collected = within("the end of an answer", body.collect()).await?;
        let collected = collected.with_context(|| format!("{} without its body", head.status))?;
        let trailers = collected.trailers().cloned();
        Ok(Reply { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers })
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// Where the answer is not whole.
    pub async fn post(&mut self, path: &str, json: impl Into<Bytes>) -> anyhow::Result<Reply> {
        self.send(post(path, whole(json))?).await
    }

    /// GET.
    ///
    /// # Errors
    /// Where the answer is not whole.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Reply> {
        self.send(Request::builder().uri(path).body(whole(""))?).await
    }

    /// Any method, without a body.
    ///
    /// # Errors
    /// Where the answer is not whole.
    pub async fn call(&mut self, method: Method, path: &str) -> anyhow::Result<Reply> {
        self.send(Request::builder().method(method).uri(path).body(whole(""))?).await
    }

    async fn connection(&mut self) -> anyhow::Result<&mut SendRequest<Body>> {
        let usable = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.connection = Some(connect(self.source, self.server).await?);
            self.connections += 1;
        }
        self.connection.as_mut().ok_or_else(|| anyhow!("no connection"))
    }
}

/// A POST request for JSON.
///
/// # Errors
/// Where the path is no path.
pub fn post(path: &str, body: Body) -> http::Result<Request<Body>> {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
}

async fn connect(source: IpAddr, server: SocketAddr) -> anyhow::Result<SendRequest<Body>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(server).await.with_context(|| format!("{source} cannot reach {server}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The connection's own error also reaches the sender, which reports it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

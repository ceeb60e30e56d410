//! hyper with nothing on top: one thread, HTTP/1.1 on both sides, a pooled client. What a proxy on hyper costs at the
//! least.
//!
//! `bare-hyper LISTEN UPSTREAM`, both as ADDRESS:PORT.

use std::net::SocketAddr;

use anyhow::Context;
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

type Upstream = Client<HttpConnector, Incoming>;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr = arguments.next().context("LISTEN is missing")?.parse()?;
    let upstream: Authority = arguments.next().context("UPSTREAM is missing")?.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(listen, upstream))
}

async fn serve(listen: SocketAddr, upstream: Authority) -> anyhow::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, upstream) = (client.clone(), upstream.clone());
        let service = service_fn(move |request| forward(client.clone(), upstream.clone(), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn forward(
    client: Upstream,
    upstream: Authority,
    mut request: Request<Incoming>,
) -> anyhow::Result<Response<Incoming>> {
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(upstream);
    *request.uri_mut() = Uri::from_parts(uri)?;
    request.headers_mut().remove(header::CONNECTION);
    match client.request(request).await {
        Ok(response) => Ok(response),
        Err(error) => Err(error).context(StatusCode::BAD_GATEWAY),
    }
}

//! One client's way to the prices: its own key, its own connections, every exchange reported.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::event::{Event, Events, Exchange, Reply, Role};
use super::model_server::{INFER_PATH, InferRequest, InferResponse, KEY_HEADER};
use super::tariff::Quote;

/// An exchange that takes longer has failed.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// A longer answer is not read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Person {
    /// Its name on the terminal.
    pub name: Arc<str>,
    /// Its API key.
    pub key: String,
    /// On which side it is.
    pub role: Role,
}

/// A client with its connections.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who asks.
    pub person: Person,
    server: SocketAddr,
    path: &'static str,
    http: Client<HttpConnector, Full<Bytes>>,
    events: Events,
}

impl Caller {
    /// `person` asking `server`, which is the proxy or, in tests, the model itself.
    #[must_use]
    pub fn new(person: Person, server: SocketAddr, events: Events) -> Self {
        Self { person, server, path: INFER_PATH, http: http_client(), events }
    }

    /// The same at another model's path.
    #[must_use]
    pub fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    /// Asks for the prices of `quotes`, and reports the exchange; `question` says it in words.
    ///
    /// # Errors
    /// Fails where no answer came at all: refusals are answers.
    pub async fn ask(&self, quotes: &[Quote], question: String) -> anyhow::Result<Reply> {
        let reply = self.prices(quotes).await?;
        let exchange = Exchange {
            client: Arc::clone(&self.person.name),
            role: self.person.role,
            question,
            rows: quotes.len(),
            reply: reply.clone(),
        };
        // Nobody listens any more once the story is told.
        let _ = self.events.send(Event::Exchanged(exchange)).await;
        Ok(reply)
    }

    /// Asks for the prices of `quotes`, and tells nobody.
    ///
    /// # Errors
    /// Fails where no answer came at all: refusals are answers.
    pub async fn prices(&self, quotes: &[Quote]) -> anyhow::Result<Reply> {
        let response = tokio::time::timeout(EXCHANGE_DEADLINE, self.send(quotes)).await;
        response.with_context(|| format!("{} got no answer in time", self.person.name))?
    }

    /// Tells the narrator what this client is up to.
    pub async fn say(&self, text: impl Into<String>) {
        let event = Event::Said { client: Arc::clone(&self.person.name), text: text.into() };
        let _ = self.events.send(event).await;
    }

    async fn send(&self, quotes: &[Quote]) -> anyhow::Result<Reply> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{}", self.server, self.path))
            .header(KEY_HEADER, &self.person.key)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::from(serde_json::to_vec(&InferRequest::of(quotes))?))?;
        let response = self.http.request(request).await.context("the connection failed")?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
        Ok(read_reply(head.status, &head.headers, &body))
    }
}

/// A plain HTTP/1.1 client.
#[must_use]
pub fn http_client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn read_reply(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Reply {
    match status {
        StatusCode::OK => read_prices(body),
        StatusCode::UNPROCESSABLE_ENTITY => Reply::Refused(problem(body, "title")),
        StatusCode::FORBIDDEN => {
            Reply::Blocked { decision: problem(body, "decision_id"), retry_after: retry_after(headers) }
        }
        other => Reply::Failed(other.as_u16(), beginning(body)),
    }
}

fn read_prices(body: &[u8]) -> Reply {
    let answer = serde_json::from_slice::<InferResponse>(body).ok();
    let prices = answer.and_then(|answer| answer.outputs.into_iter().next()).map(|tensor| tensor.data);
    prices.map_or_else(|| Reply::Failed(200, beginning(body)), Reply::Prices)
}

/// One text of a problem document (RFC 9457); empty where it is absent.
fn problem(body: &[u8], key: &str) -> String {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn retry_after(headers: &HeaderMap) -> String {
    let value = headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_with_its_decision_and_its_time() {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, "900".parse().unwrap())]);
        let body = br#"{"status":403,"decision_id":"d-00f3a2b1c4d5e6f7"}"#;
        let blocked = Reply::Blocked { decision: "d-00f3a2b1c4d5e6f7".into(), retry_after: "900".into() };
        assert_eq!(read_reply(StatusCode::FORBIDDEN, &headers, body), blocked);
    }

    #[test]
    fn an_answer_without_prices_is_a_failure() {
        let reply = read_reply(StatusCode::OK, &HeaderMap::new(), b"<html>");
        assert_eq!(reply, Reply::Failed(200, "<html>".into()));
    }
}

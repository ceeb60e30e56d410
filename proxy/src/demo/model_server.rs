//! A model server that speaks the Open Inference Protocol v2 over HTTP/1.1.
//!
//! <https://github.com/kserve/open-inference-protocol>: inference and health, as far as one tabular model needs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::event::{Event, Events};
use super::regression::Regression;
use super::tariff::{FIELDS, NAMES, Quote};

/// The name under which the model is served.
pub const MODEL: &str = "pricing";
/// Where quotes are priced.
pub const INFER_PATH: &str = "/v2/models/pricing/infer";
/// The name under which the same model is asked for renewals.
pub const RENEWALS: &str = "renewals";
/// Where renewals are priced.
pub const RENEWALS_PATH: &str = "/v2/models/renewals/infer";
/// The header that carries an API key.
pub const KEY_HEADER: &str = "x-api-key";

/// A longer request body is refused.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A running model server; it stops when this is dropped.
#[derive(Debug)]
pub struct ModelServer {
    /// Where it listens.
    pub address: SocketAddr,
    served: Arc<Served>,
    _connections: JoinSet<()>,
}

/// The model, who may ask it, and what it did so far.
#[derive(Debug)]
struct Served {
    model: Regression,
    /// Names of the clients by API key.
    clients: HashMap<String, Arc<str>>,
    rows: AtomicU64,
    negative_prices: AtomicU64,
    events: Events,
}

/// What the model did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServedCounts {
    /// Quotes priced.
    pub rows: u64,
    /// Prices below zero among them.
    pub negative_prices: u64,
}

/// An inference request of the protocol.
#[derive(Debug, Serialize, Deserialize)]
pub struct InferRequest {
    /// The input tensors; this model takes one for each field of a quote, in their order.
    pub inputs: Vec<Tensor>,
}

/// An inference response of the protocol.
#[derive(Debug, Serialize, Deserialize)]
pub struct InferResponse {
    /// The model that answered.
    pub model_name: String,
    /// Its version.
    pub model_version: String,
    /// The output tensors; this model gives one.
    pub outputs: Vec<Tensor>,
}

/// A tensor of the protocol, its data flat and row-major.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Rows, then columns.
    pub shape: Vec<usize>,
    /// The type of its elements.
    pub datatype: String,
    /// The elements.
    pub data: Vec<f64>,
}

impl InferRequest {
    /// A tensor of shape `[quotes, 1]` for each field.
    #[must_use]
    pub fn of(quotes: &[Quote]) -> Self {
        let column = |field: usize| quotes.iter().filter_map(|quote| quote.get(field).copied()).collect();
        let inputs = NAMES.iter().enumerate().map(|(field, name)| Tensor::column(name, column(field)));
        Self { inputs: inputs.collect() }
    }

    /// The quotes, or what is wrong with the request.
    fn quotes(&self) -> Result<Vec<Quote>, String> {
        if !self.inputs.iter().map(|tensor| tensor.name.as_str()).eq(NAMES) {
            return Err(format!("one tensor is expected for each of {}", NAMES.join(", ")));
        }
        let rows = self.inputs.first().map_or(0, |tensor| tensor.data.len());
        if let Some(odd) = self.inputs.iter().find(|tensor| !tensor.is_column(rows)) {
            return Err(format!(
                "{} is not an FP64 tensor of shape [{rows}, 1] with as many elements",
                odd.name
            ));
        }
        let mut quotes = vec![[0.0; FIELDS]; rows];
        for (field, tensor) in self.inputs.iter().enumerate() {
            let cells = quotes.iter_mut().filter_map(|quote| quote.get_mut(field));
            cells.zip(&tensor.data).for_each(|(cell, value)| *cell = *value);
        }
        Ok(quotes)
    }
}

impl Tensor {
    fn column(name: &str, data: Vec<f64>) -> Self {
        Self { name: name.to_owned(), shape: vec![data.len(), 1], datatype: "FP64".to_owned(), data }
    }

    fn is_column(&self, rows: usize) -> bool {
        self.datatype == "FP64" && self.shape == [rows, 1] && self.data.len() == rows
    }
}

impl ModelServer {
    /// Serves `model` on a free loopback port to whoever brings a key of `clients`.
    ///
    /// # Errors
    /// Fails where no loopback port can be opened.
    pub async fn start(
        model: Regression,
        clients: HashMap<String, Arc<str>>,
        events: Events,
    ) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("no loopback port for the model server")?;
        let address = listener.local_addr()?;
        let rows = AtomicU64::new(0);
        let negative_prices = AtomicU64::new(0);
        let served = Arc::new(Served { model, clients, rows, negative_prices, events });
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, Arc::clone(&served)));
        Ok(Self { address, served, _connections: connections })
    }

    /// What the model did so far.
    #[must_use]
    pub fn counts(&self) -> ServedCounts {
        ServedCounts {
            rows: self.served.rows.load(Ordering::Relaxed),
            negative_prices: self.served.negative_prices.load(Ordering::Relaxed),
        }
    }
}

/// Accepts until it is dropped, and every connection with it.
async fn accept(listener: TcpListener, served: Arc<Served>) {
    let mut connections = JoinSet::new();
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, Arc::clone(&served)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, served: Arc<Served>) {
    let service = service_fn(move |request| {
        let served = Arc::clone(&served);
        async move { Ok::<_, Infallible>(answer(&served, request).await) }
    });
    // A client that leaves in the middle of a request is its own affair.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(served: &Served, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v2/health/live" | "/v2/health/ready" | "/v2/models/pricing/ready") => {
            reply(StatusCode::OK, Bytes::new())
        }
        (&Method::POST, INFER_PATH | RENEWALS_PATH) => infer(served, request).await,
        _ => refuse(StatusCode::NOT_FOUND, "no such endpoint"),
    }
}

async fn infer(served: &Served, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let key = request.headers().get(KEY_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(client) = served.clients.get(key).cloned() else {
        return refuse(StatusCode::UNAUTHORIZED, "unknown API key");
    };
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is cut or too long");
    };
    let question =
        serde_json::from_slice::<InferRequest>(&body.to_bytes()).map_err(|error| error.to_string());
    match question.and_then(|question| question.quotes()) {
        Ok(quotes) => predict(served, &client, &quotes).await,
        Err(message) => refuse(StatusCode::BAD_REQUEST, &message),
    }
}

async fn predict(served: &Served, client: &Arc<str>, quotes: &[Quote]) -> Response<Full<Bytes>> {
    let prices: Vec<f64> = quotes.iter().map(|quote| cents(served.model.price(quote))).collect();
    served.rows.fetch_add(quotes.len() as u64, Ordering::Relaxed);
    for (&quote, &price) in quotes.iter().zip(&prices).filter(|(_, price)| **price < 0.0) {
        served.negative_prices.fetch_add(1, Ordering::Relaxed);
        // Nobody listens any more once the story is told.
        let _ = served.events.send(Event::NegativePrice { client: Arc::clone(client), quote, price }).await;
    }
    let answer = InferResponse {
        model_name: MODEL.to_owned(),
        model_version: "1".to_owned(),
        outputs: vec![Tensor::column("price", prices)],
    };
    reply(StatusCode::OK, serde_json::to_vec(&answer).unwrap_or_default().into())
}

fn cents(price: f64) -> f64 {
    (price * 100.0).round() / 100.0
}

fn refuse(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    reply(status, serde_json::json!({ "error": message }).to_string().into())
}

fn reply(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::caller::Caller;
    use super::super::clients::person;
    use super::super::event::{Reply, Role};
    use super::super::random::Random;
    use super::super::tariff::{Portfolio, draw_quote};
    use super::*;

    async fn server(names: &[&str]) -> (ModelServer, Events, mpsc::Receiver<Event>) {
        let model = Regression::fit(&Portfolio::draw(500, &mut Random::new(1))).unwrap();
        let (events, heard) = mpsc::channel(64);
        let people = names.iter().map(|name| person(name, Role::Honest));
        let keys = people.map(|person| (person.key, person.name)).collect();
        (ModelServer::start(model, keys, events.clone()).await.unwrap(), events, heard)
    }

    #[tokio::test]
    async fn a_batch_has_a_price_for_each_row_and_a_stranger_has_none() {
        let (server, events, _heard) = server(&["broker"]).await;
        let quotes: Vec<Quote> = (2..5).map(|seed| draw_quote(&mut Random::new(seed))).collect();
        let ask = |name| Caller::new(person(name, Role::Honest), server.address, events.clone());
        let priced = ask("broker").ask(&quotes, String::new()).await.unwrap();
        assert!(matches!(&priced, Reply::Prices(prices) if prices.len() == 3), "{priced:?}");
        let refused = ask("stranger").ask(&quotes, String::new()).await.unwrap();
        assert!(matches!(refused, Reply::Failed(401, _)), "{refused:?}");
        assert_eq!(server.counts(), ServedCounts { rows: 3, negative_prices: 0 });
    }

    #[test]
    fn a_tensor_of_another_shape_is_refused() {
        let mut request = InferRequest::of(&[[1.0; FIELDS]; 2]);
        assert_eq!(request.quotes(), Ok(vec![[1.0; FIELDS]; 2]));
        request.inputs[3].data.push(1.0);
        assert!(request.quotes().is_err(), "one column is longer than the others");
        request.inputs.swap(0, 1);
        assert!(request.quotes().is_err(), "the columns stand in another order");
    }
}

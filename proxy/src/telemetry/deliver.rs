//! One delivery: a message of a signal to its collector, and what the collector says of it.

use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use checkgate_config::settings::{Exporter, OtlpProtocol};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::connect::Connector;
use crate::metrics::labels::Signal;

/// A longer answer is none of a collector's.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const AGENT: &str = concat!("checkgate/", env!("CARGO_PKG_VERSION"));

/// What one signal is delivered as.
pub trait Kind: Send + 'static {
    /// Which signal.
    const SIGNAL: Signal;
    /// Its method in gRPC.
    const METHOD: &'static str;
    /// What is sent.
    type Request: Message + Default + Clone + 'static;
    /// What comes back.
    type Response: Message + Default + 'static;

    /// What of a message was not taken, and why.
    fn rejected(response: Self::Response) -> (i64, String);
}

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident: $method:literal, $request:ty => $response:ty, $rejected:ident) => {
        $(#[$doc])*
        pub struct $name;

        impl Kind for $name {
            const SIGNAL: Signal = Signal::$name;
            const METHOD: &'static str = concat!("/opentelemetry.proto.collector.", $method, "/Export");
            type Request = $request;
            type Response = $response;

            fn rejected(response: Self::Response) -> (i64, String) {
                let partly = response.partial_success.unwrap_or_default();
                (partly.$rejected, partly.error_message)
            }
        }
    };
}

kind! {
    /// Numbers.
    Metrics: "metrics.v1.MetricsService",
    ExportMetricsServiceRequest => ExportMetricsServiceResponse, rejected_data_points
}
kind! {
    /// Spans.
    Traces: "trace.v1.TraceService",
    ExportTraceServiceRequest => ExportTraceServiceResponse, rejected_spans
}
kind! {
    /// Log records.
    Logs: "logs.v1.LogsService",
    ExportLogsServiceRequest => ExportLogsServiceResponse, rejected_log_records
}

/// What a collector took.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How much of the message it did not take.
    pub rejected: u64,
    /// Why not.
    pub why: String,
}

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Undelivered {
    /// Whether the same message may be sent again (OTLP specification, "Failures").
    pub again: bool,
    /// When the collector wants to be asked again.
    pub after: Option<Duration>,
    why: String,
}

impl Undelivered {
    fn new(again: bool, why: impl Into<String>) -> Self {
        Self { again, after: None, why: why.into() }
    }
}

/// Brings messages of one signal to one collector.
pub struct Courier<K> {
    road: Road,
    patience: Duration,
    kind: PhantomData<K>,
}

enum Road {
    Grpc { channel: Channel, metadata: MetadataMap },
    Http { client: Box<Client<Connector, Full<Bytes>>>, url: Uri, headers: HeaderMap },
}

impl<K: Kind> Courier<K> {
    /// To the collector of `exporter`. Must be called inside of the runtime that delivers.
    ///
    /// # Errors
    /// What was checked turns out not to hold after all.
    pub fn new(exporter: &Exporter, connector: Connector) -> anyhow::Result<Self> {
        let authority = exporter.authority();
        let scheme = if exporter.tls { "https" } else { "http" };
        let mut headers = HeaderMap::new();
        for (name, value) in &exporter.headers {
            let name = HeaderName::from_str(name)?;
            let mut value = HeaderValue::from_str(value.reveal())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let road = match exporter.protocol {
            OtlpProtocol::Grpc => {
                // TLS is the connector's: to the library every address is plain, and only its origin says otherwise.
                let origin = Uri::from_str(&format!("{scheme}://{authority}"))?;
                let endpoint = Endpoint::from_shared(format!("http://{authority}"))?
                    .origin(origin)
                    .user_agent(AGENT)?
                    .connect_timeout(exporter.timeout);
                let channel = endpoint.connect_with_connector_lazy(connector);
                Road::Grpc { channel, metadata: MetadataMap::from_headers(headers) }
            }
            OtlpProtocol::HttpProtobuf => {
                headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                let url = Uri::from_str(&format!("{scheme}://{authority}{}", exporter.path))
                    .context("the endpoint is no URL")?;
                let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector);
                Road::Http { client: Box::new(client), url, headers }
            }
        };
        Ok(Self { road, patience: exporter.timeout, kind: PhantomData })
    }

    /// Delivers one message, within the exporter's time.
    ///
    /// # Errors
    /// Says why it was not taken, and whether it may be sent again.
    pub async fn deliver(&self, message: K::Request) -> Result<Taken, Undelivered> {
        let delivered = async {
            match &self.road {
                Road::Grpc { channel, metadata } => by_grpc::<K>(channel, metadata, message).await,
                Road::Http { client, url, headers } => by_http::<K>(client, url, headers, &message).await,
            }
        };
        let answer = timeout(self.patience, delivered)
            .await
            .unwrap_or_else(|_| Err(Undelivered::new(true, format!("no answer within {:?}", self.patience))));
        let (rejected, why) = K::rejected(answer?);
        Ok(Taken { rejected: u64::try_from(rejected).unwrap_or(0), why })
    }
}

async fn by_grpc<K: Kind>(
    channel: &Channel,
    metadata: &MetadataMap,
    message: K::Request,
) -> Result<K::Response, Undelivered> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Undelivered::new(true, causes(&error)))?;
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = metadata.clone();
    let path = PathAndQuery::from_static(K::METHOD);
    let codec = ProstCodec::<K::Request, K::Response>::default();
    let answer = client.unary(request, path, codec).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Undelivered::new(may_pass(&status), causes(&status)))
}

/// Whether the same message may be taken later.
fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
            // What the library says where the connection broke.
            | Code::Unknown
    )
}

async fn by_http<K: Kind>(
    client: &Client<Connector, Full<Bytes>>,
    url: &Uri,
    headers: &HeaderMap,
    message: &K::Request,
) -> Result<K::Response, Undelivered> {
    let body = Full::new(Bytes::from(message.encode_to_vec()));
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    request.uri_mut().clone_from(url);
    request.headers_mut().clone_from(headers);
    let answer = client.request(request).await.map_err(|error| Undelivered::new(true, causes(&error)))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    if !head.status.is_success() {
        return Err(Undelivered {
            again: is_passing(head.status),
            after: head.headers.get(RETRY_AFTER).and_then(|after| seconds(after.to_str().ok()?)),
            why: format!("the collector answered {}", head.status),
        });
    }
    let body =
        body.map_err(|error| Undelivered::new(true, format!("its answer was cut: {error}")))?.to_bytes();
    // Some collectors answer an empty body, or none of protobuf; they took the message all the same.
    Ok(K::Response::decode(body).unwrap_or_default())
}

fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

/// An error with what lies behind it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        told = format!("{told}: {inner}");
        cause = inner.source();
    }
    told
}

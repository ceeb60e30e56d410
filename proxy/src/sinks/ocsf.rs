//! OCSF events to whatever takes JSON over HTTP: a data lake's collector, Vector, Fluent Bit, Cribl, or a SIEM's own door.

use checkgate_config::parts::PartError;
use checkgate_config::secret::SecretSource;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::Connection;
use super::http::{Client, Url};
use super::render::bodies::{ARRAY, Format, LINES, encoded_with, item, packed};
use super::{Bounds, Event, Ground, Parameters, Sink, SinkError, SinkSpec};

/// The entry in the list of sinks.
pub const SPEC: SinkSpec = SinkSpec {
    name: "ocsf",
    summary: "OCSF 1.8.0 by HTTP, as a JSON array or as lines: Detection Findings that are updated and closed",
    schema: super::schema_of::<Ocsf>,
    defaults: super::defaults_of::<Ocsf>,
    check: super::check_of::<Ocsf>,
    example: "url: https://lake.example/ocsf\nbody: lines\ntoken: \"${CHECKGATE_OCSF_TOKEN}\"\n",
    build: |parameters, ground| super::build_with(parameters, ground, Sender::new),
};

/// What a request holds at most, before it is compressed.
const BOUNDS: Bounds = Bounds { events: 1000, bytes: 1_000_000 };

/// OCSF by HTTP.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ocsf {
    /// Where requests are posted to. Required.
    pub url: String,
    /// `array`: a JSON array of events. `lines`: one event a line.
    pub body: Body,
    /// Sent as `Authorization: Bearer`, where the receiver asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
    /// Whether bodies are compressed by gzip.
    pub compress: bool,
    /// How the receiver is reached: `ca_file` names authorities (PEM) to believe instead of those of the system,
    /// `certificate_file` and `key_file` what is shown to it, `allow_addresses` addresses that would be refused otherwise.
    pub connection: Connection,
}

/// How events stand in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// `application/json`.
    #[default]
    Array,
    /// `application/x-ndjson`.
    Lines,
}

impl Parameters for Ocsf {
    fn check(&self) -> Result<(), PartError> {
        Url::check("url", &self.url)?;
        self.connection.allowed("connection").map(drop)
    }
}

/// Sends OCSF.
struct Sender {
    client: Client,
    body: Body,
    headers: HeaderMap,
    compress: bool,
}

impl Sender {
    fn new(parameters: Ocsf, ground: &Ground<'_>) -> Result<Self, PartError> {
        let client =
            Client::new(&ground.url("url", &parameters.url)?, &parameters.connection, ("url", "connection"))?;
        let mut headers = HeaderMap::new();
        if let Some(token) = &parameters.token {
            headers.insert(AUTHORIZATION, ground.header("token", "Bearer ", token)?);
        }
        let kind = match parameters.body {
            Body::Array => "application/json",
            Body::Lines => "application/x-ndjson",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Ok(Self { client, body: parameters.body, headers, compress: parameters.compress })
    }

    async fn send_all(&self, batch: &[Event]) -> Result<(), SinkError> {
        let items = batch.iter().map(|event| item(event, Format::Ocsf, BOUNDS.bytes, |said| said));
        let around = match self.body {
            Body::Array => ARRAY,
            Body::Lines => LINES,
        };
        for body in packed(items, around, BOUNDS) {
            let (headers, body) = encoded_with(&self.headers, body, self.compress);
            self.client.post(&headers, body).await?.judged()?;
        }
        Ok(())
    }
}

impl Sink for Sender {
    fn send<'a>(&'a self, batch: &'a [Event]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.send_all(batch))
    }

    fn bounds(&self) -> Bounds {
        BOUNDS
    }

    fn target(&self) -> String {
        self.client.url().origin()
    }
}

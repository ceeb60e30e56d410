//! Where requests go.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::settings::{Balance, HttpVersion};
use crate::units::Period;

/// Pattern of a server's URL.
const URL_PATTERN: &str = "^(https?://[^/?#@]+:[0-9]+/?|unix:.+)$";

/// An upstream, as typed.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum RawUpstream {
    /// One server: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
    Server(String),
    /// Several servers.
    Servers(Vec<RawServer>),
    /// Servers, and how they are used.
    Settings(Box<RawUpstreamSettings>),
}

/// One or several servers that answer alike, and how they are used. A model's own `upstream` replaces the one at the
/// top level as a whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["servers"]))]
pub struct RawUpstreamSettings {
    /// The servers, each as `http://HOST:PORT`, `https://HOST:PORT`, `unix:PATH`, or `{url: URL, weight: NUMBER}`.
    /// Required.
    pub servers: Option<Vec<RawServer>>,
    /// How a server is chosen: `round_robin` (one after the other, by weight), `least_loaded` (the fewest open requests
    /// for its weight) or `client_hash` (the same server for the same client, as long as it is up).
    pub balance: Option<Balance>,
    /// The version of HTTP that the servers speak: `auto` (HTTP/2 for gRPC, otherwise what TLS agrees upon, and
    /// HTTP/1.1 without TLS), `http1` or `http2` (without TLS by prior knowledge).
    pub http: Option<HttpVersion>,
    /// Further tries after the first, at another server where there is one. A request that may have been acted on is
    /// tried again only if its method is idempotent.
    pub retries: Option<u32>,
    /// Requests open at one server; beyond it the server is passed over, and if all are, the client gets 503.
    pub in_flight_per_server: Option<usize>,
    /// TLS towards the servers whose URL begins with `https`.
    pub tls: Option<RawUpstreamTls>,
    /// Active health checks; without this mapping there are none. `health: {}` takes every default.
    pub health: Option<RawHealthCheck>,
    /// When a server that fails real requests is left alone for a while.
    pub ejection: Option<RawEjection>,
}

/// One server, as typed.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum RawServer {
    /// Its URL.
    Url(String),
    /// Its URL and its weight.
    Weighted(RawWeightedServer),
}

/// A server with its weight.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
#[schemars(extend("required" = ["url"]))]
pub struct RawWeightedServer {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`. Required.
    #[schemars(extend("pattern" = URL_PATTERN))]
    pub url: Option<String>,
    /// Its share of the requests against the other servers.
    pub weight: Option<u32>,
}

/// TLS towards the servers whose URL begins with `https`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawUpstreamTls {
    /// File (PEM) with the authorities that are believed; by default those of the operating system.
    pub ca: Option<PathBuf>,
    /// File (PEM) with the certificate chain that checkgate shows of itself. It needs `key`.
    pub certificate: Option<PathBuf>,
    /// File (PEM) with the private key of `certificate`.
    pub key: Option<PathBuf>,
    /// The name that the server's certificate must bear; by default the URL's host.
    pub server_name: Option<String>,
    /// Accepts any certificate. Whoever stands between can then read and change everything: for trials only.
    pub insecure: Option<bool>,
}

/// Active health checks: each server is asked with GET, and any status of 200 to 299 is a success.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawHealthCheck {
    /// What is asked for. The default is the readiness of the Open Inference Protocol.
    #[schemars(extend("pattern" = "^/[^#]*$"))]
    pub path: Option<String>,
    /// How often.
    pub every: Option<Period>,
    /// How long an answer may take.
    pub timeout: Option<Period>,
    /// Successes in a row that bring a server back.
    pub healthy_after: Option<u32>,
    /// Failures in a row that take a server out.
    pub unhealthy_after: Option<u32>,
}

/// When a server that fails real requests is left alone for a while.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping of settings")]
pub struct RawEjection {
    /// Failures in a row (no connection, no answer in time, a broken answer) after which it is left alone; 0 never does.
    pub failures: Option<u32>,
    /// For how long; twice as long each time it fails again at once, up to ten times as long.
    pub pause: Option<Period>,
}

impl From<&str> for RawUpstream {
    fn from(url: &str) -> Self {
        Self::Server(url.to_owned())
    }
}

impl<'de> Deserialize<'de> for RawUpstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawUpstream;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("http://HOST:PORT, a list of servers or a mapping of settings")
            }
            fn visit_str<E: Error>(self, url: &str) -> Result<RawUpstream, E> {
                Ok(RawUpstream::Server(url.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawUpstream, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(RawUpstream::Servers)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawUpstream, A::Error> {
                Box::deserialize(MapAccessDeserializer::new(map)).map(RawUpstream::Settings)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl JsonSchema for RawUpstream {
    fn schema_name() -> Cow<'static, str> {
        "RawUpstream".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let server = generator.subschema_for::<RawServer>();
        let settings = generator.subschema_for::<RawUpstreamSettings>();
        let url = json_schema!({"type": "string", "pattern": URL_PATTERN});
        json_schema!({"oneOf": [url, settings, {"type": "array", "items": server, "minItems": 1}]})
    }
}

impl<'de> Deserialize<'de> for RawServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = RawServer;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("http://HOST:PORT or {url: http://HOST:PORT, weight: 2}")
            }
            fn visit_str<E: Error>(self, url: &str) -> Result<RawServer, E> {
                Ok(RawServer::Url(url.into()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawServer, A::Error> {
                RawWeightedServer::deserialize(MapAccessDeserializer::new(map)).map(RawServer::Weighted)
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

impl JsonSchema for RawServer {
    fn schema_name() -> Cow<'static, str> {
        "RawServer".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let weighted = generator.subschema_for::<RawWeightedServer>();
        json_schema!({"oneOf": [{"type": "string", "pattern": URL_PATTERN}, weighted]})
    }
}

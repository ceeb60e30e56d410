//! CloudEvents 1.0 over HTTP: one event a request, structured (the whole event as JSON) or binary (attributes in headers,
//! the data as body).

use std::sync::Arc;

use checkgate_config::parts::PartError;
use checkgate_config::secret::SecretSource;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::address::Connection;
use super::http::{Client, Url, header_value};
use super::render::{json_text, rfc3339};
use super::{Bounds, Event, Ground, Parameters, Sink, SinkError, SinkSpec};

/// The entry in the list of sinks.
pub const SPEC: SinkSpec = SinkSpec {
    name: "cloudevents",
    summary: "CloudEvents 1.0 by HTTP, structured or binary, one request for each event",
    schema: super::schema_of::<CloudEvents>,
    defaults: super::defaults_of::<CloudEvents>,
    check: super::check_of::<CloudEvents>,
    example: "url: https://broker.example/default\nmode: binary\n",
    build: |parameters, ground| super::build_with(parameters, ground, Sender::new),
};

/// Letters of a source.
const SOURCE_MAX: usize = 256;

/// CloudEvents over HTTP.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloudEvents {
    /// Where requests are posted to, such as a broker of Knative; `${NAME}` where the URL itself is a secret. Required.
    pub url: String,
    /// `structured`: the whole event is the body. `binary`: attributes are headers, and the body is the data alone.
    pub mode: ContentMode,
    /// The attribute `source`, a URI reference; without it `urn:checkgate:` and the id of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Sent as `Authorization: Bearer`, where the receiver asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
    /// How the receiver is reached: `ca_file` names authorities (PEM) to believe instead of those of the system,
    /// `certificate_file` and `key_file` what is shown to it, `allow_addresses` addresses that would be refused otherwise.
    pub connection: Connection,
}

/// Where the attributes of an event stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContentMode {
    /// In the body.
    #[default]
    Structured,
    /// In headers.
    Binary,
}

impl Parameters for CloudEvents {
    fn check(&self) -> Result<(), PartError> {
        Url::check("url", &self.url)?;
        let sound = |source: &String| {
            (1..=SOURCE_MAX).contains(&source.len()) && source.chars().all(|c| c.is_ascii_graphic())
        };
        if !self.source.as_ref().is_none_or(sound) {
            let message = "a source is a URI reference, 1 to 256 visible ASCII characters";
            return Err(PartError::new(&["source"], message));
        }
        self.connection.allowed("connection").map(drop)
    }
}

/// Sends CloudEvents.
struct Sender {
    client: Client,
    mode: ContentMode,
    source: Arc<str>,
    authorization: Option<HeaderValue>,
}

impl Sender {
    fn new(parameters: CloudEvents, ground: &Ground<'_>) -> Result<Self, PartError> {
        let client =
            Client::new(&ground.url("url", &parameters.url)?, &parameters.connection, ("url", "connection"))?;
        let authorization = parameters.token.as_ref().map(|token| ground.header("token", "Bearer ", token));
        let source = parameters.source.unwrap_or_else(|| format!("urn:checkgate:{}", ground.instance));
        Ok(Self {
            client,
            mode: parameters.mode,
            source: source.into(),
            authorization: authorization.transpose()?,
        })
    }

    async fn send_one(&self, event: &Event) -> Result<(), SinkError> {
        let (mut headers, body) = match self.mode {
            ContentMode::Structured => (
                vec![(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json; charset=UTF-8"))],
                structured(event, &self.source),
            ),
            ContentMode::Binary => (binary(event, &self.source)?, json_text(&event.plain())),
        };
        headers.extend(self.authorization.clone().map(|value| (AUTHORIZATION, value)));
        self.client.post(&headers, body).await?.judged()
    }
}

impl Sink for Sender {
    fn send<'a>(&'a self, batch: &'a [Event]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            for event in batch {
                self.send_one(event).await?;
            }
            Ok(())
        })
    }

    fn bounds(&self) -> Bounds {
        Bounds { events: 1, ..Bounds::default() }
    }

    fn target(&self) -> String {
        self.client.url().origin()
    }
}

/// What the event is about: the decision, else the client, else the model.
fn subject(event: &Event) -> Option<String> {
    let decision = event.decision.map(|id| id.to_string());
    decision.or_else(|| event.client.as_deref().or(event.model.as_deref()).map(str::to_owned))
}

fn kind(event: &Event) -> String {
    format!("checkgate.{}", event.kind.as_str())
}

fn structured(event: &Event, source: &str) -> String {
    let mut whole = json!({
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": kind(event),
        "time": rfc3339(event.time),
        "datacontenttype": "application/json",
        "data": event.plain(),
    });
    // An attribute is a text that is not empty.
    if let (Some(subject), Some(whole)) =
        (subject(event).filter(|text| !text.is_empty()), whole.as_object_mut())
    {
        whole.insert("subject".to_owned(), subject.into());
    }
    json_text(&whole)
}

fn binary(event: &Event, source: &str) -> Result<Vec<(HeaderName, HeaderValue)>, SinkError> {
    let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    for (name, value) in [
        ("ce-specversion", Some("1.0".to_owned())),
        ("ce-id", Some(event.id.to_string())),
        ("ce-source", Some(source.to_owned())),
        ("ce-type", Some(kind(event))),
        ("ce-time", Some(rfc3339(event.time))),
        ("ce-subject", subject(event).filter(|text| !text.is_empty())),
    ] {
        if let Some(value) = value {
            headers.push((HeaderName::from_static(name), header_value(&encoded(&value))?));
        }
    }
    Ok(headers)
}

/// A value as a header holds it: blanks, quotes, percent signs and all that is not visible ASCII are percent-encoded.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'%' => format!("%{byte:02X}"),
            byte if byte.is_ascii_graphic() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::{HOSTILE, events};

    #[test]
    fn a_header_value_is_encoded_as_the_binding_asks_for() {
        // The example of the HTTP binding, 3.1.3.2.
        assert_eq!(encoded("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(encoded("a\"b%c\r\n"), "a%22b%25c%0D%0A");
    }

    #[test]
    fn both_modes_say_the_same_whatever_the_texts_hold() {
        for event in HOSTILE.iter().flat_map(|text| events(text)) {
            let whole: serde_json::Value = serde_json::from_str(&structured(&event, "urn:a")).unwrap();
            let headers = binary(&event, "urn:a").unwrap();
            for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with("ce-")) {
                let said = whole[&name.as_str()[3..]].as_str().unwrap();
                assert_eq!(value.to_str().unwrap(), encoded(said), "{name} of {:?}", event.kind);
            }
            assert_eq!(whole["data"], event.plain());
        }
    }
}

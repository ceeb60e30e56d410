//! Webhooks, signed as Standard Webhooks asks for (standardwebhooks.com, 1.0): one event a request, with an id that
//! repeats share, a time, and HMAC-SHA256 over `id.time.body`.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checkgate_config::parts::PartError;
use checkgate_config::secret::SecretSource;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ring::hmac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::address::Connection;
use super::http::{Client, Url, header_value};
use super::render::{json_text, rfc3339};
use super::{Bounds, Event, Ground, Parameters, Sink, SinkError, SinkSpec};

/// The entry in the list of sinks.
pub const SPEC: SinkSpec = SinkSpec {
    name: "webhook",
    summary: "signed HTTP requests as Standard Webhooks has them, one for each event",
    schema: super::schema_of::<Webhook>,
    defaults: super::defaults_of::<Webhook>,
    check: super::check_of::<Webhook>,
    example: "url: https://hooks.example/checkgate\nsecrets: [\"${CHECKGATE_WEBHOOK_SECRET}\"]\n",
    build: |parameters, ground| super::build_with(parameters, ground, Sender::new),
};

/// A body is shorter than this, as the standard asks for.
const BODY_BYTES_MAX: usize = 20_000;
/// Secrets that sign at once.
const SECRETS_MAX: usize = 4;
/// Bytes of a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const PREFIX: &str = "whsec_";
const SECRET_WANTED: &str = "a secret is \"whsec_\" and the base64 of 24 to 64 bytes; `echo whsec_$(openssl rand -base64 32)` makes one";

/// Signed HTTP requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Webhook {
    /// Where requests are posted to; `${NAME}` where the URL itself is a secret. Required.
    pub url: String,
    /// Secrets, 1 to 4: every request is signed with each, so that the receiver may change to another one at its time.
    /// A secret is `whsec_` and the base64 of 24 to 64 bytes. Required.
    pub secrets: Vec<SecretSource>,
    /// How the receiver is reached: `ca_file` names authorities (PEM) to believe instead of those of the system,
    /// `certificate_file` and `key_file` what is shown to it, `allow_addresses` addresses that would be refused otherwise.
    pub connection: Connection,
}

impl Parameters for Webhook {
    fn check(&self) -> Result<(), PartError> {
        Url::check("url", &self.url)?;
        if self.secrets.is_empty() || self.secrets.len() > SECRETS_MAX {
            let message = format!("1 to {SECRETS_MAX} secrets sign; add \"secrets: [\\\"${{NAME}}\\\"]\"");
            return Err(PartError::new(&["secrets"], message.replace('\\', "")));
        }
        self.connection.allowed("connection").map(drop)
    }
}

/// Sends webhooks.
struct Sender {
    client: Client,
    keys: Vec<hmac::Key>,
}

impl Sender {
    fn new(parameters: Webhook, ground: &Ground<'_>) -> Result<Self, PartError> {
        let key = |(index, source): (usize, &SecretSource)| {
            let secret = ground.reveal("secrets", source)?;
            let bytes = secret_bytes(secret.reveal())
                .ok_or_else(|| PartError::new(&["secrets", &index.to_string()], SECRET_WANTED))?;
            Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        };
        let keys = parameters.secrets.iter().enumerate().map(key).collect::<Result<_, PartError>>()?;
        let client =
            Client::new(&ground.url("url", &parameters.url)?, &parameters.connection, ("url", "connection"))?;
        Ok(Self { client, keys })
    }

    async fn send_one(&self, event: &Event) -> Result<(), SinkError> {
        let body = body(event);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = since.as_secs().to_string();
        let signature = signature(&self.keys, &event.id, &time, &body);
        let answer = self
            .client
            .post(
                &[
                    (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                    (HeaderName::from_static("webhook-id"), header_value(&event.id)?),
                    (HeaderName::from_static("webhook-timestamp"), header_value(&time)?),
                    (HeaderName::from_static("webhook-signature"), header_value(&signature)?),
                ],
                body,
            )
            .await?;
        match answer.status.as_u16() {
            410 => Err(SinkError::Gone {
                why: format!(
                    "{}; it wants no more, and nothing is sent until the next reload",
                    answer.told()
                ),
            }),
            _ => answer.judged(),
        }
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

/// The body of a request. Where the record makes it too long, it goes, and `shortened` says so.
fn body(event: &Event) -> Vec<u8> {
    let whole = written(event, event.plain());
    if whole.len() < BODY_BYTES_MAX {
        return whole;
    }
    written(event, event.short())
}

fn written(event: &Event, data: Value) -> Vec<u8> {
    let kind = event.kind.as_str();
    let body = json!({ "type": format!("checkgate.{kind}"), "timestamp": rfc3339(event.time), "data": data });
    json_text(&body).into_bytes()
}

fn signature(keys: &[hmac::Key], id: &str, time: &str, body: &[u8]) -> String {
    let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
    let one = |key: &hmac::Key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed)));
    keys.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn secret_bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
    SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use checkgate_detectors::facts::Time;

    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_standards_own_example() {
        let key = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let keys = [hmac::Key::new(hmac::HMAC_SHA256, &key)];
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            signature(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn only_secrets_of_the_standard_sign() {
        for bad in
            ["", "whsec_", "hunter2", "whsec_aHVudGVyMg==", "whsec_!!!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        {
            assert_eq!(secret_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_body_is_short_whatever_the_event_holds() {
        let long: std::sync::Arc<str> = "\u{1}\"".repeat(100_000).into();
        let event = Event {
            explanation: std::sync::Arc::clone(&long),
            client: Some(std::sync::Arc::clone(&long)),
            model: Some(std::sync::Arc::clone(&long)),
            detector: Some(std::sync::Arc::clone(&long)),
            record: Some(json!({ "explanation": &*long })),
            ..Event::test("i", Time(1))
        };
        let body = body(&event);
        assert!(body.len() < 20_000, "{} bytes", body.len());
        let read: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read["data"]["shortened"], true);
    }
}

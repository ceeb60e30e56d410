//! Splunk's HTTP Event Collector: `POST /services/collector/event` with one JSON object after the other, and indexer
//! acknowledgement where the token has it.
//!
//! With acknowledgement a batch counts as taken when the indexers say that they have it. Where they do not say so in
//! time, it is sent again: events may come twice, never not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use checkgate_config::parts::PartError;
use checkgate_config::secret::SecretSource;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::address::Connection;
use super::http::{Answer, Client, Url};
use super::render::bodies::{Format, JOINED, encoded_with, item, packed};
use super::render::cut;
use super::steps::step;
use super::{Bounds, Event, Ground, Parameters, Sink, SinkError, SinkSpec};

/// The entry in the list of sinks.
pub const SPEC: SinkSpec = SinkSpec {
    name: "splunk_hec",
    summary: "Splunk's HTTP Event Collector, with indexer acknowledgement where it is switched on",
    schema: super::schema_of::<SplunkHec>,
    defaults: super::defaults_of::<SplunkHec>,
    check: super::check_of::<SplunkHec>,
    example: "url: https://splunk.example:8088\ntoken: \"${CHECKGATE_SPLUNK_TOKEN}\"\nindex: security\nacknowledge: true\n",
    build: |parameters, ground| super::build_with(parameters, ground, Sender::new),
};

/// Bytes of a request's body before it is compressed: what Splunk Cloud recommends.
const BODY_BYTES_MAX: usize = 1_000_000;
/// Bytes of a field that is indexed.
const FIELD_BYTES: usize = 256;
/// Letters of a parameter that names something in Splunk.
const NAME_MAX: usize = 128;
const EVENT_PATH: &str = "/services/collector/event";
const ACK_PATH: &str = "/services/collector/ack";
/// The first pause between two questions whether the indexers have a batch, and the longest.
const ACK_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Splunk's HTTP Event Collector.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SplunkHec {
    /// Scheme, host and port of the collector, such as `https://splunk.example:8088`. Where it stands behind another path,
    /// that path; `/services/collector` is added. Required.
    pub url: String,
    /// The token that Splunk made for this input. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
    /// The index; without it the token's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// What Splunk shows as source.
    pub source: String,
    /// What Splunk knows the form by.
    pub sourcetype: String,
    /// What Splunk shows as host; without it what the machine is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What an event looks like: `json`, as `GET /v1/events` shows it, or `ocsf`, OCSF 1.8.0.
    pub format: Format,
    /// Whether a batch counts as taken only when the indexers acknowledged it. The token must have it switched on, and the
    /// sink's `timeout` must be as long as the indexers may take: with `60s` or more it is rarely sent twice.
    pub acknowledge: bool,
    /// Whether bodies are compressed by gzip.
    pub compress: bool,
    /// How the receiver is reached: `ca_file` names authorities (PEM) to believe instead of those of the system,
    /// `allow_addresses` addresses that would be refused otherwise.
    pub connection: Connection,
}

impl Default for SplunkHec {
    fn default() -> Self {
        Self {
            url: String::new(),
            token: None,
            index: None,
            source: "checkgate".to_owned(),
            sourcetype: "checkgate:event".to_owned(),
            host: None,
            format: Format::default(),
            acknowledge: false,
            compress: true,
            connection: Connection::default(),
        }
    }
}

impl Parameters for SplunkHec {
    fn check(&self) -> Result<(), PartError> {
        Url::parse(&self.url).map_err(|message| PartError::new(&["url"], message))?;
        if self.token.is_none() {
            let message = "the token is missing; add token: \"${NAME}\" with what Splunk shows for the input";
            return Err(PartError::new(&["token"], message));
        }
        let names = [
            ("index", self.index.as_ref()),
            ("source", Some(&self.source)),
            ("sourcetype", Some(&self.sourcetype)),
            ("host", self.host.as_ref()),
        ];
        for (key, name) in names {
            let sound = |name: &String| {
                (1..=NAME_MAX).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic())
            };
            if !name.is_none_or(sound) {
                let message = format!("expected 1 to {NAME_MAX} visible ASCII characters");
                return Err(PartError::new(&[key], message));
            }
        }
        self.connection.allowed("connection").map(drop)
    }
}

/// What every event says besides itself.
struct Envelope {
    format: Format,
    about: Map<String, Value>,
}

/// Sends to a collector.
struct Sender {
    client: Client,
    /// Where the collector's own paths begin.
    base: String,
    headers: HeaderMap,
    envelope: Envelope,
    acknowledge: bool,
    compress: bool,
}

impl Sender {
    fn new(parameters: SplunkHec, ground: &Ground<'_>) -> Result<Self, PartError> {
        let client = Client::new(&parameters.url, &parameters.connection, ("url", "connection"))?;
        let mut headers = HeaderMap::new();
        if let Some(token) = &parameters.token {
            headers.insert(AUTHORIZATION, ground.header("token", "Splunk ", token)?);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if parameters.acknowledge {
            headers.insert(HeaderName::from_static("x-splunk-request-channel"), channel()?);
        }
        Ok(Self {
            base: base(&client.url().path),
            client,
            headers,
            envelope: Envelope::new(&parameters),
            acknowledge: parameters.acknowledge,
            compress: parameters.compress,
        })
    }

    async fn send_all(&self, batch: &[Event]) -> Result<(), SinkError> {
        let items = batch.iter().map(|event| self.envelope.item(event));
        let mut waits = BTreeSet::new();
        for body in packed(items, JOINED, Bounds { bytes: BODY_BYTES_MAX, ..Bounds::default() }) {
            let said = judged(&self.post(EVENT_PATH, body, self.compress).await?)?;
            if self.acknowledge {
                waits.insert(said.ack_id.ok_or_else(no_acknowledgement)?);
            }
        }
        self.acknowledged(waits).await
    }

    async fn post(&self, path: &str, body: String, compress: bool) -> Result<Answer, SinkError> {
        let (headers, body) = encoded_with(&self.headers, body, compress);
        self.client.ask(Method::POST, Some(&format!("{}{path}", self.base)), &headers, body).await
    }

    /// Asks until the indexers have all that `waits` names; how long that may take is the courier's business.
    async fn acknowledged(&self, mut waits: BTreeSet<u64>) -> Result<(), SinkError> {
        let mut pause = ACK_PAUSE.0;
        while !waits.is_empty() {
            let answer = self.post(ACK_PATH, json!({ "acks": waits }).to_string(), false).await?;
            let acks = acks(&answer)?;
            waits.retain(|id| acks.get(&id.to_string()) != Some(&true));
            if !waits.is_empty() {
                step(|| format!("the indexers have not acknowledged {} requests yet", waits.len()));
                sleep(pause).await;
                pause = (pause * 2).min(ACK_PAUSE.1);
            }
        }
        Ok(())
    }
}

impl Sink for Sender {
    fn send<'a>(&'a self, batch: &'a [Event]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.send_all(batch))
    }

    fn bounds(&self) -> Bounds {
        Bounds { bytes: BODY_BYTES_MAX, ..Bounds::default() }
    }

    fn target(&self) -> String {
        self.client.url().origin()
    }
}

impl Envelope {
    fn new(parameters: &SplunkHec) -> Self {
        let host = parameters.host.clone().unwrap_or_else(super::syslog::own_name);
        let mut about = Map::new();
        for (key, value) in [
            ("host", Some(host).filter(|host| host != "-")),
            ("source", Some(parameters.source.clone())),
            ("sourcetype", Some(parameters.sourcetype.clone())),
            ("index", parameters.index.clone()),
        ] {
            if let Some(value) = value {
                about.insert(key.to_owned(), value.into());
            }
        }
        Self { format: parameters.format, about }
    }

    /// One object of a body.
    fn item(&self, event: &Event) -> String {
        item(event, self.format, BODY_BYTES_MAX, |said| {
            let mut whole = self.about.clone();
            whole.insert("time".to_owned(), event.time.seconds().into());
            whole.insert("event".to_owned(), said);
            whole.insert("fields".to_owned(), fields(event));
            Value::Object(whole)
        })
    }
}

/// What is indexed beside the event: words that many events share, so that counting by them is quick.
fn fields(event: &Event) -> Value {
    let mut fields = Map::new();
    for (name, value) in [
        ("kind", Some(event.kind.as_str())),
        ("severity", Some(event.severity.as_str())),
        ("model", event.model.as_deref()),
        ("detector", event.detector.as_deref()),
        ("action", event.action.map(|action| action.as_str())),
        ("tenant", event.tenant.as_deref()),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            fields.insert(name.to_owned(), cut(value, FIELD_BYTES).into());
        }
    }
    Value::Object(fields)
}

/// The path in front of the collector's own.
fn base(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let base = path.split_once("/services/collector").map_or(path, |(base, _)| base);
    base.trim_end_matches('/').to_owned()
}

/// A name for this sender that no other has: a random UUID (RFC 9562, version 4).
fn channel() -> Result<HeaderValue, PartError> {
    let mut bytes = [0; 16];
    let failed = |why: String| PartError::new(&["acknowledge"], why);
    getrandom::fill(&mut bytes).map_err(|error| failed(format!("no random bytes: {error}")))?;
    let drawn = u128::from_be_bytes(bytes);
    let number = (drawn & !(0xf << 76) & !(0x3 << 62)) | (4 << 76) | (2 << 62);
    let digits = format!("{number:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or_default());
    HeaderValue::from_str(&parts.join("-")).map_err(|error| failed(error.to_string()))
}

/// What a collector answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    code: Option<u16>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

/// What an answer means, by the code in its body where that says more than the status.
fn judged(answer: &Answer) -> Result<Said, SinkError> {
    let said: Said = serde_json::from_slice(&answer.body).unwrap_or_default();
    let mend = match said.code {
        Some(7) => "the token may not write to that index: allow it there, or name another one",
        Some(10 | 11) => "the token asks for acknowledgement: set acknowledge to true",
        Some(14) => NOT_ENABLED,
        Some(1..=4 | 16) => "look at the token: it must be known, enabled and the one of this input",
        _ => "",
    };
    if !mend.is_empty() {
        return Err(SinkError::refused(format!("{}; {mend}", answer.told())));
    }
    let strange = |why: &str| SinkError::refused(format!("{why}; that is no answer of a collector"));
    match (answer.judged(), said.code) {
        (Ok(()), Some(0)) => Ok(said),
        // Somebody who is no collector says that all is well, or ill, with everything.
        (Ok(()), _) => Err(strange(&answer.told())),
        (Err(SinkError::Never { why }), None) if answer.status != StatusCode::PAYLOAD_TOO_LARGE => {
            Err(strange(&why))
        }
        (Err(error), _) => Err(error),
    }
}

const NOT_ENABLED: &str =
    "indexer acknowledgement is not enabled for this token: enable it, or set acknowledge to false";

fn no_acknowledgement() -> SinkError {
    SinkError::refused(format!("it names nothing to acknowledge; {NOT_ENABLED}"))
}

/// What the indexers have, by the number that the collector gave.
fn acks(answer: &Answer) -> Result<BTreeMap<String, bool>, SinkError> {
    #[derive(Deserialize)]
    struct Acks {
        acks: BTreeMap<String, bool>,
    }
    match serde_json::from_slice::<Acks>(&answer.body) {
        Ok(read) if answer.status.is_success() => Ok(read.acks),
        // What is asked here says nothing about the events.
        _ => match judged(answer) {
            Err(SinkError::Never { why }) => Err(SinkError::refused(why)),
            Err(error) => Err(error),
            Ok(_) => Err(no_acknowledgement()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::{HOSTILE, as_committed, events};

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: body.to_owned().into() }
    }

    #[test]
    fn every_code_of_the_collector_means_what_its_documentation_says() {
        for (status, code, expected) in [
            (200, 0, "taken"),
            (403, 1, "refused"),
            (401, 2, "refused"),
            (401, 3, "refused"),
            (403, 4, "refused"),
            (400, 5, "never"),
            (400, 6, "never"),
            (400, 7, "refused"),
            (500, 8, "later"),
            (503, 9, "later"),
            (400, 10, "refused"),
            (400, 11, "refused"),
            (400, 12, "never"),
            (400, 13, "never"),
            (400, 14, "refused"),
            (400, 15, "never"),
            (503, 18, "later"),
            (429, 26, "later"),
            (413, 27, "never"),
        ] {
            let body = format!("{{\"text\":\"t\",\"code\":{code},\"invalid-event-number\":1}}");
            let told = match judged(&answer(status, &body)) {
                Ok(_) => "taken",
                Err(SinkError::Later { .. }) => "later",
                Err(SinkError::Never { .. }) => "never",
                Err(SinkError::Refused { .. } | SinkError::Gone { .. }) => "refused",
            };
            assert_eq!(told, expected, "code {code}");
        }
        for page in ["", "<html>Welcome</html>", "[]"] {
            let error = judged(&answer(200, page)).unwrap_err();
            assert!(matches!(error, SinkError::Refused { .. }), "{page:?} was taken for a success");
            let error = judged(&answer(400, page)).unwrap_err();
            assert!(
                matches!(error, SinkError::Refused { .. }),
                "{page:?} was taken for a word about an event"
            );
        }
    }

    #[test]
    fn only_what_the_indexers_have_is_acknowledged() {
        let read = acks(&answer(200, r#"{"acks":{"3":true,"4":false}}"#)).unwrap();
        assert_eq!((read.get("3"), read.get("4")), (Some(&true), Some(&false)));
        let error = acks(&answer(400, r#"{"text":"ACK is disabled","code":14}"#)).unwrap_err();
        assert!(error.to_string().contains("enable it"), "{error}");
        assert!(matches!(acks(&answer(503, "")), Err(SinkError::Later { .. })));
    }

    #[test]
    fn an_object_says_where_it_belongs_whatever_the_texts_hold() {
        let parameters =
            SplunkHec { index: Some("main".into()), host: Some("gate-1".into()), ..Default::default() };
        let envelope = Envelope::new(&parameters);
        for event in HOSTILE.iter().flat_map(|text| events(text)) {
            let read: Value = serde_json::from_str(&envelope.item(&event)).unwrap();
            assert_eq!(read["time"], 1_700_000_000.0);
            assert_eq!((&read["host"], &read["index"]), (&json!("gate-1"), &json!("main")));
            assert_eq!(
                (&read["source"], &read["sourcetype"]),
                (&json!("checkgate"), &json!("checkgate:event"))
            );
            assert_eq!(read["event"], event.plain());
            let flat = read["fields"]
                .as_object()
                .unwrap()
                .values()
                .all(|field| field.as_str().is_some_and(|text| !text.is_empty()));
            assert!(flat, "fields are texts that are not empty: {}", read["fields"]);
        }
    }

    #[test]
    fn the_form_is_as_committed() {
        let parameters =
            SplunkHec { index: Some("main".into()), host: Some("gate-1".into()), ..Default::default() };
        let envelope = Envelope::new(&parameters);
        as_committed("splunk_hec", |event| envelope.item(event));
    }

    #[test]
    fn a_path_is_kept_in_front_of_the_collectors_own() {
        for (typed, expected) in [
            ("/", ""),
            ("/splunk/", "/splunk"),
            ("/services/collector/event?channel=1", ""),
            ("/a/services/collector", "/a"),
        ] {
            assert_eq!(base(typed), expected, "{typed}");
        }
    }

    #[test]
    fn a_channel_is_a_random_uuid() {
        let (one, other) = (channel().unwrap(), channel().unwrap());
        assert_ne!(one, other);
        let text = one.to_str().unwrap();
        assert!(text.len() == 36 && text.as_bytes()[14] == b'4', "{text}");
        assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
    }
}

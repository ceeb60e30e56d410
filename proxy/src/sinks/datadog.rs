//! Datadog: the logs intake, version 2, and for decisions the events API, version 1, where that is asked for.

use std::sync::Arc;
use std::time::Duration;

use checkgate_config::parts::PartError;
use checkgate_config::secret::SecretSource;
use checkgate_config::settings::EventKind;
use checkgate_detectors::facts::Time;
use checkgate_detectors::severity::Severity;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::address::Connection;
use super::http::{Client, Url};
use super::render::bodies::{ARRAY, Format, encoded_with, item, packed};
use super::render::{cut, json_text, title};
use super::{Bounds, Event, Ground, Parameters, Sink, SinkError, SinkSpec};
use crate::clock;

/// The entry in the list of sinks.
pub const SPEC: SinkSpec = SinkSpec {
    name: "datadog",
    summary: "Datadog's logs intake, and for decisions its events where that is asked for",
    schema: super::schema_of::<Datadog>,
    defaults: super::defaults_of::<Datadog>,
    check: super::check_of::<Datadog>,
    example: "url: https://http-intake.logs.datadoghq.eu\napi_key: \"${DD_API_KEY}\"\ntags: [env:production]\n",
    build: |parameters, ground| super::build_with(parameters, ground, Sender::new),
};

/// What the intake takes at once: 1,000 logs in 5 MB, each of at most 1 MB.
const BOUNDS: Bounds = Bounds { events: 1000, bytes: 5_000_000 };
const LOG_BYTES_MAX: usize = 1_000_000;
const LOGS_PATH: &str = "/api/v2/logs";
const EVENTS_PATH: &str = "/api/v1/events";
/// Events take one request each, within the time of one batch.
const EVENTS_MAX: usize = 25;
/// Bytes of an event's text and title.
const TEXT_BYTES: usize = 4000;
const TITLE_BYTES: usize = 100;
/// Datadog takes no log and no event that is 18 hours old by its own word; one that is gets the time of its arrival.
const AGE_MAX: Duration = Duration::from_secs(18 * 3600 - 600);
/// Bytes of a tag.
const TAG_BYTES: usize = 200;
/// Tags that an operator may add.
const TAGS_MAX: usize = 20;

/// Datadog.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Datadog {
    /// The logs intake of your site: `https://http-intake.logs.` and the site, such as `datadoghq.eu`.
    pub url: String,
    /// The API key. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretSource>,
    /// Where decisions, and what becomes of them, are sent as events, too: `https://api.` and the site. Without it only
    /// logs are sent. Each is a request of its own, so at most 25 are sent at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_url: Option<String>,
    /// The service that logs belong to.
    pub service: String,
    /// What Datadog chooses a pipeline by (`ddsource`).
    pub source: String,
    /// The host that logs belong to; without it what the machine is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Tags to add to those that every log has, such as `env:production`. At most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Whether logs are compressed by gzip.
    pub compress: bool,
    /// How the receiver is reached: `ca_file` names authorities (PEM) to believe instead of those of the system,
    /// `certificate_file` and `key_file` what is shown to it, `allow_addresses` addresses that would be refused otherwise.
    pub connection: Connection,
}

impl Default for Datadog {
    fn default() -> Self {
        Self {
            url: "https://http-intake.logs.datadoghq.com".to_owned(),
            api_key: None,
            events_url: None,
            service: "checkgate".to_owned(),
            source: "checkgate".to_owned(),
            hostname: None,
            tags: Vec::new(),
            compress: true,
            connection: Connection::default(),
        }
    }
}

impl Parameters for Datadog {
    fn check(&self) -> Result<(), PartError> {
        for (key, url) in [("url", Some(&self.url)), ("events_url", self.events_url.as_ref())] {
            url.map_or(Ok(()), |url| Url::check(key, url))?;
        }
        if self.api_key.is_none() {
            return Err(PartError::new(&["api_key"], "the key is missing; add api_key: \"${NAME}\""));
        }
        for (key, name) in [
            ("service", Some(&self.service)),
            ("source", Some(&self.source)),
            ("hostname", self.hostname.as_ref()),
        ] {
            let sound = |name: &String| !name.is_empty() && tag_text(name) == name.to_lowercase();
            if !name.is_none_or(sound) {
                let message = "expected 1 to 200 of letters, digits and -_./:";
                return Err(PartError::new(&[key], message));
            }
        }
        let unsound = self.tags.iter().position(|tag| tag.is_empty() || tag_text(tag) != *tag);
        if let Some(index) = unsound.or((self.tags.len() > TAGS_MAX).then_some(TAGS_MAX)) {
            let message = format!("at most {TAGS_MAX} tags, each of small letters, digits and -_./:");
            return Err(PartError::new(&["tags", &index.to_string()], message));
        }
        self.connection.allowed("connection").map(drop)
    }
}

/// What every log says besides the event.
struct About {
    host: Option<String>,
    service: String,
    source: String,
    tags: Vec<String>,
}

/// Sends to Datadog.
struct Sender {
    logs: Client,
    logs_path: String,
    events: Option<(Client, String)>,
    headers: HeaderMap,
    about: About,
    compress: bool,
}

impl Sender {
    fn new(parameters: Datadog, ground: &Ground<'_>) -> Result<Self, PartError> {
        let client =
            |url: &str, key| Client::new(&ground.url(key, url)?, &parameters.connection, (key, "connection"));
        let events = parameters.events_url.as_deref().map(|url| client(url, "events_url")).transpose()?;
        let logs = client(&parameters.url, "url")?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &parameters.api_key {
            headers.insert(HeaderName::from_static("dd-api-key"), ground.header("api_key", "", key)?);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let host = parameters.hostname.unwrap_or_else(super::syslog::own_name);
        Ok(Self {
            logs_path: below(logs.url(), LOGS_PATH),
            logs,
            events: events
                .map(|client| (below(client.url(), EVENTS_PATH), client))
                .map(|(path, client)| (client, path)),
            headers,
            about: About {
                host: Some(host).filter(|host| host != "-"),
                service: parameters.service,
                source: parameters.source,
                tags: parameters.tags,
            },
            compress: parameters.compress,
        })
    }

    async fn send_all(&self, batch: &[Event]) -> Result<(), SinkError> {
        let now = clock::now();
        if let Some((client, path)) = &self.events {
            for event in batch.iter().filter(|event| is_decided(event.kind)) {
                self.post(client, path, self.about.event(event, now), false).await?;
            }
        }
        for body in packed(batch.iter().map(|event| self.about.log(event, now)), ARRAY, BOUNDS) {
            self.post(&self.logs, &self.logs_path, body, self.compress).await?;
        }
        Ok(())
    }

    async fn post(&self, client: &Client, path: &str, body: String, compress: bool) -> Result<(), SinkError> {
        let (headers, body) = encoded_with(&self.headers, body, compress);
        client.ask(Method::POST, Some(path), &headers, body).await?.judged()
    }
}

impl Sink for Sender {
    fn send<'a>(&'a self, batch: &'a [Event]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.send_all(batch))
    }

    fn bounds(&self) -> Bounds {
        match &self.events {
            Some(_) => Bounds { events: EVENTS_MAX, ..BOUNDS },
            None => BOUNDS,
        }
    }

    fn target(&self) -> String {
        self.logs.url().origin()
    }
}

/// The API's path, below what the URL has already.
fn below(url: &Url, path: &str) -> String {
    let own = url.path.split('?').next().unwrap_or_default();
    let own = own.trim_end_matches('/');
    format!("{}{path}", own.strip_suffix(path).unwrap_or(own))
}

/// Whether it tells of a decision or of what becomes of one.
fn is_decided(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Decision
            | EventKind::Approved
            | EventKind::Rejected
            | EventKind::Lifted
            | EventKind::Extended
    )
}

impl About {
    /// One log of the intake's array; `now` decides whether Datadog takes its time.
    fn log(&self, event: &Event, now: Time) -> String {
        let time = is_recent(event, now).then_some(event.time.0 / 1000);
        item(event, Format::Json, LOG_BYTES_MAX, |said| {
            let mut log = json!({
                "ddsource": self.source,
                "ddtags": self.tags(event).join(","),
                "service": self.service,
                "hostname": self.host,
                "status": log_status(event.severity),
                "timestamp": time,
                "message": message(event, &said),
                "checkgate": said,
            });
            without_nulls(&mut log);
            log
        })
    }

    /// The body of one event; `now` decides whether Datadog takes its time.
    fn event(&self, event: &Event, now: Time) -> String {
        let mut body = json!({
            "title": cut(&title(event), TITLE_BYTES),
            "text": cut(&event.explanation, TEXT_BYTES),
            "alert_type": alert_type(event.severity),
            "aggregation_key": event.decision.map_or_else(|| event.id.to_string(), |id| id.to_string()),
            "tags": self.tags(event).into_iter().chain([format!("event_id:{}", tag_text(&event.id))]).collect::<Vec<_>>(),
            "host": self.host,
            "date_happened": is_recent(event, now).then_some(event.time.0 / 1_000_000),
        });
        without_nulls(&mut body);
        json_text(&body)
    }

    fn tags(&self, event: &Event) -> Vec<String> {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        let own = [
            ("service", Some(self.service.clone())),
            ("kind", Some(event.kind.as_str().to_owned())),
            ("severity", Some(event.severity.as_str().to_owned())),
            ("model", text(&event.model)),
            ("detector", text(&event.detector)),
            ("action", event.action.map(|action| action.as_str().to_owned())),
            ("tenant", text(&event.tenant)),
        ];
        let own = own.into_iter().filter_map(|(key, value)| {
            Some(tag_text(&format!("{key}:{}", value.filter(|value| !value.is_empty())?)))
        });
        own.chain(self.tags.iter().cloned()).collect()
    }
}

fn is_recent(event: &Event, now: Time) -> bool {
    now.since(event.time) < AGE_MAX
}

/// Takes out the keys that stand for nothing.
fn without_nulls(object: &mut Value) {
    if let Some(keys) = object.as_object_mut() {
        keys.retain(|_, value| !value.is_null());
    }
}

/// What people read first; the whole of it stands in the event, too.
fn message(event: &Event, said: &Value) -> String {
    let shortened = said.get("shortened").is_some();
    let bytes = if shortened { TEXT_BYTES } else { usize::MAX };
    cut(&event.explanation, bytes).to_owned()
}

/// A tag as Datadog keeps it: small letters, digits and a few signs, at most 200 bytes.
fn tag_text(text: &str) -> String {
    let kept = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
        '-' | '_' | '.' | '/' | ':' => letter,
        _ => '_',
    };
    text.chars().map(kept).take(TAG_BYTES).collect()
}

fn log_status(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "info",
        Severity::Medium => "warn",
        Severity::High => "error",
    }
}

fn alert_type(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "info",
        Severity::Medium => "warning",
        Severity::High => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::tests::{HOSTILE, NOW, as_committed, events};

    fn about() -> About {
        About {
            host: Some("gate-1".into()),
            service: "checkgate".into(),
            source: "checkgate".into(),
            tags: vec!["env:test".into()],
        }
    }

    #[test]
    fn a_log_has_what_datadog_sorts_by_whatever_the_texts_hold() {
        for event in HOSTILE.iter().flat_map(|text| events(text)) {
            let read: Value = serde_json::from_str(&about().log(&event, NOW)).unwrap();
            assert_eq!((&read["ddsource"], &read["service"]), (&json!("checkgate"), &json!("checkgate")));
            assert_eq!(read["timestamp"], 1_700_000_000_000_u64);
            assert_eq!(read["checkgate"]["event_id"], *event.id);
            let tags = read["ddtags"].as_str().unwrap();
            assert!(tags.ends_with(",env:test"), "{tags}");
            let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_./:,".contains(c);
            assert!(tags.chars().all(sound), "a tag holds what Datadog does not keep: {tags}");
        }
    }

    #[test]
    fn the_forms_are_as_committed() {
        as_committed("datadog", |event| about().log(event, NOW));
        as_committed("datadog_events", |event| about().event(event, NOW));
    }

    #[test]
    fn an_event_of_a_decision_and_of_its_lift_are_grouped() {
        let all: Vec<Value> = events("prices")
            .iter()
            .filter(|event| is_decided(event.kind))
            .map(|event| serde_json::from_str(&about().event(event, NOW)).unwrap())
            .collect();
        assert_eq!(all.len(), 5);
        for one in &all {
            assert_eq!(one["aggregation_key"], "d-0000000000000007");
            assert_eq!(one["date_happened"], 1_700_000_000);
        }
        assert_eq!((&all[0]["alert_type"], &all[3]["alert_type"]), (&json!("error"), &json!("info")));
    }

    #[test]
    fn an_event_of_yesterday_is_taken_as_one_of_today() {
        let event = &events("prices")[1];
        let later = Time(NOW.0 + 20 * 3_600_000_000);
        let read: Value = serde_json::from_str(&about().event(event, later)).unwrap();
        assert_eq!(read.get("date_happened"), None, "Datadog refuses times that are older than 18 hours");
        let read: Value = serde_json::from_str(&about().log(event, later)).unwrap();
        assert_eq!((read.get("timestamp"), &read["checkgate"]["time"]), (None, &json!(1_700_000_000.0)));
    }

    #[test]
    fn the_path_is_added_to_what_the_url_has() {
        for (typed, expected) in [
            ("https://a.example", "/api/v2/logs"),
            ("https://a.example/api/v2/logs", "/api/v2/logs"),
            ("https://a.example/relay/", "/relay/api/v2/logs"),
        ] {
            assert_eq!(below(&Url::parse(typed).unwrap(), LOGS_PATH), expected, "{typed}");
        }
    }
}

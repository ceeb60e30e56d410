//! Elasticsearch, and what speaks its bulk API: `POST /_bulk` with one `create` for each event, in ECS fields.
//!
//! An event's id is that of its document, so a repeat is told as one that is there already, and stays one document.

use checkgate_config::parts::PartError;
use checkgate_config::secret::SecretSource;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::address::Connection;
use super::http::{Answer, Client, Url};
use super::render::bodies::{JOINED, encoded_with, packed};
use super::render::{ecs, json_text};
use super::{Bounds, Event, Ground, Parameters, Sink, SinkError, SinkSpec};
use crate::told;

/// The entry in the list of sinks.
pub const SPEC: SinkSpec = SinkSpec {
    name: "elastic",
    summary: "Elasticsearch by its bulk API, in ECS fields; repeats stay one document",
    schema: super::schema_of::<Elastic>,
    defaults: super::defaults_of::<Elastic>,
    check: super::check_of::<Elastic>,
    example: "url: https://elastic.example:9200\napi_key: \"${CHECKGATE_ELASTIC_KEY}\"\nindex: logs-checkgate.event-default\n",
    build: |parameters, ground| super::build_with(parameters, ground, Sender::new),
};

/// What a request holds at most, before it is compressed; Elasticsearch takes 100 MB and does best with a few.
const BOUNDS: Bounds = Bounds { events: 1000, bytes: 5_000_000 };
const PATH: &str = "/_bulk";
/// What is wanted of the answer.
const FILTER: &str = "filter_path=errors,items.*.status,items.*.error";
/// Letters of a data stream's name.
const INDEX_MAX: usize = 255;
/// Letters of what is shown of an item's error.
const SHOWN_MAX: usize = 200;

/// Elasticsearch.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Elastic {
    /// Scheme, host and port, such as `https://elastic.example:9200`; `/_bulk` is added. Required.
    pub url: String,
    /// The API key, encoded as Elasticsearch shows it; sent as `Authorization: ApiKey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretSource>,
    /// The data stream, or index, that documents are created in.
    pub index: String,
    /// Whether bodies are compressed by gzip.
    pub compress: bool,
    /// How the receiver is reached: `ca_file` names authorities (PEM) to believe instead of those of the system,
    /// `certificate_file` and `key_file` what is shown to it, `allow_addresses` addresses that would be refused otherwise.
    pub connection: Connection,
}

impl Default for Elastic {
    fn default() -> Self {
        Self {
            url: String::new(),
            api_key: None,
            index: "logs-checkgate.event-default".to_owned(),
            compress: true,
            connection: Connection::default(),
        }
    }
}

impl Parameters for Elastic {
    fn check(&self) -> Result<(), PartError> {
        Url::check("url", &self.url)?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let begins =
            self.index.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.');
        if !begins || self.index.len() > INDEX_MAX || !self.index.chars().all(plain) {
            let message = "expected small letters, digits and -_., such as logs-checkgate.event-default";
            return Err(PartError::new(&["index"], message));
        }
        self.connection.allowed("connection").map(drop)
    }
}

/// Sends to Elasticsearch.
struct Sender {
    client: Client,
    path: String,
    headers: HeaderMap,
    index: String,
    compress: bool,
}

impl Sender {
    fn new(parameters: Elastic, ground: &Ground<'_>) -> Result<Self, PartError> {
        let client =
            Client::new(&ground.url("url", &parameters.url)?, &parameters.connection, ("url", "connection"))?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &parameters.api_key {
            headers.insert(AUTHORIZATION, ground.header("api_key", "ApiKey ", key)?);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let own = client.url().path.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        let own = own.strip_suffix(PATH).unwrap_or(&own);
        Ok(Self {
            path: format!("{own}{PATH}?{FILTER}"),
            client,
            headers,
            index: parameters.index,
            compress: parameters.compress,
        })
    }

    async fn send_all(&self, batch: &[Event]) -> Result<(), SinkError> {
        for body in packed(batch.iter().map(|event| item(&self.index, event)), JOINED, BOUNDS) {
            let (headers, body) = encoded_with(&self.headers, body, self.compress);
            judged(&self.client.ask(Method::POST, Some(&self.path), &headers, body).await?)?;
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

/// The two lines of an event.
fn item(index: &str, event: &Event) -> String {
    let order = json!({"create": {"_index": index, "_id": event.id}});
    let whole = json_text(&ecs::document(event, true));
    let document = if whole.len() < BOUNDS.bytes { whole } else { json_text(&ecs::document(event, false)) };
    format!("{}\n{document}\n", json_text(&order))
}

/// What an answer means: 200 says nothing by itself, each item has a status of its own.
fn judged(answer: &Answer) -> Result<(), SinkError> {
    match answer.judged() {
        // Elasticsearch says so of a body that it cannot read as a whole.
        Err(SinkError::Never { why }) if answer.status.as_u16() != 413 => {
            return Err(SinkError::refused(format!("{why}; that is about the request, not about an event")));
        }
        other => other?,
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    // The answer to a large batch is longer than what is read of it: its head says whether there were errors.
    let head = answer.body.get(..answer.body.len().min(200)).unwrap_or_default();
    let has = |word: &str| String::from_utf8_lossy(head).contains(word);
    match said.get("errors").and_then(Value::as_bool) {
        Some(false) => Ok(()),
        Some(true) => items(said.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice)),
        None if has("\"errors\":false") => Ok(()),
        // Halves of the batch have shorter answers.
        None if has("\"errors\":true") => Err(SinkError::never("some of very many documents are not taken")),
        None => Err(SinkError::refused(format!("{}; that is no answer of Elasticsearch", answer.told()))),
    }
}

/// What the items of an answer mean together: what waits outweighs what is wrong, for the others are then tried again.
fn items(items: &[Value]) -> Result<(), SinkError> {
    let mut worst = Ok(());
    for item in items {
        let done = item.as_object().and_then(|item| item.values().next()).cloned().unwrap_or_default();
        let status = done.get("status").and_then(Value::as_u64).unwrap_or_default();
        let error = match status {
            // 409: it is there already.
            200..=299 | 409 => continue,
            429 | 500..=599 => return Err(SinkError::later(shown(status, &done))),
            401 | 403 | 404 => SinkError::refused(shown(status, &done)),
            _ => SinkError::never(shown(status, &done)),
        };
        if !matches!(worst, Err(SinkError::Refused { .. })) {
            worst = Err(error);
        }
    }
    worst
}

fn shown(status: u64, done: &Value) -> String {
    let part = |key: &str| done.pointer(&format!("/error/{key}")).and_then(Value::as_str).unwrap_or_default();
    let text: String = format!("{}: {}", part("type"), part("reason")).chars().take(SHOWN_MAX).collect();
    format!("a document is answered {status}: {}", told::replaced(&text))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::sinks::tests::{HOSTILE, as_committed, events};

    fn told(status: u16, body: &str) -> &'static str {
        let status = StatusCode::from_u16(status).unwrap();
        match judged(&Answer { status, headers: HeaderMap::new(), body: body.to_owned().into() }) {
            Ok(()) => "taken",
            Err(SinkError::Later { .. }) => "later",
            Err(SinkError::Never { .. }) => "never",
            Err(SinkError::Refused { .. } | SinkError::Gone { .. }) => "refused",
        }
    }

    #[test]
    fn each_document_of_an_answer_is_looked_at() {
        let with = |statuses: &[u16]| {
            let items: Vec<_> = statuses.iter().map(|status| json!({"create": {"status": status}})).collect();
            json!({ "errors": true, "items": items }).to_string()
        };
        assert_eq!(told(200, r#"{"errors":false,"items":[{"create":{"status":201}}]}"#), "taken");
        assert_eq!(told(200, &with(&[201, 409, 201])), "taken", "a repeat is there already");
        assert_eq!(told(200, &with(&[201, 400, 201])), "never");
        assert_eq!(
            told(200, &with(&[400, 429, 201])),
            "later",
            "what waits is tried again before anything is given up"
        );
        assert_eq!(told(200, &with(&[201, 503])), "later");
        assert_eq!(told(200, &with(&[404])), "refused", "there is no such index");
        assert_eq!(told(200, &with(&[403, 400])), "refused");
        for (status, expected) in
            [(400, "refused"), (401, "refused"), (413, "never"), (429, "later"), (503, "later")]
        {
            assert_eq!(told(status, "{}"), expected, "{status}");
        }
        assert_eq!(told(200, "<html>Welcome</html>"), "refused");
    }

    #[test]
    fn an_answer_that_is_not_read_to_its_end_is_judged_by_its_head() {
        let cut =
            |errors: bool| format!("{{\"errors\":{errors},\"items\":[{{\"create\":{{\"status\":201}}}},");
        assert_eq!((told(200, &cut(false)), told(200, &cut(true))), ("taken", "never"));
    }

    #[test]
    fn an_event_is_one_document_however_often_it_is_sent() {
        for event in HOSTILE.iter().flat_map(|text| events(text)) {
            let item = item("logs-a", &event);
            let lines: Vec<Value> = item.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(lines.len(), 2, "{item}");
            assert_eq!(lines[0], json!({"create": {"_index": "logs-a", "_id": event.id}}));
            assert_eq!(lines[1]["@timestamp"], "2023-11-14T22:13:20.000000Z");
            assert_eq!(lines[1]["checkgate"], event.plain());
        }
        as_committed("elastic", |event| {
            item("logs-checkgate.event-default", event).trim_end().replace('\n', " ")
        });
    }
}

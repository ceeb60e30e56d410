//! Microsoft Sentinel and Azure Monitor: the Logs Ingestion API, 2023-01-01, with an app's own credentials.
//!
//! A token is asked for at Entra ID, kept, and asked for anew before it ends; where the API does not believe it, once more
//! at once. The older HTTP Data Collector API, signed with a workspace's key, is out of support and not spoken.

use std::time::Duration;

use checkgate_config::parts::PartError;
use checkgate_config::secret::SecretSource;
use checkgate_config::settings::Secret;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::address::Connection;
use super::http::{Answer, Client, Url};
use super::render::bodies::{ARRAY, encoded, packed};
use super::render::{json_text, rfc3339};
use super::steps::step;
use super::{Bounds, Event, Ground, Parameters, Sink, SinkError, SinkSpec};

/// The entry in the list of sinks.
pub const SPEC: SinkSpec = SinkSpec {
    name: "sentinel",
    summary: "Microsoft Sentinel and Azure Monitor, by the Logs Ingestion API",
    schema: super::schema_of::<Sentinel>,
    defaults: super::defaults_of::<Sentinel>,
    check: super::check_of::<Sentinel>,
    example: "endpoint: https://checkgate-a1b2.westeurope-1.ingest.monitor.azure.com\nrule: dcr-00000000000000000000000000000000\nstream: Custom-Checkgate_CL\ntenant: 00000000-0000-0000-0000-000000000000\nclient_id: 00000000-0000-0000-0000-000000000000\nclient_secret: \"${CHECKGATE_AZURE_SECRET}\"\n",
    build: |parameters, ground| super::build_with(parameters, ground, Sender::new),
};

/// Bytes of a body before it is compressed: the API's 1 MB, which counts either way.
const BODY_BYTES_MAX: usize = 1_000_000;
/// Bytes of an array's ends.
const ARRAY_BYTES: usize = 2;
/// A token is asked for anew so long before it ends, or after four fifths of its life where that is sooner.
const BEFORE_END: Duration = Duration::from_secs(300);
/// How long a token is good for where nobody says.
const UNTOLD: u64 = 600;
/// Nobody believes a token for longer.
const LONGEST: u64 = 86_400;
/// Letters of a parameter that names something in Azure.
const NAME_MAX: usize = 256;

/// Microsoft Sentinel and Azure Monitor.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sentinel {
    /// Where logs are ingested: the rule's own endpoint, or that of a data collection endpoint. Required.
    pub endpoint: String,
    /// The immutable id of the data collection rule, `dcr-` and 32 digits. Required.
    pub rule: String,
    /// The stream that the rule declares, such as `Custom-Checkgate_CL`. Required.
    pub stream: String,
    /// The directory (tenant) id. Required.
    pub tenant: String,
    /// The application (client) id. Required.
    pub client_id: String,
    /// A secret of that application. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretSource>,
    /// Where tokens are asked for; other clouds have others.
    pub authority: String,
    /// What tokens are asked for.
    pub scope: String,
    /// Whether bodies are compressed by gzip.
    pub compress: bool,
    /// How both are reached: `ca_file` names authorities (PEM) to believe instead of those of the system,
    /// `certificate_file` and `key_file` what is shown to it, `allow_addresses` addresses that would be refused otherwise.
    pub connection: Connection,
}

impl Default for Sentinel {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            rule: String::new(),
            stream: String::new(),
            tenant: String::new(),
            client_id: String::new(),
            client_secret: None,
            authority: "https://login.microsoftonline.com".to_owned(),
            scope: "https://monitor.azure.com/.default".to_owned(),
            compress: true,
            connection: Connection::default(),
        }
    }
}

impl Parameters for Sentinel {
    fn check(&self) -> Result<(), PartError> {
        for (key, url) in [("endpoint", &self.endpoint), ("authority", &self.authority)] {
            Url::check(key, url)?;
        }
        let names = [
            ("rule", &self.rule, "the immutable id of the data collection rule, dcr- and 32 digits"),
            ("stream", &self.stream, "the stream that the rule declares, such as Custom-Checkgate_CL"),
            ("tenant", &self.tenant, "the directory (tenant) id"),
            ("client_id", &self.client_id, "the application (client) id"),
        ];
        for (key, name, what) in names {
            // They stand in paths and forms as they are.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !(1..=NAME_MAX).contains(&name.len()) || !name.chars().all(plain) {
                return Err(PartError::new(&[key], format!("expected {what}")));
            }
        }
        if self.client_secret.is_none() {
            let message = "the secret is missing; add client_secret: \"${NAME}\"";
            return Err(PartError::new(&["client_secret"], message));
        }
        self.connection.allowed("connection").map(drop)
    }
}

/// A token, and until when it is used.
#[derive(Debug)]
struct Token {
    bearer: HeaderValue,
    until: Duration,
}

impl Token {
    /// The token in an answer of `/oauth2/v2.0/token` that came at `now`, counted from any moment.
    fn read(body: &[u8], now: Duration) -> Option<Self> {
        let said: Value = serde_json::from_slice(body).ok()?;
        let token = said.get("access_token")?.as_str().filter(|token| !token.is_empty())?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
        bearer.set_sensitive(true);
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let seconds = said.get("expires_in").and_then(number).unwrap_or(UNTOLD).min(LONGEST);
        let life = Duration::from_secs(seconds);
        Some(Self { bearer, until: now + life.saturating_sub(BEFORE_END).max(life * 4 / 5).min(life) })
    }

    fn is_good(&self, now: Duration) -> bool {
        now < self.until
    }
}

/// Asks for tokens.
struct Tokens {
    client: Client,
    path: String,
    id: String,
    secret: Secret,
    scope: String,
    began: Instant,
    kept: Mutex<Option<Token>>,
}

impl Tokens {
    async fn get(&self) -> Result<HeaderValue, SinkError> {
        let kept = self
            .kept
            .lock()
            .as_ref()
            .filter(|token| token.is_good(self.began.elapsed()))
            .map(|token| token.bearer.clone());
        match kept {
            Some(bearer) => Ok(bearer),
            None => self.ask().await,
        }
    }

    async fn ask(&self) -> Result<HeaderValue, SinkError> {
        step(|| format!("asking {} for a token", self.client.url().origin()));
        let form = form(&[
            ("grant_type", "client_credentials"),
            ("client_id", &self.id),
            ("client_secret", self.secret.reveal()),
            ("scope", &self.scope),
        ]);
        let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))];
        let answer = self.client.ask(Method::POST, Some(&self.path), &headers, form).await?;
        let refused = |why: String| {
            SinkError::refused(format!("no token: {why}; look at tenant, client_id and client_secret"))
        };
        match answer.judged() {
            Err(later @ SinkError::Later { .. }) => return Err(later),
            // What is asked here says nothing about the events.
            Err(error) => return Err(refused(error.to_string())),
            Ok(()) => {}
        }
        let token = Token::read(&answer.body, self.began.elapsed())
            .ok_or_else(|| refused("the answer holds none".to_owned()))?;
        let bearer = token.bearer.clone();
        *self.kept.lock() = Some(token);
        Ok(bearer)
    }
}

/// Sends to a data collection rule.
struct Sender {
    client: Client,
    path: String,
    tokens: Tokens,
    compress: bool,
}

impl Sender {
    fn new(parameters: Sentinel, ground: &Ground<'_>) -> Result<Self, PartError> {
        let client =
            |url: &str, key| Client::new(&ground.url(key, url)?, &parameters.connection, (key, "connection"));
        let secret = match &parameters.client_secret {
            Some(source) => ground.reveal("client_secret", source)?,
            None => return Err(PartError::new(&["client_secret"], "the secret is missing")),
        };
        let (api, authority) =
            (client(&parameters.endpoint, "endpoint")?, client(&parameters.authority, "authority")?);
        let (rule, stream) = (&parameters.rule, &parameters.stream);
        let below = |url: &Url| url.path.trim_end_matches('/').to_owned();
        Ok(Self {
            path: format!(
                "{}/dataCollectionRules/{rule}/streams/{stream}?api-version=2023-01-01",
                below(api.url())
            ),
            client: api,
            tokens: Tokens {
                path: format!("{}/{}/oauth2/v2.0/token", below(authority.url()), parameters.tenant),
                client: authority,
                id: parameters.client_id,
                secret,
                scope: parameters.scope,
                began: Instant::now(),
                kept: Mutex::default(),
            },
            compress: parameters.compress,
        })
    }

    async fn send_all(&self, batch: &[Event]) -> Result<(), SinkError> {
        let bounds = Bounds { bytes: BODY_BYTES_MAX, ..Bounds::default() };
        for body in packed(batch.iter().map(item), ARRAY, bounds) {
            self.send_one(body).await?;
        }
        Ok(())
    }

    async fn send_one(&self, body: String) -> Result<(), SinkError> {
        let (encoding, body) = encoded(body, self.compress);
        let ask = async |bearer: HeaderValue| {
            let mut headers =
                vec![(AUTHORIZATION, bearer), (CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            headers.extend(encoding.clone());
            self.client.ask(Method::POST, Some(&self.path), &headers, body.clone()).await
        };
        let mut answer = ask(self.tokens.get().await?).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // It may have been taken back before its time.
            answer = ask(self.tokens.ask().await?).await?;
        }
        judged(&answer)
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

/// What an answer of the API means.
fn judged(answer: &Answer) -> Result<(), SinkError> {
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = said.pointer("/error/code").and_then(Value::as_str);
    let mend = match (answer.status.as_u16(), code) {
        (400, Some("InvalidStream")) => "the rule declares no such stream",
        (400, None) => "that is no answer of the API: look at endpoint",
        (401, _) => "a token that is new is not believed: look at tenant, scope and client_id",
        (403, _) => {
            "give the application the role Monitoring Metrics Publisher on the rule; it takes up to half an hour"
        }
        (404, _) => "look at endpoint, rule and stream",
        _ => return answer.judged(),
    };
    Err(SinkError::refused(format!("{}; {mend}", answer.told())))
}

/// One row of the table. Its columns are in docs/integrations.md.
fn item(event: &Event) -> String {
    let whole = json_text(&row(event, event.record.as_ref()));
    if whole.len() + ARRAY_BYTES <= BODY_BYTES_MAX {
        return whole;
    }
    let explanation = event.explanation.chars().take(1000).collect::<String>();
    json_text(&row(&Event { explanation: explanation.into(), why: "".into(), ..event.clone() }, None))
}

fn row(event: &Event, record: Option<&Value>) -> Value {
    json!({
        "TimeGenerated": rfc3339(event.time),
        "EventTime": rfc3339(event.time),
        "EventId": event.id,
        "EntryNumber": event.number,
        "Kind": event.kind,
        "Severity": event.severity,
        "Client": event.client,
        "Model": event.model,
        "TenantName": event.tenant,
        "Detector": event.detector,
        "Action": event.action.map(|action| action.as_str()),
        "Mode": event.mode.map(super::event::mode_word),
        "Status": event.status.map(|status| status.as_str()),
        "DecisionId": event.decision,
        "Until": event.until.map(rfc3339),
        "Atlas": event.atlas,
        "Who": event.who,
        "Why": event.why,
        "Explanation": event.explanation,
        "Record": record,
    })
}

/// A form as browsers send it.
fn form(pairs: &[(&str, &str)]) -> String {
    let one = |(key, value): &(&str, &str)| format!("{key}={}", percent_encoded(value));
    pairs.iter().map(one).collect::<Vec<_>>().join("&")
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::sinks::tests::{HOSTILE, as_committed, events};

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_asked_for_anew_before_it_ends() {
        let read = |expires: Value| {
            let body = json!({ "access_token": "t", "expires_in": expires }).to_string();
            Token::read(body.as_bytes(), seconds(100)).unwrap()
        };
        for (expires, good, over) in [
            (json!(3599), 3398, 3400),
            (json!("3599"), 3398, 3400),
            (json!(60), 147, 149),
            (json!(0), 0, 100),
            (Value::Null, 579, 581),
            (json!(u64::MAX), 86_199, 86_201),
        ] {
            let token = read(expires.clone());
            assert!(good == 0 || token.is_good(seconds(good)), "{expires} at {good} s");
            assert!(!token.is_good(seconds(over)), "{expires} at {over} s");
        }
        for bad in ["", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\nb"}"#, "<html>"] {
            assert!(Token::read(bad.as_bytes(), seconds(0)).is_none(), "{bad}");
        }
    }

    #[test]
    fn statuses_mean_what_the_documentation_says() {
        for (status, body, expected) in [
            (204, "", "taken"),
            (400, r#"{"error":{"code":"InvalidPayload"}}"#, "never"),
            (400, r#"{"error":{"code":"InvalidStream"}}"#, "refused"),
            (400, "<html>Bad Request</html>", "refused"),
            (401, "", "refused"),
            (403, "", "refused"),
            (404, "", "refused"),
            (413, "", "never"),
            (429, "", "later"),
            (503, "", "later"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let told = match judged(&Answer { status, headers: HeaderMap::new(), body: body.into() }) {
                Ok(()) => "taken",
                Err(SinkError::Later { .. }) => "later",
                Err(SinkError::Never { .. }) => "never",
                Err(SinkError::Refused { .. } | SinkError::Gone { .. }) => "refused",
            };
            assert_eq!(told, expected, "{status} {body}");
        }
    }

    #[test]
    fn a_row_is_smaller_than_the_api_takes_whatever_the_event_holds() {
        for event in HOSTILE.iter().flat_map(|text| events(text)) {
            let read: Value = serde_json::from_str(&item(&event)).unwrap();
            assert_eq!((&read["EventId"], &read["Kind"]), (&json!(event.id), &json!(event.kind)));
            assert_eq!(read["TimeGenerated"].as_str().unwrap().len(), 27);
        }
        let long: std::sync::Arc<str> = "\u{1}\"".repeat(600_000).into();
        let record = Some(json!({ "explanation": &*long }));
        let event = Event { explanation: long, record, ..events("x").swap_remove(0) };
        assert!(item(&event).len() <= BODY_BYTES_MAX - ARRAY_BYTES);
    }

    #[test]
    fn the_form_is_as_committed() {
        as_committed("sentinel", item);
    }

    #[test]
    fn a_form_holds_any_secret() {
        assert_eq!(form(&[("a", "b c&d=e"), ("f", "ä~")]), "a=b%20c%26d%3De&f=%C3%A4~");
    }
}

//! CrowdSec's Local API as a machine: each block becomes an alert with a decision, and its lift ends that decision there
//! (v1; <https://docs.crowdsec.net/docs/next/local_api/intro>).
//!
//! Only what a bouncer could enforce is told: blocks on addresses that hold everywhere, since a bouncer knows no models.
//! What a source over the Local API decided is never told
//! on, or two programs would hold a ban for each other.

use std::sync::Arc;

use checkgate_config::parts::PartError;
use checkgate_config::secret::SecretSource;
use checkgate_config::settings::{EventKind, Secret};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, Scope};
use checkgate_detectors::identity::Identity;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::address::Connection;
use super::http::{Answer, Client, Url, header_value};
use super::render::{cut, json_text, rfc3339};
use super::{Event, Ground, Parameters, Sink, SinkError, SinkSpec};
use crate::clock;
use crate::identity::written;
use crate::lapi::wire::{BAN, IP, RANGE};
use crate::lapi::{go_time, source_of};
use crate::ledger::entry::Status;

/// The entry in the list of sinks.
pub const SPEC: SinkSpec = SinkSpec {
    name: "crowdsec",
    summary: "alerts and decisions for a CrowdSec's Local API, whose bouncers then enforce them",
    schema: super::schema_of::<Crowdsec>,
    defaults: super::defaults_of::<Crowdsec>,
    check: super::check_of::<Crowdsec>,
    example: "url: http://127.0.0.1:8080\nmachine: checkgate\npassword: ${CROWDSEC_PASSWORD}\n",
    build: |parameters, ground| super::build_with(parameters, ground, Sender::new),
};

/// Who decided, as CrowdSec shows it.
const ORIGIN: &str = "checkgate";
const REQUEST_ID: &str = "x-request-id";
/// Bytes of an alert's message.
const MESSAGE_BYTES: usize = 1024;
/// Alerts on one client that are looked through for a lift.
const ALERTS_MAX: usize = 50;

/// Alerts and decisions for a CrowdSec.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Crowdsec {
    /// Where its Local API is: `http://HOST:PORT`, with a path where it stands behind one. Required.
    pub url: String,
    /// The name of this machine over there; `cscli machines add NAME --password PASSWORD` makes it. Required.
    pub machine: String,
    /// Its password. Required.
    pub password: Option<SecretSource>,
    /// Whether observations are told as well, as simulated alerts, which no bouncer enforces.
    pub simulate: bool,
    /// How the Local API is reached: `ca_file` names authorities (PEM) to believe instead of those of the system,
    /// `allow_addresses` addresses that would be refused otherwise.
    pub connection: Connection,
}

impl Default for Crowdsec {
    fn default() -> Self {
        Self {
            url: String::new(),
            machine: String::new(),
            password: None,
            simulate: true,
            connection: Connection::default(),
        }
    }
}

impl Parameters for Crowdsec {
    fn check(&self) -> Result<(), PartError> {
        let url = Url::parse(&self.url).map_err(|message| PartError::new(&["url"], message))?;
        if url.path.contains('?') {
            return Err(PartError::new(&["url"], "the URL of a Local API has no query; remove it"));
        }
        if self.machine.is_empty() {
            let message = "the machine has no name; `cscli machines add checkgate --password ...` makes one";
            return Err(PartError::new(&["machine"], message));
        }
        if self.password.is_none() {
            return Err(PartError::new(
                &["password"],
                "the machine needs its password; add \"password: ${NAME}\"",
            ));
        }
        self.connection.allowed("connection").map(drop)
    }
}

/// What an event means to a CrowdSec.
#[derive(Debug, PartialEq)]
enum Told {
    /// Nothing.
    Nothing,
    /// That somebody tries whether this works.
    Test,
    /// A decision that stands.
    Ban(Value),
    /// A decision that no longer does.
    Lift(Ended),
    /// One that ends at another time.
    Moved(Ended, Value),
}

/// A decision that is to end over there.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    /// The id of the event that says so.
    event: Arc<str>,
    id: DecisionId,
    scope: &'static str,
    value: String,
}

/// Tells a CrowdSec.
struct Sender {
    client: Client,
    /// What stands before `/v1`.
    base: String,
    machine: String,
    password: Secret,
    simulate: bool,
    /// What the last login gave.
    token: Mutex<Option<HeaderValue>>,
}

impl Sender {
    fn new(parameters: Crowdsec, ground: &Ground<'_>) -> Result<Self, PartError> {
        let missing = || PartError::new(&["password"], "the machine needs its password");
        let password = ground.reveal("password", parameters.password.as_ref().ok_or_else(missing)?)?;
        let client = Client::new(&parameters.url, &parameters.connection, ("url", "connection"))?;
        let base = client.url().path.trim_end_matches('/').to_owned();
        let (machine, simulate) = (parameters.machine, parameters.simulate);
        Ok(Self { client, base, machine, password, simulate, token: Mutex::default() })
    }

    async fn send_all(&self, batch: &[Event]) -> Result<(), SinkError> {
        let now = clock::now();
        let mut alerts = Vec::new();
        for event in batch {
            match told(event, self.simulate, now) {
                Told::Nothing => {}
                Told::Test => drop(self.login().await?),
                Told::Ban(alert) => alerts.push(alert),
                Told::Lift(ended) => {
                    self.post(std::mem::take(&mut alerts)).await?;
                    self.end(&ended).await?;
                }
                Told::Moved(ended, alert) => {
                    self.post(std::mem::take(&mut alerts)).await?;
                    self.end(&ended).await?;
                    alerts.push(alert);
                }
            }
        }
        self.post(alerts).await
    }

    async fn post(&self, alerts: Vec<Value>) -> Result<(), SinkError> {
        if alerts.is_empty() {
            return Ok(());
        }
        let body = json_text(&Value::Array(alerts));
        self.ask((Method::POST, "/v1/alerts"), None, &body).await?.judged()
    }

    /// Ends what was decided on account of one decision here, and nothing else that stands on its client.
    async fn end(&self, ended: &Ended) -> Result<(), SinkError> {
        let Ended { event, id, scope, value } = ended;
        let place = format!("scope={scope}&value={}", value.replace('/', "%2F"));
        let path = format!("/v1/alerts?{place}&has_active_decision=true&limit={ALERTS_MAX}");
        let answer = self.ask((Method::GET, &path), Some(event), "").await?;
        answer.judged()?;
        let Ok(alerts) = serde_json::from_slice::<Option<Vec<Alert>>>(&answer.body) else {
            // More than can be read: then what this program told of the client goes as a whole.
            let path =
                format!("/v1/decisions?origin={ORIGIN}&scopes={scope}&value={}", value.replace('/', "%2F"));
            return self.ask((Method::DELETE, &path), Some(event), "").await?.judged();
        };
        let mark = id.to_string();
        let own = alerts.into_iter().flatten().filter(|alert| alert.message.contains(&mark));
        for decision in own.flat_map(|alert| alert.decisions.unwrap_or_default()) {
            let path = format!("/v1/decisions/{}", decision.id);
            self.ask((Method::DELETE, &path), Some(event), "").await?.judged()?;
        }
        Ok(())
    }

    /// Asks on account of an event, with the token of the last login, and with a new one where that is no longer taken.
    async fn ask(
        &self,
        (method, path): (Method, &str),
        event: Option<&str>,
        body: &str,
    ) -> Result<Answer, SinkError> {
        let known = self.token.lock().clone();
        if let Some(token) = known {
            let answer = self.ask_with(token, (method.clone(), path), event, body).await?;
            if answer.status != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
        }
        let token = self.login().await?;
        self.ask_with(token, (method, path), event, body).await
    }

    async fn ask_with(
        &self,
        token: HeaderValue,
        (method, path): (Method, &str),
        event: Option<&str>,
        body: &str,
    ) -> Result<Answer, SinkError> {
        let mut headers = vec![json_type(), (AUTHORIZATION, token)];
        if let Some(event) = event {
            // What has no body to name it in is found in logs by this.
            headers.push((HeaderName::from_static(REQUEST_ID), header_value(event)?));
        }
        let path = format!("{}{path}", self.base);
        self.client.ask(method, Some(&path), &headers, body.to_owned()).await
    }

    async fn login(&self) -> Result<HeaderValue, SinkError> {
        #[derive(Deserialize)]
        struct Login {
            token: String,
        }
        let path = format!("{}/v1/watchers/login", self.base);
        let who = json!({ "machine_id": self.machine, "password": self.password.reveal(), "scenarios": [] });
        let answer = self.client.ask(Method::POST, Some(&path), &[json_type()], json_text(&who)).await?;
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status) {
            let why = format!("{}; `cscli machines list` says whether the machine is known", answer.told());
            return Err(SinkError::refused(why));
        }
        answer.judged()?;
        let login: Login = serde_json::from_slice(&answer.body).map_err(|_| {
            SinkError::refused("the answer to the login holds no token: is this a Local API?")
        })?;
        let mut token = header_value(&format!("Bearer {}", login.token))?;
        token.set_sensitive(true);
        *self.token.lock() = Some(token.clone());
        Ok(token)
    }
}

fn json_type() -> (HeaderName, HeaderValue) {
    (CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

impl Sink for Sender {
    fn send<'a>(&'a self, batch: &'a [Event]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.send_all(batch))
    }

    fn takes(&self, event: &Event) -> bool {
        !matches!(told(event, self.simulate, clock::now()), Told::Nothing | Told::Test)
    }

    fn target(&self) -> String {
        self.client.url().origin()
    }
}

/// An alert that CrowdSec shows, as far as a lift needs it.
#[derive(Debug, Deserialize)]
struct Alert {
    #[serde(default)]
    message: String,
    #[serde(default)]
    decisions: Option<Vec<Decision>>,
}

#[derive(Debug, Deserialize)]
struct Decision {
    id: i64,
}

/// What `event` means at `now`.
fn told(event: &Event, simulate: bool, now: Time) -> Told {
    if event.kind == EventKind::Test {
        return Told::Test;
    }
    let elsewhere = event.detector.as_deref().is_some_and(|detector| source_of(detector).is_some());
    let blocks = event.action == Some(Action::Block) && !elsewhere && event.scope != Some(Scope::Model);
    let (Some((scope, value)), Some(id), true) = (place(event), event.decision, blocks) else {
        return Told::Nothing;
    };
    let ended = || Ended { event: Arc::clone(&event.id), id, scope, value: value.clone() };
    let simulated = match event.status {
        Some(Status::InForce) => false,
        Some(Status::Observed) if simulate => true,
        Some(Status::Lifted) if event.kind == EventKind::Lifted => return Told::Lift(ended()),
        _ => return Told::Nothing,
    };
    let ban = event.until.filter(|until| now < *until).map(|until| {
        let duration = go_time::written(until.since(now));
        alert(event, (scope, &value), &duration, simulated)
    });
    match (event.kind, ban) {
        (EventKind::Decision | EventKind::Approved, Some(alert)) => Told::Ban(alert),
        (EventKind::Extended, Some(alert)) => Told::Moved(ended(), alert),
        _ => Told::Nothing,
    }
}

/// Whom an event is about, where that is an address: the scope and the value.
fn place(event: &Event) -> Option<(&'static str, String)> {
    let Identity::Address(address) = written(event.client.as_deref()?)? else { return None };
    Some((if address.ip().is_ipv6() { RANGE } else { IP }, address.to_string()))
}

/// The alert of a decision. Its message ends in the decision's id, by which a lift finds it again, and the event's id
/// is among what it is told with.
fn alert(event: &Event, (scope, value): (&str, &str), duration: &str, simulated: bool) -> Value {
    let detector = event.detector.as_deref().unwrap_or("operator");
    let scenario = format!("{ORIGIN}/{detector}");
    let id = event.decision.map(|id| id.to_string()).unwrap_or_default();
    let at = rfc3339(event.time);
    let meta = |(key, value): (&str, Option<&str>)| {
        value.map(|value| json!({ "key": key, "value": cut(value, MESSAGE_BYTES) }))
    };
    let told = [
        ("event_id", Some(&*event.id)),
        ("model", event.model.as_deref()),
        ("atlas", event.atlas.as_deref()),
    ];
    json!({
        "scenario": scenario,
        "scenario_hash": "",
        "scenario_version": "",
        "message": format!("{} ({id})", cut(&event.explanation, MESSAGE_BYTES)),
        "events_count": 1,
        "start_at": at,
        "stop_at": at,
        "capacity": 0,
        "leakspeed": "0s",
        "simulated": simulated,
        "remediation": !simulated,
        "events": [{
            "timestamp": at,
            "meta": told.into_iter().filter_map(meta).collect::<Vec<_>>(),
        }],
        "source": { "scope": scope, "value": value },
        "decisions": [{
            "origin": ORIGIN,
            "type": BAN,
            "scope": scope,
            "value": value,
            "duration": duration,
            "scenario": scenario,
            "simulated": simulated,
        }],
    })
}

#[cfg(test)]
mod tests;

//! One thing that happened, as every sink gets it: an entry of the ledger with what is known of the decision that it is
//! about.
//!
//! It holds what records hold already, and nothing of the traffic's bodies. Its texts come from clients in part (names
//! of models, of fields, of keys): whoever renders them escapes them.

use std::sync::Arc;

use checkgate_config::settings::EventKind;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, Mode, Scope, Tier};
use checkgate_detectors::severity::Severity;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::render::cut;
use crate::admin::events::view;
use crate::ledger::entry::{Decided, Entry, Status, What};
use crate::ledger::line::Hash;

/// Hexadecimal digits of a line's hash that an id ends in.
const HASH_DIGITS: usize = 8;

/// Bytes of an explanation, and of any other text, where the whole event is too long.
const SHORT_EXPLANATION_BYTES: usize = 256;
const SHORT_TEXT_BYTES: usize = 64;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `INSTANCE-NUMBER-HASH`: the same whenever the event is sent, and never that of another one. Letters, digits
    /// and `-`.
    pub id: Arc<str>,
    /// The number of its entry in the ledger; 0 for a test.
    pub number: u64,
    /// When it happened.
    pub time: Time,
    /// What kind of thing.
    pub kind: EventKind,
    /// `checkgate` itself, or the name of whoever did it.
    pub who: Arc<str>,
    /// Where that request came from.
    pub from: Option<Arc<str>>,
    /// The reason that was given; may be empty.
    pub why: Arc<str>,
    /// How grave it is.
    pub severity: Severity,
    /// Whom it is about, as records print it: an address, a network, or `key:` and the hash of a key.
    pub client: Option<Arc<str>>,
    /// The model that was asked.
    pub model: Option<Arc<str>>,
    /// Where the decision holds: at that model alone, or everywhere.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// Whose client it is about.
    pub tenant: Option<Arc<str>>,
    /// The detector that found why.
    pub detector: Option<Arc<str>>,
    /// What is done about it.
    pub action: Option<Action>,
    /// Where the decision stands.
    pub status: Option<Status>,
    /// When the decision ends.
    pub until: Option<Time>,
    /// The mode that the record was made in.
    pub mode: Option<Mode>,
    /// The decision that it is or is about.
    pub decision: Option<DecisionId>,
    /// MITRE ATLAS technique.
    pub atlas: Option<Arc<str>>,
    /// What happened, in a sentence or two for people.
    pub explanation: Arc<str>,
    /// The record of the finding or decision, as JSON.
    pub record: Option<Value>,
    /// The entry as `GET /v1/events` shows it, the record aside.
    pub view: Map<String, Value>,
}

impl Event {
    /// The event that `entry` is, whose line in the log has `hash`. `about` is the decision that it names, where the
    /// ledger still knows it.
    #[must_use]
    pub fn of(entry: &Entry, hash: &Hash, instance: &str, about: Option<&Decided>) -> Self {
        let digits: String = hash.text().chars().take(HASH_DIGITS).collect();
        let mut view = match view(entry) {
            Value::Object(view) => view,
            _ => Map::new(),
        };
        let own = match &entry.what {
            What::Decision(decided) => Some(&**decided),
            _ => None,
        };
        let shown = view.remove("record");
        let about = own.or(about);
        let record = shown.or_else(|| about.and_then(|decided| serde_json::from_str(&decided.evidence).ok()));
        let mut event = Self {
            id: format!("{instance}-{}-{digits}", entry.number).into(),
            number: entry.number,
            time: entry.time,
            kind: kind_of(&entry.what),
            who: Arc::clone(&entry.by.who),
            from: entry.by.from.clone(),
            why: Arc::clone(&entry.by.why),
            severity: Severity::Low,
            client: None,
            model: None,
            scope: None,
            tenant: None,
            detector: None,
            action: None,
            status: None,
            until: None,
            mode: None,
            decision: entry.what.decision(),
            atlas: None,
            explanation: Arc::default(),
            record,
            view,
        };
        event.read_record();
        event.read_decision(about);
        event.read_what(&entry.what);
        event.severity = event.judged(&entry.what);
        event.explanation = event.told(&entry.what).into();
        event
    }

    /// An event to try a sink with.
    #[must_use]
    pub fn test(instance: &str, now: Time) -> Self {
        let explanation = "This is a test of a sink; nothing happened.";
        let view =
            json!({"kind": "test", "number": 0, "time": now.seconds(), "who": "checkgate", "why": "a test"});
        Self {
            id: format!("{instance}-test-{}", now.0).into(),
            number: 0,
            time: now,
            kind: EventKind::Test,
            who: "checkgate".into(),
            from: None,
            why: "a test".into(),
            severity: Severity::Low,
            client: None,
            model: None,
            scope: None,
            tenant: None,
            detector: None,
            action: None,
            status: None,
            until: None,
            mode: None,
            decision: None,
            atlas: None,
            explanation: explanation.into(),
            record: None,
            view: view.as_object().cloned().unwrap_or_default(),
        }
    }

    /// It as JSON: what `GET /v1/events` shows, with the id under `event_id`, and with whom and what the decision is
    /// about.
    #[must_use]
    pub fn plain(&self) -> Value {
        let mut plain = self.view.clone();
        let mut more = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                plain.entry(key).or_insert(value);
            }
        };
        let text = |text: &Option<Arc<str>>| text.as_deref().map(Value::from);
        more("event_id", Some(Value::from(&*self.id)));
        more("severity", Some(self.severity.as_str().into()));
        more("explanation", Some(Value::from(&*self.explanation)));
        more("client", text(&self.client));
        more("model", text(&self.model));
        more("scope", self.scope.map(|scope| scope.as_str().into()));
        more("tenant", text(&self.tenant));
        more("detector", text(&self.detector));
        more("action", self.action.map(|action| action.as_str().into()));
        more("mode", self.mode.map(mode_word).map(Value::from));
        more("atlas", text(&self.atlas));
        more("record", self.record.clone());
        Value::Object(plain)
    }

    /// The same without the record, and with a bound on every text: at most 4 KiB of JSON whatever the event holds. Says
    /// so by `shortened`.
    #[must_use]
    pub fn short(&self) -> Value {
        let text =
            |text: &Option<Arc<str>>| text.as_deref().map(|text| cut(text, SHORT_TEXT_BYTES).to_owned());
        json!({
            "kind": self.kind,
            "event_id": self.id,
            "number": self.number,
            "time": self.time.seconds(),
            "severity": self.severity,
            "decision_id": self.decision,
            "client": text(&self.client),
            "model": text(&self.model),
            "detector": text(&self.detector),
            "action": self.action.map(|action| action.as_str()),
            "explanation": cut(&self.explanation, SHORT_EXPLANATION_BYTES),
            "shortened": true,
        })
    }

    /// A value of the record.
    #[must_use]
    pub fn of_record(&self, key: &str) -> Option<&Value> {
        self.record.as_ref()?.get(key).filter(|value| !value.is_null())
    }

    /// Whether it is a detector's note: kept, and told to nobody.
    #[must_use]
    pub fn is_note(&self) -> bool {
        self.of_record("kind").and_then(Value::as_str) == Some("note")
    }

    fn text_of_record(&self, key: &str) -> Option<Arc<str>> {
        self.of_record(key)?.as_str().map(Arc::from)
    }

    fn word_of_record<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        T::deserialize(self.of_record(key)?).ok()
    }

    fn read_record(&mut self) {
        self.client = self.text_of_record("client");
        self.model = self.text_of_record("model");
        self.detector = self.text_of_record("detector");
        self.atlas = self.text_of_record("atlas").filter(|atlas| !atlas.is_empty());
        self.tenant = self.of_record("tenant").and_then(|tenant| tenant.get("name")?.as_str().map(Arc::from));
        self.action = self.word_of_record("action");
        self.mode = self.word_of_record("mode");
        self.scope = self.word_of_record("scope");
        self.until = self.of_record("until").and_then(Value::as_f64).map(moment);
        self.decision = self.decision.or_else(|| self.word_of_record("decision_id"));
    }

    fn read_decision(&mut self, about: Option<&Decided>) {
        let Some(decided) = about else { return };
        self.client = Some(decided.client.to_string().into());
        self.model = decided.model.clone();
        self.scope = Some(decided.scope);
        self.detector = Some(Arc::clone(&decided.detector));
        self.tenant = decided.tenant.clone().or(self.tenant.take());
        self.action = Some(decided.action);
        self.status = Some(decided.status);
        self.until = Some(decided.until);
    }

    fn read_what(&mut self, what: &What) {
        match what {
            What::Approved { until, .. } => {
                (self.status, self.until) = (Some(Status::InForce), Some(*until));
            }
            What::Extended { until, .. } => self.until = Some(*until),
            What::Rejected { .. } => self.status = Some(Status::Rejected),
            What::Lifted { .. } => self.status = Some(Status::Lifted),
            What::Reference { model, .. } => self.model = Some(Arc::clone(model)),
            What::Erased { client, .. } => self.client = Some(client.to_string().into()),
            _ => {}
        }
    }

    fn judged(&self, what: &What) -> Severity {
        let tier = || match self.of_record("tier").and_then(Value::as_u64) {
            Some(1) => Tier::One,
            _ => Tier::Two,
        };
        match what {
            What::Finding { .. } | What::Decision(_) | What::Approved { .. } => {
                match (self.mode, self.action) {
                    (Some(mode), Some(action)) => Severity::judged(mode, action, tier()),
                    _ => Severity::Low,
                }
            }
            // From here on nobody is protected, or nobody can know what happened.
            What::KillSwitch { on: true } | What::Unwritten { .. } => Severity::High,
            What::Drift { .. } => self.of_drift(),
            What::KillSwitch { on: false } | What::NeverBlock { .. } => Severity::Medium,
            What::Configuration { refused: Some(_), .. } => Severity::Medium,
            _ => Severity::Low,
        }
    }

    /// A drift is as grave as it is large, and a rule on a gauge as its operator says; a warning, or word that it is over, only tells.
    fn of_drift(&self) -> Severity {
        let word = |key| self.of_record(key).and_then(Value::as_str);
        if word("change") == Some("rule_met") {
            let severity = self.of_record("rule").and_then(|rule| rule.get("severity")?.as_str());
            return match severity {
                Some("high") => Severity::High,
                Some("medium") => Severity::Medium,
                _ => Severity::Low,
            };
        }
        match (word("change"), word("extent")) {
            (Some("drifting"), Some("large")) => Severity::High,
            (Some("drifting"), Some("medium")) => Severity::Medium,
            _ => Severity::Low,
        }
    }

    fn told(&self, what: &What) -> String {
        let who = &self.who;
        let decision = || {
            let id = self.decision.map(|id| format!(" {id}")).unwrap_or_default();
            let client = self.client.as_deref().map(|client| format!(" on {client}")).unwrap_or_default();
            format!("decision{id}{client}")
        };
        match what {
            What::Finding { .. } | What::Decision(_) | What::Drift { .. } => {
                self.text_of_record("explanation").as_deref().unwrap_or_default().to_owned()
            }
            What::Approved { .. } => format!("{who} approved the proposed {}.", decision()),
            What::Rejected { .. } => format!("{who} turned down the proposed {}.", decision()),
            What::Lifted { .. } => format!("{who} lifted {}.", decision()),
            What::Extended { .. } => format!("{who} changed the end of {}.", decision()),
            What::Met { requests, .. } => format!("{requests} requests met {}.", decision()),
            What::NeverBlock { added, removed } => format!(
                "{who} changed the never-block list: {} networks were added, {} removed.",
                added.len(),
                removed.len()
            ),
            What::Configuration { refused: None, .. } => "A configuration came into force.".to_owned(),
            What::Configuration { refused: Some(why), .. } => format!("A configuration was refused: {why}"),
            What::Reference { model, rows, trusted: false, window: Some(window) } => format!(
                "A maintenance window of {model} taught a reference ({rows} rows of queries, {} of drift, {} clients); it \
                 waits for an operator.",
                window.drift_rows, window.clients
            ),
            What::Reference { model, rows, trusted, .. } => format!(
                "The reference of {model} with {rows} rows {}.",
                if *trusted { "is trusted from now on" } else { "was learned" }
            ),
            What::KillSwitch { on: true } => format!("{who} switched all enforcement off."),
            What::KillSwitch { on: false } => format!("{who} switched enforcement back on."),
            What::Erased { entries, .. } => format!("{who} erased a client from {entries} entries."),
            What::Started { version, .. } => format!("checkgate {version} started."),
            What::Unwritten { first, last } => {
                format!(
                    "Entries {first} to {last} found no room while the ledger's disk failed, and are lost."
                )
            }
            What::Removed { last, .. } => format!("Entries up to {last} were removed: their time is over."),
        }
    }
}

/// The kind of an entry.
#[must_use]
pub fn kind_of(what: &What) -> EventKind {
    match what {
        What::Finding { .. } => EventKind::Finding,
        What::Decision(_) => EventKind::Decision,
        What::Approved { .. } => EventKind::Approved,
        What::Rejected { .. } => EventKind::Rejected,
        What::Lifted { .. } => EventKind::Lifted,
        What::Extended { .. } => EventKind::Extended,
        What::Met { .. } => EventKind::Met,
        What::NeverBlock { .. } => EventKind::NeverBlock,
        What::Configuration { .. } => EventKind::Configuration,
        What::Reference { .. } => EventKind::Reference,
        What::KillSwitch { .. } => EventKind::KillSwitch,
        What::Erased { .. } => EventKind::Erased,
        What::Started { .. } => EventKind::Started,
        What::Unwritten { .. } => EventKind::Unwritten,
        What::Removed { .. } => EventKind::Removed,
        What::Drift { .. } => EventKind::Drift,
    }
}

/// The word of a mode.
#[must_use]
pub fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    }
}

/// Seconds since 1970 as a time; microseconds are kept.
fn moment(seconds: f64) -> Time {
    Time((seconds * 1e6).round().max(0.0) as u64)
}

//! What must hold for every sink on the list, now and later.

mod courier;
mod drill;
mod naughty;
mod spool;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::{self, EventKind};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use serde_json::{Value, json};

use super::event::kind_of;
use super::*;
use crate::ledger::entry::{By, Decided, Entry, Status, What};
use crate::ledger::line::Hash;
use crate::ledger::line::tests::{client, decided};

/// A moment to test at.
pub(super) const NOW: Time = Time(1_700_000_000_000_000);

/// Texts that break a form that does not escape them.
pub(crate) const HOSTILE: [&str; 9] = [
    "two\r\nlines\n",
    "a|b=c\\d]e\"f",
    "\u{0}\u{1}\u{7f}\u{85}\u{9b}31m\u{1b}[31m",
    "\u{202e}txt.exe\u{2066}\u{200f}",
    "<script>alert('x')</script>{{7*7}}$(id)`id`",
    "%0d%0aSet-Cookie: a=b",
    "{\"entry\":1}\u{2028}\u{2029}",
    "\u{feff}\u{fffe}😀é",
    "CEF:0|a|b|c|1|x|10|src=1.2.3.4",
];

/// A record as detectors write it, with `text` wherever a client may have a say.
pub(crate) fn record(text: &str) -> String {
    json!({
        "id": "f-0000000000000007", "time": 1_700_000_000.25, "kind": "decision", "client": format!("key:{text}"),
        "model": text, "detector": "one_field_sweep", "tier": 1, "atlas": "AML.T0024.002",
        "atlas_version": "5.6.0", "owasp": "ML05:2023", "statistic": 12.0, "limit": 11.0,
        "window": {"rows": 12, "requests": 12, "seconds": 3.5, "observed": 1.0}, "action": "block",
        "mode": "enforce", "decision_id": "d-0000000000000007", "until": 1_700_000_900.0, "fields": [text],
        "tenant": {"name": text, "tier": "gold"}, "requests": ["r-0000000000000001"], "explanation": text,
    })
    .to_string()
}

/// A line of a model's drift.
fn drift(text: &str) -> String {
    json!({"kind": "drift", "model": text, "change": "drifting", "extent": "large", "explanation": text})
        .to_string()
}

/// An entry of every kind, with `text` wherever somebody outside may have a say.
pub(crate) fn entries(text: &str) -> Vec<Entry> {
    let id = DecisionId(7);
    let taken = Decided {
        evidence: record(text).into(),
        model: Some(text.into()),
        scope: checkgate_detectors::finding::Scope::Everywhere,
        tenant: Some(text.into()),
        ..decided(7)
    };
    let whats = [
        What::Finding { record: record(text).into() },
        What::Decision(Box::new(taken)),
        What::Approved { id, until: Time(NOW.0 + 1) },
        What::Rejected { id },
        What::Lifted { id },
        What::Extended { id, until: Time(NOW.0 + 1) },
        What::Met { id, requests: 3 },
        What::NeverBlock { added: vec!["192.0.2.0/24".parse().unwrap()], removed: vec![] },
        What::KillSwitch { on: true },
        What::Configuration { digest: "00".into(), refused: Some(text.into()) },
        What::Reference { model: text.into(), rows: 500, trusted: false, window: None },
        What::Started { version: "0.1.0".into(), clock: Default::default(), carried: Default::default() },
        What::Erased { client: client(7), entries: 2 },
        What::Unwritten { first: 1, last: 2 },
        What::Removed { last: 9, hash: "00".into(), never_block: vec![], kill_switch: false },
        What::Drift { record: drift(text).into() },
    ];
    let by = By { who: text.into(), from: Some(text.into()), why: text.into() };
    let entry = |(number, what)| Entry { number, time: NOW, by: by.clone(), what };
    (1..).zip(whats).map(entry).collect()
}

/// An event of every kind, a test included.
pub(crate) fn events(text: &str) -> Vec<Event> {
    let about = Decided { evidence: record(text).into(), model: Some(text.into()), ..decided(7) };
    let event = |entry: &Entry| {
        let about = entry.what.decision().map(|_| &about);
        Event::of(entry, &Hash([7; 32]), "cg-0123456789abcdef", about)
    };
    let entries = entries(text);
    entries.iter().map(event).chain([Event::test("cg-0123456789abcdef", NOW)]).collect()
}

/// Holds a form of events of every kind, plain and hostile, against its committed file.
pub(crate) fn as_committed(name: &str, form: impl Fn(&Event) -> String) {
    let file = format!("{}/fixtures/sinks/{name}.expected", env!("CARGO_MANIFEST_DIR"));
    let events = ["prices", "a|b=c\\d]e\"f\n"].iter().flat_map(|text| events(text));
    let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    let line = |event| {
        let event = Event { id: "cg-0123456789abcdef-7-07070707".into(), ..event };
        form(&event).replace(&version, "\"VERSION\"") + "\n"
    };
    let lines: String = events.map(line).collect();
    checkgate_config::golden::equals_committed(std::path::Path::new(&file), &lines).unwrap();
}

/// Builds a sink from its parameters, with every environment variable a secret that fits any part.
pub(crate) fn built(spec: &SinkSpec, parameters: &Value) -> Result<Box<dyn Sink>, PartError> {
    let secret = |_: &str| Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
    (spec.build)(parameters, &Ground { environment: &secret, instance: &"cg-0123456789abcdef".into() })
}

/// The example of a sink, over its defaults.
pub(crate) fn example(spec: &SinkSpec) -> Value {
    let text = format!(
        "upstream: http://127.0.0.1:1\nsinks:\n- name: tried\n  {}:\n    {}\n",
        spec.name,
        spec.example.trim_end().replace('\n', "\n    ")
    );
    let document = checkgate_config::Document::parse(&text, "checkgate.yaml").unwrap();
    let settings = document.check_in(&crate::parts::all(), &|_| Some("set".to_owned()));
    let settings = settings.unwrap_or_else(|problems| panic!("the example of {}: {problems:#?}", spec.name));
    settings.sinks[0].part.parameters.clone()
}

/// What a sink is told, where nothing matters but its part.
pub(crate) fn settings(name: &str, spec: &SinkSpec, parameters: Value) -> settings::Sink {
    settings::Sink {
        name: name.into(),
        part: settings::Chosen { name: spec.name.into(), parameters },
        only: settings::Only::default(),
        batch: settings::Batch { events: 100, bytes: 1 << 20, wait: Duration::ZERO },
        timeout: Duration::from_millis(300),
        spool: settings::Spool { bytes: 1 << 30, age: Duration::from_secs(86_400) },
    }
}

#[test]
fn names_are_unique_and_every_parameter_is_described() {
    let names: BTreeSet<_> = SINKS.iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), SINKS.len(), "two sinks share a name");
    for spec in SINKS {
        let common = ["name", "only", "batch", "timeout", "spool"];
        assert!(!common.contains(&spec.name), "{} is a key of every sink", spec.name);
        assert!(!spec.summary.is_empty());
        let schema = Schema::to_value((spec.schema)());
        for (key, property) in schema["properties"].as_object().unwrap() {
            let described = property["description"].as_str().is_some_and(|text| text.ends_with('.'));
            assert!(described, "{}.{key} is not described in a sentence", spec.name);
        }
    }
}

#[test]
fn every_example_builds_and_an_unknown_parameter_is_refused_by_name() {
    for spec in SINKS {
        let mut parameters = example(spec);
        if let Err(error) = built(spec, &parameters) {
            panic!("the example of {}: {error:?}", spec.name);
        }
        parameters["surprise"] = json!(1);
        let error = (spec.check)(&parameters).unwrap_err();
        assert!(error.message.contains("surprise"), "{}: {error:?}", spec.name);
    }
}

#[test]
fn nothing_that_can_be_shown_of_a_sink_shows_its_secrets() {
    for spec in SINKS {
        let parameters = example(spec);
        let sink = built(spec, &parameters).unwrap_or_else(|error| panic!("{}: {error:?}", spec.name));
        let shown = format!("{parameters} {:?} {}", settings("a", spec, parameters.clone()), sink.target());
        assert!(!shown.contains("MfKQ9r8"), "{}: {shown}", spec.name);
    }
}

#[test]
fn a_url_that_is_a_secret_stands_in_the_environment_alone() {
    let parameters = json!({"url": "${HOOK}", "secrets": ["${SECRET}"]});
    assert_eq!((webhook::SPEC.check)(&parameters), Ok(()));
    let environment = |name: &str| match name {
        "HOOK" => Some("https://hooks.example/services/hunter2".to_owned()),
        _ => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
    };
    let ground = Ground { environment: &environment, instance: &"cg-0".into() };
    let sink = (webhook::SPEC.build)(&parameters, &ground).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(sink.target(), "https://hooks.example", "its path is a secret");
    let ground = Ground { environment: &|_| Some("hunter2".to_owned()), instance: &"cg-0".into() };
    let error = (webhook::SPEC.build)(&parameters, &ground).err().unwrap();
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn a_kind_has_one_word_everywhere() {
    for entry in entries("x") {
        assert_eq!(kind_of(&entry.what).as_str(), entry.what.kind());
    }
    let told: BTreeSet<_> = events("x").iter().map(|event| event.kind).collect();
    assert_eq!(told, EventKind::ALL.into_iter().collect(), "a kind is missing among the events of this test");
    for kind in EventKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
}

#[test]
fn an_event_about_a_decision_says_whom_and_what_it_is_about() {
    for event in events("prices") {
        let about_one = matches!(
            event.kind,
            EventKind::Approved
                | EventKind::Rejected
                | EventKind::Lifted
                | EventKind::Extended
                | EventKind::Met
        );
        if about_one {
            assert_eq!(event.client.as_deref(), Some(&*client(7).to_string()), "{:?}", event.kind);
            assert_eq!(event.detector.as_deref(), Some("one_field_sweep"), "{:?}", event.kind);
            assert_eq!(event.decision, Some(DecisionId(7)), "{:?}", event.kind);
            assert_eq!(event.atlas.as_deref(), Some("AML.T0024.002"), "{:?}", event.kind);
        }
        assert!(!event.explanation.is_empty(), "{:?} is not explained", event.kind);
        let plain = event.plain();
        assert_eq!((&plain["event_id"], &plain["kind"]), (&json!(event.id), &json!(event.kind)));
        let again: Event = serde_json::from_value(serde_json::to_value(&event).unwrap()).unwrap();
        assert_eq!(again, event, "a dead letter reads back");
    }
}

#[test]
fn severity_is_high_where_a_client_is_blocked_or_nobody_is_protected() {
    for event in events("x") {
        let expected = match event.kind {
            EventKind::Finding | EventKind::Decision | EventKind::Approved => "high",
            EventKind::KillSwitch | EventKind::Unwritten | EventKind::Drift => "high",
            EventKind::NeverBlock | EventKind::Configuration => "medium",
            _ => "low",
        };
        assert_eq!(event.severity.as_str(), expected, "{:?}", event.kind);
    }
}

#[test]
fn what_is_sent_fulfils_every_condition() {
    let only = |text: &str| {
        let text =
            format!("upstream: http://h:1\nsinks: [{{name: a, only: {text}, {}: {{}}}}]", SINKS[0].name);
        let document = checkgate_config::Document::parse(&text, "checkgate.yaml").unwrap();
        document.raw().unwrap().sinks.unwrap().remove(0).only.unwrap()
    };
    let read = |text: &str| {
        let raw = only(text);
        settings::Only {
            kinds: raw.kinds,
            severity: raw.severity,
            models: raw.models,
            detectors: raw.detectors,
            modes: raw.modes,
        }
    };
    let kept = |text: &str| -> Vec<&str> {
        let only = read(text);
        let wanted = events("prices").into_iter().filter(|event| super::courier::wants(&only, event));
        wanted.map(|event| event.kind.as_str()).collect()
    };
    assert_eq!(kept("{kinds: [finding, lifted]}"), ["finding", "lifted"]);
    assert_eq!(
        kept("{severity: high}"),
        ["finding", "decision", "approved", "kill_switch", "unwritten", "drift"]
    );
    assert_eq!(kept("{kinds: [finding], models: [other]}"), [""; 0]);
    assert_eq!(
        kept("{kinds: [finding, kill_switch], models: [other]}"),
        ["kill_switch"],
        "it is about no model"
    );
    assert_eq!(kept("{kinds: [finding], modes: [observe]}"), [""; 0]);
    assert_eq!(kept("{kinds: [finding], modes: [enforce], detectors: [one_field_sweep]}"), ["finding"]);
    assert_eq!(kept("{}").len(), EventKind::ALL.len());
}

/// A decision in the book, for events that name it.
pub(super) fn book() -> super::courier::LooksUp {
    Arc::new(|id| Some(Decided { id, status: Status::InForce, ..decided(7) }))
}

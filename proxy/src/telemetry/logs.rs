//! Findings, decisions and the program's own warnings as log records.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use checkgate_detectors::finding::{Action, Mode, Tier, request_id};
use checkgate_detectors::severity::Severity;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::Level;

use super::context::hex;
use super::names;
use super::resource::{attribute, text, texts};
use super::trace::Known;

/// Recent requests whose traces are remembered.
pub const KNOWN_MAX: usize = 16_384;

/// Something that becomes a log record.
#[derive(Debug)]
pub enum Told {
    /// A finding or decision, as its line of JSON.
    Record(Arc<str>),
    /// A line of the program's own log.
    Line(Box<Line>),
}

/// A line of the program's own log.
#[derive(Debug)]
pub struct Line {
    /// How grave it is.
    pub level: Level,
    /// Which part of the program says it.
    pub target: &'static str,
    /// What it says.
    pub message: String,
    /// What it names besides.
    pub fields: Vec<(&'static str, String)>,
    /// When, as nanoseconds since 1970.
    pub at: u64,
}

/// Which traces recent requests belong to. The oldest are forgotten.
#[derive(Debug, Default)]
pub struct Traces {
    by_request: HashMap<String, Known>,
    order: VecDeque<String>,
}

impl Traces {
    /// Remembers a request.
    pub fn remember(&mut self, known: Known) {
        let request = request_id(known.id);
        if self.by_request.insert(request.clone(), known).is_none() {
            self.order.push_back(request);
        }
        while self.order.len() > KNOWN_MAX {
            self.order.pop_front().map(|oldest| self.by_request.remove(&oldest));
        }
    }

    /// Those of some requests, as far as they are known.
    fn of<'a>(&'a self, requests: &'a [Value]) -> impl Iterator<Item = &'a Known> {
        requests.iter().filter_map(|request| self.by_request.get(request.as_str()?))
    }
}

/// What was told, as a log record, seen at `now` in nanoseconds since 1970.
pub fn log_record(told: &Told, traces: &Traces, now: u64) -> LogRecord {
    match told {
        Told::Record(line) => record(line, traces, now),
        Told::Line(line) => own(line, now),
    }
}

/// A finding or decision. Its sentence is the body, its fields are attributes; it belongs to the trace of the last of
/// its example requests that was traced, and names those of all.
fn record(line: &str, traces: &Traces, now: u64) -> LogRecord {
    // Whatever is no record is told as it stands.
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
        return LogRecord { observed_time_unix_nano: now, body: body(line), ..LogRecord::default() };
    };
    let explanation = fields.remove("explanation");
    let time = fields.remove("time").and_then(|time| time.as_f64());
    let kind = fields.remove("kind");
    let severity = severity(&fields);
    let mut attributes = Vec::new();
    for (name, value) in &fields {
        flatten(&format!("{}{name}", names::RECORD), value, &mut attributes);
    }
    let requests = fields.get("requests").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let known: Vec<&Known> = traces.of(requests).collect();
    if !known.is_empty() {
        attributes.push(texts(names::TRACES, known.iter().map(|known| hex(&known.trace))));
    }
    LogRecord {
        time_unix_nano: time.map_or(now, nanoseconds),
        observed_time_unix_nano: now,
        severity_number: number(severity).into(),
        severity_text: severity.as_str().to_owned(),
        body: explanation.and_then(|text| body(text.as_str()?)),
        attributes,
        trace_id: known.last().map(|known| known.trace.to_vec()).unwrap_or_default(),
        span_id: known.last().map(|known| known.span.to_vec()).unwrap_or_default(),
        event_name: format!("{}{}", names::RECORD, kind.as_ref().and_then(Value::as_str).unwrap_or("record")),
        ..LogRecord::default()
    }
}

/// Records give microseconds, as seconds.
fn nanoseconds(seconds: f64) -> u64 {
    ((seconds * 1e6).round() as u64).saturating_mul(1000)
}

fn severity(fields: &serde_json::Map<String, Value>) -> Severity {
    let (mode, action, tier) = (
        read::<Mode>(fields.get("mode")),
        read::<Action>(fields.get("action")),
        read::<Tier>(fields.get("tier")),
    );
    match (mode, action, tier) {
        (Some(mode), Some(action), Some(tier)) => Severity::judged(mode, action, tier),
        _ => Severity::Low,
    }
}

fn read<T: DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    serde_json::from_value(value?.clone()).ok()
}

fn number(severity: Severity) -> SeverityNumber {
    match severity {
        Severity::Low => SeverityNumber::Info,
        Severity::Medium => SeverityNumber::Warn,
        Severity::High => SeverityNumber::Error,
    }
}

/// A field of a record as attributes: what lies in a mapping is named by its path.
fn flatten(name: &str, value: &Value, attributes: &mut Vec<KeyValue>) {
    let any = match value {
        Value::Null => return,
        Value::Object(fields) => {
            for (inner, value) in fields {
                flatten(&format!("{name}.{inner}"), value, attributes);
            }
            return;
        }
        Value::Array(items) => {
            let plain = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            attributes.push(texts(name, items.iter().map(plain)));
            return;
        }
        Value::Bool(yes) => Any::BoolValue(*yes),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Any::DoubleValue(number.as_f64().unwrap_or(f64::NAN)), Any::IntValue),
        Value::String(text) => Any::StringValue(text.clone()),
    };
    attributes.push(attribute(name, any));
}

fn own(line: &Line, now: u64) -> LogRecord {
    let (number, word) = match line.level {
        Level::ERROR => (SeverityNumber::Error, "ERROR"),
        Level::WARN => (SeverityNumber::Warn, "WARN"),
        Level::INFO => (SeverityNumber::Info, "INFO"),
        _ => (SeverityNumber::Debug, "DEBUG"),
    };
    let fields = line.fields.iter().map(|(name, value)| text(name, value));
    LogRecord {
        time_unix_nano: line.at,
        observed_time_unix_nano: now,
        severity_number: number.into(),
        severity_text: word.to_owned(),
        body: body(&line.message),
        attributes: std::iter::once(text(names::LOGGER, line.target)).chain(fields).collect(),
        ..LogRecord::default()
    }
}

fn body(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Any::StringValue(text.to_owned())) })
}

#[cfg(test)]
mod tests {
    use checkgate_detectors::finding::Kind;
    use prost::Message;

    use super::*;
    use crate::records::{self, tests::record as a_record};

    fn told(record: &checkgate_detectors::finding::Record, traces: &Traces) -> LogRecord {
        log_record(&Told::Record(records::line(record).into()), traces, 7)
    }

    fn value(record: &LogRecord, name: &str) -> Option<Any> {
        record.attributes.iter().find(|one| one.key == name)?.value.clone()?.value
    }

    #[test]
    fn a_record_keeps_its_fields_its_time_and_its_sentence() {
        let decision = a_record(Kind::Decision, 5);
        let told = told(&decision, &Traces::default());
        assert_eq!(told.event_name, "checkgate.decision");
        assert_eq!(told.body, body(&decision.explanation));
        assert_eq!((told.time_unix_nano, told.observed_time_unix_nano), (1_700_000_000_250_000_000, 7));
        assert_eq!((told.severity_number(), told.severity_text.as_str()), (SeverityNumber::Error, "high"));
        let is = |name: &str, expected: Any| assert_eq!(value(&told, name), Some(expected), "{name}");
        is("checkgate.id", Any::StringValue("f-0000000000000005".into()));
        is("checkgate.decision_id", Any::StringValue("d-0000000000000005".into()));
        is("checkgate.client", Any::StringValue("192.0.2.7".into()));
        is("checkgate.tier", Any::IntValue(1));
        is("checkgate.statistic", Any::DoubleValue(12.0));
        is("checkgate.window.rows", Any::IntValue(12));
        assert_eq!(value(&told, "checkgate.explanation"), None, "it is the body");
        assert!(told.trace_id.is_empty(), "no request of it is known");
    }

    #[test]
    fn every_naughty_string_comes_back_from_the_wire() {
        for naughty in naughty_strings::BLNS {
            let line = crate::sinks::tests::record(naughty);
            let sent = log_record(&Told::Record(line.into()), &Traces::default(), 7).encode_to_vec();
            let read = LogRecord::decode(&*sent).unwrap();
            assert_eq!(read.body, body(naughty));
            let text = |text: &str| Some(Any::StringValue(text.to_owned()));
            assert_eq!(value(&read, "checkgate.client"), text(&format!("key:{naughty}")));
            assert_eq!(value(&read, "checkgate.model"), text(naughty));
            assert!(
                read.attributes.contains(&texts("checkgate.fields", [(*naughty).to_owned()])),
                "{read:?}"
            );
            let label = super::text("model", naughty).encode_to_vec();
            assert_eq!(KeyValue::decode(&*label).unwrap().value.unwrap().value, text(naughty));
        }
    }

    #[test]
    fn a_record_belongs_to_the_trace_of_its_last_known_request() {
        let mut traces = Traces::default();
        let known = |id: u64, byte| Known { id, trace: [byte; 16], span: [byte; 8] };
        [known(1, 1), known(2, 2), known(4, 4)].into_iter().for_each(|known| traces.remember(known));
        let mut finding = a_record(Kind::Finding, 5);
        finding.requests = [1, 2, 3].map(request_id).to_vec();
        let told = told(&finding, &traces);
        assert_eq!((told.trace_id, told.span_id), (vec![2; 16], vec![2; 8]));
        let all = told.attributes.iter().find(|one| one.key == names::TRACES).unwrap();
        assert_eq!(*all, texts(names::TRACES, [hex(&[1; 16]), hex(&[2; 16])]));
    }

    #[test]
    fn the_oldest_requests_are_forgotten() {
        let mut traces = Traces::default();
        for id in 0..KNOWN_MAX as u64 + 10 {
            traces.remember(Known { id, trace: [1; 16], span: [1; 8] });
        }
        assert_eq!((traces.by_request.len(), traces.order.len()), (KNOWN_MAX, KNOWN_MAX));
        assert!(
            !traces.by_request.contains_key(&request_id(9))
                && traces.by_request.contains_key(&request_id(10))
        );
    }

    #[test]
    fn what_is_no_record_is_told_as_it_stands() {
        let told = log_record(&Told::Record("{\"torn".into()), &Traces::default(), 7);
        assert_eq!(told.body, body("{\"torn"));
    }
}

//! Traced requests and what is found about them, from their heads to a collector.

use std::sync::Arc;
use std::time::{Duration, Instant};

use checkgate_detectors::finding::{DecisionId, Kind, request_id};
use http::{Method, Request, Version};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::Code;

use super::receiver::{Answers, Got, Receiver};
use super::{PROTOCOLS, metrics, settings, started};
use crate::metrics::labels::Signal;
use crate::records;
use crate::telemetry::logs::Told;
use crate::telemetry::queue::Queue;
use crate::telemetry::spans;
use crate::telemetry::trace::{Ended, Trace, Tracing};
use crate::telemetry::{SPANS_WAITING_MAX, Waiting};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn request(lines: &[(&str, &str)]) -> Request<()> {
    let mut request =
        Request::post("http://model/v2/models/prices/infer?key=secret").version(Version::HTTP_2);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn tracing(ratio: f64) -> (Tracing, Arc<Queue<Ended>>) {
    let queue = Arc::new(Queue::new(16));
    (Tracing::new(ratio, Arc::clone(&queue), None), queue)
}

fn end(tracing: &Tracing, trace: &Trace, status: u16) {
    tracing.end(trace, status, "prices".into(), Some("/v2/models/prices".into()));
}

fn text(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|one| one.key == name);
    match found.and_then(|one| one.value.clone()).and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn who_is_traced_is_the_callers_decision() {
    let traced = |ratio, lines: &[(&str, &str)]| tracing(ratio).0.begin(1, &request(lines), true).is_some();
    assert!(traced(0.0, &[("traceparent", PARENT)]));
    for ratio in [0.0, 1.0] {
        assert!(
            !traced(ratio, &[("traceparent", &PARENT.replace("-01", "-00"))]),
            "its caller did not sample it"
        );
        assert!(!traced(ratio, &[("traceparent", "00-nonsense")]), "what is no trace is not continued");
        assert!(!traced(ratio, &[("traceparent", PARENT), ("traceparent", PARENT)]), "two parents are none");
        assert_eq!(traced(ratio, &[]), ratio > 0.0, "without a caller the ratio decides");
    }
    let (tracing, _) = tracing(0.25);
    let begun = (0..4000).filter(|id| tracing.begin(*id, &request(&[]), true).is_some()).count();
    assert!((800..1200).contains(&begun), "{begun} of 4000 began a trace");
}

#[test]
fn the_upstreams_parent_is_a_child_of_the_callers_span() {
    let (tracing, queue) = tracing(0.0);
    let trace = tracing.begin(
        7,
        &request(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]),
        true,
    );
    let trace = trace.unwrap();
    let header = trace.header().unwrap().to_str().unwrap().to_owned();
    trace.asks_upstream();
    trace.asks_server("http://[::1]:8080");
    trace.asks_server("http://model.example:8081");
    trace.answered(200);
    trace.happened("checkgate.answer.replaced");
    end(&tracing, &trace, 422);
    end(&tracing, &trace, 422);
    let ended = queue.take(9);
    assert_eq!(ended.len(), 1, "a request ends once");
    let [serving, asking]: [Span; 2] = spans::of(&ended[0]).try_into().unwrap();
    assert_eq!(header, format!("00-{}-{}-01", &PARENT[3..35], hex(&asking.span_id)));
    for span in [&serving, &asking] {
        assert_eq!(hex(&span.trace_id), &PARENT[3..35]);
        assert_eq!(span.trace_state, "a=1,b=2");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        assert!(!format!("{span:?}").contains("secret"), "what a client wrote is in {span:?}");
        assert!(span.status.is_none(), "{span:?}");
    }
    assert_eq!(hex(&serving.parent_span_id), &PARENT[36..52]);
    assert_eq!((asking.parent_span_id, serving.kind, asking.kind), (serving.span_id, 2, 3));
    assert_eq!(
        (serving.flags, asking.flags),
        (0x301, 0x101),
        "the parent of the one is remote, of the other not"
    );
    assert_eq!(serving.name, "POST /v2/models/prices");
    for (name, expected) in [
        ("http.request.method", "POST"),
        ("url.scheme", "https"),
        ("network.protocol.version", "2"),
        ("http.route", "/v2/models/prices"),
        ("http.response.status_code", "422"),
        ("checkgate.model", "prices"),
        ("checkgate.request.id", &request_id(7)),
    ] {
        assert_eq!(text(&serving.attributes, name), expected, "{name}");
    }
    assert_eq!(serving.events.len(), 1);
    for (name, expected) in [
        ("server.address", "model.example"),
        ("server.port", "8081"),
        ("http.request.resend_count", "1"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(text(&asking.attributes, name), expected, "{name}");
    }
}

#[test]
fn a_refused_request_names_its_decision_and_asks_nobody() {
    let (tracing, queue) = tracing(0.0);
    let trace = tracing.begin(7, &request(&[("traceparent", PARENT)]), false).unwrap();
    trace.decided(DecisionId(9), "block");
    end(&tracing, &trace, 403);
    let spans = spans::of(&queue.take(1)[0]);
    let [serving] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(serving.events[0].name, "checkgate.decision");
    assert_eq!(text(&serving.events[0].attributes, "checkgate.decision.id"), DecisionId(9).to_string());
    assert_eq!(text(&serving.events[0].attributes, "checkgate.decision.effect"), "block");
}

#[test]
fn failures_are_named() {
    for (failure, status, asked, serving_error, asking_error) in [
        (Some("timeout"), 504, true, "timeout", "timeout"),
        (None, 500, true, "500", "500"),
        (None, 0, true, "cancelled", "cancelled"),
        (None, 503, false, "503", ""),
    ] {
        let (tracing, queue) = tracing(1.0);
        let mut odd = request(&[]);
        *odd.method_mut() = Method::from_bytes(b"BREW").unwrap();
        let trace = tracing.begin(7, &odd, false).unwrap();
        if asked {
            trace.asks_upstream();
            trace.answered(if failure.is_none() { status } else { 0 });
        }
        failure.into_iter().for_each(|how| trace.failed(how));
        end(&tracing, &trace, status);
        let spans = spans::of(&queue.take(1)[0]);
        assert!(spans[0].parent_span_id.is_empty() && spans[0].flags == 0x103, "it began here");
        assert_eq!(text(&spans[0].attributes, "error.type"), serving_error, "{status}");
        assert_eq!(text(&spans[0].attributes, "http.request.method"), "_OTHER");
        match spans.get(1) {
            Some(asking) => assert_eq!(text(&asking.attributes, "error.type"), asking_error, "{status}"),
            None => assert!(!asked, "{status}"),
        }
    }
}

fn records(got: &Got) -> Vec<LogRecord> {
    let all = got.logs.iter().flat_map(|message| &message.resource_logs).flat_map(|one| &one.scope_logs);
    all.flat_map(|scope| scope.log_records.clone()).collect()
}

fn spans_of(got: &Got) -> Vec<Span> {
    let all = got.traces.iter().flat_map(|message| &message.resource_spans).flat_map(|one| &one.scope_spans);
    all.flat_map(|scope| scope.spans.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_and_findings_arrive_and_bear_one_trace() {
    for protocol in PROTOCOLS {
        let (receiver, metrics) = (Receiver::start(protocol, Answers::Takes).await, metrics());
        let settings = settings(receiver.address, protocol);
        let waiting = Waiting::of(&settings);
        let telemetry = started(&settings, &metrics, &waiting);
        let tracing = telemetry.tracing().unwrap();
        let trace = tracing.begin(7, &request(&[("traceparent", PARENT)]), false).unwrap();
        let mut finding = records::tests::record(Kind::Finding, 3);
        finding.requests = vec![request_id(6), request_id(7)];
        waiting.told.as_ref().unwrap().push(Told::Record(records::line(&finding).into()));
        receiver.until(|got| !got.logs.is_empty()).await;
        end(&tracing, &trace, 200);
        receiver.until(|got| !got.traces.is_empty()).await;
        let (records, spans) = receiver.got(|got| (records(got), spans_of(got)));
        assert_eq!((records.len(), spans.len()), (1, 1), "{protocol:?}");
        assert_eq!(
            records[0].trace_id, spans[0].trace_id,
            "{protocol:?}: the finding came before the answer"
        );
        assert_eq!(records[0].span_id, spans[0].span_id);
        tokio::task::block_in_place(|| telemetry.stop());
        assert_eq!(metrics.telemetry.dropped.get(Signal::Traces), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failing_collector_will_take_later_is_sent_again() {
    for protocol in PROTOCOLS {
        let answers = Answers::Fails(503, Code::Unavailable, &[]);
        let (receiver, metrics) = (Receiver::start(protocol, answers).await, metrics());
        let settings = settings(receiver.address, protocol);
        let waiting = Waiting::of(&settings);
        let telemetry = started(&settings, &metrics, &waiting);
        let tracing = telemetry.tracing().unwrap();
        let trace = tracing.begin(7, &request(&[("traceparent", PARENT)]), false).unwrap();
        end(&tracing, &trace, 200);
        receiver.until(|got| !got.heads.is_empty()).await;
        receiver.answers(Answers::Takes);
        receiver.until(|got| !got.traces.is_empty()).await;
        assert_eq!(receiver.got(spans_of).len(), 1, "{protocol:?}");
        tokio::task::block_in_place(|| telemetry.stop());
        assert_eq!(metrics.telemetry.dropped.get(Signal::Traces), 0, "{protocol:?}: nothing was lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_collector_takes_is_counted_and_delays_nobody() {
    for answers in [Answers::Hangs, Answers::Fails(400, Code::InvalidArgument, &[])] {
        for protocol in PROTOCOLS {
            let (receiver, metrics) = (Receiver::start(protocol, answers.clone()).await, metrics());
            let settings = settings(receiver.address, protocol);
            let waiting = Waiting::of(&settings);
            let telemetry = started(&settings, &metrics, &waiting);
            let tracing = telemetry.tracing().unwrap();
            let (begun, requests) = (Instant::now(), SPANS_WAITING_MAX as u64 * 2);
            for id in 0..requests {
                let trace = tracing.begin(id, &request(&[("traceparent", PARENT)]), false).unwrap();
                end(&tracing, &trace, 200);
            }
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{answers:?}, {protocol:?}: {:?}",
                begun.elapsed()
            );
            let begun = Instant::now();
            tokio::task::block_in_place(|| telemetry.stop());
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{answers:?}, {protocol:?}: {:?}",
                begun.elapsed()
            );
            let dropped = metrics.telemetry.dropped.get(Signal::Traces);
            // What was being sent when the process ended is not counted, for it may have been taken.
            assert!((requests - 1024..=requests).contains(&dropped), "{answers:?}, {protocol:?}: {dropped}");
        }
    }
}

//! What a collector gets of a running checkgate, what the model server sees of a trace, and whom a collector that fails
//! may not delay.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use checkgate_load_tests::attack::{ask, honest_row, sweep};
use checkgate_load_tests::checkgate::{Checkgate, Start};
use checkgate_load_tests::client::{Client, Reply};
use checkgate_load_tests::inference::{answer, infer_path, question};
use checkgate_load_tests::model_server::{Answer, ModelServer};
use checkgate_load_tests::{until, whole};
use http::{Request, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that takes everything and keeps it, as path and body.
struct Collector {
    server: ModelServer,
    got: Arc<Mutex<Vec<(String, Bytes)>>>,
}

impl Collector {
    async fn start() -> Self {
        let got: Arc<Mutex<Vec<(String, Bytes)>>> = Arc::default();
        let keep = Arc::clone(&got);
        let server = ModelServer::answering(move |question| {
            keep.lock().unwrap().push((question.path.clone(), question.body.clone()));
            Answer::whole("").header("content-type", "application/x-protobuf")
        });
        Self { server: server.await.unwrap(), got }
    }

    fn messages<M: Message + Default>(&self, path: &str) -> Vec<M> {
        let got = self.got.lock().unwrap();
        got.iter().filter(|(at, _)| at == path).map(|(_, body)| M::decode(body.clone()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let messages = self.messages::<ExportTraceServiceRequest>("/v1/traces");
        let scopes = messages.into_iter().flat_map(|message| message.resource_spans);
        scopes.flat_map(|one| one.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    fn records(&self) -> Vec<LogRecord> {
        let messages = self.messages::<ExportLogsServiceRequest>("/v1/logs");
        let scopes = messages.into_iter().flat_map(|message| message.resource_logs);
        scopes.flat_map(|one| one.scope_logs).flat_map(|scope| scope.log_records).collect()
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }
}

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

async fn exporting(server: &ModelServer, collector: &str, more: &Json) -> Checkgate {
    let mut config = json!({
        "clients": {"identity": "ip"},
        "telemetry": {"endpoint": collector, "timeout": "500ms", "metrics_every": "1s"},
        "models": [{
            "name": "pricing", "path": "/v2/models/pricing",
            "upstream": format!("http://{}", server.address),
        }],
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Start::configured(config).run().await.unwrap()
}

async fn asked(client: &mut Client, row: Vec<f64>, lines: &[(&'static str, &str)]) -> Reply {
    let mut request = Request::post(infer_path("pricing")).header("content-type", "application/json");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    client.send(request.body(whole(question(&[row]).to_string())).unwrap()).await.unwrap()
}

fn text(attributes: &[KeyValue], name: &str) -> String {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_trace_goes_through_to_the_model_server_and_its_spans_arrive() {
    let (server, collector) = (pricing().await, Collector::start().await);
    let checkgate = exporting(&server, &collector.url(), &json!({})).await;
    let mut client = checkgate.client("127.0.9.1");
    let lines = [("traceparent", PARENT), ("tracestate", "vendor=1"), ("x-other", "kept")];
    assert_eq!(asked(&mut client, honest_row(1, 1), &lines).await.status, 200);
    until("two spans", || collector.spans().len() == 2).await.unwrap();
    let spans = collector.spans();
    let (_, _, headers) = server.heads().pop().unwrap();
    let (serving, asking) = (&spans[0], &spans[1]);
    assert_eq!(headers["traceparent"], format!("00-{TRACE}-{}-01", hex(&asking.span_id)));
    assert_eq!(
        (headers["tracestate"].as_bytes(), headers["x-other"].as_bytes()),
        (&b"vendor=1"[..], &b"kept"[..])
    );
    assert_eq!(
        (hex(&serving.trace_id), hex(&serving.parent_span_id)),
        (TRACE.into(), "00f067aa0ba902b7".into())
    );
    assert_eq!(asking.parent_span_id, serving.span_id);
    assert_eq!(serving.name, "POST /v2/models/pricing");
    assert_eq!(text(&serving.attributes, "http.response.status_code"), "200");
    assert_eq!(text(&asking.attributes, "server.port"), server.address.port().to_string());
    assert!(serving.start_time_unix_nano <= asking.start_time_unix_nano);
    assert!(asking.end_time_unix_nano <= serving.end_time_unix_nano);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_sampled_passes_as_it_came_and_is_not_told() {
    let (server, collector) = (pricing().await, Collector::start().await);
    let checkgate = exporting(&server, &collector.url(), &json!({})).await;
    let mut client = checkgate.client("127.0.9.1");
    let unsampled = PARENT.replace("-01", "-00");
    for lines in [&[][..], &[("traceparent", unsampled.as_str()), ("tracestate", "vendor=1")][..]] {
        assert_eq!(asked(&mut client, honest_row(1, 1), lines).await.status, 200);
        let (_, _, headers) = server.heads().pop().unwrap();
        let kept = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(kept("traceparent"), lines.first().map(|(_, value)| *value));
        assert_eq!(kept("tracestate"), lines.get(1).map(|(_, value)| *value));
    }
    assert_eq!(asked(&mut client, honest_row(1, 2), &[("traceparent", PARENT)]).await.status, 200);
    until("the spans of the sampled one", || collector.spans().len() == 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_bear_the_traces_of_their_requests_and_refusals_name_their_decision() {
    let (server, collector) = (pricing().await, Collector::start().await);
    let checkgate = exporting(&server, &collector.url(), &json!({"mode": "enforce"})).await;
    let mut attacker = checkgate.client("127.0.9.2").with("traceparent", PARENT);
    let swept = sweep(&mut attacker, 100).await.unwrap();
    let refusal = swept.refusal.expect("a sweep is blocked").json().unwrap();
    let is = |record: &LogRecord, name: &str| record.event_name == format!("checkgate.{name}");
    until("finding and decision", || {
        let records = collector.records();
        records.iter().any(|one| is(one, "finding")) && records.iter().any(|one| is(one, "decision"))
    })
    .await
    .unwrap();
    for record in collector.records().iter().filter(|one| is(one, "finding") || is(one, "decision")) {
        assert_eq!(hex(&record.trace_id), TRACE, "{record:?}");
        assert_eq!(text(&record.attributes, "checkgate.client"), "127.0.9.2");
        assert_eq!(text(&record.attributes, "checkgate.detector"), "one_field_sweep");
        assert!(record.body.is_some(), "{record:?}");
    }
    let is_refused = |span: &Span| text(&span.attributes, "http.response.status_code") == "403";
    until("the span of the refused request", || collector.spans().iter().any(is_refused)).await.unwrap();
    let refused = collector.spans().into_iter().find(is_refused).unwrap();
    let decision = refused.events.iter().find(|event| event.name == "checkgate.decision").unwrap();
    assert_eq!(text(&decision.attributes, "checkgate.decision.id"), refusal["decision_id"].as_str().unwrap());
    assert_eq!(text(&decision.attributes, "checkgate.decision.effect"), "block");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_pushed_and_the_last_push_comes_with_the_end() {
    let (server, collector) = (pricing().await, Collector::start().await);
    let mut checkgate = exporting(&server, &collector.url(), &json!({})).await;
    let pushes = || collector.messages::<ExportMetricsServiceRequest>("/v1/metrics").len();
    until("a push", || pushes() > 0).await.unwrap();
    assert_eq!(ask(&mut checkgate.client("127.0.9.1"), honest_row(1, 1)).await.unwrap().status, 200);
    assert!(checkgate.stop().await.unwrap().success());
    let last = collector.messages::<ExportMetricsServiceRequest>("/v1/metrics").pop().unwrap();
    let metrics = &last.resource_metrics[0].scope_metrics[0].metrics;
    let rows = metrics.iter().find(|metric| metric.name == "checkgate_rows_total").unwrap();
    assert!(format!("{rows:?}").contains("AsDouble(1.0)"), "the row is in the last push: {rows:?}");
}

/// The slowest of so many requests, one after the other.
async fn slowest(checkgate: &Checkgate, requests: u32) -> Duration {
    let mut client = checkgate.client("127.0.9.3").with("traceparent", PARENT);
    let mut slowest = Duration::ZERO;
    for number in 0..requests {
        let begun = Instant::now();
        assert_eq!(ask(&mut client, honest_row(2, number)).await.unwrap().status, StatusCode::OK);
        slowest = slowest.max(begun.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_or_hanging_collector_delays_no_request_and_not_the_end() {
    let never = Arc::new(Semaphore::new(0));
    let hanging = ModelServer::always(Answer::whole("").once(&never)).await.unwrap();
    let dead = checkgate_load_tests::checkgate::free_address().unwrap();
    for (collector, what) in [(hanging.address, "hangs"), (dead, "is dead")] {
        let server = pricing().await;
        let mut checkgate = exporting(&server, &format!("http://{collector}"), &json!({})).await;
        let slowest = slowest(&checkgate, 300).await;
        // A delivery takes half a second until it is given up; a request that waited for one would show that.
        assert!(slowest < Duration::from_millis(400), "a collector that {what}: {slowest:?}");
        let begun = Instant::now();
        assert!(checkgate.stop().await.unwrap().success());
        assert!(begun.elapsed() < Duration::from_secs(8), "a collector that {what}: {:?}", begun.elapsed());
    }
}

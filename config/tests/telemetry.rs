//! Where telemetry goes: file, environment, defaults.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail loudly, as tests do")]

mod support;

use std::time::Duration;

use checkgate_config::problem;
use checkgate_config::read::Document;
use checkgate_config::settings::{Exporter, OtlpProtocol, Telemetry};
use support::PARTS;

fn read(file: &str, variables: &[(&str, &str)]) -> Telemetry {
    let text = format!("upstream: http://127.0.0.1:1\n{file}");
    let environment =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let document = Document::parse(&text, "/etc/checkgate/checkgate.yaml").unwrap();
    let settings = document.check_in(&PARTS, &environment);
    settings.map_err(|problems| problem::render(&problems)).unwrap().telemetry
}

fn url(exporter: Option<&Exporter>) -> String {
    exporter.map_or_else(
        || "-".to_owned(),
        |exporter| {
            let scheme = if exporter.tls { "https" } else { "http" };
            format!("{scheme}://{}{}", exporter.authority(), exporter.path)
        },
    )
}

fn urls(telemetry: &Telemetry) -> [String; 3] {
    [&telemetry.metrics, &telemetry.traces, &telemetry.logs].map(|exporter| url(exporter.as_ref()))
}

#[test]
fn nothing_is_sent_without_an_endpoint() {
    for variables in [&[][..], &[("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_ENDPOINT", " ")][..]] {
        assert!(!read("telemetry: {metrics_every: 5s}", variables).is_on(), "{variables:?}");
    }
}

#[test]
fn an_endpoint_for_all_gets_paths_and_one_of_a_signal_stands_as_it_is() {
    let both = read(
        "telemetry: {endpoint: 'https://c.example/x/', logs: {endpoint: 'http://[::1]:9/all', protocol: grpc}}",
        &[],
    );
    assert_eq!(
        urls(&both),
        ["https://c.example:443/x/v1/metrics", "https://c.example:443/x/v1/traces", "http://[::1]:9/all"]
    );
    assert_eq!(both.metrics.unwrap().protocol, OtlpProtocol::HttpProtobuf);
    assert_eq!(both.logs.unwrap().protocol, OtlpProtocol::Grpc);
    let by_variables = read(
        "",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ],
    );
    assert_eq!(urls(&by_variables), ["http://c:4318/v1/metrics", "http://t:4317/", "-"]);
    assert_eq!(by_variables.traces.unwrap().protocol, OtlpProtocol::Grpc);
}

#[test]
fn the_file_wins_over_the_environment_and_that_over_defaults() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:4318"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://env-metrics:4318/m"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "700"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b,  X-Two=2"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
        ("OTEL_SERVICE_NAME", "from-env"),
        ("OTEL_RESOURCE_ATTRIBUTES", "zone=b,service.name=ignored,team=ml%2Fops"),
    ];
    let environment = read("", &variables);
    assert_eq!(url(environment.metrics.as_ref()), "http://env-metrics:4318/m");
    let logs = environment.logs.as_ref().unwrap();
    assert_eq!(logs.timeout, Duration::from_millis(700));
    let headers: Vec<_> = logs.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(headers, [("x-key", "a b"), ("x-two", "2")]);
    assert_eq!(environment.traces.as_ref().unwrap().timeout, Duration::from_millis(2500));
    assert_eq!(environment.metrics_every, Duration::from_secs(5));
    let resource: Vec<_> =
        environment.resource.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(resource, [("service.name", "from-env"), ("team", "ml/ops"), ("zone", "b")]);
    assert!(environment.passed_over.is_empty(), "{:?}", environment.passed_over);

    let file = read(
        "telemetry:\n  endpoint: http://file:4318\n  timeout: 3s\n  headers: {X-Key: \"${KEY}\"}\n  \
         metrics_every: 30s\n  service_name: from-file\n  resource: {zone: c}\n  traces: {send: false}\n",
        &[&variables[..], &[("KEY", "secret")]].concat(),
    );
    assert_eq!(urls(&file), ["http://file:4318/v1/metrics", "-", "http://file:4318/v1/logs"]);
    let metrics = file.metrics.as_ref().unwrap();
    assert_eq!((metrics.timeout, file.metrics_every), (Duration::from_secs(3), Duration::from_secs(30)));
    assert_eq!((metrics.headers[0].0.as_str(), metrics.headers[0].1.reveal()), ("x-key", "secret"));
    assert!(!format!("{file:?}").contains("secret"), "a header's value can be seen");
    assert_eq!(file.resource[0].1, "from-file");
    assert!(file.resource.contains(&("zone".into(), "c".into())), "{:?}", file.resource);
    assert!(file.resource.contains(&("team".into(), "ml/ops".into())), "{:?}", file.resource);
}

#[test]
fn a_switched_off_sdk_sends_nothing_and_what_cannot_be_understood_is_told() {
    let file = "telemetry: {endpoint: 'http://c:4318'}";
    assert!(!read(file, &[("OTEL_SDK_DISABLED", "True")]).is_on());
    assert!(read(file, &[("OTEL_SDK_DISABLED", "yes")]).is_on(), "only true switches off");
    let odd = read(
        file,
        &[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "no pair"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ],
    );
    for name in ["OTLP_PROTOCOL", "OTLP_TIMEOUT", "EXPORT_INTERVAL", "OTLP_HEADERS", "RESOURCE_ATTRIBUTES"] {
        let told = odd.passed_over.iter().filter(|sentence| sentence.contains(name)).count();
        assert_eq!(told, 1, "{name}: {:?}", odd.passed_over);
    }
    assert_eq!(odd.metrics_every, Duration::from_secs(60), "the default holds");
}

#[test]
fn an_agent_is_named_by_the_file_alone_and_opentelemetrys_switch_is_not_its() {
    let off = [("OTEL_SDK_DISABLED", "true")];
    let agent = |typed: &str| {
        let telemetry = read(&format!("telemetry: {{dogstatsd: '{typed}'}}"), &off);
        assert!(telemetry.is_on(), "{typed}");
        telemetry.dogstatsd.map(|agent| agent.to_string())
    };
    for (typed, meant) in [
        ("127.0.0.1", "127.0.0.1:8125"),
        ("agent.example:9125", "agent.example:9125"),
        ("[::1]:8125", "[::1]:8125"),
        ("unix:/var/run/datadog/dsd.socket", "unix:/var/run/datadog/dsd.socket"),
    ] {
        assert_eq!(agent(typed).as_deref(), Some(meant), "{typed}");
    }
    assert_eq!(read("telemetry: {metrics_every: 5s}", &[]).dogstatsd, None, "nobody is told unasked");
}

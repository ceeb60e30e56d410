//! Where telemetry goes: what was typed, then the variables that OpenTelemetry's specification names, then defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::tokens::host_and_port;
use super::{Check, TEXT_MAX};
use crate::path::Path;
use crate::raw::{RawSecret, RawSignal, RawTelemetry};
use crate::settings::{Agent, Exporter, OtlpProtocol, Secret, Telemetry};

/// Headers of one exporter, and attributes of the resource.
const LISTED_MAX: usize = 64;
/// Where agents listen for DogStatsD.
const DOGSTATSD_PORT: u16 = 8125;
const EXAMPLE: &str = "write for example http://127.0.0.1:4318";
/// The longest time that a variable may give.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// One of the three signals.
struct Signal<'a> {
    /// Its key in the file.
    key: &'static str,
    /// Its part of the names of variables.
    variable: &'static str,
    /// What is added to the path of an endpoint for all signals.
    path: &'static str,
    typed: Option<&'a RawSignal>,
}

/// The variables, and what was wrong with those that were looked at.
struct Environment<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
    passed_over: Vec<String>,
}

impl Environment<'_> {
    /// A variable's value; an empty one counts as not set, as the specification has it.
    fn get(&self, name: &str) -> Option<String> {
        (self.read)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The first of a signal's own variable and the one for all that is set and understood.
    fn of<T>(&mut self, signal: &Signal<'_>, what: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.variable);
        self.parsed(&own, &parse).or_else(|| self.parsed(&format!("OTEL_EXPORTER_OTLP_{what}"), &parse))
    }

    fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.get(name)?;
        let parsed = parse(&value);
        let told = format!("{name} cannot be understood and is passed over");
        if parsed.is_none() && !self.passed_over.contains(&told) {
            self.passed_over.push(told);
        }
        parsed
    }
}

impl Check<'_> {
    pub(super) fn telemetry(&mut self, raw: &RawTelemetry) -> Option<Telemetry> {
        let mut environment = Environment { read: self.environment, passed_over: Vec::new() };
        let signal = |key, variable, path, typed| Signal { key, variable, path, typed };
        let signals = [
            signal("metrics", "METRICS", "v1/metrics", raw.metrics.as_ref()),
            signal("traces", "TRACES", "v1/traces", raw.traces.as_ref()),
            signal("logs", "LOGS", "v1/logs", raw.logs.as_ref()),
        ];
        let [metrics, traces, logs] = signals.map(|signal| self.exporter(raw, &signal, &mut environment));
        let resource = self.resource(raw, &mut environment);
        let every = if self.was_typed(&Path::dotted("telemetry.metrics_every")) {
            None
        } else {
            environment.parsed("OTEL_METRIC_EXPORT_INTERVAL", milliseconds)
        };
        let dogstatsd = self.agent(raw);
        let off =
            environment.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let (metrics, traces, logs) = (metrics?, traces?, logs?);
        let unless_off = |exporter: Option<Exporter>| exporter.filter(|_| !off);
        Some(Telemetry {
            metrics: unless_off(metrics),
            traces: unless_off(traces),
            logs: unless_off(logs),
            dogstatsd: dogstatsd?,
            metrics_every: every.or_else(|| raw.metrics_every.map(|period| period.0))?,
            trace_ratio: raw.trace_ratio?,
            resource: resource?,
            passed_over: environment.passed_over,
        })
    }

    /// Where DogStatsD goes; `Some(None)` where it goes nowhere.
    fn agent(&mut self, raw: &RawTelemetry) -> Option<Option<Agent>> {
        let Some(typed) = &raw.dogstatsd else { return Some(None) };
        let path = Path::dotted("telemetry.dogstatsd");
        if let Some(socket) = typed.strip_prefix("unix:") {
            return self.socket(&path, socket).map(Agent::Unix).map(Some);
        }
        let agent = host_and_port(typed, DOGSTATSD_PORT)
            .map(|(host, port)| Agent::Udp { host: host.to_owned(), port });
        if agent.is_none() {
            let examples = "127.0.0.1:8125 or unix:/var/run/datadog/dsd.socket";
            self.refuse(&path, format!("this is no agent; write for example {examples}"));
        }
        agent.map(Some)
    }

    /// Where a signal goes; `Some(None)` where it goes nowhere.
    fn exporter(
        &mut self,
        raw: &RawTelemetry,
        signal: &Signal<'_>,
        environment: &mut Environment<'_>,
    ) -> Option<Option<Exporter>> {
        let scope = Path::dotted("telemetry");
        let own = scope.key(signal.key);
        let typed = signal.typed.cloned().unwrap_or_default();
        let named = environment.get(&format!("OTEL_{}_EXPORTER", signal.variable));
        let sent = typed.send.unwrap_or(named.is_none_or(|name| name != "none"));
        let headers = match (&typed.headers, &raw.headers) {
            (Some(headers), _) => self.headers(&own.key("headers"), headers).map(Some),
            (None, Some(headers)) => self.headers(&scope.key("headers"), headers).map(Some),
            (None, None) => Some(None),
        };
        let ca = match (&typed.ca, &raw.ca) {
            (Some(file), _) => self.authorities(&own.key("ca"), Some(file)),
            (None, Some(file)) => self.authorities(&scope.key("ca"), Some(file)),
            (None, None) => Some(None),
        };
        let protocol = typed.protocol.or(raw.protocol.filter(|_| self.was_typed(&scope.key("protocol"))));
        let protocol =
            protocol.or_else(|| environment.of(signal, "PROTOCOL", otlp_protocol)).unwrap_or_default();
        let url = match (&typed.endpoint, &raw.endpoint) {
            (Some(url), _) => self.collector(&own.key("endpoint"), url).map(Some),
            (None, Some(url)) => {
                self.collector(&scope.key("endpoint"), url).map(|url| Some(url.with(signal.path)))
            }
            (None, None) => Some(endpoint_of(signal, environment)),
        };
        let (headers, ca, url) = (headers?, ca?, url?);
        let Some(url) = url.filter(|_| sent) else { return Some(None) };
        let typed_timeout = typed.timeout.or(raw.timeout.filter(|_| self.was_typed(&scope.key("timeout"))));
        let timeout = typed_timeout.map(|period| period.0);
        let timeout = timeout.or_else(|| environment.of(signal, "TIMEOUT", milliseconds));
        let certificate = |file: &str| Some(PathBuf::from(file)).filter(|file| file.is_file());
        Some(Some(Exporter {
            tls: url.tls,
            host: url.host,
            port: url.port,
            path: url.path,
            protocol,
            headers: headers.or_else(|| environment.of(signal, "HEADERS", header_list)).unwrap_or_default(),
            timeout: timeout.or(raw.timeout.map(|period| period.0))?,
            ca: ca.or_else(|| environment.of(signal, "CERTIFICATE", certificate)),
        }))
    }

    fn collector(&mut self, path: &Path, typed: &str) -> Option<Url> {
        let url = Url::parse(typed);
        if url.is_none() {
            self.refuse(path, format!("this is no URL of a collector; {EXAMPLE}"));
        }
        url
    }

    fn headers(&mut self, path: &Path, typed: &BTreeMap<String, RawSecret>) -> Option<Vec<(String, Secret)>> {
        if typed.len() > LISTED_MAX {
            self.refuse_key(path, format!("more than {LISTED_MAX} headers; remove some"));
            return None;
        }
        let mut headers = Vec::new();
        for (name, value) in typed {
            let value = self.expand(&path.key(name), &value.0);
            let header = value.and_then(|value| {
                let header = header(name, &value);
                if header.is_none() {
                    self.refuse(
                        &path.key(name),
                        "this is no header; a name is letters, digits and hyphens, a value visible ASCII",
                    );
                }
                header
            });
            headers.push(header);
        }
        headers.into_iter().collect()
    }

    fn resource(
        &mut self,
        raw: &RawTelemetry,
        environment: &mut Environment<'_>,
    ) -> Option<Vec<(String, String)>> {
        let path = Path::dotted("telemetry.resource");
        let mut attributes: BTreeMap<String, String> =
            environment.parsed("OTEL_RESOURCE_ATTRIBUTES", pairs).unwrap_or_default().into_iter().collect();
        for (name, value) in raw.resource.iter().flatten() {
            if name.is_empty() || name.len() > TEXT_MAX || value.len() > TEXT_MAX {
                self.refuse(
                    &path.key(name),
                    format!("a name has 1 to {TEXT_MAX} letters, a value {TEXT_MAX}"),
                );
                return None;
            }
            attributes.insert(name.clone(), value.clone());
        }
        if attributes.len() > LISTED_MAX {
            self.refuse_key(&path, format!("more than {LISTED_MAX} attributes; remove some"));
            return None;
        }
        let among_them = attributes.remove("service.name");
        let named =
            raw.service_name.clone().filter(|_| self.was_typed(&Path::dotted("telemetry.service_name")));
        let named = named
            .or_else(|| {
                among_them
                    .clone()
                    .filter(|_| raw.resource.iter().flatten().any(|(name, _)| name == "service.name"))
            })
            .or_else(|| environment.get("OTEL_SERVICE_NAME"))
            .or(among_them)
            .or_else(|| raw.service_name.clone())?;
        Some(std::iter::once(("service.name".to_owned(), named)).chain(attributes).collect())
    }
}

/// The endpoint that variables name: a signal's own is used as it stands, the one for all with the signal's path.
fn endpoint_of(signal: &Signal<'_>, environment: &mut Environment<'_>) -> Option<Url> {
    let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.variable);
    let url = environment.parsed(&own, Url::parse);
    url.or_else(|| Some(environment.parsed("OTEL_EXPORTER_OTLP_ENDPOINT", Url::parse)?.with(signal.path)))
}

/// Where a collector listens.
struct Url {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Url {
    fn parse(typed: &str) -> Option<Self> {
        let (rest, tls) = match (typed.strip_prefix("https://"), typed.strip_prefix("http://")) {
            (Some(rest), _) => (rest, true),
            (_, Some(rest)) => (rest, false),
            _ => return None,
        };
        let visible = |c: char| c.is_ascii_graphic() && !"#@?".contains(c);
        if typed.len() > 8 * TEXT_MAX || !rest.chars().all(visible) {
            return None;
        }
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
        let (host, port) = host_and_port(authority, if tls { 443 } else { 80 })?;
        let path = if path.is_empty() { "/" } else { path };
        Some(Self { tls, host: host.to_owned(), port, path: path.to_owned() })
    }

    fn with(self, path: &str) -> Self {
        Self { path: format!("{}/{path}", self.path.trim_end_matches('/')), ..self }
    }
}

fn otlp_protocol(word: &str) -> Option<OtlpProtocol> {
    serde_json::from_value(word.into()).ok()
}

fn milliseconds(text: &str) -> Option<Duration> {
    let time = Duration::from_millis(text.parse().ok()?);
    (time > Duration::ZERO && time <= TIME_MAX).then_some(time)
}

fn header(name: &str, value: &str) -> Option<(String, Secret)> {
    let sound = !name.is_empty()
        && name.len() <= TEXT_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let visible = value.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    (sound && visible).then(|| (name.to_ascii_lowercase(), Secret::new(value.to_owned())))
}

fn header_list(text: &str) -> Option<Vec<(String, Secret)>> {
    pairs(text)?.iter().map(|(name, value)| header(name, value)).collect()
}

/// `NAME=VALUE,NAME=VALUE`, percent-encoded, as both lists of the specification are written.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if items.len() > LISTED_MAX {
        return None;
    }
    let pair = |item: &str| {
        let (name, value) = item.split_once('=')?;
        Some((decoded(name.trim())?, decoded(value.trim())?)).filter(|(name, _)| !name.is_empty())
    };
    items.into_iter().map(pair).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

//! What holds where the operator says nothing, and how far each number may go: the one table.

use saphyr::Scalar;
use serde_json::{Map, Value, json};

/// One setting that has a default, written as the operator would write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Dotted path from the top level; `[]` behind a key stands for every item of a list.
    pub key: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// Least and greatest allowed value, both included, where the setting is a quantity.
    pub range: Option<(&'static str, &'static str)>,
}

const fn word(key: &'static str, default: &'static str) -> Known {
    Known { key, default, range: None }
}

const fn quantity(
    key: &'static str,
    default: &'static str,
    least: &'static str,
    greatest: &'static str,
) -> Known {
    Known { key, default, range: Some((least, greatest)) }
}

/// Every default, in the order of the reference page.
pub const DEFAULTS: &[Known] = &[
    word("listen", "127.0.0.1:8765"),
    word("proxy_protocol", "off"),
    word("tls.client_certificate", "required"),
    word("admin.listen", "127.0.0.1:8766"),
    word("admin.tls.client_certificate", "required"),
    word("inbound[].actions", "[approve, reject]"),
    quantity("inbound[].lasts", "1h", "1s", "30d"),
    quantity("inbound[].at_most", "24h", "1s", "30d"),
    quantity("threads", "0", "0", "1024"),
    quantity("lanes", "1", "1", "256"),
    word("state", "checkgate-state"),
    word("findings", "stdout"),
    word("log.format", "text"),
    word("telemetry.protocol", "http/protobuf"),
    quantity("telemetry.timeout", "10s", "100ms", "1m"),
    word("telemetry.service_name", "checkgate"),
    quantity("telemetry.metrics_every", "60s", "1s", "1h"),
    quantity("telemetry.trace_ratio", "0", "0", "1"),
    word("clients.hops", "x-forwarded-for"),
    quantity("clients.new_keys_per_address", "20", "1", "1000000"),
    quantity("clients.remembered", "10000", "1", "10000000"),
    quantity("brake.blocks_per_minute", "30", "1", "1000000"),
    quantity("brake.share_of_clients", "0.2", "0", "1"),
    word("decisions.scope", "model"),
    quantity("decisions.at_most", "30d", "1s", "30d"),
    quantity("decisions.widest_prefix.ipv4", "32", "8", "32"),
    quantity("decisions.widest_prefix.ipv6", "64", "16", "64"),
    quantity("decisions.proposal_expires", "24h", "1s", "30d"),
    quantity("decisions.offences_count_for", "7d", "0s", "365d"),
    quantity("ledger.findings_for", "90d", "1h", "3650d"),
    quantity("ledger.decisions_for", "400d", "1h", "3650d"),
    quantity("ledger.bytes_max", "1GiB", "64MiB", "1TiB"),
    quantity("sinks[].batch.events", "100", "1", "10000"),
    quantity("sinks[].batch.bytes", "1MiB", "1KiB", "64MiB"),
    quantity("sinks[].batch.wait", "1s", "0s", "10m"),
    quantity("sinks[].timeout", "10s", "10ms", "10m"),
    quantity("sinks[].spool.bytes", "256MiB", "64KiB", "1TiB"),
    quantity("sinks[].spool.age", "7d", "1s", "365d"),
    word("crowdsec.serve.listen", "127.0.0.1:8089"),
    word("crowdsec.serve.tls.client_certificate", "required"),
    word("crowdsec.serve.relay", "false"),
    quantity("crowdsec.pull[].decisions_max", "10000", "1", "100000"),
    quantity("limits.inspect_bytes", "1MiB", "1KiB", "1GiB"),
    quantity("limits.rows_per_exchange", "256", "1", "1000000"),
    quantity("limits.columns", "4096", "1", "1000000"),
    quantity("limits.lane_bytes", "64MiB", "1MiB", "64GiB"),
    quantity("limits.lane_share_per_client", "0.125", "0.001", "1"),
    quantity("limits.open_questions", "4096", "1", "10000000"),
    quantity("limits.discovered_models", "16", "0", "1024"),
    quantity("limits.hold_bytes", "32MiB", "1KiB", "4GiB"),
    quantity("limits.blocks", "100000", "1", "10000000"),
    quantity("limits.record_bytes", "1GiB", "64KiB", "64TiB"),
    quantity("limits.connections", "10000", "1", "1000000"),
    quantity("limits.connections_per_address", "1024", "1", "1000000"),
    quantity("limits.in_flight", "4096", "1", "1000000"),
    quantity("limits.head_bytes", "64KiB", "1KiB", "1MiB"),
    quantity("limits.header_lines", "256", "8", "4096"),
    quantity("limits.body_bytes", "64MiB", "1", "1TiB"),
    quantity("limits.body_bytes_per_second", "240", "0", "1GiB"),
    quantity("limits.answer_bytes_per_second", "240", "0", "1GiB"),
    quantity("limits.http2_streams", "100", "1", "10000"),
    quantity("timeouts.head", "10s", "1ms", "10m"),
    quantity("timeouts.keep_alive", "60s", "1ms", "1d"),
    quantity("timeouts.connect", "2s", "1ms", "10m"),
    quantity("timeouts.each_try", "60s", "1ms", "1d"),
    quantity("timeouts.first_byte", "60s", "1ms", "1d"),
    quantity("timeouts.total", "1h", "1ms", "30d"),
    quantity("timeouts.idle", "60s", "1ms", "1d"),
    quantity("timeouts.hold_answer", "30s", "1ms", "1h"),
    quantity("timeouts.hold_question", "100ms", "1ms", "1h"),
    quantity("timeouts.drain", "20s", "0s", "1h"),
    quantity("upstream.servers[].weight", "1", "1", "1000"),
    word("upstream.balance", "round_robin"),
    word("upstream.http", "auto"),
    quantity("upstream.retries", "1", "0", "10"),
    quantity("upstream.in_flight_per_server", "1024", "1", "1000000"),
    word("upstream.tls.insecure", "false"),
    word("upstream.health.path", "/v2/health/ready"),
    quantity("upstream.health.every", "5s", "10ms", "1h"),
    quantity("upstream.health.timeout", "2s", "1ms", "1h"),
    quantity("upstream.health.healthy_after", "2", "1", "100"),
    quantity("upstream.health.unhealthy_after", "3", "1", "100"),
    quantity("upstream.ejection.failures", "5", "0", "1000"),
    quantity("upstream.ejection.pause", "10s", "1ms", "1h"),
    word("mode", "observe"),
    word("hold", "none"),
    word("contract.on_violation", "refuse"),
    word("contract.on_error", "refuse"),
    word("policy.on_tier_one", "block"),
    word("policy.on_tier_two", "alert"),
    quantity("policy.digits", "2", "1", "15"),
    quantity("policy.delay", "500ms", "0s", "1m"),
    quantity("policy.delay_max", "30s", "0s", "5m"),
    quantity("policy.step_rows", "5", "1", "1000000"),
    quantity("policy.requests_per_minute", "60", "1", "1000000"),
    quantity("block_for", "[15m, 2h, 24h]", "1s", "30d"),
];

/// Mappings that mean something by being there: their defaults hold only inside of one that was typed.
const OPTIONAL: &[&str] = &["upstream", "tls", "health", "serve"];

/// Fills the table's values in where `typed` says nothing; an empty value says nothing. What an upstream leaves out is
/// filled in for the top level's and for each model's own.
pub(crate) fn fill_in(typed: &mut Value) {
    for known in DEFAULTS {
        let default = scalar(known.default);
        fill(typed, known.key, &default);
        if known.key.starts_with("upstream.") {
            fill(typed, &format!("models[].{}", known.key), &default);
        }
    }
}

/// What a mapping `upstream` holds where the operator named its servers only.
pub(crate) fn upstream() -> Value {
    let mut document = json!({"upstream": {}});
    fill_in(&mut document);
    document.get_mut("upstream").map(Value::take).unwrap_or_default()
}

/// Every dotted path at which the range of `known` holds: its own, and the one inside of each model.
pub(crate) fn places(known: &Known) -> Vec<String> {
    if known.key == "block_for" {
        return ["block_for", "block_for[]", "models[].block_for", "models[].block_for[]"]
            .map(str::to_owned)
            .to_vec();
    }
    if known.key == "telemetry.timeout" {
        let signals = ["metrics", "traces", "logs"].map(|signal| format!("telemetry.{signal}.timeout"));
        return std::iter::once(known.key.to_owned()).chain(signals).collect();
    }
    let in_model = match known.key {
        "limits.body_bytes" => Some("body_bytes"),
        key if key.starts_with("upstream.") || key.starts_with("policy.") => Some(key),
        _ => None,
    };
    let in_models = in_model.map(|key| format!("models[].{key}"));
    std::iter::once(known.key.to_owned()).chain(in_models).collect()
}

fn fill(value: &mut Value, key: &str, default: &Value) {
    let Value::Object(mapping) = value else { return };
    let Some((first, rest)) = key.split_once('.') else {
        let place = mapping.entry(key).or_insert(Value::Null);
        if place.is_null() {
            *place = default.clone();
        }
        return;
    };
    if let Some(list) = first.strip_suffix("[]") {
        let items = mapping.get_mut(list).and_then(Value::as_array_mut).map(Vec::as_mut_slice);
        items.unwrap_or_default().iter_mut().for_each(|item| fill(item, rest, default));
    } else if let Some(inner) = mapping.get_mut(first).filter(|inner| !inner.is_null()) {
        fill(inner, rest, default);
    } else if !OPTIONAL.contains(&first) {
        let mut inner = Value::Object(Map::new());
        fill(&mut inner, rest, default);
        mapping.insert(first.to_owned(), inner);
    }
}

/// A value of the table as JSON: a plain scalar, or a list of them in brackets.
pub(crate) fn scalar(typed: &str) -> Value {
    if let Some(items) = typed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return items.split(", ").map(scalar).collect();
    }
    match Scalar::parse_from_cow(typed.into()) {
        Scalar::Boolean(value) => value.into(),
        Scalar::Integer(number) => number.into(),
        Scalar::FloatingPoint(number) => number.into_inner().into(),
        _ => typed.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;
    use crate::units;

    #[test]
    fn every_default_is_a_setting_and_lies_in_its_range() {
        let mut document = json!({"tls": {}, "admin": {"tls": {}}, "crowdsec": {"serve": {"tls": {}}, "pull": [{}]}, "inbound": [{}], "sinks": [{}], "upstream": {"servers": [{"url": "x"}], "tls": {}, "health": {}}});
        fill_in(&mut document);
        serde_json::from_value::<Raw>(document.clone()).expect("the table names settings only");
        for known in DEFAULTS {
            let pointer = format!("/{}", known.key.replace("[]", ".0").replace('.', "/"));
            assert_eq!(document.pointer(&pointer), Some(&scalar(known.default)), "{}", known.key);
            let Some((least, greatest)) = known.range else { continue };
            let size = |typed: &Value| units::quantity(typed).expect(known.key);
            let range = size(&scalar(least))..=size(&scalar(greatest));
            let default = scalar(known.default);
            let items = default.as_array().map_or(std::slice::from_ref(&default), Vec::as_slice);
            let inside = items.iter().all(|item| range.contains(&size(item)));
            assert!(inside, "{} lies outside of its range", known.key);
        }
    }

    #[test]
    fn what_was_typed_stays_and_empty_values_say_nothing() {
        let mut typed = json!({"admin": {"listen": "[::1]:1"}, "mode": null, "log": null, "threads": 4});
        fill_in(&mut typed);
        assert_eq!(typed["admin"]["listen"], "[::1]:1");
        assert_eq!(typed["mode"], "observe");
        assert_eq!(typed["log"]["format"], "text");
        assert_eq!(typed["threads"], 4);
        assert_eq!(typed["lanes"], 1);
        assert!(typed.get("upstream").is_none() && typed.get("tls").is_none(), "nobody asked for these");
    }

    #[test]
    fn every_upstream_gets_its_defaults_and_health_checks_only_where_asked_for() {
        let servers = json!([{"url": "http://m:1"}, "http://m:2", {"url": "http://m:3", "weight": 5}]);
        let mut typed = json!({"models": [{"upstream": {"servers": servers}}, {"upstream": {"health": {}}}, {"upstream": "x"}, {}]});
        fill_in(&mut typed);
        let upstream = &typed["models"][0]["upstream"];
        assert_eq!(
            upstream["servers"],
            json!([{"url": "http://m:1", "weight": 1}, "http://m:2", {"url": "http://m:3", "weight": 5}])
        );
        assert_eq!((&upstream["retries"], &upstream["ejection"]["failures"]), (&json!(1), &json!(5)));
        assert!(upstream.get("health").is_none(), "nobody asked for health checks");
        assert_eq!(typed["models"][1]["upstream"]["health"]["every"], "5s");
        assert_eq!(typed["models"][2], json!({"upstream": "x"}), "a URL stays as it was typed");
        assert_eq!(typed["models"][3], json!({}), "a model without an upstream takes the top level's");
    }
}

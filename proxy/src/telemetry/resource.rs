//! Of whom everything that is sent speaks.

use checkgate_config::settings;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use ring::digest::{SHA256, digest};

/// The resource of this process; what the operator named wins.
pub fn of(settings: &settings::Telemetry, instance: &str) -> Resource {
    let named = |name: &str| settings.resource.iter().any(|(known, _)| known == name);
    let own = [("service.version", env!("CARGO_PKG_VERSION")), ("service.instance.id", instance)];
    let own = own.into_iter().filter(|(name, _)| !named(name));
    let told = settings.resource.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Resource {
        attributes: told.chain(own).map(|(name, value)| text(name, value)).collect(),
        ..Resource::default()
    }
}

/// What made it.
pub fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "checkgate".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}

/// The name of an instance: the same across restarts on one state folder, and nothing that tells its key.
pub fn instance(key: &[u8]) -> String {
    let hash = digest(&SHA256, &[b"checkgate telemetry instance ".as_slice(), key].concat());
    let digits = hex::encode(hash);
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// An attribute that is a text.
pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// An attribute that is a whole number.
pub fn whole(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

/// An attribute that is a list of texts.
pub fn texts(key: &str, values: impl IntoIterator<Item = String>) -> KeyValue {
    let values =
        values.into_iter().map(|value| AnyValue { value: Some(Value::StringValue(value)) }).collect();
    attribute(key, Value::ArrayValue(ArrayValue { values }))
}

/// An attribute.
pub fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

//! What holds where the operator says nothing, and how far each number may go: the one table.

use saphyr::Scalar;
use serde_json::{Map, Value};

/// One setting that has a default, written as the operator would write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Dotted path from the top level.
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
    word("admin.listen", "127.0.0.1:8766"),
    quantity("threads", "0", "0", "1024"),
    quantity("lanes", "1", "1", "256"),
    word("state", "checkgate-state"),
    word("findings", "stdout"),
    word("log.format", "text"),
    quantity("clients.new_keys_per_address", "20", "1", "1000000"),
    quantity("clients.remembered", "10000", "1", "10000000"),
    quantity("brake.blocks_per_minute", "30", "1", "1000000"),
    quantity("brake.share_of_clients", "0.2", "0", "1"),
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
    quantity("timeouts.connect", "2s", "1ms", "10m"),
    quantity("timeouts.first_byte", "60s", "1ms", "1d"),
    quantity("timeouts.idle", "60s", "1ms", "1d"),
    quantity("timeouts.hold_answer", "30s", "1ms", "1h"),
    quantity("timeouts.hold_question", "100ms", "1ms", "1h"),
    quantity("timeouts.drain", "20s", "0s", "1h"),
    word("mode", "observe"),
    word("hold", "none"),
    word("contract.on_violation", "refuse"),
    word("contract.on_error", "refuse"),
    quantity("block_for", "15m", "1s", "30d"),
];

/// The table as a document, as if the operator had typed all of it.
pub(crate) fn document() -> Value {
    let mut document = Value::Object(Map::new());
    for known in DEFAULTS {
        insert(&mut document, known.key, scalar(known.default));
    }
    document
}

/// A plain scalar of the table as JSON.
pub(crate) fn scalar(typed: &str) -> Value {
    match Scalar::parse_from_cow(typed.into()) {
        Scalar::Integer(number) => number.into(),
        Scalar::FloatingPoint(number) => number.into_inner().into(),
        _ => typed.into(),
    }
}

/// The table's entry for the dotted path `key`.
pub(crate) fn of(key: &str) -> Option<&'static Known> {
    DEFAULTS.iter().find(|known| known.key == key)
}

/// Lays what was typed over `base`: mappings key by key, anything else as a whole; an empty value changes nothing.
pub(crate) fn lay_over(base: &mut Value, typed: &Value) {
    match (base, typed) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(typed)) => {
            for (key, value) in typed {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, typed) => *base = typed.clone(),
    }
}

fn insert(document: &mut Value, key: &str, value: Value) {
    let nested =
        key.rsplit('.').fold(value, |inner, part| Value::Object(Map::from_iter([(part.into(), inner)])));
    lay_over(document, &nested);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;
    use crate::units;

    #[test]
    fn every_default_is_a_setting_and_lies_in_its_range() {
        serde_json::from_value::<Raw>(document()).expect("the table names settings only");
        for known in DEFAULTS {
            let Some((least, greatest)) = known.range else { continue };
            let [least, default, greatest] = [least, known.default, greatest]
                .map(|typed| units::quantity(&scalar(typed)).expect(known.key));
            assert!(least <= default && default <= greatest, "{} lies outside of its range", known.key);
        }
    }

    #[test]
    fn what_was_typed_wins_key_by_key_and_empty_values_change_nothing() {
        let mut base = document();
        lay_over(&mut base, &serde_json::json!({"admin": {"listen": "[::1]:1"}, "mode": null, "threads": 4}));
        assert_eq!(base["admin"]["listen"], "[::1]:1");
        assert_eq!(base["mode"], "observe");
        assert_eq!(base["threads"], 4);
        assert_eq!(base["lanes"], 1);
    }
}

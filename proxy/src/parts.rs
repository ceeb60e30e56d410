//! The lists of parts of this binary, as the configuration needs them.
//!
//! A part owns its parameters; nothing here repeats them.

use std::sync::LazyLock;

use checkgate_config::parts::{Part, PartError, Parts};
use checkgate_detectors::contract::Contract;
use checkgate_detectors::drift::parameters::DriftParameters;
use checkgate_detectors::query::{self, DRILLS};
use serde_json::Value;

use crate::decode::{self, DECODERS};
use crate::sinks::{self, SINKS};

static DETECTORS: LazyLock<Vec<Part>> = LazyLock::new(|| {
    let part = |spec: &query::QuerySpec| Part {
        name: spec.name,
        summary: spec.summary,
        schema: spec.schema,
        defaults: spec.defaults,
        check: check_detector,
        runs: DRILLS.iter().all(|drill| drill.name != spec.name),
    };
    query::all().map(part).collect()
});

static PROTOCOLS: LazyLock<Vec<Part>> = LazyLock::new(|| {
    let part = |spec: &decode::DecoderSpec| Part {
        name: spec.name,
        summary: spec.summary,
        schema: spec.schema,
        defaults: spec.defaults,
        check: check_protocol,
        runs: true,
    };
    DECODERS.iter().map(part).collect()
});

static SINK_PARTS: LazyLock<Vec<Part>> = LazyLock::new(|| {
    let part = |spec: &sinks::SinkSpec| Part {
        name: spec.name,
        summary: spec.summary,
        schema: spec.schema,
        defaults: spec.defaults,
        check: check_sink,
        runs: true,
    };
    SINKS.iter().map(part).collect()
});

const CONTRACT: Part = Part {
    name: "contract",
    summary: "what the answers of a model must keep",
    schema: || schemars::schema_for!(Contract),
    defaults: || serde_json::to_value(Contract::default()).unwrap_or_default(),
    check: check_contract,
    runs: true,
};

const DRIFT: Part = Part {
    name: "drift",
    summary: "whether the traffic or the predictions of a model have moved",
    schema: || schemars::schema_for!(DriftParameters),
    defaults: || serde_json::to_value(DriftParameters::default()).unwrap_or_default(),
    check: check_drift,
    runs: true,
};

/// All lists of parts.
pub fn all() -> Parts<'static> {
    Parts {
        detectors: &DETECTORS,
        protocols: &PROTOCOLS,
        sinks: &SINK_PARTS,
        contract: CONTRACT,
        drift: DRIFT,
    }
}

fn check_drift(_name: &str, parameters: &Value) -> Result<(), PartError> {
    query::check_of::<DriftParameters>(parameters)
        .map_err(|error| PartError { path: error.path, message: error.message })
}

fn check_detector(name: &str, parameters: &Value) -> Result<(), PartError> {
    let check = query::spec(name).map_or(Ok(()), |spec| (spec.check)(parameters));
    check.map_err(|error| PartError { path: error.path, message: error.message })
}

fn check_protocol(name: &str, parameters: &Value) -> Result<(), PartError> {
    let built = decode::spec(name).map_or(Ok(()), |spec| (spec.build)(parameters).map(|_| ()));
    built.map_err(|error| PartError { path: error.path, message: error.message })
}

fn check_sink(name: &str, parameters: &Value) -> Result<(), PartError> {
    sinks::spec(name).map_or(Ok(()), |spec| (spec.check)(parameters))
}

fn check_contract(_name: &str, parameters: &Value) -> Result<(), PartError> {
    query::check_of::<Contract>(parameters)
        .map_err(|error| PartError { path: error.path, message: error.message })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use checkgate_config::{golden, read, schema};

    use super::*;

    fn config(file: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config").join(file)
    }

    #[test]
    fn every_example_is_accepted() {
        let tried = golden::accepts_all(&config("examples"), &all()).unwrap();
        assert!(tried >= 7, "only {tried} examples were found");
    }

    #[test]
    fn every_mistake_gives_its_expected_message() {
        let tried = golden::refuses_all(&config("invalid"), &all()).unwrap();
        assert!(tried >= 40, "only {tried} mistakes were found");
    }

    fn everything() -> String {
        std::fs::read_to_string(config("examples/everything.yaml")).unwrap()
    }

    #[test]
    fn the_example_of_everything_names_every_setting() {
        let text = everything();
        let schema = schema::json_schema(&all());
        let mut owners = vec![schema["properties"].clone()];
        owners.extend(
            schema["$defs"].as_object().unwrap().values().map(|definition| definition["properties"].clone()),
        );
        for name in owners.iter().filter_map(Value::as_object).flat_map(|properties| properties.keys()) {
            assert!(text.contains(&format!("{name}:")), "everything.yaml does not show {name}");
        }
    }

    #[test]
    fn the_example_of_everything_shows_the_defaults() {
        let least = read("upstream: http://127.0.0.1:8080", "checkgate.yaml", &all()).unwrap();
        let everything = read(&everything(), "checkgate.yaml", &all()).unwrap();
        assert_eq!(format!("{:#?}", least.unclaimed), format!("{:#?}", everything.unclaimed));
        for (what, shown, held) in [
            ("limits", format!("{:?}", everything.limits), format!("{:?}", least.limits)),
            ("timeouts", format!("{:?}", everything.timeouts), format!("{:?}", least.timeouts)),
            ("clients", format!("{:?}", everything.clients), format!("{:?}", least.clients)),
            ("brake", format!("{:?}", everything.brake), format!("{:?}", least.brake)),
            ("decisions", format!("{:?}", everything.decisions), format!("{:?}", least.decisions)),
            ("tenants", format!("{:?}", everything.tenants), format!("{:?}", least.tenants)),
            ("maintenance", format!("{:?}", everything.maintenance), format!("{:?}", least.maintenance)),
            ("admin", format!("{:?}", everything.admin), format!("{:?}", least.admin)),
        ] {
            assert_eq!(shown, held, "{what} are not shown with their defaults");
        }
    }

    #[test]
    fn the_committed_schema_is_the_codes() {
        let text = schema::json_schema_text(&all());
        golden::equals_committed(&config("checkgate.schema.json"), &text).unwrap();
    }

    #[test]
    fn the_committed_reference_page_is_the_codes() {
        golden::equals_committed(&config("../docs/configuration.md"), &schema::reference_page(&all()))
            .unwrap();
    }
}

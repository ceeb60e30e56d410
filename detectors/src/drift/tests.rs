//! Rules that every entry of the visible list must keep.

use std::collections::BTreeSet;

use super::bins::{Bins, Value};
use super::counts::Counts;
use super::*;

#[test]
fn names_are_unique_and_every_entry_says_what_it_is_and_where_it_comes_from() {
    let names: BTreeSet<&str> = DRIFT.iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), DRIFT.len(), "names are unique");
    for spec in DRIFT {
        assert!(!spec.summary.is_empty() && !spec.source.is_empty(), "{}", spec.name);
        let plain = spec.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(plain && find(spec.name).is_some(), "{}", spec.name);
    }
}

#[test]
fn defaults_and_examples_are_taken_and_unknown_parameters_are_refused_by_name() {
    for spec in DRIFT {
        let example: Json = serde_json::from_str(spec.example).unwrap();
        for parameters in [(spec.defaults)(), example, serde_json::json!({})] {
            assert_eq!((spec.check)(&parameters), Ok(()), "{}: {parameters}", spec.name);
        }
        let error = (spec.check)(&serde_json::json!({"no_such": 1})).unwrap_err();
        assert!(error.to_string().contains("no_such"), "{}: {error}", spec.name);
    }
}

#[test]
fn values_out_of_range_are_refused_with_the_key() {
    for (name, parameters, key) in [
        ("early", r#"{"tolerance": 0.9}"#, "tolerance"),
        ("early", r#"{"reference_error": 0}"#, "reference_error"),
        ("early", r#"{"tick_rows": 0}"#, "tick_rows"),
        ("paging", r#"{"stretch_rows": 1}"#, "stretch_rows"),
        ("paging", r#"{"stretch_seconds": -1}"#, "stretch_seconds"),
        ("adwin", r#"{"delta": 1}"#, "delta"),
        ("adwin", r#"{"clock": 0}"#, "clock"),
        ("psi", r#"{"events_min": 0}"#, "events_min"),
    ] {
        let spec = find(name).unwrap();
        let error = (spec.check)(&serde_json::from_str(parameters).unwrap()).unwrap_err();
        assert_eq!(error.path, [key], "{name} {parameters}: {error}");
    }
}

#[test]
fn every_gauge_is_small_without_a_change_and_far_above_its_expectation_with_one() {
    let column: Vec<Value> = (0..10_000).map(|row| Value::Number(f64::from(row))).collect();
    let bins = Bins::of(&column);
    let counts = |values: &mut dyn Iterator<Item = f64>| {
        let mut counts = Counts::new(bins.slots());
        values.for_each(|value| counts.add(bins.slot(Value::Number(value))));
        counts
    };
    let reference = counts(&mut (0..10_000).map(f64::from));
    let same = counts(&mut (0..1000).map(|row| f64::from(row * 10)));
    let other = counts(&mut (0..1000).map(|row| f64::from(row * 6)));
    for spec in DRIFT {
        let Kind::Gauge(read) = spec.kind else { continue };
        let reading = |window| read(&Pair { reference: &reference, window, bins: &bins }).unwrap();
        let (calm, moved) = (reading(&same), reading(&other));
        assert!(calm.expected > 0.0 && calm.value <= calm.expected, "{}: {calm:?}", spec.name);
        assert!(moved.value > 4.0 * moved.expected, "{}: {moved:?}", spec.name);
        let certain = moved.p.is_none_or(|p| p < 1e-9) && calm.p.is_none_or(|p| p > 0.5);
        assert!(certain, "{}: {:?} {:?}", spec.name, calm.p, moved.p);
    }
}

#[test]
fn gauges_are_shown_from_enough_events_on() {
    let bins = Bins::of(&[Value::Label(1), Value::Label(2)]);
    let counts = |count| Counts::from_slots(vec![count, count, 0, 0, 0, 0]);
    let (reference, window) = (counts(1000), counts(50));
    let pair = Pair { reference: &reference, window: &window, bins: &bins };
    assert!(readings(&pair, 101).is_empty(), "100 events are too few");
    let names: Vec<&str> = readings(&pair, 100).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names.len(),
        7,
        "all but the distance in the feature's unit, which labels do not have: {names:?}"
    );
}

#[test]
fn the_defaults_of_parameters_and_settings_agree() {
    let made = settings(&Early::default(), &Paging { stretch_seconds: 0.0, ..Paging::default() });
    assert_eq!(made, reference::Settings::default(), "but for the time, which a table may not have");
    assert_eq!(settings(&Early::default(), &Paging::default()).stretch_microseconds, 1_000_000);
    assert_eq!(Early::default().tick_rows, watch::Settings::default().tick_rows);
}

//! Where recorded attacks are first told of by the detectors that only alert, and which recorded honest clients are
//! told of, too. A row that moves is a change of behaviour: say why in the commit that changes it.
//!
//! What a block ends tells nothing more: an attack that is blocked at row 12 has no first alert at row 100.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use checkgate_detectors::engine::Engine;
use checkgate_detectors::finding::{Action, Kind, Record, Tier};
use checkgate_detectors::query::QUERY;
use checkgate_detectors::reference::Trust;
use support::{Stream, client, engine, model_of, play, reference, run, streams};

/// Row of each detector's first finding of a stream of its own before a trusted reference.
type Alerts = BTreeMap<&'static str, usize>;

fn first_alerts(stream: &Stream) -> Alerts {
    let records = run(stream, engine(Some(reference(&stream.name)), &[]));
    let mut first = Alerts::new();
    for (row, record) in
        records.iter().filter(|(_, record)| record.tier == Tier::Two && record.kind == Kind::Finding)
    {
        first.entry(record.detector).or_insert(*row);
    }
    first
}

fn all(kind: &str) -> BTreeMap<String, Alerts> {
    let found: BTreeMap<_, _> =
        streams(kind).iter().map(|stream| (stream.name.clone(), first_alerts(stream))).collect();
    for (name, alerts) in &found {
        println!("{name:28} {alerts:?}");
    }
    found
}

fn only_alerts(detector: &str) -> bool {
    QUERY.iter().any(|spec| spec.name == detector && spec.tier == Tier::Two)
}

#[test]
fn recorded_attacks_are_told_of_at_their_row() {
    let found = all("attacks");
    for (name, row, detector) in [
        ("boundary_cancer", 23, "off_grid"),
        ("copycat_other_digits", 24, "off_grid"),
        ("copycat_uniform_cancer", 24, "off_grid"),
        ("copycat_uniform_digits", 24, "off_grid"),
        ("hsj_cancer", 6, "off_distribution"),
        ("hsj_digits", 5, "off_grid"),
        ("inv_search_digits", 6, "off_grid"),
        ("jbda_cancer", 63, "off_grid"),
        ("jbda_digits", 63, "off_grid"),
        ("knockoff_adaptive_digits", 3, "off_grid"),
        ("mi_labelonly_digits", 6, "off_grid"),
        ("nes_cancer", 4, "off_grid"),
        ("nes_digits", 4, "off_grid"),
        ("price_lhs", 4, "off_distribution"),
        ("simba_digits", 10, "off_grid"),
        ("square_digits", 19, "off_grid"),
        ("zoo_digits", 10, "off_grid"),
    ] {
        assert_eq!(found[name].get(detector), Some(&row), "{name}: {detector} among {:?}", found[name]);
    }
}

/// Natural rows: nothing in them tells, one client alone has no population beside it, and a finding would be chance.
#[test]
fn attacks_that_look_natural_are_told_of_by_nothing() {
    let found = all("attacks");
    for name in ["knockoff_natural_digits", "price_natural", "mi_rule_digits"] {
        assert!(found[name].is_empty(), "{name}: {:?}", found[name]);
    }
}

/// These honest clients interpolate, or measure again with averages. The rest is told of by none.
const TOLD: [(&str, &[&str]); 4] = [
    ("followup_cancer.1", &["off_grid"]),
    ("followup_cancer.2", &["off_grid"]),
    ("sensor_digits.1", &["marginal_drift", "near_density"]),
    ("sensor_digits.2", &["marginal_drift", "near_density"]),
];

#[test]
fn few_honest_clients_are_told_of_and_these_are_known() {
    let found = all("benign");
    assert_eq!(found.len(), 52, "recorded honest streams");
    let told: Vec<(&str, Vec<&str>)> = found
        .iter()
        .map(|(name, alerts)| (name.as_str(), alerts.keys().copied().collect()))
        .filter(|(_, detectors): &(_, Vec<_>)| !detectors.is_empty())
        .collect();
    let known: Vec<(&str, Vec<&str>)> =
        TOLD.iter().map(|(name, detectors)| (*name, detectors.to_vec())).collect();
    assert_eq!(told, known);
}

/// Without a reference there is nothing to compare with, and one client's traffic never makes one.
#[test]
fn without_a_reference_no_recorded_honest_client_is_told_of() {
    for stream in streams("benign") {
        let records = run(&stream, engine(None, &[]));
        let told: Vec<_> = records.iter().filter(|(_, record)| only_alerts(record.detector)).collect();
        assert!(told.is_empty(), "{}: {told:?}", stream.name);
    }
}

/// All honest clients of a model at once, before a reference that is learned from them: each detector that tells of one or
/// notes something.
fn told_beside_a_learned_reference(model: &str) -> Vec<(String, Vec<&'static str>)> {
    let clients: Vec<Stream> =
        streams("benign").into_iter().filter(|stream| model_of(&stream.name) == model).collect();
    let mut engine = engine(None, &[]);
    let mut told: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    let turns = clients.iter().map(|stream| stream.requests.len()).max().unwrap();
    let asked = (0..turns).flat_map(|turn| clients.iter().enumerate().map(move |place| (turn, place)));
    for (id, (turn, (number, stream))) in asked.enumerate() {
        let Some(request) = stream.requests.get(turn) else { continue };
        for record in play(&mut engine, client(1 + number as u16), id as u64, request).records {
            assert_eq!(record.action, Action::Alert, "{}: {record:?}", stream.name);
            told.entry(stream.name.clone()).or_default().insert(record.detector);
        }
    }
    assert_eq!(engine.reference_trust(), Some(Trust::Provisional), "{model}: learned by then");
    told.into_iter().map(|(name, detectors)| (name, detectors.into_iter().collect())).collect()
}

#[test]
fn beside_a_learned_reference_few_honest_clients_are_told_of() {
    let told: Vec<_> =
        ["pricing", "digits", "cancer"].into_iter().flat_map(told_beside_a_learned_reference).collect();
    println!("{told:#?}");
    let drifting = told.iter().filter(|(_, detectors)| detectors.contains(&"marginal_drift"));
    let names: Vec<&str> = drifting.map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "nightly_pricing.1",
            "nightly_pricing.2",
            "drifted_digits.1",
            "drifted_digits.2",
            "sensor_digits.1",
            "sensor_digits.2"
        ]
    );
    let others = ["off_grid", "sign_step", "constant_step", "coverage_growth", "error_probing"];
    for (name, detectors) in &told {
        assert!(!detectors.iter().any(|detector| others.contains(detector)), "{name}: {detectors:?}");
    }
    assert!(told.len() <= 10, "{} of 52 honest clients are told of", told.len());
}

/// Plays streams of the same model, each as a client of its own; the first is client 1.
fn side_by_side<'a>(engine: &mut Engine, streams: impl Iterator<Item = &'a Stream>) -> Vec<Record> {
    let mut id = 0;
    let mut records = Vec::new();
    for (number, stream) in streams.enumerate() {
        for request in &stream.requests {
            records.extend(play(engine, client(1 + number as u16), id, request).records);
            id += 1;
        }
    }
    records
}

/// The first `requests` requests of a stream from its request `first` on.
fn part(stream: &Stream, first: usize, requests: usize) -> Stream {
    let requests = stream.requests.iter().skip(first).take(requests).cloned().collect();
    Stream { name: stream.name.clone(), requests }
}

#[test]
fn natural_extraction_shows_in_its_coverage_beside_a_population() {
    let natural = streams("attacks").into_iter().find(|stream| stream.name == "price_natural").unwrap();
    let plain = streams("benign").into_iter().find(|stream| stream.name == "plain_pricing.1").unwrap();
    let customers: Vec<Stream> = (0..30).map(|number| part(&plain, number * 20, 20)).collect();
    let mut engine = engine(Some(reference(&natural.name)), &[]);
    let records = side_by_side(&mut engine, customers.iter().chain([&natural]));
    let told: Vec<_> = records.iter().filter(|record| record.detector == "coverage_growth").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].explanation.contains("cells"), "{}", told[0].explanation);
}

//! Rules that every entry of the visible list must keep.

use std::collections::BTreeSet;

use super::*;
use crate::facts::Cell;
use crate::hashing::Hashing;
use crate::identity::Identity;
use crate::lines::Origin;
use crate::neighbours::Place;

const CLIENTS: usize = 50;
const WIDTH: u64 = 8;

/// A small generator of numbers, the same on every run (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A reference far from everything that is asked.
fn reference() -> Reference {
    let mut numbers = Numbers(2);
    let mut text = r#"{"features":["a","b","c","d","e","f","g","h"]}"#.to_owned();
    for _ in 0..150 {
        let row: Vec<u64> = (0..WIDTH).map(|_| 1000 + numbers.below(40)).collect();
        text.push_str(&format!("\n{}", serde_json::json!({"x": row, "p": [1]})));
    }
    Reference::from_json_lines(&text, Trust::Trusted).unwrap()
}

/// The detectors of the list with their defaults, over one memory of rows.
struct Bench {
    detectors: Vec<(&'static QuerySpec, Box<dyn ErasedDetector>)>,
    seen: Seen,
    reference: Reference,
    numbers: Numbers,
    findings: Vec<Finding>,
    neighbours: Neighbours,
}

impl Bench {
    fn new() -> Self {
        let built = QUERY.iter().map(|spec| (spec, (spec.build)(&(spec.defaults)()).unwrap()));
        Self {
            detectors: built.collect(),
            seen: Seen::default(),
            reference: reference(),
            numbers: Numbers(1),
            findings: Vec::new(),
            neighbours: Neighbours::default(),
        }
    }

    /// A random question of a random client, rich in rows that differ in one field.
    fn ask(&mut self, id: u64) {
        let hashing = Hashing::new([3, 4]);
        let client = self.numbers.below(CLIENTS as u64) as usize;
        let rows = 1 + self.numbers.below(3);
        // One column of many values beside seven that are mostly zero: rich in lines and bases.
        let mut number = |column| match column {
            0 => self.numbers.below(40),
            _ => u64::from(self.numbers.below(8) == 0),
        };
        let cells = (0..rows * WIDTH).map(|cell| Cell::Number(number(cell % WIDTH) as f64)).collect();
        let question = Features { width: WIDTH as usize, cells, ..Features::default() };
        let time = Time(id * 50_000);
        let salt = hashing.salt(Identity::Key(client as u64));
        let mut columns = Columns::default();
        columns.look_at(&hashing, &question, Some(&self.reference));
        self.seen.take(&hashing, client, salt, Origin { request: id, time }, &question, &columns);
        let reference = Some(&self.reference);
        let place = Place { client, question: &question, columns: &columns };
        self.neighbours.take(place, self.seen.rows(), reference);
        let neighbours = &self.neighbours;
        let exchange =
            Exchange { id, time, client, question: &question, columns: &columns, reference, neighbours };
        let mut findings = Findings::default();
        for (_, detector) in &mut self.detectors {
            detector.observe(&exchange, &self.seen, client, &mut findings);
        }
        self.findings.extend(findings.drain());
        self.answer(id, time, client, rows);
    }

    /// A random answer to the question of `rows` rows: often an error.
    fn answer(&mut self, id: u64, time: Time, client: usize, rows: u64) {
        let status = [200, 200, 422, 503, 0][self.numbers.below(5) as usize];
        let cells = (0..rows).map(|_| Cell::Number(self.numbers.below(100) as f64 / 100.0)).collect();
        let answer = Features { width: 1, cells, ..Features::default() };
        let asked: Vec<u32> = self.seen.rows().iter().map(|row| row.index as u32).collect();
        let earlier = EarlierRows {
            distinct_rows: &asked,
            first_row: self.neighbours.first_row(),
            client,
            neighbours: &self.neighbours,
            reference: Some(&self.reference),
        };
        let reply = Reply {
            id,
            time,
            status,
            answer: Ok(&answer),
            asked: Ok(earlier),
            reference: Some(&self.reference),
        };
        let mut findings = Findings::default();
        for (_, detector) in &mut self.detectors {
            detector.answered(&reply, client, &mut findings);
        }
        self.findings.extend(findings.drain());
    }

    fn assert_within_bounds(&self) {
        let (held, _) = self.seen.held_and_evicted();
        assert!(held <= Seen::ENTRIES_MAX, "{held} entries held");
        for (spec, detector) in &self.detectors {
            let bytes = detector.save().len();
            let bound = CLIENTS * spec.state_bytes_max + 4096;
            assert!(bytes <= bound, "{} keeps {bytes} bytes of {CLIENTS} clients, stated {bound}", spec.name);
        }
    }
}

fn state_stays_bounded(exchanges: u64) {
    let mut bench = Bench::new();
    for id in 0..exchanges {
        bench.ask(id);
        if id % (exchanges / 10) == 0 {
            bench.assert_within_bounds();
            bench.findings.clear();
        }
    }
    bench.assert_within_bounds();
}

#[test]
fn state_stays_under_its_stated_bound() {
    state_stays_bounded(100_000);
}

#[test]
#[ignore = "a minute without optimisation; the longer set runs it"]
fn state_stays_under_its_stated_bound_for_a_million_exchanges() {
    state_stays_bounded(1_000_000);
}

#[test]
fn the_same_facts_give_the_same_findings() {
    let run = || {
        let mut bench = Bench::new();
        (0..3000).for_each(|id| bench.ask(id));
        bench.findings
    };
    let first = run();
    assert!(!first.is_empty(), "the questions should provoke something");
    assert_eq!(first, run());
}

#[test]
fn names_are_unique_and_techniques_well_formed() {
    let names: BTreeSet<&str> = all().map(|spec| spec.name).collect();
    assert_eq!(names.len(), QUERY.len() + DRILLS.len(), "two entries share a name");
    for spec in all() {
        let words = spec.name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        assert!(words, "{} is no config key", spec.name);
        assert!(is_atlas(spec.atlas), "{}: {} is no ATLAS technique", spec.name, spec.atlas);
        let owasp = spec.owasp.strip_prefix("ML").and_then(|rest| rest.strip_suffix(":2023"));
        assert!(owasp.is_some_and(|number| number.len() == 2), "{}: {}", spec.name, spec.owasp);
        assert!(!spec.summary.is_empty() && !spec.source.is_empty(), "{} must be documented", spec.name);
    }
}

fn is_atlas(technique: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = technique.strip_prefix("AML.T") else { return false };
    match number.split_once('.') {
        Some((main, sub)) => digits(main, 4) && digits(sub, 3),
        None => digits(number, 4),
    }
}

#[test]
fn defaults_and_examples_build() {
    for spec in all() {
        let example = serde_json::from_str(spec.example).unwrap();
        for parameters in [(spec.defaults)(), example, serde_json::json!({})] {
            (spec.check)(&parameters).unwrap();
            assert!((spec.build)(&parameters).is_ok(), "{}: {parameters}", spec.name);
        }
    }
}

#[test]
fn unknown_parameters_are_refused() {
    for spec in all() {
        let error = (spec.check)(&serde_json::json!({"no_such_parameter": 1})).unwrap_err();
        assert!(error.message.contains("no_such_parameter"), "{}: {error}", spec.name);
    }
}

#[test]
fn every_parameter_is_documented_and_has_a_default() {
    for spec in all() {
        let schema = (spec.schema)();
        let properties = schema.as_object().unwrap()["properties"].as_object().unwrap().clone();
        let defaults = (spec.defaults)();
        for (name, property) in &properties {
            assert!(property.get("description").is_some(), "{}: {name} says nothing", spec.name);
            assert!(defaults.get(name).is_some(), "{}: {name} has no default", spec.name);
        }
    }
}

#[test]
fn values_out_of_range_are_named() {
    for (detector, parameters, key) in [
        ("one_field_sweep", serde_json::json!({"values": 2}), "values"),
        ("one_field_sweep", serde_json::json!({"values": "many"}), "values"),
        ("field_by_field", serde_json::json!({"fields": 65}), "fields"),
        ("off_distribution", serde_json::json!({"honest_share": 0.5}), "honest_share"),
        ("off_distribution", serde_json::json!({"attack_share": 1.0}), "attack_share"),
        ("off_distribution", serde_json::json!({"false_alarms": 0.5}), "false_alarms"),
        ("near_duplicates", serde_json::json!({"ratio": 0.0}), "ratio"),
        ("near_duplicates", serde_json::json!({"rows": 2}), "rows"),
        ("near_density", serde_json::json!({"rows": 2}), "rows"),
        ("fingerprints", serde_json::json!({"matches": 0}), "matches"),
        ("fingerprints", serde_json::json!({"rows": 2}), "rows"),
        ("off_grid", serde_json::json!({"honest_share": 0.5}), "honest_share"),
        ("marginal_drift", serde_json::json!({"distance": 1.0}), "distance"),
        ("marginal_drift", serde_json::json!({"rows": 251}), "rows"),
        ("mirror_pairs", serde_json::json!({"pairs": 2}), "pairs"),
        ("mirror_pairs", serde_json::json!({"fields": 17}), "fields"),
        ("equal_amounts", serde_json::json!({"share": 0.5}), "share"),
        ("equal_amounts", serde_json::json!({"fields": 3}), "fields"),
        ("equal_amounts", serde_json::json!({"attack_share": 1.0}), "attack_share"),
        ("sign_step", serde_json::json!({"share": 0.5}), "share"),
        ("sign_step", serde_json::json!({"fields": 3}), "fields"),
        ("sign_step", serde_json::json!({"rows": 2}), "rows"),
        ("constant_step", serde_json::json!({"rows": 4}), "rows"),
        ("coverage_growth", serde_json::json!({"window_seconds": 59}), "window_seconds"),
        ("coverage_growth", serde_json::json!({"share": 0.0}), "share"),
        ("coverage_growth", serde_json::json!({"times": 1.0}), "times"),
        ("coverage_growth", serde_json::json!({"quantile": 0.0}), "quantile"),
        ("coverage_growth", serde_json::json!({"clients_min": 0}), "clients_min"),
        ("error_probing", serde_json::json!({"attack_share": 1.0}), "attack_share"),
        ("error_probing", serde_json::json!({"false_alarms": 0.0}), "false_alarms"),
        ("client_volume", serde_json::json!({"times": 0.5}), "times"),
        ("client_volume", serde_json::json!({"quantile": 1.0}), "quantile"),
        ("client_volume", serde_json::json!({"window_seconds": 1}), "window_seconds"),
        ("client_volume", serde_json::json!({"clients_min": 0}), "clients_min"),
        ("chaos", serde_json::json!({"loops": 1.5}), "loops"),
        ("chaos", serde_json::json!({"grows": 0.6, "loops": 0.6}), "panics"),
    ] {
        let spec = spec(detector).unwrap();
        let error = (spec.check)(&parameters).unwrap_err();
        assert_eq!(error.path, [key], "{detector} {parameters}: {error}");
    }
}

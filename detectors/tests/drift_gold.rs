//! Parity with scipy and river: `data/drift-gold.json` holds data and expected values. Statistics agree to 1e-9,
//! probabilities to 1e-6 of themselves, alarms of ADWIN to the event.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use checkgate_detectors::drift::adwin::{Adwin, Settings};
use checkgate_detectors::drift::gauges::{
    contingency, gap_probability, hellinger, jensen_shannon, largest_gap, psi_smoothed, psi_with_floor,
    shares, wasserstein,
};
use checkgate_detectors::drift::measure::{divergence, smoothed, total_variation};
use serde_json::Value;

fn gold() -> Value {
    serde_json::from_str(include_str!("data/drift-gold.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn counts(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|number| number as u32).collect()
}

/// Asserts that a value is the expected one, to a part of it or to the same part of 1.
fn assert_near(found: f64, case: &Value, key: &str, part: f64) {
    let expected = case[key].as_f64().unwrap_or_else(|| panic!("{key} of {}", case["name"]));
    let room = if part < 1e-8 { part * expected.abs().max(1.0) } else { part * expected.abs() };
    assert!((found - expected).abs() <= room, "{} of {}: {found}, expected {expected}", key, case["name"]);
}

/// Both samples as shares at the same ascending positions.
fn merged(one: &[f64], other: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut positions = [one, other].concat();
    positions.sort_by(f64::total_cmp);
    positions.dedup();
    let share = |sample: &[f64], place: &f64| {
        sample.iter().filter(|value| *value == place).count() as f64 / sample.len() as f64
    };
    let of = |sample| positions.iter().map(|place| share(sample, place)).collect::<Vec<_>>();
    (of(one), of(other), positions)
}

#[test]
fn two_samples_are_as_far_apart_as_scipy_says() {
    for case in gold()["two_sample"].as_array().unwrap() {
        let (reference, window) = (counts(&case["ref_counts"]), counts(&case["cur_counts"]));
        let (p, q) = (shares(&reference), shares(&window));
        assert_near(psi_with_floor(&reference, &window), case, "psi_floor1e4", 1e-9);
        assert_near(psi_smoothed(&reference, &window), case, "psi_smoothed", 1e-9);
        assert_near(
            divergence(&smoothed(&window), &smoothed(&reference)),
            case,
            "kl_smoothed_cur_vs_ref",
            1e-9,
        );
        assert_near(jensen_shannon(&p, &q), case, "js_distance_base2", 1e-9);
        assert_near(hellinger(&p, &q), case, "hellinger", 1e-9);
        assert_near(total_variation(&p, &q), case, "tvd", 1e-9);
        assert_near(largest_gap(&p, &q), case, "binned_ks", 1e-9);
        let (one, other) = (numbers(&case["reference"]), numbers(&case["current"]));
        let (p, q, positions) = merged(&one, &other);
        let gap = largest_gap(&p, &q);
        assert_near(gap, case, "ks_stat", 1e-9);
        assert_near(wasserstein(&positions, &p, &q), case, "wasserstein1", 1e-9);
        assert_near(gap_probability(one.len() as u64, other.len() as u64, gap), case, "ks_p_exact", 1e-6);
    }
}

#[test]
fn values_fall_into_the_bins_that_the_gold_counts() {
    for case in gold()["two_sample"].as_array().unwrap() {
        let edges = numbers(&case["inner_edges_from_reference_quantiles_linear"]);
        let mut found = vec![0; edges.len() + 1];
        for value in numbers(&case["current"]) {
            found[edges.iter().filter(|edge| **edge <= value).count()] += 1;
        }
        assert_eq!(found, counts(&case["cur_counts"]), "{}", case["name"]);
    }
}

#[test]
fn tables_of_labels_give_the_statistics_of_scipy() {
    for case in gold()["categorical"].as_array().unwrap() {
        let keys = case["key_order"].as_array().unwrap();
        let side = |name: &str| {
            let count = |key: &Value| case[name][key.as_str().unwrap()].as_u64().unwrap_or(0) as u32;
            keys.iter().map(count).collect::<Vec<_>>()
        };
        let (reference, window) = (side("reference"), side("current"));
        let table = contingency(&reference, &window);
        assert_near(table.pearson, case, "chi2_stat", 1e-9);
        assert_near(table.pearson_p(), case, "chi2_p", 1e-6);
        assert_near(table.likelihood, case, "g_stat", 1e-9);
        assert_near(table.likelihood_p(), case, "g_p", 1e-6);
        assert_eq!(table.degrees as u64, case["dof"].as_u64().unwrap(), "{}", case["name"]);
        let (p, q) = (shares(&reference), shares(&window));
        assert_near(psi_smoothed(&reference, &window), case, "psi_smoothed", 1e-9);
        assert_near(jensen_shannon(&p, &q), case, "js_distance_base2", 1e-9);
        assert_near(total_variation(&p, &q), case, "tvd", 1e-9);
        assert_near(hellinger(&p, &q), case, "hellinger", 1e-9);
    }
}

/// The generator of the gold's streams: the upper 24 bits of a linear congruence.
fn stream(spec: &str) -> Vec<f64> {
    spec.trim_end_matches(" (no change)").split(" ++ ").flat_map(part).collect()
}

fn part(spec: &str) -> Vec<f64> {
    let between = |from: &str, to: char| {
        let rest = spec.split_once(from).unwrap().1;
        rest.split(to).next().unwrap().parse::<f64>().unwrap()
    };
    let (parameter, count) = (between("(", ')'), between("n=", ' ') as usize);
    let mut state = between("seed=", ' ') as u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1_u32 << 24)
    };
    let mut value = || match spec.starts_with("bern") {
        true => f64::from(u8::from(uniform() < parameter)),
        false => parameter + (uniform() + uniform() - 1.0),
    };
    (0..count).map(|_| value()).collect()
}

#[test]
fn adwin_alarms_at_the_events_of_river_and_ends_with_the_same_window() {
    let settings = |name: &str| match name {
        "adwin_delta1e-5" => Settings { delta: 1e-5, ..Settings::default() },
        "adwin_clock1_grace5" => Settings { clock: 1, grace: 5.0, ..Settings::default() },
        _ => Settings::default(),
    };
    for case in gold()["streams"].as_array().unwrap() {
        let spec = case["spec"].as_str().unwrap();
        let values = stream(spec);
        assert_eq!(values[..5], numbers(&case["first5"]), "{spec}: the same numbers");
        for name in ["adwin_default", "adwin_delta1e-5", "adwin_clock1_grace5"] {
            let expected = &case[name];
            let mut window = Adwin::new(settings(name));
            let changed = |(event, value): (usize, &f64)| window.take(*value).then_some(event as f64 + 1.0);
            let alarms: Vec<f64> = values.iter().enumerate().filter_map(changed).collect();
            assert_eq!(alarms, numbers(&expected["alarms_at_1_based"]), "{name} on {spec}");
            assert_near(window.width(), expected, "final_width", 1e-9);
            assert_near(window.mean(), expected, "final_estimation", 1e-9);
            assert_near(window.spread(), expected, "final_variance", 1e-9);
        }
    }
}

#[test]
fn the_recursions_and_the_normaliser_give_the_known_answers() {
    let gold = gold();
    let answers = gold["known_answers"].as_array().unwrap();
    let normaliser = answers.iter().find(|answer| answer["name"] == "robust normaliser").unwrap();
    let (p0, q) = (numbers(&normaliser["p0"]), numbers(&normaliser["q"]));
    let number = |key: &str| normaliser[key].as_f64().unwrap();
    let spread = checkgate_detectors::drift::measure::chi_square(&q, &p0);
    let margin = 1.0
        + 2.0 * number("tol") * total_variation(&q, &p0)
        + number("z") * (spread / number("n_ref")).sqrt();
    assert_near(margin, normaliser, "c", 1e-9);
    let sums = answers.iter().find(|answer| answer["name"] == "SR and CUSUM e-detector").unwrap();
    let (p0, q) = (numbers(&sums["p0"]), numbers(&sums["q"]));
    let mut level = 0.0;
    for (bin, expected) in numbers(&sums["bins"]).into_iter().zip(numbers(&sums["sr_after_each"])) {
        let bin = bin as usize;
        level = checkgate_detectors::drift::event::raised(level, 1, q[bin] / p0[bin]);
        assert!((level - expected).abs() <= 1e-9 * expected, "{level}, expected {expected}");
    }
}

//! The honest clients that detection is measured with: the same on every run, and enough kinds of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

#[path = "../examples/quality/bounds.rs"]
mod bounds;
#[allow(dead_code, reason = "the program takes what the test does not")]
#[path = "../examples/quality/honest/mod.rs"]
mod honest;
mod support;

use std::collections::BTreeSet;

use support::Request;

/// Bits, as two numbers that print alike may differ.
fn bits(stream: &[Request]) -> Vec<(u64, Vec<u64>)> {
    let row = |rows: &[Vec<f64>]| rows.iter().flatten().map(|value| value.to_bits()).collect();
    stream.iter().map(|request| (request.seconds.to_bits(), row(&request.rows))).collect()
}

#[test]
fn a_seed_gives_the_same_stream_and_another_seed_another() {
    for profile in honest::profiles() {
        let people = honest::people(profile.model);
        let made = |seed| bits(&honest::stream(profile, people, seed, 0.0));
        let first = made(1);
        assert!(!first.is_empty(), "{} asks something", profile.name);
        assert_eq!(first, made(1), "{}: seed 1 twice", profile.name);
        assert_ne!(first, made(2), "{}: seeds 1 and 2", profile.name);
    }
}

#[test]
fn every_row_is_as_wide_as_its_model_and_finite() {
    for profile in honest::profiles() {
        let people = honest::people(profile.model);
        let width = people.spreads.len();
        for request in honest::stream(profile, people, 3, 0.0) {
            assert_eq!(request.rows.len(), request.predictions.len(), "{}", profile.name);
            assert!(request.rows.len() <= 256, "{}: rows of one request are all looked into", profile.name);
            for row in &request.rows {
                assert_eq!(row.len(), width, "{}", profile.name);
                assert!(row.iter().all(|value| value.is_finite()), "{}: {row:?}", profile.name);
            }
        }
    }
}

#[test]
fn profiles_are_many_differ_in_name_and_most_have_dependent_rows() {
    let names: BTreeSet<_> = honest::profiles().map(|profile| profile.name).collect();
    let all = honest::profiles().count();
    assert_eq!(names.len(), all, "names are unique");
    assert!(all >= 40, "{all} profiles");
    let dependent = honest::profiles().filter(|profile| profile.dependent).count();
    assert!(2 * dependent >= all, "{dependent} of {all} profiles have dependent rows");
    assert!(honest::first().len() >= 40, "written before anything was run: {}", honest::first().len());
}

#[test]
fn an_upper_bound_is_the_one_of_the_binomial_distribution() {
    // 1 - 0.05^(1/n) without a hit; the others from tables of the beta distribution.
    for (hits, trials, expected) in [(0, 300, 0.009_936), (0, 1, 0.95), (1, 10, 0.394_163), (5, 5, 1.0)] {
        let bound = bounds::upper(hits, trials, 0.05);
        assert!((bound - expected).abs() < 1e-5, "{hits} of {trials}: {bound}, expected {expected}");
    }
}

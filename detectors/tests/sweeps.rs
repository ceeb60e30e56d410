//! Sliders, reports and explanations are noted; whoever goes on reading the model out is blocked.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use checkgate_detectors::finding::{Kind, Record, Tier};
use support::{case, engine, first_block, reference, run, singly, with};

/// `stops` distances in steps of 1,000 km a year.
fn slider(customer: &[f64], stops: usize) -> Vec<Vec<f64>> {
    (0..stops).map(|stop| with(customer, 5, 3000.0 + 1000.0 * stop as f64)).collect()
}

#[test]
fn with_a_reference_one_field_of_one_case_is_noted_and_not_blocked() {
    let slid = singly("pricing", slider(&case("pricing"), 16));
    let records = run(&slid, engine(Some(reference("pricing")), &[]));
    assert_eq!(first_block(&records), None, "{records:?}");
    let noted: Vec<_> = records.iter().filter(|(_, record)| record.detector == "one_field_sweep").collect();
    let is_note = |record: &Record| record.tier == Tier::Two && record.kind == Kind::Note;
    assert!(matches!(noted.as_slice(), [(12, record)] if is_note(record)), "{noted:?}");
}

#[test]
fn without_a_reference_a_line_blocks_at_once() {
    let slid = singly("pricing", slider(&case("pricing"), 16));
    assert_eq!(first_block(&run(&slid, engine(None, &[]))), Some((12, "one_field_sweep")));
}

#[test]
fn a_long_line_and_a_crossed_one_block() {
    let customer = with(&case("pricing"), 5, 3000.0);
    let long = singly("pricing", slider(&customer, 30));
    let trusted = || engine(Some(reference("pricing")), &[]);
    assert_eq!(first_block(&run(&long, trusted())), Some((24, "one_field_sweep")));
    let other = |column: usize| [9900.0, 9800.0].map(|value| with(&customer, column, value));
    let mut rows = vec![customer.clone()];
    rows.extend(other(2));
    rows.extend(slider(&customer, 14).split_off(1));
    let two_sliders = first_block(&run(&singly("pricing", rows.clone()), trusted()));
    assert_eq!(two_sliders, None, "a second slider of the same case");
    rows.splice(3..3, other(0));
    assert_eq!(first_block(&run(&singly("pricing", rows), trusted())), Some((16, "one_field_sweep")));
}

#[test]
fn a_grid_of_two_fields_blocks() {
    let customer = with(&case("pricing"), 5, 3000.0);
    let lines = (0..13).map(|step| with(&customer, 2, 9000.0 + 500.0 * f64::from(step)));
    let rows = lines.flat_map(|row| slider(&row, 5)).collect();
    let block = first_block(&run(&singly("pricing", rows), engine(Some(reference("pricing")), &[])));
    assert_eq!(block, Some((56, "one_field_sweep")), "the twelfth line begins");
}

#[test]
fn a_price_that_is_watched_for_months_does_not_block() {
    let customer = with(&case("pricing"), 5, 3000.0);
    let mut watched = singly("pricing", slider(&customer, 30));
    watched.requests.iter_mut().for_each(|request| request.seconds *= 86_400.0);
    let records = run(&watched, engine(Some(reference("pricing")), &[]));
    assert_eq!(first_block(&records), None, "{records:?}");
}

#[test]
fn near_rows_on_one_long_line_are_left_to_the_sweep() {
    let customer = case("pricing");
    let fine = (0..20).map(|stop| with(&customer, 2, customer[2] + 100.0 * f64::from(stop))).collect();
    let records = run(&singly("pricing", fine), engine(Some(reference("pricing")), &[]));
    assert_eq!(first_block(&records), None, "{records:?}");
}

/// The case, and the case with each of ten fields moved by `moves` in turn.
fn star(model: &str, moves: &[fn(f64) -> f64]) -> Vec<Vec<f64>> {
    let case = case(model);
    let arms = (0..10).flat_map(|column| moves.iter().map(move |moved| (column, moved)));
    let arms = arms.map(|(column, moved)| with(&case, column, moved(case[column])));
    std::iter::once(case.clone()).chain(arms).collect()
}

#[test]
fn usual_values_put_in_once_are_an_explanation() {
    let explained = star("digits", &[|value| if value > 0.5 { value - 0.5 } else { value + 0.5 }]);
    let records = run(&singly("digits", explained), engine(Some(reference("digits")), &[]));
    assert_eq!(first_block(&records), None, "{records:?}");
    assert!(records.iter().any(|(_, record)| record.detector == "field_by_field"), "{records:?}");
}

#[test]
fn a_chart_that_moves_ten_fields_both_ways_is_noted() {
    let both: [fn(f64) -> f64; 2] =
        [|value| if value > 0.5 { value - 0.5 } else { value + 0.5 }, |value| (value - 0.25).abs()];
    let records = run(&singly("digits", star("digits", &both)), engine(Some(reference("digits")), &[]));
    assert_eq!(first_block(&records), None, "{records:?}");
    let noted = |record: &Record| record.detector == "field_by_field" && record.kind == Kind::Note;
    assert!(records.iter().any(|(_, record)| noted(record)), "{records:?}");
}

#[test]
fn fields_moved_often_or_by_less_than_the_reference_does_are_a_search() {
    let often: [fn(f64) -> f64; 5] = [
        |_| 0.0625,
        |_| 0.1875,
        |_| 0.3125,
        |_| 0.4375,
        |value| if value > 0.5 { value - 0.5 } else { value + 0.5 },
    ];
    let fine: [fn(f64) -> f64; 1] = [|value| value + 0.003];
    // The reference has a single value in two of the ten pixels, and so no steps to be finer than.
    for (moves, row) in [(often.as_slice(), 41), (fine.as_slice(), 9)] {
        let records = run(&singly("digits", star("digits", moves)), engine(Some(reference("digits")), &[]));
        assert_eq!(first_block(&records), Some((row, "field_by_field")), "{records:?}");
    }
}

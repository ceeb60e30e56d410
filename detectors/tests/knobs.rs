//! Rows that lie close together because somebody turns a few knobs are left alone; searches are not.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use checkgate_detectors::finding::Record;
use support::{Stream, engine, first_block, reference, run, singly, streams, with};

/// A case of the model that lies apart from where its reference is dense, as most that attackers begin at do.
fn case(model: &str) -> Vec<f64> {
    let name = if model == "digits" { "simba_digits" } else { "price_oat" };
    streams("attacks").into_iter().find(|stream| stream.name == name).unwrap().requests[0].rows[0].clone()
}

fn records(stream: &Stream) -> Vec<(usize, Record)> {
    run(stream, engine(Some(reference(&stream.name)), &[]))
}

/// `stops` steps of each knob, a column and a step, on from where the one before stopped.
fn sliders(model: &str, knobs: &[(usize, f64)], stops: usize) -> Vec<Vec<f64>> {
    let mut row = case(model);
    let mut rows = vec![row.clone()];
    for &(column, step) in knobs {
        for _ in 0..stops {
            row = with(&row, column, row[column] + step);
            rows.push(row.clone());
        }
    }
    rows
}

/// Ten columns of a case by two steps up and two down each, the case itself left out.
fn chart_of_an_unasked_case(model: &str, step: f64) -> Vec<Vec<f64>> {
    let case = case(model);
    let arms = (10..20).flat_map(|column| [-2.0, -1.0, 1.0, 2.0].map(|by| (column, by * step)));
    arms.map(|(column, by)| with(&case, column, case[column] + by)).collect()
}

/// The same rows, each value moved by less than a step wherever it differs from the first row's.
fn finer(rows: &[Vec<f64>], by: f64) -> Vec<Vec<f64>> {
    let first = &rows[0];
    let moved = |row: &Vec<f64>| {
        row.iter().zip(first).map(|(value, first)| if value == first { *value } else { value + by }).collect()
    };
    rows.iter().map(moved).collect()
}

#[test]
fn a_few_knobs_turned_by_whole_steps_are_nobodys_search() {
    let three = [(5, 1000.0), (2, 500.0), (1, 1.0)];
    let five = [(5, 500.0), (2, 200.0), (4, 1.0), (0, 1.0), (3, 1.0)];
    for (name, model, rows, by) in [
        ("three sliders", "pricing", sliders("pricing", &three, 8), 0.3),
        ("five sliders", "pricing", sliders("pricing", &five, 4), 0.3),
        ("a chart whose case was not asked", "digits", chart_of_an_unasked_case("digits", 0.125), 0.01),
    ] {
        let steps = records(&singly(model, rows.clone()));
        assert_eq!(first_block(&steps), None, "{name}: {steps:?}");
        let fine = records(&singly(model, finer(&rows, by)));
        assert!(first_block(&fine).is_some(), "{name}, by less than the reference's steps: {fine:?}");
    }
}

/// Pixels in the middle of a sheet, whose values differ from digit to digit.
fn pixels() -> impl Iterator<Item = usize> {
    (0..64).filter(|pixel| (2..6).contains(&(pixel % 8)))
}

fn moved(value: f64, by: f64) -> f64 {
    if value > 0.5 { value - by } else { value + by }
}

#[test]
fn a_search_that_keeps_what_helped_in_many_fields_blocks_on_whole_steps_too() {
    let mut row = case("digits");
    let mut rows = vec![row.clone()];
    for pixel in pixels() {
        let tried = with(&row, pixel, moved(row[pixel], 0.1875));
        rows.push(tried.clone());
        // Two of three do not help.
        if pixel % 3 == 0 {
            row = tried;
        }
    }
    let block = first_block(&records(&singly("digits", rows)));
    assert!(matches!(block, Some((13..=24, "near_duplicates"))), "{block:?}");
}

#[test]
fn a_search_that_moves_four_fields_at_a_time_blocks_on_whole_steps_too() {
    let customer = case("pricing");
    let fields = [(0, 1.0), (2, 300.0), (4, 2.0), (5, 500.0)];
    let tried = |turn: usize| {
        fields.iter().enumerate().fold(customer.clone(), |row, (at, (field, step))| {
            let steps = (turn + 7) * (turn + 3 * at + 11) * 7919 % 997 % 5;
            with(&row, *field, row[*field] + step * steps as f64)
        })
    };
    let block = first_block(&records(&singly("pricing", (0..30).map(tried).collect())));
    assert!(matches!(block, Some((13..=20, "near_duplicates"))), "{block:?}");
}

#[test]
fn what_goes_one_way_is_watched_and_the_same_rows_back_and_forth_are_a_search() {
    let mut row = case("digits");
    let mut rows = vec![row.clone()];
    for shot in 0..16 {
        for pixel in pixels().skip(shot % 8).step_by(8) {
            row[pixel] = (row[pixel] - 0.0625).max(0.0);
        }
        rows.push(row.clone());
    }
    let one_way = records(&singly("digits", rows.clone()));
    assert_eq!(first_block(&one_way), None, "{one_way:?}");
    let half = rows.split_off(rows.len() / 2);
    let turns = half.into_iter().zip(rows).flat_map(|(late, early)| [late, early]).collect();
    let block = first_block(&records(&singly("digits", turns)));
    assert!(matches!(block, Some((13..=17, "near_duplicates"))), "{block:?}");
}

/// Sheets some of whose pixels come and go by a step, as by chance.
fn noisy_sheets() -> Stream {
    let sheet = case("digits");
    let by = |shot: usize, pixel: usize| ((shot * 7919 + pixel * 104_729) * 31 % 997 % 2) as f64 / 16.0;
    let shot = |shot| pixels().fold(sheet.clone(), |row, at| with(&row, at, moved(row[at], by(shot, at))));
    singly("digits", (0..30).map(shot).collect())
}

#[test]
fn who_measures_a_case_a_few_times_a_day_only_watches_it() {
    let mut sheets = noisy_sheets();
    let block = first_block(&records(&sheets));
    assert!(matches!(block, Some((13..=20, "near_duplicates"))), "a second apart: {block:?}");
    sheets.requests.iter_mut().for_each(|request| request.seconds *= 3600.0);
    let hourly = first_block(&records(&sheets));
    assert_eq!(hourly, block, "an hour apart, which a patient search can wait");
    sheets.requests.iter_mut().for_each(|request| request.seconds *= 24.0);
    let daily = records(&sheets);
    assert_eq!(first_block(&daily), None, "{daily:?}");
}

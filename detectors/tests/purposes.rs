//! What a finding says a client is after, and what is noted instead of told.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use checkgate_detectors::finding::{Action, Kind, Record};
use support::{Request, Stream, engine, reference, run, streams};

/// The record of the first block of a recorded attack.
fn block(name: &str) -> Record {
    let attack = streams("attacks").into_iter().find(|stream| stream.name == name).unwrap();
    let records = run(&attack, engine(Some(reference(name)), &[]));
    let found = records.into_iter().find(|(_, record)| record.action == Action::Block);
    found.map(|(_, record)| record).unwrap_or_else(|| panic!("{name} is blocked"))
}

#[test]
fn a_block_names_what_the_rows_show_and_why() {
    for (name, atlas, owasp, said) in [
        ("knockoff_adaptive_digits", "AML.T0024.002", "ML05:2023", "Named extraction"),
        ("copycat_uniform_cancer", "AML.T0024.002", "ML05:2023", "Named extraction"),
        ("inv_search_digits", "AML.T0024.001", "ML03:2023", "Named inversion, less likely evasion"),
        ("price_lhs", "AML.T0024.002", "ML05:2023", "Named extraction"),
        ("hsj_cancer", "AML.T0043.001", "ML01:2023", "Named evasion"),
        ("boundary_cancer", "AML.T0043.001", "ML01:2023", "Named evasion, less likely extraction"),
    ] {
        let block = block(name);
        assert_eq!((block.atlas, block.owasp), (atlas, Some(owasp)), "{name}: {}", block.explanation);
        assert!(block.explanation.contains(said), "{name}: {}", block.explanation);
    }
}

/// Rows of the digits' reference, each moved off the grid or to a part of its values where that is asked for.
fn scans(rows: usize, change: impl Fn(usize, f64) -> f64) -> Stream {
    let known = streams("benign").into_iter().find(|stream| stream.name == "plain_digits.1").unwrap();
    let requests = known.requests.into_iter().take(rows).enumerate();
    let requests = requests.map(|(turn, request)| {
        let row = request.rows[0].iter().map(|value| change(turn, *value)).collect();
        Request { rows: vec![row], predictions: request.predictions[..1].to_vec(), ..request }
    });
    Stream { name: "digits".to_owned(), requests: requests.collect() }
}

fn by<'r>(records: &'r [(usize, Record)], detector: &str) -> Vec<&'r Record> {
    records.iter().map(|(_, record)| record).filter(|record| record.detector == detector).collect()
}

#[test]
fn one_weak_sign_is_a_note_and_two_of_different_kinds_are_told() {
    let darker = |_: usize, value: f64| (value * 12.0).round() / 16.0;
    let dark = run(&scans(200, darker), engine(Some(reference("digits")), &[]));
    let notes = by(&dark, "marginal_drift");
    assert!(!notes.is_empty() && notes.iter().all(|record| record.kind == Kind::Note), "{notes:?}");
    assert!(notes[0].explanation.contains("This is a note"), "{}", notes[0].explanation);

    let and_fine = move |turn: usize, value: f64| darker(turn, value) + if turn > 150 { 0.01 } else { 0.0 };
    let both = run(&scans(200, and_fine), engine(Some(reference("digits")), &[]));
    let told: Vec<&Record> =
        by(&both, "marginal_drift").into_iter().filter(|record| record.kind == Kind::Finding).collect();
    assert!(!told.is_empty(), "{both:?}");
    assert!(
        told[0].explanation.contains("off_grid spoke of it within a day, too."),
        "{}",
        told[0].explanation
    );
}

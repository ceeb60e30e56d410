//! Where recorded attacks are blocked, and that recorded honest clients never are. A row that moves is a change of
//! behaviour: say why in the commit that changes it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use serde_json::json;
use support::{Stream, blocks_of_attacks, client, engine, first_block, play, reference, run, streams};

type Blocks = BTreeMap<String, Option<(usize, &'static str)>>;

fn assert_pinned(found: &Blocks, pinned: &[(&str, usize, &str)]) {
    for (name, row, detector) in pinned {
        assert_eq!(found[*name], Some((*row, *detector)), "{name}");
    }
}

/// Content cannot show them, so something is wrong with the claim where one is blocked.
const INVISIBLE: [&str; 3] = ["knockoff_natural_digits", "price_natural", "mi_rule_digits"];

#[test]
fn honest_clients_are_never_blocked() {
    let streams = streams("benign");
    assert_eq!(streams.len(), 52, "recorded honest streams");
    for stream in &streams {
        let records = run(stream, engine(None, &[]));
        assert_eq!(first_block(&records), None, "{}: {:?}", stream.name, records.first());
    }
}

#[test]
fn honest_clients_are_never_blocked_with_a_trusted_reference() {
    let may_block = [("off_distribution", "may_block", json!(true))];
    for stream in streams("benign") {
        let records = run(&stream, engine(Some(reference(&stream.name)), &may_block));
        assert_eq!(first_block(&records), None, "{}: {:?}", stream.name, records.first());
    }
}

#[test]
fn without_a_reference_sweeps_and_walks_are_blocked_at_their_row() {
    let found = blocks_of_attacks(|_| engine(None, &[]));
    assert_pinned(
        &found,
        &[
            ("price_oat", 12, "one_field_sweep"),
            ("price_enum", 34, "one_field_sweep"),
            ("price_grid", 133, "one_field_sweep"),
            ("zoo_digits", 12, "field_by_field"),
            ("zoo_cancer", 95, "field_by_field"),
            ("inv_search_digits", 8, "field_by_field"),
        ],
    );
}

#[test]
fn with_a_trusted_reference_searches_are_blocked_at_their_row() {
    let found = blocks_of_attacks(|stream| engine(Some(reference(&stream.name)), &[]));
    assert_pinned(
        &found,
        &[
            ("boundary_cancer", 33, "off_distribution"),
            ("boundary_digits", 23, "near_duplicates"),
            ("copycat_other_digits", 88, "boundary_walk"),
            ("copycat_uniform_cancer", 32, "off_distribution"),
            ("copycat_uniform_digits", 32, "off_distribution"),
            ("hsj_cancer", 8, "bisection"),
            ("hsj_digits", 8, "bisection"),
            ("jbda_digits", 65, "equal_amounts"),
            ("knockoff_adaptive_digits", 18, "boundary_walk"),
            ("mi_labelonly_digits", 9, "bisection"),
            ("nes_cancer", 15, "mirror_pairs"),
            ("nes_digits", 15, "mirror_pairs"),
            ("price_enum", 34, "one_field_sweep"),
            ("price_lhs", 82, "off_distribution"),
            ("simba_digits", 17, "mirror_pairs"),
            ("square_digits", 46, "equal_amounts"),
            ("zoo_cancer", 39, "mirror_pairs"),
        ],
    );
    for name in INVISIBLE {
        assert_eq!(found[name], None, "{name}");
    }
}

#[test]
fn attacks_off_a_trusted_reference_are_blocked_at_their_row_where_that_may_block() {
    let may_block = [("off_distribution", "may_block", json!(true))];
    let found = blocks_of_attacks(|stream| engine(Some(reference(&stream.name)), &may_block));
    assert_pinned(
        &found,
        &[
            ("hsj_digits", 6, "off_distribution"),
            ("hsj_cancer", 6, "off_distribution"),
            ("copycat_uniform_digits", 32, "off_distribution"),
            ("copycat_uniform_cancer", 32, "off_distribution"),
            ("copycat_other_digits", 32, "off_distribution"),
            ("knockoff_adaptive_digits", 4, "off_distribution"),
            ("price_lhs", 4, "off_distribution"),
            ("mi_labelonly_digits", 8, "off_distribution"),
        ],
    );
    for name in INVISIBLE {
        assert_eq!(found[name], None, "{name}");
    }
}

/// Honest streams of the same model, each a client of its own.
fn crowd(model: &str) -> Vec<Stream> {
    streams("benign").into_iter().filter(|stream| stream.name.contains(model)).collect()
}

/// The attacker's own row of its block, with `honest_requests` requests of honest clients before each of its own.
fn row_among(attack: &Stream, honest: &[Stream], honest_requests: usize) -> Option<usize> {
    let mut engine = engine(Some(reference(&attack.name)), &[]);
    let mut crowd = (0..)
        .flat_map(|turn| honest.iter().enumerate().map(move |(number, stream)| (turn, number, stream)))
        .filter_map(|(turn, number, stream)| {
            Some((number, stream, stream.requests.get(turn % stream.requests.len())?))
        });
    let (mut id, mut rows_sent) = (0, 0);
    for request in &attack.requests {
        for (number, stream, honest) in crowd.by_ref().take(honest_requests) {
            let out = play(&mut engine, client(2 + number as u16), id, honest);
            assert!(out.blocks.is_empty(), "{} beside {}: {:?}", stream.name, attack.name, out.records);
            id += 1;
        }
        let out = play(&mut engine, client(1), id, request);
        id += 1;
        rows_sent += request.rows.len();
        if !out.blocks.is_empty() {
            return Some(rows_sent);
        }
    }
    None
}

#[test]
fn the_share_of_an_attack_in_the_traffic_does_not_move_its_block() {
    let attacks = streams("attacks");
    for (name, model) in [("price_oat", "pricing"), ("simba_digits", "digits"), ("nes_cancer", "cancer")] {
        let attack = attacks.iter().find(|stream| stream.name == name).unwrap();
        let honest = crowd(model);
        let alone = row_among(attack, &honest, 0);
        assert!(alone.is_some(), "{name} is blocked");
        for honest_requests in [1, 10, 100] {
            assert_eq!(
                row_among(attack, &honest, honest_requests),
                alone,
                "{name} at 1 in {honest_requests}"
            );
        }
    }
}

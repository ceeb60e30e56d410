//! Nobody can be framed: whatever others send, an honest client is judged by its own rows.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use checkgate_detectors::finding::Action;
use serde_json::json;
use support::{Request, Stream, client, engine, model_of, play, reference, streams};

/// Near copies of each row that are sent before the victim asks.
const COPIES: usize = 12;

/// A copy of `row` in which every value is moved by a millionth or so.
fn near_copy(row: &[f64], number: usize) -> Vec<f64> {
    let moved = |(column, value): (usize, &f64)| value * (1.0 + 1e-6 * ((number * 31 + column) % 17) as f64);
    row.iter().enumerate().map(moved).collect()
}

/// Detectors that compare a client with the others, and therefore only alert.
const POPULATION: [&str; 1] = ["client_volume"];

/// Detectors that speak of the victim among its attackers, and whether anybody else was blocked.
fn surrounded(victim: &Stream) -> (Vec<&'static str>, bool) {
    let may_block = [("off_distribution", "may_block", json!(true))];
    let mut engine = engine(Some(reference(&victim.name)), &may_block);
    let (mut id, mut told, mut others_blocked) = (0, Vec::new(), false);
    for request in victim.requests.iter().take(150) {
        for copy in 0..COPIES {
            let rows = request.rows.iter().map(|row| near_copy(row, copy)).collect();
            let copied = Request { rows, ..request.clone() };
            // Two attackers at once: one all the time, one address after the other.
            for attacker in [2, 3 + (id % 400) as u16] {
                let out = play(&mut engine, client(attacker), id, &copied);
                others_blocked |= !out.blocks.is_empty();
                id += 1;
            }
        }
        let out = play(&mut engine, client(1), id, request);
        id += 1;
        assert!(out.blocks.is_empty(), "{} was framed: {:?}", victim.name, out.records);
        told.extend(out.records.iter().map(|record| record.detector));
    }
    told.retain(|detector| !POPULATION.contains(detector));
    (told, others_blocked)
}

#[test]
fn an_attacker_who_surrounds_a_victims_queries_blocks_no_victim() {
    let mut victims = streams("benign");
    victims.retain(|stream| stream.name.ends_with(".1"));
    let mut caught = 0;
    for victim in &victims {
        let (told, others_blocked) = surrounded(victim);
        let mut alone =
            engine(Some(reference(&victim.name)), &[("off_distribution", "may_block", json!(true))]);
        let played = victim.requests.iter().take(150).zip(0..);
        let mut alone: Vec<_> = played
            .flat_map(|(request, id)| play(&mut alone, client(1), id, request).records)
            .map(|record| record.detector)
            .collect();
        alone.retain(|detector| !POPULATION.contains(detector));
        assert_eq!(told, alone, "{}: the victim's own findings", victim.name);
        caught += usize::from(others_blocked);
    }
    let measured = victims.iter().filter(|victim| model_of(&victim.name) != "pricing").count();
    assert!(caught > 0, "of {measured} victims with numbers, none had the attacker blocked");
}

/// Marked rows of ten thousand strangers do not push out what is remembered of an attacker.
#[test]
fn a_flood_of_marked_rows_hides_no_attack() {
    let attacks = streams("attacks");
    let attack = attacks.iter().find(|stream| stream.name == "simba_digits").unwrap();
    let mut engine = engine(Some(reference(&attack.name)), &[]);
    let base = &attack.requests[0].rows[0];
    let (mut id, mut row_sent) = (0, 0);
    for (number, request) in attack.requests.iter().enumerate() {
        for flood in 0..500_usize {
            let rows = vec![near_copy(base, number * 500 + flood)];
            let flooded = Request { rows, predictions: vec![vec![0.9, 0.1]], seconds: request.seconds };
            play(&mut engine, client(10 + (flood % 100) as u16), id, &flooded);
            id += 1;
        }
        row_sent += request.rows.len();
        let out = play(&mut engine, client(1), id, request);
        id += 1;
        if out.records.iter().any(|record| record.action == Action::Block) {
            break;
        }
    }
    assert_eq!(row_sent, 17, "the row of its block without a flood");
}

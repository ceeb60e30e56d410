//! Clients whose requests fail are told of, and a model that fails for everybody accuses nobody.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use checkgate_detectors::engine::{Engine, Outbox};
use checkgate_detectors::facts::{Answered, Asked, Cell, Features, NotInspected, Question, Time};
use checkgate_detectors::finding::Record;
use checkgate_detectors::identity::Identity;
use support::{client, engine};

/// An engine, and the number of the next request: one a second.
struct Traffic {
    engine: Engine,
    id: u64,
    told: Vec<Record>,
}

impl Traffic {
    fn new() -> Self {
        Self { engine: engine(None, &[]), id: 0, told: Vec::new() }
    }

    /// A row that nobody asked before, answered with `status`.
    fn fresh(&mut self, number: u16, status: u16) {
        let value = (self.id * self.id) as f64;
        self.ask(number, &[value, -value], status);
    }

    fn ask(&mut self, number: u16, row: &[f64], status: u16) {
        let cells = row.iter().map(|value| Cell::Number(*value)).collect();
        let question = Features { width: row.len(), cells, ..Features::default() };
        self.exchange(number, Question::Rows(&question), status);
    }

    fn exchange(&mut self, number: u16, question: Question<'_>, status: u16) {
        let (id, asker, mut out) = (self.id, client(number), Outbox::default());
        let time = Time(1_800_000_000_000_000 + id * 1_000_000);
        self.engine.asked(&Asked { id, time, asker, bytes: 100, question }, &mut out);
        let answer = Features { width: 1, cells: vec![Cell::Number(1.0)], ..Features::default() };
        let answered = Answered {
            id,
            time,
            asker,
            status,
            bytes: 100,
            latency: Duration::ZERO,
            answer: if status == 200 { Ok(&answer) } else { Err(NotInspected::NoPrediction) },
            judged: None,
        };
        self.engine.answered(&answered, &mut out);
        self.id += 1;
        self.told.extend(out.records.into_iter().filter(|record| record.detector == "error_probing"));
    }

    /// Clients 2 to 9 ask once each.
    fn others(&mut self, status: u16) {
        (2..10).for_each(|number| self.fresh(number, status));
    }
}

#[test]
fn a_client_is_told_of_at_its_sixth_failure() {
    let mut traffic = Traffic::new();
    for round in 1..=6 {
        assert!(traffic.told.is_empty(), "told before failure {round}");
        traffic.fresh(1, 422);
        traffic.others(200);
    }
    assert_eq!(traffic.told.len(), 1);
    assert_eq!(traffic.told[0].client, Identity::Address(client(1).address), "and nobody else");
}

#[test]
fn a_bad_request_now_and_then_is_no_pattern() {
    let mut traffic = Traffic::new();
    for round in 0..500 {
        traffic.fresh(1, if round % 6 == 0 { 400 } else { 200 });
    }
    assert!(traffic.told.is_empty(), "{:?}", traffic.told);
}

#[test]
fn retries_of_one_question_count_once() {
    let mut traffic = Traffic::new();
    traffic.others(200);
    (0..100).for_each(|_| traffic.ask(1, &[1.0, 2.0], 500));
    assert!(traffic.told.is_empty(), "{:?}", traffic.told);
}

#[test]
fn credentials_and_pace_say_nothing_of_a_question() {
    let mut traffic = Traffic::new();
    for status in [401, 403, 407, 408, 425, 429] {
        (0..20).for_each(|_| traffic.fresh(1, status));
    }
    assert!(traffic.told.is_empty(), "{:?}", traffic.told);
}

#[test]
fn an_outage_accuses_nobody_however_busy() {
    for status in [500, 503, 0] {
        let mut traffic = Traffic::new();
        (0..3).for_each(|_| traffic.others(200));
        // The busiest client notices long before the others ask again.
        (0..50).for_each(|_| traffic.fresh(1, status));
        for _ in 0..20 {
            traffic.others(status);
            traffic.fresh(1, status);
        }
        // While they come back one by one, nobody stands out either.
        (2..4).for_each(|number| traffic.fresh(number, 200));
        traffic.fresh(1, status);
        assert!(traffic.told.is_empty(), "status {status}: {:?}", traffic.told);
    }
}

#[test]
fn a_client_that_alone_breaks_the_server_is_told_of() {
    let mut traffic = Traffic::new();
    for _ in 0..6 {
        traffic.fresh(1, 500);
        traffic.others(200);
    }
    assert_eq!(traffic.told.len(), 1);
}

#[test]
fn numbers_that_are_none_count_as_failed_whatever_is_answered() {
    for odd in [f64::NAN, f64::INFINITY] {
        let mut traffic = Traffic::new();
        (0..6_u8).for_each(|value| traffic.ask(1, &[f64::from(value), odd], 200));
        assert_eq!(traffic.told.len(), 1, "{odd}");
    }
}

#[test]
fn bodies_without_readable_rows_count_as_failed_and_uninspected_ones_do_not() {
    for (reason, told) in
        [(NotInspected::Unparsable, 1), (NotInspected::Shape, 1), (NotInspected::TooLarge, 0)]
    {
        let mut traffic = Traffic::new();
        (0..12).for_each(|_| traffic.exchange(1, Question::NotInspected(reason), 200));
        assert_eq!(traffic.told.len(), told, "{reason:?}");
    }
}

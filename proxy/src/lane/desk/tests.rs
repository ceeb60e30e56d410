use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use checkgate_detectors::identity::{Address, Asker, Standing};
use serde_json::json;

use super::*;
use crate::capture::{Lift, Outcome};
use crate::plan::tests::plan;

const OIP: Option<u8> = Some(0);

fn asker() -> Asker {
    let address = Address::of(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)));
    Asker { address, standing: Standing::Declared, key: None, keys_verified: false }
}

fn tensor(name: &str, key: &str, values: &[f64]) -> Body {
    let tensor = json!({"name": name, "shape": [1, values.len()], "datatype": "FP64", "data": values});
    Body::Whole(json!({ key: [tensor] }).to_string().into_bytes().into())
}

fn asked(id: u64, model: Option<u16>, name: &str, values: &[f64]) -> Asked {
    Asked {
        id,
        time: Time(id * 1_000_000),
        asker: asker(),
        model,
        protocol: OIP,
        name: name.into(),
        path: format!("/v2/models/{name}/infer"),
        headers: Vec::new(),
        length: 0,
        hash: 0,
        body: tensor("x", "inputs", values),
        admission: Admission::Admitted,
    }
}

fn answered(id: u64, status: u16, price: f64) -> Answered {
    Answered {
        id,
        time: Time(id * 1_000_000 + 1),
        status,
        headers: Vec::new(),
        length: 0,
        latency: Duration::from_millis(1),
        body: tensor("price", "outputs", &[price]),
        judged: None,
        outcome: Outcome::Answered,
    }
}

/// Takes an entry and says how many rows were scored and what was not inspected.
fn take(desk: &mut Desk, entry: Entry) -> (u64, Vec<NotInspected>) {
    let mut step = Step::default();
    desk.step(entry, &mut step);
    (step.rows, step.not_inspected.into_iter().map(|(_, reason)| reason).collect())
}

fn desk() -> Desk {
    Desk::new(plan().into()).unwrap()
}

#[test]
fn a_name_counts_only_once_the_upstream_answered_to_it() {
    let mut desk = desk();
    for id in 0..3 {
        assert_eq!(take(&mut desk, Entry::Asked(asked(id, None, "fraud", &[1.0, id as f64]))), (0, vec![]));
    }
    assert_eq!(take(&mut desk, Entry::Answered(answered(0, 404, 1.0))), (0, vec![]));
    assert_eq!(desk.discovered(), 0, "a refused name was believed");
    let (rows, _) = take(&mut desk, Entry::Answered(answered(2, 200, 1.0)));
    assert_eq!((rows, desk.discovered()), (2, 1), "the questions that waited for the name are taken with it");
    let (rows, _) = take(&mut desk, Entry::Asked(asked(3, None, "fraud", &[1.0, 9.0])));
    assert_eq!(rows, 1, "a known name is judged when it is asked");
}

#[test]
fn names_beyond_the_bound_are_counted() {
    let mut desk = desk();
    for (id, name) in ["a", "b", "c"].into_iter().enumerate() {
        take(&mut desk, Entry::Asked(asked(id as u64, None, name, &[1.0])));
        let (_, reasons) = take(&mut desk, Entry::Answered(answered(id as u64, 200, 1.0)));
        let expected = if name == "c" { vec![NotInspected::TooManyModels] } else { vec![] };
        assert_eq!(reasons, expected, "model {name:?}");
    }
    assert_eq!(desk.discovered(), 2);
}

#[test]
fn what_cannot_be_looked_into_is_counted_with_its_reason() {
    let mut desk = desk();
    let unknown = Asked { protocol: None, ..asked(0, None, "", &[]) };
    assert_eq!(take(&mut desk, Entry::Asked(unknown)), (0, vec![NotInspected::UnknownProtocol]));
    let shed = Asked { body: Body::Not(NotInspected::Shed), ..asked(1, Some(0), "pricing", &[]) };
    assert_eq!(take(&mut desk, Entry::Asked(shed)), (0, vec![NotInspected::Shed]));
    let garbage = Asked { body: Body::Whole("{".into()), ..asked(2, Some(0), "pricing", &[]) };
    assert_eq!(take(&mut desk, Entry::Asked(garbage)), (0, vec![NotInspected::Unparsable]));
    let (_, reasons) = take(&mut desk, Entry::Answered(answered(99, 200, 1.0)));
    assert_eq!(reasons, [NotInspected::Unanswered], "an answer without its question");
}

#[test]
fn a_refused_request_is_a_head_and_waits_for_no_answer() {
    let mut desk = desk();
    let refused = Asked {
        admission: Admission::Refused(DecisionId(1)),
        body: Body::Whole(Default::default()),
        ..asked(0, Some(0), "pricing", &[])
    };
    assert_eq!(take(&mut desk, Entry::Asked(refused)), (0, vec![]));
    assert_eq!(take(&mut desk, Entry::Answered(answered(0, 200, 1.0))).1, [NotInspected::Unanswered]);
}

#[test]
fn open_questions_and_their_bytes_are_bounded() {
    let mut desk = desk();
    for id in 0..100 {
        take(&mut desk, Entry::Asked(asked(id, None, "fraud", &[id as f64; 20])));
    }
    let (_, reasons) = take(&mut desk, Entry::Answered(answered(0, 200, 1.0)));
    assert_eq!(reasons, [NotInspected::Unanswered], "the oldest gave way");
    let mut step = Step::default();
    desk.step(Entry::Answered(answered(99, 200, 1.0)), &mut step);
    let shed = step.not_inspected.iter().filter(|(_, reason)| *reason == NotInspected::Shed).count();
    assert_eq!((step.rows, shed), (4, 4), "of eight questions that waited, the bytes allow four");
}

#[test]
fn the_same_entries_give_the_same_words() {
    let mut plan = plan();
    plan.models[0].detectors = [("one_field_sweep".to_owned(), json!({}))].into();
    let plan = Arc::new(plan);
    let words = || {
        let mut desk = Desk::new(Arc::clone(&plan)).unwrap();
        let mut step = Step::default();
        let mut lines = Vec::new();
        for id in 0..40 {
            desk.step(Entry::Asked(asked(id, Some(0), "pricing", &[1.0, 2.0, id as f64])), &mut step);
            lines.extend(step.outbox.records.iter().map(crate::records::line));
            desk.step(Entry::Answered(answered(id, 200, 100.0)), &mut step);
        }
        lines
    };
    let first = words();
    assert_eq!(first.len(), 2, "a finding and its decision: {first:?}");
    assert_eq!(first, words());
}

#[test]
fn a_lift_lets_the_evidence_start_afresh() {
    let mut plan = plan();
    plan.models[0].detectors = [("one_field_sweep".to_owned(), json!({}))].into();
    let mut desk = Desk::new(Arc::new(plan)).unwrap();
    let mut step = Step::default();
    let mut decided = Vec::new();
    for id in 0..80 {
        desk.step(Entry::Asked(asked(id, Some(0), "pricing", &[1.0, 2.0, id as f64])), &mut step);
        if let Some(block) = step.outbox.blocks.first() {
            decided.push(id);
            let lift = Lift { time: block.time, decision: block.id };
            desk.step(Entry::Lift(lift), &mut step);
        }
    }
    assert!(decided.len() > 1, "after a lift the same client can be found again: {decided:?}");
}

#[test]
fn a_contract_is_judged_on_the_answer_whatever_was_asked() {
    let mut plan = plan();
    plan.models[0].contract = serde_json::from_value(json!({"rules": [{"minimum": 0.0}]})).unwrap();
    let mut desk = Desk::new(Arc::new(plan)).unwrap();
    let mut step = Step::default();
    desk.step(Entry::Asked(asked(0, Some(0), "pricing", &[1.0, 2.0])), &mut step);
    desk.step(Entry::Answered(answered(0, 200, -4.5)), &mut step);
    let record = step.outbox.records.first().expect("a negative price is a finding");
    assert_eq!((record.statistic, record.limit), (-4.5, 0.0));
}

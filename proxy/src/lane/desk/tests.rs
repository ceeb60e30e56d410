use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, Mode};
use checkgate_detectors::identity::{Address, Asker, Standing};
use checkgate_detectors::maintenance::{Maintenance, Taught};
use checkgate_detectors::rules::{Approval, Course, Then};
use serde_json::json;

use super::*;
use crate::capture::{Approved, Lift, Outcome, Promoted, Rejected, Replanned, Settled};
use crate::plan::tests::plan;
use crate::state::candidates::Candidate;

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
        headers: Default::default(),
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
        headers: Default::default(),
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

fn pricing(plan: &mut Plan) -> &mut ModelPlan {
    plan.models.get_mut(&0).unwrap()
}

/// A second model, like the first.
fn add_model(plan: &mut Plan, name: &str) {
    let model = ModelPlan { name: name.into(), ..pricing(plan).clone() };
    plan.models.insert(1, model);
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

/// A call over gRPC, whose path names no model.
fn called(id: u64, body: &'static [u8]) -> Asked {
    let protocol = crate::decode::claim(&http::Method::POST, "/inference.GRPCInferenceService/ModelInfer");
    Asked {
        protocol: protocol.map(|(position, _)| position),
        headers: [("content-type".into(), "application/grpc".to_owned())].into(),
        body: Body::Whole(body.into()),
        ..asked(id, None, "oip_grpc", &[])
    }
}

#[test]
fn a_call_that_failed_discovers_nothing() {
    const QUESTION: &[u8] = include_bytes!("../../../fixtures/decode/oip_grpc/raw_floats.question.bin");
    let mut desk = desk();
    take(&mut desk, Entry::Asked(called(0, QUESTION)));
    let failed =
        Answered { headers: [("grpc-status".into(), "5".to_owned())].into(), ..answered(0, 200, 1.0) };
    take(&mut desk, Entry::Answered(failed));
    assert_eq!(desk.discovered(), 0, "the call failed, whatever HTTP says");
    take(&mut desk, Entry::Asked(called(1, QUESTION)));
    let (rows, _) = take(&mut desk, Entry::Answered(Answered { length: 9, ..answered(1, 200, 1.0) }));
    assert_eq!((rows, desk.discovered()), (2, 1), "one that succeeds does");
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
    pricing(&mut plan).detectors = [("one_field_sweep".to_owned(), json!({}))].into();
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
    pricing(&mut plan).detectors = [("one_field_sweep".to_owned(), json!({}))].into();
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

/// A question for each step of a sweep of 80; a decision is answered by what `word` makes of it. Gives the decisions,
/// and the lines that were told.
fn swept(plan: &Arc<Plan>, word: impl Fn(&engine::Block) -> Option<Entry>) -> (usize, Vec<String>) {
    let mut desk = Desk::new(Arc::clone(plan)).unwrap();
    let mut step = Step::default();
    let (mut decided, mut lines) = (0, Vec::new());
    for id in 0..80 {
        desk.step(Entry::Asked(asked(id, Some(0), "pricing", &[1.0, 2.0, id as f64])), &mut step);
        lines.extend(step.outbox.records.iter().map(crate::records::line));
        decided += step.outbox.blocks.len();
        if let Some(entry) = step.outbox.blocks.first().and_then(&word) {
            desk.step(entry, &mut step);
        }
    }
    (decided, lines)
}

#[test]
fn approvals_and_rejections_are_entries_that_give_the_same_words_again() {
    let course = Course {
        on_tier_one: Then { action: Action::Block, approval: Some(Approval { after: None }) },
        ..Course::default()
    };
    let plan = sweeping(|plan| pricing(plan).course = course);
    let approve = |block: &engine::Block| {
        let until = block.time.plus(Duration::from_secs(20));
        Some(Entry::Approve(Approved { time: block.time, decision: block.id, until }))
    };
    let reject =
        |block: &engine::Block| Some(Entry::Reject(Rejected { time: block.time, decision: block.id }));
    let (approved, rejected, waiting) = (swept(&plan, approve), swept(&plan, reject), swept(&plan, |_| None));
    assert_eq!(waiting.0, 1, "evidence rests while a proposal waits");
    assert!(rejected.0 > approved.0 && approved.0 > waiting.0, "{} {}", rejected.0, approved.0);
    assert_eq!(approved, swept(&plan, approve), "the same entries");
    assert!(approved.1.iter().all(|line| line.contains(r#""proposed":{"action":"block""#)));
}

#[test]
fn a_contract_is_judged_on_the_answer_whatever_was_asked() {
    let mut plan = plan();
    pricing(&mut plan).contract = serde_json::from_value(json!({"rules": [{"minimum": 0.0}]})).unwrap();
    let mut desk = Desk::new(Arc::new(plan)).unwrap();
    let mut step = Step::default();
    desk.step(Entry::Asked(asked(0, Some(0), "pricing", &[1.0, 2.0])), &mut step);
    desk.step(Entry::Answered(answered(0, 200, -4.5)), &mut step);
    let record = step.outbox.records.first().expect("a negative price is a finding");
    assert_eq!((record.statistic, record.limit), (-4.5, 0.0));
}

/// The plan with a detector of sweeps on every model, and `change` on top.
fn sweeping(change: impl FnOnce(&mut Plan)) -> Arc<Plan> {
    let mut plan = plan();
    let sweeps = |model: &mut ModelPlan| {
        model.detectors = [("one_field_sweep".to_owned(), json!({}))].into();
    };
    plan.models.values_mut().chain(&mut plan.unclaimed).for_each(sweeps);
    change(&mut plan);
    Arc::new(plan)
}

/// Sweeps model `model` of `name` from `first` on, and gives the row at which a block was decided.
fn sweep_until_blocked(desk: &mut Desk, model: Option<u16>, name: &str, first: u64) -> Option<u64> {
    let mut step = Step::default();
    (first..first + 60).find(|id| {
        desk.step(Entry::Asked(asked(*id, model, name, &[1.0, 2.0, *id as f64])), &mut step);
        let blocks = step.outbox.blocks.len();
        desk.step(Entry::Answered(answered(*id, 200, 100.0)), &mut step);
        blocks > 0
    })
}

fn replan(desk: &mut Desk, plan: Arc<Plan>) -> Vec<Arc<str>> {
    let mut step = Step::default();
    desk.step(Entry::Plan(Replanned { time: Time(1), plan }), &mut step);
    step.begun_afresh
}

/// Half of a sweep, then another plan, then the other half: the row that is blocked.
fn blocked_across(change: impl FnOnce(&mut Plan)) -> Option<u64> {
    let mut desk = Desk::new(sweeping(|_| {})).unwrap();
    let mut step = Step::default();
    for id in 0..6 {
        desk.step(Entry::Asked(asked(id, Some(0), "pricing", &[1.0, 2.0, id as f64])), &mut step);
    }
    assert!(replan(&mut desk, sweeping(change)).is_empty(), "the memory was lost");
    sweep_until_blocked(&mut desk, Some(0), "pricing", 6)
}

#[test]
fn a_sweep_is_blocked_at_the_same_row_across_a_reload() {
    let uninterrupted = sweep_until_blocked(&mut Desk::new(sweeping(|_| {})).unwrap(), Some(0), "pricing", 0);
    assert!(uninterrupted.is_some_and(|row| row > 6), "the reload comes before the block: {uninterrupted:?}");
    assert_eq!(blocked_across(|_| {}), uninterrupted, "the same plan");
    assert_eq!(blocked_across(|plan| pricing(plan).mode = Mode::Enforce), uninterrupted, "another mode");
    assert_eq!(blocked_across(|plan| plan.never_block.clear()), uninterrupted, "another never-block list");
    let shares = |plan: &mut Plan| plan.shared_addresses.push(("203.0.113.0".parse().unwrap(), 24));
    assert_eq!(blocked_across(shares), uninterrupted, "another list of shared addresses");
    let another_detector = |plan: &mut Plan| {
        pricing(plan).detectors.insert("client_volume".to_owned(), json!({}));
    };
    assert_eq!(blocked_across(another_detector), uninterrupted, "one detector more");
    let another_model = |plan: &mut Plan| {
        add_model(plan, "renewals");
    };
    assert_eq!(blocked_across(another_model), uninterrupted, "one model more");
}

#[test]
fn captures_of_the_old_plan_reach_their_own_model_after_a_reload() {
    let two = |plan: &mut Plan| {
        add_model(plan, "renewals");
    };
    let mut desk = Desk::new(sweeping(two)).unwrap();
    replan(
        &mut desk,
        sweeping(|plan| {
            two(plan);
            plan.models.remove(&0);
        }),
    );
    let of_the_gone = Entry::Asked(asked(0, Some(0), "pricing", &[1.0]));
    assert_eq!(take(&mut desk, of_the_gone), (0, vec![NotInspected::UnknownProtocol]));
    let mut step = Step::default();
    desk.step(Entry::Asked(asked(1, Some(1), "renewals", &[1.0])), &mut step);
    assert_eq!((step.rows, step.name.as_deref()), (1, Some("renewals")));
}

#[test]
fn a_discovered_model_that_is_configured_keeps_what_is_known_of_it() {
    let mut desk = Desk::new(sweeping(|_| {})).unwrap();
    let mut step = Step::default();
    for id in 0..6 {
        desk.step(Entry::Asked(asked(id, None, "fraud", &[1.0, 2.0, id as f64])), &mut step);
        desk.step(Entry::Answered(answered(id, 200, 1.0)), &mut step);
    }
    let configured = |plan: &mut Plan| {
        add_model(plan, "fraud");
    };
    assert!(replan(&mut desk, sweeping(configured)).is_empty());
    assert_eq!(desk.discovered(), 0, "it is no longer a discovered one");
    let uninterrupted = sweep_until_blocked(&mut Desk::new(sweeping(|_| {})).unwrap(), Some(0), "pricing", 0);
    assert_eq!(sweep_until_blocked(&mut desk, Some(1), "fraud", 6), uninterrupted);
}

#[test]
fn other_bounds_begin_afresh_and_say_so() {
    let mut desk = Desk::new(sweeping(|_| {})).unwrap();
    let afresh = replan(&mut desk, sweeping(|plan| plan.limits.clients = 7));
    assert_eq!(afresh.iter().map(|name| &**name).collect::<Vec<_>>(), ["pricing"]);
}

#[test]
fn another_desk_goes_on_where_this_one_stopped() {
    let plan = sweeping(|plan| add_model(plan, "renewals"));
    let mut old = Desk::new(Arc::clone(&plan)).unwrap();
    let mut step = Step::default();
    for id in 0..6 {
        for (model, name) in [(Some(0), "pricing"), (Some(1), "renewals"), (None, "fraud")] {
            let id = 3 * id + u64::from(model.unwrap_or(2));
            old.step(Entry::Asked(asked(id, model, name, &[1.0, 2.0, id as f64])), &mut step);
            old.step(Entry::Answered(answered(id, 200, 1.0)), &mut step);
        }
    }
    let (all, first) = (|_: Option<u16>| true, |model: Option<u16>| model != Some(1));
    let saved = old.save(&all);
    assert_eq!(
        saved.iter().map(|engine| engine.name.as_str()).collect::<Vec<_>>(),
        ["pricing", "renewals", "fraud"]
    );
    let mut new = Desk::new(plan).unwrap();
    assert!(new.restore(&saved, &first).is_empty());
    assert_eq!(new.discovered(), 1);
    let words = |desk: &mut Desk, model, name| sweep_until_blocked(desk, model, name, 100);
    assert_eq!(words(&mut new, Some(0), "pricing"), words(&mut old, Some(0), "pricing"));
    assert_eq!(words(&mut new, None, "fraud"), words(&mut old, None, "fraud"));
    assert_ne!(
        words(&mut new, Some(1), "renewals"),
        words(&mut old, Some(1), "renewals"),
        "another lane's model"
    );
    let mut narrower = Desk::new(sweeping(|plan| plan.limits.clients = 7)).unwrap();
    assert_eq!(
        narrower.restore(&saved, &all),
        ["pricing", "renewals", "fraud"],
        "what does not fit is named"
    );
}

/// The entries of four clients whose rows make a reference.
fn lesson(model: Option<u16>, name: &str) -> Vec<Entry> {
    let exchange = |id: u64| {
        let address = Address::of(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10 + (id % 4) as u8)));
        let asked = asked(id, model, name, &[id as f64, (id * 7919 % 1009) as f64]);
        let asked = Asked { asker: Asker { address, ..asker() }, ..asked };
        [Entry::Asked(asked), Entry::Answered(answered(id, 200, 1.0))]
    };
    (0..620).flat_map(exchange).collect()
}

/// What a desk remembers of a model's drift; each model has a drift of its own settings, learned from 500 rows.
fn watching() -> Arc<Plan> {
    let mut plan = plan();
    let settings = checkgate_detectors::drift::room::Settings { warm_up_rows: 500, ..Default::default() };
    let drift = crate::plan::DriftPlan { settings, reference: None, versions: Vec::new() };
    pricing(&mut plan).drift = Some(drift.clone());
    if let Some(unclaimed) = &mut plan.unclaimed {
        unclaimed.drift = Some(drift);
    }
    plan.into()
}

#[test]
fn a_discovered_model_begins_with_its_drift_and_what_is_refused_is_told() {
    let drift_of = |desk: &Desk| {
        desk.engines().find(|(_, name, _)| *name == "fraud").and_then(|(_, _, engine)| engine.drift())
    };
    let mut old = Desk::new(watching()).unwrap();
    for entry in lesson(None, "fraud") {
        old.step(entry, &mut Step::default());
    }
    let before = drift_of(&old).unwrap();
    assert!(before.trust.is_some() && before.rows > 0, "it has learned a reference: {before:?}");
    let bytes = |desk: &Desk| {
        let engine = desk.engines().find(|(_, name, _)| *name == "fraud").map(|(_, _, engine)| engine);
        engine.and_then(engine::Engine::drift_rooms).map(|room| room.save(true)).unwrap()
    };
    let remember = |desk: &mut Desk, model: &str, bytes: Vec<u8>| {
        let mut step = Step::default();
        desk.step(Entry::Remember(Remembered { time: Time(1), model: model.into(), bytes }), &mut step);
        step.remembered
    };
    let mut new = Desk::new(watching()).unwrap();
    assert_eq!(remember(&mut new, "fraud", bytes(&old)), Some(Ok(())));
    assert_eq!(drift_of(&new), Some(before), "with the reference that it learned, before anybody asks it");
    let refused = remember(&mut new, "fraud", b"x".to_vec());
    assert!(matches!(refused, Some(Err(SavedError::Version(_) | SavedError::Damaged(_)))), "{refused:?}");
    assert_eq!(remember(&mut desk(), "pricing", bytes(&old)), None, "its drift is not watched there");
}

fn promoted(desk: &mut Desk, model: &str) -> Option<Learned> {
    let mut step = Step::default();
    desk.step(Entry::Promote(Promoted { time: Time(1_000_000_000), model: model.into() }), &mut step);
    step.promoted
}

fn trust(desk: &Desk, name: &str) -> Option<Trust> {
    desk.engines().find(|(_, known, _)| *known == name).and_then(|(_, _, engine)| engine.reference_trust())
}

#[test]
fn what_a_model_learned_is_trusted_from_an_operators_word_on() {
    for (id, name) in [(Some(0), "pricing"), (None, "fraud")] {
        let mut desk = desk();
        assert_eq!(promoted(&mut desk, name), None, "nothing is learned yet");
        lesson(id, name).into_iter().for_each(|entry| _ = take(&mut desk, entry));
        assert_eq!(trust(&desk, name), Some(Trust::Provisional), "{name}: it never promotes itself");
        let learned = promoted(&mut desk, name).unwrap();
        assert!(learned.rows >= 500, "{} rows", learned.rows);
        assert_eq!(trust(&desk, name), Some(Trust::Trusted), "{name}");
        assert_eq!(promoted(&mut desk, name), Some(learned.clone()), "twice is once");
        // A reload under other settings, and one that says the same.
        let again = Plan::clone(desk.plan());
        let other = Plan { never_block: Vec::new(), ..again.clone() };
        for plan in [other, again.clone()] {
            assert_eq!(replan(&mut desk, Arc::new(plan)), Vec::<Arc<str>>::new());
            assert_eq!(trust(&desk, name), Some(Trust::Trusted), "{name} after a reload");
        }
        // A process that takes over.
        let mut next = Desk::new(Arc::new(again)).unwrap();
        assert!(next.restore(&desk.save(&|_| true), &|_| true).is_empty());
        assert_eq!(trust(&next, name), Some(Trust::Trusted), "{name} after a hand-over");
        // A reload that no longer trusts it.
        replan(&mut desk, plan().into());
        assert_ne!(trust(&desk, name), Some(Trust::Trusted), "{name}: what was given up");
    }
}

#[test]
fn a_recording_with_a_promotion_gives_the_same_again() {
    let mut entries = lesson(Some(0), "pricing");
    entries.push(Entry::Promote(Promoted { time: Time(1_000_000_000), model: "pricing".into() }));
    entries.extend(lesson(Some(0), "pricing").into_iter().take(300));
    let words = || {
        let mut plan = plan();
        pricing(&mut plan).detectors = [("near_duplicates".to_owned(), json!({}))].into();
        let mut desk = Desk::new(plan.into()).unwrap();
        let mut step = Step::default();
        let mut words = Vec::new();
        for entry in &entries {
            // As the journal writes and reads it.
            let bytes = postcard::to_stdvec(entry).unwrap();
            desk.step(postcard::from_bytes(&bytes).unwrap(), &mut step);
            words.extend(step.outbox.records.iter().map(crate::records::line));
            words.extend(step.promoted.iter().map(|learned| learned.text.to_string()));
        }
        words
    };
    let said = words();
    assert_eq!(
        said.iter().filter(|line| line.starts_with("{\"features\"")).count(),
        1,
        "{} lines",
        said.len()
    );
    assert_eq!(said, words());
}

#[test]
fn a_reference_that_the_configuration_names_is_not_promoted_over() {
    let mut plan = plan();
    pricing(&mut plan).reference = Some("{\"features\":[\"a\"]}\n{\"x\":[1]}\n".into());
    let mut desk = Desk::new(plan.into()).unwrap();
    assert_eq!(promoted(&mut desk, "pricing"), None);
    assert!(desk.plan().promoted.is_empty());
}

/// A plan under which `pricing` and whatever is discovered are exchanged for the first 700 seconds.
fn exchanging() -> Plan {
    let window = Maintenance { from: Time(0), until: Time(700_000_000), note: "v2".into() };
    let mut plan = Plan::clone(&watching());
    pricing(&mut plan).maintenance.push(window.clone());
    plan.unclaimed.iter_mut().for_each(|model| model.maintenance.push(window.clone()));
    plan
}

/// What the lesson of a window taught, once its end has passed.
fn taught(desk: &mut Desk, now: Time) -> Vec<Taught> {
    let mut step = Step::default();
    desk.step(Entry::Settle(Settled { time: now }), &mut step);
    std::mem::take(&mut step.outbox.taught)
}

fn installed(desk: &mut Desk, taught: &Taught) -> bool {
    let candidate = Candidate::of(taught).unwrap();
    let (query, drift) = (candidate.query, candidate.drift);
    let entry = Installed { time: Time(800_000_000), model: taught.model.to_string(), query, drift };
    let mut step = Step::default();
    // As the journal writes and reads it.
    let bytes = postcard::to_stdvec(&Entry::Install(entry)).unwrap();
    desk.step(postcard::from_bytes(&bytes).unwrap(), &mut step);
    step.installed
}

#[test]
fn what_a_window_taught_is_trusted_from_an_operators_word_on_and_not_before() {
    for (id, name) in [(Some(0), "pricing"), (None, "fraud")] {
        let mut desk = Desk::new(exchanging().into()).unwrap();
        lesson(id, name).into_iter().for_each(|entry| _ = take(&mut desk, entry));
        assert_eq!(taught(&mut desk, Time(699_000_000)), [], "{name}: the window lasts");
        assert!(!desk.is_lesson_over(Time(699_000_000)) && desk.is_lesson_over(Time(700_000_000)));
        let all = taught(&mut desk, Time(700_000_000));
        let [taught] = &all[..] else { panic!("{name}: {all:?}") };
        assert!(taught.query.is_some() && taught.drift.is_some(), "{name}: {taught:?}");
        assert_eq!(trust(&desk, name), None, "{name}: it only waits");
        assert!(installed(&mut desk, taught), "{name}");
        let drift_of = |desk: &Desk| {
            let mut engines = desk.engines();
            let engine = engines.find(|(_, known, _)| *known == name).map(|(_, _, engine)| engine);
            engine.and_then(|engine| engine.drift_rooms()?.own().frozen().map(|frozen| frozen.trust))
        };
        let both = |desk: &Desk| (trust(desk, name), drift_of(desk));
        assert_eq!(both(&desk), (Some(Trust::Trusted), Some(Trust::Trusted)), "{name}");
        // A reload under other settings, a process that takes over, and one that starts.
        let again = Plan::clone(desk.plan());
        replan(&mut desk, Arc::new(Plan { never_block: Vec::new(), ..again.clone() }));
        assert_eq!(both(&desk), (Some(Trust::Trusted), Some(Trust::Trusted)), "{name} after a reload");
        let mut next = Desk::new(Arc::new(again)).unwrap();
        assert!(next.restore(&desk.save(&|_| true), &|_| true).is_empty());
        assert_eq!(both(&next), (Some(Trust::Trusted), Some(Trust::Trusted)), "{name} after a hand-over");
    }
}

#[test]
fn a_recording_with_a_window_teaches_the_same_again() {
    let words = || {
        let mut desk = Desk::new(exchanging().into()).unwrap();
        for entry in lesson(Some(0), "pricing") {
            let bytes = postcard::to_stdvec(&entry).unwrap();
            desk.step(postcard::from_bytes(&bytes).unwrap(), &mut Step::default());
        }
        let taught = taught(&mut desk, Time(700_000_000));
        taught.iter().filter_map(Candidate::of).collect::<Vec<_>>()
    };
    let said = words();
    assert_eq!((said.len(), said[0].summary.clients), (1, 4), "{:?}", said[0].summary);
    assert_eq!(said, words());
}

#[test]
fn what_a_window_taught_is_not_installed_over_a_reference_that_the_configuration_names() {
    let mut desk = Desk::new(exchanging().into()).unwrap();
    lesson(Some(0), "pricing").into_iter().for_each(|entry| _ = take(&mut desk, entry));
    let taught = taught(&mut desk, Time(700_000_000));
    let mut plan = exchanging();
    pricing(&mut plan).reference = Some("{\"features\":[\"a\"]}\n{\"x\":[1]}\n".into());
    let mut desk = Desk::new(plan.into()).unwrap();
    assert!(!installed(&mut desk, &taught[0]));
    assert!(desk.plan().promoted.is_empty() && desk.plan().promoted_drifts.is_empty());
}

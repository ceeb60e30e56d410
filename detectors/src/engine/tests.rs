//! What must hold of an engine as a whole.

use crate::query::QUERY;
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::contract::{self, Rule};
use crate::facts::{Cell, NotInspected};
use crate::finding::{FindingId, Kind, Mode, Tier, request_id};
use crate::identity::{Address, Standing};
use crate::ladder::Ladder;
use crate::maintenance::Maintenance;
use crate::networks::Networks;
use crate::policy::Spans;
use crate::query::Finding;
use crate::rules::{self, Approval, Count, Course, Then, When};
use crate::tenants::{Tenant, TenantTag, Tenants};

const BLOCK_FOR: Duration = Duration::from_secs(600);

/// Defaults, and the leave to block for the one detector that has none by default.
fn parameters(name: &str) -> serde_json::Value {
    if name == "off_distribution" { json!({"may_block": true}) } else { json!({}) }
}

fn build(mode: Mode) -> Build {
    Build {
        model: Arc::from("tariff"),
        hash_key: [1, 2],
        detectors: QUERY.iter().map(|spec| (spec.name.to_owned(), parameters(spec.name))).collect(),
        contract: Contract {
            rules: vec![Rule { minimum: Some(0.0), ..Rule::default() }],
            ..Contract::default()
        },
        contract_action: Action::Refuse,
        policy: Policy { mode, ladder: Ladder::new(vec![BLOCK_FOR]), ..Policy::default() },
        reference: None,
        drift: None,
        limits: Limits { clients: 100, open_questions: 100, new_keys_per_address: 3 },
    }
}

fn engine() -> Engine {
    Engine::new(build(Mode::Observe)).unwrap()
}

fn address(number: u32) -> Address {
    Address::of(IpAddr::V4(std::net::Ipv4Addr::from_bits(0xc633_6400 + number)))
}

fn declared(number: u32) -> Asker {
    Asker { address: address(number), standing: Standing::Declared, key: None, keys_verified: false }
}

fn assumed(number: u32) -> Asker {
    Asker { standing: Standing::Assumed, ..declared(number) }
}

/// A fact, owned: what a test's journal is made of.
#[derive(Clone, Debug)]
enum Fact {
    Asked { id: u64, seconds: f64, asker: Asker, rows: Vec<Vec<f64>> },
    Refused { id: u64, seconds: f64, asker: Asker },
    Answered { id: u64, seconds: f64, asker: Asker, status: u16, predictions: Vec<f64> },
}

fn time(seconds: f64) -> Time {
    Time((seconds * 1e6) as u64)
}

fn features(rows: &[Vec<f64>]) -> Features {
    let cells = rows.iter().flatten().map(|&value| Cell::Number(value)).collect();
    Features { width: rows.first().map_or(0, Vec::len), cells, ..Features::default() }
}

fn step(engine: &mut Engine, fact: &Fact) -> Outbox {
    let mut out = Outbox::default();
    match fact {
        Fact::Asked { id, seconds, asker, rows } => {
            let rows = features(rows);
            let question = Question::Rows(&rows);
            engine
                .asked(&Asked { id: *id, time: time(*seconds), asker: *asker, bytes: 9, question }, &mut out);
        }
        Fact::Refused { id, seconds, asker } => {
            let question = Question::Refused;
            engine
                .asked(&Asked { id: *id, time: time(*seconds), asker: *asker, bytes: 0, question }, &mut out);
        }
        Fact::Answered { id, seconds, asker, status, predictions } => {
            let answer = features(&predictions.iter().map(|&value| vec![value]).collect::<Vec<_>>());
            let answered = Answered {
                id: *id,
                time: time(*seconds),
                asker: *asker,
                status: *status,
                bytes: 9,
                latency: Duration::from_millis(5),
                answer: if *status == 200 { Ok(&answer) } else { Err(NotInspected::NoPrediction) },
                judged: None,
            };
            engine.answered(&answered, &mut out);
        }
    }
    out
}

fn play(engine: &mut Engine, facts: &[Fact]) -> Vec<Record> {
    facts.iter().flat_map(|fact| step(engine, fact).records).collect()
}

fn asked(id: u64, asker: Asker, rows: Vec<Vec<f64>>) -> Fact {
    Fact::Asked { id, seconds: id as f64, asker, rows }
}

fn answered(id: u64, asker: Asker, predictions: &[f64]) -> Fact {
    Fact::Answered { id, seconds: id as f64 + 0.5, asker, status: 200, predictions: predictions.to_vec() }
}

/// A row of a tariff with 7 fields.
fn customer(number: u64) -> Vec<f64> {
    (0..7).map(|field| ((number + 1) * (field + 3) % (31 + 13 * field)) as f64).collect()
}

/// One field of a customer moved over `values` values, a row to a request.
fn sweep(asker: Asker, first_id: u64, values: u64) -> Vec<Fact> {
    (0..values).map(|step| asked(first_id + step, asker, vec![swept(1, 2, step)])).collect()
}

fn swept(number: u64, field: usize, step: u64) -> Vec<f64> {
    let mut row = customer(number);
    row[field] = 1000.0 + step as f64;
    row
}

fn blocks(records: &[Record]) -> Vec<&Record> {
    records.iter().filter(|record| record.kind == Kind::Decision).collect()
}

#[test]
fn a_sweep_is_blocked_at_its_twelfth_value() {
    let mut engine = engine();
    assert!(play(&mut engine, &sweep(declared(1), 0, 11)).is_empty());
    let out = step(&mut engine, &sweep(declared(1), 0, 12)[11]);
    let [finding, decision] = out.records.as_slice() else { panic!("{:?}", out.records) };
    assert_eq!((finding.kind, decision.kind), (Kind::Finding, Kind::Decision));
    assert_eq!(finding.decision_id, decision.decision_id);
    assert_eq!((decision.action, decision.until), (Action::Block, Some(time(11.0).plus(BLOCK_FOR))));
    assert_eq!(finding.fields, ["2"]);
    assert_eq!((finding.window.rows, finding.window.requests, finding.window.seconds), (12, 12, 11.0));
    assert_eq!(finding.requests, [request_id(0), request_id(1), request_id(11)]);
    assert_eq!(
        finding.explanation,
        "Client 198.51.100.1 tried 12 different values of field \"2\" while every other field stayed the same: 12 rows \
         in 12 requests within 11 s. Its requests are to be refused for 10 min, until 00:10:11 UTC."
    );
    assert_eq!(out.blocks.len(), 1);
    assert!(out.blocks[0].may_act && out.blocks[0].id == finding.decision_id.unwrap());
}

/// Sweeps again and again, each time just after the decision before has ended, and gives how long each lasts.
fn climb(engine: &mut Engine, asker: Asker, times: u64) -> Vec<u64> {
    let (mut now, mut lasted) = (0.0, Vec::new());
    for turn in 0..times {
        let facts = (0..12).map(|step| Fact::Asked {
            id: turn * 12 + step,
            seconds: now + step as f64,
            asker,
            rows: vec![swept(turn, 2, step)],
        });
        let records = play(engine, &facts.collect::<Vec<_>>());
        let decision = blocks(&records)[0].clone();
        let until = decision.until.unwrap();
        lasted.push(until.since(decision.time).as_secs());
        now = until.seconds() + 1.0;
    }
    lasted
}

#[test]
fn each_further_offence_of_a_client_lasts_longer_up_to_the_top() {
    let mut build = build(Mode::Observe);
    build.policy.ladder = Policy::default().ladder;
    let mut engine = Engine::new(build).unwrap();
    assert_eq!(climb(&mut engine, declared(1), 4), [900, 7200, 86_400, 86_400]);
    assert_eq!(climb(&mut engine, declared(2), 1), [900], "another client's offences are its own");
}

#[test]
fn an_explanation_says_the_rung() {
    let mut build = build(Mode::Observe);
    build.policy.ladder = Policy::default().ladder;
    let records = play(&mut Engine::new(build).unwrap(), &sweep(declared(1), 0, 12));
    let told = "Its requests are to be refused for 15 min (rung 1 of 3), until 00:15:11 UTC.";
    assert!(records[0].explanation.ends_with(told), "{}", records[0].explanation);
}

#[test]
fn what_was_lifted_or_only_observed_is_no_offence() {
    let mut build = build(Mode::Observe);
    build.policy.ladder = Policy::default().ladder;
    let mut engine = Engine::new(build).unwrap();
    let first = play(&mut engine, &sweep(declared(1), 0, 12));
    engine.lift(first[0].decision_id.unwrap(), time(20.0));
    let again: Vec<Fact> = sweep(declared(1), 100, 12);
    let records = play(&mut engine, &again);
    assert!(records[0].explanation.contains("rung 1 of 3"), "{}", records[0].explanation);
    let unproven = assumed(9);
    let loopback = Asker { address: Address::of(IpAddr::from([127, 0, 0, 1])), ..unproven };
    assert_eq!(climb(&mut engine, loopback, 2), [900, 900], "nothing of it was ever refused");
}

#[test]
fn six_fields_varied_from_one_row_are_blocked_wherever_the_row_stands() {
    for base_at in [0, 3, 6] {
        let mut rows: Vec<Vec<f64>> = (0..6).map(|field| swept(1, field, 0)).collect();
        rows.insert(base_at, customer(1));
        let facts: Vec<Fact> =
            rows.into_iter().enumerate().map(|(id, row)| asked(id as u64, declared(1), vec![row])).collect();
        let records = play(&mut engine(), &facts);
        assert_eq!(blocks(&records).len(), 1, "base sent as number {base_at}");
        assert_eq!(
            (records[0].detector, records[0].time),
            ("field_by_field", time(6.0)),
            "base at {base_at}"
        );
        assert_eq!(records[0].fields, ["0", "1", "2", "3", "4", "5"]);
    }
}

#[test]
fn a_sweep_within_one_request_alerts_and_a_second_one_blocks() {
    let batch = |id, customer| asked(id, declared(1), (0..20).map(|step| swept(customer, 2, step)).collect());
    let records = play(&mut engine(), &[batch(0, 1), batch(1, 1), batch(2, 5), batch(3, 9)]);
    assert_eq!(records.len(), 3, "{records:?}");
    assert_eq!((records[0].tier, records[0].action, records[0].time), (Tier::Two, Action::Alert, time(0.0)));
    assert_eq!((records[1].tier, records[1].action, records[1].time), (Tier::One, Action::Block, time(2.0)));
}

#[test]
fn free_fields_may_be_swept() {
    let mut build = build(Mode::Observe);
    build.detectors = vec![("one_field_sweep".to_owned(), json!({"free_fields": ["2"]}))];
    let records = play(&mut Engine::new(build).unwrap(), &sweep(declared(1), 0, 50));
    assert!(records.is_empty(), "{records:?}");
}

#[test]
fn sliders_and_what_if_forms_are_left_alone() {
    let mut engine = engine();
    for customer in 0..300 {
        let steps = (0..8).map(|step| swept(customer, (customer % 7) as usize, step));
        let what_ifs = (0..3).map(|field| swept(customer, field, 50));
        let facts: Vec<Fact> = steps
            .chain(what_ifs)
            .enumerate()
            .map(|(turn, row)| asked(customer * 20 + turn as u64, declared(1), vec![row]))
            .collect();
        assert!(play(&mut engine, &facts).is_empty(), "customer {customer}");
    }
}

#[test]
fn a_slow_attacker_is_not_forgotten_under_honest_traffic() {
    let mut engine = engine();
    let mut id = 0;
    for probe in sweep(declared(1), 0, 12) {
        for _ in 0..300 {
            id += 1;
            // Values of its own make every honest row far from every other.
            let row = (0..100).map(|field| (id * 100 + field) as f64).collect();
            let honest = asked(1_000_000 + id, declared(2 + (id % 40) as u32), vec![row]);
            let records = step(&mut engine, &honest).records;
            assert!(records.iter().all(|record| record.action != Action::Block), "{records:?}");
        }
        let records = step(&mut engine, &probe).records;
        let Fact::Asked { id: turn, .. } = probe else { unreachable!() };
        assert_eq!(blocks(&records).len(), usize::from(turn == 11), "probe {turn}");
    }
    assert!(engine.gauges().rows_evicted > 0, "the traffic must have been more than the memory holds");
}

#[test]
fn named_columns_may_change_places() {
    let mut engine = engine();
    let mut records = Vec::new();
    for step in 0..12 {
        let mut names: Vec<String> = (0..7).map(|field| format!("field_{field}")).collect();
        let mut row = swept(1, 2, step);
        names.rotate_left(step as usize % 7);
        row.rotate_left(step as usize % 7);
        let names = names.iter().map(String::as_str).collect();
        let rows = Features { names, ..features(&[row]) };
        let mut out = Outbox::default();
        let question = Question::Rows(&rows);
        engine.asked(&Asked { id: step, time: time(0.0), asker: declared(1), bytes: 9, question }, &mut out);
        records.append(&mut out.records);
    }
    assert_eq!(
        (blocks(&records).len(), records[0].fields.as_slice()),
        (1, ["field_2".to_owned()].as_slice())
    );
}

#[test]
fn exact_repeats_never_say_anything() {
    let mut engine = engine();
    let rows: Vec<Vec<f64>> = (0..11).map(|step| swept(1, 2, step)).collect();
    let facts: Vec<Fact> = (0..2000).map(|id| asked(id, declared(1), rows.clone())).collect();
    assert!(play(&mut engine, &facts).is_empty());
    assert_eq!(engine.gauges().repeats, 1999 * 11);
}

#[test]
fn unproven_identities_are_only_observed_and_the_mend_is_named() {
    let loopback = Asker { address: Address::of(IpAddr::from([127, 0, 0, 1])), ..assumed(1) };
    for asker in [loopback, assumed(1)] {
        let mut engine = engine();
        let outs: Vec<Outbox> = sweep(asker, 0, 30).iter().map(|fact| step(&mut engine, fact)).collect();
        let blocks: Vec<&Block> = outs.iter().flat_map(|out| &out.blocks).collect();
        assert_eq!((blocks.len(), blocks[0].may_act), (1, false));
        for record in outs.iter().flat_map(|out| &out.records) {
            assert_eq!(record.action, Action::Alert);
            for setting in ["--client ip", "--client header:NAME", "--trusted-proxy CIDR"] {
                assert!(record.explanation.contains(setting), "{}", record.explanation);
            }
        }
    }
}

#[test]
fn an_observation_gives_way_once_the_address_is_proven() {
    let mut engine = engine();
    play(&mut engine, &sweep(assumed(1), 0, 12));
    let crowd: Vec<Fact> =
        (0..200).map(|n| asked(100 + n, assumed(2 + (n % 20) as u32), vec![customer(n)])).collect();
    play(&mut engine, &crowd);
    let records = play(&mut engine, &sweep(assumed(1), 300, 12));
    assert_eq!(blocks(&records).iter().map(|record| record.action).collect::<Vec<_>>(), [Action::Block]);
}

#[test]
fn the_never_block_list_beats_addresses_and_their_keys() {
    for key in [None, Some(7)] {
        let mut build = build(Mode::Enforce);
        build.policy.never_block = Networks::new([(IpAddr::from([198, 51, 100, 0]), 24)]);
        let asker = Asker { key, keys_verified: true, ..declared(1) };
        let mut engine = Engine::new(build).unwrap();
        let outs: Vec<Outbox> = sweep(asker, 0, 12).iter().map(|fact| step(&mut engine, fact)).collect();
        let block = outs.iter().flat_map(|out| &out.blocks).next().unwrap();
        assert!(!block.may_act, "{block:?}");
        assert!(outs[11].records[0].explanation.contains("never-block list"));
    }
}

#[test]
fn on_a_shared_address_nothing_stronger_than_a_throttle_follows_but_on_its_keys() {
    let played = |on_tier_one: Action, key: Option<u64>| {
        let mut build = build(Mode::Enforce);
        build.policy.course.on_tier_one = on_tier_one.into();
        build.policy.shared_addresses = Networks::new([(IpAddr::from([198, 51, 100, 0]), 24)]);
        let asker = Asker { key, keys_verified: true, ..declared(1) };
        let records = play(&mut Engine::new(build).unwrap(), &sweep(asker, 0, 60));
        records.into_iter().filter(|record| record.kind == Kind::Decision).collect::<Vec<_>>()
    };
    for (on_tier_one, key, expected, told) in [
        (Action::Block, None, Action::Throttle, true),
        (Action::Degrade, None, Action::Throttle, true),
        (Action::Throttle, None, Action::Throttle, false),
        (Action::Block, Some(7), Action::Block, false),
        (Action::Degrade, Some(7), Action::Degrade, false),
    ] {
        let decisions = played(on_tier_one, key);
        let [decision] = decisions.as_slice() else {
            panic!("one decision rests its evidence: {decisions:#?}")
        };
        assert_eq!(decision.action, expected, "{on_tier_one:?} with key {key:?}");
        let says = decision.explanation.contains("Many people share this address");
        assert_eq!(says, told, "{}", decision.explanation);
    }
    assert!(played(Action::Alert, None).is_empty(), "an alert stays one");
}

#[test]
fn a_proven_key_carries_its_own_evidence_from_any_address() {
    let mut engine = engine();
    let asker = |number| Asker { key: Some(7), keys_verified: true, ..assumed(number) };
    let facts: Vec<Fact> = (0..12).map(|n| asked(n, asker((n % 3) as u32), vec![swept(1, 2, n)])).collect();
    let outs: Vec<Outbox> = facts.iter().map(|fact| step(&mut engine, fact)).collect();
    assert_eq!(outs[0].proven_keys, [7]);
    assert!(outs[1..].iter().all(|out| out.proven_keys.is_empty()), "a proof is told once");
    assert_eq!(outs[11].blocks[0].client, Identity::Key(7));
    assert!(outs[11].blocks[0].may_act);
}

#[test]
fn a_key_is_proven_by_what_the_upstream_did() {
    let mut engine = engine();
    let asker = |key| Asker { key: Some(key), ..declared(1) };
    let exchange = |engine: &mut Engine, id, key, status| {
        play(engine, &[asked(id, asker(key), vec![customer(id)])]);
        let answer =
            Fact::Answered { id, seconds: id as f64, asker: asker(key), status, predictions: vec![1.0] };
        step(engine, &answer).proven_keys
    };
    assert!(exchange(&mut engine, 1, 7, 200).is_empty());
    assert!(exchange(&mut engine, 2, 8, 401).is_empty());
    assert_eq!(exchange(&mut engine, 3, 7, 200), [7]);
}

#[test]
fn evidence_rests_while_a_decision_lasts_and_starts_afresh_after_it() {
    let mut engine = engine();
    play(&mut engine, &sweep(declared(1), 0, 12));
    assert!(play(&mut engine, &sweep(declared(1), 20, 100)).is_empty(), "the decision lasts");
    let records = play(&mut engine, &sweep(declared(1), 1000, 12));
    assert_eq!(blocks(&records).len(), 1);
    assert_eq!(records[0].time, time(1011.0), "all twelve are needed again");
    engine.lift(records[0].decision_id.unwrap(), time(1012.0));
    assert_eq!(blocks(&play(&mut engine, &sweep(declared(1), 1020, 12))).len(), 1, "lifted");
}

#[test]
fn uninspected_and_refused_requests_lower_the_observed_share() {
    let mut engine = engine();
    let mut out = Outbox::default();
    let question = Question::NotInspected(NotInspected::TooLarge);
    for id in 100..104 {
        engine.asked(&Asked { id, time: time(0.0), asker: declared(1), bytes: 9, question }, &mut out);
    }
    let records = play(&mut engine, &sweep(declared(1), 0, 12));
    assert_eq!(records[0].window.observed, 12.0 / 16.0);
}

#[test]
fn violations_are_told_at_every_doubling() {
    let mut engine = engine();
    let mut told = Vec::new();
    for id in 0..20 {
        let facts = [asked(id, declared(1), vec![customer(id)]), answered(id, declared(1), &[-5.0])];
        told.extend(play(&mut engine, &facts).into_iter().map(|record| (id + 1, record)));
    }
    assert_eq!(told.iter().map(|(count, _)| *count).collect::<Vec<_>>(), [1, 2, 4, 8, 16]);
    let first = &told[0].1;
    assert_eq!(
        (first.detector, first.atlas, first.action),
        (contract::NAME, contract::ATLAS, Action::Refuse)
    );
    assert_eq!((first.statistic, first.limit), (-5.0, 0.0));
    for part in ["198.51.100.1", "-5", "row 0", "at least 0", "withheld"] {
        assert!(first.explanation.contains(part), "{part:?} is missing in {:?}", first.explanation);
    }
}

#[test]
fn distinct_violating_rows_lead_to_a_block_and_repeats_do_not() {
    let mut build = build(Mode::Enforce);
    build.contract.block_after = 3;
    let mut engine = Engine::new(build).unwrap();
    let mut exchange = |id, row| {
        let facts = [asked(id, declared(1), vec![customer(row)]), answered(id, declared(1), &[-1.0])];
        blocks(&play(&mut engine, &facts)).len()
    };
    let repeats: usize = (0..10).map(|id| exchange(id, 0)).sum();
    assert_eq!((repeats, exchange(10, 1), exchange(11, 2), exchange(12, 3)), (0, 0, 1, 0));
}

#[test]
fn answers_to_questions_that_were_given_up_are_still_judged() {
    let mut engine = engine();
    let questions: Vec<Fact> = (0..150).map(|id| asked(id, declared(1), vec![customer(id)])).collect();
    play(&mut engine, &questions);
    assert_eq!((engine.gauges().open_questions, engine.gauges().open_questions_evicted), (100, 50));
    assert_eq!(play(&mut engine, &[answered(0, declared(1), &[-1.0])]).len(), 1);
}

#[test]
fn a_reference_is_learned_from_three_clients_and_told_once() {
    let mut engine = engine();
    let mut frozen = Vec::new();
    for id in 0..600_u64 {
        let asker = declared((id % 4) as u32);
        let row = (0..7).map(|field| (id * 7 + field) as f64).collect();
        step(&mut engine, &asked(id, asker, vec![row]));
        frozen.extend(step(&mut engine, &answered(id, asker, &[1.0])).frozen);
    }
    assert_eq!(frozen.len(), 1);
    assert_eq!((frozen[0].trust, frozen[0].rows().len()), (Trust::Provisional, 500));
    assert_eq!(engine.gauges().reference_rows, 500);
}

#[test]
fn a_blocked_client_leaves_no_row_in_the_reference() {
    let mut engine = engine();
    for fact in sweep(declared(1), 0, 12) {
        let Fact::Asked { id, .. } = fact else { unreachable!() };
        step(&mut engine, &fact);
        step(&mut engine, &answered(id, declared(1), &[1.0]));
    }
    assert_eq!(engine.gauges().reference_rows, 0);
}

#[test]
fn a_client_far_above_the_population_is_told_once_a_window() {
    let mut engine = engine();
    let row = |id: u64| (0..7).map(|field| (id * 7 + field) as f64).collect();
    let crowd: Vec<Fact> =
        (0..300).map(|id| asked(id, declared(2 + (id % 30) as u32), vec![row(id)])).collect();
    assert!(play(&mut engine, &crowd).is_empty());
    let rows_of = |batch: u64| (0..100).map(|turn| row(1000 + batch * 100 + turn)).collect();
    let busy: Vec<Fact> = (0..20).map(|batch| asked(300 + batch, declared(1), rows_of(batch))).collect();
    let records = play(&mut engine, &busy);
    assert_eq!(records.len(), 1, "{records:?}");
    let Record { detector, tier, action, statistic, limit, .. } = &records[0];
    assert_eq!((*detector, *tier, *action), ("client_volume", Tier::Two, Action::Alert));
    assert_eq!((*statistic, *limit), (500.0, 500.0), "the population stays at 10 rows, the floor is 500");
}

/// A small generator of numbers, the same on every run (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    /// Evenly from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A customer of a tariff with 7 fields: correlated, rounded, one with a heavy tail, one a category.
    fn customer(&mut self) -> Vec<f64> {
        let age = (18.0 + 60.0 * self.next()).floor();
        let licence = (age - 18.0 - 10.0 * self.next()).max(0.0).floor();
        let value = (5.0 / (0.02 + self.next()).powi(2)).round() * 100.0;
        let kilometres = (5.0 + 30.0 * self.next() * self.next()).round() * 1000.0;
        let claims = (4.0 * self.next().powi(6)).floor();
        vec![
            age,
            licence,
            value,
            kilometres,
            claims,
            (9.0 * self.next()).floor(),
            60.0 + (90.0 * self.next()).floor(),
        ]
    }
}

fn tariff_reference(numbers: &mut Numbers, trust: Trust) -> Reference {
    let head = json!({"features": ["age", "licence", "value", "kilometres", "claims", "region", "power"]})
        .to_string();
    let rows = (0..500).map(|_| json!({"x": numbers.customer(), "p": [1.0]}).to_string());
    let lines: Vec<String> = std::iter::once(head).chain(rows).collect();
    Reference::from_json_lines(&lines.join("\n"), trust).unwrap()
}

fn with_reference(seed: u64, trust: Trust) -> (Engine, Numbers) {
    let mut numbers = Numbers(seed);
    let reference = Some(tariff_reference(&mut numbers, trust));
    (Engine::new(Build { reference, ..build(Mode::Observe) }).unwrap(), numbers)
}

#[test]
fn who_asks_most_and_covers_most_is_told_in_order_and_forgotten_after_two_windows() {
    for cells in [true, false] {
        let (with, mut numbers) = with_reference(7, Trust::Trusted);
        let mut engine = if cells { with } else { engine() };
        for (client, rows) in [(1, 30), (2, 200), (3, 90), (4, 1)] {
            for row in 0..rows {
                let (id, rows) = (1000 * u64::from(client) + row, vec![numbers.customer()]);
                let asked = Fact::Asked { id, seconds: 90_000.0, asker: declared(client), rows };
                step(&mut engine, &asked);
            }
        }
        let told = engine.farthest(time(90_001.0), 2);
        let by_rows: Vec<_> =
            told.reach.iter().map(|reach| (reach.client, reach.rows, reach.by_rows)).collect();
        let client = |number| Identity::Address(address(number));
        assert_eq!(by_rows, [(client(2), 200, Some(1)), (client(3), 90, Some(2))], "cells: {cells}");
        assert_eq!(told.clients, 4);
        let covered: Vec<bool> = told.reach.iter().map(|reach| reach.expected_cells > Some(1.0)).collect();
        assert_eq!(covered, [cells; 2], "without a reference there are no cells");
        let window = if cells { 86_400.0 } else { 3600.0 };
        assert_eq!(engine.farthest(time(90_000.0 + window), 9).clients, 4, "the window before counts");
        let later = engine.farthest(time(90_000.0 + 2.0 * window), 9);
        assert_eq!(later.clients, 0, "and the one before that does not");
        assert_eq!(engine.farthest(time(90_001.0), 0).reach, []);
    }
}

#[test]
fn honest_clients_of_other_seeds_stay_unblocked_beside_a_reference() {
    for seed in 0..30 {
        let (mut engine, mut numbers) = with_reference(seed, Trust::Trusted);
        let facts: Vec<Fact> = (0..400).map(|id| asked(id, declared(1), vec![numbers.customer()])).collect();
        let records = play(&mut engine, &facts);
        assert!(records.is_empty(), "seed {seed}: {records:?}");
    }
}

#[test]
fn uniform_queries_are_blocked_with_a_trusted_reference_and_told_with_a_learned_one() {
    for (trust, tier, action) in
        [(Trust::Trusted, Tier::One, Action::Block), (Trust::Provisional, Tier::Two, Action::Alert)]
    {
        let (mut engine, mut numbers) = with_reference(1, trust);
        let mut uniform = || vec![(0..7).map(|_| 10_000.0 * numbers.next()).collect()];
        let facts: Vec<Fact> = (0..50).map(|id| asked(id, declared(1), uniform())).collect();
        let records = play(&mut engine, &facts);
        let first = records.iter().find(|record| record.detector == "off_distribution").unwrap();
        assert_eq!(first.time, time(3.0), "the fourth row");
        assert_eq!((first.tier, first.action), (tier, action));
        let mend = first.explanation.contains("--reference MODEL=FILE");
        assert_eq!(mend, trust == Trust::Provisional, "{}", first.explanation);
    }
}

#[test]
fn an_alert_on_a_learned_reference_hides_no_sweep() {
    let (mut engine, _) = with_reference(1, Trust::Provisional);
    let noise =
        (0..20).map(|id| asked(id, declared(1), vec![vec![-1e6 - (id * id) as f64; 7]])).collect::<Vec<_>>();
    let told = play(&mut engine, &noise);
    assert_eq!(told.iter().filter(|record| record.detector == "off_distribution").count(), 1);
    assert_eq!(blocks(&play(&mut engine, &sweep(declared(1), 100, 12))).len(), 1);
}

/// A usual client: a few ordinary rows, and no evidence. Its rows lie in memories that have bounds of their own.
#[test]
fn a_usual_client_takes_at_most_256_bytes_beyond_its_rows() {
    const CLIENTS: u64 = 10_000;
    let mut numbers = Numbers(1);
    let reference = Some(tariff_reference(&mut numbers, Trust::Trusted));
    let limits =
        Limits { clients: CLIENTS as usize, new_keys_per_address: u32::MAX, ..build(Mode::Observe).limits };
    let mut engine = Engine::new(Build { reference, limits, ..build(Mode::Observe) }).unwrap();
    for id in 0..3 * CLIENTS {
        let key = Some((id % CLIENTS).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let asker = Asker { key, keys_verified: true, ..declared(1) };
        step(&mut engine, &asked(id, asker, vec![numbers.customer()]));
        step(&mut engine, &answered(id, asker, &[1.0]));
    }
    assert_eq!(engine.gauges().clients, CLIENTS);
    let each = engine.client_bytes() as f64 / CLIENTS as f64;
    println!("{each:.1} bytes");
    assert!(each <= 256.0, "{each:.1} bytes of each client");
    assert_eq!(size_of::<Tally>(), 24, "requests, volume, and what few clients have");
}

struct Panics;

impl ErasedDetector for Panics {
    fn hears_answers(&self) -> bool {
        false
    }

    fn answered(&mut self, _: &Reply<'_>, _: ClientIndex, _: &mut Findings) {}

    fn observe(&mut self, exchange: &Exchange<'_>, _: &Seen, _: ClientIndex, _: &mut Findings) {
        assert!(exchange.id != 5, "a detector that fails at request 5");
    }
    fn evicted(&self) -> u64 {
        0
    }
    fn bytes_of(&self, _: ClientIndex) -> usize {
        0
    }

    fn client_bytes(&self) -> usize {
        0
    }
    fn forget(&mut self, _: ClientIndex) {}
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
    fn restore(&mut self, _: &[u8]) -> Result<(), postcard::Error> {
        Ok(())
    }
}

#[test]
fn a_detector_that_panics_is_quarantined_and_the_rest_go_on() {
    let mut engine = engine();
    let label = Label { name: "panics", atlas: "AML.T0029", owasp: "ML01:2023", purpose: Purpose::Technique };
    engine.detectors.insert(
        0,
        Running { label, detector: Some(Box::new(Panics)), ..Running::new("chaos", &json!({})).unwrap() },
    );
    let outs: Vec<Outbox> = sweep(declared(1), 0, 12).iter().map(|fact| step(&mut engine, fact)).collect();
    let quarantined: Vec<usize> = (0..12).filter(|&turn| !outs[turn].quarantined.is_empty()).collect();
    assert_eq!((quarantined, outs[5].quarantined.as_slice()), (vec![5], ["panics"].as_slice()));
    assert_eq!(outs[11].blocks.len(), 1, "the others still see the sweep");
}

#[test]
fn what_is_wrong_with_a_build_is_named() {
    let with = |name: &str, parameters| {
        let mut build = build(Mode::Observe);
        build.detectors = vec![(name.to_owned(), parameters)];
        Engine::new(build).err().unwrap().to_string()
    };
    assert!(with("no_such", json!({})).contains("\"no_such\""));
    assert!(
        with("one_field_sweep", json!({"values": 1})).contains("one_field_sweep: values: 1 is out of range")
    );
}

#[test]
fn a_snapshot_of_another_model_is_refused() {
    let snapshot = engine().save();
    let mut other = Engine::new(Build { model: Arc::from("other"), ..build(Mode::Observe) }).unwrap();
    assert!(matches!(other.restore(&snapshot), Err(RestoreError::Other)));
    assert!(matches!(engine().restore(&[99, 0]), Err(RestoreError::Version(99))));
    assert!(matches!(engine().restore(&snapshot[..snapshot.len() / 2]), Err(RestoreError::Damaged(_))));
}

/// Traffic of a few clients that provokes every part: rows near each other, repeats, bad answers, refused keys.
fn traffic() -> impl Strategy<Value = Vec<Fact>> {
    let row = (0..3_u64, 0..7_usize, 0..20_u64).prop_map(|(number, field, step)| swept(number, field, step));
    let rows = prop::collection::vec(row, 1..4);
    let exchange = (0..4_u32, prop::option::of(0..3_u64), rows, prop::bool::weighted(0.1), 0..8_u8);
    prop::collection::vec(exchange, 1..150).prop_map(|exchanges| {
        let facts =
            exchanges.into_iter().enumerate().flat_map(|(id, (number, key, rows, refused, answer))| {
                let (id, seconds) = (id as u64, id as f64 * 7.0);
                let asker = Asker { key, ..if number < 3 { declared(number) } else { assumed(number) } };
                let predictions = rows.iter().map(|_| if answer == 0 { -1.0 } else { 1.0 }).collect();
                let status = if answer == 1 { 401 } else { 200 };
                let asked = if refused {
                    Fact::Refused { id, seconds, asker }
                } else {
                    Fact::Asked { id, seconds, asker, rows }
                };
                [asked, Fact::Answered { id, seconds: seconds + 1.0, asker, status, predictions }]
            });
        facts.collect()
    })
}

/// What is the same whoever else asked: ids count findings and decisions of all clients.
fn without_ids(records: Vec<Record>) -> Vec<Record> {
    records.into_iter().map(|record| Record { id: FindingId(0), decision_id: None, ..record }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_modes_give_the_same_records_but_for_the_mode(facts in traffic()) {
        let run = |mode| play(&mut Engine::new(build(mode)).unwrap(), &facts);
        let enforced = run(Mode::Enforce);
        prop_assert!(enforced.iter().all(|record| record.mode == Mode::Enforce));
        let observed: Vec<Record> =
            enforced.into_iter().map(|record| Record { mode: Mode::Observe, ..record }).collect();
        prop_assert_eq!(observed, run(Mode::Observe));
    }

    #[test]
    fn what_enforcement_refuses_changes_no_record(facts in traffic()) {
        let observed = play(&mut engine(), &facts);
        let mut engine = engine();
        let mut refused = std::collections::BTreeMap::new();
        let mut records = Vec::new();
        for fact in &facts {
            let fact = match fact {
                Fact::Asked { id, seconds, asker, .. } if asker.key.is_none() => {
                    let identity = Identity::Address(asker.address);
                    let blocked = refused.get(&identity).is_some_and(|&until| time(*seconds) < until);
                    if blocked { Fact::Refused { id: *id, seconds: *seconds, asker: *asker } } else { fact.clone() }
                }
                other => other.clone(),
            };
            let out = step(&mut engine, &fact);
            refused.extend(out.blocks.iter().filter(|block| block.may_act).map(|block| (block.client, block.until)));
            records.extend(out.records);
        }
        prop_assert_eq!(observed, records);
    }

    #[test]
    fn a_snapshot_in_mid_stream_changes_nothing(facts in traffic(), cut in 0.0..1.0_f64) {
        let (before, after) = facts.split_at((facts.len() as f64 * cut) as usize);
        let mut live = engine();
        play(&mut live, before);
        let snapshot = live.save();
        let mut restored = engine();
        restored.restore(&snapshot).unwrap();
        prop_assert_eq!(&restored.save(), &snapshot);
        prop_assert_eq!(play(&mut restored, after), play(&mut live, after));
        prop_assert_eq!(restored.save(), live.save());
    }

    #[test]
    fn one_clients_traffic_never_changes_anothers_findings(facts in traffic()) {
        let asker_of = |fact: &Fact| match fact {
            Fact::Asked { asker, .. } | Fact::Refused { asker, .. } | Fact::Answered { asker, .. } => asker.address,
        };
        let keyless = facts.into_iter().map(|mut fact| {
            match &mut fact {
                Fact::Asked { asker, .. } | Fact::Refused { asker, .. } | Fact::Answered { asker, .. } => asker.key = None,
            }
            fact
        });
        let keyless: Vec<Fact> = keyless.collect();
        let together = play(&mut engine(), &keyless);
        for number in 0..3 {
            let own: Vec<Fact> = keyless.iter().filter(|fact| asker_of(fact) == address(number)).cloned().collect();
            let alone = play(&mut engine(), &own);
            let client = Identity::Address(address(number));
            let among = together.iter().filter(|record| record.client == client).cloned().collect();
            prop_assert_eq!(without_ids(among), without_ids(alone));
        }
    }

    #[test]
    fn order_and_packing_of_a_sweep_do_not_hide_it(
        steps in Just((0..12_u64).collect::<Vec<_>>()).prop_shuffle(),
        cuts in prop::collection::btree_set(1..12_usize, 1..5),
    ) {
        let ends: Vec<usize> = cuts.iter().copied().chain([12]).collect();
        let mut start = 0;
        let facts: Vec<Fact> = ends.iter().enumerate().map(|(id, &end)| {
            let rows = steps[start..end].iter().map(|&step| swept(1, 2, step)).collect();
            start = end;
            asked(id as u64, declared(1), rows)
        }).collect();
        let records = play(&mut engine(), &facts);
        prop_assert_eq!(blocks(&records).len(), 1);
        prop_assert_eq!(records[0].time, time((ends.len() - 1) as f64), "with the request that completes it");
    }
}

#[test]
fn a_column_invented_for_each_request_hides_no_sweep_from_a_trusted_reference() {
    for junk in [1, 120] {
        let (mut engine, _) = with_reference(1, Trust::Trusted);
        let mut out = Outbox::default();
        for id in 0..12 {
            let mut row = swept(1, 2, id);
            row.extend((0..junk).map(|column| (id * 1_000 + column) as f64));
            let names = ["age", "licence", "value", "kilometres", "claims", "region", "power"];
            let invented: Vec<String> = (0..junk).map(|column| format!("junk{column}")).collect();
            let names = names.into_iter().chain(invented.iter().map(String::as_str)).collect();
            let question = Features { names, ..features(&[row]) };
            let asked = Asked {
                id,
                time: time(id as f64),
                asker: declared(1),
                bytes: 0,
                question: Question::Rows(&question),
            };
            engine.asked(&asked, &mut out);
        }
        let found = out.records.first().map(|record| (record.detector, record.time));
        assert_eq!(found, Some(("one_field_sweep", time(11.0))), "{junk} invented columns");
    }
}

fn following(course: Course) -> Policy {
    Policy { course, ..Policy::default() }
}

fn with_policy(policy: Policy) -> Engine {
    let mut build = build(Mode::Enforce);
    build.policy = policy;
    Engine::new(build).unwrap()
}

#[test]
fn policy_says_what_follows_from_a_sweep() {
    for (on_tier_one, told) in [
        (Action::Throttle, "Its requests are to be throttled for 15 min (rung 1 of 3)"),
        (Action::Degrade, "Its answers are to be coarsened and delayed for 15 min (rung 1 of 3)"),
        (Action::Block, "Its requests are to be refused for 15 min (rung 1 of 3)"),
    ] {
        let mut engine =
            with_policy(following(Course { on_tier_one: on_tier_one.into(), ..Course::default() }));
        let mut steps = sweep(declared(1), 0, 40).into_iter().map(|fact| step(&mut engine, &fact));
        let out = steps.by_ref().find(|out| !out.records.is_empty()).unwrap();
        assert_eq!((out.records[1].kind, out.records[1].action), (Kind::Decision, on_tier_one));
        assert_eq!((out.blocks[0].action, out.blocks[0].lasts.as_secs()), (on_tier_one, 900));
        assert!(out.records[1].explanation.contains(told), "{}", out.records[1].explanation);
        assert!(
            steps.all(|out| out.records.is_empty()),
            "evidence counted while {on_tier_one:?} was in force"
        );
    }
}

#[test]
fn a_policy_that_only_alerts_decides_nothing_and_repeats_nothing() {
    let mut engine =
        with_policy(following(Course { on_tier_one: Action::Alert.into(), ..Course::default() }));
    let records = play(&mut engine, &sweep(declared(1), 0, 40));
    let told: Vec<_> = records.iter().map(|record| (record.kind, record.action, record.tier)).collect();
    assert_eq!(told, [(Kind::Finding, Action::Alert, Tier::One)]);
}

/// What a throttle must not be: a way to be safe from a block.
#[test]
fn evidence_counts_on_while_something_weaker_is_in_force() {
    let (mut engine, facts) = suspicious(Action::Throttle);
    let records = play(&mut engine, &facts);
    assert_eq!(blocks(&records).iter().map(|record| record.action).collect::<Vec<_>>(), [Action::Throttle]);
    let later = sweep(declared(1), 5_000, 12).into_iter().map(|fact| match fact {
        Fact::Asked { id, asker, rows, .. } => Fact::Asked { id, seconds: 130.0, asker, rows },
        other => other,
    });
    let records = play(&mut engine, &later.collect::<Vec<_>>());
    assert_eq!(blocks(&records).iter().map(|record| record.action).collect::<Vec<_>>(), [Action::Block]);
}

/// A population of clients with a few rows each, and one that two detectors tell of: it asks for much, and it sweeps
/// a field within one request.
fn suspicious(on_tier_two: Action) -> (Engine, Vec<Fact>) {
    let mut build = build(Mode::Enforce);
    build.policy = following(Course { on_tier_two, ..Course::default() });
    build.detectors = vec![
        ("client_volume".to_owned(), json!({"rows_min": 40, "times": 2.0})),
        ("one_field_sweep".to_owned(), json!({})),
    ];
    let row = |number: u64| (0..7).map(|field| (number * 7 + field) as f64).collect::<Vec<f64>>();
    let mut facts: Vec<Fact> = (0..30).map(|id| asked(id, declared(10 + id as u32), vec![row(id)])).collect();
    facts.push(asked(100, declared(1), (0..60).map(|number| row(1000 + number)).collect()));
    facts.push(asked(101, declared(1), (0..20).map(|step| swept(3, 2, step)).collect()));
    (Engine::new(build).unwrap(), facts)
}

#[test]
fn two_detectors_and_a_great_volume_may_throttle_or_degrade_and_never_block() {
    for (on_tier_two, action) in [
        (Action::Throttle, Action::Throttle),
        (Action::Degrade, Action::Degrade),
        (Action::Block, Action::Degrade),
    ] {
        let (mut engine, facts) = suspicious(on_tier_two);
        let records = play(&mut engine, &facts);
        let [volume, finding, decision] = records.as_slice() else { panic!("{records:#?}") };
        assert_eq!((volume.detector, volume.action), ("client_volume", Action::Alert));
        assert_eq!((finding.detector, decision.detector), ("one_field_sweep", "one_field_sweep"));
        assert_eq!((decision.kind, decision.tier, decision.action), (Kind::Decision, Tier::Two, action));
        let told = "Within an hour client_volume told of it too, and it asked for 80 distinct rows, where 95 % of the \
                    clients stay within 1.25: together this is more than an alert.";
        assert!(decision.explanation.contains(told), "{}", decision.explanation);
    }
}

#[test]
fn by_default_and_alone_and_in_a_small_population_what_only_tells_decides_nothing() {
    let decided = |(mut engine, facts): (Engine, Vec<Fact>), keep: &dyn Fn(usize, &Fact) -> bool| {
        let kept = facts.into_iter().enumerate().filter(|(place, fact)| keep(*place, fact));
        blocks(&play(&mut engine, &kept.map(|(_, fact)| fact).collect::<Vec<_>>())).len()
    };
    assert_eq!(decided(suspicious(Action::Alert), &|_, _| true), 0, "by default");
    assert_eq!(decided(suspicious(Action::Throttle), &|place, _| place != 30), 0, "the sweep alone");
    assert_eq!(decided(suspicious(Action::Throttle), &|place, _| place != 31), 0, "the volume alone");
    assert_eq!(decided(suspicious(Action::Throttle), &|place, _| place >= 20), 0, "ten others are too few");
}

#[test]
fn an_agreement_counts_for_an_hour_and_once() {
    let (mut engine, mut facts) = suspicious(Action::Throttle);
    let Some(Fact::Asked { seconds, .. }) = facts.last_mut() else { panic!("the sweep is a question") };
    *seconds = 100.0 + 3_601.0;
    assert!(blocks(&play(&mut engine, &facts)).is_empty(), "the two alerts are more than an hour apart");
    let (mut engine, mut facts) = suspicious(Action::Throttle);
    for step in 0..5 {
        facts.push(asked(102 + step, declared(1), (0..20).map(|value| swept(9 + step, 2, value)).collect()));
    }
    let weak = blocks(&play(&mut engine, &facts)).iter().filter(|record| record.tier == Tier::Two).count();
    assert_eq!(weak, 1, "one decision while it is in force");
}

/// An engine with the drill in front of every other detector.
fn drilled(parameters: &serde_json::Value) -> Engine {
    let mut build = build(Mode::Observe);
    build.detectors.insert(0, ("chaos".to_owned(), parameters.clone()));
    Engine::new(build).unwrap()
}

#[test]
fn a_detector_that_keeps_too_much_of_a_client_is_quarantined_and_the_rest_go_on() {
    let mut engine = drilled(&json!({"panics": 0.0, "grows": 1.0}));
    let outs: Vec<Outbox> = traffic_of(200).iter().map(|fact| step(&mut engine, fact)).collect();
    let quarantined: Vec<_> = outs.iter().flat_map(|out| &out.quarantined).copied().collect();
    assert_eq!(quarantined, ["chaos"], "it is told of once");
    assert!(engine.detectors().filter(|(name, _)| *name != "chaos").all(|(_, runs)| runs));
}

#[test]
fn a_detector_that_was_quarantined_from_outside_is_never_asked_again() {
    let mut engine = drilled(&json!({"panics": 1.0}));
    engine.quarantine("chaos");
    let outs: Vec<Outbox> = traffic_of(20).iter().map(|fact| step(&mut engine, fact)).collect();
    assert!(outs.iter().all(|out| out.quarantined.is_empty()), "it was asked and panicked");
}

/// Questions of one client, each with another row.
fn traffic_of(questions: u64) -> Vec<Fact> {
    (0..questions).map(|id| asked(id, declared(1), vec![customer(id)])).collect()
}

fn rule(when: When, then: impl Into<Then>) -> rules::Rule {
    rules::Rule { when, then: then.into(), lasts: None, at_most: None }
}

fn tier(tier: Tier) -> When {
    When { tier: Some(tier), ..When::default() }
}

fn proposes(after: Option<Duration>) -> Then {
    Then { action: Action::Block, approval: Some(Approval { after }) }
}

fn by_rules(rules: Vec<rules::Rule>) -> Policy {
    following(Course { rules, ..Course::default() })
}

/// A row whose fields are then changed one after the other.
fn star(asker: Asker, first_id: u64) -> Vec<Fact> {
    let rows = std::iter::once(customer(9)).chain((0..7).map(|field| swept(9, field, 0)));
    rows.zip(first_id..).map(|(row, id)| asked(id, asker, vec![row])).collect()
}

/// What an engine told and what it decided, as (kind, action).
fn told(records: &[Record]) -> Vec<(Kind, Action)> {
    records.iter().map(|record| (record.kind, record.action)).collect()
}

#[test]
fn the_first_rule_that_matches_says_what_follows_and_how_long() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let rules = vec![
        rule(tier(Tier::Two), Action::Tag),
        rules::Rule {
            lasts: Some(vec![minutes(60), minutes(600)]),
            at_most: Some(minutes(90)),
            ..rule(tier(Tier::One), Action::Throttle)
        },
    ];
    let mut engine = with_policy(by_rules(rules));
    let mut ends = Vec::new();
    for (first_id, offence) in [(0, 1_u32), (10_000, 2)] {
        let out = sweep(declared(1), first_id, 12).iter().map(|fact| step(&mut engine, fact)).last().unwrap();
        assert_eq!(
            told(&out.records),
            [(Kind::Finding, Action::Throttle), (Kind::Decision, Action::Throttle)]
        );
        assert_eq!(
            out.records[0].grounds.rule.as_deref(),
            Some("rule 2 of policy.rules"),
            "offence {offence}"
        );
        assert!(out.records[0].explanation.ends_with(" So says rule 2 of policy.rules."));
        ends.push(out.blocks[0].lasts);
    }
    assert_eq!(ends, [minutes(60), minutes(90)], "the second rung is longer than the rule lets it be");
}

#[test]
fn nothing_lasts_longer_than_the_operator_allows() {
    let spans = Spans { at_most: Duration::from_secs(60), ..Spans::default() };
    let mut engine = with_policy(Policy { spans, ..Policy::default() });
    let out = sweep(declared(1), 0, 12).iter().map(|fact| step(&mut engine, fact)).last().unwrap();
    assert_eq!(out.blocks[0].until, time(11.0 + 60.0));
    assert!(out.records[1].explanation.contains("for 60 s (rung 1 of 3)"), "{}", out.records[1].explanation);
}

#[test]
fn a_rule_may_ask_for_several_findings_within_a_time() {
    let counted = |findings, within| When {
        count: Some(Count { findings, within: Duration::from_secs(within) }),
        ..tier(Tier::One)
    };
    let of = |within: u64| {
        let rules = vec![rule(counted(2, within), Action::Block), rule(tier(Tier::One), Action::Alert)];
        let mut engine = with_policy(by_rules(rules));
        // Another detector tells of the same client.
        let facts: Vec<_> = sweep(declared(1), 0, 12).into_iter().chain(star(declared(1), 500)).collect();
        told(&play(&mut engine, &facts))
    };
    let alert = (Kind::Finding, Action::Alert);
    assert_eq!(of(3_600), [alert, (Kind::Finding, Action::Block), (Kind::Decision, Action::Block)]);
    assert_eq!(of(60), [alert, alert], "the first is too long ago");
}

#[test]
fn a_tag_takes_nothing_and_what_is_found_meanwhile_is_told() {
    let rules = vec![
        rule(When { detectors: vec!["one_field_sweep".into()], ..When::default() }, Action::Tag),
        rule(tier(Tier::One), Action::Block),
    ];
    let mut engine = with_policy(by_rules(rules));
    let records = play(&mut engine, &sweep(declared(1), 0, 30));
    assert_eq!(told(&records), [(Kind::Finding, Action::Tag), (Kind::Decision, Action::Tag)], "told once");
    let later = star(declared(1), 500);
    assert_eq!(blocks(&play(&mut engine, &later)).len(), 1, "the stronger decision follows");
}

#[test]
fn a_proposal_rests_the_evidence_waits_and_is_approved_rejected_or_forgotten() {
    let propose = || following(Course { on_tier_one: proposes(None), ..Course::default() });
    let sweeping = |engine: &mut Engine, first_id| -> Vec<Outbox> {
        let facts = sweep(declared(1), first_id, 40);
        facts.iter().map(|fact| step(engine, fact)).filter(|out| !out.records.is_empty()).collect()
    };
    let proposed = |engine: &mut Engine, first_id| {
        let mut outs = sweeping(engine, first_id);
        assert_eq!(outs.len(), 1, "one proposal, and no flood of them");
        let out = outs.remove(0);
        assert_eq!(told(&out.records), [(Kind::Finding, Action::Alert), (Kind::Decision, Action::Alert)]);
        let proposed = out.records[1].grounds.proposed.unwrap();
        assert_eq!((proposed.action, proposed.expires), (Action::Block, Some(out.blocks[0].until)));
        assert_eq!((out.records[1].until, out.blocks[0].acts_from), (None, Time::NEVER));
        (out.blocks[0].id, out.blocks[0].time, proposed.lasts)
    };
    let (quarter, two_hours) = (Duration::from_secs(900), Duration::from_secs(7_200));

    let mut engine = with_policy(propose());
    let (_, _, lasts) = proposed(&mut engine, 0);
    assert_eq!(lasts, quarter);
    let (id, at, lasts) = proposed(&mut engine, 90_000);
    assert_eq!(lasts, quarter, "a proposal that nobody approved is no offence");
    engine.reject(id, at);
    let (id, at, lasts) = proposed(&mut engine, 91_000);
    assert_eq!(lasts, quarter, "neither is one that was rejected");
    engine.approve(id, at.plus(quarter), at);
    assert!(sweeping(&mut engine, 91_500).is_empty(), "evidence rests while it lasts");
    let (_, _, lasts) = proposed(&mut engine, 95_000);
    assert_eq!(lasts, two_hours, "one that was approved is");
}

#[test]
fn a_proposal_that_approves_itself_is_an_offence_unless_it_is_rejected() {
    let ten = Duration::from_secs(600);
    let course = Course { on_tier_one: proposes(Some(ten)), ..Course::default() };
    let of = |rejected: bool| {
        let mut engine = with_policy(following(course.clone()));
        let first = |engine: &mut Engine, id| {
            let facts = sweep(declared(1), id, 40);
            facts
                .iter()
                .map(|fact| step(engine, fact))
                .find(|out| !out.blocks.is_empty())
                .map(|mut out| out.blocks.remove(0))
        };
        let block = first(&mut engine, 0).unwrap();
        assert_eq!(
            (block.acts_from, block.until),
            (block.time.plus(ten), block.time.plus(ten).plus(block.lasts))
        );
        if rejected {
            engine.reject(block.id, block.time);
        } else {
            assert!(first(&mut engine, 1_000).is_none(), "it is in force");
        }
        first(&mut engine, 5_000).unwrap().lasts.as_secs()
    };
    assert_eq!((of(false), of(true)), (7_200, 900));
}

#[test]
fn tenants_have_a_course_of_their_own_and_records_name_them() {
    let tenant = |name: &str, tier: &str, number: u32| Tenant {
        tag: TenantTag { name: name.into(), tier: tier.into() },
        keys: Vec::new(),
        networks: vec![(address(number).ip(), 32)],
    };
    let tenants = Tenants::new(vec![tenant("acme", "enterprise", 1), tenant("bolt", "free", 2)]);
    let enterprise = Course {
        rules: vec![rule(tier(Tier::One), Action::Throttle)],
        place: "policy.tiers.enterprise.rules".into(),
        ..Course::default()
    };
    let rules = vec![rule(When { tenant_tier: Some("free".into()), ..tier(Tier::One) }, Action::Degrade)];
    let policy = Policy {
        tenants: Arc::new(tenants),
        tiers: [("enterprise".to_owned(), enterprise)].into(),
        ..by_rules(rules)
    };
    let mut engine = with_policy(policy);
    for (number, action, tenant, said) in [
        (1, Action::Throttle, Some("acme"), "So says rule 1 of policy.tiers.enterprise.rules."),
        (2, Action::Degrade, Some("bolt"), "So says rule 1 of policy.rules."),
        (3, Action::Block, None, ""),
    ] {
        let records = play(&mut engine, &sweep(declared(number), u64::from(number) * 100, 12));
        let decision = blocks(&records)[0];
        let told = decision.grounds.tenant.as_ref().map(|tag| tag.name.as_str());
        assert_eq!((decision.action, told), (action, tenant));
        assert!(decision.explanation.contains(said), "{}", decision.explanation);
    }
}

#[test]
fn maintenance_mutes_what_rests_on_the_reference_and_no_attack() {
    let policy = |note: &str| Policy {
        maintenance: vec![Maintenance { from: Time(0), until: time(1e6), note: note.into() }],
        ..Policy::default()
    };
    let mut engine = with_policy(policy("v2"));
    let records = play(&mut engine, &sweep(declared(1), 0, 12));
    assert_eq!(blocks(&records).len(), 1, "a sweep rests on nothing but itself");
    let finding = |rests_on| Finding {
        tier: Tier::One,
        statistic: 2.0,
        limit: 1.0,
        trail: Trail::default(),
        fields: Vec::new(),
        did: "asked far from the reference".into(),
        rests_on,
    };
    let case = |engine: &mut Engine, number, seconds| {
        let subject = Subject { identity: Identity::Address(address(number)), reservation: None };
        let client = engine.enter(subject.identity, time(seconds));
        Case { subject, client, address: address(number), request: 1, time: time(seconds) }
    };
    let label = Label {
        name: "off_distribution",
        atlas: "AML.T0024.002",
        owasp: "ML05:2023",
        purpose: Purpose::Rows,
    };
    let mut report = |number, seconds, rests_on| {
        let case = case(&mut engine, number, seconds);
        let mut out = Outbox::default();
        engine.report(0, label, case, finding(rests_on), &mut out);
        out.records
    };
    let muted = report(2, 20.0, Some(Trust::Trusted));
    assert_eq!((muted[0].action, muted[0].grounds.muted.as_deref()), (Action::Alert, Some("v2")));
    assert!(muted[0].explanation.contains("muted until 13:46:40 UTC (v2)"), "{}", muted[0].explanation);
    assert_eq!(report(3, 30.0, None)[0].action, Action::Block, "it does not rest on the reference");
    let after = report(4, 1e6, Some(Trust::Trusted));
    assert_eq!((after[0].action, &after[0].grounds.muted), (Action::Block, &None), "the window has ended");
}

fn any_then() -> impl Strategy<Value = Then> {
    let action = prop::sample::select(vec![
        Action::Alert,
        Action::Tag,
        Action::Throttle,
        Action::Degrade,
        Action::Block,
    ]);
    let after = prop::option::of((0..100_000_u64).prop_map(Duration::from_secs));
    let approval = prop::option::of(after.prop_map(|after| Approval { after }));
    (action, approval).prop_map(|(action, approval)| Then { action, approval })
}

fn any_rule() -> impl Strategy<Value = rules::Rule> {
    let spans = || prop::option::of((0..1_000_000_u64).prop_map(Duration::from_secs));
    let count = prop::option::of(
        (2..4_u32, 1..5_000_u64)
            .prop_map(|(findings, within)| Count { findings, within: Duration::from_secs(within) }),
    );
    let tiers = prop::option::of(prop::sample::select(vec![Tier::One, Tier::Two]));
    (tiers, prop::option::of(any::<bool>()), count, any_then(), spans(), spans()).prop_map(
        |(tier, agreed, count, then, lasts, at_most)| rules::Rule {
            when: When { tier, agreed, count, ..When::default() },
            then,
            lasts: lasts.map(|lasts| vec![lasts]),
            at_most,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rules as no configuration would let them pass: the core by itself keeps to what evidence is worth.
    #[test]
    fn no_rules_block_by_tier_two_touch_the_spared_or_outlast_the_bound(
        rules in prop::collection::vec(any_rule(), 0..6),
        on_tier_one in any_then(),
        on_tier_two in prop::sample::select(vec![Action::Alert, Action::Throttle, Action::Block]),
        at_most in 1..100_000_u64,
    ) {
        let (mut engine, mut facts) = suspicious(on_tier_two);
        let spared = (address(40).ip(), 32);
        engine.rules.policy = Policy {
            course: Course { rules, on_tier_one, on_tier_two, ..Course::default() },
            spans: Spans { at_most: Duration::from_secs(at_most), ..Spans::default() },
            never_block: Networks::new([spared]),
            ..Policy::default()
        };
        for (client, first_id) in [(1, 1_000), (40, 2_000), (41, 3_000)] {
            facts.extend(sweep(declared(client), first_id, 30));
            let row = |number: u64| (0..7).map(|field| (number * 7 + field) as f64).collect::<Vec<f64>>();
            facts.push(asked(first_id + 100, declared(client), (0..60).map(|number| row(first_id + number)).collect()));
            facts.push(asked(first_id + 101, declared(client), (0..20).map(|step| swept(first_id, 2, step)).collect()));
        }
        for fact in &facts {
            let out = step(&mut engine, fact);
            for block in &out.blocks {
                let why = out.records.iter().find(|record| record.decision_id == Some(block.id)).unwrap();
                prop_assert!(block.lasts <= Duration::from_secs(at_most));
                if block.acts_from < block.until {
                    prop_assert!(block.until.since(block.acts_from) <= Duration::from_secs(at_most));
                }
                prop_assert!(block.action < Action::Block || why.tier == Tier::One, "tier two blocked: {why:?}");
                if block.client == Identity::Address(address(40)) {
                    prop_assert!(!block.may_act && why.action == Action::Alert, "a spared client: {why:?}");
                }
            }
        }
    }
}

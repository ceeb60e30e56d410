//! Drift as an engine watches it: who may teach a reference, what is told of a shift, and of whom.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod drift_streams;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use checkgate_detectors::contract::Contract;
use checkgate_detectors::drift::bins::Value;
use checkgate_detectors::drift::derived::Derived;
use checkgate_detectors::drift::record::{Behind, DriftRecord};
use checkgate_detectors::drift::reference::{self, Column, DriftReference, Table};
use checkgate_detectors::drift::room::saved::SavedError;
use checkgate_detectors::drift::room::versions::Named;
use checkgate_detectors::drift::room::{Frozen, Settings};
use checkgate_detectors::drift::rules::GaugeRule;
use checkgate_detectors::drift::state::Change;
use checkgate_detectors::engine::{Build, Drift, Engine, Limits, Outbox};
use checkgate_detectors::facts::{Answered, Asked, Cell, Features, NotInspected, Question, Time};
use checkgate_detectors::finding::{Action, DecisionId};
use checkgate_detectors::identity::{Address, Asker, Standing};
use checkgate_detectors::maintenance::{Maintenance, Taught};
use checkgate_detectors::policy::Policy;
use checkgate_detectors::query::QUERY;
use checkgate_detectors::reference::Trust;
use checkgate_detectors::severity::Severity;
use drift_streams::Numbers;

const NAMES: [&str; 4] = ["area", "rooms", "age", "income"];
/// Honest clients.
const CLIENTS: u64 = 30;

/// What an exchange is like, in front of a model that sums what it is asked.
#[derive(Clone, Copy)]
struct Kind {
    client: u64,
    /// What is added to the first field, in deviations.
    shift: f64,
    /// What the model server says.
    status: u16,
}

struct World {
    numbers: Numbers,
    engine: Engine,
    id: u64,
    /// Microseconds between two exchanges.
    pace: u64,
    /// The version that questions ask for, and the one that answers them; empty where they do not say it.
    versions: [&'static str; 2],
    out: Outbox,
    told: Vec<DriftRecord>,
    frozen: Option<DriftReference>,
    taught: Vec<Taught>,
    blocked: Vec<DecisionId>,
    /// Clients that records are about, with what is done.
    clients: Vec<(String, Action)>,
}

fn asker(client: u64) -> Asker {
    let ip = Ipv4Addr::from_bits(0xc612_0000 + (client as u32) * 1000);
    Asker {
        address: Address::of(IpAddr::V4(ip)),
        standing: Standing::Declared,
        key: None,
        keys_verified: false,
    }
}

fn row(numbers: &mut Numbers, client: u64, shift: f64) -> Vec<f64> {
    // Every client has habits of its own, and none sends the same row twice.
    let habit = (client % 7) as f64 * 0.1;
    let mut row: Vec<f64> = NAMES.iter().map(|_| numbers.normal() + habit).collect();
    row[0] += shift;
    row
}

fn features(names: &[&str], rows: &[Vec<f64>]) -> Features {
    Features {
        names: names.iter().copied().collect(),
        width: rows[0].len(),
        cells: rows.iter().flatten().map(|&value| Cell::Number(value)).collect(),
        ..Features::default()
    }
}

fn price(row: &[f64]) -> Vec<f64> {
    vec![row.iter().sum()]
}

/// A reference of what honest clients ask, and of its answers.
fn reference(rows: usize) -> DriftReference {
    moved_reference(rows, 0.0)
}

fn moved_reference(rows: usize, shift: f64) -> DriftReference {
    let mut numbers = Numbers(5);
    let rows: Vec<Vec<f64>> = (0..rows as u64).map(|n| row(&mut numbers, n % CLIENTS, shift)).collect();
    let column = |name: &str, value: &dyn Fn(&[f64]) -> f64| Column {
        name: name.to_owned(),
        values: rows.iter().map(|row| Value::Number(value(row))).collect(),
    };
    let mut columns: Vec<Column> =
        NAMES.iter().enumerate().map(|(place, name)| column(name, &|row| row[place])).collect();
    columns.push(column("answer:price", &|row| price(row)[0]));
    columns.push(column("status", &|_| 200.0));
    let times = (0..rows.len() as u64).map(|n| Time(n * 100_000)).collect();
    DriftReference::of(&Table { columns, times }, &reference::Settings::default()).unwrap()
}

fn trusted() -> Option<Frozen> {
    Some(Frozen { trust: Trust::Trusted, reference: reference(10_000) })
}

fn engine(drift: Option<Drift>, detectors: bool) -> Engine {
    engine_under(Policy::default(), drift, detectors)
}

fn engine_under(policy: Policy, drift: Option<Drift>, detectors: bool) -> Engine {
    let all = QUERY.iter().filter(|_| detectors);
    let built = Engine::new(Build {
        model: Arc::from("homes"),
        hash_key: [3, 4],
        detectors: all.map(|spec| (spec.name.to_owned(), (spec.defaults)())).collect(),
        contract: Contract::default(),
        contract_action: Action::Alert,
        policy,
        reference: None,
        drift,
        limits: Limits { clients: 1000, open_questions: 1000, new_keys_per_address: 20 },
    });
    built.unwrap()
}

impl World {
    fn new(settings: Settings, reference: Option<Frozen>, detectors: bool) -> Self {
        Self {
            numbers: Numbers(9),
            engine: engine(Some(Drift { settings, reference, versions: Vec::new() }), detectors),
            id: 0,
            pace: 100_000,
            versions: [""; 2],
            out: Outbox::default(),
            told: Vec::new(),
            frozen: None,
            taught: Vec::new(),
            blocked: Vec::new(),
            clients: Vec::new(),
        }
    }

    fn watched() -> Self {
        Self::new(Settings::default(), trusted(), false)
    }

    fn exchange(&mut self, kind: Kind) {
        let rows = [row(&mut self.numbers, kind.client, kind.shift)];
        self.send(kind, &rows, &features(&NAMES, &rows));
    }

    fn send(&mut self, kind: Kind, rows: &[Vec<f64>], question: &Features) {
        self.id += 1;
        let time = Time(1_800_000_000_000_000 + self.id * self.pace);
        let asker = asker(kind.client);
        let [asks, answers] = self.versions.map(str::to_owned);
        let question = &Features { version: asks, ..question.clone() };
        let asked = Asked { id: self.id, time, asker, bytes: 9, question: Question::Rows(question) };
        self.engine.asked(&asked, &mut self.out);
        let answer = features(&["price"], &rows.iter().map(|row| price(row)).collect::<Vec<_>>());
        let answer = Features { version: answers, ..answer };
        let answered = Answered {
            id: self.id,
            time: time.plus(Duration::from_millis(5)),
            asker,
            status: kind.status,
            bytes: 9,
            latency: Duration::from_millis(5),
            answer: if kind.status == 200 { Ok(&answer) } else { Err(NotInspected::NoPrediction) },
            judged: None,
        };
        self.engine.answered(&answered, &mut self.out);
        self.told.append(&mut self.out.drifts);
        self.frozen = self.frozen.take().or(self.out.frozen_drift.take());
        self.taught.append(&mut self.out.taught);
        self.blocked.extend(self.out.blocks.iter().map(|block| block.id));
        let of_drift = self.out.records.iter().filter(|record| record.detector == "drift");
        self.clients.extend(of_drift.map(|record| (record.client.to_string(), record.action)));
        self.out.clear();
    }

    /// `count` exchanges of honest clients in turn.
    fn honest(&mut self, count: u64, shift: f64) {
        for turn in 0..count {
            self.exchange(Kind { client: turn * 7 % CLIENTS, shift, status: 200 });
        }
    }

    fn changes(&self) -> Vec<Change> {
        self.told.iter().map(|record| record.change).collect()
    }
}

#[test]
fn a_shift_of_everybody_is_told_once_from_its_beginning_to_its_end_and_blocks_nobody() {
    let mut world = World::watched();
    world.honest(3000, 0.0);
    assert_eq!(world.changes(), [], "{:#?}", world.told);
    world.honest(3000, 1.0);
    world.honest(6000, 0.0);
    let told = world.changes();
    assert!(
        told.starts_with(&[Change::Drift]) || told.starts_with(&[Change::Warning, Change::Drift]),
        "{told:?}"
    );
    assert_eq!(told.last(), Some(&Change::Over), "{told:?}");
    assert!(told.len() <= 3, "one change, one record: {told:?}");
    let first = &world.told[0];
    assert_eq!(first.features[0].name, "area", "{first:#?}");
    assert_eq!(first.features[0].bins.len(), 3, "{first:#?}");
    assert!(first.attribution.named.is_empty(), "nobody is to blame: {first:#?}");
    assert!(world.clients.is_empty(), "nobody is told of: {:?}", world.clients);
    assert!(!first.reference.provisional && first.explanation.contains("Nobody is blocked"), "{first:#?}");
    assert!(world.blocked.is_empty());
}

#[test]
fn while_a_model_is_exchanged_nothing_of_drift_is_counted_learned_or_told() {
    let settings = Settings { warm_up_rows: 500, ..Settings::default() };
    let window = |world: &World, rows: u64| {
        let from = Time(1_800_000_000_000_000 + world.id * world.pace);
        Maintenance { from, until: Time(from.0 + rows * world.pace), note: String::new() }
    };
    let mut world = World::watched();
    let policy = Policy { maintenance: vec![window(&world, 3000)], ..Policy::default() };
    world.engine = engine_under(
        policy.clone(),
        Some(Drift { settings: settings.clone(), reference: trusted(), ..Drift::default() }),
        false,
    );
    world.honest(2999, 2.0);
    assert!(world.told.is_empty() && world.blocked.is_empty(), "{:?}", world.told);
    let standing = world.engine.drift().unwrap();
    assert_eq!((standing.rows, standing.counts.maintenance), (0, 2999));
    world.honest(3000, 0.0);
    assert!(world.told.is_empty(), "what came before the end counts for nothing: {:?}", world.told);
    world.honest(3000, 2.0);
    assert!(!world.told.is_empty(), "and afterwards a shift is told as ever");
    let mut learning = World::new(settings.clone(), None, false);
    learning.engine = engine_under(policy, Some(Drift { settings, ..Drift::default() }), false);
    learning.honest(2999, 0.0);
    assert!(learning.frozen.is_none(), "no reference is made of a model that is being exchanged");
}

/// A model that is exchanged for `rows` exchanges from now on, under all detectors.
fn exchanged(rows: u64) -> World {
    exchanged_beside(rows, Vec::new())
}

fn exchanged_beside(rows: u64, versions: Vec<Named>) -> World {
    let mut world = World::new(Settings { warm_up_rows: 2000, ..Settings::default() }, trusted(), true);
    let from = Time(1_800_000_000_000_000);
    let until = Time(from.0 + rows * world.pace);
    let policy =
        Policy { maintenance: vec![Maintenance { from, until, note: "v2".into() }], ..Policy::default() };
    let drift = Drift {
        settings: Settings { warm_up_rows: 2000, ..Settings::default() },
        reference: trusted(),
        versions,
    };
    world.engine = engine_under(policy, Some(drift), true);
    world
}

/// A client that moves one field of one row, until it is blocked.
fn attack(world: &mut World, client: u64) {
    for step in 0..40 {
        let rows = [vec![f64::from(step), 1.0, 2.0, 3.0]];
        world.send(Kind { client, shift: 0.0, status: 200 }, &rows, &features(&NAMES, &rows));
    }
}

#[test]
fn a_window_teaches_what_the_model_that_comes_is_like_and_the_one_at_work_stays() {
    let mut world = exchanged(6000);
    let before = world.engine.drift_rooms().unwrap().own().frozen().unwrap().reference.checksum();
    world.honest(2000, 0.0);
    let attacker = 700;
    attack(&mut world, attacker);
    assert_eq!(world.blocked.len(), 1, "an attack in the window is met as ever");
    world.honest(3900, 2.0);
    assert!(world.taught.is_empty(), "nothing is taught before the window ends");
    world.honest(100, 2.0);
    let [taught] = &world.taught[..] else { panic!("{:?}", world.taught) };
    assert!((5900..6000).contains(&taught.seen) && taught.window.note == "v2", "{} rows", taught.seen);
    let drift = taught.drift.as_ref().expect("enough was there");
    assert_eq!((drift.rows(), taught.drift_rows), (2001, 2001));
    let area = drift.features().iter().find(|feature| feature.name == "area").unwrap();
    let old = reference(10_000);
    assert!(
        format!("{:?}", area.bins) != format!("{:?}", old.features()[0].bins),
        "it is of the latest rows"
    );
    let query = taught.query.as_ref().expect("enough was there");
    assert_eq!((query.trust, query.rows().len()), (Trust::Provisional, 1500));
    let identity = checkgate_detectors::identity::Identity::Address(asker(attacker).address);
    assert!(taught.shares.iter().all(|(client, share)| *client != identity && *share < 0.1), "{taught:?}");
    assert_eq!((taught.clients, taught.shares.len()), (CLIENTS, 8));
    let (first, last) = taught.span.unwrap();
    assert!(first < last && last < taught.window.until);
    let frozen = world.engine.drift_rooms().unwrap().own().frozen().unwrap();
    assert_eq!(frozen.reference.checksum(), before, "nobody promoted anything");
    world
        .engine
        .install(Some(query.clone()), Some(Frozen { trust: Trust::Trusted, reference: drift.clone() }));
    world.told.clear();
    world.honest(4000, 2.0);
    assert!(world.told.is_empty(), "by what was promoted, that is normal: {:?}", world.told);
    world.honest(3000, 0.0);
    assert!(!world.told.is_empty(), "and what was normal before is not");
}

#[test]
fn too_few_rows_or_clients_are_said_and_offer_nothing() {
    let mut few = exchanged(300);
    few.honest(310, 0.0);
    let [taught] = &few.taught[..] else { panic!("{:?}", few.taught) };
    assert!(!taught.is_enough() && taught.rows == 299 && taught.clients == CLIENTS, "{taught:?}");
    let mut two = exchanged(3000);
    for turn in 0..3000 {
        two.exchange(Kind { client: turn % 2, shift: 0.0, status: 200 });
    }
    assert!(two.taught.iter().all(|taught| !taught.is_enough()), "two clients are never enough");
    assert_eq!(two.taught[0].drift_rows, 1334, "and it is said what they gave");
    assert_eq!(two.taught.len(), 1, "and it is said once");
    let mut silent = exchanged(300);
    silent.honest(10, 0.0);
    let end = Time(1_800_000_000_000_000 + 301 * silent.pace);
    assert!(
        !silent.engine.is_lesson_over(Time(end.0 - 10 * silent.pace)) && silent.engine.is_lesson_over(end)
    );
    silent.engine.settle(end, &mut silent.out);
    assert_eq!(silent.out.taught.len(), 1, "nobody has to ask for it to end");
    silent.engine.settle(end, &mut silent.out);
    assert_eq!(silent.out.taught.len(), 1);
}

#[test]
fn a_snapshot_in_the_middle_of_a_window_changes_nothing_of_what_it_teaches() {
    let run = |snapshots: bool| {
        let mut world = exchanged(2500);
        for part in 0..9 {
            world.honest(300, 1.0);
            if part == 4 {
                attack(&mut world, 800);
            }
            if snapshots {
                let bytes = world.engine.save();
                world.engine = exchanged(2500).engine;
                world.engine.restore(&bytes).unwrap();
            }
        }
        world.taught
    };
    let whole = run(false);
    assert!(whole.len() == 1 && whole[0].is_enough(), "{whole:?}");
    assert_eq!(run(true), whole);
}

#[test]
fn a_slow_walk_shows_as_a_gap_between_the_references() {
    let mut world = World { pace: 2_000_000, ..World::watched() };
    let gaps = |world: &World| {
        let gaps = world.engine.drift().unwrap().features.into_iter();
        gaps.map(|feature| feature.gap.map_or(0.0, |gap| gap.distance / gap.expected.max(1e-9))).collect()
    };
    world.honest(8 * 1800, 0.0);
    let before: Vec<f64> = gaps(&world);
    assert!(before.iter().all(|gap| *gap < 2.0), "traffic like the reference leaves none: {before:?}");
    let walk = |day_third: u64| {
        (0..8).for_each(|hour| world.honest(1800, (day_third * 8 + hour) as f64 * 0.01));
        gaps(&world)
    };
    let seen: Vec<Vec<f64>> = (0..4).map(walk).collect();
    let last: &Vec<f64> = seen.last().unwrap();
    assert!(last[0] > 2.0, "a hundredth of a deviation an hour, after 32 hours: {seen:?}");
    assert!(last[1..4].iter().all(|gap| *gap < 2.0), "the others stayed: {seen:?}");
    assert!(seen.is_sorted_by(|one, next| one[0] < next[0]), "it grows all the time: {seen:?}");
}

#[test]
fn a_shift_of_a_wide_tensor_is_told_by_its_projections() {
    let leave_out = vec!["answer:price".to_owned()];
    let settings = Settings { warm_up_rows: 1500, leave_out, ..Settings::default() };
    let mut world = World::new(settings, None, false);
    let ask = |world: &mut World, count: u64, shift: f64| {
        for turn in 0..count {
            let rows = [(0..300).map(|_| world.numbers.normal() + shift).collect::<Vec<f64>>()];
            let kind = Kind { client: turn * 7 % CLIENTS, shift, status: 200 };
            world.send(kind, &rows, &features(&[], &rows));
        }
    };
    ask(&mut world, 3500, 0.0);
    let learned = world.frozen.as_ref().expect("a reference is learned");
    let names: Vec<&str> = learned.features().iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names.len(), 18, "sixteen projections, the length and the status: {names:?}");
    assert_eq!((names[0], names[16]), ("embedding[0]", "embedding_norm"));
    assert_eq!(world.changes(), [], "{:#?}", world.told);
    ask(&mut world, 2500, 0.5);
    let told = world.told.first().expect("it is told");
    let by_projection = told.features.iter().filter(|feature| feature.name.starts_with("embedding")).count();
    assert!(by_projection > 0, "{told:#?}");
}

#[test]
fn one_client_that_probes_never_pages_as_drift_without_being_named() {
    for share in [5, 3, 2] {
        let mut world = World::watched();
        world.honest(5000, 0.0);
        for turn in 0..6000 {
            let client = if turn % share == 0 { 777 } else { turn * 7 % CLIENTS };
            let shift = if client == 777 { 3.0 } else { 0.0 };
            world.exchange(Kind { client, shift, status: 200 });
        }
        assert!(!world.told.is_empty(), "one in {share} is seen");
        for record in &world.told {
            let named: Vec<&str> = record.attribution.named.iter().map(|named| named.who.as_str()).collect();
            assert_eq!(named, [asker(777).address.to_string()], "one in {share}: {record:#?}");
            assert!(record.explanation.contains(named[0]), "{}", record.explanation);
        }
        assert!(world.blocked.is_empty(), "drift blocks nobody, not even whoever is named");
        let alert = (asker(777).address.to_string(), Action::Alert);
        assert_eq!(world.clients, vec![alert; world.told.len()], "it is told of, in tier two");
    }
}

#[test]
fn honest_clients_alone_are_quiet_and_named_for_nothing() {
    let mut world = World::watched();
    world.honest(20_000, 0.0);
    assert_eq!(world.changes(), [], "{:#?}", world.told);
    let standing = world.engine.drift().unwrap();
    assert_eq!((standing.rows, standing.features.len()), (20_000, 6), "all rows and features are counted");
}

#[test]
fn a_reference_is_learned_from_whom_nothing_speaks_against() {
    let settings = Settings { warm_up_rows: 1000, ..Settings::default() };
    let mut world = World::new(settings, None, true);
    // A sweep: one field moved, the others still. It is blocked at its twelfth row.
    let base = row(&mut world.numbers, 0, 0.0);
    for step in 0..40 {
        let mut rows = [base.clone()];
        rows[0][2] = 1000.0 + f64::from(step);
        world.send(Kind { client: 888, shift: 0.0, status: 200 }, &rows, &features(&NAMES, &rows));
    }
    assert!(!world.blocked.is_empty(), "the sweep is found");
    world.honest(1100, 0.0);
    let frozen = world.frozen.as_ref().expect("a reference was learned");
    let names: Vec<&str> = frozen.features().iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, ["area", "rooms", "age", "income", "answer:price", "status"]);
    let age = &frozen.features()[2];
    let highest = age.bins.edge(age.bins.scale() - 1).unwrap();
    assert!(highest < 100.0, "no row of the sweep is in it: the highest age is {highest}");
    assert_eq!(world.engine.drift().unwrap().trust, Some(Trust::Provisional));
    world.honest(3000, 1.5);
    let first = world.told.first().expect("a learned reference shows a shift as well");
    assert!(first.reference.provisional && first.explanation.contains("provisional"), "{first:#?}");
}

#[test]
fn what_cannot_be_learned_from_leaves_no_row_and_failures_teach_their_status() {
    let mut world = World::new(Settings { warm_up_rows: 600, ..Settings::default() }, None, false);
    world.honest(200, 0.0);
    for turn in 0..100 {
        let rows = [row(&mut world.numbers, turn % CLIENTS, 0.0)];
        let question = features(&["w", "x", "y", "z"], &rows);
        world.send(Kind { client: turn % CLIENTS, shift: 0.0, status: 200 }, &rows, &question);
    }
    let learned = |world: &World| world.engine.drift().unwrap().learned;
    assert_eq!(learned(&world), 199, "all but the first, whose answer told the columns");
    for turn in 0..10 {
        world.exchange(Kind { client: turn, shift: 0.0, status: 503 });
    }
    assert_eq!(learned(&world), 209, "failures");
}

#[test]
fn one_or_two_clients_teach_no_reference() {
    let mut world = World::new(Settings { warm_up_rows: 600, ..Settings::default() }, None, false);
    for turn in 0..3000 {
        world.exchange(Kind { client: turn % 2, shift: 0.0, status: 200 });
    }
    assert!(world.frozen.is_none() && world.engine.drift().unwrap().trust.is_none());
}

#[test]
fn a_flood_of_one_client_counts_for_its_share() {
    let mut world = World::watched();
    for turn in 0..10_000 {
        let client = if turn % 10 == 0 { turn / 10 % CLIENTS } else { 777 };
        world.exchange(Kind { client, shift: 0.0, status: 200 });
    }
    let standing = world.engine.drift().unwrap();
    assert!(standing.counts.over_share > 8000, "{standing:?}");
    assert!(standing.rows < 1700, "the others' 1,000 rows and a share of the flood: {}", standing.rows);
}

#[test]
fn a_model_server_that_fails_is_drift_of_its_status() {
    let mut world = World::watched();
    world.honest(1000, 0.0);
    for turn in 0..2000 {
        let status = if turn % 4 == 0 { 503 } else { 200 };
        world.exchange(Kind { client: turn * 7 % CLIENTS, shift: 0.0, status });
    }
    let first = world.told.first().expect("it is told");
    assert_eq!(first.features[0].name, "status", "{first:#?}");
    assert_eq!(first.features.len(), 1, "failures say nothing of what was asked: {first:#?}");
}

#[test]
fn predictions_that_move_alone_are_told_by_their_name_and_columns_may_stand_in_any_order() {
    let mut world = World::watched();
    world.honest(1000, 0.0);
    for turn in 0..3000 {
        let asked = row(&mut world.numbers, turn % CLIENTS, 0.0);
        let shown = vec![asked[3], asked[2], asked[1], asked[0], 7.0];
        let question = features(&["income", "age", "rooms", "area", "junk"], &[shown]);
        // The model adds something to each price: it was exchanged.
        let priced = asked.iter().map(|value| value + 0.5).collect();
        world.send(Kind { client: turn * 7 % CLIENTS, shift: 0.0, status: 200 }, &[priced], &question);
    }
    let first = world.told.first().expect("it is told");
    let names: Vec<&str> = first.features.iter().map(|moved| moved.name.as_str()).collect();
    assert_eq!(names, ["answer:price"], "{first:#?}");
}

#[test]
fn questions_with_none_of_the_columns_are_counted_and_move_nothing() {
    let mut world = World::watched();
    for turn in 0..2000 {
        let rows = [row(&mut world.numbers, turn % CLIENTS, 9.0)];
        let question = features(&["w", "x", "y", "z"], &rows);
        world.send(
            Kind { client: turn % CLIENTS, shift: 0.0, status: 200 },
            &[rows[0][..1].to_vec()],
            &question,
        );
    }
    let standing = world.engine.drift().unwrap();
    assert_eq!(standing.counts.unknown, 2000, "{standing:?}");
    assert!(world.told.is_empty(), "{:#?}", world.told);
}

#[test]
fn a_column_that_is_no_longer_sent_is_told_as_missing() {
    let mut world = World::watched();
    world.honest(1000, 0.0);
    for turn in 0..2000 {
        let asked = row(&mut world.numbers, turn % CLIENTS, 0.0);
        let question = features(&["area", "rooms", "age"], &[asked[..3].to_vec()]);
        world.send(Kind { client: turn * 7 % CLIENTS, shift: 0.0, status: 200 }, &[asked], &question);
    }
    let first = world.told.first().expect("it is told");
    assert_eq!(first.features[0].name, "income", "{first:#?}");
    assert!(first.explanation.contains("missing"), "{}", first.explanation);
}

/// 2,000 calm exchanges, then 2,000 of which each has moved.
fn moving(world: &mut World, turns: std::ops::Range<u64>) {
    for turn in turns {
        let shift = if turn < 2000 { 0.0 } else { 1.0 };
        world.exchange(Kind { client: turn * 7 % CLIENTS, shift, status: 200 });
    }
}

#[test]
fn the_same_exchanges_give_the_same_records_and_a_snapshot_in_mid_stream_changes_nothing() {
    for reference in [trusted(), None] {
        let settings = Settings { warm_up_rows: 1500, ..Settings::default() };
        let fresh = || World::new(settings.clone(), reference.clone(), true);
        let mut whole = fresh();
        moving(&mut whole, 0..4000);
        assert!(!whole.told.is_empty(), "there is something to tell");
        for cut in [700, 1800, 2100, 3000] {
            let mut first = fresh();
            moving(&mut first, 0..cut);
            let mut second = fresh();
            second.engine.restore(&first.engine.save()).unwrap();
            (second.id, second.numbers) = (first.id, first.numbers.clone());
            moving(&mut second, cut..4000);
            let told: Vec<&DriftRecord> = first.told.iter().chain(&second.told).collect();
            assert_eq!(told, whole.told.iter().collect::<Vec<_>>(), "cut at {cut}");
            let standing = (second.engine.drift(), whole.engine.drift());
            assert_eq!(standing.0, standing.1, "cut at {cut}: the same evidence at the end");
        }
    }
}

/// An engine that another process starts, with what it keeps of drift over a restart and with nothing else.
fn restarted(before: &World, settings: &Settings) -> World {
    let reference = before.engine.drift_rooms().unwrap().room(None).unwrap().frozen().cloned();
    let mut after = World::new(settings.clone(), reference, false);
    after.engine.restore_drift(&before.engine.drift_rooms().unwrap().save(false)).unwrap();
    (after.id, after.numbers) = (before.id, before.numbers.clone());
    after
}

/// What is told, but for its id, which another process numbers anew.
fn changed(world: &World) -> Vec<(Change, Time, u64, f64, Vec<String>)> {
    let names = |record: &DriftRecord| record.features.iter().map(|moved| moved.name.clone()).collect();
    let of = |record: &DriftRecord| (record.change, record.time, record.rows, record.evidence, names(record));
    world.told.iter().map(of).collect()
}

#[test]
fn a_restart_in_mid_stream_changes_no_alarm() {
    for reference in [trusted(), None] {
        let settings = Settings { warm_up_rows: 1500, ..Settings::default() };
        let mut whole = World::new(settings.clone(), reference.clone(), false);
        moving(&mut whole, 0..4000);
        assert!(!whole.told.is_empty(), "there is something to tell");
        // A warm-up goes on as well, but which rows are too odd to be learned is known to memories that a restart loses.
        let cuts: &[u64] = if reference.is_some() { &[700, 1800, 2100, 3000] } else { &[1800, 2100, 3000] };
        for &cut in cuts {
            let mut first = World::new(settings.clone(), reference.clone(), false);
            moving(&mut first, 0..cut);
            let mut second = restarted(&first, &settings);
            assert_eq!(second.engine.drift(), first.engine.drift(), "cut at {cut}: nothing is lost");
            moving(&mut second, cut..4000);
            let told = [changed(&first), changed(&second)].concat();
            assert_eq!(told, changed(&whole), "cut at {cut}");
            assert_eq!(second.engine.drift(), whole.engine.drift(), "cut at {cut}: the same evidence");
        }
    }
}

/// 1,000 calm exchanges, 2,000 that have moved, and calm ones until the window of the gauges holds no other.
fn moving_and_back(world: &mut World, turns: std::ops::Range<u64>) {
    for turn in turns {
        let shift = if (1000..3000).contains(&turn) { 1.5 } else { 0.0 };
        world.exchange(Kind { client: turn * 7 % CLIENTS, shift, status: 200 });
    }
}

#[test]
fn a_rule_on_a_gauge_is_told_when_it_is_met_and_when_it_is_over_and_nobody_is_blocked_for_it() {
    let rule = |when: &str, events_min| GaugeRule {
        when: when.into(),
        feature: Some("area".into()),
        severity: Severity::Medium,
        events_min,
    };
    let rules = vec![rule("psi > 0.3 for 30s", 100), rule("ks > 0.01", 1_000_000), rule("kl < 0", 100)];
    let settings = Settings { rules, ..Settings::default() };
    let mut whole = World::new(settings.clone(), trusted(), false);
    moving_and_back(&mut whole, 0..22_000);
    let ruled: Vec<&DriftRecord> = whole.told.iter().filter(|record| record.rule.is_some()).collect();
    let changes: Vec<Change> = ruled.iter().map(|record| record.change).collect();
    assert_eq!(changes, [Change::Met, Change::Unmet], "{ruled:#?}");
    let met = ruled[0];
    let began = 1_800_000_000_000_000 + 1000 * 100_000;
    assert!(met.time.0 >= began + 30_000_000 && met.time.0 < began + 200_000_000, "{met:#?}");
    assert!(met.evidence > 0.3 && met.threshold == 0.3 && met.features[0].name == "area", "{met:#?}");
    let line = serde_json::to_value(met).unwrap();
    assert_eq!((&line["change"], &line["layer"]), (&"rule_met".into(), &"gauge".into()), "{line:#}");
    assert_eq!(line["rule"]["severity"], "medium", "{line:#}");
    assert!(met.explanation.contains("psi > 0.3 for 30s") && met.explanation.contains("Nobody is blocked"));
    assert!(whole.blocked.is_empty() && whole.clients.is_empty());
    for cut in [900, 1500, 3100] {
        let mut first = World::new(settings.clone(), trusted(), false);
        moving_and_back(&mut first, 0..cut);
        let mut second = restarted(&first, &settings);
        moving_and_back(&mut second, cut..4000);
        let told = [changed(&first), changed(&second)].concat();
        let expected: Vec<_> = changed(&whole).into_iter().filter(|told| told.2 <= 4000).collect();
        assert_eq!(told, expected, "cut at {cut}: how long it has held is remembered");
    }
}

#[test]
fn a_restart_in_a_warm_up_loses_no_row_that_was_learned() {
    let settings = Settings { warm_up_rows: 1500, ..Settings::default() };
    let mut first = World::new(settings.clone(), None, false);
    moving(&mut first, 0..700);
    let mut second = restarted(&first, &settings);
    let learned = |world: &World| world.engine.drift().unwrap().learned;
    assert!(learned(&first) > 600 && learned(&second) == learned(&first));
    moving(&mut second, 700..4000);
    assert!(second.frozen.is_some(), "it goes on to a reference");
    assert!(second.changes().contains(&Change::Drift), "and sees the shift: {:#?}", second.told);
}

#[test]
fn a_wide_model_is_looked_at_at_the_same_rows_after_a_restart_or_a_hand_over() {
    let names: Vec<String> = (0..80).map(|column| format!("c{column}")).collect();
    let columns = names.iter().map(|name| Column {
        name: name.clone(),
        values: (0..2000_u32).map(|row| Value::Number(f64::from(row % 97))).collect(),
    });
    let table = Table { columns: columns.collect(), times: Vec::new() };
    let reference = DriftReference::of(&table, &reference::Settings::default()).unwrap();
    let frozen = Some(Frozen { trust: Trust::Trusted, reference });
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let drive = |world: &mut World, turns: std::ops::Range<u64>| {
        for turn in turns {
            let rows = [vec![(turn * 31 % 140) as f64; 80]];
            let kind = Kind { client: turn * 7 % CLIENTS, shift: 0.0, status: 200 };
            world.send(kind, &rows, &features(&names, &rows));
        }
    };
    let fresh = || World::new(Settings::default(), frozen.clone(), false);
    let mut whole = fresh();
    drive(&mut whole, 0..1200);
    assert!(!whole.told.is_empty(), "there is something to tell");
    for cut in [100, 333, 600] {
        let mut first = fresh();
        drive(&mut first, 0..cut);
        let mut second = restarted(&first, &Settings::default());
        let mut taken = fresh();
        taken.engine.restore(&first.engine.save()).unwrap();
        (taken.id, taken.numbers) = (first.id, first.numbers.clone());
        for (world, by) in [(&mut second, "restart"), (&mut taken, "hand-over")] {
            drive(world, cut..1200);
            assert_eq!([changed(&first), changed(world)].concat(), changed(&whole), "{by} at {cut}");
        }
    }
}

#[test]
fn what_was_remembered_under_another_reference_or_by_another_version_is_refused_and_harms_nothing() {
    let mut before = World::watched();
    before.honest(1000, 0.0);
    let saved = before.engine.drift_rooms().unwrap().save(false);
    let frozen = Frozen { trust: Trust::Trusted, reference: reference(6000) };
    let mut other = World::new(Settings::default(), Some(frozen), false);
    assert_eq!(other.engine.restore_drift(&saved), Err(SavedError::OtherReference));
    let mut learning = World::new(Settings::default(), None, false);
    assert_eq!(learning.engine.restore_drift(&saved), Err(SavedError::OtherReference), "it was removed");
    let mut taught = World::new(Settings { warm_up_rows: 600, ..Settings::default() }, None, false);
    taught.honest(900, 0.0);
    let mut discovered = World::new(Settings::default(), None, false);
    discovered.engine.restore_drift(&taught.engine.drift_rooms().unwrap().save(true)).unwrap();
    assert_eq!(discovered.engine.drift(), taught.engine.drift(), "with the reference that it learned");
    let mut same = World::watched();
    let later = [&[9][..], &saved[1..]].concat();
    assert_eq!(same.engine.restore_drift(&later), Err(SavedError::Version(9)));
    for length in (0..saved.len()).step_by(97) {
        assert!(same.engine.restore_drift(&saved[..length]).is_err(), "cut at {length}");
    }
    assert_eq!(same.engine.drift().unwrap().rows, 0, "what is refused changes nothing");
    same.honest(100, 0.0);
    assert_eq!(same.engine.drift().unwrap().rows, 100);
}

#[test]
fn other_settings_keep_the_watch_and_another_reference_begins_one() {
    let mut world = World::watched();
    world.honest(1000, 0.0);
    let calmer = Settings { cool_down_rows: 9, ..Settings::default() };
    let mut other = World::new(calmer, trusted(), false);
    other.engine.restore(&world.engine.save()).unwrap();
    assert_eq!(other.engine.drift().unwrap().rows, 1000, "the same reference");
    let frozen = Frozen { trust: Trust::Trusted, reference: reference(6000) };
    let mut anew = World::new(Settings::default(), Some(frozen), false);
    anew.engine.restore(&world.engine.save()).unwrap();
    assert_eq!(anew.engine.drift().unwrap().rows, 0, "another reference");
    let leave = Settings { leave_out: vec!["age".into()], ..Settings::default() };
    let mut fewer = World::new(leave, trusted(), false);
    fewer.honest(300, 0.0);
    let names: Vec<String> = fewer.engine.drift().unwrap().features.into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["area", "rooms", "income", "answer:price", "status"]);
}

#[test]
fn what_is_remembered_of_drift_is_bounded() {
    let mut world = World::watched();
    let mut without = World { engine: engine(None, false), ..World::watched() };
    let mut sizes = Vec::new();
    for turn in 0..20_000 {
        let kind = Kind { client: turn % 900, shift: 0.0, status: 200 };
        world.exchange(kind);
        without.exchange(kind);
        if turn % 5000 == 4999 {
            sizes.push(world.engine.save().len() - without.engine.save().len());
        }
    }
    assert!(sizes.iter().all(|bytes| *bytes < 400_000), "its memory does not grow with the rows: {sizes:?}");
    assert!(sizes[3] < sizes[1] + 4096, "its memory does not grow with the rows: {sizes:?}");
}

#[test]
fn a_feature_that_comes_once_in_an_exchange_of_many_rows_neither_drifts_nor_keeps_a_drift_from_its_end() {
    let mut world = World::new(Settings { cool_down_rows: 500, ..Settings::default() }, trusted(), false);
    for turn in 0..700_u64 {
        let client = turn * 7 % CLIENTS;
        let shift = if (100..200).contains(&turn) { 1.5 } else { 0.0 };
        let rows: Vec<Vec<f64>> = (0..10).map(|_| row(&mut world.numbers, client, shift)).collect();
        world.send(Kind { client, shift, status: 200 }, &rows, &features(&NAMES, &rows));
    }
    assert_eq!(world.changes(), [Change::Drift, Change::Over], "{:#?}", world.told);
    assert!(
        world.told[0].attribution.named.is_empty(),
        "whoever came first is not to blame: {:#?}",
        world.told
    );
    let standing = world.engine.drift().unwrap();
    let status = standing.features.iter().find(|feature| feature.name == "status").unwrap();
    assert!(status.effect < 0.02, "{status:?}");
}

/// Rows of a client that varies one field and leaves the others as they are, each followed by `honest` rows of others.
fn sweep(world: &mut World, client: u64, rows: u64, honest: u64) {
    for step in 0..rows {
        let probe = [vec![0.31, step as f64 * 0.05 - 1.0, -0.62, 0.13]];
        world.send(Kind { client, shift: 0.0, status: 200 }, &probe, &features(&NAMES, &probe));
        world.honest(honest, 0.0);
    }
}

/// What was told of a drift and does not name `client`.
fn nameless(world: &World, client: u64) -> Vec<String> {
    let who = asker(client).address.to_string();
    let names = |record: &DriftRecord| {
        let Behind { systemic, named, most } = &record.attribution;
        let most = most.iter().map(|most| &most.who);
        !systemic && named.iter().map(|named| &named.who).chain(most).any(|name| name.contains(&who))
    };
    let told = world.told.iter().filter(|record| matches!(record.change, Change::Warning | Change::Drift));
    told.filter(|record| !names(record)).map(|record| record.explanation.clone()).collect()
}

#[test]
fn one_clients_sweep_is_never_told_as_a_drift_that_does_not_name_it() {
    for (rows, honest) in
        [(12, 0), (24, 0), (60, 0), (240, 0), (24, 1), (60, 1), (120, 3), (400, 3), (300, 9)]
    {
        let mut world = World::watched();
        world.honest(3000, 0.0);
        sweep(&mut world, 900, rows, honest);
        world.honest(1500, 0.0);
        let nameless = nameless(&world, 900);
        assert!(nameless.is_empty(), "{rows} rows, each among {honest} others: {nameless:#?}");
    }
}

#[test]
fn a_client_that_is_the_whole_traffic_is_named_with_what_it_brings() {
    let mut world = World::watched();
    let alone = |world: &mut World| {
        (0..600).for_each(|_| world.exchange(Kind { client: 900, shift: 0.0, status: 200 }));
    };
    alone(&mut world);
    sweep(&mut world, 900, 60, 0);
    alone(&mut world);
    assert_eq!(nameless(&world, 900), Vec::<String>::new());
    assert!(!world.told.is_empty(), "what repeats is told where there is nobody else to bring it");
}

#[test]
fn a_default_that_is_stuck_for_everybody_is_told_and_names_nobody() {
    let mut world = World::watched();
    world.honest(3000, 0.0);
    for turn in 0..1500_u64 {
        let client = turn * 7 % CLIENTS;
        let mut asked = row(&mut world.numbers, client, 0.0);
        if turn % 50 == 7 {
            asked[2] = 0.25;
        }
        let asked = [asked];
        world.send(Kind { client, shift: 0.0, status: 200 }, &asked, &features(&NAMES, &asked));
        if !world.told.is_empty() {
            break;
        }
    }
    let record = world.told.first().expect("a value that comes again and again is told");
    assert!(record.rows < 3000 + 1100, "soon: after {} rows", record.rows);
    assert_eq!(record.features[0].by, Some(Derived::Repeats), "{}", record.explanation);
    assert!(record.attribution.named.is_empty(), "nobody is behind it: {}", record.explanation);
}

#[test]
fn one_clients_few_odd_rows_are_never_told_as_a_drift_that_does_not_name_it() {
    let odd: [(&str, [f64; 4]); 4] = [
        ("far outside", [1000.0, 0.1, 0.2, 0.3]),
        ("at the edge of everything", [2.9, 2.9, -2.9, 2.9]),
        ("missing", [f64::NAN, 0.1, -0.3, 0.5]),
        ("the same place in all", [0.5, 0.5, 0.5, 0.5]),
    ];
    for (what, values) in odd {
        for (rows, honest) in [(4, 0), (12, 0), (40, 0), (40, 1), (60, 3), (100, 9)] {
            let mut world = World::watched();
            world.honest(3000, 0.0);
            for step in 0..rows {
                let probe = [values.map(|value| value + f64::from(step) * 1e-6).to_vec()];
                world.send(Kind { client: 900, shift: 0.0, status: 200 }, &probe, &features(&NAMES, &probe));
                world.honest(honest, 0.0);
            }
            world.honest(1500, 0.0);
            let nameless = nameless(&world, 900);
            assert!(nameless.is_empty(), "{what}, {rows} rows, each among {honest} others: {nameless:#?}");
        }
    }
}

#[test]
fn where_everybody_moves_nobody_is_named_whoever_sends_in_bursts_and_whoever_grows() {
    for burst in [1, 5, 20, 40] {
        let mut world = World::watched();
        world.honest(4000, 0.0);
        for turn in 0..3000_u64 {
            world.exchange(Kind { client: turn / burst * 7 % CLIENTS, shift: 0.4, status: 200 });
        }
        let named: Vec<&str> =
            world.told.iter().flat_map(|told| &told.attribution.named).map(|named| &*named.who).collect();
        assert!(!world.told.is_empty() && named.is_empty(), "in bursts of {burst}: {named:?}");
    }
    // Client 6 has habits of its own, and always had them.
    let mut world = World::watched();
    world.honest(5000, 0.0);
    for turn in 0..6000_u64 {
        let client = if turn % 4 == 0 { 6 } else { turn * 7 % CLIENTS };
        world.exchange(Kind { client, shift: 0.0, status: 200 });
    }
    let named = world.told.iter().filter(|told| !told.attribution.named.is_empty()).count();
    assert_eq!(named, 0, "{:#?}", world.told);
}

/// A model of which version 2 is a canary with a reference of its own, by which the first field lies one higher.
fn with_canary() -> World {
    let mut world = World::watched();
    let canary = Frozen { trust: Trust::Trusted, reference: moved_reference(10_000, 1.0) };
    let versions = vec![(Arc::from("2"), Some(canary))];
    let drift = Drift { settings: Settings::default(), reference: trusted(), versions };
    world.engine = engine(Some(drift), false);
    world
}

/// Every tenth row is version 2's, moved by `canary`, the others are version 1's, moved by `main`.
fn split(world: &mut World, rows: u64, by_path: bool, [main, canary]: [f64; 2]) {
    for turn in 0..rows {
        let (version, shift) = if turn % 10 == 0 { ("2", canary) } else { ("1", main) };
        world.versions = if by_path { [version, ""] } else { ["", version] };
        world.exchange(Kind { client: turn / 10 * 7 % CLIENTS, shift, status: 200 });
    }
}

#[test]
fn a_version_that_is_named_has_a_reference_of_its_own_and_others_share_the_models() {
    for by_path in [true, false] {
        let mut world = with_canary();
        split(&mut world, 10_000, by_path, [0.0, 1.0]);
        assert_eq!(world.changes(), [], "each is as its reference, by path {by_path}: {:#?}", world.told);
        let own = world.engine.drift().unwrap();
        let canary: Vec<(String, u64)> = world
            .engine
            .drift_of_versions()
            .map(|(name, standing)| (name.to_owned(), standing.rows))
            .collect();
        assert_eq!((own.rows, own.other_versions), (9000, 9000), "version 1 shares the model's room");
        assert_eq!(canary, [("2".to_owned(), 1000)]);
        split(&mut world, 10_000, by_path, [0.0, 2.0]);
        let first = world.told.first().expect("the canary moved");
        assert!(world.told.iter().all(|told| told.version.as_deref() == Some("2")), "{:#?}", world.told);
        assert!(first.explanation.contains("homes in version 2"), "{}", first.explanation);
        split(&mut world, 3000, by_path, [1.0, 2.0]);
        let last = world.told.last().unwrap();
        assert_eq!((last.version.as_deref(), last.change), (None, Change::Drift), "then the others did");
    }
}

#[test]
fn a_window_teaches_the_model_nothing_of_a_version_that_is_watched_apart() {
    for by_path in [true, false] {
        let mut world = exchanged_beside(1500, vec![(Arc::from("2"), None)]);
        split(&mut world, 1600, by_path, [0.0, 3.0]);
        let [taught] = &world.taught[..] else { panic!("{:?}", world.taught) };
        assert!((1340..=1350).contains(&taught.drift_rows), "nine in ten, by path {by_path}: {taught:?}");
        let (_, version) = world.engine.drift_of_versions().next().unwrap();
        assert!(version.rows == 0 && version.trust.is_none(), "it rests meanwhile: {version:?}");
    }
}

#[test]
fn a_version_goes_on_over_a_restart_and_one_without_a_reference_learns_one_that_stays_with_it() {
    let versions = || vec![(Arc::from("2"), None)];
    let settings = Settings { warm_up_rows: 600, ..Settings::default() };
    let drift = || Some(Drift { settings: settings.clone(), reference: trusted(), versions: versions() });
    let mut world = World::watched();
    world.engine = engine(drift(), false);
    split(&mut world, 9000, false, [0.0, 1.0]);
    assert_eq!(world.frozen, None, "the model has its own");
    let rows = |engine: &Engine| engine.drift_of_versions().map(|(_, standing)| standing).next().unwrap();
    let before = rows(&world.engine);
    assert!(
        before.trust == Some(Trust::Provisional) && before.rows > 200,
        "it learned, and watches: {before:?}"
    );
    let bytes = world.engine.drift_rooms().unwrap().save(false);
    let mut after = engine(drift(), false);
    after.restore_drift(&bytes).unwrap();
    assert_eq!(rows(&after), before);
    assert_eq!(after.drift().map(|own| own.rows), world.engine.drift().map(|own| own.rows));
    let mut reloaded = engine(drift(), false);
    reloaded.inherit(world.engine).unwrap();
    assert_eq!(rows(&reloaded), before, "a reload keeps it, too");
    // A version that is no longer named is forgotten.
    let without = Some(Drift { settings, reference: trusted(), versions: Vec::new() });
    let mut without = engine(without, false);
    without.inherit(reloaded).unwrap();
    assert_eq!(without.drift_of_versions().count(), 0);
}

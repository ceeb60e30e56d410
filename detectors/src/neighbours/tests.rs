//! What is told of rows, and that memory stays within its bounds.

use proptest::prelude::*;

use super::*;
use crate::facts::Cell;
use crate::hashing::Hashing;
use crate::identity::Identity;
use crate::lines::Origin;
use crate::reference::Trust;
use crate::seen::Seen;

/// Rows on a grid of 20 x 20 points that lie one apart.
fn grid() -> Reference {
    let mut text = r#"{"features":["a","b"]}"#.to_owned();
    for row in 0..400 {
        text.push_str(&format!("\n{{\"x\":[{},{}],\"p\":[0]}}", row % 20, row / 20));
    }
    Reference::from_json_lines(&text, Trust::Trusted).unwrap()
}

struct Bench {
    reference: Reference,
    seen: Seen,
    neighbours: Neighbours,
    requests: u64,
}

impl Bench {
    fn new() -> Self {
        Self { reference: grid(), seen: Seen::default(), neighbours: Neighbours::default(), requests: 0 }
    }

    fn ask(&mut self, client: ClientIndex, rows: &[[f64; 2]]) {
        let hashing = Hashing::new([1, 2]);
        let cells = rows.iter().flatten().map(|value| Cell::Number(*value)).collect();
        let question = Features { width: 2, cells, ..Features::default() };
        let mut columns = Columns::default();
        columns.look_at(&hashing, &question, Some(&self.reference));
        let origin = Origin { request: self.requests, time: crate::facts::Time(self.requests) };
        self.requests += 1;
        let salt = hashing.salt(Identity::Key(client as u64));
        self.seen.take(&hashing, client, salt, origin, &question, &columns);
        let place = Place { client, question: &question, columns: &columns };
        self.neighbours.take(place, self.seen.rows(), Some(&self.reference));
    }

    /// Ten steps away from a point, each a thousandth of the grid's.
    fn crowd(&mut self, client: ClientIndex, around: [f64; 2]) {
        let [a, b] = around;
        (1..=10).for_each(|step| self.ask(client, &[[a + f64::from(step) / 1000.0, b]]));
    }

    fn tenth_own(&self) -> Option<f64> {
        self.neighbours.of(0).and_then(Neighbourhood::tenth_own)
    }
}

#[test]
fn the_tenth_nearest_is_told_from_the_eleventh_row_on() {
    let mut bench = Bench::new();
    bench.crowd(1, [3.3, 4.4]);
    assert_eq!(bench.tenth_own(), None, "there are nine others");
    bench.ask(1, &[[3.3, 4.4]]);
    let ratio = bench.tenth_own().unwrap();
    // On the grid the tenth nearest lies 2 apart, in a corner farther; ten thousandths away is a two hundredth of that.
    assert!((0.0045..=0.0055).contains(&ratio), "{ratio}");
    bench.ask(1, &[[13.3, 4.4]]);
    assert_eq!(bench.tenth_own(), None, "far from all others");
}

#[test]
fn rows_of_one_question_are_neighbours_as_well() {
    let mut bench = Bench::new();
    let rows: Vec<[f64; 2]> = (0..11).map(|step| [3.3 + f64::from(step) / 1000.0, 4.4]).collect();
    bench.ask(1, &rows);
    assert_eq!(bench.tenth_own(), None);
    assert!(bench.neighbours.of(10).and_then(Neighbourhood::tenth_own).is_some());
}

#[test]
fn nobody_is_framed_by_near_copies_of_his_rows() {
    let mut bench = Bench::new();
    bench.crowd(1, [3.3, 4.4]);
    bench.crowd(2, [3.3, 4.4001]);
    bench.ask(3, &[[3.3, 4.4]]);
    let found = bench.neighbours.of(0).unwrap();
    assert!(found.own.is_empty(), "{found:?}");
    assert_eq!(found.others.len(), 2 * OTHERS_PER_CLIENT, "but that others are there is told");
    assert!(!found.is_crowded(), "two others alone make no crowd");
    assert!(found.others.iter().all(|other| other.client != 3 && other.ratio < 0.01), "{found:?}");
}

#[test]
fn a_flood_of_others_takes_nothing_from_a_slow_client() {
    let mut alone = Bench::new();
    alone.crowd(1, [3.3, 4.4]);
    alone.ask(1, &[[3.3, 4.4]]);
    let mut flooded = Bench::new();
    flooded.crowd(1, [3.3, 4.4]);
    for row in 0..2000_u32 {
        let flood = [f64::from(row % 97) / 5.0, f64::from(row / 97) / 3.0];
        flooded.ask(2 + row as usize % 7, &[flood]);
    }
    flooded.ask(1, &[[3.3, 4.4]]);
    assert_eq!(flooded.tenth_own(), alone.tenth_own());
}

#[test]
fn marked_rows_outlive_a_clients_own_window() {
    let mut bench = Bench::new();
    (1..=10).for_each(|step| {
        bench.ask(1, &[[3.3 + f64::from(step) / 1000.0, 4.4]]);
        bench.neighbours.mark(0);
    });
    for row in 0..OWN_ROWS_PER_CLIENT as u32 {
        bench.ask(1, &[[f64::from(row % 31) / 2.0, 8.0 + f64::from(row / 31) / 3.0]]);
    }
    bench.ask(1, &[[3.3, 4.4]]);
    assert!(bench.tenth_own().is_some(), "the ten rows have left the window of a thousand");
}

#[test]
fn rows_are_company_from_the_fifth_near_row_on_and_those_of_others_do_not_count() {
    let mut bench = Bench::new();
    let company = |bench: &Bench, client| bench.neighbours.own.of(client).map_or(0, Packed::company);
    bench.ask(1, &[[15.0, 15.0]]);
    (1..=COMPANY_MIN).for_each(|step| bench.ask(1, &[[3.3 + step as f64 / 1000.0, 4.4]]));
    (1..=20).for_each(|step| bench.ask(2, &[[3.3 + f64::from(step) / 5000.0, 4.4]]));
    assert_eq!(company(&bench, 1), 0, "five rows of its own lie close together, none has five others");
    bench.ask(1, &[[3.3, 4.4]]);
    assert_eq!(company(&bench, 1), COMPANY_MIN + 1, "it and the five; the row that lies apart is none");
    bench.ask(1, &[[16.0, 15.0]]);
    assert_eq!(company(&bench, 1), COMPANY_MIN + 1);
    bench.neighbours.mark(0);
    assert_eq!(bench.neighbours.suspects.of(1).map(Packed::company), Some(0));
    bench.ask(1, &[[3.3, 4.4001]]);
    bench.neighbours.mark(0);
    assert_eq!(
        bench.neighbours.suspects.of(1).map(Packed::company),
        Some(1),
        "a marked row stays what it is"
    );
}

#[test]
fn a_marked_row_counts_after_its_turn_among_the_clients_rows_is_over() {
    let mut bench = Bench::new();
    bench.ask(1, &[[15.0, 15.0]]);
    (1..=10).for_each(|step| {
        bench.ask(1, &[[3.3 + f64::from(step) / 1000.0, 4.4]]);
        bench.neighbours.mark(0);
    });
    // Rows between the oldest and the latest go.
    for _ in 0..5 {
        bench.neighbours.own.drop_oldest_of(1, true);
    }
    bench.ask(1, &[[3.311, 4.4]]);
    assert!(bench.tenth_own().is_some(), "the five are remembered as marked");
    let around = bench.neighbours.around(0, &bench.reference, 0.4).unwrap();
    assert!(around.goes_one_way() && around.most() == 1, "all ten, in the order in which they were asked");
}

#[test]
fn one_client_fills_its_quota_of_suspects_only() {
    let mut bench = Bench::new();
    bench.ask(1, &[[3.3, 4.4]]);
    bench.neighbours.mark(0);
    for row in 0..10_000_u32 {
        bench.ask(2, &[[f64::from(row % 101) / 7.0, f64::from(row / 101) / 7.0]]);
        bench.neighbours.mark(0);
    }
    assert_eq!(bench.neighbours.suspects.len(), SUSPECT_ROWS_PER_CLIENT + 1);
    assert!(bench.neighbours.suspects.of(1).is_some_and(|rows| rows.len() == 1));
}

#[test]
fn a_step_is_told_from_the_nearest_own_row() {
    let mut bench = Bench::new();
    bench.ask(1, &[[3.0, 4.0]]);
    assert_eq!(bench.neighbours.step(0), None, "there is no earlier row");
    bench.ask(1, &[[15.0, 4.0]]);
    bench.ask(1, &[[3.5, 4.0]]);
    let (before, now) = bench.neighbours.step(0).unwrap();
    let moved: Vec<bool> = before.iter().zip(now).map(|(before, now)| before != now).collect();
    assert_eq!(moved, [true, false]);
}

#[test]
fn rows_with_gaps_and_other_references_are_not_measured() {
    let mut bench = Bench::new();
    bench.crowd(1, [3.3, 4.4]);
    bench.ask(1, &[[f64::NAN, 4.4]]);
    assert_eq!(bench.tenth_own(), None);
    let mut text = r#"{"features":["a","b"]}"#.to_owned();
    (0..400).for_each(|row| text.push_str(&format!("\n{{\"x\":[{},{}],\"p\":[0]}}", row % 20 * 2, row / 20)));
    bench.reference = Reference::from_json_lines(&text, Trust::Trusted).unwrap();
    bench.ask(1, &[[3.3, 4.4]]);
    assert_eq!((bench.tenth_own(), bench.neighbours.held_and_evicted()), (None, (2, 0)));
}

#[test]
fn a_snapshot_goes_on_alike() {
    let mut bench = Bench::new();
    for row in 0..3000_u32 {
        bench.ask(
            row as usize % 3,
            &[[f64::from(row % 13), f64::from(row % 29) / 9.0 + f64::from(row) / 1e4]],
        );
        if row % 5 == 0 {
            bench.neighbours.mark(0);
        }
    }
    let bytes = postcard::to_stdvec(&bench.neighbours).unwrap();
    let mut restored: Neighbours = postcard::from_bytes(&bytes).unwrap();
    std::mem::swap(&mut bench.neighbours, &mut restored);
    bench.ask(1, &[[3.0, 1.0]]);
    let after = bench.neighbours.of(0).cloned();
    let hashing = Hashing::new([1, 2]);
    let question =
        Features { width: 2, cells: vec![Cell::Number(3.0), Cell::Number(1.0)], ..Features::default() };
    let mut columns = Columns::default();
    columns.look_at(&hashing, &question, Some(&bench.reference));
    restored.take(
        Place { client: 1, question: &question, columns: &columns },
        bench.seen.rows(),
        Some(&bench.reference),
    );
    assert_eq!(restored.of(0).cloned(), after);
}

#[test]
fn rows_of_a_client_are_counted_from_one_to_another() {
    let mut bench = Bench::new();
    bench.ask(1, &[[3.0, 4.0]]);
    let first = bench.neighbours.first_row();
    bench.ask(2, &[[1.0, 1.0], [2.0, 2.0]]);
    bench.ask(1, &[[5.0, 4.0], [6.0, 4.0]]);
    let last = bench.neighbours.first_row() + 1;
    assert_eq!(bench.neighbours.rows_between(1, first, last), 2, "the rows of others left out");
    assert_eq!(bench.neighbours.rows_between(3, first, last), 0);
    bench.ask(1, &[[7.0, 4.0]]);
    bench.neighbours.own.keep_company(1, &[first]);
    bench.neighbours.own.drop_oldest_of(1, false);
    let latest = bench.neighbours.first_row();
    assert_eq!(
        bench.neighbours.rows_between(1, first, latest),
        3,
        "one that was dropped was asked all the same"
    );
    assert_eq!(bench.neighbours.rows_between(1, latest, first), 0);
}

/// A row of the grid's reference.
fn scaled(reference: &Reference, id: RowId, row: [f64; 2]) -> Scaled {
    let question = Features { width: 2, cells: row.map(Cell::Number).to_vec(), ..Features::default() };
    let mut scaled = Scaled::default();
    scaled.id = id;
    assert!(scaled.fill(reference.geometry().unwrap(), &question, 0, &[0, 1]), "it can be measured");
    scaled
}

/// Room for 12 rows, five of one client.
fn store() -> Store {
    Store::new(2, Quota { rows: 12, rows_per_client: 5 })
}

fn ids(store: &Store, client: ClientIndex) -> Vec<RowId> {
    let rows = store.of(client);
    rows.map(|rows| (0..rows.len()).filter_map(|place| Some(rows.at(place)?.0)).collect()).unwrap_or_default()
}

#[test]
fn company_is_remembered_however_many_clients_ask_about_other_things() {
    let reference = grid();
    let mut store = store();
    for id in 0..5 {
        store.insert(0, &scaled(&reference, id, [3.3, 4.4]));
    }
    store.keep_company(0, &[2, 3, 4]);
    for id in 5..5000 {
        store.insert(id as ClientIndex, &scaled(&reference, id, [1.0, 1.0]));
    }
    assert_eq!(ids(&store, 0), [1, 2, 3, 4], "of rows that lie apart one is left, as of those of others");
    assert_eq!(store.len(), 12);
}

#[test]
fn company_of_many_leaves_half_of_the_room_to_others() {
    let reference = grid();
    let mut store = store();
    for id in 0..3 {
        store.insert(0, &scaled(&reference, id, [3.3, 4.4]));
    }
    store.keep_company(0, &[1]);
    for id in 3..5000 {
        let client = 1 + id as ClientIndex % 100;
        store.insert(client, &scaled(&reference, id, [1.0, 1.0]));
        store.keep_company(client, &[id]);
    }
    assert_eq!(ids(&store, 0), [0, 1, 2], "who holds little keeps it, of either kind");
    assert!(store.of(0).is_some_and(|rows| rows.company() == 1));
}

#[test]
fn company_costs_no_bytes() {
    assert!(size_of::<Packed>() <= 112, "{}", size_of::<Packed>());
    assert_eq!(Packed::row_bytes(16), 16 + 16 * 4 + 16, "a byte and a number to a column, and who and which");
}

/// Which rows are held, as the top of the store tells it: client, row, whether it is company.
type Held = Vec<(ClientIndex, RowId, bool)>;

fn count(held: &Held, client: ClientIndex, company: bool) -> usize {
    held.iter().filter(|(of, _, is)| *of == client && *is == company).count()
}

fn drop_one(held: &mut Held, company: bool) {
    let most = (0..6).max_by_key(|client| (count(held, *client, company), *client));
    let place = held.iter().position(|(of, _, is)| Some(*of) == most && *is == company);
    place.map(|place| held.remove(place));
}

fn insert_plainly(held: &mut Held, client: ClientIndex, id: RowId) {
    held.push((client, id, false));
    if held.iter().filter(|(of, ..)| *of == client).count() > 5 {
        held.iter().position(|(of, ..)| *of == client).map(|place| held.remove(place));
    } else if held.len() > 12 {
        drop_one(held, false);
    }
}

fn keep_company_plainly(held: &mut Held, client: ClientIndex, ids: &[RowId]) {
    let own = held.iter_mut().filter(|(of, id, _)| *of == client && ids.contains(id));
    own.for_each(|(.., company)| *company = true);
    while held.iter().filter(|(.., company)| *company).count() > 6 {
        drop_one(held, true);
    }
}

proptest! {
    #[test]
    fn who_loses_is_whom_the_rules_name(steps in prop::collection::vec((0..6_usize, 0..8_u8), 0..120)) {
        let reference = grid();
        let (mut store, mut held) = (store(), Held::new());
        for (id, (client, what)) in steps.into_iter().enumerate() {
            let own = ids(&store, client);
            match what {
                0 => {
                    store.forget(client);
                    held.retain(|(of, ..)| *of != client);
                }
                1 | 2 => {
                    let some: Vec<RowId> = own.into_iter().skip(usize::from(what) - 1).take(2).collect();
                    store.keep_company(client, &some);
                    keep_company_plainly(&mut held, client, &some);
                }
                _ => {
                    store.insert(client, &scaled(&reference, id as RowId, [id as f64, 1.0]));
                    insert_plainly(&mut held, client, id as RowId);
                }
            }
            for other in 0..6 {
                let of = |(of, id, _): &(ClientIndex, RowId, bool)| (*of == other).then_some(*id);
                prop_assert_eq!(ids(&store, other), held.iter().filter_map(of).collect::<Vec<_>>());
                let company = store.of(other).map_or(0, Packed::company);
                prop_assert_eq!(company, count(&held, other, true), "client {}", other);
                for (_, id, _) in held.iter().filter(|(of, ..)| *of == other) {
                    let values = store.of(other).and_then(|rows| rows.exact(*id)).map(<[f32]>::to_vec);
                    prop_assert_eq!(values, Some(scaled(&reference, *id, [*id as f64, 1.0]).exact));
                }
            }
            prop_assert_eq!(store.len(), held.len());
        }
    }
}

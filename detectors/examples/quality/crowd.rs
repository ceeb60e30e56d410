//! (b) Generated honest clients, many at once in front of one warm engine of each model.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::OnceLock;

use checkgate_detectors::finding::{Action, Kind, Tier};

use super::bounds::upper;
use super::honest::{self, Numbers, People, Profile, people};
use super::host::{ALONE, DECLARED, Host, Setting, TRUSTED, alone};
use super::table::{Table, or_dash, percent};
use crate::support::{Request, streams};

/// Seeds of the clients of each profile: drawn when the profiles written fifth were first run, which nobody had looked at.
/// Detectors were changed on seeds 1 to 24; tables of 101 to 124 and of 201 to 224 were known before they last were.
const SEEDS: std::ops::RangeInclusive<u64> = 2_085_109_756..=2_085_109_779;
/// Seeds that detectors are changed on.
const TUNING_SEEDS: std::ops::RangeInclusive<u64> = 1..=24;
/// Clients of each profile.
const CLIENTS: u64 = 24;
/// Clients that warm an engine up and are not counted.
const WARMING: u64 = 24;
/// Seconds within which clients begin: two hours, after one hour of warming up.
const BEGIN: (f64, f64) = (3600.0, 10_800.0);
/// One-sided, of every upper bound.
const ALPHA: f64 = 0.05;

/// How every client is played.
const WAYS: [(&str, Setting, bool); 4] = [
    ("with a reference", TRUSTED, false),
    ("with a reference, fitted answers", TRUSTED, true),
    ("without a reference", ALONE, false),
    ("with a reference, `free_fields` declared", DECLARED, false),
];

/// What became of a profile's clients.
#[derive(Clone, Default)]
struct Tally {
    streams: u64,
    requests: u64,
    rows: u64,
    /// Clients blocked, for each of [`WAYS`].
    blocks: [Blocks; WAYS.len()],
    /// Clients told of by a detector that only alerts.
    told: BTreeSet<u32>,
    told_by: BTreeSet<&'static str>,
    /// Clients of whom something was noted.
    noted: BTreeSet<u32>,
}

/// Blocks of honest clients.
#[derive(Clone, Default)]
struct Blocks {
    clients: BTreeSet<u32>,
    decisions: u64,
    by: BTreeSet<&'static str>,
}

/// One client at work.
#[derive(Clone)]
struct Client {
    number: u32,
    profile: &'static str,
    requests: Vec<Request>,
}

/// What became of every profile's clients.
type Tallies = BTreeMap<&'static str, Tally>;

/// Seeds of the clients: held out, those that may be looked at while something is changed, or drawn anew and printed.
fn seeds() -> std::ops::RangeInclusive<u64> {
    static CHOSEN: OnceLock<std::ops::RangeInclusive<u64>> = OnceLock::new();
    let is_given = |name| std::env::args().any(|argument| argument == name);
    let chosen = CHOSEN.get_or_init(|| {
        if is_given("--tuning") {
            return TUNING_SEEDS;
        }
        if !is_given("--drawn") {
            return SEEDS;
        }
        let first = drawn();
        eprintln!("quality: seeds {first} to {}", first + CLIENTS - 1);
        first..=first + CLIENTS - 1
    });
    chosen.clone()
}

/// A number by chance, another one on every run.
#[allow(clippy::disallowed_types, reason = "these seeds are to be nobody's choice")]
fn drawn() -> u64 {
    u64::from(std::hash::RandomState::new().hash_one(0) as u32)
}

fn tallies() -> &'static Tallies {
    static TALLIES: OnceLock<Tallies> = OnceLock::new();
    TALLIES.get_or_init(measured)
}

fn measured() -> Tallies {
    let mut tallies = Tallies::new();
    for model in ["pricing", "digits", "cancer"] {
        eprintln!("quality: honest clients of {model}");
        let people = people(model);
        let clients = clients(people);
        for client in &clients {
            let tally = tallies.entry(client.profile).or_default();
            tally.streams += 1;
            tally.requests += client.requests.len() as u64;
            tally.rows += client.requests.iter().map(|request| request.rows.len() as u64).sum::<u64>();
        }
        for (way, (_, setting, fitted)) in WAYS.into_iter().enumerate() {
            let clients = if fitted { with_fitted_answers(people, &clients) } else { clients.clone() };
            play(people, &clients, setting, way, &mut tallies);
        }
    }
    tallies
}

/// The tables.
pub fn section() -> String {
    [
        "## Honest clients, made\n".to_owned(),
        bounds_table(),
        sweeps_with_declared_fields(),
        profile_table(tallies()),
        "### The answers they get\n".to_owned(),
        super::fidelity::table(),
    ]
    .join("\n")
}

/// What the declaration costs.
fn sweeps_with_declared_fields() -> String {
    let attacks = streams("attacks").into_iter().filter(|stream| stream.name.starts_with("price_"));
    let rows = attacks.map(|stream| {
        let row = |setting| or_dash(alone(&stream, setting).block.map(|told| told.place.rows));
        format!("`{}` {} ({})", stream.name, row(DECLARED), row(TRUSTED))
    });
    let rows: Vec<String> = rows.collect();
    format!(
        "Declared are `one_field_sweep: {{free_fields: [age, vehicle_value, km_year, region, excess, payments]}}` of the \
         pricing model. With them the row of the block is, in parentheses without: {}.\n",
        rows.join(", ")
    )
}

/// With a reference: streams, those blocked, and those told of by what only alerts.
pub fn totals() -> (u64, u64, u64) {
    let all = sums(honest::profiles(), 0);
    (all.streams, all.blocked, all.told)
}

fn clients(people: &People) -> Vec<Client> {
    let mut numbers = Numbers::new(17);
    let mut clients = Vec::new();
    for profile in honest::profiles().filter(|profile| profile.model == people.model) {
        for seed in seeds() {
            let start = numbers.between(BEGIN.0, BEGIN.1);
            let requests = honest::stream(profile, people, seed, start);
            clients.push(Client { number: 1000 + clients.len() as u32, profile: profile.name, requests });
        }
    }
    clients
}

/// The same clients, answered by the other stand-in.
fn with_fitted_answers(people: &People, clients: &[Client]) -> Vec<Client> {
    let mut clients = clients.to_vec();
    for request in clients.iter_mut().flat_map(|client| &mut client.requests) {
        request.predictions = request.rows.iter().map(|x| people.fitted_answer(x)).collect();
    }
    clients
}

/// Independent single cases from other clients, for an hour.
fn warm(host: &mut Host, people: &People) {
    let mut usual = honest::first().iter().filter(|profile| profile.model == people.model);
    let usual: &Profile = usual.next().expect("each model has a profile");
    let streams = (0..WARMING).map(|seed| honest::stream(usual, people, 10_000 + seed, seed as f64));
    let streams: Vec<_> = streams.collect();
    let mut asked: Vec<(f64, u32, &Request)> = Vec::new();
    for (number, stream) in (0_u32..).zip(&streams) {
        asked.extend(stream.iter().map(|request| (request.seconds.min(BEGIN.0), number, request)));
    }
    asked.sort_by(|left, right| left.0.total_cmp(&right.0));
    for (seconds, number, request) in asked {
        host.ask_at(number, seconds, request);
    }
}

fn play(people: &People, clients: &[Client], setting: Setting, way: usize, tallies: &mut Tallies) {
    let mut host = Host::new(people.model, setting);
    warm(&mut host, people);
    let mut asked: Vec<(&Client, &Request)> = clients
        .iter()
        .flat_map(|client| client.requests.iter().map(move |request| (client, request)))
        .collect();
    asked.sort_by(|left, right| left.1.seconds.total_cmp(&right.1.seconds));
    for (client, request) in asked {
        let out = host.ask(client.number, request);
        let Some(tally) = tallies.get_mut(client.profile) else { continue };
        for record in &out.records {
            let blocks = &mut tally.blocks[way];
            if record.action == Action::Block && record.kind == Kind::Decision {
                blocks.clients.insert(client.number);
                blocks.decisions += 1;
                blocks.by.insert(record.detector);
            } else if record.kind == Kind::Note && way == 0 {
                tally.noted.insert(client.number);
            } else if record.tier == Tier::Two && way == 0 {
                tally.told.insert(client.number);
                tally.told_by.insert(record.detector);
            }
        }
    }
}

fn names(of: &BTreeSet<&'static str>) -> String {
    let names: Vec<_> = of.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn profile_table(tallies: &Tallies) -> String {
    let mut table = Table::new(&[
        "profile: the client ...",
        "model",
        "written",
        "rows depend",
        "streams",
        "requests",
        "rows",
        "blocked, reference",
        "by",
        "fitted answers",
        "no reference",
        "by",
        "`free_fields`",
        "by",
        "told of, tier 2",
        "by",
        "noted",
    ]);
    let all = [
        ("before", honest::first()),
        ("after", honest::second()),
        ("third", honest::third()),
        ("last", honest::fourth()),
        ("fifth", honest::fifth()),
        ("sixth", honest::sixth()),
    ];
    for (written, profiles) in all {
        for profile in profiles {
            let tally = &tallies[profile.name];
            table.row(&[
                format!("**{}** {}", profile.name, profile.does),
                profile.model.to_owned(),
                written.to_owned(),
                if profile.dependent { "yes" } else { "no" }.to_owned(),
                tally.streams.to_string(),
                tally.requests.to_string(),
                tally.rows.to_string(),
                tally.blocks[0].clients.len().to_string(),
                names(&tally.blocks[0].by),
                tally.blocks[1].clients.len().to_string(),
                tally.blocks[2].clients.len().to_string(),
                names(&tally.blocks[2].by),
                tally.blocks[3].clients.len().to_string(),
                names(&tally.blocks[3].by),
                tally.told.len().to_string(),
                names(&tally.told_by),
                tally.noted.difference(&tally.told).count().to_string(),
            ]);
        }
    }
    table.finish()
}

/// Sums over some profiles.
#[derive(Default)]
struct Sums {
    profiles: u64,
    profiles_hit: u64,
    streams: u64,
    dependent: u64,
    blocked: u64,
    decisions: u64,
    requests: u64,
    rows: u64,
    told: u64,
}

fn sums<'p>(profiles: impl Iterator<Item = &'p Profile>, way: usize) -> Sums {
    let mut sums = Sums::default();
    for profile in profiles {
        let tally = &tallies()[profile.name];
        let blocks = &tally.blocks[way];
        sums.profiles += 1;
        sums.profiles_hit += u64::from(!blocks.clients.is_empty());
        sums.streams += tally.streams;
        sums.dependent += if profile.dependent { tally.streams } else { 0 };
        sums.blocked += blocks.clients.len() as u64;
        sums.decisions += blocks.decisions;
        sums.requests += tally.requests;
        sums.rows += tally.rows;
        sums.told += tally.told.len() as u64;
    }
    sums
}

fn bounds_table() -> String {
    let mut table = Table::new(&[
        "over",
        "streams (of dependent rows)",
        "requests / rows",
        "blocked",
        "rate, at most (95 %)",
        "leaving one profile out",
        "profiles with a block",
        "at most (95 %)",
        "false blocks in a million requests",
        "told of, tier 2",
    ]);
    for (way, (setting, ..)) in WAYS.into_iter().enumerate() {
        let sets: [(&str, Vec<&Profile>); 7] = [
            ("all profiles", honest::profiles().collect()),
            ("written before", honest::first().iter().collect()),
            ("written after", honest::second().iter().collect()),
            ("written third", honest::third().iter().collect()),
            ("written last", honest::fourth().iter().collect()),
            ("written fifth", honest::fifth().iter().collect()),
            ("written sixth", honest::sixth().iter().collect()),
        ];
        for (name, profiles) in sets.iter().filter(|(_, profiles)| !profiles.is_empty()) {
            let all = sums(profiles.iter().copied(), way);
            let told = if way == 0 { all.told.to_string() } else { "-".to_owned() };
            table.row(&[
                format!("{name}, {setting}"),
                format!("{} ({})", all.streams, all.dependent),
                format!("{} / {}", all.requests, all.rows),
                all.blocked.to_string(),
                rate(&all),
                left_out(profiles, way),
                format!("{} of {}", all.profiles_hit, all.profiles),
                percent(upper(all.profiles_hit, all.profiles, ALPHA), 1),
                format!("{:.0}", all.decisions as f64 * 1e6 / all.requests as f64),
                told,
            ]);
        }
    }
    table.finish()
}

fn rate(sums: &Sums) -> String {
    let measured = percent(sums.blocked as f64 / sums.streams as f64, 2);
    format!("{measured}, {}", percent(upper(sums.blocked, sums.streams, ALPHA), 2))
}

/// The smallest and the largest upper bound when each profile in turn is left out.
fn left_out(profiles: &[&Profile], way: usize) -> String {
    let bounds = profiles.iter().map(|out| {
        let rest = profiles.iter().copied().filter(|profile| profile.name != out.name);
        let rest = sums(rest, way);
        upper(rest.blocked, rest.streams, ALPHA)
    });
    let (low, high) = bounds.fold((1.0_f64, 0.0_f64), |(low, high), bound| (low.min(bound), high.max(bound)));
    format!("{} .. {}", percent(low, 2), percent(high, 2))
}

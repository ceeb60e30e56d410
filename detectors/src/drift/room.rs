//! Drift of one model, as its engine keeps it: exchanges in, changes out.
//!
//! A row is a row of a question with its prediction, counted when the answer has come. Of one client at most a share is
//! counted ([`super::shares`]). Without a reference that an operator named, one is learned in a warm-up
//! ([`super::learner`]) and is provisional. Nothing here acts on a client: a population that moves is nobody's fault.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::{Budget, Thresholds};
use super::cells::{self, LATENCY, Mapping, Part, STATUS};
use super::counts::Pace;
use super::derived::By;
use super::latest::{Carried, Carrier, Latest, Level, Most, Sender};
use super::learner::Learner;
use super::projection;
use super::record::{About, DriftRecord, Matter, Spent};
use super::reference::DriftReference;
use super::rolling::{Gap, Rolling};
use super::rules::{self, GaugeRule};
use super::shares::Shares;
use super::state::{Change, Condition, Extent, Rules};
use super::watch::{self, Finding, Layer, Shifted, Watch};
use super::{Early, Paging};
use crate::drift::bins::Value;
use crate::facts::{Features, Time};
use crate::finding::{FindingId, Mode};
use crate::hashing::Hashing;
use crate::identity::Identity;
use crate::reference::Trust;

pub mod saved;
pub mod versions;
pub mod view;

/// How the window of the gauges of a live model goes on: four parts make half an hour.
pub const GAUGES: Pace = Pace::Microseconds(450_000_000);
/// The rate of traffic is that of the reference until the watch has lasted so long.
const OWN_RATE_FROM: Duration = Duration::from_secs(60);
/// Features that a record shows where none stands out.
const SHOWN: usize = 3;
/// So many rows a change waits to be told while nobody is known to be behind it: whoever carries a young shift has sent
/// too little to be told from chance.
const WAITS: u64 = 512;
/// So many rows it waits in any case. Where everybody shifts, somebody is the first, and nobody is to be named for that.
const WAITS_AT_LEAST: u64 = 128;
/// Rows between two tries.
const TRIES_EVERY: u64 = 64;

/// How one model is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Of the early layer.
    pub early: Early,
    /// Of the paging layer.
    pub paging: Paging,
    /// False alarms in a week that each layer may raise, above 0.
    pub false_alarms_a_week: f64,
    /// Features that are not watched, by name.
    pub leave_out: Vec<String>,
    /// Rows that a reference is learned from.
    pub warm_up_rows: u32,
    /// The share of the counted rows that one client may have, above 0, at most 1.
    pub share_per_client: f64,
    /// Rows without an alarm after which a warning is forgotten or a drift may be over.
    pub cool_down_rows: u64,
    /// The operator's rules on gauges; older recordings have none.
    #[serde(default)]
    pub rules: Vec<GaugeRule>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            early: Early::default(),
            paging: Paging::default(),
            false_alarms_a_week: 1.0,
            leave_out: Vec::new(),
            warm_up_rows: 5000,
            share_per_client: 0.25,
            cool_down_rows: Rules::default().cool_down_rows,
            rules: Vec::new(),
        }
    }
}

/// A reference with its standing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// How far it can be relied upon.
    pub trust: Trust,
    /// The reference.
    pub reference: DriftReference,
}

/// All that is remembered of a model's drift: plain, bounded data.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    watched: Option<Watched>,
    learner: Learner,
    shares: Shares,
    /// How often the features changed: what was kept of a question under others is not read.
    generation: u32,
    counts: Counts,
}

/// A model that has a reference.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Watched {
    frozen: Frozen,
    watch: Watch,
    latest: Latest,
    rolling: Rolling,
    since: Option<Time>,
    pending: Option<Pending>,
    rules: rules::Held,
}

/// A change that waits for whoever is behind it, until the watch has seen so many rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pending {
    told: Told,
    next_try: u64,
    until: u64,
}

/// Rows that were not counted, ever, and what was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Beyond their client's share.
    pub over_share: u64,
    /// Without any column of the reference, or, in a warm-up, with others than the first.
    pub unknown: u64,
    /// While the model was being exchanged.
    pub maintenance: u64,
    /// Changes that were told: warnings, beginnings and ends of drifts, rules that were met and that no longer were.
    pub told: [u64; 5],
}

/// How a room learns, where it has no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learning {
    /// From the first rows, until there are enough for a reference.
    First,
    /// From the latest rows, until [`Room::conclude`]: beside the room of a model that is being exchanged.
    Latest,
}

/// What is kept of a question until its answer comes: the values of its features, row after row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    generation: u32,
    width: usize,
    values: Vec<Option<Value>>,
}

/// An exchange that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Whose it was.
    pub sender: Sender,
    /// When it ended.
    pub time: Time,
    /// The model server's status.
    pub status: u16,
    /// From the end of the question to the first byte of the answer.
    pub latency: Duration,
    /// The predictions, where the answer holds some and could be read.
    pub answer: Option<&'a Features>,
    /// Whether the model is being exchanged: then nothing is counted, and nothing learned here.
    pub in_maintenance: bool,
}

/// One model's drift.
#[derive(Debug)]
pub struct Room {
    settings: Settings,
    learning: Learning,
    /// The key of labels: that of the reference, or of this instance while one is learned.
    label_key: [u64; 2],
    own_label_key: [u64; 2],
    names: Names,
    question: Mapping,
    answer: Mapping,
    memory: Memory,
    /// [`DriftReference::checksum`] of the reference, 0 without one.
    checksum: u64,
    /// Scratch.
    row: Vec<Option<Value>>,
    slots: Vec<u8>,
}

/// The features by name, and those that belong to an exchange as a whole.
#[derive(Debug, Default)]
struct Names {
    all: Vec<String>,
    of_exchange: Vec<usize>,
}

/// A change that was found, before it is a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    finding: Finding,
    features: Vec<Shifted>,
    #[serde(skip)]
    carried: Carried,
    /// Whoever sent most of the rows when it was found.
    most: Option<Most>,
    budget: Spent,
    rule: Option<rules::Told>,
    /// The version whose room tells it.
    #[serde(skip)]
    version: Option<Arc<str>>,
}

impl Watched {
    /// Rules on gauges that are met, or no longer, told at once: a gauge knows nobody who is behind it.
    fn ruled(&mut self, now: Time, budget: Spent) -> Vec<Told> {
        let Self { frozen, watch, rules, .. } = self;
        let reference = &frozen.reference;
        let told = |rule: rules::Told| {
            let effect = watch.effect(reference, rule.feature);
            let moved = Shifted { feature: rule.feature, evidence: 0.0, effect, by: None };
            let finding = Finding {
                change: rule.change,
                time: now,
                row: watch.rows(),
                layer: Layer::Gauge,
                evidence: rule.value,
                threshold: rule.limit,
                features: vec![moved.clone()],
                extent: Extent::of(effect),
            };
            let carried = Carried::default();
            let features = vec![moved];
            Told { finding, features, carried, most: None, budget, rule: Some(rule), version: None }
        };
        rules.look(reference, watch, now).into_iter().map(told).collect()
    }

    /// Has a change wait to be told. Gives the one that waited before, unless it was the warning of this one.
    fn wait(&mut self, told: Told) -> Option<Told> {
        let rows = self.watch.rows();
        let before =
            self.pending.replace(Pending { told, next_try: rows + WAITS_AT_LEAST, until: rows + WAITS });
        before.map(|pending| pending.told).filter(|told| told.finding.change != Change::Warning)
    }

    /// The change that waits, once it is known who is behind it, or it has waited long enough.
    fn due(&mut self, hashing: &Hashing) -> Option<Told> {
        let Pending { mut told, next_try, until } = self.pending.take()?;
        let rows = self.watch.rows();
        let mut is_due = rows >= until || told.finding.change == Change::Over;
        if told.finding.change != Change::Over && (is_due || rows >= next_try) {
            told.carried = carried(&self.latest, &self.frozen.reference, hashing, &told.features);
            is_due |= told.carried.systemic || !told.carried.named.is_empty();
        }
        if is_due {
            return Some(told);
        }
        self.pending =
            Some(Pending { told, next_try: next_try.max(rows + 1).next_multiple_of(TRIES_EVERY), until });
        None
    }
}

impl Told {
    /// The clients that carry it, by name.
    #[must_use]
    pub fn carriers(&self) -> Vec<Carrier> {
        self.carried.named.iter().filter(|carrier| carrier.level == Level::Client).cloned().collect()
    }
}

impl Kept {
    /// How many values it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl Names {
    fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let all: Vec<String> = names.map(str::to_owned).collect();
        let of_exchange =
            all.iter().enumerate().filter(|(_, name)| [LATENCY, STATUS].contains(&name.as_str()));
        Self { of_exchange: of_exchange.map(|(place, _)| place).collect(), all }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(String::as_str)
    }
}

impl Room {
    /// A room that has seen nothing, with the reference that the operator named or that was learned before.
    #[must_use]
    pub fn new(settings: Settings, frozen: Option<Frozen>, hashing: &Hashing) -> Self {
        let own_label_key = [0, 1].map(|half| hashing.numbered("labels of drift", half));
        let mut room = Self {
            settings,
            learning: Learning::First,
            label_key: own_label_key,
            own_label_key,
            names: Names::default(),
            question: Mapping::default(),
            answer: Mapping::default(),
            memory: Memory::default(),
            checksum: 0,
            row: Vec::new(),
            slots: Vec::new(),
        };
        if let Some(frozen) = frozen {
            room.freeze(frozen);
        }
        room
    }

    /// A room beside this one that learns from the latest rows, and from nobody whom this one suspects.
    #[must_use]
    pub fn beside(&self, hashing: &Hashing) -> Self {
        let mut beside =
            Self { learning: Learning::Latest, ..Self::new(self.settings.clone(), None, hashing) };
        beside.memory.learner.suspect_as(&self.memory.learner);
        beside
    }

    /// The reference of the latest rows; nothing where too few rows or clients were there.
    #[must_use]
    pub fn conclude(&mut self) -> Option<DriftReference> {
        let made = super::settings(&self.settings.early, &self.settings.paging);
        let reference = self.memory.learner.conclude(&made)?;
        Some(reference.with_label_key(self.own_label_key))
    }

    /// What is learned so far.
    #[must_use]
    pub fn learner(&self) -> &Learner {
        &self.memory.learner
    }

    /// Watches by another reference from here on, afresh.
    pub fn install(&mut self, frozen: Frozen) {
        self.memory.learner.clear();
        self.freeze(frozen);
    }

    /// Counts the rows of an exchange that another room learned from, since the model is being exchanged.
    pub fn exchanged(&mut self, kept: &Kept) {
        self.memory.counts.maintenance += (kept.values.len() / kept.width.max(1)) as u64;
    }

    fn freeze(&mut self, frozen: Frozen) {
        let reference = frozen.reference.without(&self.settings.leave_out);
        let watch = Watch::new(&reference, self.watch_settings(), self.thresholds(&reference, 0.0).1);
        let frozen = Frozen { reference, ..frozen };
        let (latest, rolling) = (Latest::default(), Rolling::default());
        let rules = rules::Held::of(&self.settings.rules);
        let watched = Watched { frozen, watch, latest, rolling, since: None, pending: None, rules };
        self.memory.watched = Some(watched);
        self.rename();
    }

    fn watch_settings(&self) -> watch::Settings {
        let Settings { early, cool_down_rows, .. } = &self.settings;
        watch::Settings {
            tick_rows: early.tick_rows,
            rules: Rules { cool_down_rows: *cool_down_rows, ..Rules::default() },
            pace: GAUGES,
        }
    }

    /// The features have changed: by another reference, or because a warm-up has learned their names.
    fn rename(&mut self) {
        self.names = match &self.memory.watched {
            Some(Watched { frozen, .. }) => {
                Names::of(frozen.reference.features().iter().map(|feature| feature.name.as_str()))
            }
            None => Names::of(self.memory.learner.names()),
        };
        let reference = self.memory.watched.as_ref().map(|watched| &watched.frozen.reference);
        self.label_key = reference.map_or(self.own_label_key, DriftReference::label_key);
        self.checksum = reference.map_or(0, DriftReference::checksum);
        self.memory.generation = self.memory.generation.wrapping_add(1);
        self.question.forget();
        self.answer.forget();
    }

    /// Rows a second, and the thresholds that follow. A rate of 0 stands for that of the reference, where it is known.
    fn thresholds(&self, reference: &DriftReference, own_rate: f64) -> (f64, Thresholds) {
        let span = reference.span().map_or(0.0, |(first, last)| last.since(first).as_secs_f64());
        let known = if span > 0.0 { reference.rows() as f64 / span } else { 0.0 };
        let rows_a_second = if own_rate > 0.0 { own_rate } else { known };
        let cut = reference.cut();
        let by_time = rows_a_second * cut.microseconds() as f64 / 1e6;
        let budget = Budget {
            false_alarms_a_week: self.settings.false_alarms_a_week,
            rows_a_second,
            rows_a_stretch: f64::from(cut.rows()).max(by_time),
        };
        (rows_a_second, budget.thresholds())
    }

    /// Takes a question, and gives what is to be kept of it until its answer comes. O(rows x features).
    pub fn question(&mut self, question: &Features) -> Kept {
        let projected = projection::of(question);
        let question = projected.as_ref().unwrap_or(question);
        if self.memory.watched.is_none() && !self.may_learn_from(question) {
            self.memory.counts.unknown += question.rows() as u64;
            return Kept::default();
        }
        let width = self.question.look_at(self.names.iter(), question, Part::Question).len();
        if !self.question.found() {
            self.memory.counts.unknown += question.rows() as u64;
            return Kept::default();
        }
        let mut values = Vec::with_capacity(width * question.rows());
        for row in 0..question.rows() {
            self.question.pick(question.row(row), question, self.label_key, &mut values);
        }
        Kept { generation: self.memory.generation, width, values }
    }

    fn may_learn_from(&mut self, question: &Features) -> bool {
        let learner = &mut self.memory.learner;
        if learner.see_question(question) || !learner.fits(question) && learner.left_aside() {
            self.rename();
        }
        self.memory.learner.fits(question)
    }

    /// Takes an exchange that has ended, with what was kept of its question. O(rows x features).
    pub fn ended(
        &mut self,
        ended: &Ended<'_>,
        kept: &Kept,
        hashing: &Hashing,
    ) -> (Vec<Told>, Option<DriftReference>) {
        let projected = ended.answer.and_then(projection::of);
        let ended = &Ended { answer: projected.as_ref().or(ended.answer), ..*ended };
        if self.memory.watched.is_none()
            && let Some(answer) = ended.answer
            && self.memory.learner.see_answer(answer, &self.settings.leave_out)
        {
            self.rename();
        }
        let (mut told, mut frozen) = (Vec::new(), None);
        // What was asked counts where it was answered; of a failure, its status and latency alone.
        let is_answered = (200..300).contains(&ended.status);
        let usable = is_answered && kept.width > 0 && kept.generation == self.memory.generation;
        let rows = if usable { kept.values.len() / kept.width } else { 0 };
        if ended.in_maintenance {
            self.memory.counts.maintenance += rows as u64;
            return (told, frozen);
        }
        if rows == 0 && self.learns() && is_answered {
            // There is nothing in it to learn, or something speaks against it. A failure teaches its status.
            return (told, frozen);
        }
        for row in 0..rows.max(1) {
            let asked = kept.values.get(row * kept.width..(row + 1) * kept.width).filter(|_| usable);
            if self.join(ended, row, asked.unwrap_or_default()) {
                let (change, learned) = self.take(ended, hashing);
                told.extend(change);
                frozen = frozen.or(learned);
            }
        }
        (told, frozen)
    }

    /// Makes one row of what was asked, what was answered and the exchange as a whole. Says whether there is anything
    /// in it.
    fn join(&mut self, ended: &Ended<'_>, row: usize, asked: &[Option<Value>]) -> bool {
        self.row.clear();
        self.row.extend_from_slice(asked);
        self.row.resize(self.names.all.len(), None);
        let answer = ended.answer.filter(|_| !asked.is_empty());
        if let Some(answer) = answer {
            let cells = answer.row(row);
            let places = self.answer.look_at(self.names.iter(), answer, Part::Answer);
            let unknown = self.row.iter_mut().zip(places).filter(|(value, _)| value.is_none());
            for (value, place) in unknown {
                let cell = place.and_then(|place| cells.get(place as usize));
                // What neither the question nor the answer has is missing, where there is an answer to this row.
                let there = cell.map(|cell| cells::value(*cell, answer, self.label_key));
                *value = there.or((!cells.is_empty()).then_some(Value::Missing));
            }
        }
        for &place in &self.names.of_exchange {
            let (Some(name), Some(value)) = (self.names.all.get(place), self.row.get_mut(place)) else {
                continue;
            };
            if matches!(value, None | Some(Value::Missing)) {
                *value = cells::of_exchange(name, ended.status, ended.latency).filter(|_| row == 0);
            }
        }
        self.row.iter().any(Option::is_some)
    }

    /// Counts the row at hand, or learns from it.
    fn take(&mut self, ended: &Ended<'_>, hashing: &Hashing) -> (Vec<Told>, Option<DriftReference>) {
        if !self.memory.shares.admit(ended.sender.client, self.settings.share_per_client) {
            self.memory.counts.over_share += 1;
            return (Vec::new(), None);
        }
        if self.memory.watched.is_some() {
            return (self.count(ended, hashing), None);
        }
        let (client, time, wanted) = (ended.sender.client, ended.time, self.settings.warm_up_rows);
        if self.learning == Learning::Latest {
            self.memory.learner.learn_latest(client, time, &self.row, wanted);
            return (Vec::new(), None);
        }
        self.memory.learner.learn(client, time, &self.row, wanted);
        let made = super::settings(&self.settings.early, &self.settings.paging);
        let learned = self.memory.learner.freeze(self.settings.warm_up_rows, &made);
        let learned = learned.map(|reference| reference.with_label_key(self.own_label_key));
        if let Some(reference) = &learned {
            self.memory.learner.clear();
            self.freeze(Frozen { trust: Trust::Provisional, reference: reference.clone() });
        }
        (Vec::new(), learned)
    }

    fn count(&mut self, ended: &Ended<'_>, hashing: &Hashing) -> Vec<Told> {
        let Some(Watched { frozen, watch, latest, rolling, since, .. }) = &mut self.memory.watched else {
            return Vec::new();
        };
        let reference = &frozen.reference;
        let since = *since.get_or_insert(ended.time);
        let client = ended.sender.client;
        let by = By::sender(hashing.salt(client), self.memory.shares.is_most(client));
        let is_due = watch.see_known(reference, &self.row, (by, ended.time), &mut self.slots);
        if latest.take(ended.sender, &self.slots) {
            let calm = !matches!(watch.condition(), Condition::Drifting { .. } | Condition::Warned { .. });
            let learner = &self.memory.learner;
            latest.roll(rolling, reference, |client| learner.suspects(client));
            latest.make_past(reference, hashing, calm, |client| learner.suspects(client));
        }
        if is_due { self.settle(ended.time, since, hashing) } else { Vec::new() }
    }

    fn settle(&mut self, now: Time, since: Time, hashing: &Hashing) -> Vec<Told> {
        let mut told = Vec::new();
        let Some(Watched { frozen, watch, .. }) = &self.memory.watched else { return told };
        let lasted = now.since(since);
        let own = if lasted >= OWN_RATE_FROM { watch.rows() as f64 / lasted.as_secs_f64() } else { 0.0 };
        let (rows_a_second, thresholds) = self.thresholds(&frozen.reference, own);
        let Some(watched) = &mut self.memory.watched else { return told };
        watched.watch.set_thresholds(thresholds);
        let budget = Spent { false_alarms_a_week: self.settings.false_alarms_a_week, rows_a_second };
        if let Some(finding) = watched.watch.settle(&watched.frozen.reference, now) {
            let features = shown(&watched.watch, &watched.frozen.reference, &finding);
            let (carried, most) = (Carried::default(), watched.latest.most());
            told.extend(watched.wait(Told {
                finding,
                features,
                carried,
                most,
                budget,
                rule: None,
                version: None,
            }));
        }
        told.extend(watched.due(hashing));
        told.extend(watched.ruled(now, budget));
        for Told { finding, .. } in &told {
            if let Some(count) = self.memory.counts.told.get_mut(finding.change as usize) {
                *count += 1;
            }
        }
        told
    }

    /// How far the reference can be relied upon, if there is one by now.
    #[must_use]
    pub fn trust(&self) -> Option<Trust> {
        self.memory.watched.as_ref().map(|watched| watched.frozen.trust)
    }

    /// The reference, if there is one by now.
    #[must_use]
    pub fn frozen(&self) -> Option<&Frozen> {
        self.memory.watched.as_ref().map(|watched| &watched.frozen)
    }

    /// The record of a change.
    #[must_use]
    pub fn record(&self, told: Told, id: FindingId, model: &Arc<str>, mode: Mode) -> Option<DriftRecord> {
        let Watched { frozen, watch, .. } = self.memory.watched.as_ref()?;
        let of = |shifted: Shifted| {
            let feature = frozen.reference.features().get(shifted.feature)?;
            let effect = watch.effect(&frozen.reference, shifted.feature);
            Some((feature, watch.features().get(shifted.feature)?, Shifted { effect, ..shifted }))
        };
        let about = About { rows: frozen.reference.rows(), provisional: frozen.trust == Trust::Provisional };
        let Told { finding, features, carried, most, budget, rule, version } = told;
        let features = features.into_iter().filter_map(of).collect();
        let who = (carried, most);
        let matter = Matter { finding: &finding, features, who, about, budget, rule, version };
        Some(matter.record(id, model, mode))
    }

    /// Whether a reference is being learned.
    #[must_use]
    pub fn learns(&self) -> bool {
        self.memory.watched.is_none()
    }

    /// Something speaks against a client: what was learned from it is taken back.
    pub fn suspect(&mut self, client: Identity) {
        self.memory.learner.suspect(client);
    }

    /// All that is remembered.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The same, of a room that ends.
    #[must_use]
    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// Goes on with what another room remembered. A reference that the operator names stays, with a watch that begins
    /// afresh unless it is the same; one that was learned goes on.
    pub fn take_over(&mut self, memory: Memory) {
        let named = self.memory.watched.take();
        let learns_on = named.is_none() && memory.watched.is_none();
        let is_same = |old: &Watched, new: &Watched| old.frozen == new.frozen;
        let old = memory.watched.as_ref();
        let goes_on = match (&named, old) {
            (Some(new), Some(old)) if new.frozen.trust == Trust::Trusted => is_same(old, new),
            (_, Some(old)) => old.frozen.trust == Trust::Provisional,
            (_, None) => false,
        };
        let watched = if goes_on { memory.watched } else { named };
        self.memory = Memory { watched, ..memory };
        let settings = self.watch_settings();
        if let Some(watched) = &mut self.memory.watched {
            watched.watch.adopt(settings);
            watched.rules.adopt(&self.settings.rules);
        }
        if goes_on && self.names_are_left_out() {
            self.leave_out();
        }
        let before = self.memory.generation;
        self.rename();
        if goes_on || learns_on {
            // The features are those of before: what is kept of open questions can be read.
            self.memory.generation = before;
        }
    }

    fn names_are_left_out(&self) -> bool {
        let features = self.memory.watched.iter().flat_map(|watched| watched.frozen.reference.features());
        features.map(|feature| &feature.name).any(|name| self.settings.leave_out.contains(name))
    }

    /// A learned reference holds features that are to be left out by now.
    fn leave_out(&mut self) {
        if let Some(watched) = self.memory.watched.take() {
            self.freeze(watched.frozen);
        }
    }

    /// How things stand, for whoever shows it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let learned = self.memory.learner.len() as u64;
        let counts = self.memory.counts;
        let false_alarms_a_week = self.settings.false_alarms_a_week;
        let Some(Watched { frozen, watch, rolling, .. }) = &self.memory.watched else {
            return Standing { learned, counts, false_alarms_a_week, ..Standing::default() };
        };
        let reference = &frozen.reference;
        let Thresholds { early, paging } = watch.thresholds();
        let features = reference.features().iter().zip(watch.features()).enumerate();
        let share = |value: f64, threshold: f64| (value / threshold).min(1.0);
        let feature = |(place, (feature, state)): (
            usize,
            (&super::feature::Feature, &super::feature::FeatureState),
        )| {
            let (index, expected) = watch.index(reference, place);
            FeatureStanding {
                name: feature.name.clone(),
                effect: (index - expected).max(0.0),
                index,
                expected,
                evidence: share(state.early(feature), early).max(share(state.paging(), paging)),
                gap: rolling.gap(reference, place),
            }
        };
        Standing {
            trust: Some(frozen.trust),
            reference_rows: reference.rows(),
            reference_until: reference.span().map(|(_, last)| last),
            false_alarms_a_week,
            condition: watch.condition(),
            rows: watch.rows(),
            early: share(watch.evidence(reference, Layer::Early), early),
            paging: share(watch.evidence(reference, Layer::Paging), paging),
            features: features.map(feature).collect(),
            learned,
            counts,
            not_kept: 0,
            other_versions: 0,
        }
    }
}

/// How a model's drift stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// How far its reference can be relied upon; nothing while there is none.
    pub trust: Option<Trust>,
    /// Rows that the reference was made of.
    pub reference_rows: u64,
    /// When the last of them was seen, where they have times.
    pub reference_until: Option<Time>,
    /// False alarms in a week that an operator grants each layer.
    pub false_alarms_a_week: f64,
    /// How things stand.
    pub condition: Condition,
    /// Rows that were counted since the watch began.
    pub rows: u64,
    /// The early layer's evidence as a share of its threshold, 0 to 1.
    pub early: f64,
    /// The paging layer's.
    pub paging: f64,
    /// Its features.
    pub features: Vec<FeatureStanding>,
    /// Rows of a warm-up.
    pub learned: u64,
    /// Rows that were not counted, and what was told.
    pub counts: Counts,
    /// Questions whose values found no room while their answers were awaited, and that were not counted.
    pub not_kept: u64,
    /// Rows of versions that have no room of their own, counted with the model's; 0 where no version has one.
    pub other_versions: u64,
}

/// How one feature stands.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureStanding {
    /// Its name.
    pub name: String,
    /// Its population stability index of the latest stretches, less what chance gives.
    pub effect: f64,
    /// That index as it is.
    pub index: f64,
    /// What chance gives at so few events.
    pub expected: f64,
    /// Its evidence as a share of the threshold, of the layer that has more, 0 to 1.
    pub evidence: f64,
    /// How far clean traffic has moved away from the reference by now; nothing while little of it was seen. Alarms do not
    /// rest on it.
    pub gap: Option<Gap>,
}

/// The features that a finding names; where it names none, those that moved most. What is over names none.
fn shown(watch: &Watch, reference: &DriftReference, finding: &Finding) -> Vec<Shifted> {
    if finding.change == Change::Over || !finding.features.is_empty() {
        return finding.features.clone();
    }
    let evidence = |place: usize| {
        let pair = watch.features().get(place).zip(reference.features().get(place));
        pair.map_or(0.0, |(state, feature)| match finding.layer {
            Layer::Early => state.early(feature),
            Layer::Paging => state.paging(),
            Layer::Gauge => 0.0,
        })
    };
    let shifted = |feature| Shifted {
        feature,
        evidence: evidence(feature),
        effect: watch.effect(reference, feature),
        by: None,
    };
    let mut all: Vec<Shifted> = (0..reference.features().len()).map(shifted).collect();
    all.sort_by(|one, other| other.effect.total_cmp(&one.effect).then(one.feature.cmp(&other.feature)));
    all.truncate(SHOWN);
    all
}

/// Who is behind it, by the first of the features that tells somebody: those whose few rows made the evidence, or those
/// without whom the rest looks as before.
fn carried(latest: &Latest, reference: &DriftReference, hashing: &Hashing, features: &[Shifted]) -> Carried {
    let bursts = features.iter().take(SHOWN).map(|shifted| latest.burst(reference, hashing, shifted.feature));
    if let Some(named) = bursts.into_iter().find(|named| !named.is_empty()) {
        return Carried { systemic: false, named };
    }
    let mut first = Carried::default();
    for (rank, shifted) in features.iter().take(SHOWN).enumerate() {
        let carried = latest.carried(reference, hashing, shifted.feature);
        if !carried.named.is_empty() {
            return carried;
        }
        first = if rank == 0 || carried.systemic && !first.systemic { carried } else { first };
    }
    first
}

//! The shadow report: what was decided in a span of time, what came of it, and what `enforce` would have done.
//!
//! A pure sum over the ledger's book, so that it tells the same whether a running instance is asked or the state folder
//! of one that has ended.

mod html;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use checkgate_detectors::identity::Identity;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::farthest::ModelClients;
use crate::gate::Reason;
use crate::ledger::book::Book;
use crate::ledger::entry::{Decided, Status};
use crate::metrics::labels::Label;
use crate::rehearse::form::words::counted;

pub use self::{html::write as html, text::write as text};

/// Clients that are named one by one, those first that most requests came from.
const CLIENTS_MAX: usize = 1000;

/// What was decided, counted from several sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Where the span begins, as Unix seconds.
    pub since: f64,
    /// Where it ends.
    pub until: f64,
    /// Findings in it, as far as they are still known.
    pub findings: u64,
    /// All decisions in it.
    pub all: Tally,
    /// Decisions by what became of them.
    pub outcomes: BTreeMap<Outcome, Tally>,
    /// Decisions that were not acted on, by what kept them back.
    pub held_back: BTreeMap<String, Tally>,
    /// Decisions by the detector that they rest on.
    pub detectors: BTreeMap<String, ByOutcome>,
    /// Decisions by model; those of operators for all models stand under `all models`.
    pub models: BTreeMap<String, ByOutcome>,
    /// Decisions by tenant, where tenants are configured.
    pub tenants: BTreeMap<String, ByOutcome>,
    /// Clients, those first that most requests came from while a decision stood.
    pub clients: Vec<Client>,
    /// Clients that are not named for want of room.
    pub clients_left_out: u64,
    /// Who asks most and covers most now, of every model: nothing was decided on them for it.
    #[serde(default)]
    pub farthest: Vec<ModelClients>,
}

/// Decisions and what they are about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tally {
    /// Decisions.
    pub decisions: u64,
    /// Clients that they are about, each once.
    pub clients: u64,
    /// Requests that came from those clients while a decision on them stood.
    pub requests: u64,
}

/// The decisions of one detector, model or tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ByOutcome {
    /// All of them.
    pub all: Tally,
    /// By what became of them.
    pub outcomes: BTreeMap<Outcome, Tally>,
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was enforced.
    Acted,
    /// It would have been in `enforce`.
    WouldHaveActed,
    /// It would not have been in `enforce` either: something else kept it back.
    HeldBack,
    /// It waits for approval, or waited in vain.
    Proposed,
    /// An operator turned it down, or ended it before its time.
    Undone,
}

impl Outcome {
    /// What became of `decided`.
    #[must_use]
    pub fn of(decided: &Decided) -> Self {
        match (decided.status, decided.held_back) {
            (Status::InForce, _) => Self::Acted,
            (Status::Observed, Some(Reason::Mode)) => Self::WouldHaveActed,
            (Status::Observed, _) => Self::HeldBack,
            (Status::Proposed, _) => Self::Proposed,
            (Status::Rejected | Status::Lifted, _) => Self::Undone,
        }
    }

    /// In words, after "decisions that".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Acted => "acted",
            Self::WouldHaveActed => "would have acted in enforce",
            Self::HeldBack => "would not have acted in enforce either",
            Self::Proposed => "were proposed and not approved",
            Self::Undone => "an operator undid",
        }
    }
}

/// One client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Client {
    /// Who.
    pub client: String,
    /// Whose client it is, where tenants are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Decisions on it.
    pub decisions: u64,
    /// Requests that came from it while one of them stood.
    pub requests: u64,
    /// What became of the strongest of them, and of several the latest.
    pub outcome: Outcome,
    /// What that one does.
    pub action: String,
    /// The detector that it rests on.
    pub detector: String,
    /// The model that was asked.
    pub model: String,
    /// The decision, for `checkgate explain`.
    pub decision: String,
    /// Whether the never-block list kept it back.
    pub never_block: bool,
}

/// Sums that still need to know which clients they counted.
#[derive(Default)]
struct Sum {
    tally: Tally,
    clients: BTreeSet<Identity>,
}

impl Sum {
    fn add(&mut self, decided: &Decided) {
        self.tally.decisions += 1;
        self.tally.requests += decided.requests;
        self.clients.insert(decided.client);
    }

    fn done(self) -> Tally {
        Tally { clients: self.clients.len() as u64, ..self.tally }
    }
}

#[derive(Default)]
struct Sums {
    all: Sum,
    outcomes: BTreeMap<Outcome, Sum>,
}

impl Sums {
    fn add(&mut self, decided: &Decided) {
        self.all.add(decided);
        self.outcomes.entry(Outcome::of(decided)).or_default().add(decided);
    }

    fn done(self) -> ByOutcome {
        let outcomes = self.outcomes.into_iter().map(|(outcome, sum)| (outcome, sum.done())).collect();
        ByOutcome { all: self.all.done(), outcomes }
    }
}

type Groups = BTreeMap<String, Sums>;

impl Report {
    /// Sums up what `book` holds of the time from `since` to `until`. `met` says how many requests met what is still in
    /// force; the book knows that of what has ended.
    #[must_use]
    pub fn of(book: &Book, met: &BTreeMap<DecisionId, u64>, since: Time, until: Time) -> Self {
        let within = |time: Time| since <= time && time < until;
        let now_met = |decided: &Decided| {
            let requests = met.get(&decided.id).copied().unwrap_or(0).max(decided.requests);
            Decided { requests, ..decided.clone() }
        };
        let decisions: Vec<Decided> = book
            .decisions(None)
            .filter(|(_, decided)| within(decided.time))
            .map(|(_, decided)| now_met(decided))
            .collect();
        let (mut all, mut held_back) = (Sums::default(), BTreeMap::<String, Sum>::new());
        let (mut detectors, mut models, mut tenants) = (Groups::new(), Groups::new(), Groups::new());
        for decided in &decisions {
            all.add(decided);
            if let Some(reason) = decided.held_back.filter(|_| decided.status == Status::Observed) {
                held_back.entry(reason.as_str().to_owned()).or_default().add(decided);
            }
            detectors.entry(decided.detector.to_string()).or_default().add(decided);
            models.entry(model(decided)).or_default().add(decided);
            if let Some(tenant) = &decided.tenant {
                tenants.entry(tenant.to_string()).or_default().add(decided);
            }
        }
        let ByOutcome { all, outcomes } = all.done();
        let (clients, clients_left_out) = clients(&decisions);
        let groups = |groups: Groups| groups.into_iter().map(|(name, sums)| (name, sums.done())).collect();
        Self {
            since: since.seconds(),
            until: until.seconds(),
            findings: book.findings(None).filter(|found| within(found.time)).count() as u64,
            all,
            outcomes,
            held_back: held_back.into_iter().map(|(reason, sum)| (reason, sum.done())).collect(),
            detectors: groups(detectors),
            models: groups(models),
            tenants: groups(tenants),
            clients,
            clients_left_out,
            farthest: Vec::new(),
        }
    }

    /// The decisions of an outcome.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome) -> Tally {
        self.outcomes.get(&outcome).cloned().unwrap_or_default()
    }

    /// What it comes to, in sentences.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        if self.all.decisions == 0 {
            return vec![format!("Nothing was decided; {} told.", counted(self.findings, "finding"))];
        }
        let would = self.outcome(Outcome::WouldHaveActed);
        let acted = self.outcome(Outcome::Acted);
        let spared = self.held_back.get(Reason::NeverBlock.as_str()).cloned().unwrap_or_default();
        let mut told = vec![format!(
            "{} taken, about {}.",
            counted(self.all.decisions, "decision"),
            counted(self.all.clients, "client")
        )];
        if would.decisions > 0 {
            told.push(format!(
                "In enforce {} would have met {} of theirs.",
                counted(would.clients, "further client"),
                counted(would.requests, "request"),
            ));
        }
        if acted.decisions > 0 {
            told.push(format!(
                "{} acted, on {} and {} of theirs.",
                counted(acted.decisions, "decision"),
                counted(acted.clients, "client"),
                counted(acted.requests, "request"),
            ));
        }
        told.push(match spared.clients {
            0 => "None of them is on the never-block list.".to_owned(),
            clients => format!("{} of them on the never-block list: look at these first.", clients),
        });
        told
    }
}

fn model(decided: &Decided) -> String {
    decided.model.as_deref().unwrap_or("all models").to_owned()
}

/// Every client with the strongest decision on it; and how many found no room.
fn clients(decisions: &[Decided]) -> (Vec<Client>, u64) {
    let mut by_client: BTreeMap<Identity, Vec<&Decided>> = BTreeMap::new();
    decisions.iter().for_each(|decided| by_client.entry(decided.client).or_default().push(decided));
    let mut clients: Vec<Client> = by_client.values().filter_map(|decisions| client(decisions)).collect();
    clients
        .sort_by(|one, other| other.requests.cmp(&one.requests).then_with(|| one.client.cmp(&other.client)));
    let left_out = clients.len().saturating_sub(CLIENTS_MAX) as u64;
    clients.truncate(CLIENTS_MAX);
    (clients, left_out)
}

fn client(decisions: &[&Decided]) -> Option<Client> {
    let strongest = decisions.iter().max_by_key(|decided| (decided.action, decided.time))?;
    Some(Client {
        client: strongest.client.to_string(),
        tenant: strongest.tenant.as_deref().map(str::to_owned),
        decisions: decisions.len() as u64,
        requests: decisions.iter().map(|decided| decided.requests).sum(),
        outcome: Outcome::of(strongest),
        action: strongest.action.as_str().to_owned(),
        detector: strongest.detector.to_string(),
        model: model(strongest),
        decision: strongest.id.to_string(),
        never_block: decisions.iter().any(|decided| decided.held_back == Some(Reason::NeverBlock)),
    })
}

#[cfg(test)]
mod tests;

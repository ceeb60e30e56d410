//! What should be: where every decision stands, told from the ledger's entries alone, in the plainest way, and measured
//! by a clock that never steps. The gate is held against this.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId};
use checkgate_detectors::identity::{Asker, Identity};
use ipnet::IpNet;

use super::clock::Start;
use crate::ledger::entry::{Entry, Status, What};

/// Where a decision stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Whom it is about.
    pub client: Identity,
    /// The one model at which it holds; everywhere without it.
    pub only: Option<Arc<str>>,
    /// What is done to the client.
    pub action: Action,
    /// Its state.
    pub status: Status,
    /// When it was taken, in microseconds since the world began.
    pub time: i64,
    /// From when on it acts, in microseconds since the world began.
    pub from: i64,
    /// When it ends, likewise.
    pub until: i64,
    /// How long it was to last, in microseconds.
    pub lasts: i64,
    /// When it approves itself, where it does.
    pub itself_at: Option<i64>,
}

/// What the entries add up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// Every decision.
    pub decisions: BTreeMap<DecisionId, Standing>,
    /// Whom no decision touches.
    pub never_block: BTreeSet<IpNet>,
    /// Whether nothing is enforced.
    pub kill_switch: bool,
}

impl Standing {
    /// Whether it holds at a model.
    pub fn reaches(&self, model: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == model)
    }

    /// Whether it acts at a moment.
    pub fn acts_at(&self, now: i64) -> bool {
        let by_itself = self.status == Status::Proposed && self.itself_at.is_some_and(|at| at <= now);
        (by_itself || self.status == Status::InForce && self.from <= now) && now < self.until
    }
}

impl Expected {
    /// Takes the next entry, which a process that started at `start` wrote.
    pub fn take(&mut self, entry: &Entry, start: &Start, approves_itself: Option<Time>) {
        let at = |time: Time| start.passed_at(time);
        match &entry.what {
            What::Decision(decided) => {
                let standing = Standing {
                    client: decided.client,
                    only: decided.only(),
                    action: decided.action,
                    status: decided.status,
                    time: at(decided.time),
                    from: at(decided.time),
                    until: at(decided.until),
                    lasts: decided.lasts.as_micros() as i64,
                    itself_at: approves_itself.or(decided.approves_itself).map(at),
                };
                self.decisions.insert(decided.id, standing);
            }
            What::Approved { id, until } => self.change(*id, |standing| {
                standing.status = Status::InForce;
                standing.from = standing.itself_at.unwrap_or(i64::MAX).min(at(entry.time));
                standing.until = at(*until);
            }),
            What::Rejected { id } => self.change(*id, |standing| standing.status = Status::Rejected),
            What::Lifted { id } => self.change(*id, |standing| standing.status = Status::Lifted),
            What::Extended { id, until } => self.change(*id, |standing| standing.until = at(*until)),
            What::NeverBlock { added, removed } => {
                self.never_block.extend(added);
                self.never_block.retain(|network| !removed.contains(network));
            }
            What::KillSwitch { on } => self.kill_switch = *on,
            _ => {}
        }
    }

    /// Another process begins. Within a boot of the machine nothing moves, whatever the wall clock says. Across a boot
    /// the wall clock counts, but nothing lasts longer from then on than it was to last as a whole.
    pub fn begin(&mut self, before: &Start, start: &Start) {
        let now = start.passed as i64;
        for standing in self.decisions.values_mut() {
            if before.boot != start.boot {
                let span = standing.lasts.max(standing.until - standing.time);
                let again = |passed: i64| start.passed_at(Time(before.time_at(passed).max(0) as u64));
                // What was taken in an hour that is yet to come, by a clock that was set back, acts all the same.
                (standing.time, standing.from) = (again(standing.time), again(standing.from).min(now));
                standing.itself_at = standing.itself_at.map(again);
                standing.until = again(standing.until).min(now + span);
            }
        }
    }

    fn change(&mut self, id: DecisionId, how: impl FnOnce(&mut Standing)) {
        self.decisions.get_mut(&id).map(how);
    }

    /// Decisions that act on whoever asks a model.
    pub fn on<'a>(
        &'a self,
        (asker, model): (&'a Asker, &'a str),
        key_is_proven: bool,
        now: i64,
    ) -> impl Iterator<Item = (&'a DecisionId, &'a Standing)> {
        let meets = move |standing: &Standing| match standing.client {
            Identity::Key(key) => asker.key == Some(key),
            Identity::Address(address) => asker.address == address && !key_is_proven,
            Identity::Network(network) => network.contains(asker.address) && !key_is_proven,
        };
        self.decisions
            .iter()
            .filter(move |(_, standing)| meets(standing) && standing.reaches(model) && standing.acts_at(now))
    }

    /// Whether no decision touches whoever asks.
    pub fn spares(&self, asker: &Asker) -> bool {
        self.never_block.iter().any(|network| network.contains(&asker.address.ip()))
    }
}

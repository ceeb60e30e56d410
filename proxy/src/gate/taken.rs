//! Decisions that are taken: into the table, acting or as an observation, and what keeps them from acting.

use checkgate_detectors::engine::{Block, Outbox};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{DecisionId, Kind, Mode, Record};
use checkgate_detectors::identity::Identity;
use serde::{Deserialize, Serialize};

use super::brake::{Trip, Verdict};
use super::table::ActiveBlock;
use super::{Gate, Rules, brakes};
use crate::records;

/// Under this name approvals have a brake of their own.
pub const APPROVAL: &str = "approval";

/// Where a block comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The configured model by id; `None` for a discovered one.
    pub model: Option<u16>,
    /// The model's mode.
    pub mode: Mode,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It acts.
    Enforced,
    /// It waits for approval.
    Proposed,
    /// It does not, and why.
    Observed(Reason),
}

/// What became of all blocks of a step.
#[derive(Clone, Debug, Default)]
pub struct Handed {
    /// The decisions, with what became of each.
    pub applied: Vec<(DecisionId, Applied)>,
    /// What the brake tells.
    pub told: Vec<Record>,
}

impl Handed {
    /// The decisions that act.
    pub fn acting(&self) -> Vec<DecisionId> {
        let acting = self.applied.iter().filter(|(_, applied)| *applied == Applied::Enforced);
        acting.map(|(id, _)| *id).collect()
    }
}

/// Why a block does not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The model is in `observe`.
    Mode,
    /// The client's identity is not proven, or the decision rests on a provisional reference.
    Unproven,
    /// The client is on the never-block list.
    NeverBlock,
    /// The kill switch is on.
    KillSwitch,
    /// The brake is on.
    Brake,
    /// No record tells why: no evidence, no block.
    NoEvidence,
}

impl Gate {
    /// Takes what one step of a lane gave: proven keys, and every block with the record that explains it.
    pub fn apply_all(&self, out: &Outbox, origin: Origin, rules: &Rules) -> Handed {
        out.proven_keys.iter().for_each(|key| self.note_proven(*key));
        let mut handed = Handed::default();
        for block in &out.blocks {
            let explains =
                |record: &&Record| record.kind == Kind::Decision && record.decision_id == Some(block.id);
            match out.records.iter().find(explains) {
                Some(why) => {
                    let applied = self.apply(block, why, (origin, rules), block.time, &mut handed.told);
                    handed.applied.push((block.id, applied));
                }
                None => self.observed(Reason::NoEvidence, origin),
            }
        }
        handed
    }

    /// Puts a block into the table, acting or as an observation, and counts which. `why` is its decision's record;
    /// what the brake has to say of it goes to `told`.
    pub fn apply(
        &self,
        block: &Block,
        why: &Record,
        (origin, rules): (Origin, &Rules),
        now: Time,
        told: &mut Vec<Record>,
    ) -> Applied {
        // What waits for an operator is judged by brake and kill switch when that operator approves it.
        let waits = block.acts_from >= block.until;
        let mut brakes = || self.brakes(block, why, (origin, rules), now, told);
        let reason = standing_reason(block, why, rules)
            // The brake judges in both modes and whatever the kill switch says: what it tells is part of the record.
            .or_else(|| (!waits && brakes()).then_some(Reason::Brake))
            // What operators spared while the program ran is no part of the plan, so it changes no record.
            .or_else(|| self.spares(&block.client).then_some(Reason::NeverBlock))
            .or_else(|| (origin.mode == Mode::Observe).then_some(Reason::Mode))
            .or_else(|| (!waits && self.kill_switch.is_on()).then_some(Reason::KillSwitch));
        self.put(block, why, reason, origin, rules, now)
    }

    /// Puts a decision of an operator or a program into the table, acting or as an observation. It goes through what a
    /// decision of a lane goes through, with a brake of its own for each `source`, which has another limit of blocks a
    /// minute than all others where one is given; mode and scope are those of `why`, its record. Models that observe let
    /// its client pass whatever comes of it.
    pub fn impose_within(
        &self,
        block: &Block,
        why: &Record,
        (source, blocks_per_minute): (&str, Option<u32>),
        now: Time,
    ) -> Applied {
        let rules = self.rules.load();
        let origin = Origin { model: None, mode: why.mode };
        let reason = standing_reason(block, why, &rules)
            .or_else(|| self.spares(&block.client).then_some(Reason::NeverBlock))
            .or_else(|| {
                let (limit, active) = (blocks_per_minute, block.clients_active);
                self.brakes_source(source, limit, active, now).then_some(Reason::Brake)
            })
            .or_else(|| (why.mode == Mode::Observe).then_some(Reason::Mode))
            .or_else(|| self.kill_switch.is_on().then_some(Reason::KillSwitch));
        self.put(block, why, reason, origin, &rules, now)
    }

    /// The same within the limit of all.
    #[cfg(test)]
    pub fn impose(&self, block: &Block, why: &Record, source: &str, now: Time) -> Applied {
        self.impose_within(block, why, (source, None), now)
    }

    fn put(
        &self,
        block: &Block,
        why: &Record,
        reason: Option<Reason>,
        origin: Origin,
        rules: &Rules,
        now: Time,
    ) -> Applied {
        let mut entry = ActiveBlock::new(block, reason.is_none(), records::line(why).into());
        entry.only = why.only();
        if block.acts_from < block.until {
            entry.until = rules.end(block.acts_from, block.until);
        }
        entry.lasts = rules.at_most.map_or(block.lasts, |at_most| block.lasts.min(at_most));
        self.metrics.blocks_evicted.inc_by(self.table.insert(entry, now) as u64);
        self.show_blocks();
        if let Some(reason) = reason {
            self.observed(reason, origin);
            return Applied::Observed(reason);
        }
        if block.is_proposed(now) {
            return Applied::Proposed;
        }
        self.tell_change();
        Applied::Enforced
    }

    /// Approves a proposal: it acts from `now` on and for as long as it was to last. Gives the decision as it stands
    /// then; it does not act where its client was put on the never-block list meanwhile, the kill switch is on, or
    /// approvals have tripped their brake, and neither does one of a model in `observe`. Gives nothing where no such
    /// proposal waits.
    pub fn approve(&self, id: DecisionId, now: Time) -> Option<ActiveBlock> {
        let rules = self.rules.load();
        let proposal = self.table.proposal(id, now)?;
        let spared = self.spares(&proposal.client);
        let braked = proposal.acts && !spared && self.brakes_source(APPROVAL, None, 0, now);
        let acts = proposal.acts && !spared && !braked && !self.kill_switch.is_on();
        let until = rules.end(now, now.plus(proposal.lasts));
        let approved = ActiveBlock { acts, acts_from: now, until, ..proposal };
        let taken = self.table.approve(approved.clone(), now);
        self.show_blocks();
        if taken && acts {
            self.tell_change();
        }
        taken.then_some(approved)
    }

    /// Turns a proposal down, and gives it. Gives nothing where no such proposal waits.
    pub fn reject(&self, id: DecisionId, now: Time) -> Option<ActiveBlock> {
        self.table.proposal(id, now)?;
        self.lift(id)
    }

    /// Whether one source of decisions has taken too many of late.
    fn brakes_source(
        &self,
        source: &str,
        blocks_per_minute: Option<u32>,
        clients_active: usize,
        now: Time,
    ) -> bool {
        let mut limits = self.rules.load().brake;
        limits.blocks_per_minute = blocks_per_minute.unwrap_or(limits.blocks_per_minute);
        let verdict = self.brakes.judge_source(source, limits, clients_active, now);
        if let Verdict::Tripped(trip) = verdict {
            tracing::error!(source, blocks = trip.blocks, limit = trip.limit, "the brake of a source is on");
            self.note_trip();
        }
        verdict != Verdict::Free
    }

    fn brakes(
        &self,
        block: &Block,
        why: &Record,
        (origin, rules): (Origin, &Rules),
        now: Time,
        told: &mut Vec<Record>,
    ) -> bool {
        match self.brakes.judge_model(&why.model, rules.brake, block.clients_active, now) {
            Verdict::Free => return false,
            Verdict::Tripped(trip) => told.push(self.trip(&trip, block, why, origin, now)),
            Verdict::Engaged => {}
        }
        true
    }

    fn trip(&self, trip: &Trip, block: &Block, why: &Record, origin: Origin, now: Time) -> Record {
        let finding = brakes::finding(trip, block, why, origin.mode, now);
        tracing::error!(explanation = finding.explanation, "the brake is on");
        self.note_trip();
        finding
    }

    fn note_trip(&self) {
        self.metrics.brake_trips.inc();
        self.metrics.brake_engaged.set(1);
    }

    fn observed(&self, reason: Reason, origin: Origin) {
        self.metrics.model(origin.model).would_block.inc(reason);
    }
}

/// What keeps the block from ever acting.
fn standing_reason(block: &Block, why: &Record, rules: &Rules) -> Option<Reason> {
    let reasons = [
        (why.decision_id != Some(block.id), Reason::NoEvidence),
        (is_spared(block.client, rules), Reason::NeverBlock),
        (!block.may_act, Reason::Unproven),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

/// Whether a client is on the never-block list, of a network all of it. Where the requests of a key or of a network come
/// from is seen when they come.
fn is_spared(client: Identity, rules: &Rules) -> bool {
    match client {
        Identity::Address(address) => rules.spared.contains(address),
        Identity::Network(network) => rules.spared.covers(network),
        Identity::Key(_) => false,
    }
}

//! What is in force, kept for the process that comes after.

use std::collections::BTreeSet;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId};
use serde::{Deserialize, Serialize};

use super::Gate;
use super::brakes::SavedBrakes;
use super::table::ActiveBlock;
use crate::ledger::entry::{Decided, Status};

/// What is in force at a gate, on its way to another process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedGate {
    blocks: Vec<ActiveBlock>,
    proven_keys: Vec<u64>,
    brakes: SavedBrakes,
}

impl Gate {
    /// Everything in force, for the process that comes after.
    #[must_use]
    pub fn save(&self, now: Time) -> SavedGate {
        SavedGate {
            blocks: self.table.list(now),
            proven_keys: self.proven.list(),
            brakes: self.brakes.save(),
        }
    }

    /// Puts into force what another process had in force, and nothing else. No client passes meanwhile whom both
    /// states refuse.
    pub fn restore(&self, saved: SavedGate, now: Time) {
        let kept: BTreeSet<DecisionId> = saved.blocks.iter().map(|block| block.id).collect();
        for block in saved.blocks {
            self.metrics.blocks_evicted.inc_by(self.table.insert(block, now) as u64);
        }
        for gone in self.table.list(now).iter().filter(|block| !kept.contains(&block.id)) {
            self.table.lift(gone.id);
        }
        saved.proven_keys.iter().for_each(|key| self.note_proven(*key));
        self.brakes.restore(saved.brakes);
        self.show_blocks();
        self.tell_change();
    }

    /// Puts into force, or under observation, what an earlier process had decided and what is not over.
    pub fn resume<'a>(&self, decisions: impl Iterator<Item = &'a Decided>, now: Time) {
        for decided in decisions {
            let acts = match decided.status {
                Status::InForce | Status::Proposed => true,
                Status::Observed => false,
                Status::Rejected | Status::Lifted => continue,
            };
            if decided.action >= Action::Tag {
                let mut block = ActiveBlock::decided(decided, acts);
                if decided.status != Status::Proposed {
                    // After a wall clock that was set back its time may be one that is to come.
                    block.acts_from = block.acts_from.min(now);
                }
                let evicted = self.table.insert(block, now);
                self.metrics.blocks_evicted.inc_by(evicted as u64);
            }
        }
        self.show_blocks();
        self.tell_change();
    }
}

//! What operators and programs change at the gate, beside the decisions of lanes and their own.

use std::sync::Arc;
use std::time::Duration;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use checkgate_detectors::identity::Identity;
use ipnet::IpNet;

use super::table::ActiveBlock;
use super::{Gate, networks};

impl Gate {
    /// Has a decision end at another time than it was to, within the longest that the operator allows.
    pub fn extend(&self, id: DecisionId, until: Time, now: Time) -> Option<ActiveBlock> {
        let mut block = self.table.get(id).filter(|block| now < block.until)?;
        block.until = self.rules.load().end(now, until);
        block.lasts = block.until.since(block.time);
        self.metrics.blocks_evicted.inc_by(self.table.insert(block.clone(), now) as u64);
        self.show_blocks();
        if block.acts {
            self.tell_change();
        }
        Some(block)
    }

    /// The whole of the never-block list that operators keep while the program runs. A client on it passes at once.
    pub fn spare(&self, named: &[IpNet]) {
        self.spared_by_hand.store(Arc::new(networks(named)));
        self.note_change();
    }

    /// How long a decision lasts that wants to last so long, within the longest that the operator allows.
    #[must_use]
    pub fn rung(&self, lasts: Duration) -> Duration {
        self.rules.load().at_most.map_or(lasts, |at_most| lasts.min(at_most))
    }

    /// Everything that stands on a client at `now`: what is in force, what is observed and what is proposed.
    #[must_use]
    pub fn standing_on(&self, client: &Identity, now: Time) -> Vec<ActiveBlock> {
        self.table.on(client, now)
    }

    /// What stands at the gate under `id`.
    #[must_use]
    pub fn standing(&self, id: DecisionId) -> Option<ActiveBlock> {
        self.table.get(id)
    }

    /// Whether the never-block list, the configured or that of operators, holds the client. Where a key's requests come
    /// from is seen when they come.
    #[must_use]
    pub fn spares(&self, client: &Identity) -> bool {
        match client {
            Identity::Address(address) => self.is_spared(*address),
            Identity::Network(network) => {
                self.rules.load().spared.covers(*network) || self.spared_by_hand.load().covers(*network)
            }
            Identity::Key(_) => false,
        }
    }
}

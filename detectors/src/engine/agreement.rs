//! When several detectors that only tell say more together than each alone.
//!
//! Each of them is wrong about some honest client now and then. Two that look at different things and agree on one
//! client, which moreover asks for more than nearly all others, are wrong far less often: enough to slow that client
//! down, not enough to shut it out.

use std::fmt;
use std::time::Duration;

use super::{Case, Engine};
use crate::facts::Time;
use crate::finding::Tier;
use crate::query::Finding;
use crate::tenants::TenantTag;

/// How long an alert counts towards an agreement. Also the length of the windows that volumes are counted in.
pub(super) const COUNTS_FOR: Duration = Duration::from_secs(3600);
/// The quantile of the clients' distinct rows that a client's own must exceed.
const QUANTILE: f64 = 0.95;
/// Fewest other clients that make a population.
const CLIENTS_MIN: u64 = 20;

/// Two detectors and the population say the same of one client.
pub(super) struct Agreement {
    ally: &'static str,
    rows: u32,
    usual: f64,
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ally, rows, usual } = self;
        let percent = QUANTILE * 100.0;
        write!(
            f,
            "Within an hour {ally} told of it too, and it asked for {rows} distinct rows, where {percent} % of the \
             clients stay within {usual}: together this is more than an alert."
        )
    }
}

impl Engine {
    /// Counts the distinct rows of the question at hand.
    pub(super) fn count_volume(&mut self, case: Case) {
        let rows = u32::try_from(self.memory.seen.rows().len()).unwrap_or(u32::MAX);
        let Some(tally) = self.memory.tallies.entry(case.client).filter(|_| rows > 0) else { return };
        tally.volume.add(rows, case.time, COUNTS_FOR.as_secs(), &mut self.memory.population);
    }

    /// Notes a finding that does not act by itself, and says whether policy may act on it together with others. What
    /// rests on a provisional reference is not to be handed in. An agreement is used up by the decision that follows
    /// from it.
    pub(super) fn agreement(
        &mut self,
        turn: usize,
        case: Case,
        finding: &Finding,
        tenant: Option<&TenantTag>,
    ) -> Option<Agreement> {
        if finding.tier != Tier::Two {
            return None;
        }
        self.told(turn, case)?.agrees_since = case.time;
        if !self.rules.policy.course_of(tenant).looks_for_agreement() {
            return None;
        }
        let ally = self.ally(turn, case)?;
        let rows = self.memory.tallies.get(case.client)?.volume.rows();
        let usual = self.memory.population.quantile(QUANTILE, rows, CLIENTS_MIN)?;
        (f64::from(rows) > usual).then_some(Agreement { ally, rows, usual })
    }

    /// Another detector that told of the client lately.
    fn ally(&self, turn: usize, case: Case) -> Option<&'static str> {
        let spoken_of = self.memory.tallies.get(case.client)?.spoken_of.as_deref()?;
        let told = self.detectors.iter().zip(&spoken_of.told).enumerate();
        let lately = |since: Time| since > Time(0) && case.time.since(since) <= COUNTS_FOR;
        told.filter(|(other, (_, told))| *other != turn && lately(told.agrees_since))
            .map(|(_, (running, _))| running.label.name)
            .next()
    }
}

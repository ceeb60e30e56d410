//! Policy: from a finding to a decision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::finding::{Action, Mode, Scope};
use crate::identity::{Address, Identity};
use crate::ladder::Ladder;
use crate::maintenance::Maintenance;
use crate::networks::Networks;
use crate::rules::Course;
use crate::tenants::{TenantTag, Tenants};

const DAY: Duration = Duration::from_secs(86_400);

/// What policy was told.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Stamped on every record; decides nothing else here, so that both modes give the same decisions.
    pub mode: Mode,
    /// Whether questions can be refused for what they hold: they are held for a verdict.
    pub refuses_content: bool,
    /// What follows from a finding.
    pub course: Course,
    /// The same for the clients of tenants, by their tier.
    pub tiers: BTreeMap<String, Course>,
    /// How long a decision lasts.
    pub ladder: Ladder,
    /// How long anything about decisions may last.
    pub spans: Spans,
    /// Where decisions hold.
    pub scope: Scope,
    /// The operator's customers.
    pub tenants: Arc<Tenants>,
    /// When what rests on the reference does not count.
    pub maintenance: Vec<Maintenance>,
    /// Addresses that no decision touches.
    pub never_block: Networks,
    /// Addresses behind which many people sit: nothing stronger than a throttle follows on one of them.
    pub shared_addresses: Networks,
}

/// How long decisions, offences and proposals last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    /// The longest that any decision may last.
    pub at_most: Duration,
    /// How long an offence counts after its decision has ended.
    pub offences_count_for: Duration,
    /// How long a proposal waits for an operator.
    pub proposal_expires: Duration,
}

impl Default for Spans {
    /// Thirty days, a week, a day. A week is longer than any pause that an attack could bear, and short enough that an
    /// address which changed hands starts anew.
    fn default() -> Self {
        Self { at_most: 30 * DAY, offences_count_for: 7 * DAY, proposal_expires: DAY }
    }
}

impl Default for Policy {
    /// What the configuration has by default: it observes, blocks on tier one, alerts on tier two, and decisions last
    /// 15 minutes, 2 hours, a day.
    fn default() -> Self {
        let rungs = [900, 7200, 86_400].map(Duration::from_secs);
        Self {
            mode: Mode::Observe,
            course: Course::default(),
            tiers: BTreeMap::new(),
            ladder: Ladder::new(rungs.to_vec()),
            spans: Spans::default(),
            scope: Scope::Everywhere,
            tenants: Arc::default(),
            maintenance: Vec::new(),
            refuses_content: false,
            never_block: Networks::default(),
            shared_addresses: Networks::default(),
        }
    }
}

impl Policy {
    /// The tenant that a client belongs to.
    #[must_use]
    pub fn tenant(&self, identity: Identity, address: Address) -> Option<&TenantTag> {
        self.tenants.of(identity, address)
    }

    /// What holds for the clients of a tenant.
    #[must_use]
    pub fn course_of(&self, tenant: Option<&TenantTag>) -> &Course {
        tenant.and_then(|tenant| self.tiers.get(&tenant.tier)).unwrap_or(&self.course)
    }

    /// What remains of `action` on a client: on an address that many people share, at most a throttle.
    #[must_use]
    pub fn held_back(&self, action: Action, identity: Identity) -> Action {
        match identity {
            Identity::Address(address) if self.shared_addresses.contains(address) => {
                action.min(Action::Throttle)
            }
            Identity::Address(_) | Identity::Key(_) | Identity::Network(_) => action,
        }
    }

    /// Whether a client's evidence rests while `action` is in force on it: nothing stronger could follow from it.
    /// Otherwise whoever gets itself throttled would be safe from a block. A tag takes nothing from the client, so
    /// what is found meanwhile is told.
    #[must_use]
    pub fn suspends(&self, tenant: Option<&TenantTag>, action: Action, identity: Identity) -> bool {
        action > Action::Tag && action >= self.held_back(self.course_of(tenant).strongest(), identity)
    }
}

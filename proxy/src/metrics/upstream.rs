//! The handles of one model's servers.

use prometheus::{IntCounter, IntGauge};

use super::Families;
use super::labels::{Condition, ConnectionUse, Label, PerLabel};

/// Everything that is counted of one model's servers.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    /// Servers by state.
    pub servers: ServerGauges,
    /// Requests sent, by where their connection came from.
    pub connections: PerLabel<ConnectionUse>,
    /// Idle connections.
    pub idle_connections: IntGauge,
    /// Further tries.
    pub retries: IntCounter,
    /// Ejections.
    pub ejections: IntCounter,
    /// Requests that found every server full.
    pub full: IntCounter,
}

/// One gauge for each state of a server.
#[derive(Clone, Debug)]
pub struct ServerGauges(Box<[IntGauge]>);

impl ServerGauges {
    /// Moves the number of servers in a state.
    pub fn add(&self, condition: Condition, change: i64) {
        if let Some(gauge) = self.0.get(condition.index()) {
            gauge.add(change);
        }
    }
}

impl UpstreamMetrics {
    pub(super) fn resolve(all: &Families, name: &str) -> Self {
        let servers = Condition::ALL.iter();
        let gauge = |state: &Condition| all.upstream_servers.with_label_values(&[name, state.as_str()]);
        Self {
            servers: ServerGauges(servers.map(gauge).collect()),
            connections: PerLabel::resolve(|used| all.upstream_connections.with_label_values(&[name, used])),
            idle_connections: all.upstream_idle_connections.with_label_values(&[name]),
            retries: all.upstream_retries.with_label_values(&[name]),
            ejections: all.upstream_ejections.with_label_values(&[name]),
            full: all.upstream_full.with_label_values(&[name]),
        }
    }
}

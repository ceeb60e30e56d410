//! The handles of one sink.

use prometheus::{IntCounter, IntGauge};

use super::Families;
use super::labels::{PerLabel, SinkFailure, SinkLoss};
use crate::sinks::course::State;

/// Everything that is counted of one sink.
#[derive(Clone, Debug)]
pub struct SinkMetrics {
    /// Events that were taken.
    pub delivered: IntCounter,
    /// Batches that were not.
    pub failures: PerLabel<SinkFailure>,
    /// Events among the dead letters.
    pub dead_letters: IntCounter,
    /// Events that will never be sent.
    pub lost: PerLabel<SinkLoss>,
    /// Entries of the ledger behind its position.
    pub backlog_entries: IntGauge,
    /// Age of the oldest event that waits.
    pub backlog_age: IntGauge,
    /// How it stands.
    pub states: StateGauges,
}

/// One gauge for each state, of which one is 1.
#[derive(Clone, Debug)]
pub struct StateGauges(Box<[IntGauge]>);

impl StateGauges {
    /// Shows the state that holds.
    pub fn set(&self, state: State) {
        for (gauge, known) in self.0.iter().zip(State::ALL) {
            gauge.set(i64::from(known == state));
        }
    }
}

impl SinkMetrics {
    pub(super) fn resolve(all: &Families, name: &str) -> Self {
        let gauge = |state: &State| all.sink_state.with_label_values(&[name, state.as_str()]);
        Self {
            delivered: all.sink_delivered.with_label_values(&[name]),
            failures: PerLabel::resolve(|reason| all.sink_failures.with_label_values(&[name, reason])),
            dead_letters: all.sink_dead_letters.with_label_values(&[name]),
            lost: PerLabel::resolve(|reason| all.sink_lost.with_label_values(&[name, reason])),
            backlog_entries: all.sink_backlog_entries.with_label_values(&[name]),
            backlog_age: all.sink_backlog_age.with_label_values(&[name]),
            states: StateGauges(State::ALL.iter().map(gauge).collect()),
        }
    }

    /// The sink is no longer configured: nothing of it waits.
    pub fn gone(&self) {
        self.backlog_entries.set(0);
        self.backlog_age.set(0);
        self.states.0.iter().for_each(|gauge| gauge.set(0));
    }
}

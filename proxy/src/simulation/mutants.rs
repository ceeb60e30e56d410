//! Bugs on purpose. Each must be caught by an invariant within some hundred seeds; otherwise the invariants hold nothing.
//!
//! They stand at the seams between the world and the real parts, so that nothing in those parts knows of them.

use super::disk::Lies;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// What operators put on the never-block list reaches neither plan nor gate.
    ForgetsTheNeverBlockList,
    /// The kill switch is told to nobody.
    IgnoresTheKillSwitch,
    /// A model that observes is taken for one that enforces.
    ActsInObserve,
    /// A lift is noted, and the decision stays in the table.
    ForgetsToLift,
    /// A rejection is noted, and the proposal stays in the table.
    ForgetsToReject,
    /// A proposal acts as soon as it is made.
    ActsBeforeApproval,
    /// Whom a request names is who asks.
    BelievesTheFirstHop,
    /// A decision is handed on without the finding that it answers.
    LosesEvidence,
    /// What holds at one model acts at all.
    ForgetsTheScope,
    /// Nobody knows which client belongs to which tenant.
    ForgetsTheTenants,
    /// Rules count findings of long ago.
    CountsWhatIsLongOver,
    /// Now and then an entry is missing from the journal.
    ForgetsToJournal,
    /// A process that takes over begins with an empty table.
    LosesBlocksInAHandOver,
    /// Entries are told to be durable that were not synced.
    AcknowledgesBeforeTheSync,
    /// New files are not made durable in their folder.
    ForgetsToSyncNames,
    /// What a process left unsynced is taken for durable by the next one.
    TrustsWhatItRead,
}

impl Mutant {
    /// What the disk does wrong under it.
    pub fn lies(self) -> Lies {
        Lies {
            syncs: self == Self::AcknowledgesBeforeTheSync,
            names: self == Self::ForgetsToSyncNames,
            inherited: self == Self::TrustsWhatItRead,
            harsh: false,
        }
    }

    /// Every bug, with the invariants that see it.
    pub const ALL: &[(Self, &[&str])] = &[
        (
            Self::ForgetsTheNeverBlockList,
            &["nobody_on_the_never_block_list_is_refused", "what_is_held_back_does_not_act"],
        ),
        (
            Self::IgnoresTheKillSwitch,
            &["nobody_is_refused_where_nothing_is_enforced", "what_is_held_back_does_not_act"],
        ),
        (
            Self::ActsInObserve,
            &["nobody_is_refused_where_nothing_is_enforced", "what_is_held_back_does_not_act"],
        ),
        (Self::ForgetsToLift, &["what_was_lifted_or_rejected_never_acts_again"]),
        (Self::ForgetsToReject, &["what_was_lifted_or_rejected_never_acts_again"]),
        (Self::ActsBeforeApproval, &["a_proposal_acts_only_once_it_is_approved"]),
        (Self::BelievesTheFirstHop, &["no_decision_is_about_a_victim"]),
        (Self::LosesEvidence, &["no_decision_without_evidence"]),
        (Self::ForgetsTheScope, &["a_decision_acts_at_its_own_model_alone"]),
        (Self::ForgetsTheTenants, &["enterprise_tenants_are_asked_about_first"]),
        (Self::CountsWhatIsLongOver, &["rules_count_within_their_window"]),
        (Self::ForgetsToJournal, &["the_records_are_a_function_of_the_journal"]),
        (Self::LosesBlocksInAHandOver, &["a_block_in_force_refuses_its_client"]),
        (Self::AcknowledgesBeforeTheSync, &["nothing_acknowledged_is_lost"]),
        (Self::ForgetsToSyncNames, &["nothing_acknowledged_is_lost"]),
        (Self::TrustsWhatItRead, &["nothing_acknowledged_is_lost"]),
    ];
}

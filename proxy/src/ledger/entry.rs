//! What the ledger holds: one entry for each thing that happened and must not be forgotten.

use std::sync::Arc;
use std::time::Duration;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, Scope};
use checkgate_detectors::identity::Identity;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::{Carried, Reading};
use crate::gate::Reason;
use crate::state::candidates::Summary;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1 without a gap.
    pub number: u64,
    /// When it happened.
    pub time: Time,
    /// At whose word.
    pub by: By,
    /// What happened.
    pub what: What,
}

/// At whose word something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// `checkgate` itself, or the name of the token, certificate or link that an operator or a program used.
    pub who: Arc<str>,
    /// Where the request came from, where there was one: an address, or `file` for the kill switch's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Arc<str>>,
    /// The reason that was given.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub why: Arc<str>,
}

impl By {
    /// This program, of itself.
    #[must_use]
    pub fn itself() -> Self {
        Self { who: "checkgate".into(), ..Self::default() }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A detector found something; `record` is its line of JSON.
    Finding {
        /// The record, as it is printed.
        record: Arc<str>,
    },
    /// The drift of a model changed: it is in doubt, drifts, or no longer does; `record` is its line of JSON.
    Drift {
        /// The record, as it is printed.
        record: Arc<str>,
    },
    /// A decision was taken.
    Decision(Box<Decided>),
    /// A proposed decision was approved; from now on it acts.
    Approved {
        /// Which.
        id: DecisionId,
        /// When it ends now.
        until: Time,
    },
    /// A proposed decision was turned down.
    Rejected {
        /// Which.
        id: DecisionId,
    },
    /// A decision was ended before its time.
    Lifted {
        /// Which.
        id: DecisionId,
    },
    /// A decision lasts longer, or shorter, than it was to.
    Extended {
        /// Which.
        id: DecisionId,
        /// When it ends now.
        until: Time,
    },
    /// Requests came from the client of a decision; noted when it ends, and when the program stops.
    Met {
        /// Which.
        id: DecisionId,
        /// So many of them since it was taken.
        requests: u64,
    },
    /// The never-block list of operators changed.
    NeverBlock {
        /// Networks that were put on it.
        added: Vec<IpNet>,
        /// Networks that were taken off it.
        removed: Vec<IpNet>,
    },
    /// Other settings came into force, or were refused.
    Configuration {
        /// The digest of the files they were read from, in hexadecimal digits.
        digest: Arc<str>,
        /// Why they were refused; absent where they hold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<Arc<str>>,
    },
    /// What normal looks like was learned, or an operator said that it is to be trusted.
    Reference {
        /// Of which model.
        model: Arc<str>,
        /// Rows that it holds.
        rows: u64,
        /// Whether decisions may rest on it from now on.
        trusted: bool,
        /// The maintenance window that taught it, where one did. It is a candidate as long as it is not trusted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<Box<OfWindow>>,
    },
    /// Enforcement was switched off, or back on.
    KillSwitch {
        /// Whether nothing is enforced from now on.
        on: bool,
    },
    /// What was known of a client was erased on request.
    Erased {
        /// Of which client.
        client: Identity,
        /// Entries whose content is gone.
        entries: u64,
    },
    /// The program started, or took over from another process.
    Started {
        /// Its version.
        version: Arc<str>,
        /// Its time beside the machine's own clock.
        #[serde(default)]
        clock: Reading,
        /// What became of times that were written down before.
        #[serde(default)]
        carried: Carried,
    },
    /// Entries that found no room while the disk failed; they are in no file.
    Unwritten {
        /// The number of the first.
        first: u64,
        /// The number of the last.
        last: u64,
    },
    /// The oldest entries were removed, for their time is over or there was no more room.
    Removed {
        /// The number of the last of them.
        last: u64,
        /// Its hash, in hexadecimal digits: the chain goes on from there.
        hash: Arc<str>,
        /// The never-block list as the removed entries had left it.
        never_block: Vec<IpNet>,
        /// Whether enforcement was off then.
        kill_switch: bool,
    },
}

impl What {
    /// Its word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Finding { .. } => "finding",
            Self::Drift { .. } => "drift",
            Self::Decision(_) => "decision",
            Self::Approved { .. } => "approved",
            Self::Rejected { .. } => "rejected",
            Self::Lifted { .. } => "lifted",
            Self::Extended { .. } => "extended",
            Self::Met { .. } => "met",
            Self::NeverBlock { .. } => "never_block",
            Self::Configuration { .. } => "configuration",
            Self::Reference { .. } => "reference",
            Self::KillSwitch { .. } => "kill_switch",
            Self::Erased { .. } => "erased",
            Self::Started { .. } => "started",
            Self::Unwritten { .. } => "unwritten",
            Self::Removed { .. } => "removed",
        }
    }

    /// The decision that it is about, if it is about one.
    #[must_use]
    pub fn decision(&self) -> Option<DecisionId> {
        match self {
            Self::Decision(decided) => Some(decided.id),
            Self::Approved { id, .. }
            | Self::Rejected { id }
            | Self::Lifted { id }
            | Self::Met { id, .. }
            | Self::Extended { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// The client that it is about, as records print it, if it is about one.
    #[must_use]
    pub fn client(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct About {
            client: String,
        }
        match self {
            Self::Decision(decided) => Some(decided.client.to_string()),
            Self::Finding { record } => serde_json::from_str(record).map(|about: About| about.client).ok(),
            _ => None,
        }
    }
}

impl What {
    /// Whether it is about `client`, or names it among those behind a drift.
    #[must_use]
    pub fn names(&self, client: &str) -> bool {
        match self {
            Self::Finding { record } | Self::Drift { record } => record_names(record, client),
            _ => self.client().as_deref() == Some(client),
        }
    }
}

/// Whether the record on a line of JSON is about `client`, or names it among those behind a drift.
#[must_use]
pub fn record_names(record: &str, client: &str) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct About {
        client: String,
        attribution: Behind,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Behind {
        named: Vec<Named>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Named {
        who: String,
    }
    serde_json::from_str(record).is_ok_and(|about: About| {
        about.client == client || about.attribution.named.iter().any(|named| named.who == client)
    })
}

/// A maintenance window that taught a reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfWindow {
    /// What it was for; empty where it does not say.
    pub note: Arc<str>,
    /// When it began, in seconds since 1970.
    pub from: f64,
    /// When it was to end.
    pub until: f64,
    /// Rows that drift is measured by; 0 where it taught none.
    pub drift_rows: u64,
    /// Clients of whom rows were learned.
    pub clients: u64,
    /// The largest share of one of them, 0 to 1.
    pub largest_share: f64,
    /// Whether it took the place of what an earlier window taught.
    pub replaces: bool,
}

impl OfWindow {
    /// The window of a candidate.
    #[must_use]
    pub fn new(summary: &Summary, replaces: bool) -> Self {
        let Summary { note, from, until, drift_rows, clients, shares, .. } = summary;
        Self {
            note: note.as_str().into(),
            from: *from,
            until: *until,
            drift_rows: *drift_rows,
            clients: *clients,
            largest_share: shares.first().map_or(0.0, |share| share.share),
            replaces,
        }
    }
}

/// A decision, with where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// The decision.
    pub id: DecisionId,
    /// Whom it is about.
    pub client: Identity,
    /// The model that was asked; absent where an operator decided for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// Where it holds; an entry of before says nothing and means everywhere.
    #[serde(default, skip_serializing_if = "is_everywhere")]
    pub scope: Scope,
    /// The detector that found why, `operator`, or `crowdsec:` and the name of a source.
    pub detector: Arc<str>,
    /// What is done to the client.
    pub action: Action,
    /// When it was taken.
    pub time: Time,
    /// From when on a proposal acts without an approval; absent where only an operator approves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approves_itself: Option<Time>,
    /// When it ends.
    pub until: Time,
    /// From one to the other, as the ladder had it.
    pub lasts: Duration,
    /// Where it stands.
    pub status: Status,
    /// What keeps it from acting, where it is observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<Reason>,
    /// Whose client it is about, where tenants are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
    /// Requests that came from the client while it stood, as far as they were noted.
    #[serde(default)]
    pub requests: u64,
    /// Which endpoint for other systems asked for it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Its record as a line of JSON: why.
    pub evidence: Arc<str>,
}

// The form is serde's.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_everywhere(scope: &Scope) -> bool {
    *scope == Scope::Everywhere
}

/// What another system asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The endpoint, as it stands in [`By::who`].
    pub by: Arc<str>,
    /// The sender's own id of it.
    pub id: Arc<str>,
}

/// Where a decision stands, its end by time aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for approval.
    Proposed,
    /// It is enforced.
    InForce,
    /// It is not: the mode, the never-block list, the kill switch, the brake or an unproven identity keeps it back.
    Observed,
    /// It was turned down.
    Rejected,
    /// It was ended before its time.
    Lifted,
}

impl Status {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::InForce => "in_force",
            Self::Observed => "observed",
            Self::Rejected => "rejected",
            Self::Lifted => "lifted",
        }
    }
}

impl Decided {
    /// The one model at which it holds; everywhere without it.
    #[must_use]
    pub fn only(&self) -> Option<Arc<str>> {
        self.model.clone().filter(|_| self.scope == Scope::Model)
    }

    /// From when on it acts, if nothing keeps it from that; never where only an operator approves it.
    #[must_use]
    pub fn acts_from(&self) -> Time {
        match self.status {
            Status::Proposed => self.approves_itself.unwrap_or(Time::NEVER),
            _ => self.time,
        }
    }

    /// Where it stands at `now`: a proposal may have approved itself.
    #[must_use]
    pub fn status_at(&self, now: Time) -> Status {
        match self.status {
            Status::Proposed if self.acts_from() <= now => Status::InForce,
            status => status,
        }
    }

    /// How long it was to last as a whole, an extension included.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.lasts.max(self.until.since(self.time))
    }

    /// Whether it could still change something at `now`.
    #[must_use]
    pub fn is_open(&self, now: Time) -> bool {
        now < self.until && !matches!(self.status, Status::Rejected | Status::Lifted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_whom_it_is_about_and_whoever_is_behind_a_drift() {
        let finding = r#"{"client":"192.0.2.1"}"#;
        let drift =
            r#"{"kind":"drift","attribution":{"systemic":false,"named":[{"who":"192.0.2.1","share":0.2}]}}"#;
        let finding = What::Finding { record: finding.into() };
        let drift = What::Drift { record: drift.into() };
        for what in [&finding, &drift] {
            assert!(what.names("192.0.2.1") && !what.names("192.0.2.2"), "{what:?}");
        }
        assert_eq!((drift.client(), drift.kind()), (None, "drift"), "it is about a model");
        assert!(!What::KillSwitch { on: true }.names("192.0.2.1"));
    }

    #[test]
    fn a_decision_of_before_decisions_had_a_scope_holds_everywhere() {
        let old = r#"{"id":"d-0000000000000007","client":{"Address":"192.0.2.1"},"model":"prices",
            "detector":"one_field_sweep","action":"block","time":1,"until":2,
            "lasts":{"secs":1,"nanos":0},"status":"in_force","evidence":"{}"}"#;
        let old: Decided = serde_json::from_str(old).unwrap();
        assert_eq!((old.scope, old.only()), (Scope::Everywhere, None));
        assert!(!serde_json::to_string(&old).unwrap().contains("scope"), "and is written as it was");
        let at_one = Decided { scope: Scope::Model, ..old };
        let again: Decided = serde_json::from_str(&serde_json::to_string(&at_one).unwrap()).unwrap();
        assert_eq!(again.only().as_deref(), Some("prices"));
    }
}

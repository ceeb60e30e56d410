//! The closed sets of label values. What traffic can choose is never a label.

use std::marker::PhantomData;

use checkgate_detectors::facts::NotInspected;
use checkgate_detectors::finding::Action;
use prometheus::IntCounter;

use crate::decode::Part;
use crate::gate::Reason;

/// A label whose values are known when the program is built.
pub trait Label: Copy + 'static {
    /// Every value; a value's place in it is [`Label::index`].
    const ALL: &'static [Self];

    /// The value as it stands in the exposition.
    fn as_str(self) -> &'static str;

    /// The value's place in [`Label::ALL`].
    fn index(self) -> usize;
}

/// One resolved counter for each value of a label.
#[derive(Clone, Debug)]
pub struct PerLabel<L> {
    counters: Box<[IntCounter]>,
    label: PhantomData<L>,
}

impl<L: Label> PerLabel<L> {
    pub(super) fn resolve(counter: impl Fn(&str) -> IntCounter) -> Self {
        Self { counters: L::ALL.iter().map(|value| counter(value.as_str())).collect(), label: PhantomData }
    }

    /// Counts one.
    pub fn inc(&self, value: L) {
        self.inc_by(value, 1);
    }

    /// Counts `count`.
    pub fn inc_by(&self, value: L, count: u64) {
        if let Some(counter) = self.counters.get(value.index()) {
            counter.inc_by(count);
        }
    }

    /// What was counted so far.
    #[cfg(test)]
    pub fn get(&self, value: L) -> u64 {
        self.counters.get(value.index()).map_or(0, IntCounter::get)
    }
}

/// Class of the status that a client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeClass {
    /// 100 to 199.
    Informational,
    /// 200 to 299.
    Success,
    /// 300 to 399.
    Redirection,
    /// 400 to 499.
    ClientError,
    /// 500 to 599.
    ServerError,
    /// Anything else; also a request whose client left before it had a status.
    Other,
}

impl CodeClass {
    /// The class of a status; 0 stands for none.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

/// How an upstream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// No connection could be made.
    Connect,
    /// A deadline passed.
    Timeout,
    /// What came was not HTTP, or not whole.
    Protocol,
    /// The connection was reset.
    Reset,
}

/// Where the connection of a request to an upstream came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionUse {
    /// It was made for the request.
    New,
    /// Earlier requests used it, or others are using it.
    Reused,
}

/// What requests and health checks say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is asked.
    Available,
    /// Health checks took it out.
    Unhealthy,
    /// Failed requests took it out for a while.
    Ejected,
}

/// What became of an answer that has a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContractOutcome {
    /// It kept the contract.
    Passed,
    /// It broke it and was withheld.
    Refused,
    /// It broke it and was moved to the nearest allowed values.
    Clamped,
    /// It broke it and the operator's own answer stood in.
    Fallback,
    /// It could not be judged.
    Unjudged,
    /// It broke it and went on, for the mode is `observe`.
    Observed,
}

/// What became of an answer to a degraded client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DegradeOutcome {
    /// Its numbers were coarsened.
    Coarsened,
    /// It holds no number that says more than it may.
    Unchanged,
    /// It could not be read, came as a stream or is longer than may be held: it only came later.
    Delayed,
    /// Coarsened, it would have broken its contract: it only came later.
    Contract,
    /// Its client had as many requests open as it may, or its turn was too far off: it was refused.
    Refused,
}

/// What became of a question that waited for its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldOutcome {
    /// The verdict came and it went on.
    Passed,
    /// Its client was blocked while it waited.
    Blocked,
    /// It lies in a campaign.
    Campaign,
    /// The deadline came first and it went on.
    Deadline,
    /// It was too long to be looked into, and it went on.
    TooLarge,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// Everything that may change while the process runs has changed.
    Applied,
    /// The settings do not hold; those before them stay in force.
    Refused,
}

/// What became of what drift remembers of a model, over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftMemoryOutcome {
    /// It was written to the state folder.
    Written,
    /// It was not: too much waits, or the disk did not take it.
    NotWritten,
    /// A start goes on with it.
    Restored,
    /// A start does not: the model's reference is another one.
    OtherReference,
    /// It was damaged or of another version.
    SetAside,
}

/// Why the admin API, and with it the command line, did not take whom somebody named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRefusal {
    /// A network that is wider than decisions may be.
    TooWide,
    /// It reads as no client and no network.
    Unreadable,
}

/// What became of what a maintenance window taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateOutcome {
    /// It waits for an operator.
    Waits,
    /// It does, in the place of what an earlier window taught.
    Replaced,
    /// There were too few rows or clients for a reference.
    TooFew,
    /// Too many models have a candidate.
    NotKept,
    /// An operator promoted it.
    Promoted,
}

/// A bound of the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminBound {
    /// Answers kept for requests that are sent again.
    Answers,
    /// Listeners to events.
    Listeners,
    /// Links that were used.
    Links,
    /// Networks on the never-block list of operators.
    NeverBlock,
}

/// What came of something that another system asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundOutcome {
    /// It was done.
    Done,
    /// It was done and does not act: the mode, the never-block list, the kill switch or the brake keeps it back.
    KeptBack,
    /// There was nothing to do.
    Nothing,
    /// It was done before.
    Repeated,
    /// The endpoint may not, or it could not be done.
    Refused,
    /// It could not be read.
    Malformed,
    /// The secret or the signature is not the right one.
    Unauthorized,
    /// A signed message that came before.
    Replayed,
    /// A signed message from too long ago.
    Stale,
    /// More signed messages came than can be remembered.
    Full,
}

/// A kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Numbers.
    Metrics,
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Lines of DogStatsD.
    Dogstatsd,
}

/// What came of a delivery of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportOutcome {
    /// The collector took it.
    Delivered,
    /// The collector will never take it.
    Refused,
    /// It may be taken later.
    Failed,
}

/// What another proxy was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthzOutcome {
    /// The request may pass.
    Passed,
    /// It may pass, and is tagged.
    Tagged,
    /// A throttle refuses it.
    Throttled,
    /// A block refuses it.
    Blocked,
    /// The question could not be read, so that the request may pass.
    Malformed,
}

/// What came of a pull from a source of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// It was answered.
    Answered,
    /// The key was refused.
    Refused,
    /// No answer, or none that can be read.
    Failed,
}

/// What was done about a decision of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is enforced here as well.
    Enforced,
    /// It is an observation: the never-block list, the brake, the mode or the kill switch keeps it back.
    Observed,
    /// It ends at another time than it was to.
    Extended,
    /// It was lifted here as well.
    Lifted,
    /// It was lifted here while it stands there, and stays so.
    LiftedHere,
}

/// Why a decision of a source was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is no ban, or only simulated.
    Type,
    /// It is about something else than addresses.
    Scope,
    /// It is about a network that is wider than decisions may be, or about a part of a /64.
    Range,
    /// Value or duration cannot be read.
    Malformed,
    /// The filters leave it out.
    Filtered,
    /// As many clients are held as may be.
    Full,
}

/// What a token was worth as an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOutcome {
    /// Its signature was checked and holds.
    Verified,
    /// It was verified before.
    Remembered,
    /// There is none.
    Missing,
    /// It is no token, there are several, or its algorithm is unknown, such as `none`.
    Malformed,
    /// Its algorithm is for shared secrets, or does not fit the key that it names.
    Algorithm,
    /// No key of the issuer has the name that it gives.
    UnknownKey,
    /// Its signature does not hold.
    Signature,
    /// It has expired, or does not say when it will.
    Expired,
    /// It does not hold yet.
    NotYet,
    /// Another issuer's, or nobody's.
    Issuer,
    /// For somebody else.
    Audience,
    /// It names no client.
    Subject,
    /// The issuer's keys could not be read so far.
    NoKeys,
}

/// Why a batch of a sink was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFailure {
    /// The other side cannot be reached, or says that it is busy.
    Later,
    /// It did not answer in time.
    Timeout,
    /// One of the events is not wanted.
    Never,
    /// Somebody has to mend something.
    Refused,
    /// It wants nothing more.
    Gone,
    /// The ledger could not be read.
    Spool,
    /// The sink panicked.
    Panic,
}

/// Why an event will never be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkLoss {
    /// It became older than it may.
    Age,
    /// More than may wait came behind it.
    Bytes,
    /// Its content was erased.
    Erased,
    /// Its line in the ledger is damaged.
    Damaged,
    /// The ledger removed it before it was read.
    Removed,
    /// It is in no file of the ledger.
    Missing,
    /// It is not wanted, and there was no room among the dead letters.
    DeadLetters,
}

/// Implements [`Label`] from one list of values.
macro_rules! label {
    ($type:ty { $($value:ident => $text:literal),+ $(,)? }) => {
        impl Label for $type {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text),+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label!(SinkFailure {
    Later => "later",
    Timeout => "timeout",
    Never => "never",
    Refused => "refused",
    Gone => "gone",
    Spool => "spool",
    Panic => "panic",
});
label!(SinkLoss {
    Age => "age",
    Bytes => "bytes",
    Erased => "erased",
    Damaged => "damaged",
    Removed => "removed",
    Missing => "missing",
    DeadLetters => "dead_letters",
});
label!(ConnectionUse { New => "new", Reused => "reused" });
label!(Condition { Available => "available", Unhealthy => "unhealthy", Ejected => "ejected" });

label!(CodeClass {
    Informational => "1xx",
    Success => "2xx",
    Redirection => "3xx",
    ClientError => "4xx",
    ServerError => "5xx",
    Other => "other",
});
label!(UpstreamFailure { Connect => "connect", Timeout => "timeout", Protocol => "protocol", Reset => "reset" });
label!(ContractOutcome {
    Passed => "passed",
    Refused => "refused",
    Clamped => "clamped",
    Fallback => "fallback",
    Unjudged => "unjudged",
    Observed => "observed",
});
label!(DegradeOutcome {
    Coarsened => "coarsened",
    Unchanged => "unchanged",
    Delayed => "delayed",
    Contract => "contract",
    Refused => "refused",
});
label!(HeldOutcome {
    Passed => "passed",
    Blocked => "blocked",
    Campaign => "campaign",
    Deadline => "deadline",
    TooLarge => "too_large",
});
label!(TokenOutcome {
    Verified => "verified",
    Remembered => "remembered",
    Missing => "missing",
    Malformed => "malformed",
    Algorithm => "algorithm",
    UnknownKey => "unknown_key",
    Signature => "signature",
    Expired => "expired",
    NotYet => "not_yet",
    Issuer => "issuer",
    Audience => "audience",
    Subject => "subject",
    NoKeys => "no_keys",
});
label!(AdminBound {
    Answers => "answers",
    Listeners => "listeners",
    Links => "links",
    NeverBlock => "never_block",
});
label!(InboundOutcome {
    Done => "done",
    KeptBack => "kept_back",
    Nothing => "nothing",
    Repeated => "repeated",
    Refused => "refused",
    Malformed => "malformed",
    Unauthorized => "unauthorized",
    Replayed => "replayed",
    Stale => "stale",
    Full => "full",
});
label!(Signal { Metrics => "metrics", Traces => "traces", Logs => "logs", Dogstatsd => "dogstatsd" });
label!(ExportOutcome { Delivered => "delivered", Refused => "refused", Failed => "failed" });
label!(AuthzOutcome {
    Passed => "passed",
    Tagged => "tagged",
    Throttled => "throttled",
    Blocked => "blocked",
    Malformed => "malformed",
});
label!(Pulled { Answered => "answered", Refused => "refused", Failed => "failed" });
label!(Taken {
    Enforced => "enforced",
    Observed => "observed",
    Extended => "extended",
    Lifted => "lifted",
    LiftedHere => "lifted_here",
});
label!(NotTaken {
    Type => "type",
    Scope => "scope",
    Range => "range",
    Malformed => "malformed",
    Filtered => "filtered",
    Full => "full",
});
label!(DriftMemoryOutcome {
    Written => "written",
    NotWritten => "not_written",
    Restored => "restored",
    OtherReference => "other_reference",
    SetAside => "set_aside",
});
label!(ClientRefusal { TooWide => "too_wide", Unreadable => "unreadable" });
label!(Action {
    Alert => "alert",
    Clamp => "clamp",
    Fallback => "fallback",
    Refuse => "refuse",
    Tag => "tag",
    Throttle => "throttle",
    Degrade => "degrade",
    Block => "block",
});
label!(CandidateOutcome {
    Waits => "waits",
    Replaced => "replaced",
    TooFew => "too_few",
    NotKept => "not_kept",
    Promoted => "promoted",
});
label!(ReloadOutcome { Applied => "applied", Refused => "refused" });
label!(Part { Question => "question", Answer => "answer" });
label!(Reason {
    Mode => "mode",
    Unproven => "unproven",
    NeverBlock => "never_block",
    KillSwitch => "kill_switch",
    Brake => "brake",
    NoEvidence => "no_evidence",
});

impl Label for NotInspected {
    const ALL: &'static [Self] = &NotInspected::ALL;

    fn as_str(self) -> &'static str {
        NotInspected::as_str(self)
    }

    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check<L: Label>() {
        let name = std::any::type_name::<L>();
        for (place, value) in L::ALL.iter().enumerate() {
            assert_eq!(value.index(), place, "{name} lists {:?} out of order", value.as_str());
        }
        let texts: BTreeSet<_> = L::ALL.iter().map(|value| value.as_str()).collect();
        assert_eq!(texts.len(), L::ALL.len(), "two values of {name} share a text");
    }

    #[test]
    fn every_label_counts_in_its_own_place() {
        check::<CodeClass>();
        check::<UpstreamFailure>();
        check::<ConnectionUse>();
        check::<Condition>();
        check::<ContractOutcome>();
        check::<DegradeOutcome>();
        check::<HeldOutcome>();
        check::<TokenOutcome>();
        check::<AdminBound>();
        check::<DriftMemoryOutcome>();
        check::<CandidateOutcome>();
        check::<ClientRefusal>();
        check::<Action>();
        check::<ReloadOutcome>();
        check::<InboundOutcome>();
        check::<Signal>();
        check::<ExportOutcome>();
        check::<AuthzOutcome>();
        check::<Part>();
        check::<Reason>();
        check::<SinkFailure>();
        check::<SinkLoss>();
        check::<Pulled>();
        check::<Taken>();
        check::<NotTaken>();
        check::<NotInspected>();
        check::<crate::transport::rejected::Rejected>();
    }

    #[test]
    fn every_status_has_a_class() {
        for (status, class) in [
            (0, "other"),
            (100, "1xx"),
            (204, "2xx"),
            (304, "3xx"),
            (499, "4xx"),
            (599, "5xx"),
            (600, "other"),
        ] {
            assert_eq!(CodeClass::of(status).as_str(), class, "status {status}");
        }
    }
}

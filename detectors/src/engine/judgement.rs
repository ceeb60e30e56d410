//! What policy says of a finding: by the first rule that matches or by default, and never more than the evidence is
//! worth.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::agreement::Agreement;
use super::{Case, Engine, Label};
use crate::facts::Time;
use crate::finding::{Action, Grounds, Mode, Tier};
use crate::identity::Identity;
use crate::maintenance;
use crate::query::Finding;
use crate::reference::Trust;
use crate::rules::{About, Matter, Proof, Rule, Then};
use crate::severity::Severity;
use crate::tenants::TenantTag;

/// Findings of one client that rules can count; the oldest is let go of.
const LATELY_MAX: usize = 64;

/// The findings that were told of one client lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lately(VecDeque<(u32, Time)>);

impl Lately {
    fn note(&mut self, detector: &str, time: Time) {
        if self.0.len() >= LATELY_MAX {
            self.0.pop_front();
        }
        self.0.push_back((code(detector), time));
    }

    /// Findings of any of `detectors`, or of all where none is named, within the time before `now`.
    fn count(&self, detectors: &[String], within: Duration, now: Time) -> u32 {
        let codes: Vec<u32> = detectors.iter().map(|detector| code(detector)).collect();
        let counts = |(by, time): &&(u32, Time)| {
            now.since(*time) <= within && (codes.is_empty() || codes.contains(by))
        };
        self.0.iter().filter(counts).count() as u32
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// A detector's name in few bytes, the same in every version (FNV-1a, Fowler, Noll and Vo).
fn code(detector: &str) -> u32 {
    detector.bytes().fold(0x811c_9dc5, |code, byte| (code ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// What policy says.
pub(super) struct Judgement {
    /// What follows; an alert where nothing does.
    pub then: Then,
    /// How long a rule lets it last.
    pub lasts: Option<Vec<Duration>>,
    /// The longest that a rule lets it last.
    pub at_most: Option<Duration>,
    /// Whether the rule counted findings, which are used up by what follows.
    pub counted: bool,
    /// What it went by.
    pub grounds: Grounds,
    /// The window that mutes the finding, by its end.
    pub muted_until: Option<Time>,
    /// The agreement that it rests on.
    pub agreement: Option<Agreement>,
}

impl Judgement {
    fn alert(grounds: Grounds) -> Self {
        Self {
            then: Action::Alert.into(),
            lasts: None,
            at_most: None,
            counted: false,
            grounds,
            muted_until: None,
            agreement: None,
        }
    }
}

impl Engine {
    /// What follows from a finding of a detector on a client. `fresh` says that it is told, and not only once more.
    pub(super) fn judge(
        &mut self,
        turn: Option<usize>,
        label: Label,
        case: Case,
        finding: &Finding,
        fresh: bool,
    ) -> Judgement {
        let tenant = self.rules.policy.tenant(case.subject.identity, case.address).cloned();
        let grounds = Grounds { tenant: tenant.clone(), ..Grounds::default() };
        // What rests on a provisional reference never leads to a decision, not even to an observed one: that would
        // suspend the client's other evidence.
        let muted = self.muted(case, finding, grounds);
        if muted.muted_until.is_some() || finding.rests_on == Some(Trust::Provisional) {
            return muted;
        }
        if fresh && self.rules.policy.course_of(tenant.as_ref()).counts() {
            self.note_told(label.name, case);
        }
        let agreement = turn.and_then(|turn| self.agreement(turn, case, finding, tenant.as_ref()));
        let judged = self.by_course(label, case, finding.tier, agreement, tenant.as_ref(), muted.grounds);
        self.unless_in_force(case, judged)
    }

    /// An alert; where a maintenance window holds over what the finding rests on, a muted one.
    fn muted(&self, case: Case, finding: &Finding, mut grounds: Grounds) -> Judgement {
        let windows = &self.rules.policy.maintenance;
        let window = finding.rests_on.and_then(|_| maintenance::at(windows, case.time));
        let word = |note: &str| if note.is_empty() { "maintenance".to_owned() } else { note.to_owned() };
        grounds.muted = window.map(|window| word(&window.note));
        let muted_until = window.map(|window| window.until);
        Judgement { muted_until, ..Judgement::alert(grounds) }
    }

    fn by_course(
        &self,
        label: Label,
        case: Case,
        tier: Tier,
        agreement: Option<Agreement>,
        tenant: Option<&TenantTag>,
        mut grounds: Grounds,
    ) -> Judgement {
        let course = self.rules.policy.course_of(tenant);
        let proof = match (tier, &agreement) {
            (Tier::One, _) => Proof::TierOne,
            (Tier::Two, Some(_)) => Proof::Agreement,
            (Tier::Two, None) => Proof::Alone,
        };
        let default = course.by_default(proof);
        let matter = Matter {
            detector: label.name,
            tier,
            severity: Severity::judged(Mode::Enforce, default.action, tier),
            about: about(case.subject.identity),
            tenant_tier: tenant.map(|tenant| tenant.tier.as_str()),
            agreed: agreement.is_some(),
        };
        let spoken_of = self.memory.tallies.get(case.client).and_then(|tally| tally.spoken_of.as_deref());
        let counted = |detectors: &[String], within: Duration| {
            spoken_of.map_or(0, |spoken_of| spoken_of.lately.count(detectors, within, case.time))
        };
        let Some((number, rule)) = course.rule(&matter, counted) else {
            return Judgement { then: default, agreement, ..Judgement::alert(grounds) };
        };
        grounds.rule = Some(format!("rule {number} of {}", course.place));
        Judgement { agreement, ..by_rule(rule, proof, grounds) }
    }

    /// What a rule says of a campaign: whether the questions in it are refused.
    pub(super) fn judge_campaign(&self, label: Label, case: Case, finding: &Finding) -> Judgement {
        let muted = self.muted(case, finding, Grounds::default());
        let refuses = finding.tier == Tier::One;
        if muted.muted_until.is_some() || !refuses {
            return muted;
        }
        let course = &self.rules.policy.course;
        let matter = Matter {
            detector: label.name,
            tier: finding.tier,
            severity: Severity::High,
            about: About::Campaign,
            tenant_tier: None,
            agreed: false,
        };
        match course.rule(&matter, |_, _| 0) {
            None => Judgement { then: Action::Block.into(), ..muted },
            Some((number, rule)) => {
                let rule_told = Some(format!("rule {number} of {}", course.place));
                by_rule(rule, Proof::TierOne, Grounds { rule: rule_told, ..muted.grounds })
            }
        }
    }

    /// What is in force already need not be decided again, and nothing weaker beside it.
    fn unless_in_force(&mut self, case: Case, judged: Judgement) -> Judgement {
        let may_act = case.subject.may_be_blocked();
        let in_force = self.memory.in_force.on(case.subject.identity, may_act, case.time);
        if in_force.is_some_and(|decision| decision.action >= judged.then.action) {
            return Judgement::alert(Grounds { rule: None, ..judged.grounds });
        }
        judged
    }

    fn note_told(&mut self, detector: &str, case: Case) {
        let Some(tally) = self.memory.tallies.entry(case.client) else { return };
        tally.spoken_of.get_or_insert_default().lately.note(detector, case.time);
    }

    /// What led to a decision is used up by it.
    pub(super) fn use_up(&mut self, case: Case, judgement: &Judgement) {
        let tally = self.memory.tallies.get_mut(case.client);
        let Some(spoken_of) = tally.and_then(|tally| tally.spoken_of.as_deref_mut()) else { return };
        if judgement.counted {
            spoken_of.lately.clear();
        }
        if judgement.agreement.is_some() {
            spoken_of.told.iter_mut().for_each(|told| told.agrees_since = Time(0));
        }
    }
}

fn by_rule(rule: &Rule, proof: Proof, grounds: Grounds) -> Judgement {
    let counted = rule.when.count.is_some();
    let proof = if counted && proof == Proof::Alone { Proof::Repeated } else { proof };
    Judgement {
        then: rule.then.capped(proof),
        lasts: rule.lasts.clone(),
        at_most: rule.at_most,
        counted,
        ..Judgement::alert(grounds)
    }
}

fn about(identity: Identity) -> About {
    match identity {
        Identity::Key(_) => About::Key,
        Identity::Address(_) | Identity::Network(_) => About::Address,
    }
}

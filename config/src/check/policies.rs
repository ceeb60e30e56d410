//! What follows from findings: policies, their rules, and how long anything may last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Check;
use crate::path::Path;
use crate::raw::{RUNGS_MAX, RawDecisions, RawLadder, RawPolicy, RawRule, RawWhen, RawWidestPrefix};
use crate::settings::{
    Count, Decisions, Policy, Rule, Rules, Severity, Subject, Then, TierPolicy, When, WidestPrefix, Word,
};
use crate::words;

/// Rules of one list.
const RULES_MAX: usize = 256;
/// Findings that a rule may count; the core remembers no more of one client.
const COUNT_MAX: u32 = 64;
/// What rules may name besides the detectors of the binary.
const OTHER_DETECTORS: [&str; 3] = ["output_contract", CAMPAIGN, "drift"];
const CAMPAIGN: &str = "campaign";
/// The shortest and the longest time of a rule.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// What the whole document says that rules are checked against.
#[derive(Clone, Debug, Default)]
pub(super) struct Ground {
    /// The tiers of all tenants.
    pub(super) tiers: BTreeSet<String>,
    /// How long a proposal waits.
    pub(super) proposal_expires: Duration,
}

impl Check<'_> {
    /// A model's own policy at `scope`, and the top level's key by key where it says nothing.
    pub(super) fn policy(
        &mut self,
        scope: &Path,
        own: Option<&RawPolicy>,
        shared: Option<&RawPolicy>,
    ) -> Option<Policy> {
        let (nothing, shared) = (RawPolicy::default(), shared?);
        let is_typed = own.is_some();
        let own = own.unwrap_or(&nothing);
        let at = |own: bool| if own && is_typed { scope.key("policy") } else { Path::dotted("policy") };
        let rules = own.rules.as_ref().or(shared.rules.as_ref());
        let rules = self.rules(&at(own.rules.is_some()).key("rules"), rules.map(Vec::as_slice));
        let tiers = own.tiers.as_ref().or(shared.tiers.as_ref()).cloned().unwrap_or_default();
        let tiers_at = at(own.tiers.is_some()).key("tiers");
        let mut policy = Policy {
            on_tier_one: own.on_tier_one.or(shared.on_tier_one)?,
            on_tier_two: own.on_tier_two.or(shared.on_tier_two)?,
            rules: rules?,
            tiers: BTreeMap::new(),
            digits: own.digits.or(shared.digits)?,
            delay: own.delay.or(shared.delay)?.0,
            delay_max: own.delay_max.or(shared.delay_max)?.0,
            step_rows: own.step_rows.or(shared.step_rows)?,
            requests_per_minute: own.requests_per_minute.or(shared.requests_per_minute)?,
        };
        for (tier, typed) in tiers {
            let path = tiers_at.key(&tier);
            self.known_tier(&path, &tier, true);
            let rules = match &typed.rules {
                Some(rules) => self.rules(&path.key("rules"), Some(rules))?,
                None => policy.rules.clone(),
            };
            let on_tier_one = typed.on_tier_one.unwrap_or(policy.on_tier_one);
            let on_tier_two = typed.on_tier_two.unwrap_or(policy.on_tier_two);
            policy.tiers.insert(tier, TierPolicy { on_tier_one, on_tier_two, rules });
        }
        Some(policy)
    }

    fn known_tier(&mut self, path: &Path, tier: &str, is_key: bool) {
        if self.ground.tiers.contains(tier) {
            return;
        }
        let known: Vec<&str> = self.ground.tiers.iter().map(String::as_str).collect();
        let message = if known.is_empty() {
            format!("no tenant is of tier \"{tier}\"; name the tenants of that tier under tenants")
        } else {
            words::unknown("tier of tenants", tier, &known)
        };
        if is_key { self.refuse_key(path, message) } else { self.refuse(path, message) }
    }

    fn rules(&mut self, path: &Path, typed: Option<&[RawRule]>) -> Option<Rules> {
        let typed = typed.unwrap_or_default();
        if typed.len() > RULES_MAX {
            self.refuse(path, format!("more than {RULES_MAX} rules; join those that end alike"));
        }
        let rules: Vec<Option<Rule>> =
            typed.iter().enumerate().map(|(index, rule)| self.rule(&path.index(index), rule)).collect();
        let list = rules.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Rules { place: path.to_string(), list })
    }

    fn rule(&mut self, path: &Path, typed: &RawRule) -> Option<Rule> {
        let nothing = RawWhen::default();
        let when = self.when(&path.key("when"), typed.when.as_ref().unwrap_or(&nothing));
        let then = self.then(path, typed);
        let lasts = typed.lasts.as_ref().map(|ladder| self.ladder(&path.key("for"), ladder));
        let spans = typed.lasts.iter().flat_map(|ladder| ladder.0.iter().map(|span| ("for", span)));
        for (key, span) in spans.chain(typed.at_most.iter().map(|span| ("at_most", span))) {
            if span.0 < SHORTEST || span.0 > LONGEST {
                self.refuse(&path.key(key), "out of range; allowed is 1s to 30d");
            }
        }
        let lasts = match lasts {
            Some(ladder) => Some(ladder?),
            None => None,
        };
        let rule = Rule { when: when?, then: then?, lasts, at_most: typed.at_most.map(|at_most| at_most.0) };
        self.no_more_than_proven(path, &rule);
        Some(rule)
    }

    fn when(&mut self, path: &Path, typed: &RawWhen) -> Option<When> {
        let detectors = typed.detectors.clone().unwrap_or_default();
        self.known_to_rules(&path.key("detectors"), &detectors);
        if typed.tier.is_some_and(|tier| !(1..=2).contains(&tier)) {
            self.refuse(&path.key("tier"), "a tier is 1 or 2");
        }
        if let Some(tier) = &typed.tenant_tier {
            self.known_tier(&path.key("tenant_tier"), tier, false);
        }
        let count = match (typed.count, typed.within) {
            (None, None) => None,
            (Some(findings), Some(within)) => Some(Count { findings, within: within.0 }),
            (Some(_), None) => {
                self.refuse(
                    &path.key("count"),
                    "a count needs the time it counts in; add for example \"within: 1h\"",
                );
                return None;
            }
            (None, Some(_)) => {
                self.refuse(
                    &path.key("within"),
                    "nothing is counted within this time; add for example \"count: 3\"",
                );
                return None;
            }
        };
        if let Some(Count { findings, within }) = count {
            if !(2..=COUNT_MAX).contains(&findings) {
                self.refuse(&path.key("count"), format!("out of range; allowed is 2 to {COUNT_MAX}"));
            }
            if within < SHORTEST || within > LONGEST {
                self.refuse(&path.key("within"), "out of range; allowed is 1s to 30d");
            }
        }
        Some(When {
            detectors,
            tier: typed.tier,
            severity: typed.severity,
            subject: typed.subject,
            tenant_tier: typed.tenant_tier.clone(),
            agreed: typed.agreed,
            count,
        })
    }

    fn known_to_rules(&mut self, path: &Path, detectors: &[String]) {
        let known: Vec<&str> =
            self.parts.detectors.iter().map(|part| part.name).chain(OTHER_DETECTORS).collect();
        for (index, name) in detectors.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                self.refuse(&path.index(index), words::unknown("detector", name, &known));
            }
        }
    }

    fn then(&mut self, path: &Path, typed: &RawRule) -> Option<Then> {
        let Some(word) = typed.then else {
            self.refuse(path, "a rule needs what follows; add \"then: ...\"");
            return None;
        };
        if word != Word::Propose {
            for (key, is_typed) in
                [("action", typed.action.is_some()), ("approves_after", typed.approves_after.is_some())]
            {
                if is_typed {
                    self.refuse_key(
                        &path.key(key),
                        "only a proposal has this; write \"then: propose\" or remove it",
                    );
                }
            }
            return Some(Then::Now(word));
        }
        let action = typed.action.unwrap_or(Word::Block);
        if matches!(action, Word::Alert | Word::Propose) {
            self.refuse(&path.key("action"), "what is proposed is tag, throttle, degrade or block");
        }
        let approves_after = typed.approves_after.map(|after| after.0);
        if approves_after.is_some_and(|after| after.is_zero() || after > self.ground.proposal_expires) {
            self.refuse(
                &path.key("approves_after"),
                "a proposal approves itself after 1ms or more, and before decisions.proposal_expires",
            );
        }
        Some(Then::Proposed { action, approves_after })
    }

    /// Findings of tier 2 are weak evidence: no rule makes more of it than the core would let it be.
    fn no_more_than_proven(&mut self, path: &Path, rule: &Rule) {
        let When { tier, severity, subject, ref detectors, agreed, count, .. } = rule.when;
        let names_campaigns = detectors.iter().any(|name| name == CAMPAIGN);
        if subject == Some(Subject::Campaign) || names_campaigns {
            if !matches!(rule.then, Then::Now(Word::Alert | Word::Block)) {
                self.refuse(
                    &path.key("then"),
                    "a campaign is refused by what it asks, and no client of it is; write block or alert",
                );
            }
            return;
        }
        if tier == Some(1) || severity == Some(Severity::High) {
            return;
        }
        let agreed = agreed == Some(true);
        let message = match rule.then {
            Then::Now(Word::Block) => {
                "findings of tier 2 never block: add \"tier: 1\" to when, or write propose with \"action: degrade\""
            }
            Then::Now(Word::Degrade) if !agreed => {
                "one finding of tier 2 is too little to degrade a client: add \"tier: 1\" or \"agreed: true\" to when"
            }
            Then::Now(Word::Throttle) if !agreed && count.is_none() => {
                "one finding of tier 2 is too little to throttle a client: add \"tier: 1\", \"agreed: true\" or a count to when"
            }
            Then::Proposed { action: Word::Block, .. } => {
                "findings of tier 2 never block, not even with approval: add \"tier: 1\" to when, or \"action: degrade\" here"
            }
            Then::Proposed { approves_after: Some(_), .. } if !agreed => {
                "what rests on one finding of tier 2 needs a person's approval: remove approves_after, or add \"tier: 1\" or \"agreed: true\" to when"
            }
            _ => return,
        };
        self.refuse(&path.key("then"), message);
    }

    /// The rungs, each at least as long as the one before.
    pub(super) fn ladder(&mut self, path: &Path, typed: &RawLadder) -> Option<Vec<Duration>> {
        let rungs: Vec<Duration> = typed.0.iter().map(|period| period.0).collect();
        if rungs.is_empty() || rungs.len() > RUNGS_MAX {
            self.refuse(
                path,
                format!("a ladder has 1 to {RUNGS_MAX} times; write for example [15m, 2h, 24h]"),
            );
            return None;
        }
        if !rungs.is_sorted() {
            self.refuse(
                path,
                "a further offence would last shorter than the one before; begin with the shortest time",
            );
            return None;
        }
        Some(rungs)
    }
}

fn widest_prefix(raw: &RawWidestPrefix) -> Option<WidestPrefix> {
    Some(WidestPrefix { ipv4: raw.ipv4?, ipv6: raw.ipv6? })
}

pub(super) fn decisions(raw: &RawDecisions) -> Option<Decisions> {
    Some(Decisions {
        scope: raw.scope?,
        widest_prefix: widest_prefix(raw.widest_prefix.as_ref()?)?,
        at_most: raw.at_most?.0,
        proposal_expires: raw.proposal_expires?.0,
        offences_count_for: raw.offences_count_for?.0,
    })
}

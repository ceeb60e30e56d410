//! Rules: an ordered list that says what follows from which finding. The first that matches counts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::finding::{Action, Tier};
use crate::severity::Severity;

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Then {
    /// What is done to the client, or only told.
    pub action: Action,
    /// Whose word it waits for; without it, it acts at once.
    pub approval: Option<Approval>,
}

/// What a proposal waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// After how long it approves itself; without it, only an operator approves it.
    pub after: Option<Duration>,
}

impl From<Action> for Then {
    fn from(action: Action) -> Self {
        Self { action, approval: None }
    }
}

impl Then {
    /// What evidence may lead to at most. Tier one is proof enough for anything. Two detectors of tier two that agree
    /// may slow a client down, and never shut it out. One alone may have a client tagged or, where it told several
    /// times, throttled; what goes beyond that an operator has to approve, and a block it cannot even propose.
    #[must_use]
    pub fn capped(self, proof: Proof) -> Self {
        match (proof, self.approval) {
            (Proof::TierOne, _) => self,
            (Proof::Agreement, _) => Self { action: self.action.min(Action::Degrade), ..self },
            (Proof::Repeated, None) => Self { action: self.action.min(Action::Throttle), ..self },
            (Proof::Alone, None) => Self { action: self.action.min(Action::Tag), ..self },
            (Proof::Repeated | Proof::Alone, Some(_)) => {
                Self { action: self.action.min(Action::Degrade), approval: Some(Approval { after: None }) }
            }
        }
    }
}

/// How much a finding proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is of tier one.
    TierOne,
    /// It is of tier two, and another detector of tier two agrees on a client of great volume.
    Agreement,
    /// It is of tier two, and a rule asked for several.
    Repeated,
    /// It is of tier two.
    Alone,
}

/// Whom a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// A client that is known by its key.
    Key,
    /// A client that is known by its address.
    Address,
    /// Several clients together.
    Campaign,
}

/// What a rule asks for; what it leaves out may be anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct When {
    /// Detectors, one of which must have made the finding; empty for any.
    pub detectors: Vec<String>,
    /// Its tier.
    pub tier: Option<Tier>,
    /// Its severity by the settings that hold without rules, as in `enforce`: this grave or graver.
    pub severity: Option<Severity>,
    /// Whom it is about.
    pub about: Option<About>,
    /// The tier of the tenant that the client belongs to.
    pub tenant_tier: Option<String>,
    /// Whether two detectors of tier two agree on a client of great volume.
    pub agreed: Option<bool>,
    /// How many findings must have been told of the client lately, this one included.
    pub count: Option<Count>,
}

/// So many findings within so long a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Findings, at least 2.
    pub findings: u32,
    /// The time from the first to the last.
    pub within: Duration,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What it asks for.
    pub when: When,
    /// What follows.
    pub then: Then,
    /// How long that lasts, first offence first; without it, as long as the model's decisions do.
    pub lasts: Option<Vec<Duration>>,
    /// The longest that it may last.
    pub at_most: Option<Duration>,
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Matter<'a> {
    /// Who made the finding.
    pub detector: &'a str,
    /// Its tier.
    pub tier: Tier,
    /// Its severity without rules.
    pub severity: Severity,
    /// Whom it is about.
    pub about: About,
    /// The tier of the client's tenant, if it belongs to one.
    pub tenant_tier: Option<&'a str>,
    /// Whether two detectors agree.
    pub agreed: bool,
}

impl When {
    /// Whether a finding is meant. `counted` gives how many findings of these detectors were told of the client within
    /// a time.
    pub fn matches(&self, matter: &Matter<'_>, counted: impl FnOnce(&[String], Duration) -> u32) -> bool {
        let named = self.detectors.iter().any(|detector| detector == matter.detector);
        // What several clients did together is no client's doing: a rule must mean it.
        let means_campaigns = named || self.about == Some(About::Campaign);
        (self.detectors.is_empty() || named)
            && (matter.about != About::Campaign || means_campaigns)
            && self.tier.is_none_or(|tier| tier == matter.tier)
            && self.severity.is_none_or(|severity| matter.severity >= severity)
            && self.about.is_none_or(|about| about == matter.about)
            && self.tenant_tier.as_deref().is_none_or(|tier| Some(tier) == matter.tenant_tier)
            && self.agreed.is_none_or(|agreed| agreed == matter.agreed)
            && self.count.is_none_or(|count| counted(&self.detectors, count.within) >= count.findings)
    }
}

/// What follows from the findings on one kind of clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// From one that may act by itself, where no rule matches.
    pub on_tier_one: Then,
    /// Where two detectors that only tell agree on a client of great volume, and no rule matches; never a block.
    pub on_tier_two: Action,
    /// The rules, in their order.
    pub rules: Vec<Rule>,
    /// Where they were written, as people are told: `policy.rules`.
    pub place: String,
}

impl Default for Course {
    /// A block on tier one, an alert on tier two, no rule.
    fn default() -> Self {
        Self {
            on_tier_one: Action::Block.into(),
            on_tier_two: Action::Alert,
            rules: Vec::new(),
            place: "policy.rules".to_owned(),
        }
    }
}

impl Course {
    /// What follows without rules from a finding that proves so much.
    #[must_use]
    pub fn by_default(&self, proof: Proof) -> Then {
        match proof {
            Proof::TierOne => self.on_tier_one,
            Proof::Agreement => Then::from(self.on_tier_two).capped(proof),
            Proof::Repeated | Proof::Alone => Action::Alert.into(),
        }
    }

    /// The first rule that matches, with its number from 1.
    pub fn rule(
        &self,
        matter: &Matter<'_>,
        counted: impl Fn(&[String], Duration) -> u32,
    ) -> Option<(usize, &Rule)> {
        let numbered = self.rules.iter().enumerate().map(|(index, rule)| (index + 1, rule));
        let mut matching = numbered.filter(|(_, rule)| rule.when.matches(matter, &counted));
        matching.next()
    }

    /// The strongest that can follow at all. Behind a rule that takes every finding of tier one, the default follows
    /// from none.
    #[must_use]
    pub fn strongest(&self) -> Action {
        let takes_all = |rule: &Rule| {
            let When { tier, .. } = rule.when;
            tier != Some(Tier::Two) && rule.when == When { tier, ..When::default() }
        };
        let by_default = (!self.rules.iter().any(takes_all)).then_some(self.on_tier_one.action);
        let of_rules = self.rules.iter().map(|rule| rule.then.action);
        of_rules.chain(by_default).max().unwrap_or(Action::Alert)
    }

    /// Whether it makes a difference that two detectors agree.
    #[must_use]
    pub fn looks_for_agreement(&self) -> bool {
        let asks = |rule: &Rule| rule.when.agreed.is_some() || rule.when.tier != Some(Tier::One);
        self.on_tier_two > Action::Alert || self.rules.iter().any(asks)
    }

    /// Whether a rule counts findings.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.rules.iter().any(|rule| rule.when.count.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matter() -> Matter<'static> {
        Matter {
            detector: "one_field_sweep",
            tier: Tier::One,
            severity: Severity::High,
            about: About::Key,
            tenant_tier: Some("enterprise"),
            agreed: false,
        }
    }

    fn matches(when: When, matter: Matter<'_>) -> bool {
        when.matches(&matter, |_, _| 2)
    }

    #[test]
    fn what_a_rule_leaves_out_may_be_anything_and_what_it_names_must_hold() {
        let count = |findings| Some(Count { findings, within: Duration::from_secs(60) });
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let nothing = When::default;
        for (when, expected) in [
            (nothing(), true),
            (When { detectors: named(&["client_volume", "one_field_sweep"]), ..nothing() }, true),
            (When { detectors: named(&["client_volume"]), ..nothing() }, false),
            (When { tier: Some(Tier::One), ..nothing() }, true),
            (When { tier: Some(Tier::Two), ..nothing() }, false),
            (When { severity: Some(Severity::Medium), ..nothing() }, true),
            (When { about: Some(About::Key), ..nothing() }, true),
            (When { about: Some(About::Address), ..nothing() }, false),
            (When { tenant_tier: Some("enterprise".into()), ..nothing() }, true),
            (When { tenant_tier: Some("free".into()), ..nothing() }, false),
            (When { agreed: Some(true), ..nothing() }, false),
            (When { count: count(2), ..nothing() }, true),
            (When { count: count(3), ..nothing() }, false),
        ] {
            assert_eq!(matches(when.clone(), matter()), expected, "{when:?}");
        }
        let weak = Matter { severity: Severity::Low, tenant_tier: None, ..matter() };
        assert!(!matches(When { severity: Some(Severity::Medium), ..nothing() }, weak));
        assert!(!matches(When { tenant_tier: Some("free".into()), ..nothing() }, weak));
    }

    #[test]
    fn a_campaign_is_meant_only_by_rules_that_say_so() {
        let campaign = Matter { about: About::Campaign, detector: "campaign", ..matter() };
        assert!(!matches(When::default(), campaign));
        assert!(matches(When { about: Some(About::Campaign), ..When::default() }, campaign));
        assert!(matches(When { detectors: vec!["campaign".into()], ..When::default() }, campaign));
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rule = |tier, action: Action| Rule {
            when: When { tier: Some(tier), ..When::default() },
            then: action.into(),
            lasts: None,
            at_most: None,
        };
        let rules = vec![
            rule(Tier::Two, Action::Tag),
            rule(Tier::One, Action::Throttle),
            rule(Tier::One, Action::Block),
        ];
        let course = Course { rules, ..Course::default() };
        let found = course.rule(&matter(), |_, _| 0).map(|(number, rule)| (number, rule.then.action));
        assert_eq!(found, Some((2, Action::Throttle)));
        assert_eq!(course.strongest(), Action::Block);
        let throttled = Course { rules: vec![rule(Tier::One, Action::Throttle)], ..Course::default() };
        assert_eq!(throttled.strongest(), Action::Throttle, "no finding comes as far as the default");
        let tagged = Course { rules: vec![rule(Tier::Two, Action::Tag)], ..Course::default() };
        assert_eq!(tagged.strongest(), Action::Block);
    }

    #[test]
    fn only_tier_one_blocks() {
        let proposed = |action, after| Then { action, approval: Some(Approval { after }) };
        let soon = Some(Duration::from_secs(60));
        for (proof, then, expected) in [
            (Proof::TierOne, Action::Block.into(), Action::Block.into()),
            (Proof::TierOne, proposed(Action::Block, soon), proposed(Action::Block, soon)),
            (Proof::Agreement, Action::Block.into(), Action::Degrade.into()),
            (Proof::Agreement, proposed(Action::Block, soon), proposed(Action::Degrade, soon)),
            (Proof::Repeated, Action::Block.into(), Action::Throttle.into()),
            (Proof::Repeated, proposed(Action::Block, soon), proposed(Action::Degrade, None)),
            (Proof::Alone, Action::Throttle.into(), Action::Tag.into()),
            (Proof::Alone, Action::Alert.into(), Action::Alert.into()),
            (Proof::Alone, proposed(Action::Throttle, soon), proposed(Action::Throttle, None)),
        ] {
            assert_eq!(then.capped(proof), expected, "{proof:?} and {then:?}");
        }
    }
}

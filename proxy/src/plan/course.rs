//! What follows from findings, from the words of the settings to those of the core.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use checkgate_config::settings::{self, Member, OnTierOne, OnTierTwo, Settings, Word};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, Scope, Tier};
use checkgate_detectors::maintenance::Maintenance;
use checkgate_detectors::policy::Spans;
use checkgate_detectors::rules::{About, Approval, Count, Course, Rule, Then, When};
use checkgate_detectors::severity::Severity;
use checkgate_detectors::tenants::{Tenant, TenantTag, Tenants};

/// Where decisions of detectors hold.
pub(super) fn scope(scope: settings::DecisionScope) -> Scope {
    match scope {
        settings::DecisionScope::Model => Scope::Model,
        settings::DecisionScope::Everywhere => Scope::Everywhere,
    }
}

/// What a model's policy says, whoever the client is.
pub(super) fn course(policy: &settings::Policy) -> Course {
    of(policy.on_tier_one, policy.on_tier_two, &policy.rules)
}

/// What it says of the clients of tenants, by their tier.
pub(super) fn tiers(policy: &settings::Policy) -> BTreeMap<String, Course> {
    let tier = |tier: &settings::TierPolicy| of(tier.on_tier_one, tier.on_tier_two, &tier.rules);
    policy.tiers.iter().map(|(name, policy)| (name.clone(), tier(policy))).collect()
}

fn of(tier_one: OnTierOne, tier_two: OnTierTwo, rules: &settings::Rules) -> Course {
    Course {
        on_tier_one: on_tier_one(tier_one),
        on_tier_two: on_tier_two(tier_two),
        rules: rules.list.iter().map(rule).collect(),
        place: rules.place.clone(),
    }
}

fn on_tier_one(word: OnTierOne) -> Then {
    match word {
        OnTierOne::Block => Action::Block.into(),
        OnTierOne::Degrade => Action::Degrade.into(),
        OnTierOne::Throttle => Action::Throttle.into(),
        OnTierOne::Tag => Action::Tag.into(),
        OnTierOne::Alert => Action::Alert.into(),
        OnTierOne::Propose => Then { action: Action::Block, approval: Some(Approval { after: None }) },
    }
}

fn on_tier_two(word: OnTierTwo) -> Action {
    match word {
        OnTierTwo::Alert => Action::Alert,
        OnTierTwo::Tag => Action::Tag,
        OnTierTwo::Throttle => Action::Throttle,
        OnTierTwo::Degrade => Action::Degrade,
    }
}

fn rule(rule: &settings::Rule) -> Rule {
    Rule { when: when(&rule.when), then: then(rule.then), lasts: rule.lasts.clone(), at_most: rule.at_most }
}

fn then(then: settings::Then) -> Then {
    match then {
        settings::Then::Now(word) => action(word).into(),
        settings::Then::Proposed { action: word, approves_after } => {
            Then { action: action(word), approval: Some(Approval { after: approves_after }) }
        }
    }
}

fn action(word: Word) -> Action {
    match word {
        Word::Alert => Action::Alert,
        Word::Tag => Action::Tag,
        Word::Throttle => Action::Throttle,
        Word::Degrade => Action::Degrade,
        // The settings tell apart what is proposed from what is done.
        Word::Block | Word::Propose => Action::Block,
    }
}

fn when(when: &settings::When) -> When {
    When {
        detectors: when.detectors.clone(),
        tier: when.tier.map(|tier| if tier == 1 { Tier::One } else { Tier::Two }),
        severity: when.severity.map(|severity| match severity {
            settings::Severity::Low => Severity::Low,
            settings::Severity::Medium => Severity::Medium,
            settings::Severity::High => Severity::High,
        }),
        about: when.subject.map(|subject| match subject {
            settings::Subject::Key => About::Key,
            settings::Subject::Address => About::Address,
            settings::Subject::Campaign => About::Campaign,
        }),
        tenant_tier: when.tenant_tier.clone(),
        agreed: when.agreed,
        count: when.count.map(|count| Count { findings: count.findings, within: count.within }),
    }
}

/// How long anything about decisions may last.
pub(super) fn spans(decisions: &settings::Decisions) -> Spans {
    Spans {
        at_most: decisions.at_most,
        offences_count_for: decisions.offences_count_for,
        proposal_expires: decisions.proposal_expires,
    }
}

/// The operator's customers.
pub(super) fn tenants(settings: &Settings) -> Tenants {
    let tenant = |tenant: &settings::Tenant| Tenant {
        tag: TenantTag { name: tenant.name.clone(), tier: tenant.tier.clone() },
        keys: tenant.clients.iter().filter_map(key).collect(),
        networks: tenant.clients.iter().filter_map(network).collect(),
    };
    Tenants::new(settings.tenants.iter().map(tenant).collect())
}

fn key(member: &Member) -> Option<u64> {
    match member {
        Member::Key(key) => Some(*key),
        Member::Network(_) => None,
    }
}

fn network(member: &Member) -> Option<(std::net::IpAddr, u8)> {
    match member {
        Member::Key(_) => None,
        Member::Network(network) => Some((network.network(), network.prefix_len())),
    }
}

/// The windows of one model; those that name no model are for all, also for discovered ones.
pub(super) fn maintenance(windows: &[settings::Maintenance], model: &str) -> Vec<Maintenance> {
    let meant = |window: &&settings::Maintenance| window.model.as_deref().is_none_or(|named| named == model);
    let window = |window: &settings::Maintenance| Maintenance {
        from: moment(window.from),
        until: moment(window.until),
        note: window.note.clone(),
    };
    windows.iter().filter(meant).map(window).collect()
}

fn moment(time: SystemTime) -> Time {
    Time::default().plus(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

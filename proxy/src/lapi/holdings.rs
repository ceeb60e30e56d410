//! What stands here from one source: on whom, by which decision, and until when.
//!
//! ```text
//! not held --the source tells of a ban--> held, in force or observed
//! held --it tells of another end--> held until then
//! held --it tells that the ban is over, or a full list leaves it out--> lifted, not held
//! held --somebody lifts it here--> let go: not taken again while the source tells of the same end
//! ```
//! The source's own name is the actor of all of it, with a brake of its own. What stands from it is read back from the
//! ledger with every full list, so that a restart forgets nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::LapiSource;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId};
use checkgate_detectors::identity::{Address, Identity, Network};
use ipnet::IpNet;

use super::client::authority;
use super::wire::{BAN, Decision, Delta, IP, RANGE};
use super::{actor, go_time};
use crate::control::{Control, LASTS, Order};
use crate::gate::{Applied, Gate};
use crate::ledger::Ledger;
use crate::ledger::entry::{By, Status};
use crate::metrics::crowdsec::SourceMetrics;
use crate::metrics::labels::{NotTaken, Taken};
use crate::told;

/// Addresses of one client, which of IPv6 has a whole /64, that are told apart.
const ADDRESSES_MAX: usize = 16;
/// Ends that lie no further apart are the same: what is left of a decision is told in rounded spans.
const SAME_END: Duration = Duration::from_secs(5);
/// Letters of a reason.
const WHY_MAX: usize = 200;
/// Bits of an IPv6 network that is one client.
const CLIENT_BITS: u8 = 64;

/// What holdings act upon.
#[derive(Clone, Debug)]
pub struct Hands {
    /// The door to changes.
    pub control: Arc<Control>,
    /// What decisions act by.
    pub gate: Arc<Gate>,
    /// What stands, over restarts.
    pub ledger: Arc<Ledger>,
    /// The longest that any decision may last.
    pub at_most: Duration,
}

/// A client that a source tells of.
#[derive(Debug)]
struct Held {
    /// The end of each of its bans, by the value that the source gives.
    values: BTreeMap<Box<str>, Time>,
    /// Why, as the source says.
    why: Box<str>,
    /// What stands here on account of them; nothing where it was lifted here.
    decision: Option<DecisionId>,
    /// The end that the source gave when that was decided.
    until: Time,
}

impl Held {
    fn ends(&self) -> Time {
        self.values.values().max().copied().unwrap_or_default()
    }
}

/// A ban that can be enforced here.
#[derive(Debug, PartialEq, Eq)]
struct Ban {
    client: Identity,
    value: Box<str>,
    until: Time,
    why: Box<str>,
}

/// Everything that stands from one source.
#[derive(Debug)]
pub struct Holdings {
    source: LapiSource,
    who: Arc<str>,
    from: Arc<str>,
    metrics: SourceMetrics,
    by_client: BTreeMap<Identity, Held>,
}

impl Holdings {
    /// Nothing yet of `source`.
    #[must_use]
    pub fn new(source: LapiSource, metrics: SourceMetrics) -> Self {
        let (who, from) = (actor(&source.name).into(), authority(&source.url).into());
        Self { source, who, from, metrics, by_client: BTreeMap::new() }
    }

    /// Takes a full list: what stands from this source and is not on it is lifted.
    pub fn take_all(&mut self, list: &Delta<'_>, hands: &Hands, now: Time) {
        let mut before = std::mem::take(&mut self.by_client);
        for decision in list.new.iter().flatten() {
            self.note(decision, hands, now);
        }
        let standing = self.standing(hands, now);
        for (client, held) in &mut self.by_client {
            let known = before.remove(client);
            held.until = known.as_ref().map_or(Time::default(), |known| known.until);
            held.decision = known.and_then(|known| known.decision);
        }
        let surplus = self.claim(&standing);
        surplus.into_iter().for_each(|id| self.lift(id, "the source no longer lists it", hands, now));
        let clients: Vec<Identity> = self.by_client.keys().copied().collect();
        clients.into_iter().for_each(|client| self.settle(client, hands, now));
        self.show();
    }

    /// Takes what changed since the last pull.
    pub fn take(&mut self, delta: &Delta<'_>, hands: &Hands, now: Time) {
        for decision in delta.deleted.iter().flatten() {
            self.let_go(decision, hands, now);
        }
        for decision in delta.new.iter().flatten() {
            if let Some(client) = self.note(decision, hands, now) {
                self.settle(client, hands, now);
            }
        }
        self.by_client.retain(|_, held| now < held.ends());
        self.show();
    }

    /// Notes a ban that can be enforced here, and says on whom it is; what cannot be taken is counted.
    fn note(&mut self, decision: &Decision<'_>, hands: &Hands, now: Time) -> Option<Identity> {
        let ban = match self.read(decision, hands, now) {
            Ok(ban) => ban?,
            Err(why_not) => {
                self.metrics.not_taken.inc(why_not);
                return None;
            }
        };
        let is_full = self.by_client.len() >= self.source.decisions_max;
        let held = match self.by_client.get_mut(&ban.client) {
            Some(held) if held.values.len() < ADDRESSES_MAX || held.values.contains_key(&ban.value) => held,
            None if !is_full => self.by_client.entry(ban.client).or_insert_with(|| Held {
                values: BTreeMap::new(),
                why: ban.why.clone(),
                decision: None,
                until: Time::default(),
            }),
            _ => {
                self.metrics.not_taken.inc(NotTaken::Full);
                return None;
            }
        };
        held.why = ban.why;
        held.values.insert(ban.value, ban.until);
        Some(ban.client)
    }

    /// The ban that a decision is; nothing where it is over.
    fn read(&self, decision: &Decision<'_>, hands: &Hands, now: Time) -> Result<Option<Ban>, NotTaken> {
        if decision.kind != BAN || decision.simulated == Some(true) {
            return Err(NotTaken::Type);
        }
        if !self.is_asked_for(decision) {
            return Err(NotTaken::Filtered);
        }
        let client = client(decision)?;
        hands.control.check_width(client).map_err(|_| NotTaken::Range)?;
        let lasts = go_time::read(&decision.duration).ok_or(NotTaken::Malformed)?;
        if lasts.is_zero() {
            return Ok(None);
        }
        let why = format!("{} ({})", decision.scenario, decision.origin);
        let why: String = told::replaced(&why).chars().take(WHY_MAX).collect();
        Ok(Some(Ban { client, value: (*decision.value).into(), until: now.plus(lasts), why: why.into() }))
    }

    /// Whether a decision is among those that the operator wants, whatever the source makes of its parameters.
    fn is_asked_for(&self, decision: &Decision<'_>) -> bool {
        let scenario = decision.scenario.to_ascii_lowercase();
        let holds = |word: &String| scenario.contains(&word.to_ascii_lowercase());
        let is_origin = |origin: &String| origin.eq_ignore_ascii_case(&decision.origin);
        let LapiSource { origins, scenarios_containing, scenarios_not_containing, .. } = &self.source;
        (origins.is_empty() || origins.iter().any(is_origin))
            && (scenarios_containing.is_empty() || scenarios_containing.iter().any(holds))
            && !scenarios_not_containing.iter().any(holds)
    }

    /// What stands from this source by the ledger, with the end of each.
    fn standing(&self, hands: &Hands, now: Time) -> Vec<(Identity, (DecisionId, Time))> {
        let book = hands.ledger.book();
        let own = book.open(now).filter(|decided| decided.detector == self.who);
        own.filter_map(|decided| match decided.client {
            client @ (Identity::Address(_) | Identity::Network(_)) => {
                Some((client, (decided.id, decided.until)))
            }
            Identity::Key(_) => None,
        })
        .collect()
    }

    /// Takes for its own what stands by the ledger, one decision for each client, and gives what is left over: of clients
    /// that are not held, and further ones, as after a start whose ledger opened late.
    fn claim(&mut self, standing: &[(Identity, (DecisionId, Time))]) -> Vec<DecisionId> {
        let known = |(client, (id, _)): &&(Identity, (DecisionId, Time))| {
            self.by_client.get(client).is_some_and(|held| held.decision == Some(*id))
        };
        let mut claimed: BTreeSet<Identity> =
            standing.iter().filter(known).map(|(client, _)| *client).collect();
        let mut surplus = Vec::new();
        for (client, (id, until)) in standing {
            match self.by_client.get_mut(client) {
                Some(held) if held.decision == Some(*id) => {}
                Some(held) if claimed.insert(*client) => (held.decision, held.until) = (Some(*id), *until),
                _ => surplus.push(*id),
            }
        }
        surplus
    }

    /// Has what stands on a client agree with what the source tells of it.
    fn settle(&mut self, client: Identity, hands: &Hands, now: Time) {
        let Some(held) = self.by_client.get_mut(&client) else { return };
        let until = held.ends();
        let same = is_same_end(until, held.until);
        let Some(id) = held.decision else {
            // Somebody let it go here while the source tells of it; another ban is another matter.
            let was_let_go = held.until != Time::default();
            if !(was_let_go && same) {
                self.decide(client, until, hands, now);
            }
            return;
        };
        match hands.gate.standing(id).filter(|block| now < block.until) {
            Some(block) => {
                // No decision lasts longer than the operator allows, however often its end moves.
                let latest = block.time.plus(hands.at_most);
                let moved = !is_same_end(until.min(latest), held.until.min(latest));
                held.until = until;
                if moved {
                    self.extend(id, until.min(latest), hands, now);
                }
            }
            None if was_lifted(id, hands) && same => {
                held.decision = None;
                self.metrics.taken.inc(Taken::LiftedHere);
            }
            None => self.decide(client, until, hands, now),
        }
    }

    fn extend(&self, id: DecisionId, until: Time, hands: &Hands, now: Time) {
        let by = self.by("the source gave another end");
        if hands.control.extend(id, lasts(until, hands, now), by, now).is_ok() {
            self.metrics.taken.inc(Taken::Extended);
        }
    }

    fn decide(&mut self, client: Identity, until: Time, hands: &Hands, now: Time) {
        let Some(held) = self.by_client.get_mut(&client) else { return };
        let order = Order { client, action: Action::Block, lasts: lasts(until, hands, now), model: None };
        let (limit, why) = (self.source.blocks_per_minute, held.why.clone());
        let by = By { who: Arc::clone(&self.who), from: Some(Arc::clone(&self.from)), why: why.into() };
        match hands.control.decide_elsewhere(&order, limit, by, now) {
            Ok(changed) => {
                let (block, applied) = changed.now;
                (held.decision, held.until) = (Some(block.id), until);
                let acts = applied == Applied::Enforced;
                self.metrics.taken.inc(if acts { Taken::Enforced } else { Taken::Observed });
            }
            Err(refused) => {
                tracing::warn!(source = %self.source.name, %refused, "a decision of a source is not taken");
                self.metrics.not_taken.inc(NotTaken::Malformed);
            }
        }
    }

    /// The source says that a decision is over.
    fn let_go(&mut self, decision: &Decision<'_>, hands: &Hands, now: Time) {
        if decision.kind != BAN {
            return;
        }
        let Ok(client) = client(decision) else { return };
        let Some(held) = self.by_client.get_mut(&client) else { return };
        if held.values.remove(&*decision.value).is_none() {
            return;
        }
        if !held.values.is_empty() {
            return self.settle(client, hands, now);
        }
        if let Some(id) = self.by_client.remove(&client).and_then(|held| held.decision) {
            self.lift(id, "the source lifted it", hands, now);
        }
    }

    fn lift(&self, id: DecisionId, why: &str, hands: &Hands, now: Time) {
        // One that has ended by itself needs no lift.
        if hands.control.lift(id, self.by(why), now).is_ok() {
            self.metrics.taken.inc(Taken::Lifted);
        }
    }

    fn by(&self, why: &str) -> By {
        By { who: Arc::clone(&self.who), from: Some(Arc::clone(&self.from)), why: why.into() }
    }

    fn show(&self) {
        let standing = self.by_client.values().filter(|held| held.decision.is_some()).count();
        self.metrics.standing.set(i64::try_from(standing).unwrap_or(i64::MAX));
    }
}

/// Lifts what stands from sources that are not `known` any more.
pub fn lift_orphans(known: impl Fn(&str) -> bool, hands: &Hands, now: Time) {
    let orphans: Vec<(DecisionId, Arc<str>)> = hands
        .ledger
        .book()
        .open(now)
        .filter(|decided| super::source_of(&decided.detector).is_some_and(|source| !known(source)))
        .map(|decided| (decided.id, Arc::clone(&decided.detector)))
        .collect();
    for (id, who) in orphans {
        let by = By { who, from: None, why: "its source is no longer in the configuration".into() };
        // One that ended meanwhile needs no lift.
        drop(hands.control.lift(id, by, now));
    }
}

fn was_lifted(id: DecisionId, hands: &Hands) -> bool {
    hands.ledger.book().decision(id).is_some_and(|decided| decided.status == Status::Lifted)
}

fn is_same_end(one: Time, other: Time) -> bool {
    one.since(other).max(other.since(one)) <= SAME_END
}

/// How long a decision until `until` lasts here.
fn lasts(until: Time, hands: &Hands, now: Time) -> Duration {
    until.since(now).min(hands.at_most).clamp(*LASTS.start(), *LASTS.end())
}

/// Whom a decision is about: an address, or a network.
fn client(decision: &Decision<'_>) -> Result<Identity, NotTaken> {
    let is_range = decision.scope.eq_ignore_ascii_case(RANGE);
    if !is_range && !decision.scope.eq_ignore_ascii_case(IP) {
        return Err(NotTaken::Scope);
    }
    let network = checkgate_config::address::network(&decision.value).ok_or(NotTaken::Malformed)?;
    let (first, length): (IpAddr, u8) = (network.network(), network.prefix_len());
    let is_one = match network {
        IpNet::V4(v4) => length == v4.max_prefix_len(),
        IpNet::V6(v6) => [CLIENT_BITS, v6.max_prefix_len()].contains(&length),
    };
    let wide = || Network::around(first, length).map(Identity::Network).ok_or(NotTaken::Range);
    if is_one { Ok(Identity::Address(Address::of(first))) } else { wide() }
}

#[cfg(test)]
mod tests;

//! What bouncers are told: the decisions that act on addresses now, one for each. A bouncer refuses an address whichever
//! model it asks, so that what holds at one model alone is not told, and counted.
//!
//! A snapshot is made when somebody asks and something changed since the last. Those who ask share it, and hold it as
//! what they were told, so that the difference to the next is a walk through two sorted lists.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use checkgate_config::settings::LapiServer;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId};
use checkgate_detectors::identity::{Address, Identity};
use ipnet::IpNet;
use parking_lot::Mutex;
use serde::Deserialize;

use super::wire::{BAN, Decision, IP, RANGE};
use super::{CROWDSEC, go_time, source_of};
use crate::gate::Gate;
use crate::gate::table::ActiveBlock;
use crate::ledger::Ledger;
use crate::ledger::entry::Status;
use crate::metrics::Metrics;

/// Bits of an IPv6 network that is one client.
const CLIENT_BITS: u8 = 64;
/// Bits of a decision's id that are told: what a number of JSON holds in every language.
const ID_BITS: u32 = 53;
/// The origin of what was decided here.
const ORIGIN: &str = "checkgate";
/// How far back decisions that have ended are told to a bouncer of which nothing is known.
const GONE_SINCE: Duration = Duration::from_secs(24 * 3600);
/// How many of the latest decisions are looked through for them: meanwhile nothing can be noted.
const LOOKED_THROUGH_MAX: usize = 20_000;

/// A decision as bouncers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whom it is about.
    pub client: Address,
    /// Which.
    pub decision: DecisionId,
    /// What is to be done.
    pub kind: Arc<str>,
    /// Who decided: this program, or the name of a source.
    pub origin: Arc<str>,
    /// Why.
    pub scenario: Arc<str>,
    /// When it ends.
    pub until: Time,
}

impl Served {
    /// Whether it is about a network.
    #[must_use]
    pub fn is_range(&self) -> bool {
        self.client.ip().is_ipv6()
    }

    /// The network that it is about; of IPv4 one address.
    #[must_use]
    pub fn network(&self) -> IpNet {
        match self.client.ip() {
            ip @ IpAddr::V4(_) => IpNet::from(ip),
            ip @ IpAddr::V6(_) => IpNet::new(ip, CLIENT_BITS).unwrap_or_else(|_| IpNet::from(ip)),
        }
    }

    /// The client as it stands in messages.
    #[must_use]
    pub fn value(&self) -> String {
        self.client.to_string()
    }

    /// The decision in the words of the protocol; `ended` where it no longer holds.
    #[must_use]
    pub fn on_the_wire(&self, ended: bool, now: Time) -> Decision<'_> {
        // What was lifted before its end is told as over since a moment.
        let over = now.since(self.until).max(Duration::from_secs(1));
        let duration = if ended {
            format!("-{}", go_time::written(over))
        } else {
            go_time::written(self.until.since(now))
        };
        Decision {
            id: i64::try_from(self.decision.0 & ((1 << ID_BITS) - 1)).unwrap_or_default(),
            origin: (&*self.origin).into(),
            kind: (&*self.kind).into(),
            scope: if self.is_range() { RANGE } else { IP }.into(),
            value: self.value().into(),
            duration: duration.into(),
            scenario: (&*self.scenario).into(),
            simulated: None,
        }
    }
}

/// Everything that acts on addresses at one moment, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    served: Vec<Served>,
}

impl Snapshot {
    /// All of it.
    #[must_use]
    pub fn all(&self) -> &[Served] {
        &self.served
    }

    /// What is told of a client.
    #[must_use]
    pub fn on(&self, client: Address) -> Option<&Served> {
        let place = self.served.binary_search_by_key(&client, |served| served.client).ok()?;
        self.served.get(place)
    }
}

/// What bouncers are told of, besides blocks.
#[derive(Debug, PartialEq, Eq)]
struct Telling {
    ban: Arc<str>,
    throttle_as: Option<Arc<str>>,
    degrade_as: Option<Arc<str>>,
    relay: bool,
}

impl Telling {
    fn of(server: Option<&LapiServer>) -> Self {
        let named = |word: fn(&LapiServer) -> Option<&str>| server.and_then(word).map(Arc::from);
        Self {
            ban: BAN.into(),
            throttle_as: named(|server| server.throttle_as.as_deref()),
            degrade_as: named(|server| server.degrade_as.as_deref()),
            relay: server.is_some_and(|server| server.relay),
        }
    }

    fn kind(&self, action: Action) -> Option<Arc<str>> {
        match action {
            Action::Block => Some(Arc::clone(&self.ban)),
            Action::Throttle => self.throttle_as.clone(),
            Action::Degrade => self.degrade_as.clone(),
            _ => None,
        }
    }
}

/// What the latest snapshot rests on.
#[derive(Debug, Default)]
struct Latest {
    /// The gate's revision, and whether any model enforces; nothing while there is no snapshot.
    seen: Option<(u64, bool)>,
    /// When the first of its decisions ends.
    ends: Option<Time>,
    snapshot: Arc<Snapshot>,
}

/// Makes snapshots.
pub struct Board {
    gate: Arc<Gate>,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    /// Whether any model is in `enforce`.
    enforces: Box<dyn Fn() -> bool + Send + Sync>,
    telling: ArcSwap<Telling>,
    latest: Mutex<Latest>,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

impl Board {
    /// A board of what acts at `gate`, where `enforces` says whether any model does.
    pub fn new(
        gate: Arc<Gate>,
        ledger: Arc<Ledger>,
        metrics: Arc<Metrics>,
        enforces: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            gate,
            ledger,
            metrics,
            enforces: Box::new(enforces),
            telling: ArcSwap::from_pointee(Telling::of(None)),
            latest: Mutex::default(),
        }
    }

    /// Tells what `server` says from now on.
    pub fn adopt(&self, server: Option<&LapiServer>) {
        self.telling.store(Arc::new(Telling::of(server)));
        self.latest.lock().seen = None;
    }

    /// What acts on addresses at `now`. Where nothing changed it is the same one as before.
    #[must_use]
    pub fn at(&self, now: Time) -> Arc<Snapshot> {
        let mut latest = self.latest.lock();
        // Before anything is looked at: what changes meanwhile is looked at again.
        let seen = (self.gate.revision(), (self.enforces)());
        let ended = latest.ends.is_some_and(|ends| ends <= now);
        if latest.seen == Some(seen) && !ended {
            return Arc::clone(&latest.snapshot);
        }
        let made = if seen.1 { self.make(&latest.snapshot, now) } else { Snapshot::default() };
        let left_out = if seen.1 { self.gate.kept_from_bouncers(now) } else { 0 };
        self.metrics.crowdsec_kept_back.set(i64::try_from(left_out).unwrap_or(i64::MAX));
        latest.seen = Some(seen);
        latest.ends = made.served.iter().map(|served| served.until).min();
        if *latest.snapshot != made {
            self.metrics.crowdsec_served.set(i64::try_from(made.served.len()).unwrap_or(i64::MAX));
            latest.snapshot = Arc::new(made);
        }
        Arc::clone(&latest.snapshot)
    }

    fn make(&self, before: &Snapshot, now: Time) -> Snapshot {
        let telling = self.telling.load();
        let acting = self.gate.on_addresses(now);
        // A look into the ledger is needed once for each decision.
        let detectors = self.detectors(&acting, before);
        // Few words stand for many decisions.
        let mut words: BTreeMap<&str, (Arc<str>, Arc<str>)> = BTreeMap::new();
        let mut serve = |(client, block): &(Address, ActiveBlock)| {
            let kind = telling.kind(block.action)?;
            let known = before.on(*client).filter(|served| served.decision == block.id);
            let (origin, scenario) = match known {
                Some(served) => (Arc::clone(&served.origin), Arc::clone(&served.scenario)),
                None => {
                    let detector = detectors.get(&block.id)?;
                    words.entry(detector).or_insert_with(|| described(detector)).clone()
                }
            };
            let told = telling.relay || &*origin == ORIGIN;
            told.then_some(Served {
                client: *client,
                decision: block.id,
                kind,
                origin,
                scenario,
                until: block.until,
            })
        };
        let mut served: Vec<Served> = acting.iter().filter_map(&mut serve).collect();
        served.sort_unstable_by_key(|served| served.client);
        Snapshot { served }
    }

    /// The detectors of decisions that `before` does not know.
    fn detectors(
        &self,
        acting: &[(Address, ActiveBlock)],
        before: &Snapshot,
    ) -> BTreeMap<DecisionId, Arc<str>> {
        let is_new = |client: Address, id| before.on(client).is_none_or(|served| served.decision != id);
        let book = self.ledger.book();
        let noted =
            |block: &ActiveBlock| book.decision(block.id).map(|decided| Arc::clone(&decided.detector));
        acting
            .iter()
            .filter(|(client, block)| is_new(*client, block.id))
            // One that was taken a moment ago may act before it is noted.
            .map(|(_, block)| (block.id, noted(block).unwrap_or_else(|| recorded(&block.evidence))))
            .collect()
    }

    /// Blocks on addresses that acted within the last day and no longer do, for bouncers of which nothing is known: they
    /// may have been told of them by an earlier process.
    #[must_use]
    pub fn gone(&self, current: &Snapshot, now: Time) -> Vec<Served> {
        let since = Time(now.0.saturating_sub(Time(0).plus(GONE_SINCE).0));
        let telling = self.telling.load();
        let book = self.ledger.book();
        let acted = book.decisions(None).take(LOOKED_THROUGH_MAX).filter(|(_, decided)| {
            let acted = matches!(decided.status, Status::InForce | Status::Lifted);
            decided.until > since && acted && decided.only().is_none()
        });
        let ended = acted.filter_map(|(_, decided)| {
            let Identity::Address(client) = decided.client else { return None };
            let kind = telling.kind(decided.action)?;
            let (origin, scenario) = described(&decided.detector);
            let told = current.on(client).is_none() && (telling.relay || &*origin == ORIGIN);
            let until = decided.until;
            told.then_some((client, Served { client, decision: decided.id, kind, origin, scenario, until }))
        });
        // Of several on one client one is enough: bouncers go by the value.
        let by_client: BTreeMap<Address, Served> = ended.collect();
        by_client.into_values().collect()
    }
}

/// Origin and scenario of what a detector found, or a source decided.
fn described(detector: &Arc<str>) -> (Arc<str>, Arc<str>) {
    let scenario = || format!("{ORIGIN}/{detector}").into();
    match source_of(detector) {
        Some(source) => (source.into(), format!("{ORIGIN}/{CROWDSEC}").into()),
        None if &**detector == CROWDSEC => (Arc::clone(detector), scenario()),
        None => (ORIGIN.into(), scenario()),
    }
}

/// The detector that a record names.
fn recorded(record: &str) -> Arc<str> {
    #[derive(Deserialize)]
    struct Found<'a> {
        #[serde(borrow, default)]
        detector: std::borrow::Cow<'a, str>,
    }
    serde_json::from_str(record).map_or_else(|_| "".into(), |found: Found<'_>| (&*found.detector).into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A ban until an hour after the epoch.
    pub fn served(client: &str, decision: u64) -> Served {
        Served {
            client: Address::of(client.parse().unwrap()),
            decision: DecisionId(decision),
            kind: BAN.into(),
            origin: ORIGIN.into(),
            scenario: "checkgate/one_field_sweep".into(),
            until: Time(3_600_000_000),
        }
    }

    pub fn snapshot(mut served: Vec<Served>) -> Arc<Snapshot> {
        served.sort_unstable_by_key(|served| served.client);
        Arc::new(Snapshot { served })
    }

    #[test]
    fn a_decision_has_the_form_that_bouncers_read() {
        let now = Time(60_000_000);
        let told = |served: &Served, ended| serde_json::to_string(&served.on_the_wire(ended, now)).unwrap();
        let large = served("192.0.2.7", u64::MAX);
        assert_eq!(
            told(&large, false),
            r#"{"id":9007199254740991,"origin":"checkgate","type":"ban","scope":"Ip","value":"192.0.2.7","duration":"59m0s","scenario":"checkgate/one_field_sweep"}"#
        );
        assert_eq!(
            told(&served("2001:db8:1:2:3::4", 5), true),
            r#"{"id":5,"origin":"checkgate","type":"ban","scope":"Range","value":"2001:db8:1:2::/64","duration":"-1s","scenario":"checkgate/one_field_sweep"}"#
        );
        let over = Served { until: Time(0), ..served("192.0.2.7", 5) };
        assert!(told(&over, true).contains(r#""duration":"-1m0s""#), "since when it is over");
    }

    #[test]
    fn a_source_is_named_as_the_origin_of_what_it_decided() {
        let named = |detector: &str| {
            let (origin, scenario) = described(&Arc::from(detector));
            (origin.to_string(), scenario.to_string())
        };
        assert_eq!(named("operator"), ("checkgate".into(), "checkgate/operator".into()));
        assert_eq!(named("crowdsec:lan"), ("lan".into(), "checkgate/crowdsec".into()));
        assert_eq!(named("crowdsec").0, "crowdsec", "no decision of another passes for this program's");
        assert_eq!(&*recorded(r#"{"id":"x","detector":"off_grid"}"#), "off_grid");
    }
}

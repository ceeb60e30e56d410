//! Decisions that other systems take: a SIEM, a SOAR, an alert manager. Each endpoint of the configuration is a source
//! of its own, with a name in the ledger, a brake, and no more power than it was given.
//!
//! ```text
//! body --who sent it (signature, or a secret)--> asks (`ask`) --asked before? (`memory`)--> what was done then
//!                                                    |---- not yet --> `act` --control--> decisions
//! ```
//! Nothing here changes a decision but through [`Control`](crate::control::Control).

mod act;
pub mod ask;
mod memory;
mod signature;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use checkgate_config::settings::{self, InboundShape, Secret};
use checkgate_detectors::facts::Time;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::Value;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

pub use self::act::Desk;
use self::ask::{Ask, Fault};
use self::memory::Memory;
use self::signature::{Message, Signers};
use crate::ledger::Ticket;
use crate::metrics::labels::{InboundOutcome, PerLabel};
use crate::metrics::{Metrics, unix_seconds};

/// What stands before an endpoint's name in the ledger.
const WHO: &str = "inbound:";

/// All endpoints.
pub struct Inbound {
    endpoints: ArcSwap<BTreeMap<String, Arc<Endpoint>>>,
    metrics: Arc<Metrics>,
    /// When the process began, in whole Unix seconds: what was signed before may have been taken by another one.
    began: u64,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}

impl Inbound {
    /// The endpoints of the configuration.
    #[must_use]
    pub fn new(endpoints: &[settings::Inbound], metrics: &Arc<Metrics>) -> Self {
        let inbound = Self {
            endpoints: ArcSwap::default(),
            metrics: Arc::clone(metrics),
            began: unix_seconds() as u64,
        };
        inbound.adopt(endpoints);
        inbound
    }

    /// Takes other endpoints while it runs. One that keeps its name keeps what it remembers.
    pub fn adopt(&self, endpoints: &[settings::Inbound]) {
        let before = self.endpoints.load();
        let endpoint = |settings: &settings::Inbound| {
            let known = before.get(&settings.name).map(|endpoint| Arc::clone(&endpoint.memory));
            let endpoint = Endpoint::new(settings.clone(), known.unwrap_or_default(), &self.metrics);
            (settings.name.clone(), Arc::new(endpoint))
        };
        self.endpoints.store(Arc::new(endpoints.iter().map(endpoint).collect()));
    }

    /// The endpoint of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Endpoint>> {
        self.endpoints.load().get(name).cloned()
    }

    /// Counts a request for an endpoint that is none.
    pub fn count_unknown(&self) {
        self.metrics.inbound_unknown.inc(InboundOutcome::Unauthorized);
    }

    /// When the process began, in whole Unix seconds.
    #[must_use]
    pub fn began(&self) -> u64 {
        self.began
    }
}

/// One endpoint.
pub struct Endpoint {
    settings: settings::Inbound,
    /// Its name in the ledger.
    who: Arc<str>,
    proof: Proof,
    memory: Arc<Mutex<Memory>>,
    outcomes: PerLabel<InboundOutcome>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// How a sender proves who it is.
enum Proof {
    /// It signs each message.
    Signature(Signers),
    /// It shows a secret, of which the SHA-256 are known.
    Secret(Vec<[u8; 32]>),
}

/// What a sender shows of itself, and what it sends.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
    /// The wall clock, in whole Unix seconds.
    pub wall: u64,
    /// When the process began.
    pub began: u64,
    /// Where it comes from.
    pub from: Option<&'a Arc<str>>,
}

/// What became of one thing that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = InboundOutcome)]
pub struct Outcome {
    /// The sender's own id of it.
    #[schema(value_type = String)]
    pub id: Arc<str>,
    /// What was asked for: `ban`, `lift`, `approve`, `reject`, or `resolved` by Alertmanager.
    pub asked: &'static str,
    /// `done`, `kept_back` (it stands and does not act) or `nothing` (there was nothing to do).
    pub outcome: &'static str,
    /// The decisions that were taken or changed.
    pub decisions: Vec<String>,
    /// When the decision ends that was taken or approved, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub until: Option<f64>,
    /// Whether it lasts shorter than was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shortened: bool,
    /// What keeps it from acting.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub kept_back: Option<&'static str>,
}

/// What became of everything that one body asked for, before the ledger kept it.
pub struct Dealt {
    /// In the order of the body.
    pub outcomes: Vec<Result<Outcome, Fault>>,
    /// Whether nothing was done, because all of it was done before.
    pub repeated: bool,
    /// What the ledger has yet to keep.
    pub tickets: Vec<Ticket>,
}

impl Endpoint {
    fn new(settings: settings::Inbound, memory: Arc<Mutex<Memory>>, metrics: &Arc<Metrics>) -> Self {
        let proof = match settings.shape {
            InboundShape::Webhook => {
                Proof::Signature(Signers::new(settings.secrets.iter().filter_map(Secret::signing_key)))
            }
            _ => Proof::Secret(
                settings.secrets.iter().map(|secret| hash(secret.reveal().as_bytes())).collect(),
            ),
        };
        Self {
            who: format!("{WHO}{}", settings.name).into(),
            proof,
            memory,
            outcomes: metrics.inbound(&settings.name),
            metrics: Arc::clone(metrics),
            settings,
        }
    }

    /// Whether it is asked without a signature.
    #[must_use]
    pub fn wants_a_secret(&self) -> bool {
        matches!(self.proof, Proof::Secret(_))
    }

    /// Whether `shown` is one of its secrets. All are compared by their hashes, so that the time tells nothing.
    #[must_use]
    pub fn knows(&self, shown: &[u8]) -> bool {
        let Proof::Secret(known) = &self.proof else { return false };
        let shown = hash(shown);
        known.iter().fold(false, |found, one| found | bool::from(shown.ct_eq(one)))
    }

    /// Counts what came of something.
    pub fn count(&self, outcome: InboundOutcome) {
        self.outcomes.inc(outcome);
    }

    /// Does what a body asks for. Its sender has shown its secret, or has signed it.
    ///
    /// # Errors
    /// The signature does not hold, it is too old or a copy, or nothing can be read from the body.
    pub fn take(&self, letter: Letter<'_>, desk: &Desk<'_>, now: Time) -> Result<Dealt, Fault> {
        let message = self.verified(letter, now)?;
        let body: Value = serde_json::from_slice(letter.body).map_err(|error| {
            self.count(InboundOutcome::Malformed);
            let detail = format!("the body is not JSON: {error}");
            Fault::new(StatusCode::BAD_REQUEST, detail, "send a JSON object")
        })?;
        let asks = ask::read(&self.settings, message.as_ref().map(|message| message.id), &body);
        let asks = asks.inspect_err(|_| self.count(InboundOutcome::Malformed))?;
        let mut dealt = Dealt { outcomes: Vec::new(), repeated: true, tickets: Vec::new() };
        for ask in asks {
            let outcome = match ask {
                Ok(ask) => self.deal(&ask, letter.from, desk, now, &mut dealt),
                Err(fault) => {
                    self.count(InboundOutcome::Malformed);
                    Err(fault)
                }
            };
            dealt.repeated &= outcome.is_ok();
            dealt.outcomes.push(outcome);
        }
        Ok(dealt)
    }

    /// The message that a signature vouches for; nothing where a secret did.
    fn verified<'l>(&self, letter: Letter<'l>, now: Time) -> Result<Option<Message<'l>>, Fault> {
        let Proof::Signature(signers) = &self.proof else { return Ok(None) };
        let message = signers.verify(&letter).map_err(|wrong| {
            self.count(wrong.outcome());
            Fault::from(wrong)
        })?;
        let seen = self.memory.lock().sees(message.id, message.stamp, now);
        let forgotten = seen.map_err(|unseen| {
            self.count(unseen.outcome());
            Fault::from(unseen)
        })?;
        self.metrics.inbound_forgotten.inc_by(forgotten);
        Ok(Some(message))
    }

    /// Does one thing, unless it was done before.
    fn deal(
        &self,
        ask: &Ask,
        from: Option<&Arc<str>>,
        desk: &Desk<'_>,
        now: Time,
        dealt: &mut Dealt,
    ) -> Result<Outcome, Fault> {
        // Held until it is done, so that the same thing at the same time is done once.
        let mut memory = self.memory.lock();
        if let Some(before) = memory.answer(&ask.key, now) {
            self.count(InboundOutcome::Repeated);
            return Ok(before);
        }
        let done = self.act(ask, from, desk, now).inspect_err(|_| self.count(InboundOutcome::Refused))?;
        self.count(done.counted);
        if let Some(closes) = &ask.closes {
            let resolved = Outcome { outcome: "nothing", decisions: Vec::new(), ..done.outcome.clone() };
            self.metrics.inbound_forgotten.inc_by(memory.remember_unless_known(closes, resolved, now));
        }
        self.metrics.inbound_forgotten.inc_by(memory.remember(&ask.key, done.outcome.clone(), now));
        dealt.repeated = false;
        dealt.tickets.extend(done.tickets);
        Ok(done.outcome)
    }
}

/// What a body says of the sender's own ids is remembered by this.
fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
pub mod tests;

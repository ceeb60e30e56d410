//! Errors: most requests of a client fail.
//!
//! Whoever looks for a model's schema, its limits or a way to crash it, asks what it cannot answer; so do attack tools
//! whose arithmetic overflows. A request counts as failed when the answer is an error, or when its question held NaN,
//! an infinity, or no rows that could be read. What says nothing of the question is left out: credentials (401, 403,
//! 407), pace (408, 425, 429), and questions whose rows were all asked before, which are retries.
//!
//! A model that fails for everybody must accuse nobody. The latest outcomes of up to 64 clients are remembered, and a
//! client is told only where the others fared better since its own failures began; where most of its failures are the
//! server's (5xx, or no answer), three others must have asked at all.
//!
//! Cost: a pass over 64 outcomes for each answer.
//!
//! It only alerts: an integration that somebody is still writing looks the same. Many identities that fail at once
//! look like an outage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector,
    QuerySpec, Reply,
};
use crate::cumulative::{Evidence, Kept, Shares, Steps};
use crate::facts::{Cell, NotInspected, Time};
use crate::finding::Tier;
use crate::lines::Origin;
use crate::seen::Seen;

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "error_probing",
    summary: "Most requests of a client fail while those of others do not",
    source: "outcomes and a cumulative sum (Page, Biometrika 1954), compared with the other clients",
    atlas: "AML.T0014",
    owasp: "ML01:2023",
    tier: Tier::Two,
    aspect: Aspect::Errors,
    tells_alone: true,
    purpose: Purpose::Technique,
    needs: Needs::Question,
    state_bytes_max: 128,
    schema: super::schema_of::<Failing>,
    defaults: super::defaults_of::<Failing>,
    example: r#"{"honest_share": 0.2, "attack_share": 0.6}"#,
    check: super::check_of::<Failing>,
    build: |parameters| {
        super::build_with(parameters, |failing: Failing| ErrorProbing {
            steps: Steps::new(failing.shares()),
            others: failing.attack_share / 2.0,
        })
    },
};

/// When a client's requests fail too often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Failing {
    /// Share of an honest client's requests that may fail, above 0 and below `attack_share`.
    pub honest_share: f64,
    /// Share of a probing client's requests that fails, below 1. Where half of that share of the other clients fails
    /// too, nobody is told.
    pub attack_share: f64,
    /// How likely an honest client's run of requests is taken for probing, above 0 and below 0.1.
    pub false_alarms: f64,
}

impl Default for Failing {
    fn default() -> Self {
        Self { honest_share: 0.1, attack_share: 0.5, false_alarms: 1e-4 }
    }
}

impl Failing {
    fn shares(&self) -> Shares {
        Shares { honest: self.honest_share, attack: self.attack_share, false_alarms: self.false_alarms }
    }
}

impl Parameters for Failing {
    fn check(&self) -> Result<(), ParameterError> {
        self.shares().check()
    }
}

/// Clients whose latest outcome is remembered.
const CLIENTS: usize = 64;
/// Other clients without whom nobody knows whether the server fails for all.
const WITNESSES: usize = 3;
/// Open questions with NaN or infinities that are remembered of a client.
const STRANGE_MAX: usize = 4;

struct ErrorProbing {
    steps: Steps,
    /// Share of failing other clients from which on nobody is told.
    others: f64,
}

/// What is kept of one client: a number, from 1, and what speaks against it, if anything does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    number: u32,
    suspicion: Option<Box<Suspicion>>,
}

/// A client's failed requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Suspicion {
    kept: Kept,
    /// Failures that are the server's, of those in the sum.
    by_server: u32,
    /// Questions with NaN or infinities whose answers are awaited, the latest last.
    strange: Vec<u64>,
}

/// The latest outcomes of all clients, one to a client, the latest last.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Population {
    clients: u32,
    latest: Vec<Outcome>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Outcome {
    client: u32,
    time: Time,
    failed: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Good,
    /// The question's fault.
    Failed,
    /// The server's fault, as far as the status tells.
    FailedByServer,
}

impl QueryDetector for ErrorProbing {
    type Slot = Slot;
    type Population = Population;

    fn observe(
        &self,
        exchange: &Exchange<'_>,
        seen: &Seen,
        _: &mut Population,
        me: &mut Slot,
        _: &mut Findings,
    ) {
        let strange = |cell: &Cell| matches!(cell, Cell::Number(number) if !number.is_finite());
        // All cells are looked at, because hardly any is strange and a branch for each costs more.
        let any = |cells: &[Cell]| cells.iter().fold(false, |found, cell| found | strange(cell));
        if seen.rows().iter().any(|row| any(exchange.question.row(row.index))) {
            me.suspicion.get_or_insert_default().remember(exchange.id);
        }
    }

    fn answered(&self, reply: &Reply<'_>, population: &mut Population, me: &mut Slot, out: &mut Findings) {
        let strange = me.suspicion.as_mut().is_some_and(|suspicion| suspicion.recall(reply.id));
        let Some(end) = end_of(reply, strange) else { return };
        population.take(me, reply.time, end != End::Good);
        if end == End::Good {
            return self.fall(me);
        }
        let suspicion = me.suspicion.get_or_insert_default();
        suspicion.by_server += u32::from(end == End::FailedByServer);
        let origin = Origin { request: reply.id, time: reply.time };
        let Some(evidence) = self.steps.rise(&mut suspicion.kept, origin, 1) else { return };
        let others = population.others_since(me.number, evidence.trail.since);
        if self.tells(evidence, suspicion.by_server, others) {
            out.push(self.word(evidence));
        }
    }
}

/// Other clients that asked, and how many of them failed.
#[derive(Clone, Copy)]
struct Others {
    asked: usize,
    failed: usize,
}

impl ErrorProbing {
    fn fall(&self, me: &mut Slot) {
        let Some(suspicion) = &mut me.suspicion else { return };
        self.steps.fall(&mut suspicion.kept);
        if suspicion.kept.is_none() {
            suspicion.by_server = 0;
            if suspicion.strange.is_empty() {
                me.suspicion = None;
            }
        }
    }

    fn tells(&self, evidence: &Evidence, by_server: u32, others: Others) -> bool {
        let alone = others.asked < WITNESSES && by_server * 2 > evidence.trail.rows;
        !alone && (others.failed as f64) <= self.others * others.asked as f64
    }

    fn word(&self, evidence: &Evidence) -> Finding {
        Finding {
            tier: Tier::Two,
            statistic: evidence.sum,
            limit: self.steps.limit,
            trail: evidence.trail,
            fields: Vec::new(),
            did: "sent requests most of which failed".to_owned(),
            rests_on: None,
        }
    }
}

impl Suspicion {
    fn remember(&mut self, request: u64) {
        if self.strange.len() >= STRANGE_MAX {
            self.strange.remove(0);
        }
        self.strange.push(request);
    }

    /// Whether the question of `request` was remembered; it no longer is.
    fn recall(&mut self, request: u64) -> bool {
        let before = self.strange.len();
        self.strange.retain(|strange| *strange != request);
        self.strange.len() < before
    }
}

impl Population {
    fn take(&mut self, me: &mut Slot, time: Time, failed: bool) {
        if me.number == 0 {
            self.clients = self.clients.wrapping_add(1).max(1);
            me.number = self.clients;
        }
        let before = self.latest.iter().position(|outcome| outcome.client == me.number);
        if before.is_some() || self.latest.len() >= CLIENTS {
            self.latest.remove(before.unwrap_or(0));
        }
        self.latest.push(Outcome { client: me.number, time, failed });
    }

    fn others_since(&self, client: u32, since: Time) -> Others {
        let others = self.latest.iter().filter(|outcome| outcome.client != client && outcome.time >= since);
        Others { asked: others.clone().count(), failed: others.filter(|outcome| outcome.failed).count() }
    }
}

/// How a request ended; nothing where that says nothing of its question.
fn end_of(reply: &Reply<'_>, strange: bool) -> Option<End> {
    let unreadable = match &reply.asked {
        Ok(rows) if rows.distinct_rows.is_empty() => return None,
        Ok(_) => false,
        Err(reason) => is_unreadable(*reason),
    };
    match reply.status {
        401 | 403 | 407 | 408 | 425 | 429 => None,
        400..500 => Some(End::Failed),
        _ if strange || unreadable => Some(End::Failed),
        0 | 500.. => Some(End::FailedByServer),
        _ => Some(End::Good),
    }
}

/// Whether a question was no question that any protocol has, rather than one that was not looked into.
fn is_unreadable(reason: NotInspected) -> bool {
    matches!(
        reason,
        NotInspected::Unparsable | NotInspected::TooDeep | NotInspected::DuplicateKey | NotInspected::Shape
    )
}

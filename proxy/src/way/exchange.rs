//! One exchange on its way: what its steps share, and the two captures that it owes its lane.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use checkgate_detectors::facts::NotInspected;
use checkgate_detectors::identity::Asker;
use http::HeaderMap;
use tokio::sync::{Notify, oneshot};

use super::Way;
use super::body::{End, Kept};
use super::route::Route;
use crate::capture::{Admission, Answered, Asked, Body, Entry, Judged, Outcome};
use crate::clock;
use crate::decode::keep_headers;
use crate::gate::Refusal;
use crate::identity::{allowance, keyed_hash};
use crate::lane::queue::{Offered, Parcel};
use crate::metrics::ModelMetrics;
use crate::metrics::labels::CodeClass;

/// One request and its answer.
pub struct Exchange {
    way: Arc<Way>,
    /// Joins the two captures.
    pub id: u64,
    /// Who asks.
    pub asker: Asker,
    /// Where it goes.
    pub route: Route,
    path: String,
    headers: Vec<(String, String)>,
    started: Instant,
    /// When the question was complete.
    asked: OnceLock<Instant>,
    asked_bell: Notify,
    /// Whether the lane knows how it ended.
    answered: AtomicBool,
}

/// A client that leaves before its answer takes the rest of the way with it: its lane hears of that, too.
impl Drop for Exchange {
    fn drop(&mut self) {
        if self.asked.get().is_some() && !self.answered.load(Ordering::Relaxed) {
            self.answered(Answer::none(Outcome::Cut));
            self.finished(0);
        }
    }
}

/// What is known of the upstream's answer when the exchange ends.
pub struct Answer {
    /// The upstream's status; 0 where it gave none.
    pub status: u16,
    /// Headers that a decoder needs.
    pub headers: Vec<(String, String)>,
    /// Length of the upstream's body.
    pub length: u64,
    /// The upstream's body, as far as it was kept.
    pub body: Body,
    /// When its first byte came.
    pub first_byte: Instant,
    /// The contract's verdict, where the answer was held for it.
    pub judged: Option<Judged>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Answer {
    /// No answer of the upstream's, for a reason.
    pub fn none(outcome: Outcome) -> Self {
        Self {
            status: 0,
            headers: Vec::new(),
            length: 0,
            body: Body::Not(NotInspected::NoPrediction),
            first_byte: Instant::now(),
            judged: None,
            outcome,
        }
    }
}

impl Exchange {
    /// Begins an exchange.
    pub fn begin(way: &Arc<Way>, asker: Asker, route: Route, path: &str, headers: &HeaderMap) -> Arc<Self> {
        let headers = if route.inspected { keep_headers(headers) } else { Vec::new() };
        Arc::new(Self {
            id: way.next_id(),
            way: Arc::clone(way),
            asker,
            route,
            path: path.to_owned(),
            headers,
            started: Instant::now(),
            asked: OnceLock::new(),
            asked_bell: Notify::new(),
            answered: AtomicBool::new(false),
        })
    }

    /// What all exchanges share.
    pub fn way(&self) -> &Arc<Way> {
        &self.way
    }

    /// The counters of its model.
    pub fn metrics(&self) -> &ModelMetrics {
        self.way.metrics.model(self.route.model)
    }

    /// A decision that refuses this client at this moment.
    pub fn refusal(&self) -> Option<Refusal> {
        self.way.gate.admit(&self.asker, self.route.guard.enforces, clock::now())
    }

    /// The question is complete: hands it to the lane.
    pub fn asked(&self, kept: Kept, end: End) {
        self.send_asked(kept, end, Admission::Admitted, None);
    }

    /// The question is complete and waits for the lane's verdict, which `bell` announces.
    pub fn asked_and_held(&self, kept: Kept, bell: oneshot::Sender<()>) {
        self.send_asked(kept, End::Whole, Admission::Admitted, Some(bell));
    }

    /// The request was refused: the lane gets its head.
    pub fn refused(&self, refusal: &Refusal) {
        self.answered.store(true, Ordering::Relaxed);
        self.send_asked(Kept::new(0), End::Whole, Admission::Refused(refusal.decision), None);
        self.metrics().refused.inc();
        self.finished(http::StatusCode::FORBIDDEN.as_u16());
    }

    /// The client has its answer: hands it to the lane.
    pub fn answered(&self, answer: Answer) {
        self.answered.store(true, Ordering::Relaxed);
        let latency =
            answer.first_byte.saturating_duration_since(self.asked.get().copied().unwrap_or(self.started));
        if answer.status != 0 {
            self.metrics().upstream_duration.observe(latency.as_secs_f64());
        }
        self.metrics().response_bytes.inc_by(answer.length);
        // A question that no protocol claims was counted as such, and nobody waits for its answer.
        if !self.route.inspected || self.route.is_unknown() {
            return;
        }
        self.offer(
            Entry::Answered(Answered {
                id: self.id,
                time: clock::now(),
                status: answer.status,
                headers: answer.headers,
                length: answer.length,
                latency,
                body: answer.body,
                judged: answer.judged,
                outcome: answer.outcome,
            }),
            None,
        );
    }

    /// The exchange is over for its client.
    pub fn finished(&self, status: u16) {
        self.metrics().requests.inc(CodeClass::of(status));
        self.metrics().request_duration.observe(self.started.elapsed().as_secs_f64());
    }

    /// Resolves once the question has been complete for `limit`.
    pub async fn unanswered_for(&self, limit: Duration) {
        self.asked_bell.notified().await;
        tokio::time::sleep(limit).await;
    }

    /// Resolves when a decision comes into force that refuses this client.
    pub async fn blocked_meanwhile(&self) -> Refusal {
        if !self.route.guard.enforces {
            return std::future::pending().await;
        }
        let mut changed = self.way.gate.changed();
        loop {
            if let Some(refusal) = self.refusal() {
                return refusal;
            }
            if changed.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn send_asked(&self, kept: Kept, end: End, admission: Admission, bell: Option<oneshot::Sender<()>>) {
        self.asked.get_or_init(Instant::now);
        self.asked_bell.notify_one();
        self.metrics().request_bytes.inc_by(kept.length);
        if !self.route.inspected {
            return;
        }
        self.offer(
            Entry::Asked(Asked {
                id: self.id,
                time: clock::now(),
                asker: self.asker,
                model: self.route.model,
                protocol: self.route.protocol,
                name: self.route.name.clone(),
                path: self.path.clone(),
                headers: self.headers.clone(),
                length: kept.length,
                hash: keyed_hash(self.way.hash_key, kept.bytes()),
                body: kept.into_body(end),
                admission,
            }),
            bell,
        );
    }

    fn offer(&self, entry: Entry, bell: Option<oneshot::Sender<()>>) {
        let parcel = Parcel { entry, client: allowance(&self.asker), bell };
        match self.way.lanes.offer(self.route.model, parcel) {
            Offered::Whole => {}
            Offered::Shed => self.metrics().shed.inc(),
            Offered::Lost => self.way.metrics.captures_lost.inc(),
        }
    }
}

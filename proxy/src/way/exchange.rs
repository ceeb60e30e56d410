//! One exchange on its way: what its steps share, and the two captures that it owes its lane.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, ready};
use std::time::Instant;

use checkgate_detectors::facts::NotInspected;
use checkgate_detectors::finding::DecisionId;
use checkgate_detectors::identity::Asker;
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Way;
use super::body::{End, Kept, WayBody};
use super::degrade::{self, Admitted};
use super::in_flight::Permit;
use super::problem::{Form, Problem};
use super::route::{Guard, Route};
use crate::capture::{Admission, Answered, Asked, Body, Entry, Judged, Outcome};
use crate::clock;
use crate::decode::{KeptLines, Part, keep_headers};
use crate::gate::{Aim, Degraded, Refusal};
use crate::identity::allowance;
use crate::lane::queue::{Bell, Offered, Parcel};
use crate::metrics::labels::{CodeClass, DegradeOutcome};
use crate::metrics::{DISCOVERED, ModelMetrics};
use crate::moment;
use crate::telemetry::trace::Trace;

/// One request and its answer.
pub struct Exchange {
    way: Arc<Way>,
    /// Joins the two captures.
    pub id: u64,
    /// Who asks.
    pub asker: Asker,
    /// Where it goes.
    pub route: Route,
    /// How its client understands a problem.
    form: Form,
    /// What the asked part says of the head; it is handed over once, and there is none where nothing is looked into.
    question: Mutex<Option<QuestionHead>>,
    started: Instant,
    /// When the question was complete.
    asked: OnceLock<Instant>,
    asked_bell: Notify,
    /// The task that it runs in.
    task: Option<tokio::task::Id>,
    /// Whether the lane knows how it ended.
    answered: AtomicBool,
    /// Its place among those of a degraded client, until it is answered.
    admitted: Mutex<Option<Admitted>>,
    /// What is known of it where its caller wants to see its trace.
    trace: Option<Box<Trace>>,
    /// Its place among the requests that are open.
    _permit: Permit,
}

/// What a lane is told of a request's head.
struct QuestionHead {
    path: String,
    headers: KeptLines,
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
    pub headers: KeptLines,
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
            headers: KeptLines::default(),
            length: 0,
            body: Body::Not(NotInspected::NoPrediction),
            first_byte: Instant::now(),
            judged: None,
            outcome,
        }
    }
}

impl Exchange {
    /// Begins an exchange; `tls` says whether the request came by TLS.
    pub fn begin<B>(
        way: &Arc<Way>,
        permit: Permit,
        asker: Asker,
        route: Route,
        request: &Request<B>,
        tls: bool,
    ) -> Arc<Self> {
        let (form, id) = (Form::of(request.headers()), way.next_id());
        let question = route.inspected.then(|| QuestionHead {
            path: request.uri().path().to_owned(),
            headers: keep_headers(request.headers(), Part::Question),
        });
        Arc::new(Self {
            id,
            trace: way.tracing.as_ref().and_then(|tracing| tracing.begin(id, request, tls)),
            way: Arc::clone(way),
            asker,
            route,
            form,
            question: Mutex::new(question),
            started: moment::now(),
            asked: OnceLock::new(),
            asked_bell: Notify::new(),
            task: tokio::task::try_id(),
            answered: AtomicBool::new(false),
            admitted: Mutex::new(None),
            _permit: permit,
        })
    }

    /// What all exchanges share.
    pub fn way(&self) -> &Arc<Way> {
        &self.way
    }

    /// What is known of it where it is traced.
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }

    /// A problem as its client understands it.
    pub fn told(&self, problem: &Problem) -> Response<WayBody> {
        problem.response(self.form)
    }

    /// The counters of its model.
    pub fn metrics(&self) -> &ModelMetrics {
        self.way.metrics.model(self.route.model)
    }

    /// A decision that refuses this request as it comes; to be asked once, for a throttle counts, and so do the requests
    /// that meet an observation. One of a degraded client takes its place here, or is refused where there is none.
    pub fn entry_refusal(&self) -> Option<Refusal> {
        let (gate, per_minute) = (&self.way.gate, self.route.guard.policy.requests_per_minute);
        if gate.holds_nothing() {
            return None;
        }
        let refusal = self.aimed(|aim| gate.enter(&self.asker, aim, per_minute, clock::now()));
        refusal.or_else(|| self.without_a_place())
    }

    fn without_a_place(&self) -> Option<Refusal> {
        let degraded = self.degraded().filter(|_| self.route.inspected)?;
        match degrade::admit(self, &degraded) {
            Ok(admitted) => *self.admitted.lock() = Some(admitted),
            Err(refusal) => {
                self.metrics().degraded_answers.inc(DegradeOutcome::Refused);
                return Some(refusal);
            }
        }
        None
    }

    /// The place that the request took as one of a degraded client, to be given back once it is answered.
    pub fn take_admitted(&self) -> Option<Admitted> {
        self.admitted.lock().take()
    }

    /// What degrades the answers to this client at this moment, if anything does.
    pub fn degraded(&self) -> Option<Degraded> {
        let degrades = || self.aimed(|aim| self.way.gate.degrades(&self.asker, aim, clock::now()));
        self.is_decided_on().then(degrades).flatten()
    }

    /// Asks something about what is asked of which model.
    fn aimed<T>(&self, ask: impl FnOnce(Aim<'_>) -> T) -> T {
        ask(Aim { models: &[self.route.model_name()], acts: self.route.guard.enforces })
    }

    /// Whether any decision could meet this request; the common case, where none can, reads no clock.
    fn is_decided_on(&self) -> bool {
        self.route.guard.enforces && !self.way.gate.is_idle()
    }

    /// The decision that the model server is told of with this request.
    pub fn tagged_by(&self) -> Option<DecisionId> {
        let tags = || self.aimed(|aim| self.way.gate.tags(&self.asker, aim, clock::now()));
        let decision = self.is_decided_on().then(tags).flatten();
        if let (Some(trace), Some(decision)) = (self.trace(), decision) {
            trace.decided(decision, "tag");
        }
        decision
    }

    /// A decision that refuses this client at this moment, whatever it sends.
    pub fn refusal(&self) -> Option<Refusal> {
        let admit = || self.aimed(|aim| self.way.gate.admit(&self.asker, aim, clock::now()));
        self.is_decided_on().then(admit).flatten()
    }

    /// The refusal of a question for what it holds, by the lane's decision, as far as the gate lets it act.
    pub fn refusal_of_content(&self, decision: DecisionId) -> Option<Refusal> {
        let Guard { enforces, refuses_for, .. } = *self.route.guard;
        enforces.then(|| self.way.gate.refuse_content(&self.asker, decision, refuses_for)).flatten()
    }

    /// The question is complete: hands it to the lane.
    pub fn asked(&self, kept: Kept, end: End) {
        self.send_asked(kept, end, Admission::Admitted, None);
    }

    /// The question is complete and waits for the lane's verdict, which `bell` announces.
    pub fn asked_and_held(&self, kept: Kept, bell: Bell) {
        self.send_asked(kept, End::Whole, Admission::Admitted, Some(bell));
    }

    /// The request was refused: the lane gets its head.
    pub fn refused(&self, refusal: &Refusal) {
        self.answered.store(true, Ordering::Relaxed);
        self.send_asked(Kept::new(0), End::Whole, Admission::Refused(refusal.decision), None);
        let refused = if refusal.throttled { &self.metrics().throttled } else { &self.metrics().refused };
        refused.inc();
        if let Some(trace) = self.trace() {
            trace.decided(refusal.decision, if refusal.throttled { "throttle" } else { "block" });
        }
        self.finished(Problem::refused(refusal).status());
    }

    /// The client has its answer: hands it to the lane.
    pub fn answered(&self, answer: Answer) {
        self.answered.store(true, Ordering::Relaxed);
        if let Some(trace) = self.trace() {
            tell(trace, &answer);
        }
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
        let lasted = moment::now().saturating_duration_since(self.started);
        self.metrics().request_duration.observe(lasted.as_secs_f64());
        if let (Some(tracing), Some(trace)) = (&self.way.tracing, self.trace()) {
            let guard = &self.route.guard;
            let claimed = self.route.model.map(|_| (Arc::clone(&guard.name), guard.path.clone()));
            let (model, path) = claimed.unwrap_or_else(|| (DISCOVERED.into(), None));
            tracing.end(trace, status, model, path);
        }
    }

    /// When the exchange must be over.
    pub fn deadline(&self) -> Instant {
        self.started + self.way.timeouts.total
    }

    /// When the head of the answer must be there, over all tries. While the question is on its way only the end of the
    /// exchange counts.
    pub fn answer_due(&self) -> Instant {
        let deadline = self.deadline();
        self.asked.get().map_or(deadline, |asked| deadline.min(*asked + self.way.timeouts.first_byte))
    }

    /// Whether the question is complete.
    pub fn is_asked(&self) -> bool {
        self.asked.get().is_some()
    }

    /// When the question was complete.
    pub fn asked_at(&self) -> Option<Instant> {
        self.asked.get().copied()
    }

    /// When the first try begins, which is now; the clock is read only where the question was held before it.
    pub fn first_try(&self) -> Instant {
        if self.route.guard.holds_questions() {
            return Instant::now();
        }
        self.asked_at().unwrap_or(self.started)
    }

    /// Resolves once the question is complete; says since when it is. One task at a time may wait.
    pub async fn question_complete(&self) -> Instant {
        let mut bell = pin!(self.asked_bell.notified());
        poll_fn(|context| {
            loop {
                if let Some(asked) = self.asked.get() {
                    return Poll::Ready(*asked);
                }
                ready!(bell.as_mut().poll(context));
                bell.set(self.asked_bell.notified());
            }
        })
        .await
    }

    /// Resolves when a decision comes into force that refuses this client.
    pub async fn blocked_meanwhile(&self) -> Refusal {
        if !self.route.guard.enforces {
            return std::future::pending().await;
        }
        loop {
            let changed = self.way.gate.changed();
            if let Some(refusal) = self.refusal() {
                return refusal;
            }
            changed.await;
        }
    }

    fn send_asked(&self, kept: Kept, end: End, admission: Admission, bell: Option<Bell>) {
        self.asked.get_or_init(moment::now);
        // The task that began the exchange looks by itself, whenever it has moved the question along.
        if self.task.is_none() || tokio::task::try_id() != self.task {
            self.asked_bell.notify_one();
        }
        self.metrics().request_bytes.inc_by(kept.length);
        let Some(head) = self.question.lock().take() else { return };
        self.offer(
            Entry::Asked(Asked {
                id: self.id,
                time: clock::now(),
                asker: self.asker,
                model: self.route.model,
                protocol: self.route.protocol,
                name: self.route.model_name().to_owned(),
                path: head.path,
                headers: head.headers,
                length: kept.length,
                hash: self.way.body_hasher.as_ref().map_or(0, |hasher| hasher.hash_one(kept.bytes())),
                body: kept.into_body(end),
                admission,
            }),
            bell,
        );
    }

    fn offer(&self, entry: Entry, bell: Option<Bell>) {
        let parcel = Parcel { entry, client: allowance(&self.asker), bell };
        match self.way.lanes.offer(self.route.model, parcel) {
            Offered::Whole => {}
            Offered::Shed => self.metrics().shed.inc(),
            Offered::Lost => self.way.metrics.captures_lost.inc(),
        }
    }
}

/// What a trace tells of an answer.
fn tell(trace: &Trace, answer: &Answer) {
    trace.answered(answer.status);
    match answer.outcome {
        Outcome::Blocked(decision) => trace.decided(decision, "block"),
        Outcome::Replaced => trace.happened("checkgate.answer.replaced"),
        Outcome::Unjudged => trace.happened("checkgate.answer.unjudged"),
        Outcome::Answered | Outcome::UpstreamFailed | Outcome::Cut => {}
    }
}

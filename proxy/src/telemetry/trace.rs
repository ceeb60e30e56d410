//! Traces of the requests whose callers want to see them: begun with the request, told when it has ended.

use std::sync::Arc;
use std::time::Instant;

use checkgate_detectors::finding::DecisionId;
use crossbeam_queue::ArrayQueue;
use http::header::HeaderValue;
use http::{Method, Request, Version};
use parking_lot::Mutex;

use super::context::{BEGUN_HERE, Caller, SpanId, TraceId, hex, state, traceparent};
use super::exporter::unix_nanos;
use super::queue::Queue;

/// Events of one request that are told; there are hardly ever more than two.
const EVENTS_MAX: usize = 8;

/// Who traces requests.
#[derive(Debug)]
pub struct Tracing {
    /// Requests without a parent whose random number lies below this begin a trace.
    begins_below: u64,
    ended: Arc<Queue<Ended>>,
    /// Which trace recent requests belong to, for what is found about them later; the oldest give way.
    known: Option<Arc<ArrayQueue<Known>>>,
}

/// A request that is traced.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The exchange.
    pub id: u64,
    /// Its trace.
    pub trace: TraceId,
    /// Its span.
    pub span: SpanId,
}

impl Tracing {
    /// Begins traces for `ratio` of the requests without one, 0 to 1.
    pub fn new(ratio: f64, ended: Arc<Queue<Ended>>, known: Option<Arc<ArrayQueue<Known>>>) -> Self {
        // The product saturates: a ratio of 1 is all but one of 2^64.
        Self { begins_below: (ratio * u64::MAX as f64) as u64, ended, known }
    }

    /// The trace of a request that was given `id`, where it has one. Costs a look at its headers otherwise. Never inlined,
    /// so that its name stands in a profile.
    #[inline(never)]
    pub fn begin<B>(&self, id: u64, request: &Request<B>, tls: bool) -> Option<Box<Trace>> {
        let caller = match Caller::of(request.headers()) {
            Caller::Says(parent) => Some(parent),
            Caller::Silent if self.begins_below > 0 && drawn()? < self.begins_below => None,
            Caller::Silent | Caller::Unsampled => return None,
        };
        let mut random = [0; 32];
        getrandom::fill(&mut random).ok()?;
        let (mut trace, mut span, mut upstream_span) = ([0; 16], [0; 8], [0; 8]);
        trace.copy_from_slice(random.get(..16)?);
        span.copy_from_slice(random.get(16..24)?);
        upstream_span.copy_from_slice(random.get(24..)?);
        let trace = caller.map_or(trace, |caller| caller.trace);
        if let Some(known) = &self.known {
            known.force_push(Known { id, trace, span });
        }
        let traced = Traced {
            id,
            trace,
            parent: caller.map(|caller| caller.span),
            flags: caller.map_or(BEGUN_HERE, |caller| caller.flags),
            state: caller.map_or_else(String::new, |_| state(request.headers())),
            span,
            upstream_span,
            began: unix_nanos(),
            since: Instant::now(),
            method: request.method().clone(),
            version: request.version(),
            tls,
            asked_upstream: None,
            answered: None,
            server: None,
            tries: 0,
            failure: None,
            events: Vec::new(),
        };
        Some(Box::new(Trace(Mutex::new(Some(traced)))))
    }

    /// The exchange is over for its client, with this status; 0 where it left before it had one.
    #[inline(never)]
    pub fn end(&self, trace: &Trace, status: u16, model: Arc<str>, route: Option<Arc<str>>) {
        if let Some(traced) = trace.0.lock().take() {
            self.ended
                .push(Ended(Box::new((traced, Outcome { status, ended: Instant::now(), model, route }))));
        }
    }
}

/// A random number; none where the system gives none.
fn drawn() -> Option<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// What is known of a traced request so far; nothing once it has ended.
#[derive(Debug)]
pub struct Trace(Mutex<Option<Traced>>);

/// A traced request.
#[derive(Debug)]
pub struct Traced {
    /// The exchange.
    pub id: u64,
    /// The trace.
    pub trace: TraceId,
    /// The caller's span, where the trace did not begin here.
    pub parent: Option<SpanId>,
    /// The trace's flags.
    pub flags: u8,
    /// The trace's state.
    pub state: String,
    /// The request's own span.
    pub span: SpanId,
    /// The span of the request to the upstream.
    pub upstream_span: SpanId,
    /// When it began, as nanoseconds since 1970.
    pub began: u64,
    /// The same moment.
    pub since: Instant,
    /// Its method.
    pub method: Method,
    /// Its version of HTTP.
    pub version: Version,
    /// Whether it came by TLS.
    pub tls: bool,
    /// When the upstream was asked.
    pub asked_upstream: Option<Instant>,
    /// When the upstream's answer had come, and its status; 0 where it gave none.
    pub answered: Option<(Instant, u16)>,
    /// The server that was asked last.
    pub server: Option<String>,
    /// Servers that were asked.
    pub tries: u32,
    /// How the upstream failed.
    pub failure: Option<&'static str>,
    /// What happened to it.
    pub events: Vec<Event>,
}

/// Something that happened to a request.
#[derive(Debug)]
pub struct Event {
    /// What.
    pub name: &'static str,
    /// When.
    pub at: Instant,
    /// The decision behind it, and what that did.
    pub decision: Option<(DecisionId, &'static str)>,
}

/// A traced request that has ended.
#[derive(Debug)]
pub struct Ended(pub Box<(Traced, Outcome)>);

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The status that the client got; 0 where it left before it had one.
    pub status: u16,
    /// When.
    pub ended: Instant,
    /// The model, as metrics label it.
    pub model: Arc<str>,
    /// The configured path that claimed it.
    pub route: Option<Arc<str>>,
}

impl Trace {
    /// The `traceparent` of the request to the upstream.
    pub fn header(&self) -> Option<HeaderValue> {
        let traced = self.0.lock();
        let Traced { trace, upstream_span, flags, .. } = traced.as_ref()?;
        traceparent(trace, *upstream_span, *flags)
    }

    /// The upstream is about to be asked.
    pub fn asks_upstream(&self) {
        self.note(|traced| traced.asked_upstream = Some(Instant::now()));
    }

    /// A server is asked; the first, or the next one after it failed.
    pub fn asks_server(&self, name: &str) {
        self.note(|traced| {
            traced.tries += 1;
            traced.server = Some(name.to_owned());
        });
    }

    /// The upstream's answer has come, or never will.
    pub fn answered(&self, status: u16) {
        self.note(|traced| traced.answered = Some((Instant::now(), status)));
    }

    /// The upstream failed.
    pub fn failed(&self, how: &'static str) {
        self.note(|traced| traced.failure = Some(how));
    }

    /// A decision did something to the request.
    pub fn decided(&self, decision: DecisionId, effect: &'static str) {
        self.event("checkgate.decision", Some((decision, effect)));
    }

    /// Something else happened to the request.
    pub fn happened(&self, name: &'static str) {
        self.event(name, None);
    }

    fn event(&self, name: &'static str, decision: Option<(DecisionId, &'static str)>) {
        self.note(|traced| {
            if traced.events.len() < EVENTS_MAX {
                traced.events.push(Event { name, at: Instant::now(), decision });
            }
        });
    }

    fn note(&self, note: impl FnOnce(&mut Traced)) {
        if let Some(traced) = self.0.lock().as_mut() {
            note(traced);
        }
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.trace))
    }
}

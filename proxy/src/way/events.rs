//! An event stream (WHATWG HTML, "Server-sent events") held event by event.
//!
//! Each event is judged when it is complete and passes as it came, or not at all. The head of the response waits
//! for the first verdict; after that a broken event ends the stream with an `error` event in its place.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use checkgate_config::settings::OnError;
use checkgate_detectors::facts::NotInspected;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::time::timeout_at;

use super::body::{BodyError, WayBody};
use super::exchange::{Answer, Exchange};
use super::headers::remove_hop_by_hop;
use super::hold;
use super::problem::Problem;
use super::verdict::Verdict;
use crate::capture::{Body, Judged, Outcome};
use crate::decode::KeptLines;
use crate::metrics::labels::ContractOutcome;
use crate::upstream::answer::AnswerBody;

/// What language model servers send last; it carries no prediction.
const DONE: &[u8] = b"[DONE]";

/// Whether the answer is an event stream.
pub fn is_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
}

/// Streams the events that keep the contract.
pub async fn answer(exchange: &Arc<Exchange>, response: Response<AnswerBody>) -> Response<WayBody> {
    let (mut head, body) = response.into_parts();
    remove_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    let mut events = Events::new(exchange, head.status, body);
    let first = events.next().await;
    let problem = match &first {
        Some(Event::Withheld(problem)) => Some(problem),
        // Nothing has left yet, so the client can be told.
        Some(Event::Cut(_)) => Some(&Problem::UNJUDGED),
        Some(Event::Passes(_)) | None => None,
    };
    if let Some(problem) = problem {
        let response = events.exchange.told(problem);
        events.status = response.status();
        return response;
    }
    // Any event may yet be withheld, so nothing that describes the whole body can be promised.
    hold::remove_descriptions(&mut head.headers);
    let rest = futures_util::stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((event.written(), events))
    });
    let first = first.map(Event::written);
    let frames = futures_util::StreamExt::chain(futures_util::stream::iter(first), rest);
    Response::from_parts(head, StreamBody::new(frames).boxed_unsync())
}

/// One event's fate.
enum Event {
    /// These bytes go out.
    Passes(Bytes),
    /// It is withheld and nothing follows.
    Withheld(Problem),
    /// It never became whole: the stream breaks off, for its end would look like the end of the answer.
    Cut(BodyError),
}

impl Event {
    fn written(self) -> Result<Frame<Bytes>, BodyError> {
        let bytes = match self {
            Self::Passes(bytes) => bytes,
            Self::Withheld(problem) => told(&problem),
            Self::Cut(error) => return Err(error),
        };
        Ok(Frame::data(bytes))
    }
}

fn told(problem: &Problem) -> Bytes {
    let mut bytes = BytesMut::from(&b"event: error\ndata: "[..]);
    bytes.extend_from_slice(&problem.bytes());
    bytes.extend_from_slice(b"\n\n");
    bytes.freeze()
}

/// The events of one answer, judged as they come.
struct Events {
    exchange: Arc<Exchange>,
    body: AnswerBody,
    /// What came and is not a whole event yet.
    pending: BytesMut,
    status: StatusCode,
    first_byte: Instant,
    length: u64,
    judged: Judged,
    unreadable: Option<NotInspected>,
    outcome: Outcome,
    ended: bool,
}

impl Events {
    fn new(exchange: &Arc<Exchange>, status: StatusCode, body: AnswerBody) -> Self {
        Self {
            exchange: Arc::clone(exchange),
            body,
            pending: BytesMut::new(),
            status,
            first_byte: Instant::now(),
            length: 0,
            judged: Judged { rows: 0, violations: Vec::new() },
            unreadable: None,
            // Until the end was seen: a client that leaves drops the stream.
            outcome: Outcome::Cut,
            ended: false,
        }
    }

    /// The next event's fate; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(event) = take_event(&mut self.pending) {
                return Some(self.judge(event));
            }
            if self.pending.len() > self.exchange.way().limits.hold_bytes {
                return Some(self.unjudged(NotInspected::TooLarge));
            }
            let idle_end = Instant::now() + self.exchange.way().timeouts.idle;
            match timeout_at(idle_end.min(self.exchange.deadline()).into(), self.body.frame()).await {
                Ok(Some(Ok(frame))) => self.receive(frame),
                Ok(None) => return self.last(),
                Ok(Some(Err(error))) => return Some(self.cut(error.into())),
                Err(_) => return Some(self.cut(BodyError::Idle)),
            }
        }
    }

    fn cut(&mut self, error: BodyError) -> Event {
        self.ended = true;
        Event::Cut(error)
    }

    fn receive(&mut self, frame: Frame<Bytes>) {
        if let Ok(data) = frame.into_data() {
            self.length += data.len() as u64;
            self.pending.extend_from_slice(&data);
        }
    }

    /// The stream ended; some servers leave out the blank line behind the last event.
    fn last(&mut self) -> Option<Event> {
        self.outcome = Outcome::Answered;
        let rest = self.pending.split().freeze();
        let event = (!rest.is_empty()).then(|| self.judge(rest));
        self.ended = true;
        event
    }

    fn judge(&mut self, event: Bytes) -> Event {
        let data = data_of(&event);
        if data.is_empty() || data == DONE {
            return Event::Passes(event);
        }
        let json = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        match hold::judge(&self.exchange, &json, &data) {
            Verdict::Kept(judged) => {
                self.judged.rows += judged.rows;
                Event::Passes(event)
            }
            Verdict::Mended(judged, mended) => {
                self.note(judged);
                Event::Passes(with_data(&event, &mended))
            }
            Verdict::Broken(judged) => {
                self.note(judged);
                self.withheld(Problem::BROKEN_CONTRACT, Outcome::Replaced)
            }
            Verdict::Unreadable(_) if self.exchange.route.guard.on_error == OnError::Pass => {
                Event::Passes(event)
            }
            Verdict::Unreadable(reason) => self.unjudged(reason),
        }
    }

    fn note(&mut self, judged: Judged) {
        self.judged.rows += judged.rows;
        if self.judged.violations.is_empty() {
            self.judged.violations = judged.violations;
        }
    }

    fn unjudged(&mut self, reason: NotInspected) -> Event {
        self.unreadable = Some(reason);
        self.withheld(Problem::UNJUDGED, Outcome::Unjudged)
    }

    fn withheld(&mut self, problem: Problem, outcome: Outcome) -> Event {
        self.outcome = outcome;
        self.ended = true;
        Event::Withheld(problem)
    }
}

/// However the stream ends, its lane hears of it once.
impl Drop for Events {
    fn drop(&mut self) {
        let outcome = match self.outcome {
            Outcome::Replaced => ContractOutcome::Refused,
            Outcome::Unjudged => ContractOutcome::Unjudged,
            _ if self.judged.violations.is_empty() => ContractOutcome::Passed,
            _ => hold::mended_label(&self.exchange),
        };
        self.exchange.metrics().contract_answers.inc(outcome);
        self.exchange.answered(Answer {
            status: StatusCode::OK.as_u16(),
            headers: KeptLines::default(),
            length: self.length,
            body: Body::Not(self.unreadable.unwrap_or(NotInspected::MediaType)),
            first_byte: self.first_byte,
            judged: Some(Judged {
                rows: self.judged.rows,
                violations: std::mem::take(&mut self.judged.violations),
            }),
            outcome: self.outcome,
        });
        self.exchange.finished(self.status.as_u16());
    }
}

/// Takes the first whole event, its blank line included.
fn take_event(pending: &mut BytesMut) -> Option<Bytes> {
    let end = [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"]
        .iter()
        .filter_map(|mark| {
            pending.windows(mark.len()).position(|window| window == *mark).map(|at| at + mark.len())
        })
        .min()?;
    Some(pending.split_to(end).freeze())
}

/// The data of an event: its `data` lines, joined.
fn data_of(event: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    for line in lines(event) {
        if let Some(value) = line.strip_prefix(b"data:") {
            if !data.is_empty() {
                data.push(b'\n');
            }
            data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
    data
}

/// The event with other data; its remaining lines stay.
fn with_data(event: &[u8], data: &[u8]) -> Bytes {
    let mut changed = BytesMut::new();
    for line in lines(event).filter(|line| !line.is_empty() && !line.starts_with(b"data:")) {
        changed.extend_from_slice(line);
        changed.extend_from_slice(b"\n");
    }
    for line in lines(data).filter(|line| !line.is_empty()) {
        changed.extend_from_slice(b"data: ");
        changed.extend_from_slice(line);
        changed.extend_from_slice(b"\n");
    }
    changed.extend_from_slice(b"\n");
    changed.freeze()
}

/// Lines end with LF, CR or both; the empty piece between the two is no line of its own to anyone here.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| matches!(byte, b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_taken_with_its_blank_line_and_not_before() {
        let mut pending = BytesMut::from(&b"data: 1\n\ndata: 2\r\n\r\ndata: "[..]);
        assert_eq!(take_event(&mut pending).as_deref(), Some(&b"data: 1\n\n"[..]));
        assert_eq!(take_event(&mut pending).as_deref(), Some(&b"data: 2\r\n\r\n"[..]));
        assert_eq!(take_event(&mut pending), None);
        assert_eq!(&pending[..], b"data: ");
    }

    #[test]
    fn data_lines_are_joined_and_replaced() {
        let event = b"id: 7\ndata: {\"a\":\ndata: 1}\n\n";
        assert_eq!(data_of(event), b"{\"a\":\n1}");
        assert_eq!(&with_data(event, b"{\"a\":0}")[..], b"id: 7\ndata: {\"a\":0}\n\n");
        assert!(data_of(b": heartbeat\n\n").is_empty());
    }
}

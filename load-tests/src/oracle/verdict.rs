//! Whether a proxy kept a client's bytes from meaning two things.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::http2::Ending;
use super::readers::{
    End, LENIENT_READERS, Message, Reading, STRICT, read, read_with_httparse, without_scheme,
};
use super::vectors::{Expect, Vector};
use super::wire::{Closed, Exchange};
use super::{escaped, excerpt};

/// The target of requests that no server may ever see as a request.
const SMUGGLED: &[u8] = b"smuggled";

/// How a proxy did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Ok,
    /// What should have been refused went upstream in a clean form that all readers read alike, or the refusal was
    /// not quite one.
    Lenient(String),
    /// Bytes that are dirty or that readers read differently went upstream, or an honest request was not served.
    Fail(String),
    /// The proxy neither answered to the end nor closed.
    Hang,
}

/// What is asked of one exchange.
#[derive(Clone, Debug)]
pub struct Case {
    /// What should happen.
    pub expect: Expect,
    /// Whole requests before the one that is refused.
    pub before: usize,
    /// Texts that the upstream must not get, in lower case.
    pub absent: Vec<String>,
    /// Texts that the upstream must get, in lower case.
    pub present: Vec<String>,
    /// Whether a request for the smuggled target is a fault: it is for every vector, but a mutation may have made
    /// an honest request of it.
    pub marked: bool,
}

impl Case {
    /// What a vector asks.
    #[must_use]
    pub fn of(vector: &Vector) -> Self {
        Self {
            expect: vector.expect,
            before: vector.before,
            absent: vector.absent.clone(),
            present: vector.present.clone(),
            marked: true,
        }
    }

    /// What any bytes ask: whatever goes upstream is clean, and the client's own.
    #[must_use]
    pub fn any() -> Self {
        Self { expect: Expect::Either, before: 0, absent: Vec::new(), present: Vec::new(), marked: false }
    }
}

/// What the upstream got, by the client's address in `X-Forwarded-For`.
#[derive(Debug, Default)]
pub struct Received {
    by_source: BTreeMap<Ipv4Addr, Vec<Vec<u8>>>,
    /// Connections that name no client, or several.
    pub unclaimed: Vec<Vec<u8>>,
}

impl Received {
    /// Sorts connections by the client they name.
    #[must_use]
    pub fn sorted(connections: Vec<Vec<u8>>) -> Self {
        let mut received = Self::default();
        for bytes in connections.into_iter().filter(|bytes| !bytes.is_empty()) {
            match sources(&bytes).into_iter().collect::<Vec<_>>().as_slice() {
                [one] => received.by_source.entry(*one).or_default().push(bytes),
                // A head that was cut before it named its client is no message to anybody.
                _ if read(&bytes, &STRICT).end == End::Cut && read(&bytes, &STRICT).messages.is_empty() => {}
                _ => received.unclaimed.push(bytes),
            }
        }
        received
    }

    /// The connections of one client, in the order of their arrival.
    #[must_use]
    pub fn of(&self, source: Ipv4Addr) -> &[Vec<u8>] {
        self.by_source.get(&source).map_or(&[], Vec::as_slice)
    }
}

/// The clients' addresses (127.64.0.0/10) that occur in `bytes`.
fn sources(bytes: &[u8]) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    for at in (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"127.")) {
        let text = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
        let address = text.map(|byte| char::from(*byte)).collect::<String>().parse::<Ipv4Addr>();
        found.extend(address.ok().filter(|address| (64..128).contains(&address.octets()[1])));
    }
    found
}

/// Judges one exchange by what the upstream received of it.
#[must_use]
pub fn judge(case: &Case, exchange: &Exchange, upstream: &[Vec<u8>]) -> Verdict {
    let seen = match clean_messages(upstream) {
        Ok(seen) => seen,
        Err(why) => return Verdict::Fail(why),
    };
    let input = read(&exchange.sent, &STRICT);
    if let Some(why) = faults(case, &input, &seen, upstream) {
        return Verdict::Fail(why);
    }
    if exchange.closed == Closed::Never {
        return Verdict::Hang;
    }
    match case.expect {
        Expect::Pass => served(&input, exchange, seen.len()),
        Expect::Refuse => refused(case, exchange, seen.len()),
        Expect::Either if seen.len() > input.messages.len() => forwarded(&input, exchange),
        Expect::Either => Verdict::Ok,
    }
}

/// The messages that all readers see, if they are clean.
///
/// # Errors
/// Says what is dirty, or which reader sees something else.
pub fn clean_messages(upstream: &[Vec<u8>]) -> Result<Vec<Message>, String> {
    let mut seen = Vec::new();
    for bytes in upstream {
        let strict = read(bytes, &STRICT);
        if let End::Refused(why) = strict.end {
            return Err(format!("{why} reached the upstream: {}", excerpt(bytes)));
        }
        if strict.end == End::Cut && !strict.messages.is_empty() {
            return Err(format!("bytes behind a whole message reached the upstream: {}", excerpt(bytes)));
        }
        if let Some(reader) = dissenter(bytes, &strict) {
            return Err(format!("the reader `{reader}` sees other messages in {}", excerpt(bytes)));
        }
        seen.extend(strict.messages);
    }
    Ok(seen)
}

fn dissenter(bytes: &[u8], strict: &Reading) -> Option<&'static str> {
    let differs = |habits: &&super::readers::Habits| read(bytes, habits).messages != strict.messages;
    let other = LENIENT_READERS.iter().find(differs).map(|habits| habits.name);
    other.or_else(|| (read_with_httparse(bytes).messages != strict.messages).then_some("httparse"))
}

/// What is wrong whatever was expected.
fn faults(case: &Case, input: &Reading, seen: &[Message], upstream: &[Vec<u8>]) -> Option<String> {
    if let Some(why) = smuggled(case, seen) {
        return Some(why);
    }
    for (sent, got) in input.messages.iter().zip(seen) {
        if !same(sent, got) {
            return Some(format!("the client's {} became {}", shown(sent), shown(got)));
        }
    }
    if input.end == End::Cut && seen.len() > input.messages.len() {
        return Some("a message that was cut was made whole".to_owned());
    }
    misplaced(case, seen, upstream)
}

/// A request that only a reader of dirty bytes would see.
fn smuggled(case: &Case, seen: &[Message]) -> Option<String> {
    let marked = |message: &&Message| message.target.windows(SMUGGLED.len()).any(|part| part == SMUGGLED);
    let message = seen.iter().find(marked).filter(|_| case.marked)?;
    Some(format!("the upstream got a request for {}", escaped(&message.target)))
}

/// A text that should not have come through, or should have and did not.
fn misplaced(case: &Case, seen: &[Message], upstream: &[Vec<u8>]) -> Option<String> {
    let bytes = upstream.concat().to_ascii_lowercase();
    let holds = |text: &str| bytes.windows(text.len().max(1)).any(|window| window == text.as_bytes());
    if let Some(text) = case.absent.iter().find(|text| holds(text)) {
        return Some(format!("{text} reached the upstream"));
    }
    let missing = case.present.iter().find(|text| !holds(text));
    missing.filter(|_| !seen.is_empty()).map(|text| format!("{text} did not reach the upstream"))
}

fn shown(message: &Message) -> String {
    let Message { method, target, body } = message;
    format!("{} {} with the body {}", escaped(method), escaped(target), excerpt(body))
}

/// The same request, a target in absolute form aside.
fn same(sent: &Message, got: &Message) -> bool {
    sent.method == got.method && sent.body == got.body && origin(&sent.target) == origin(&got.target)
}

/// The target without scheme and authority (RFC 9112, 3.2.2).
fn origin(target: &[u8]) -> &[u8] {
    let Some(rest) = without_scheme(target) else { return target };
    match rest.iter().position(|byte| *byte == b'/') {
        Some(slash) => &rest[slash..],
        None => b"/",
    }
}

fn served(input: &Reading, exchange: &Exchange, seen: usize) -> Verdict {
    let statuses = exchange.statuses();
    let good = statuses.iter().all(|status| *status == 200) && statuses.len() == input.messages.len();
    if good && seen == input.messages.len() {
        return Verdict::Ok;
    }
    let asked = input.messages.len();
    Verdict::Fail(format!("over-rejected: {asked} honest requests, {seen} forwarded, answers {statuses:?}"))
}

fn refused(case: &Case, exchange: &Exchange, seen: usize) -> Verdict {
    let last = exchange.statuses().last().copied();
    if seen > case.before {
        return Verdict::Lenient(format!("{seen} requests went upstream, answers {:?}", exchange.statuses()));
    }
    match last {
        Some(status) if status >= 400 && exchange.closed == Closed::ByProxy => Verdict::Ok,
        Some(status) if status >= 400 => {
            Verdict::Lenient(format!("{status}, and the connection stayed open"))
        }
        _ => Verdict::Lenient(format!(
            "nothing went upstream, but the client got {}",
            excerpt(&exchange.received)
        )),
    }
}

fn forwarded(input: &Reading, exchange: &Exchange) -> Verdict {
    Verdict::Lenient(format!("forwarded although {:?}, answers {:?}", input.end, exchange.statuses()))
}

/// Judges one HTTP/2 request with `body` by what it became in HTTP/1.1.
#[must_use]
pub fn judge_downgrade(case: &Case, body: &[u8], ending: &Ending, upstream: &[Vec<u8>]) -> Verdict {
    let seen = match clean_messages(upstream) {
        Ok(seen) => seen,
        Err(why) => return Verdict::Fail(why),
    };
    if let Some(why) = smuggled(case, &seen).or_else(|| misplaced(case, &seen, upstream)) {
        return Verdict::Fail(why);
    }
    let answer = format!("{} requests went upstream, the client got {ending:?}", seen.len());
    let refused = ending.status.is_none_or(|status| status >= 400);
    match (case.expect, seen.as_slice()) {
        (_, [_, _, ..]) => Verdict::Fail(answer),
        _ if !ending.is_over() => Verdict::Hang,
        (Expect::Pass, [one]) if ending.status == Some(200) && one.body == body => Verdict::Ok,
        (Expect::Pass, _) => Verdict::Fail(format!("over-rejected or changed: {answer}")),
        (Expect::Refuse, []) if refused => Verdict::Ok,
        (Expect::Refuse, _) => Verdict::Lenient(answer),
        (Expect::Either, _) => Verdict::Ok,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{Case, Received, Verdict, judge};
    use crate::oracle::vectors::Expect;
    use crate::oracle::wire::{Closed, Exchange};

    const ORDINARY: &[u8] = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab";

    fn exchange(sent: &[u8], received: &[u8]) -> Exchange {
        let source = Ipv4Addr::new(127, 64, 0, 1);
        Exchange { source, sent: sent.to_vec(), received: received.to_vec(), closed: Closed::ByProxy }
    }

    fn case(expect: Expect) -> Case {
        Case { expect, marked: true, ..Case::any() }
    }

    #[test]
    fn what_passes_through_a_proxy_that_changes_nothing_is_seen() {
        let sent =
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
            GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
        let verdict = judge(&case(Expect::Refuse), &exchange(sent, b"HTTP/1.1 200 OK\r\n"), &[sent.to_vec()]);
        assert!(matches!(verdict, Verdict::Fail(_)), "two lengths went through: {verdict:?}");
    }

    #[test]
    fn a_smuggled_request_is_a_fault_however_clean() {
        let upstream = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        let verdict = judge(&case(Expect::Refuse), &exchange(b"junk", b""), &[upstream]);
        assert!(matches!(verdict, Verdict::Fail(_)), "{verdict:?}");
    }

    #[test]
    fn a_refusal_is_ok_and_a_clean_form_of_it_is_lenient() {
        let dirty = b"GET /a HTTP/1.1\nHost: x\n\n";
        let refusal = exchange(dirty, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert_eq!(judge(&case(Expect::Refuse), &refusal, &[]), Verdict::Ok);
        let clean = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        let verdict = judge(&case(Expect::Refuse), &exchange(dirty, b"HTTP/1.1 200 OK\r\n\r\n"), &[clean]);
        assert!(matches!(verdict, Verdict::Lenient(_)), "{verdict:?}");
    }

    #[test]
    fn an_honest_request_must_be_served_with_its_own_body() {
        let ok = exchange(ORDINARY, b"HTTP/1.1 200 OK\r\n\r\nok");
        assert_eq!(judge(&case(Expect::Pass), &ok, &[ORDINARY.to_vec()]), Verdict::Ok);
        let other = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nac".to_vec();
        assert!(
            matches!(judge(&case(Expect::Pass), &ok, &[other]), Verdict::Fail(_)),
            "the body was changed"
        );
        let refusal = exchange(ORDINARY, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(
            matches!(judge(&case(Expect::Pass), &refusal, &[]), Verdict::Fail(_)),
            "it was over-rejected"
        );
    }

    #[test]
    fn a_cut_message_made_whole_is_a_fault() {
        let cut = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
        let verdict = judge(&case(Expect::Either), &exchange(cut, b""), &[ORDINARY.to_vec()]);
        assert!(matches!(verdict, Verdict::Fail(_)), "{verdict:?}");
    }

    #[test]
    fn connections_are_sorted_by_the_client_they_name() {
        let of = |last: u8| {
            format!("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.64.0.{last}\r\n\r\n").into_bytes()
        };
        let unclaimed = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        let received =
            Received::sorted(vec![of(1), of(12), unclaimed.clone(), Vec::new(), b"GET / HT".to_vec()]);
        assert_eq!(received.of(Ipv4Addr::new(127, 64, 0, 1)), [of(1)]);
        assert_eq!(received.unclaimed, [unclaimed], "a whole message of nobody is kept, a cut head is not");
    }
}

//! What an endpoint was asked before: the same thing again changes nothing and is answered as before.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use checkgate_detectors::facts::Time;
use http::StatusCode;

use super::Outcome;
use super::ask::Fault;
use super::hash;
use super::signature::TOLERANCE;
use crate::metrics::labels::InboundOutcome;

/// Ids that one endpoint remembers.
const REMEMBERED_MAX: usize = 4096;
/// How long an answer is remembered after it was given last.
const SPAN: Duration = Duration::from_secs(24 * 3600);
/// How long the id of a signed message has to be remembered: as long as a copy of it could be taken for new.
const SIGNED_SPAN: Duration = Duration::from_secs(2 * TOLERANCE + 1);

/// An id, by its hash: what senders write has no bound of its own.
type Key = [u8; 32];

/// The ids of one endpoint.
#[derive(Debug, Default)]
pub struct Memory {
    known: HashMap<Key, Known, ahash::RandomState>,
    by_age: BTreeSet<(Time, Key)>,
}

#[derive(Clone, Debug)]
struct Known {
    /// When it came last.
    since: Time,
    /// The latest timestamp of a signed message, in Unix seconds.
    stamp: Option<u64>,
    /// What was done, where something was.
    answer: Option<Outcome>,
}

/// Why a signed message counts as none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It is a copy of one that came before.
    Copy,
    /// Its id could not be remembered.
    Full,
}

impl Unseen {
    /// How it is counted.
    pub fn outcome(self) -> InboundOutcome {
        match self {
            Self::Copy => InboundOutcome::Replayed,
            Self::Full => InboundOutcome::Full,
        }
    }
}

impl From<Unseen> for Fault {
    fn from(unseen: Unseen) -> Self {
        match unseen {
            Unseen::Copy => Self::new(
                StatusCode::CONFLICT,
                "this message came before, with the same webhook-id and webhook-timestamp",
                "sign a further attempt with the time at which it is made; a new message has an id of its own",
            ),
            Unseen::Full => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "more messages came of late than can be remembered",
                "send it again in ten minutes",
            ),
        }
    }
}

impl Memory {
    /// Remembers a signed message. A further attempt of the same one has a later timestamp. Gives how many ids were
    /// forgotten to make room.
    ///
    /// # Errors
    /// It came before, or there is no room that could be made.
    pub fn sees(&mut self, id: &str, stamp: u64, now: Time) -> Result<u64, Unseen> {
        let key = hash(id.as_bytes());
        let before = self.known.get(&key);
        if before.and_then(|known| known.stamp).is_some_and(|latest| stamp <= latest) {
            return Err(Unseen::Copy);
        }
        let oldest = self.by_age.first().map(|(since, _)| *since);
        let too_young = |since: Time| now.since(since) < SIGNED_SPAN;
        if before.is_none() && self.known.len() >= REMEMBERED_MAX && oldest.is_some_and(too_young) {
            return Err(Unseen::Full);
        }
        let answer = before.and_then(|known| known.answer.clone());
        Ok(self.put(key, Known { since: now, stamp: Some(stamp), answer }))
    }

    /// What was done when this was asked for last.
    pub fn answer(&mut self, id: &str, now: Time) -> Option<Outcome> {
        let key = hash(id.as_bytes());
        let known = self.known.get(&key).filter(|known| now.since(known.since) < SPAN)?;
        let answer = known.answer.clone()?;
        // What is asked for again and again, as Alertmanager does while an alert lasts, is not forgotten meanwhile.
        let known = Known { since: now, ..known.clone() };
        self.put(key, known);
        Some(answer)
    }

    /// Remembers what was done. Gives how many ids were forgotten to make room.
    pub fn remember(&mut self, id: &str, answer: Outcome, now: Time) -> u64 {
        let key = hash(id.as_bytes());
        let stamp = self.known.get(&key).and_then(|known| known.stamp);
        self.put(key, Known { since: now, stamp, answer: Some(answer) })
    }

    /// The same, unless something was done already.
    pub fn remember_unless_known(&mut self, id: &str, answer: Outcome, now: Time) -> u64 {
        let known = self.known.get(&hash(id.as_bytes())).is_some_and(|known| known.answer.is_some());
        if known { 0 } else { self.remember(id, answer, now) }
    }

    fn put(&mut self, key: Key, known: Known) -> u64 {
        let since = known.since;
        if let Some(before) = self.known.insert(key, known) {
            self.by_age.remove(&(before.since, key));
        }
        self.by_age.insert((since, key));
        let mut forgotten = 0;
        while self.known.len() > REMEMBERED_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.known.remove(&oldest);
            forgotten += 1;
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(id: &str) -> Outcome {
        Outcome {
            id: id.into(),
            asked: "ban",
            outcome: "done",
            decisions: Vec::new(),
            until: None,
            shortened: false,
            kept_back: None,
        }
    }

    const NOW: Time = Time(1_700_000_000_000_000);

    #[test]
    fn a_copy_of_a_signed_message_is_refused_and_a_further_attempt_is_not() {
        let mut memory = Memory::default();
        assert_eq!(memory.sees("a", 100, NOW), Ok(0));
        assert_eq!(memory.sees("a", 100, NOW), Err(Unseen::Copy), "the same");
        assert_eq!(memory.sees("a", 99, NOW), Err(Unseen::Copy), "an earlier attempt that comes late");
        assert_eq!(memory.sees("a", 101, NOW), Ok(0), "a further attempt");
        assert_eq!(memory.sees("b", 100, NOW), Ok(0), "another message");
    }

    #[test]
    fn what_was_done_is_answered_for_a_day_after_it_was_asked_for_last() {
        let mut memory = Memory::default();
        memory.remember("a", outcome("a"), NOW);
        let almost = NOW.plus(SPAN.saturating_sub(Duration::from_secs(1)));
        assert_eq!(memory.answer("a", almost), Some(outcome("a")));
        assert_eq!(memory.answer("a", NOW.plus(SPAN)), Some(outcome("a")), "it was asked for meanwhile");
        assert_eq!(memory.answer("a", NOW.plus(SPAN * 3)), None, "long ago");
        assert_eq!(memory.answer("b", NOW), None, "never");
    }

    #[test]
    fn ids_are_bounded_and_signed_ones_are_not_pushed_out_while_a_copy_could_pass() {
        let mut memory = Memory::default();
        for id in 0..REMEMBERED_MAX {
            assert_eq!(memory.sees(&id.to_string(), 1, NOW), Ok(0));
        }
        assert_eq!(memory.sees("one more", 1, NOW), Err(Unseen::Full));
        assert_eq!(memory.sees("0", 1, NOW), Err(Unseen::Copy), "it is still known");
        assert_eq!(memory.sees("one more", 1, NOW.plus(SIGNED_SPAN)), Ok(1), "no copy of it could pass now");
        for id in 0..3 * REMEMBERED_MAX {
            memory.remember(&format!("later {id}"), outcome("x"), NOW.plus(SPAN));
        }
        assert_eq!((memory.known.len(), memory.by_age.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}

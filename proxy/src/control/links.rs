//! Links that approve or reject one proposed decision once, for whoever holds them: a person who is woken at night by
//! a message has no token at hand.
//!
//! A link is the decision, what is to be done with it and when it expires, signed with a key that is derived from the
//! instance's own. It needs no store: only links that were used are remembered, until they expire.

use std::collections::BTreeSet;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use parking_lot::Mutex;
use ring::hmac;

/// Where links lead.
pub const PATH: &str = "/v1/links/";
/// What the key of links is derived for: another use of the instance's key has another name.
const PURPOSE: &[u8] = b"checkgate: links that answer a proposed decision, 1";
/// Bytes of a link before its signature: what, which decision, and when it expires.
const SAID: usize = 17;
/// Bytes of a signature (HMAC-SHA256, RFC 2104).
const SIGNATURE: usize = 32;
/// Used links that are remembered.
const USED_MAX: usize = 4096;

/// What a link does with its decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proposal {
    /// It is to act.
    Approve,
    /// It is turned down.
    Reject,
}

impl Proposal {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// What a sound link says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opened {
    /// The last moment before which it may be followed.
    pub expires: Time,
    /// Which decision.
    pub id: DecisionId,
    /// What is done with it.
    pub answer: Proposal,
}

/// Why a link opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It was not made by this instance, or not whole.
    #[error("this link was not made here")]
    Forged,
    /// Its time is over.
    #[error("this link has expired")]
    Expired,
    /// It was followed before.
    #[error("this link was used")]
    Used,
    /// So many links were used that another could not be remembered.
    #[error("too many links were used lately")]
    Full,
}

/// Makes links and knows them again.
pub struct Links {
    key: hmac::Key,
    used: Mutex<BTreeSet<Opened>>,
}

impl Links {
    /// With a key that only `instance_key` leads to.
    #[must_use]
    pub fn new(instance_key: &[u8; 16]) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, instance_key), PURPOSE);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()), used: Mutex::default() }
    }

    /// The path of a link.
    #[must_use]
    pub fn path(&self, id: DecisionId, answer: Proposal, expires: Time) -> String {
        let said = said(Opened { expires, id, answer });
        let signature = hmac::sign(&self.key, &said);
        format!("{PATH}{}", hex::encode([&said, signature.as_ref()].concat()))
    }

    /// What a link says, where it may be followed at `now`.
    ///
    /// # Errors
    /// It may not.
    pub fn open(&self, token: &str, now: Time) -> Result<Opened, LinkError> {
        let opened = self.read(token).ok_or(LinkError::Forged)?;
        if opened.expires <= now {
            return Err(LinkError::Expired);
        }
        let mut used = self.used.lock();
        if used.contains(&opened) {
            return Err(LinkError::Used);
        }
        used.retain(|used| now < used.expires);
        if used.len() >= USED_MAX { Err(LinkError::Full) } else { Ok(opened) }
    }

    /// Remembers that a link was followed.
    pub fn spend(&self, opened: Opened) {
        self.used.lock().insert(opened);
    }

    fn read(&self, token: &str) -> Option<Opened> {
        let bytes = bytes(token)?;
        let (said, signature) = bytes.split_at_checked(SAID)?;
        hmac::verify(&self.key, said, signature).ok()?;
        let (what, rest) = said.split_first()?;
        let (id, expires) = rest.split_first_chunk::<8>()?;
        let answer = match what {
            b'a' => Proposal::Approve,
            b'r' => Proposal::Reject,
            _ => return None,
        };
        Some(Opened {
            expires: Time(u64::from_be_bytes(expires.try_into().ok()?)),
            id: DecisionId(u64::from_be_bytes(*id)),
            answer,
        })
    }
}

fn said(opened: Opened) -> Vec<u8> {
    let what = match opened.answer {
        Proposal::Approve => b'a',
        Proposal::Reject => b'r',
    };
    [&[what][..], &opened.id.0.to_be_bytes(), &opened.expires.0.to_be_bytes()].concat()
}

fn bytes(token: &str) -> Option<Vec<u8>> {
    hex::decode(token).ok().filter(|bytes| bytes.len() == SAID + SIGNATURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000);
    const LATER: Time = Time(2_000);

    fn token(path: &str) -> &str {
        path.strip_prefix(PATH).unwrap()
    }

    #[test]
    fn a_link_says_what_it_was_made_for_and_nothing_else_is_one() {
        let links = Links::new(&[7; 16]);
        let path = links.path(DecisionId(9), Proposal::Reject, LATER);
        let expected = Opened { expires: LATER, id: DecisionId(9), answer: Proposal::Reject };
        assert_eq!(links.open(token(&path), NOW), Ok(expected));
        assert_eq!(links.open(token(&path), LATER), Err(LinkError::Expired), "at its end");
        assert_eq!(Links::new(&[8; 16]).open(token(&path), NOW), Err(LinkError::Forged), "another instance");
        for place in 0..token(&path).len() {
            let mut changed = token(&path).to_owned().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(links.open(&changed, NOW), Err(LinkError::Forged), "digit {place} was changed");
        }
        for bad in ["", "61", "é", &"0".repeat(98)] {
            assert_eq!(links.open(bad, NOW), Err(LinkError::Forged), "{bad:?}");
        }
    }

    #[test]
    fn a_link_is_used_once_and_what_expired_makes_room() {
        let links = Links::new(&[7; 16]);
        let path = links.path(DecisionId(9), Proposal::Approve, LATER);
        links.spend(links.open(token(&path), NOW).unwrap());
        assert_eq!(links.open(token(&path), NOW), Err(LinkError::Used));
        for id in 0..USED_MAX as u64 {
            links.spend(Opened { expires: LATER, id: DecisionId(id), answer: Proposal::Reject });
        }
        let other = links.path(DecisionId(1), Proposal::Reject, Time(9_000));
        assert_eq!(links.open(token(&other), NOW), Err(LinkError::Full));
        assert!(links.open(token(&other), LATER).is_ok(), "the used ones have expired");
    }
}

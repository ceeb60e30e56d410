//! Signed messages (Standard Webhooks): `webhook-id`, `webhook-timestamp` and `webhook-signature` say who sent what when.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode};
use ring::hmac;
use subtle::ConstantTimeEq;

use super::Letter;
use super::ask::Fault;
use crate::metrics::labels::InboundOutcome;

/// How far the time of a message may be from ours, in seconds.
pub const TOLERANCE: u64 = 300;
/// Letters of an id.
const ID_MAX: usize = 256;
/// Signatures that are looked at: one for each secret that a sender has, and others that we do not know.
const SIGNATURES_MAX: usize = 16;

/// Who may sign.
pub struct Signers(Vec<hmac::Key>);

/// A message whose signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'l> {
    /// Its id, which further attempts share.
    pub id: &'l str,
    /// When it was signed, in Unix seconds.
    pub stamp: u64,
}

/// Why a message does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A header is missing or cannot be read.
    Header(&'static str),
    /// No secret gives this signature.
    Signature,
    /// It was signed too long ago, or its time is to come.
    Time,
    /// It was signed before this process began.
    BeforeStart,
}

impl Wrong {
    /// How it is counted.
    pub fn outcome(self) -> InboundOutcome {
        match self {
            Self::Header(_) => InboundOutcome::Malformed,
            Self::Signature => InboundOutcome::Unauthorized,
            Self::Time | Self::BeforeStart => InboundOutcome::Stale,
        }
    }
}

impl From<Wrong> for Fault {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Header(name) => Self::new(
                StatusCode::BAD_REQUEST,
                format!("the header {name} is missing or cannot be read"),
                "sign messages by the rules of Standard Webhooks",
            ),
            Wrong::Signature => Self::new(
                StatusCode::UNAUTHORIZED,
                "no secret of this endpoint gives this signature",
                "sign `ID.TIMESTAMP.BODY` with HMAC-SHA256 and the bytes behind whsec_, in Base64 behind `v1,`",
            ),
            // Neither is the work of somebody who guesses.
            Wrong::Time => Self::new(
                StatusCode::BAD_REQUEST,
                "webhook-timestamp is more than five minutes from the time here",
                "set the sender's clock; a further attempt is signed with the time at which it is made",
            ),
            Wrong::BeforeStart => Self::new(
                StatusCode::BAD_REQUEST,
                "it was signed before this process began, which cannot know whether it was taken",
                "send it again, signed with the time at which that is done",
            ),
        }
    }
}

impl Signers {
    /// Those who hold one of `keys`.
    pub fn new(keys: impl Iterator<Item = Vec<u8>>) -> Self {
        Self(keys.map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key)).collect())
    }

    /// The message of a letter, if one of them signed it lately.
    ///
    /// # Errors
    /// It does not hold.
    pub fn verify<'l>(&self, letter: &Letter<'l>) -> Result<Message<'l>, Wrong> {
        let id = text(letter.headers, "webhook-id")?;
        if id.is_empty() || id.len() > ID_MAX {
            return Err(Wrong::Header("webhook-id"));
        }
        let time = text(letter.headers, "webhook-timestamp")?;
        let digits = (1..=15).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_digit());
        let stamp: u64 = Some(time)
            .filter(|_| digits)
            .and_then(|time| time.parse().ok())
            .ok_or(Wrong::Header("webhook-timestamp"))?;
        let signatures = text(letter.headers, "webhook-signature")?;
        let signed = [id.as_bytes(), b".", time.as_bytes(), b".", letter.body].concat();
        let tags: Vec<_> = self.0.iter().map(|key| hmac::sign(key, &signed)).collect();
        let holds = signatures
            .split(' ')
            .take(SIGNATURES_MAX)
            .filter_map(signature)
            .any(|signature| tags.iter().any(|tag| bool::from(tag.as_ref().ct_eq(signature.as_slice()))));
        if !holds {
            return Err(Wrong::Signature);
        }
        if stamp.abs_diff(letter.wall) > TOLERANCE {
            return Err(Wrong::Time);
        }
        if stamp < letter.began { Err(Wrong::BeforeStart) } else { Ok(Message { id, stamp }) }
    }
}

/// The one value of a header.
fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, Wrong> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| Wrong::Header(name)),
        _ => Err(Wrong::Header(name)),
    }
}

/// The bytes of a signature of the first version, which is the one by a shared secret.
fn signature(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text.strip_prefix("v1,")?).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn signed(key: &[u8], id: &str, time: &str, body: &[u8]) -> HeaderMap {
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, key),
            &[id.as_bytes(), b".", time.as_bytes(), b".", body].concat(),
        );
        headers(id, time, &format!("v1,{}", BASE64_STANDARD.encode(tag)))
    }

    fn headers(id: &str, time: &str, signature: &str) -> HeaderMap {
        let lines: HashMap<String, String> =
            [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        (&lines).try_into().unwrap()
    }

    fn verify(headers: &HeaderMap, body: &[u8]) -> Result<u64, Wrong> {
        let signers = Signers::new([vec![7; 32], vec![8; 32]].into_iter());
        let letter = Letter { headers, body, wall: NOW, began: NOW - 100, from: None };
        signers.verify(&letter).map(|message| message.stamp)
    }

    #[test]
    fn the_vector_of_the_standard_holds() {
        // The example of the standard's own libraries.
        let secret = checkgate_config::settings::Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
        let signers = Signers::new(secret.signing_key().into_iter());
        let headers = headers(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        );
        let letter = Letter {
            headers: &headers,
            body: br#"{"test": 2432232314}"#,
            wall: 1_614_265_330,
            began: 0,
            from: None,
        };
        let message = signers.verify(&letter).unwrap();
        assert_eq!((message.id, message.stamp), ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330));
    }

    #[test]
    fn either_secret_holds_and_no_other() {
        let time = NOW.to_string();
        assert_eq!(verify(&signed(&[7; 32], "a", &time, b"{}"), b"{}"), Ok(NOW));
        assert_eq!(verify(&signed(&[8; 32], "a", &time, b"{}"), b"{}"), Ok(NOW), "the next one");
        assert_eq!(
            verify(&signed(&[9; 32], "a", &time, b"{}"), b"{}"),
            Err(Wrong::Signature),
            "somebody else's"
        );
        assert_eq!(
            verify(&signed(&[7; 32], "a", &time, b"{}"), b"{ }"),
            Err(Wrong::Signature),
            "another body"
        );
        let mut moved = signed(&[7; 32], "a", &time, b"{}");
        moved.insert("webhook-id", "b".parse().unwrap());
        assert_eq!(verify(&moved, b"{}"), Err(Wrong::Signature), "another id");
        let good = signed(&[7; 32], "a", &time, b"{}");
        let among = format!("v1a,xyz v1,AAAA {}", good["webhook-signature"].to_str().unwrap());
        assert_eq!(verify(&headers("a", &time, &among), b"{}"), Ok(NOW), "one of several");
    }

    #[test]
    fn what_is_old_to_come_or_from_before_the_start_does_not_hold() {
        for (time, expected) in [
            (NOW - 100, Ok(NOW - 100)),
            (NOW - 101, Err(Wrong::BeforeStart)),
            (NOW - 301, Err(Wrong::Time)),
            (NOW + 300, Ok(NOW + 300)),
            (NOW + 301, Err(Wrong::Time)),
        ] {
            assert_eq!(verify(&signed(&[7; 32], "a", &time.to_string(), b""), b""), expected, "{time}");
        }
    }

    #[test]
    fn headers_that_cannot_be_read_are_named() {
        let time = NOW.to_string();
        for (id, stamp, expected) in [
            ("", time.as_str(), "webhook-id"),
            ("a", "", "webhook-timestamp"),
            ("a", "-1", "webhook-timestamp"),
            ("a", "1e9", "webhook-timestamp"),
            ("a", "99999999999999999999999", "webhook-timestamp"),
        ] {
            assert_eq!(
                verify(&headers(id, stamp, "v1,AAAA"), b""),
                Err(Wrong::Header(expected)),
                "{id:?} {stamp:?}"
            );
        }
        let mut twice = signed(&[7; 32], "a", &time, b"");
        twice.append("webhook-id", "a".parse().unwrap());
        assert_eq!(verify(&twice, b""), Err(Wrong::Header("webhook-id")), "two are none");
    }
}

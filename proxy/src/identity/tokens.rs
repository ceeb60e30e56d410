//! Tokens as identities: whom a verified token names, and why another one names nobody.
//!
//! A token that does not hold is no identity and no refusal: its client is judged by its address, and what the upstream
//! says of the token is the upstream's.

use std::io;
use std::sync::Arc;

use checkgate_config::settings::{Clients, TokenIdentity};
use checkgate_detectors::facts::Time;
use http::header::{HeaderMap, HeaderName};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, Validation, decode, decode_header};
use serde_json::{Map, Value};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use super::keyed_hash;
use super::keys::Keys;
use super::remembered::{Remembered, Verified};
use super::signatures;
use crate::metrics::Metrics;
use crate::metrics::labels::TokenOutcome;

/// By so much the issuer's clock may differ from this one, in seconds.
const LEEWAY: f64 = 60.0;
/// Length of a token in bytes; none is as long.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What a token says besides its signature.
type Claims = Map<String, Value>;

/// The tokens of one issuer.
pub struct Tokens {
    settings: TokenIdentity,
    header: HeaderName,
    keys: Arc<Keys>,
    remembered: Remembered,
    hash_key: [u64; 2],
    metrics: Arc<Metrics>,
}

impl Tokens {
    /// As `settings` say. What `previous` knows stays, as far as it holds for these settings as well.
    ///
    /// # Errors
    /// When nothing can read the keys.
    pub fn new(
        settings: &TokenIdentity,
        clients: &Clients,
        hash_key: [u64; 2],
        metrics: &Arc<Metrics>,
        previous: Option<&Arc<Self>>,
    ) -> io::Result<Arc<Self>> {
        signatures::install();
        let same = |tokens: &&Arc<Self>| {
            tokens.settings == *settings && tokens.remembered.has_room_for(clients.remembered)
        };
        if let Some(tokens) = previous.filter(same) {
            return Ok(Arc::clone(tokens));
        }
        let keys = match previous.filter(|tokens| *tokens.keys.source() == settings.keys) {
            Some(tokens) => Arc::clone(&tokens.keys),
            None => Keys::of(&settings.keys, Arc::clone(metrics))?,
        };
        let header = HeaderName::from_bytes(settings.header.as_bytes()).map_err(io::Error::other)?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            header,
            keys,
            remembered: Remembered::new(clients.remembered),
            hash_key,
            metrics: Arc::clone(metrics),
        }))
    }

    /// The client that a request's token names; nothing where it has none that holds at `now`.
    pub fn client(&self, headers: &HeaderMap, now: Time) -> Option<u64> {
        let judged = self.judge(headers, now.0 as f64 / 1e6);
        let outcome = match judged {
            Ok((_, outcome)) | Err(outcome) => outcome,
        };
        self.metrics.tokens.inc(outcome);
        judged.ok().map(|(client, _)| client)
    }

    fn judge(&self, headers: &HeaderMap, now: f64) -> Result<(u64, TokenOutcome), TokenOutcome> {
        let token = self.shown(headers)?;
        let reading = self.keys.reading();
        let hash = self.hash(token);
        if let Some(known) = self.remembered.find(hash, reading.number) {
            unexpired(known.expires, now)?;
            return Ok((known.client, TokenOutcome::Remembered));
        }
        let claims = self.verified(token, &reading.set)?;
        let expires = seconds(&claims, "exp").ok_or(TokenOutcome::Expired)?;
        unexpired(expires, now)?;
        if claims.contains_key("nbf") && seconds(&claims, "nbf").is_none_or(|from| from > now + LEEWAY) {
            return Err(TokenOutcome::NotYet);
        }
        let client = self.named(&claims).ok_or(TokenOutcome::Subject)?;
        let evicted = self.remembered.insert(hash, Verified { client, expires, reading: reading.number });
        self.metrics.tokens_evicted.inc_by(evicted as u64);
        Ok((client, TokenOutcome::Verified))
    }

    /// The one token of a request. Of several, who knows which one the upstream believes.
    fn shown<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, TokenOutcome> {
        let mut lines = headers.get_all(&self.header).iter();
        let line = lines.next().ok_or(TokenOutcome::Missing)?;
        let text = line.to_str().map_err(|_| TokenOutcome::Malformed)?.trim();
        if lines.next().is_some() || text.len() > TOKEN_BYTES_MAX {
            return Err(TokenOutcome::Malformed);
        }
        Ok(match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
            _ => text,
        })
    }

    /// What a token says, if one of the keys signed it and it is from and for the right ones.
    fn verified(
        &self,
        token: &str,
        keys: &checkgate_config::key_set::KeySet,
    ) -> Result<Claims, TokenOutcome> {
        let head = decode_header(token).map_err(|_| TokenOutcome::Malformed)?;
        if head.alg.family() == AlgorithmFamily::Hmac {
            return Err(TokenOutcome::Algorithm);
        }
        if keys.is_empty() {
            return Err(TokenOutcome::NoKeys);
        }
        let Some(key) = keys.find(head.kid.as_deref(), head.alg) else {
            if head.kid.as_deref().is_some_and(|id| keys.knows(id)) {
                return Err(TokenOutcome::Algorithm);
            }
            self.keys.ask();
            return Err(TokenOutcome::UnknownKey);
        };
        let decoded = decode(token, key.key(), &self.validation(head.alg));
        decoded.map(|token| token.claims).map_err(|error| refusal(&error))
    }

    /// What the library checks besides the signature. Times are checked here, where time is an argument.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.validate_aud = self.settings.audience.is_some();
        if let Some(audience) = &self.settings.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".into());
        }
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        validation
    }

    /// The keyed hash of issuer and subject: a subject means something to its issuer only (RFC 7519, 4.1.2).
    fn named(&self, claims: &Claims) -> Option<u64> {
        let subject = match claims.get(&self.settings.claim)? {
            Value::String(text) if !text.is_empty() => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let mut named = Vec::from(&b"token"[..]);
        named.extend((issuer.len() as u64).to_le_bytes());
        named.extend(issuer.bytes().chain(subject.bytes()));
        Some(keyed_hash(self.hash_key, &named))
    }

    fn hash(&self, token: &str) -> u128 {
        let [k0, k1] = self.hash_key;
        let mut hasher = SipHasher13::new_with_keys(k0, k1);
        hasher.write(token.as_bytes());
        hasher.finish128().as_u128()
    }
}

fn unexpired(expires: f64, now: f64) -> Result<(), TokenOutcome> {
    if now > expires + LEEWAY { Err(TokenOutcome::Expired) } else { Ok(()) }
}

/// A time as tokens write it: Unix seconds, perhaps with a fraction (RFC 7519, 2).
fn seconds(claims: &Claims, name: &str) -> Option<f64> {
    claims.get(name)?.as_f64().filter(|seconds| seconds.is_finite())
}

/// Why the library does not take a token.
fn refusal(error: &Error) -> TokenOutcome {
    match error.kind() {
        ErrorKind::InvalidSignature => TokenOutcome::Signature,
        ErrorKind::InvalidIssuer => TokenOutcome::Issuer,
        ErrorKind::InvalidAudience => TokenOutcome::Audience,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => match claim.as_str()
        {
            "iss" => TokenOutcome::Issuer,
            "aud" => TokenOutcome::Audience,
            _ => TokenOutcome::Malformed,
        },
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => TokenOutcome::Algorithm,
        _ => TokenOutcome::Malformed,
    }
}

#[cfg(test)]
#[path = "tokens/tests.rs"]
mod tests;

//! Tokens of keys that are known here: which name a client, and why each of the others names none.

use checkgate_config::key_set::KeySet;
use checkgate_config::settings::{ClientIdentity, HopHeader, KeySource};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use serde_json::json;

use super::*;

/// The time of all tests, as Unix seconds.
const NOW: u64 = 1_764_000_000;

/// Base64 without padding and with the alphabet for URLs (RFC 4648, 5).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let letters = (0..=three.len()).map(|place| (bits >> (18 - 6 * place)) as usize & 63);
        text.extend(letters.map(|letter| char::from(LETTERS[letter])));
    }
    text
}

/// An issuer's key pair.
enum Signer {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn p256() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
        Self::P256(pair.unwrap())
    }

    fn p384() -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, made.as_ref(), &random);
        Self::P384(pair.unwrap())
    }

    fn ed25519() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn public(&self, id: &str) -> Value {
        let ec = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({"kty": "EC", "crv": curve, "kid": id, "x": base64(x), "y": base64(y)})
        };
        match self {
            Self::P256(pair) => ec("P-256", pair.public_key().as_ref()),
            Self::P384(pair) => ec("P-384", pair.public_key().as_ref()),
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": base64(pair.public_key().as_ref())})
            }
        }
    }

    fn sign(&self, head: &Value, claims: &Value) -> String {
        let message = [head, claims].map(|part| base64(part.to_string().as_bytes())).join(".");
        let signature = match self {
            Self::P256(pair) | Self::P384(pair) => {
                pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", base64(&signature))
    }

    /// A token of key `id` with these claims.
    fn token(&self, id: &str, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm(), "kid": id}), claims)
    }
}

fn claims() -> Value {
    json!({"iss": "https://login.example", "aud": "pricing", "sub": "alice", "exp": NOW + 600})
}

/// The same claims with `name` set to `value`, or without it.
fn with(name: &str, value: Value) -> Value {
    let mut changed = claims();
    match value {
        Value::Null => drop(changed.as_object_mut().unwrap().remove(name)),
        value => changed[name] = value,
    }
    changed
}

fn settings(keys: &[Value]) -> TokenIdentity {
    TokenIdentity {
        keys: KeySource::File(KeySet::parse(&json!({ "keys": keys }).to_string()).unwrap()),
        issuer: Some("https://login.example".into()),
        audience: Some("pricing".into()),
        claim: "sub".into(),
        header: "authorization".into(),
    }
}

fn metrics() -> Arc<Metrics> {
    Metrics::new(&[], &[]).unwrap()
}

fn clients(remembered: usize) -> Clients {
    Clients {
        identity: ClientIdentity::Assumed,
        trusted_proxies: Vec::new(),
        never_block: Vec::new(),
        shared_addresses: Vec::new(),
        hops: HopHeader::XForwardedFor,
        new_keys_per_address: 20,
        remembered,
    }
}

fn tokens(settings: &TokenIdentity) -> Arc<Tokens> {
    Tokens::new(settings, &clients(100), [1, 2], &metrics(), None).unwrap()
}

fn shows(token: &str) -> HeaderMap {
    [(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
}

/// What a token is worth.
fn worth(tokens: &Tokens, token: &str) -> TokenOutcome {
    match tokens.judge(&shows(token), NOW as f64) {
        Ok((_, outcome)) | Err(outcome) => outcome,
    }
}

fn client(tokens: &Tokens, token: &str) -> Option<u64> {
    tokens.client(&shows(token), Time(NOW * 1_000_000))
}

#[test]
fn every_kind_of_key_names_the_same_client_by_the_same_claims() {
    let golden: Value = serde_json::from_str(include_str!("../../../fixtures/tokens/rsa.json")).unwrap();
    let signers = [Signer::p256(), Signer::p384(), Signer::ed25519()];
    let mut keys: Vec<Value> = golden["jwks"]["keys"].as_array().unwrap().clone();
    keys.extend(signers.iter().map(|signer| signer.public(signer.algorithm())));
    let tokens = tokens(&settings(&keys));
    let mut shown: Vec<(String, String)> = Vec::new();
    for (algorithm, token) in golden["tokens"].as_object().unwrap() {
        shown.push((algorithm.clone(), token.as_str().unwrap().to_owned()));
    }
    for signer in &signers {
        shown.push((signer.algorithm().into(), signer.token(signer.algorithm(), &claims())));
    }
    assert_eq!(shown.len(), 9);
    let first = client(&tokens, &shown[0].1);
    assert!(first.is_some());
    for (algorithm, token) in &shown {
        assert_eq!(client(&tokens, token), first, "{algorithm}");
        assert_eq!(worth(&tokens, token), TokenOutcome::Remembered, "{algorithm} the second time");
    }
}

#[test]
fn each_token_that_does_not_hold_names_nobody_and_says_why() {
    let (signer, stranger) = (Signer::p256(), Signer::p256());
    let tokens = tokens(&settings(&[signer.public("a")]));
    let token = |name: &str, value: Value| signer.token("a", &with(name, value));
    let head = |head: Value| signer.sign(&head, &claims());
    let whole = signer.token("a", &claims());
    let (signed, signature) = whole.rsplit_once('.').unwrap();
    let own_key = json!({"alg": "ES256", "jwk": stranger.public("a")});
    let hmac = base64(&json!({"alg": "HS256", "kid": "a"}).to_string().into_bytes());
    use TokenOutcome::*;
    for (what, token, expected) in [
        ("as it should be", whole.clone(), Verified),
        ("another's signature", stranger.token("a", &claims()), Signature),
        ("a cut signature", format!("{signed}.{}", &signature[..40]), Signature),
        ("no signature", format!("{signed}."), Signature),
        ("another's claims", whole.replacen('.', ".e30", 1), Signature),
        ("two parts", signed.to_owned(), Malformed),
        ("no algorithm", head(json!({"alg": "none", "kid": "a"})), Malformed),
        ("an unknown algorithm", head(json!({"alg": "ES512", "kid": "a"})), Malformed),
        ("a critical extension", head(json!({"alg": "ES256", "kid": "a", "crit": ["b64"]})), Malformed),
        ("a shared secret", format!("{hmac}.{}", whole.split_once('.').unwrap().1), Algorithm),
        ("an algorithm of another kind of key", head(json!({"alg": "RS256", "kid": "a"})), Algorithm),
        ("another curve", head(json!({"alg": "ES384", "kid": "a"})), Algorithm),
        ("an unknown key", signer.token("b", &claims()), UnknownKey),
        ("with a key of its own", stranger.sign(&own_key, &claims()), Signature),
        ("expired", token("exp", json!(NOW - 61)), Expired),
        ("expired within the leeway", token("exp", json!(NOW - 59)), Verified),
        ("without an end", token("exp", Value::Null), Expired),
        ("with an end that is no time", token("exp", json!("soon")), Expired),
        ("not yet", token("nbf", json!(NOW + 61)), NotYet),
        ("not yet within the leeway", token("nbf", json!(NOW + 59)), Verified),
        ("with a beginning that is no time", token("nbf", json!("now")), NotYet),
        ("another issuer's", token("iss", json!("https://other.example")), Issuer),
        ("nobody's", token("iss", Value::Null), Issuer),
        ("for another", token("aud", json!("fraud")), Audience),
        ("for nobody", token("aud", Value::Null), Audience),
        ("for several", token("aud", json!(["fraud", "pricing"])), Verified),
        ("about nobody", token("sub", Value::Null), Subject),
        ("about an empty name", token("sub", json!("")), Subject),
        ("about a list", token("sub", json!(["alice"])), Malformed),
        ("about a number", token("sub", json!(7)), Verified),
        ("far too long", format!("{whole}{}", "A".repeat(TOKEN_BYTES_MAX)), Malformed),
        ("something else", "YWxpY2U6c2VjcmV0".into(), Malformed),
    ] {
        assert_eq!(worth(&tokens, &token), expected, "a token {what}");
        assert_eq!(client(&tokens, &token).is_some(), expected == Verified, "a token {what}");
    }
}

#[test]
fn one_header_holds_one_token_with_or_without_its_scheme() {
    let signer = Signer::ed25519();
    let chosen = TokenIdentity { header: "x-token".into(), ..settings(&[signer.public("a")]) };
    let tokens = tokens(&chosen);
    let token = signer.token("a", &claims());
    let judged = |lines: &[&str]| {
        let name = HeaderName::from_static("x-token");
        let lines = lines.iter().map(|line| (name.clone(), line.parse().unwrap()));
        tokens.judge(&lines.collect(), NOW as f64).map(|(_, outcome)| outcome)
    };
    assert!(judged(&[&token]).is_ok() && judged(&[&format!("bearer  {token}")]).is_ok());
    assert_eq!(judged(&[]), Err(TokenOutcome::Missing));
    assert_eq!(judged(&[&token, &token]), Err(TokenOutcome::Malformed), "who knows which one counts");
    assert_eq!(worth(&tokens, &token), TokenOutcome::Missing, "another header says nothing");
}

#[test]
fn clients_differ_by_issuer_and_subject_and_by_nothing_else() {
    let signer = Signer::ed25519();
    let any = TokenIdentity { issuer: None, audience: None, ..settings(&[signer.public("a")]) };
    let tokens = tokens(&any);
    let named = |name: &str, value: Value| client(&tokens, &signer.token("a", &with(name, value))).unwrap();
    let alice = client(&tokens, &signer.token("a", &claims())).unwrap();
    assert_eq!(named("exp", json!(NOW + 9000)), alice, "a new token of the same client");
    assert_eq!(named("aud", json!("fraud")), alice);
    assert_ne!(named("sub", json!("bob")), alice);
    assert_ne!(named("iss", json!("https://other.example")), alice);
    let split = |issuer: &str, subject: &str| {
        let claims = json!({"iss": issuer, "sub": subject, "exp": NOW + 600});
        client(&tokens, &signer.token("a", &claims)).unwrap()
    };
    assert_ne!(split("ab", "c"), split("a", "bc"), "where the issuer ends is part of the name");
    let raw = keyed_hash([1, 2], b"alice");
    assert_ne!(alice, raw, "no key of another kind stands for the same client");
}

#[test]
fn a_remembered_token_expires_like_any_other() {
    let signer = Signer::ed25519();
    let tokens = tokens(&settings(&[signer.public("a")]));
    let shown = shows(&signer.token("a", &claims()));
    assert!(tokens.judge(&shown, NOW as f64).is_ok());
    assert!(tokens.judge(&shown, (NOW + 660) as f64).is_ok(), "within the leeway");
    assert_eq!(tokens.judge(&shown, (NOW + 661) as f64), Err(TokenOutcome::Expired));
}

#[test]
fn the_memory_of_tokens_is_bounded_and_says_what_it_forgot() {
    let signer = Signer::ed25519();
    let metrics = metrics();
    let settings = settings(&[signer.public("a")]);
    let tokens = Tokens::new(&settings, &clients(2), [1, 2], &metrics, None).unwrap();
    let shown = [1, 2, 3].map(|more| signer.token("a", &with("exp", json!(NOW + more))));
    let first: Vec<_> = shown.iter().map(|token| worth(&tokens, token)).collect();
    assert_eq!(first, [TokenOutcome::Verified; 3]);
    assert_eq!(metrics.tokens_evicted.get(), 1);
    assert_eq!(worth(&tokens, &shown[0]), TokenOutcome::Verified, "it had made room");
    assert_eq!(worth(&tokens, &shown[2]), TokenOutcome::Remembered);
}

#[test]
fn a_reload_keeps_what_still_holds_and_withdrawn_keys_verify_nothing() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let metrics = metrics();
    let load = |keys: &[Value], previous: Option<&Arc<Tokens>>| {
        Tokens::new(&settings(keys), &clients(100), [1, 2], &metrics, previous).unwrap()
    };
    let (by_old, by_new) = (old.token("old", &claims()), new.token("new", &claims()));
    let before = load(&[old.public("old")], None);
    assert_eq!(worth(&before, &by_old), TokenOutcome::Verified);
    assert_eq!(worth(&before, &by_new), TokenOutcome::UnknownKey);
    let same = load(&[old.public("old")], Some(&before));
    assert_eq!(worth(&same, &by_old), TokenOutcome::Remembered, "nothing changed");
    let both = load(&[old.public("old"), new.public("new")], Some(&same));
    assert_eq!(metrics.token_keys.get(), 2);
    assert_eq!(client(&both, &by_new), client(&both, &by_old), "the client is the same under another key");
    let after = load(&[new.public("new")], Some(&both));
    assert_eq!(worth(&after, &by_old), TokenOutcome::UnknownKey, "its key was withdrawn");
    assert_eq!(worth(&after, &by_new), TokenOutcome::Verified);
}

#[test]
fn keys_that_change_in_the_background_end_what_they_verified() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let tokens = tokens(&settings(&[old.public("old")]));
    let by_old = old.token("old", &claims());
    assert_eq!(worth(&tokens, &by_old), TokenOutcome::Verified);
    let read = |signer: &Signer, id: &str| {
        KeySet::parse(&json!({"keys": [signer.public(id)]}).to_string()).map_err(anyhow::Error::msg)
    };
    assert!(tokens.keys.take(read(&old, "old")));
    assert_eq!(worth(&tokens, &by_old), TokenOutcome::Remembered, "the same keys were read again");
    assert!(!tokens.keys.take(Err(anyhow::anyhow!("no answer"))));
    assert_eq!(worth(&tokens, &by_old), TokenOutcome::Remembered, "a reading that fails changes nothing");
    assert_eq!(tokens.metrics.token_keys_read_success.get(), 0, "and is told");
    assert!(tokens.keys.take(read(&new, "new")));
    assert_eq!(worth(&tokens, &by_old), TokenOutcome::UnknownKey);
    assert_eq!(tokens.metrics.token_keys_read_success.get(), 1);
}

//! The public keys that tokens are signed with (JSON Web Key Set, RFC 7517): which of a set can be used, and for what.
//!
//! What a key may verify is said by the key alone, never by a token: a public key never serves as a shared secret, and
//! an algorithm that does not fit its key is none.

use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;

/// Keys of a set that are looked at; issuers have a handful.
const KEYS_MAX: usize = 100;
/// Length of an RSA modulus in bytes: 2,048 to 8,192 bits, as RFC 7518, 3.3 asks and the library can verify.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;
/// Length of an uncompressed point on P-256 and on P-384, and of a key of Ed25519, in bytes (SEC 1, 2.3.3; RFC 8032).
const POINT_256: usize = 65;
const POINT_384: usize = 97;
const KEY_25519: usize = 32;
/// Members that only a private or a shared key has (RFC 7518, 6).
const PRIVATE_MEMBERS: [&str; 2] = ["d", "k"];

/// The keys of an issuer that can verify something.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
}

/// One public key, and what it may verify.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
    /// What it was read from, to tell one set from another.
    read: Jwk,
}

impl VerifyingKey {
    /// The key itself.
    #[must_use]
    pub fn key(&self) -> &DecodingKey {
        &self.key
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.keys.iter().map(|key| &key.read).eq(other.keys.iter().map(|key| &key.read))
    }
}

impl Eq for KeySet {}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a set. Keys that can verify nothing here, such as keys for encryption or of an unknown kind, are left out.
    ///
    /// # Errors
    /// What is wrong with it, and the mend; no byte of a key is shown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document: Document = serde_json::from_str(text)
            .map_err(|error| format!("no JSON Web Key Set ({error}); it looks like {{\"keys\": [...]}}"))?;
        if document.keys.len() > KEYS_MAX {
            return Err(format!("more than {KEYS_MAX} keys"));
        }
        let is_private = |key: &Value| PRIVATE_MEMBERS.iter().any(|member| key.get(member).is_some());
        if document.keys.iter().any(is_private) {
            return Err("it holds a private or shared key, which signs and must not leave the issuer; keep the public keys only".into());
        }
        let keys: Vec<_> = document.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err("it holds no public key that can verify a token; RSA (2048 to 8192 bits), EC (P-256, P-384) and Ed25519 are supported".into());
        }
        Ok(Self { keys })
    }

    /// The key that a token names, if it fits the token's algorithm. A token without a name is only understood where one
    /// key alone fits.
    #[must_use]
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&VerifyingKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }

    /// Whether a key of this name is there, whatever it may verify.
    #[must_use]
    pub fn knows(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(id))
    }

    /// How many keys it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds none, as before the first reading.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn usable(value: Value) -> Option<VerifyingKey> {
    let read: Jwk = serde_json::from_value(value).ok()?;
    if !verifies(&read.common) {
        return None;
    }
    let key = DecodingKey::from_jwk(&read).ok()?;
    let mut algorithms = algorithms(&read, &key);
    if let Some(only) = read.common.key_algorithm {
        algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == only);
    }
    let id = read.common.key_id.clone();
    (!algorithms.is_empty()).then_some(VerifyingKey { id, algorithms, key, read })
}

/// Whether the issuer means the key for signatures.
fn verifies(common: &CommonParameters) -> bool {
    let by_use = common.public_key_use.as_ref().is_none_or(|meant| *meant == PublicKeyUse::Signature);
    by_use && common.key_operations.as_ref().is_none_or(|meant| meant.contains(&KeyOperations::Verify))
}

/// What a key of this kind and size can verify (RFC 7518, 3.1; RFC 8037, 3.1).
fn algorithms(read: &Jwk, key: &DecodingKey) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
    match (&read.algorithm, key.kind()) {
        (AlgorithmParameters::RSA(_), DecodingKeyKind::RsaModulusExponent { n, .. })
            if MODULUS.contains(&n.len()) =>
        {
            vec![RS256, RS384, RS512, PS256, PS384, PS512]
        }
        (AlgorithmParameters::EllipticCurve(typed), _) => match typed.curve {
            EllipticCurve::P256 if length == POINT_256 => vec![ES256],
            EllipticCurve::P384 if length == POINT_384 => vec![ES384],
            _ => vec![],
        },
        (AlgorithmParameters::OctetKeyPair(typed), _)
            if typed.curve == EllipticCurve::Ed25519 && length == KEY_25519 =>
        {
            vec![EdDSA]
        }
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A point and a key of the right lengths; nothing is verified here.
    fn ec(more: &str) -> String {
        let half = "A".repeat(43);
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{half}","y":"{half}"{more}}}"#)
    }

    fn set(keys: &[String]) -> Result<KeySet, String> {
        KeySet::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
    }

    fn rsa(bytes: usize) -> String {
        format!(r#"{{"kty":"RSA","kid":"r","n":"{}","e":"AQAB"}}"#, "A".repeat((bytes * 8).div_ceil(6)))
    }

    #[test]
    fn a_key_verifies_what_fits_it_and_nothing_else() {
        let keys = set(&[ec(r#","kid":"e""#), rsa(256)]).unwrap();
        for (id, algorithm, expected) in [
            ("e", Algorithm::ES256, true),
            ("e", Algorithm::ES384, false),
            ("e", Algorithm::HS256, false),
            ("e", Algorithm::RS256, false),
            ("r", Algorithm::RS512, true),
            ("r", Algorithm::PS384, true),
            ("r", Algorithm::HS256, false),
            ("r", Algorithm::ES256, false),
            ("x", Algorithm::ES256, false),
        ] {
            assert_eq!(keys.find(Some(id), algorithm).is_some(), expected, "{id} and {algorithm:?}");
        }
        assert!(keys.knows("e") && !keys.knows("x"));
    }

    #[test]
    fn the_issuers_own_algorithm_and_use_are_honoured() {
        let only = set(&[rsa(256).replace("\"kid\"", "\"alg\":\"PS256\",\"kid\"")]).unwrap();
        assert!(only.find(Some("r"), Algorithm::PS256).is_some());
        assert!(only.find(Some("r"), Algorithm::RS256).is_none(), "the key says PS256");
        for unfit in [r#","use":"enc""#, r#","key_ops":["encrypt"]"#, r#","alg":"RSA-OAEP""#] {
            assert_eq!(set(&[ec(unfit), ec("")]).unwrap().len(), 1, "{unfit} is not for signatures");
        }
        assert_eq!(set(&[ec(r#","key_ops":["verify"],"use":"sig""#)]).unwrap().len(), 1);
    }

    #[test]
    fn a_token_without_a_name_is_understood_where_one_key_alone_fits() {
        assert!(set(&[ec(""), rsa(256)]).unwrap().find(None, Algorithm::ES256).is_some());
        assert!(set(&[ec(""), ec(r#","kid":"e""#)]).unwrap().find(None, Algorithm::ES256).is_none());
    }

    #[test]
    fn what_can_verify_nothing_is_left_out_and_an_empty_rest_is_refused() {
        let unfit = [
            rsa(128),
            rsa(2048),
            r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#.into(),
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.into(),
            r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#.into(),
            r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#.into(),
            r#"{"kty":"unheard"}"#.into(),
            "7".into(),
        ];
        assert!(set(&unfit).unwrap_err().contains("no public key"), "none of them can be used");
        assert_eq!(set(&[&unfit[..], &[rsa(256)]].concat()).unwrap().len(), 1);
    }

    #[test]
    fn a_set_with_a_secret_in_it_is_refused_and_not_shown() {
        for secret in [r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(), ec(r#","d":"c2VjcmV0""#)] {
            let said = set(&[secret, rsa(256)]).unwrap_err();
            assert!(said.contains("private or shared") && !said.contains("c2VjcmV0"), "{said}");
        }
        assert!(set(&vec![rsa(256); 101]).unwrap_err().contains("more than 100"));
        assert!(KeySet::parse("[]").unwrap_err().contains("keys"));
    }

    #[test]
    fn sets_are_equal_by_their_keys() {
        assert_eq!(set(&[ec("")]), set(&[ec("")]));
        assert_ne!(set(&[ec("")]), set(&[ec(r#","kid":"e""#)]));
    }
}

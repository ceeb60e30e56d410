//! Who may pull: bouncers by their API keys, of which only hashes are known.

use std::sync::Arc;

use arc_swap::ArcSwap;
use checkgate_config::settings::{Bouncer, BouncerKey};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::metrics::Metrics;
use crate::metrics::crowdsec::BouncerMetrics;

/// How the software of firewalls names itself. Their sets hold single addresses: of a network they would block its first
/// address, which is nobody's.
const FIREWALL: &str = "crowdsec-firewall-bouncer";

/// A bouncer that showed its key.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub name: Arc<str>,
    /// What is counted of it.
    pub metrics: BouncerMetrics,
    sha256: [u8; 32],
    ranges: Option<bool>,
}

impl Known {
    /// Whether it can enforce networks, by the operator's word or by what it calls itself.
    #[must_use]
    pub fn takes_ranges(&self, user_agent: &[u8]) -> bool {
        self.ranges.unwrap_or_else(|| !is_firewall(user_agent))
    }
}

/// Whether a bouncer is a firewall's, by what it calls itself.
#[must_use]
pub fn is_firewall(user_agent: &[u8]) -> bool {
    user_agent.starts_with(FIREWALL.as_bytes())
}

/// All bouncers.
#[derive(Debug, Default)]
pub struct Keys(ArcSwap<Vec<Known>>);

impl Keys {
    /// Takes other bouncers while it runs.
    pub fn adopt(&self, bouncers: &[Bouncer], metrics: &Metrics) {
        let known = |bouncer: &Bouncer| Known {
            name: bouncer.name.as_str().into(),
            metrics: metrics.bouncer(&bouncer.name),
            sha256: match &bouncer.key {
                BouncerKey::Sha256(hash) => *hash,
                BouncerKey::Plain(key) => hash(key.reveal().as_bytes()),
            },
            ranges: bouncer.ranges,
        };
        self.0.store(Arc::new(bouncers.iter().map(known).collect()));
    }

    /// Whose key it is. All are compared, so that the time tells nothing.
    #[must_use]
    pub fn holder(&self, key: &[u8]) -> Option<Known> {
        let shown = hash(key);
        let mut holder = None;
        for known in self.0.load().iter() {
            if bool::from(shown.ct_eq(&known.sha256)) {
                holder = Some(known.clone());
            }
        }
        holder.filter(|_| !key.is_empty())
    }

    /// Whether there is a bouncer of that name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.0.load().iter().any(|known| &*known.name == name)
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use checkgate_config::settings::Secret;

    use super::*;

    #[test]
    fn a_key_opens_by_itself_or_by_its_hash_and_nothing_else_does() {
        let metrics = Metrics::new(&[], &[]).unwrap();
        let keys = Keys::default();
        let plain = BouncerKey::Plain(Secret::new("the key of the edge".into()));
        let hashed = BouncerKey::Sha256(hash(b"the key of the shop"));
        let bouncer = |name: &str, key, ranges| Bouncer { name: name.into(), key, ranges };
        keys.adopt(&[bouncer("edge", plain, None), bouncer("shop", hashed, Some(true))], &metrics);
        let holder = |key: &str| keys.holder(key.as_bytes()).map(|known| known.name.to_string());
        assert_eq!(holder("the key of the edge").as_deref(), Some("edge"));
        assert_eq!(holder("the key of the shop").as_deref(), Some("shop"));
        for wrong in ["", "the key of the edge ", "The key of the edge", "the key"] {
            assert_eq!(holder(wrong), None, "{wrong:?}");
        }
        let ranges =
            |key: &str, agent: &str| keys.holder(key.as_bytes()).unwrap().takes_ranges(agent.as_bytes());
        assert!(!ranges("the key of the edge", "crowdsec-firewall-bouncer/v0.0.25"));
        assert!(ranges("the key of the edge", "crowdsec-custom-bouncer/-"));
        assert!(ranges("the key of the shop", "crowdsec-firewall-bouncer/v0.0.25"), "the operator knows");
        keys.adopt(&[], &metrics);
        assert_eq!(holder("the key of the edge"), None, "it was taken back");
    }
}

//! Names from the configuration that are labels: of endpoints, bouncers, sources and sinks.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::OTHER;

/// Names of one kind since the start, those included that a reload took away; further ones share [`OTHER`].
const NAMES_MAX: usize = 256;

/// Names that have series of their own.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<BTreeSet<String>>);

impl Names {
    /// The label of `name`.
    pub(super) fn label<'a>(&self, name: &'a str) -> &'a str {
        let mut known = self.0.lock();
        if known.contains(name) || known.len() < NAMES_MAX {
            known.insert(name.to_owned());
            return name;
        }
        OTHER
    }
}

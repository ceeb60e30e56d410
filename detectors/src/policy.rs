//! Policy: from a finding to a decision.

use std::time::Duration;

use crate::finding::Mode;
use crate::identity::Address;

/// What policy was told.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Stamped on every record; decides nothing else here, so that both modes give the same decisions.
    pub mode: Mode,
    /// How long a block lasts.
    pub block_for: Duration,
    /// Addresses that no decision touches, as (first address of the prefix, prefix length).
    pub never_block: Vec<(std::net::IpAddr, u8)>,
}

impl Policy {
    /// Whether `address` is on the never-block list.
    #[must_use]
    pub fn spares(&self, _address: Address) -> bool {
        false
    }
}

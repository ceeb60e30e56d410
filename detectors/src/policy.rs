//! Policy: from a finding to a decision.

use std::net::IpAddr;
use std::time::Duration;

use crate::finding::{Action, Mode, Tier};
use crate::identity::Address;
use crate::ladder::Ladder;
use crate::reference::Trust;

/// What policy was told.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Stamped on every record; decides nothing else here, so that both modes give the same decisions.
    pub mode: Mode,
    /// Whether questions can be refused for what they hold: they are held for a verdict.
    pub refuses_content: bool,
    /// What follows from a finding that may act by itself: an alert, or what is done to a client.
    pub on_tier_one: Action,
    /// What follows where two detectors that only tell agree on a client of great volume; never a block.
    pub on_tier_two: Action,
    /// How long a decision lasts.
    pub ladder: Ladder,
    /// Addresses that no decision touches, as (first address of the prefix, prefix length).
    pub never_block: Vec<(IpAddr, u8)>,
}

impl Default for Policy {
    /// What the configuration has by default: it observes, blocks on tier one, alerts on tier two, and decisions last
    /// 15 minutes, 2 hours, a day.
    fn default() -> Self {
        let rungs = [900, 7200, 86_400].map(Duration::from_secs);
        Self {
            mode: Mode::Observe,
            on_tier_one: Action::Block,
            on_tier_two: Action::Alert,
            ladder: Ladder::new(rungs.to_vec()),
            refuses_content: false,
            never_block: Vec::new(),
        }
    }
}

impl Policy {
    /// What is done about a finding of this tier that rests on a reference of this trust, or on none. What rests on
    /// a provisional reference never leads to a decision, not even to an observed one: that would suspend the
    /// client's other evidence.
    #[must_use]
    pub fn action(&self, tier: Tier, rests_on: Option<Trust>) -> Action {
        match (tier, rests_on) {
            (Tier::One, None | Some(Trust::Trusted)) => self.on_tier_one,
            (Tier::One, Some(Trust::Provisional)) | (Tier::Two, _) => Action::Alert,
        }
    }

    /// What follows from several findings of tier two together. No setting makes it a block.
    #[must_use]
    pub fn together(&self) -> Action {
        self.on_tier_two.min(Action::Degrade)
    }

    /// Whether a client's evidence rests while `action` is in force on it: nothing stronger could follow from it.
    /// Otherwise whoever gets itself throttled would be safe from a block.
    #[must_use]
    pub fn suspends(&self, action: Action) -> bool {
        action >= self.on_tier_one
    }

    /// Whether `address` is on the never-block list. An IPv6 address stands for its /64, so a longer prefix on the
    /// list spares the whole /64 it lies in; an IPv4-mapped prefix is an IPv4 prefix.
    #[must_use]
    pub fn spares(&self, address: Address) -> bool {
        self.never_block.iter().any(|&(prefix, length)| match (prefix, address.ip()) {
            (IpAddr::V4(prefix), IpAddr::V4(ip)) => same_head(prefix.to_bits(), ip.to_bits(), length.min(32)),
            (IpAddr::V6(prefix), IpAddr::V6(ip)) => {
                same_head_wide(prefix.to_bits(), ip.to_bits(), length.min(64))
            }
            (IpAddr::V6(prefix), IpAddr::V4(ip)) => {
                let mapped = same_head_wide(prefix.to_bits(), ip.to_ipv6_mapped().to_bits(), length.min(128));
                mapped && (length >= 96 || prefix.is_unspecified())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        })
    }
}

fn same_head(left: u32, right: u32, length: u8) -> bool {
    (left ^ right).checked_shr(32 - u32::from(length)).unwrap_or(0) == 0
}

fn same_head_wide(left: u128, right: u128, length: u8) -> bool {
    (left ^ right).checked_shr(128 - u32::from(length)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spares(prefix: &str, length: u8, address: &str) -> bool {
        let never_block = vec![(prefix.parse().unwrap(), length)];
        let policy = Policy { never_block, ..Policy::default() };
        policy.spares(Address::of(address.parse().unwrap()))
    }

    #[test]
    fn the_never_block_list_covers_its_prefixes_and_no_more() {
        for (prefix, length, address, expected) in [
            ("192.0.2.0", 24, "192.0.2.255", true),
            ("192.0.2.0", 24, "192.0.3.0", false),
            ("192.0.2.7", 32, "192.0.2.7", true),
            ("192.0.2.7", 32, "192.0.2.6", false),
            ("0.0.0.0", 0, "203.0.113.1", true),
            ("192.0.2.7", 32, "::ffff:192.0.2.7", true),
            ("::ffff:192.0.2.0", 120, "192.0.2.9", true),
            ("::ffff:192.0.2.0", 120, "192.0.3.9", false),
            ("2001:db8::", 32, "2001:db8:9::1", true),
            ("2001:db8::", 32, "2001:db9::1", false),
            ("2001:db8::1", 128, "2001:db8::2", true),
            ("2001:db8::1", 128, "2001:db8:0:1::1", false),
            ("::", 0, "2001:db8::2", true),
            ("192.0.2.0", 24, "2001:db8::1", false),
        ] {
            assert_eq!(spares(prefix, length, address), expected, "{prefix}/{length} and {address}");
        }
    }
}

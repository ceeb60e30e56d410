//! What an address is worth as an identity: whether the traffic looks as if it came through a shared hop.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::identity::{Address, Asker, Standing};

/// Requests that are looked back upon.
const REQUESTS: usize = 1000;
/// Requests before half of the traffic means anything.
const REQUESTS_MIN: usize = 100;
/// This few addresses must not carry nearly all requests.
const FEW_ADDRESSES: usize = 8;

/// Why an address is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is this machine's own: any process or local proxy may stand behind it.
    Loopback,
    /// It carries over half of the recent requests, among other clients: perhaps a proxy in front of many.
    CarriesHalf,
    /// At most 8 addresses carry over 90 % of the recent requests: perhaps proxies, each in front of many. This also
    /// holds from the first request on, so that a client that is alone at start-up is not proven by accident.
    FewAddresses,
}

/// The addresses of the model's recent requests. Answers in O(1) but for a walk over the 8 busiest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "VecDeque<Address>", into = "VecDeque<Address>")]
pub struct Recent {
    requests: VecDeque<Address>,
    counts: FxHashMap<Address, usize>,
    /// Count of requests -> how many addresses have it.
    addresses_by_count: BTreeMap<usize, usize>,
}

impl Recent {
    /// Counts a request.
    pub fn count(&mut self, address: Address) {
        let oldest = if self.requests.len() >= REQUESTS { self.requests.pop_front() } else { None };
        self.requests.push_back(address);
        // Whose oldest request makes room for his own has as many as before.
        if oldest != Some(address) {
            oldest.into_iter().for_each(|oldest| self.change(oldest, |count| count.saturating_sub(1)));
            self.change(address, |count| count + 1);
        }
    }

    /// Why the asker's address is no proven identity, if it is none.
    #[must_use]
    pub fn doubt(&self, asker: &Asker) -> Option<Doubt> {
        if asker.standing == Standing::Declared {
            return None;
        }
        if asker.address.is_loopback() {
            return Some(Doubt::Loopback);
        }
        let requests = self.requests.len();
        let own = self.counts.get(&asker.address).copied().unwrap_or(0);
        if requests >= REQUESTS_MIN && self.counts.len() > 1 && own * 2 > requests {
            return Some(Doubt::CarriesHalf);
        }
        (self.busiest(FEW_ADDRESSES) * 10 > requests * 9).then_some(Doubt::FewAddresses)
    }

    /// Requests of the `addresses` busiest addresses.
    fn busiest(&self, addresses: usize) -> usize {
        let mut left = addresses;
        let mut requests = 0;
        for (count, having) in self.addresses_by_count.iter().rev() {
            let taken = left.min(*having);
            requests += count * taken;
            left -= taken;
            if left == 0 {
                break;
            }
        }
        requests
    }

    fn change(&mut self, address: Address, change: impl FnOnce(usize) -> usize) {
        let before = self.counts.get(&address).copied().unwrap_or(0);
        let after = change(before);
        if let Some(having) = self.addresses_by_count.get_mut(&before) {
            *having -= 1;
            if *having == 0 {
                self.addresses_by_count.remove(&before);
            }
        }
        if after > 0 {
            self.counts.insert(address, after);
            *self.addresses_by_count.entry(after).or_default() += 1;
        } else {
            self.counts.remove(&address);
        }
    }
}

impl From<VecDeque<Address>> for Recent {
    fn from(requests: VecDeque<Address>) -> Self {
        let mut recent = Self::default();
        requests.into_iter().for_each(|address| recent.count(address));
        recent
    }
}

impl From<Recent> for VecDeque<Address> {
    fn from(recent: Recent) -> Self {
        recent.requests
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn asker(number: u32) -> Asker {
        let address = Address::of(IpAddr::V4(Ipv4Addr::from_bits(0xc633_6400 + number)));
        Asker { address, standing: Standing::Assumed, key: None, keys_verified: false }
    }

    fn after(requests: impl IntoIterator<Item = u32>) -> Recent {
        let mut recent = Recent::default();
        requests.into_iter().for_each(|number| recent.count(asker(number).address));
        recent
    }

    #[test]
    fn a_lone_client_is_not_proven_by_being_alone() {
        assert_eq!(after([1]).doubt(&asker(1)), Some(Doubt::FewAddresses));
        assert_eq!(after(std::iter::repeat_n(1, 5000)).doubt(&asker(1)), Some(Doubt::FewAddresses));
    }

    #[test]
    fn eight_addresses_are_few_and_twenty_are_not() {
        assert_eq!(after((0..800).map(|n| n % 8)).doubt(&asker(1)), Some(Doubt::FewAddresses));
        assert_eq!(after((0..800).map(|n| n % 20)).doubt(&asker(1)), None);
        let nine_tenths = (0..1000).map(|n| if n % 100 < 91 { n % 8 } else { 100 + n });
        assert_eq!(after(nine_tenths).doubt(&asker(1)), Some(Doubt::FewAddresses));
    }

    #[test]
    fn over_half_among_others_is_a_shared_hop() {
        let recent = after((0..1000).map(|n| if n % 100 < 52 { 7 } else { 100 + n }));
        assert_eq!(recent.doubt(&asker(7)), Some(Doubt::CarriesHalf));
        assert_eq!(recent.doubt(&asker(101)), None, "the others are clients all the same");
    }

    #[test]
    fn the_operators_word_counts_and_loopback_does_not() {
        let declared = Asker { standing: Standing::Declared, ..asker(1) };
        assert_eq!(after([1]).doubt(&declared), None);
        let loopback = Asker { address: Address::of(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..asker(1) };
        assert_eq!(after(0..500).doubt(&loopback), Some(Doubt::Loopback));
    }

    #[test]
    fn old_requests_stop_counting() {
        let recent = after(std::iter::repeat_n(7, 1000).chain((0..1000).map(|n| n % 50)));
        assert_eq!((recent.requests.len(), recent.doubt(&asker(7))), (1000, None));
        assert_eq!(recent.counts.len(), 50, "addresses that are no longer recent are forgotten");
        let restored: Recent = postcard::from_bytes(&postcard::to_stdvec(&recent).unwrap()).unwrap();
        assert_eq!(restored.addresses_by_count, recent.addresses_by_count);
    }
}

//! How many connections may be open: over all, and for each address.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::rejected::Rejected;

/// The connections that are open now. Its size is bounded by the cap over all.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicUsize,
    by_address: DashMap<IpAddr, usize, ahash::RandomState>,
}

/// The most connections that may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Over all addresses.
    pub total: usize,
    /// Of one IPv4 address or one IPv6 /64.
    pub per_address: usize,
}

/// A place among the open connections; dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
}

impl Connections {
    /// Takes a place for a connection from `address`; `None` is exempt from the cap on one address.
    ///
    /// # Errors
    /// A cap is reached; nothing was taken.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>, caps: Caps) -> Result<Place, Rejected> {
        let address = address.map(prefix);
        // Counted first and taken back on refusal: two that come at once can never both pass the cap.
        let mut place = Place { connections: Arc::clone(self), address: None };
        if self.open.fetch_add(1, Ordering::Relaxed) >= caps.total {
            return Err(Rejected::Connections);
        }
        if let Some(address) = address
            && !self.count(address, caps.per_address)
        {
            return Err(Rejected::ConnectionsPerAddress);
        }
        place.address = address;
        Ok(place)
    }

    /// How many are open.
    #[cfg(test)]
    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn count(&self, address: IpAddr, max: usize) -> bool {
        let mut of_address = self.by_address.entry(address).or_default();
        let below = *of_address < max;
        if below {
            *of_address += 1;
        }
        below
    }

    fn release(&self, address: IpAddr) {
        if let Entry::Occupied(mut of_address) = self.by_address.entry(address) {
            *of_address.get_mut() -= 1;
            if *of_address.get() == 0 {
                of_address.remove();
            }
        }
    }
}

impl Place {
    /// Has a connection of a load balancer count for the address that it is from, from here on.
    ///
    /// # Errors
    /// As many connections of that address are open as may be.
    pub fn count_for(&mut self, address: IpAddr, caps: Caps) -> Result<(), Rejected> {
        let address = prefix(address);
        if !self.connections.count(address, caps.per_address) {
            return Err(Rejected::ConnectionsPerAddress);
        }
        if let Some(before) = self.address.replace(address) {
            self.connections.release(before);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            self.connections.release(address);
        }
    }
}

/// What shares one allowance: an IPv4 address, or the /64 that one IPv6 customer is given.
fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

/// Raises the soft limit on open files to the hard one and gives what holds then.
///
/// A proxied request takes two descriptors, so connections are kept to two fifths of it.
#[must_use]
pub fn connections_max(configured: usize) -> usize {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files cannot be raised");
        rlimit::Resource::NOFILE.get_soft().unwrap_or(1024)
    });
    let affordable = usize::try_from(descriptors / 5 * 2).unwrap_or(usize::MAX);
    if affordable < configured {
        tracing::warn!(configured, affordable, "the limit on open files lowers limits.connections");
    }
    affordable.min(configured)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { total: 5, per_address: 2 };

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_cap_and_a_closed_connection_frees_its_place() {
        let connections = Arc::new(Connections::default());
        let first = connections.admit(ip("192.0.2.1"), CAPS).unwrap();
        let _second = connections.admit(ip("192.0.2.1"), CAPS).unwrap();
        let third = connections.admit(ip("192.0.2.1"), CAPS);
        assert_eq!(third.unwrap_err(), Rejected::ConnectionsPerAddress);
        let _other = connections.admit(ip("192.0.2.2"), CAPS).unwrap();
        drop(first);
        let _again = connections.admit(ip("::ffff:192.0.2.1"), CAPS).expect("the place was freed");
        assert_eq!(connections.open(), 3, "a refused connection takes no place");
    }

    #[test]
    fn a_connection_of_a_balancer_counts_for_whom_it_is_from() {
        let connections = Arc::new(Connections::default());
        let mut places: Vec<_> = (0..3).map(|_| connections.admit(None, CAPS).unwrap()).collect();
        let counted: Vec<_> =
            places.iter_mut().map(|place| place.count_for(ip("192.0.2.1").unwrap(), CAPS).is_ok()).collect();
        assert_eq!(counted, [true, true, false], "the client is at its cap");
        assert!(connections.admit(ip("192.0.2.1"), CAPS).is_err());
        drop(places);
        assert!(connections.by_address.is_empty(), "closed connections free the client's places");
    }

    #[test]
    fn a_slash_64_is_one_address() {
        let connections = Arc::new(Connections::default());
        let _places: Vec<_> = ["2001:db8:0:7::1", "2001:db8:0:7:ffff::2"]
            .into_iter()
            .map(|address| connections.admit(ip(address), CAPS).unwrap())
            .collect();
        assert!(connections.admit(ip("2001:db8:0:7::3"), CAPS).is_err(), "the /64 is at its cap");
        assert!(connections.admit(ip("2001:db8:0:8::3"), CAPS).is_ok(), "its neighbour is not");
    }

    #[test]
    fn the_exempt_count_against_the_total_only() {
        let connections = Arc::new(Connections::default());
        let places: Vec<_> = (0..CAPS.total).map(|_| connections.admit(None, CAPS).unwrap()).collect();
        assert_eq!(connections.admit(ip("192.0.2.1"), CAPS).unwrap_err(), Rejected::Connections);
        drop(places);
        assert_eq!(connections.open(), 0);
        assert!(connections.by_address.is_empty(), "what is closed is not remembered");
    }
}

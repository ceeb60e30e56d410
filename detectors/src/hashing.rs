//! Keyed hashes of identities, fields, cells and rows: nobody outside can aim at a cell or precompute a collision.

use siphasher::sip::SipHasher13;

use crate::facts::{Cell, Features};
use crate::identity::Identity;

/// The hashes of one model, keyed with the instance's secret (SipHash-1-3, Aumasson and Bernstein 2012).
#[derive(Clone, Copy, Debug)]
pub struct Hashing {
    sip: SipHasher13,
}

/// Canonical bits of every NaN: servers write many.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

impl Hashing {
    /// Hashes under `key`.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Self {
        Self { sip: SipHasher13::new_with_keys(key[0], key[1]) }
    }

    /// What all keys of one client are salted with.
    #[must_use]
    pub fn salt(&self, identity: Identity) -> u64 {
        match identity {
            Identity::Address(address) => match address.ip() {
                std::net::IpAddr::V4(ip) => self.tagged(b'4', &ip.octets()),
                std::net::IpAddr::V6(ip) => self.tagged(b'6', &ip.octets()),
            },
            Identity::Key(key) => self.tagged(b'k', &key.to_le_bytes()),
        }
    }

    /// The hash of number `sequence` of the series called `name`.
    #[must_use]
    pub fn numbered(&self, name: &str, sequence: u64) -> u64 {
        self.pair(self.tagged(b'n', name.as_bytes()), b's', sequence)
    }

    /// Fills `out` with one hash to a column: of its name where the body gives one, so that the order of named
    /// columns makes no difference, otherwise of its position.
    pub fn fields(&self, features: &Features, out: &mut Vec<u64>) {
        out.clear();
        out.extend((0..features.width).map(|column| match features.names.get(column) {
            Some(name) => self.tagged(b'f', name.as_bytes()),
            None => self.pair(0, b'p', column as u64),
        }));
    }

    /// The hash of one cell of the column that hashes to `field`. Positive and negative zero are one value, and so
    /// are all NaNs.
    #[must_use]
    pub fn cell(&self, field: u64, cell: Cell, features: &Features) -> u64 {
        match cell {
            Cell::Missing => self.pair(field, b'm', 0),
            Cell::Number(number) => self.pair(field, b'd', canonical_bits(number)),
            Cell::Text(start, end) => {
                let text = self.tagged(b't', features.text_of(start, end).as_bytes());
                self.pair(field, b't', text)
            }
        }
    }

    fn pair(&self, first: u64, tag: u8, second: u64) -> u64 {
        let mut bytes = [tag; 17];
        for (target, source) in
            bytes.iter_mut().skip(1).zip(first.to_le_bytes().into_iter().chain(second.to_le_bytes()))
        {
            *target = source;
        }
        self.sip.hash(&bytes)
    }

    fn tagged(&self, tag: u8, bytes: &[u8]) -> u64 {
        self.pair(self.sip.hash(bytes), tag, bytes.len() as u64)
    }
}

fn canonical_bits(number: f64) -> u64 {
    if number.is_nan() {
        NAN_BITS
    } else {
        // Adding zero turns -0.0 into 0.0 and leaves every other number alone.
        (number + 0.0).to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(names: &[&str]) -> Features {
        Features { names: names.iter().map(ToString::to_string).collect(), width: 2, ..Features::default() }
    }

    #[test]
    fn equal_values_hash_equal_and_others_do_not() {
        let hashing = Hashing::new([1, 2]);
        let none = Features::default();
        let number = |value| hashing.cell(1, Cell::Number(value), &none);
        assert_eq!(number(0.0), number(-0.0));
        assert_eq!(number(f64::NAN), number(-f64::NAN));
        assert_ne!(number(0.0), number(1.0));
        assert_ne!(number(0.0), hashing.cell(1, Cell::Missing, &none));
        assert_ne!(number(0.0), hashing.cell(2, Cell::Number(0.0), &none));
        assert_ne!(number(0.0), Hashing::new([1, 3]).cell(1, Cell::Number(0.0), &none));
    }

    #[test]
    fn a_named_column_is_known_wherever_it_stands() {
        let hashing = Hashing::new([1, 2]);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        hashing.fields(&features(&["age", "power"]), &mut first);
        hashing.fields(&features(&["power", "age"]), &mut second);
        assert_eq!(first, [second[1], second[0]]);
    }
}

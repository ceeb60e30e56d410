//! Keyed hashes of identities, fields, cells and rows: nobody outside can aim at a cell or precompute a collision.
//!
//! Names and texts are hashed by SipHash-1-3 under the instance's secret. A cell is hashed by a function of its column,
//! drawn from a universal family by that secret: the upper half of a product with a secret multiplier (Dietzfelbinger,
//! Universal Hashing and k-wise Independent Random Variables via Integer Arithmetic without Primes, STACS 1996). A row
//! is the sum of its cells. Two different rows then have the same hash with a probability of at most 2^-63 each,
//! whatever they are; and as nothing but equality ever follows from a hash, nobody learns about the secret before.

use siphasher::sip::SipHasher13;

use crate::facts::{Cell, Features};
use crate::identity::Identity;
use crate::lines::Marks;

/// The hashes of one model, keyed with the instance's secret (SipHash-1-3, Aumasson and Bernstein 2012).
#[derive(Clone, Copy, Debug)]
pub struct Hashing {
    sip: SipHasher13,
}

/// Canonical bits of every NaN: servers write many.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

/// Bits of a gap: a NaN that is not the canonical one, hence no number's.
const MISSING_BITS: u64 = NAN_BITS + 1;

/// The hash function of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    hash: u64,
    multiplier: u128,
}

impl Field {
    /// A column that counts for nothing: all its cells hash to zero.
    pub const IGNORED: Self = Self { hash: 0, multiplier: 0 };

    /// Whether the column counts.
    #[must_use]
    pub fn counts(self) -> bool {
        self.hash != Self::IGNORED.hash
    }

    /// What stands for the column in sets of them.
    #[must_use]
    pub fn mark(self) -> u32 {
        Marks::of(self.hash)
    }

    /// A secret number of the column, from 0 to below 1.
    #[must_use]
    pub fn offset(self) -> f64 {
        f64::from(self.hash as u32) / (f64::from(u32::MAX) + 1.0)
    }

    /// The hash of a cell whose value was rounded to one of 256 steps.
    #[must_use]
    pub fn of_code(self, code: u8) -> u64 {
        self.spread(u64::from(code))
    }

    /// The hash of a cell that is told by `bits`. The column's own hash keeps equal cells of two columns apart.
    fn spread(self, bits: u64) -> u64 {
        let product = self.multiplier.wrapping_mul(u128::from(bits));
        ((product >> 64) as u64).wrapping_add(self.hash)
    }
}

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
            Identity::Network(network) => self.tagged(b'w', network.to_string().as_bytes()),
        }
    }

    /// The hash of number `sequence` of the series called `name`.
    #[must_use]
    pub fn numbered(&self, name: &str, sequence: u64) -> u64 {
        self.pair(self.tagged(b'n', name.as_bytes()), b's', sequence)
    }

    /// Fills `out` with one field to a column: from its name where the body gives one, so that the order of named
    /// columns makes no difference, otherwise from its position.
    pub fn fields(&self, features: &Features, out: &mut Vec<Field>) {
        out.clear();
        out.extend((0..features.width).map(|column| match features.names.get(column) {
            Some(name) => self.field(self.tagged(b'f', name.text().as_bytes())),
            None => self.at(column),
        }));
    }

    /// The column at a position.
    #[must_use]
    pub fn at(&self, position: usize) -> Field {
        self.field(self.pair(0, b'p', position as u64))
    }

    fn field(&self, hash: u64) -> Field {
        let half = |number| u128::from(self.pair(hash, b'a', number));
        Field { hash, multiplier: half(0) << 64 | half(1) }
    }

    /// Fills `out` with one hash to a cell of row `index`, 0 where the column does not count.
    pub fn cells(&self, fields: &[Field], features: &Features, index: usize, out: &mut Vec<u64>) {
        out.clear();
        let cells = fields.iter().zip(features.row(index));
        out.extend(cells.map(|(&field, &cell)| self.cell(field, cell, features)));
    }

    /// The hash of one cell of the column `field`. Positive and negative zero are one value, and so are all NaNs.
    #[must_use]
    pub fn cell(&self, field: Field, cell: Cell, features: &Features) -> u64 {
        field.spread(match cell {
            Cell::Missing => MISSING_BITS,
            Cell::Number(number) => canonical_bits(number),
            Cell::Text(start, end) => self.tagged(b't', features.text_of(start, end).as_bytes()),
        })
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
        Features { names: names.iter().copied().collect(), width: 2, ..Features::default() }
    }

    #[test]
    fn equal_values_hash_equal_and_others_do_not() {
        let hashing = Hashing::new([1, 2]);
        let none = Features::default();
        let [one, other] = [1, 2].map(|hash| hashing.field(hash));
        let number = |value| hashing.cell(one, Cell::Number(value), &none);
        assert_eq!(number(0.0), number(-0.0));
        assert_eq!(number(f64::NAN), number(-f64::NAN));
        assert_ne!(number(0.0), number(1.0));
        assert_ne!(number(f64::NAN), hashing.cell(one, Cell::Missing, &none));
        assert_ne!(number(0.0), hashing.cell(other, Cell::Number(0.0), &none));
        assert_ne!(number(1.0), Hashing::new([1, 3]).field(1).spread(1.0_f64.to_bits()));
    }

    #[test]
    fn what_does_not_count_hashes_to_nothing() {
        let hashing = Hashing::new([1, 2]);
        for cell in [Cell::Missing, Cell::Number(7.5), Cell::Text(0, 0)] {
            assert_eq!(hashing.cell(Field::IGNORED, cell, &Features::default()), 0, "{cell:?}");
        }
        assert!(!Field::IGNORED.counts() && hashing.field(1).counts());
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

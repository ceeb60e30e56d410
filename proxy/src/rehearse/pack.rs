//! The attack pack: recorded streams of real attack tools, and what normal looked like where they attacked. They are
//! the files that the tests run; `NOTICE.md` beside them says where their rows come from.

use super::stream::{Stream, unpack};

/// Where the rows of the pack come from, and under which licences.
pub const NOTICE: &str = include_str!("../../../load-tests/data/streams/NOTICE.md");

/// One recorded attack of the pack.
pub struct Packed {
    /// Its name.
    pub name: &'static str,
    /// The model that it attacked.
    pub model: &'static str,
    bytes: &'static [u8],
}

macro_rules! attacks {
    ($($name:literal at $model:literal),+ $(,)?) => {
        &[$(Packed {
            name: $name,
            model: $model,
            bytes: include_bytes!(concat!("../../../load-tests/data/streams/attacks/", $name, ".jsonl.gz")),
        }),+]
    };
}

/// Every attack of the pack, by name.
pub const ATTACKS: &[Packed] = attacks![
    "boundary_cancer" at "cancer",
    "boundary_digits" at "digits",
    "copycat_other_digits" at "digits",
    "copycat_uniform_cancer" at "cancer",
    "copycat_uniform_digits" at "digits",
    "hsj_cancer" at "cancer",
    "hsj_digits" at "digits",
    "inv_search_digits" at "digits",
    "jbda_cancer" at "cancer",
    "jbda_digits" at "digits",
    "knockoff_adaptive_digits" at "digits",
    "knockoff_natural_digits" at "digits",
    "mi_labelonly_digits" at "digits",
    "mi_rule_digits" at "digits",
    "nes_cancer" at "cancer",
    "nes_digits" at "digits",
    "price_enum" at "pricing",
    "price_grid" at "pricing",
    "price_lhs" at "pricing",
    "price_natural" at "pricing",
    "price_oat" at "pricing",
    "simba_digits" at "digits",
    "square_digits" at "digits",
    "zoo_cancer" at "cancer",
    "zoo_digits" at "digits",
];

const REFERENCES: [(&str, &[u8]); 3] = [
    ("cancer", include_bytes!("../../../load-tests/data/streams/reference/cancer.jsonl.gz")),
    ("digits", include_bytes!("../../../load-tests/data/streams/reference/digits.jsonl.gz")),
    ("pricing", include_bytes!("../../../load-tests/data/streams/reference/pricing.jsonl.gz")),
];

/// What attacks are after, by the beginning of their names.
const AIMS: &[(&str, &str)] = &[
    ("boundary", "evasion: a walk along the border between two classes (Boundary Attack)"),
    ("copycat", "extraction: a copy trained on rows of another kind (CopycatCNN)"),
    ("hsj", "evasion: a search along the border from labels alone (HopSkipJump)"),
    ("inv_search", "inversion: a search for the row that a class looks like"),
    ("jbda", "extraction: synthetic rows along the sign of a copy's gradient"),
    ("knockoff_adaptive", "extraction: rows chosen by what the copy does not know (Knockoff Nets)"),
    ("knockoff_natural", "extraction with natural rows (Knockoff Nets); content cannot show it"),
    ("mi_labelonly", "membership: how far a row is from the border, from labels alone"),
    ("mi_rule", "membership with one question each; content cannot show it"),
    ("nes", "evasion: gradients estimated from random directions (NES)"),
    ("price_enum", "a price list read off, value by value"),
    ("price_grid", "a price list read off on a grid of two fields"),
    ("price_lhs", "extraction: rows spread evenly over the whole space"),
    ("price_natural", "extraction with natural rows; content cannot show it"),
    ("price_oat", "a price list read off, one field at a time"),
    ("simba", "evasion: one coordinate at a time, kept where it helps (SimBA)"),
    ("square", "evasion: random squares of change (Square Attack)"),
    ("zoo", "evasion: gradients estimated coordinate by coordinate (ZOO)"),
];

impl Packed {
    /// What it is after.
    pub fn aim(&self) -> &'static str {
        AIMS.iter().find(|(begins, _)| self.name.starts_with(begins)).map_or("", |(_, aim)| aim)
    }

    /// Its stream.
    ///
    /// # Errors
    /// Where the pack is broken.
    pub fn stream(&self) -> anyhow::Result<Stream> {
        Stream::from_gzip(self.bytes)
    }

    /// What normal looked like where it attacked, as JSON lines.
    ///
    /// # Errors
    /// Where the pack is broken.
    pub fn reference(&self) -> anyhow::Result<String> {
        let packed = REFERENCES.iter().find(|(model, _)| *model == self.model);
        unpack(packed.map_or(&[][..], |(_, bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pack_is_whole() {
        assert!(ATTACKS.is_sorted_by_key(|attack| attack.name));
        for attack in ATTACKS {
            assert!(!attack.aim().is_empty(), "nobody says what {} is after", attack.name);
            assert!(attack.stream().unwrap().rows() >= 100, "{} is short", attack.name);
            assert!(attack.reference().unwrap().lines().count() > 150, "{} has no reference", attack.name);
        }
        assert!(NOTICE.contains("CC BY 4.0"));
    }

    #[test]
    fn every_recorded_attack_is_in_the_pack() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../load-tests/data/streams/attacks");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> =
            files.map(|name| name.to_string_lossy().trim_end_matches(".jsonl.gz").to_owned()).collect();
        names.sort();
        let packed: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
        assert_eq!(names, packed, "an attack that is left out would flatter");
    }
}

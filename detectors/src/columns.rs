//! What is known of the columns of the question at hand, before any of its values is looked at.
//!
//! Nearly every question of a model names the same columns as the one before it: then nothing is hashed or looked up
//! anew.

use crate::facts::Features;
use crate::hashing::{Field, Hashing};
use crate::names::Names;
use crate::neighbours::WIDTH_MAX;
use crate::reference::{Reference, Trust};

/// The columns of the question at hand, kept until other columns come.
#[derive(Debug, Default)]
pub struct Columns {
    known: Option<Known>,
    fields: Vec<Field>,
    counted: usize,
    of_reference: Option<Vec<usize>>,
    fields_of_reference: Vec<Field>,
}

/// Which columns were looked at.
#[derive(Debug)]
struct Known {
    names: Names,
    width: usize,
}

impl Columns {
    /// Looks at the columns of `question`. Columns that a trusted `reference` does not know count for nothing: a
    /// server ignores what it does not know, so a column invented for each request must not make its rows look
    /// unrelated. O(names) where the columns are those of the last question, otherwise O(columns) hashes.
    ///
    /// The reference must be that of the last call, unless [`Columns::forget`] was called in between.
    pub fn look_at(&mut self, hashing: &Hashing, question: &Features, reference: Option<&Reference>) {
        let same = |known: &Known| known.width == question.width && known.names == question.names;
        if self.known.as_ref().is_some_and(same) {
            return;
        }
        self.known = Some(Known { names: question.names.clone(), width: question.width });
        hashing.fields(question, &mut self.fields);
        self.of_reference = reference.and_then(|reference| reference.columns_of(question));
        self.hash_reference(hashing);
        // Only what the operator named is relied upon: a learned reference may have learned an invented column.
        if reference.is_some_and(|reference| reference.trust == Trust::Trusted) {
            self.ignore_unknown();
        }
        self.counted = self.fields.iter().filter(|field| field.counts()).count();
    }

    /// Forgets the columns, because the reference changes.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// One field to a column, [`Field::IGNORED`] for those that do not count.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// How many columns count.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.counted
    }

    /// The question's column for each column of the reference, where there is a reference and every one is found.
    #[must_use]
    pub fn of_reference(&self) -> Option<&[usize]> {
        self.of_reference.as_deref()
    }

    /// One field to a column of the reference, by position: the same whatever a question calls its columns. Empty where
    /// the reference is not wider than distances are measured.
    #[must_use]
    pub fn fields_of_reference(&self) -> &[Field] {
        &self.fields_of_reference
    }

    fn hash_reference(&mut self, hashing: &Hashing) {
        let width = self.of_reference.as_ref().map_or(0, Vec::len);
        if width > WIDTH_MAX && self.fields_of_reference.len() != width {
            self.fields_of_reference = (0..width).map(|column| hashing.at(column)).collect();
        }
    }

    fn ignore_unknown(&mut self) {
        let Some(known) = self.of_reference.as_ref().filter(|known| known.len() < self.fields.len()) else {
            return;
        };
        let mut fields = vec![Field::IGNORED; self.fields.len()];
        for &column in known {
            if let (Some(field), Some(hash)) = (fields.get_mut(column), self.fields.get(column)) {
                *field = *hash;
            }
        }
        self.fields = fields;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(names: &[&str], width: usize) -> Features {
        Features { names: names.iter().copied().collect(), width, ..Features::default() }
    }

    fn reference(trust: Trust) -> Reference {
        Reference::from_json_lines("{\"features\":[\"age\",\"power\"]}", trust).unwrap()
    }

    #[test]
    fn other_columns_are_looked_at_anew() {
        let hashing = Hashing::new([1, 2]);
        let mut kept = Columns::default();
        let questions =
            [(vec!["a", "b"], 2), (vec!["b", "a"], 2), (vec!["b", "a"], 3), (vec![], 3), (vec![], 2)];
        for (names, width) in questions {
            let mut fresh = Columns::default();
            for columns in [&mut kept, &mut fresh] {
                columns.look_at(&hashing, &question(&names, width), None);
            }
            assert_eq!(kept.fields(), fresh.fields(), "{names:?} and {width} columns");
            assert_eq!((kept.counted(), kept.fields().len()), (width, width));
        }
    }

    #[test]
    fn what_a_trusted_reference_does_not_know_counts_for_nothing() {
        let hashing = Hashing::new([1, 2]);
        let asked = question(&["power", "junk", "age"], 3);
        for (trust, counted) in [(Trust::Trusted, 2), (Trust::Provisional, 3)] {
            let mut columns = Columns::default();
            columns.look_at(&hashing, &asked, Some(&reference(trust)));
            assert_eq!(columns.counted(), counted, "{trust:?}");
            assert_eq!(columns.of_reference(), Some([2, 0].as_slice()), "{trust:?}");
        }
    }

    #[test]
    fn a_new_reference_counts_once_the_columns_are_forgotten() {
        let hashing = Hashing::new([1, 2]);
        let mut columns = Columns::default();
        columns.look_at(&hashing, &question(&["age", "power"], 2), None);
        assert_eq!(columns.of_reference(), None);
        columns.forget();
        columns.look_at(&hashing, &question(&["age", "power"], 2), Some(&reference(Trust::Trusted)));
        assert_eq!(columns.of_reference(), Some([0, 1].as_slice()));
    }
}

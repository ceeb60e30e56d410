//! The names of a table's columns, kept as bodies give them: one to a column, or one to all columns of a tensor.
//!
//! A tensor of 1,000 columns has one name, of which each column's name is made when somebody asks for it. Names are
//! compared with those of the last question far more often than they are read, so they lie in one piece of memory.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Names of the first columns of a row, in order. Equal are names that were given in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    text: String,
    groups: Vec<Group>,
}

/// Columns that share a name: they end where the next group begins, and so does the name in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    columns_end: usize,
    text_end: usize,
    /// Whether each column is called after its position in the group too.
    numbered: bool,
}

/// The name of one column.
#[derive(Clone, Copy, Debug)]
pub struct Name<'n> {
    stem: &'n str,
    position: Option<usize>,
}

impl Names {
    /// Forgets the names and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.groups.clear();
    }

    /// How many columns have a name.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.last().map_or(0, |group| group.columns_end)
    }

    /// Whether no column has a name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no column was named by itself: there are no names, or those of whole tensors alone.
    #[must_use]
    pub fn are_of_tensors(&self) -> bool {
        self.groups.iter().all(|group| group.numbered)
    }

    /// Names the next column.
    pub fn push(&mut self, name: &str) {
        self.push_group(name, 1, false);
    }

    /// Names the next `columns` columns `name[0]`, `name[1]` and so on.
    pub fn push_numbered(&mut self, name: &str, columns: usize) {
        self.push_group(name, columns, true);
    }

    fn push_group(&mut self, name: &str, columns: usize, numbered: bool) {
        let columns_end = self.len() + columns;
        self.text.push_str(name);
        self.groups.push(Group { columns_end, text_end: self.text.len(), numbered });
    }

    /// The name of a column; O(log groups).
    #[must_use]
    pub fn get(&self, column: usize) -> Option<Name<'_>> {
        let at = self.groups.partition_point(|group| group.columns_end <= column);
        let group = self.groups.get(at)?;
        let before = at.checked_sub(1).and_then(|before| self.groups.get(before));
        let (first_column, text_start) = before.map_or((0, 0), |group| (group.columns_end, group.text_end));
        let stem = self.text.get(text_start..group.text_end)?;
        Some(Name { stem, position: group.numbered.then_some(column - first_column) })
    }

    /// The columns that share a name, in order: of a tensor with several columns all of them, otherwise one.
    pub fn groups(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.groups.iter().map(|group| group.columns_end));
        starts.zip(&self.groups).map(|(start, group)| start..group.columns_end)
    }

    /// Every name, in order.
    pub fn iter(&self) -> impl Iterator<Item = Name<'_>> + Clone {
        (0..self.len()).filter_map(|column| self.get(column))
    }
}

impl<'n> Name<'n> {
    /// The name in one piece.
    #[must_use]
    pub fn text(self) -> Cow<'n, str> {
        match self.position {
            None => Cow::Borrowed(self.stem),
            Some(_) => Cow::Owned(self.to_string()),
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stem)?;
        self.position.map_or(Ok(()), |position| write!(f, "[{position}]"))
    }
}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        let Some(rest) = other.strip_prefix(self.stem) else { return false };
        match self.position {
            None => rest.is_empty(),
            Some(position) => {
                let digits = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                digits.and_then(written_position) == Some(position)
            }
        }
    }
}

/// A position in the one way in which it is written: digits without a sign or leading zeros.
fn written_position(digits: &str) -> Option<usize> {
    let well_written = digits == "0" || !digits.starts_with(['0', '+']);
    if well_written { digits.parse().ok() } else { None }
}

impl<'n> FromIterator<&'n str> for Names {
    fn from_iter<I: IntoIterator<Item = &'n str>>(names: I) -> Self {
        let mut all = Self::default();
        names.into_iter().for_each(|name| all.push(name));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed() -> Names {
        let mut names = Names::default();
        names.push("age");
        names.push_numbered("scores", 3);
        names.push_numbered("none", 0);
        names.push("");
        names
    }

    #[test]
    fn a_tensors_columns_are_numbered() {
        let texts: Vec<String> = mixed().iter().map(|name| name.text().into_owned()).collect();
        assert_eq!(texts, ["age", "scores[0]", "scores[1]", "scores[2]", ""]);
        assert_eq!(mixed().len(), texts.len());
        assert!(mixed().get(texts.len()).is_none(), "a column beyond the last name has none");
    }

    #[test]
    fn a_tensors_columns_are_one_group() {
        assert_eq!(mixed().groups().collect::<Vec<_>>(), [0..1, 1..4, 4..4, 4..5]);
    }

    #[test]
    fn a_name_equals_its_text_and_no_other() {
        let texts =
            ["age", "scores[0]", "scores[1]", "scores[2]", "", "scores[01]", "scores[+1]", "scores[1", "ag"];
        for (column, name) in mixed().iter().enumerate() {
            for (other, text) in texts.iter().enumerate() {
                assert_eq!(name == **text, other == column, "{name} and {text:?}");
            }
        }
    }

    #[test]
    fn clearing_forgets_every_name() {
        let mut names = mixed();
        names.clear();
        assert!(names.is_empty() && names.get(0).is_none());
        assert_eq!(names, Names::default());
    }
}

//! How a client's own rows that lie close together differ: in a few fields, as those of charts and sliders do, or in many.

use std::cmp::Ordering;

/// How earlier rows differ from one row, all in scaled values.
#[derive(Debug)]
pub struct Around<'a> {
    row: &'a [f32],
    columns: Vec<Moved<'a>>,
    most: usize,
    fewest: usize,
}

/// What was seen of one column.
#[derive(Clone, Copy, Debug, Default)]
struct Moved<'a> {
    differs: bool,
    before: Option<&'a f32>,
    rose: bool,
    fell: bool,
}

impl<'a> Moved<'a> {
    fn step_to(&mut self, value: &'a f32) {
        let step = self.before.and_then(|before| value.partial_cmp(before));
        self.rose |= step == Some(Ordering::Greater);
        self.fell |= step == Some(Ordering::Less);
        self.before = Some(value);
    }
}

impl<'a> Around<'a> {
    /// Nothing around a row yet.
    #[must_use]
    pub fn new(row: &'a [f32]) -> Self {
        Self { row, columns: vec![Moved::default(); row.len()], most: 0, fewest: usize::MAX }
    }

    /// Takes an earlier row. They come in the order in which they were asked.
    pub fn take(&mut self, other: &'a [f32]) {
        let mut fields = 0;
        for (column, (value, other)) in self.columns.iter_mut().zip(self.row.iter().zip(other)) {
            let differs = value != other;
            column.differs |= differs;
            column.step_to(other);
            fields += usize::from(differs);
        }
        self.most = self.most.max(fields);
        self.fewest = self.fewest.min(fields);
    }

    /// In how many columns the row that differs most does.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether some row differs in one column alone.
    #[must_use]
    pub fn has_step(&self) -> bool {
        self.fewest == 1
    }

    /// Whether every column went one way only, from the first of the rows to this one, or stayed.
    #[must_use]
    pub fn goes_one_way(&self) -> bool {
        self.columns.iter().zip(self.row).all(|(column, value)| {
            let mut column = *column;
            column.step_to(value);
            !(column.rose && column.fell)
        })
    }

    /// For each numeric column of the reference, in order, whether any row differs in it.
    pub fn moved(&self) -> impl ExactSizeIterator<Item = bool> {
        self.columns.iter().map(|column| column.differs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is around the last of `rows`: most, whether there is a step, one way, how many columns moved.
    fn around(rows: &[[f32; 4]]) -> (usize, bool, bool, usize) {
        let (last, earlier) = rows.split_last().unwrap();
        let mut around = Around::new(last);
        earlier.iter().for_each(|row| around.take(row));
        let moved = around.moved().filter(|moved| *moved).count();
        (around.most(), around.has_step(), around.goes_one_way(), moved)
    }

    #[test]
    fn charts_sliders_and_searches_are_told_by_the_fields_that_differ() {
        let case = [1.0, 2.0, 3.0, 4.0];
        for (name, rows, expected) in [
            ("a chart", vec![case, [2.0, 2.0, 3.0, 4.0], [1.0, 3.0, 3.0, 4.0]], (2, true, false, 2)),
            ("its first row alone", vec![case, [2.0, 2.0, 3.0, 4.0]], (1, true, true, 1)),
            ("two sliders", vec![case, [2.0, 2.0, 3.0, 4.0], [2.0, 3.0, 3.0, 4.0]], (2, true, true, 2)),
            ("noise", vec![case, [1.1, 2.1, 2.9, 4.1], [0.9, 1.9, 2.9, 4.2]], (4, false, false, 4)),
            ("a lamp", vec![case, [0.9, 1.9, 2.8, 3.6], [0.9, 1.8, 2.7, 3.3]], (4, false, true, 4)),
            ("nothing before", vec![case], (0, false, true, 0)),
        ] {
            assert_eq!(around(&rows), expected, "{name}");
        }
    }
}

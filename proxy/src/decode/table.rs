//! From values of a document to the rows of [`Features`].

use std::fmt::Write;

use ahash::AHashMap;
use checkgate_detectors::facts::{Cell, Features, NotInspected, Span};
use checkgate_detectors::names::Names;

use super::Head;
use super::json::{Kind, Leaves, Number, Value};

/// A longer name of a column is refused as [`NotInspected::Shape`]: every column of a tensor repeats it.
pub const NAME_BYTES_MAX: usize = 256;

/// A table of named rows holds at most this many cells for each value that the body gives it, or it is refused as
/// [`NotInspected::TooWide`]: rows without a common key would otherwise grow with the square of the body.
pub const SPARSENESS_MAX: usize = 16;

/// What bounds a table, and whether its cells know their place in the body.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows beyond this many are counted only.
    pub rows_max: usize,
    /// More columns are refused.
    pub columns_max: usize,
    /// Whether spans are written: offsets into a transcoded body would mislead.
    pub in_place: bool,
}

impl Limits {
    /// The limits of `head`, for a text that stands `in_place` or does not.
    pub fn new(head: &Head<'_>, in_place: bool) -> Self {
        Self { rows_max: head.rows_max, columns_max: head.columns_max, in_place }
    }
}

/// Writes one row for each value: a scalar, a list of whatever depth in its order, or an object by its keys.
///
/// # Errors
/// [`NotInspected::Shape`] where rows differ in kind or width, [`NotInspected::TooWide`] beyond the limits,
/// [`NotInspected::DuplicateKey`] where a row names a column twice.
pub fn write_rows<'d>(
    mut rows: impl Iterator<Item = Value<'d>>,
    limits: Limits,
    out: &mut Features,
) -> Result<(), NotInspected> {
    let kept: Vec<Value<'d>> = rows.by_ref().take(limits.rows_max).collect();
    out.rows_over = rows.count() as u64;
    match kept.first().map(|row| row.kind()) {
        None => Ok(()),
        Some(Kind::Object) => write_named_rows(&kept, limits, out),
        Some(_) => kept.iter().try_for_each(|row| write_listed_row(*row, limits, out)),
    }
}

fn write_listed_row(row: Value<'_>, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    let before = out.cells.len();
    for leaves in row.leaves() {
        let count = leaves.as_ref().map_or(1, Leaves::count);
        if out.cells.len() - before + count > limits.columns_max {
            return Err(NotInspected::TooWide);
        }
        push(leaves?, limits, out)?;
    }
    let width = out.cells.len() - before;
    if before == 0 {
        out.width = width;
    }
    if width == out.width && width > 0 { Ok(()) } else { Err(NotInspected::Shape) }
}

fn push(leaves: Leaves<'_>, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    match leaves {
        Leaves::One(leaf) => {
            let cell = leaf.cell(&mut out.text).ok_or(NotInspected::Shape)?;
            push_cell(cell, leaf.span(), limits, out);
        }
        Leaves::Numbers(numbers) => push_numbers(numbers, limits, out),
    }
    Ok(())
}

/// Appends one cell.
pub fn push_cell(cell: Cell, span: Span, limits: Limits, out: &mut Features) {
    out.cells.push(cell);
    out.spans.extend(limits.in_place.then_some(span));
}

/// Appends numbers.
pub fn push_numbers(numbers: &[Number], limits: Limits, out: &mut Features) {
    out.cells.extend(numbers.iter().map(|number| Cell::Number(number.value)));
    if limits.in_place {
        out.spans.extend(numbers.iter().map(|number| number.span()));
    }
}

/// Makes room for `rows` of `width` missing cells, so that a table can be written column by column.
pub fn make_room(rows: usize, width: usize, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    let cells = rows.checked_mul(width).ok_or(NotInspected::TooWide)?;
    out.width = width;
    out.cells.resize(cells, Cell::Missing);
    if limits.in_place {
        out.spans.resize(cells, Span { start: 0, end: 0 });
    }
    Ok(())
}

/// Where the next value of some neighbouring columns goes, in a table that [`make_room`] made room for.
#[derive(Debug)]
pub struct Place {
    first_column: usize,
    columns: usize,
    rows: usize,
    row: usize,
    column: usize,
}

impl Place {
    /// The first place of `columns` columns from `first_column` on, in a table of `rows` rows.
    pub fn new(first_column: usize, columns: usize, rows: usize) -> Self {
        Self { first_column, columns, rows, row: 0, column: 0 }
    }

    /// Whether every row is written.
    pub fn is_full(&self) -> bool {
        self.row >= self.rows || self.columns == 0
    }

    /// Writes one cell.
    pub fn write(&mut self, cell: Cell, span: Span, out: &mut Features) {
        if !self.is_full() {
            write_cell(self.position(out), cell, span, out);
            self.advance(1);
        }
    }

    /// Writes numbers row by row, until they or the rows come to an end.
    pub fn write_numbers(&mut self, mut numbers: &[Number], out: &mut Features) {
        while !numbers.is_empty() && !self.is_full() {
            let room = numbers.len().min(self.columns - self.column);
            let (row, rest) = numbers.split_at(room);
            let position = self.position(out);
            for (cell, number) in out.cells.iter_mut().skip(position).zip(row) {
                *cell = Cell::Number(number.value);
            }
            for (span, number) in out.spans.iter_mut().skip(position).zip(row) {
                *span = number.span();
            }
            self.advance(room);
            numbers = rest;
        }
    }

    fn position(&self, out: &Features) -> usize {
        self.row * out.width + self.first_column + self.column
    }

    fn advance(&mut self, cells: usize) {
        self.column += cells;
        if self.column >= self.columns {
            (self.row, self.column) = (self.row + 1, 0);
        }
    }
}

fn write_cell(at: usize, cell: Cell, span: Span, out: &mut Features) {
    if let Some(place) = out.cells.get_mut(at) {
        *place = cell;
    }
    if let Some(place) = out.spans.get_mut(at) {
        *place = span;
    }
}

/// A named value, met while its table has no final width yet.
struct Entry {
    row: usize,
    column: usize,
    cell: Cell,
    span: Span,
}

fn write_named_rows(rows: &[Value<'_>], limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
    let mut columns = Columns::new(limits.columns_max);
    let mut entries = Vec::new();
    for (row, object) in rows.iter().enumerate() {
        if object.kind() != Kind::Object {
            return Err(NotInspected::Shape);
        }
        let mut walk = Walk { row, columns: &mut columns, entries: &mut entries, text: &mut out.text };
        walk.members(*object, &mut String::new())?;
    }
    let (height, width) = (rows.len(), columns.names.len());
    if width == 0 {
        return Err(NotInspected::Shape);
    }
    if height.saturating_mul(width) > entries.len().saturating_mul(SPARSENESS_MAX) {
        return Err(NotInspected::TooWide);
    }
    make_room(height, width, limits, out)?;
    entries
        .into_iter()
        .for_each(|entry| write_cell(entry.row * width + entry.column, entry.cell, entry.span, out));
    out.names = columns.names.iter().map(String::as_str).collect();
    Ok(())
}

/// Columns by name, in the order in which the rows first name them.
struct Columns {
    names: Vec<String>,
    by_name: AHashMap<String, usize>,
    /// One more than the last row that filled the column.
    filled: Vec<usize>,
    /// The column after the last one found: rows mostly name their columns in one order.
    expected: usize,
    columns_max: usize,
}

impl Columns {
    fn new(columns_max: usize) -> Self {
        Self { names: Vec::new(), by_name: AHashMap::new(), filled: Vec::new(), expected: 0, columns_max }
    }

    /// The column called `name`, which `row` fills now.
    fn fill(&mut self, name: &str, row: usize) -> Result<usize, NotInspected> {
        let column = self.find(name)?;
        self.expected = column + 1;
        let filled = self.filled.get_mut(column).ok_or(NotInspected::Shape)?;
        if std::mem::replace(filled, row + 1) > row {
            return Err(NotInspected::DuplicateKey);
        }
        Ok(column)
    }

    fn find(&mut self, name: &str) -> Result<usize, NotInspected> {
        let expected = if self.expected < self.names.len() { self.expected } else { 0 };
        if self.names.get(expected).is_some_and(|next| next == name) {
            return Ok(expected);
        }
        match self.by_name.get(name) {
            Some(column) => Ok(*column),
            None => self.add(name),
        }
    }

    fn add(&mut self, name: &str) -> Result<usize, NotInspected> {
        check_name(name)?;
        let column = self.names.len();
        if column == self.columns_max {
            return Err(NotInspected::TooWide);
        }
        self.names.push(name.to_owned());
        self.by_name.insert(name.to_owned(), column);
        self.filled.push(0);
        Ok(column)
    }
}

/// Collects the entries of one row. It descends by recursion, at most as deep as a document may be.
struct Walk<'w> {
    row: usize,
    columns: &'w mut Columns,
    entries: &'w mut Vec<Entry>,
    text: &'w mut String,
}

impl Walk<'_> {
    /// Names what is inside `object` by its keys: `key`, or `outer.key`.
    fn members(&mut self, object: Value<'_>, name: &mut String) -> Result<(), NotInspected> {
        let outer = name.len();
        for (key, value) in object.members() {
            if outer > 0 {
                name.push('.');
            }
            name.push_str(&key.text().ok_or(NotInspected::Shape)?);
            self.value(value, name)?;
            name.truncate(outer);
        }
        Ok(())
    }

    fn value(&mut self, value: Value<'_>, name: &mut String) -> Result<(), NotInspected> {
        check_name(name)?;
        match value.kind() {
            Kind::Object => self.members(value, name),
            Kind::Array => self.elements(value, name),
            _ => self.leaf(value, name),
        }
    }

    /// Names what is inside `array` by its position: `name[0]`.
    fn elements(&mut self, array: Value<'_>, name: &mut String) -> Result<(), NotInspected> {
        let outer = name.len();
        for (index, value) in array.elements().enumerate() {
            write_index(index, name);
            self.value(value, name)?;
            name.truncate(outer);
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: Value<'_>, name: &str) -> Result<(), NotInspected> {
        let column = self.columns.fill(name, self.row)?;
        let cell = leaf.cell(self.text).ok_or(NotInspected::Shape)?;
        self.entries.push(Entry { row: self.row, column, cell, span: leaf.span() });
        Ok(())
    }
}

/// Appends `[index]` to the name of a column.
pub fn write_index(index: usize, name: &mut String) {
    // Writing to a string cannot fail.
    let _ = write!(name, "[{index}]");
}

/// Names the columns of a tensor after it, with their positions where it has several (`name[i]`).
pub fn write_names(name: &str, columns: usize, names: &mut Names) -> Result<(), NotInspected> {
    check_name(name)?;
    match columns {
        1 => names.push(name),
        columns => names.push_numbered(name, columns),
    }
    Ok(())
}

/// Whether no name stands twice.
pub fn are_distinct<N: Ord>(mut names: Vec<N>) -> bool {
    names.sort_unstable();
    names.is_sorted_by(|left, right| left < right)
}

/// Refuses a name beyond [`NAME_BYTES_MAX`].
pub fn check_name(name: &str) -> Result<(), NotInspected> {
    if name.len() > NAME_BYTES_MAX { Err(NotInspected::Shape) } else { Ok(()) }
}

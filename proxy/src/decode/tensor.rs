//! Tensors, whose first dimension is the batch, joined column by column into one table.

use std::borrow::Cow;

use checkgate_detectors::facts::{Cell, Features, NotInspected};
use checkgate_detectors::names::Names;

use super::json::{Kind, Leaves, Value};
use super::table::{self, Limits};

/// One named tensor of a body.
#[derive(Debug)]
pub struct Tensor<'d> {
    /// Its name.
    pub name: Cow<'d, str>,
    /// The first dimension; 1 for a scalar.
    pub rows: usize,
    /// The product of all other dimensions.
    pub columns: usize,
    /// Its values, row-major, nested or flat.
    pub data: Value<'d>,
    /// Whether its type is numeric: a server then reads a number out of a string.
    pub numeric: bool,
}

impl<'d> Tensor<'d> {
    /// A tensor that gives its shape by nesting alone.
    ///
    /// # Errors
    /// [`NotInspected::Shape`] where it is ragged or holds an object.
    pub fn from_nested(name: Cow<'d, str>, data: Value<'d>) -> Result<Self, NotInspected> {
        if !data.is_container() {
            return Ok(Self { name, rows: 1, columns: 1, data, numeric: false });
        }
        if data.kind() == Kind::Object {
            return Err(NotInspected::Shape);
        }
        let mut widths = data.elements().map(leaf_count);
        let columns = widths.next().unwrap_or(Ok(0))?;
        let mut rows = usize::from(data.elements().next().is_some());
        for width in widths {
            if width? != columns {
                return Err(NotInspected::Shape);
            }
            rows += 1;
        }
        Ok(Self { name, rows, columns, data, numeric: false })
    }

    fn cell(&self, leaf: Value<'_>, text: &mut String) -> Result<Cell, NotInspected> {
        match leaf.kind() {
            Kind::Text { .. } if self.numeric => number_in_text(leaf),
            _ => leaf.cell(text).ok_or(NotInspected::Shape),
        }
    }

    fn write_names(&self, names: &mut Names) -> Result<(), NotInspected> {
        table::write_names(&self.name, self.columns, names)
    }

    /// Writes the first `rows` rows of the only tensor of a table, whose values stand in the order of the cells.
    fn write_alone(&self, rows: usize, limits: Limits, out: &mut Features) -> Result<(), NotInspected> {
        let cells = rows.checked_mul(self.columns).ok_or(NotInspected::TooWide)?;
        for leaves in self.data.leaves() {
            let room = cells.saturating_sub(out.cells.len());
            if room == 0 {
                break;
            }
            match leaves? {
                Leaves::Numbers(numbers) => {
                    table::push_numbers(numbers.get(..room).unwrap_or(numbers), limits, out);
                }
                Leaves::One(leaf) => {
                    let cell = self.cell(leaf, &mut out.text)?;
                    table::push_cell(cell, leaf.span(), limits, out);
                }
            }
        }
        Ok(())
    }

    fn write(&self, first_column: usize, rows: usize, out: &mut Features) -> Result<(), NotInspected> {
        let mut place = table::Place::new(first_column, self.columns, rows);
        for leaves in self.data.leaves() {
            if place.is_full() {
                break;
            }
            match leaves? {
                Leaves::Numbers(numbers) => place.write_numbers(numbers, out),
                Leaves::One(leaf) => {
                    let cell = self.cell(leaf, &mut out.text)?;
                    place.write(cell, leaf.span(), out);
                }
            }
        }
        Ok(())
    }
}

/// How many scalars stand in `value`.
///
/// # Errors
/// [`NotInspected::Shape`] where an object stands in it.
pub fn leaf_count(value: Value<'_>) -> Result<usize, NotInspected> {
    value.leaves().try_fold(0, |count, leaves| leaves.map(|leaves| count + leaves.count()))
}

/// Numpy reads numbers out of strings when it is asked for a numeric type.
fn number_in_text(leaf: Value<'_>) -> Result<Cell, NotInspected> {
    let text = leaf.text().unwrap_or_default();
    text.trim().parse().map(Cell::Number).map_err(|_| NotInspected::Shape)
}

/// Writes tensors side by side: row `i` is row `i` of each, and a column is called after its tensor, with its
/// position where the tensor has several (`name[i]`).
///
/// # Errors
/// [`NotInspected::DuplicateKey`] where two share a name, [`NotInspected::Shape`] where they differ in rows or
/// have rows without columns, [`NotInspected::TooWide`] beyond the limits.
pub fn join<'d>(
    tensors: impl Iterator<Item = Result<Tensor<'d>, NotInspected>>,
    limits: Limits,
    out: &mut Features,
) -> Result<(), NotInspected> {
    let tensors = bounded(tensors, limits)?;
    if tensors.len() > 1 && !table::are_distinct(tensors.iter().map(|tensor| &*tensor.name).collect()) {
        return Err(NotInspected::DuplicateKey);
    }
    let rows = tensors.first().ok_or(NotInspected::Shape)?.rows;
    if tensors.iter().any(|tensor| tensor.rows != rows) {
        return Err(NotInspected::Shape);
    }
    let width = tensors.iter().fold(0, |width: usize, tensor| width.saturating_add(tensor.columns));
    if width > limits.columns_max {
        return Err(NotInspected::TooWide);
    }
    if width == 0 && rows > 0 {
        return Err(NotInspected::Shape);
    }
    write_columns(&tensors, rows.min(limits.rows_max), width, limits, out)?;
    out.rows_over = rows.saturating_sub(limits.rows_max) as u64;
    Ok(())
}

/// Collects the tensors; more than there may be columns are refused, even where some have no column.
fn bounded<'d>(
    tensors: impl Iterator<Item = Result<Tensor<'d>, NotInspected>>,
    limits: Limits,
) -> Result<Vec<Tensor<'d>>, NotInspected> {
    let tensors: Vec<Tensor<'d>> =
        tensors.take(limits.columns_max.saturating_add(1)).collect::<Result<_, _>>()?;
    if tensors.len() > limits.columns_max { Err(NotInspected::TooWide) } else { Ok(tensors) }
}

fn write_columns(
    tensors: &[Tensor<'_>],
    rows: usize,
    width: usize,
    limits: Limits,
    out: &mut Features,
) -> Result<(), NotInspected> {
    if let [tensor] = tensors {
        out.width = width;
        tensor.write_names(&mut out.names)?;
        return tensor.write_alone(rows, limits, out);
    }
    table::make_room(rows, width, limits, out)?;
    let mut first_column = 0;
    for tensor in tensors {
        tensor.write_names(&mut out.names)?;
        tensor.write(first_column, rows, out)?;
        first_column += tensor.columns;
    }
    Ok(())
}

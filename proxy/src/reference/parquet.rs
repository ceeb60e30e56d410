//! Apache Parquet, flat columns of it, uncompressed or packed by Snappy or LZ4. What other codecs need would bring a C
//! library into the build, so they are refused with the mend.

use std::fs::File;
use std::path::Path;

use parquet::basic::{Compression, ConvertedType, LogicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::rows::{Given, Place, RowError, Rows};
use super::source::{Source, SourceError};

/// Values that are decoded at once.
const BATCH: usize = 8192;
/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// Gathers the rows of a file.
///
/// # Errors
/// Names the column and says the mend.
pub fn read(source: &Source, path: &Path, rows: &mut Rows) -> Result<(), SourceError> {
    let damaged = |error: ParquetError| source.whole(format!("it cannot be read as Parquet: {error}"));
    let file = File::open(path).map_err(|error| source.failed(error))?;
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let mut columns = Vec::new();
    for descriptor in schema.columns() {
        let name = descriptor.path().string();
        let place = rows.place(&name, usize::MAX).map_err(|error| source.whole(error.to_string()))?;
        if place != Place::Nowhere && (descriptor.max_rep_level() > 0 || descriptor.path().parts().len() > 1)
        {
            let message =
                format!("column {name:?} is nested; flatten it, or leave it out with --leave-out {name}");
            return Err(source.whole(message));
        }
        columns.push((name, place, Cells::of(descriptor)));
    }
    if let Some(time) =
        rows.time_column().filter(|_| !columns.iter().any(|(_, place, _)| *place == Place::Time))
    {
        return Err(source.whole(format!("there is no column {time:?}, which --time names")));
    }
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(damaged)?;
        for (number, (name, place, cells)) in
            columns.iter().enumerate().filter(|(_, (_, place, _))| *place != Place::Nowhere)
        {
            let codec = group.metadata().column(number).compression();
            check_codec(source, name, codec)?;
            let column = group.get_column_reader(number).map_err(damaged)?;
            let mut sink = Sink { source, name, place: *place, rows: &mut *rows, cells: *cells, ahead: 0 };
            sink.column(column).map_err(|error| sink.told(error))?;
        }
        let count = group.metadata().num_rows();
        rows.end(usize::try_from(count).unwrap_or_default());
    }
    Ok(())
}

fn check_codec(source: &Source, name: &str, codec: Compression) -> Result<(), SourceError> {
    match codec {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::LZ4 | Compression::LZ4_RAW => Ok(()),
        other => {
            let codec = format!("{other:?}");
            let codec = codec.split('(').next().unwrap_or(&codec);
            Err(source.whole(format!(
                "column {name:?} is packed by {codec}, which this program does not unpack; write the file with \
                 compression=\"snappy\" (pandas, pyarrow, polars) or as CSV"
            )))
        }
    }
}

/// What the values of a column mean.
#[derive(Clone, Copy)]
struct Cells {
    /// What numbers are multiplied by.
    scale: f64,
    /// Whether bytes are a number.
    decimal: bool,
    /// Whether some may be missing.
    optional: bool,
}

impl Cells {
    fn of(descriptor: &ColumnDescriptor) -> Self {
        let logical = descriptor.logical_type_ref();
        let decimal = matches!(logical, Some(LogicalType::Decimal(_)))
            || descriptor.converted_type() == ConvertedType::DECIMAL;
        let is_date =
            matches!(logical, Some(LogicalType::Date)) || descriptor.converted_type() == ConvertedType::DATE;
        let scale = match (decimal, is_date) {
            (true, _) => 10_f64.powi(-descriptor.type_scale()),
            (_, true) => DAY,
            _ => 1.0,
        };
        Self { scale, decimal, optional: descriptor.max_def_level() > 0 }
    }
}

/// Why a column ends.
enum Ends {
    Parquet(ParquetError),
    Row(u64, RowError),
}

struct Sink<'a> {
    source: &'a Source,
    name: &'a str,
    place: Place,
    rows: &'a mut Rows,
    cells: Cells,
    /// Rows of this group so far.
    ahead: usize,
}

impl Sink<'_> {
    fn column(&mut self, column: ColumnReader) -> Result<(), Ends> {
        match column {
            ColumnReader::BoolColumnReader(column) => {
                self.values(column, |truth| Some(f64::from(u8::from(*truth))))
            }
            ColumnReader::Int32ColumnReader(column) => self.values(column, |number| Some(f64::from(*number))),
            ColumnReader::Int64ColumnReader(column) => self.values(column, |number| Some(*number as f64)),
            ColumnReader::Int96ColumnReader(column) => {
                self.values(column, |time| Some(time.to_seconds() as f64))
            }
            ColumnReader::FloatColumnReader(column) => self.values(column, |number| Some(f64::from(*number))),
            ColumnReader::DoubleColumnReader(column) => self.values(column, |number| Some(*number)),
            ColumnReader::ByteArrayColumnReader(column) => self.values(column, |_| None),
            ColumnReader::FixedLenByteArrayColumnReader(column) => self.values(column, |_| None),
        }
    }

    /// Takes the values of a column; `number` gives nothing where they are bytes.
    fn values<T: DataType>(
        &mut self,
        mut column: ColumnReaderImpl<T>,
        number: impl Fn(&T::T) -> Option<f64>,
    ) -> Result<(), Ends> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        loop {
            levels.clear();
            values.clear();
            let (records, _, _) =
                column.read_records(BATCH, Some(&mut levels), None, &mut values).map_err(Ends::Parquet)?;
            if records == 0 {
                return Ok(());
            }
            let mut there = values.iter();
            for record in 0..records {
                let is_there = !self.cells.optional || levels.get(record).is_some_and(|level| *level > 0);
                let value = if is_there { there.next() } else { None };
                self.take(value, &number)?;
            }
        }
    }

    fn take<T: AsBytes>(
        &mut self,
        value: Option<&T>,
        number: &impl Fn(&T) -> Option<f64>,
    ) -> Result<(), Ends> {
        let Cells { scale, decimal, .. } = self.cells;
        let text;
        let given = match value.map(|value| (number(value), value)) {
            None => Given::Missing,
            Some((Some(number), _)) if number.is_nan() => Given::Missing,
            Some((Some(number), _)) => Given::Number(number * scale),
            Some((None, bytes)) if decimal => Given::Number(big_endian(bytes.as_bytes()) * scale),
            Some((None, bytes)) => {
                text = String::from_utf8_lossy(bytes.as_bytes());
                Given::Text(&text)
            }
        };
        let row = (self.rows.count() + self.ahead) as u64 + 1;
        let taken = match self.place {
            Place::Column(column) => {
                let at = || format!("at {}, row {row}", self.source.name);
                self.rows.take_ahead(column, self.ahead, given, at)
            }
            Place::Time => self.rows.time(given),
            Place::Nowhere => Ok(()),
        };
        self.ahead += 1;
        taken.map_err(|error| Ends::Row(row, error))
    }

    fn told(&self, ends: Ends) -> SourceError {
        match ends {
            Ends::Parquet(error) => {
                self.source.whole(format!("column {:?} cannot be read: {error}", self.name))
            }
            Ends::Row(row, error) => self.source.at(row, format!("column {:?}: {error}", self.name)),
        }
    }
}

/// A signed number of any length, the high byte first.
fn big_endian(bytes: &[u8]) -> f64 {
    let start = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1.0 } else { 0.0 };
    bytes.iter().fold(start, |sum, byte| sum * 256.0 + f64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use checkgate_detectors::drift::bins::Value;
    use checkgate_detectors::facts::Time;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::reference::rows::Choice;
    use crate::reference::source::Asked;
    use crate::rehearse::Progress;

    /// A file of five rows: numbers of which one is missing, labels, times.
    fn written(path: &Path) {
        let schema =
            "message rows { optional double age; required binary region (UTF8); required int64 at; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let ages = column.typed::<DoubleType>();
        ages.write_batch(&[1.5, 2.5, 3.5, 4.5], Some(&[1, 1, 0, 1, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let regions: Vec<ByteArray> = ["a", "b", "a", "c", "a"].map(ByteArray::from).into();
        column.typed::<ByteArrayType>().write_batch(&regions, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let times = [1, 2, 3, 4, 5].map(|second: i64| 1_700_000_000_000_000_000 + second * 1_000_000_000);
        column.typed::<Int64Type>().write_batch(&times, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    struct Quiet;

    impl Progress for Quiet {
        fn begin(&self, _: &str, _: u64) {}
        fn at(&self, _: u64) {}
        fn step(&self) {}
    }

    #[test]
    fn rows_of_a_file_are_read_with_gaps_labels_and_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        written(&path);
        let choice = Choice { time: Some("at".into()), ..Choice::default() };
        let mut rows = Rows::new(choice, [1, 2]);
        let source = Source::look_at(&path, &Quiet).unwrap();
        let read = source.read(&mut rows, Asked::default(), &Quiet).unwrap();
        assert_eq!((&*read.form, read.rows), ("parquet", 5));
        let table = rows.finish().table;
        let number = Value::Number;
        assert_eq!(
            table.columns[0].values,
            [number(1.5), number(2.5), Value::Missing, number(3.5), number(4.5)]
        );
        assert_eq!(table.columns[1].values[3], Value::label([1, 2], "c"));
        assert_eq!(
            table.times.first(),
            Some(&Time(1_700_000_001_000_000)),
            "nanoseconds are told from their size"
        );
        let mut rows = Rows::new(Choice { time: Some("when".into()), ..Choice::default() }, [1, 2]);
        let refused = source.read(&mut rows, Asked::default(), &Quiet).unwrap_err().to_string();
        assert!(refused.contains("no column \"when\""), "{refused}");
        let codec = Compression::ZSTD(Default::default());
        let refused = check_codec(&source, "age", codec).unwrap_err().to_string();
        assert!(refused.contains("packed by ZSTD") && refused.contains("snappy"), "{refused}");
    }

    #[test]
    fn a_file_that_is_cut_is_told_to_be_no_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        written(&path);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let source = Source::look_at(&path, &Quiet).unwrap();
        let refused = source.read(&mut Rows::new(Choice::default(), [1, 2]), Asked::default(), &Quiet);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("cannot be read as Parquet"), "{refused}");
    }

    #[test]
    fn decimals_of_bytes_are_signed() {
        for (bytes, expected) in
            [(&[0_u8, 100][..], 100.0), (&[0xff, 0x9c], -100.0), (&[], 0.0), (&[0x80], -128.0)]
        {
            assert_eq!(big_endian(bytes), expected, "{bytes:?}");
        }
    }
}

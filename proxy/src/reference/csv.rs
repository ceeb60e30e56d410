//! Tables with delimiters (RFC 4180), with the names of the columns in the first line.

use std::io::BufRead;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use super::rows::{Given, Place, Rows};
use super::source::{Source, SourceError};

/// What stands for a missing value besides nothing at all.
const MISSING: [&str; 9] = ["NA", "N/A", "NaN", "nan", "NAN", "null", "NULL", "None", "\\N"];

/// Gathers the rows of a table.
///
/// # Errors
/// Names the line and the column, and says the mend.
pub fn read(source: &Source, input: impl BufRead, delimiter: u8, rows: &mut Rows) -> Result<(), SourceError> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(input);
    let names = reader.byte_headers().map_err(|error| told(source, &error))?.clone();
    let names = self::names(source, &names)?;
    let mut places = Vec::new();
    for name in &names {
        places.push(rows.place(name, usize::MAX).map_err(|error| source.row(1, &error))?);
    }
    if let Some(time) = rows.time_column().filter(|_| !places.contains(&Place::Time)) {
        return Err(source.at(1, format!("there is no column {time:?}, which --time names")));
    }
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| told(source, &error))? {
        let line = record.position().map_or(0, csv::Position::line);
        for (place, (field, name)) in places.iter().zip(record.iter().zip(&names)) {
            let given = given(field).ok_or_else(|| {
                source.at(
                    line,
                    format!("column {name:?} holds bytes that are no UTF-8; save the file as UTF-8"),
                )
            })?;
            let taken = match place {
                Place::Column(column) => rows.take(*column, given, || format!("at {}:{line}", source.name)),
                Place::Time => rows.time(given),
                Place::Nowhere => Ok(()),
            };
            taken.map_err(|error| source.at(line, format!("column {name:?}: {error}")))?;
        }
        rows.end(1);
    }
    Ok(())
}

fn names(source: &Source, record: &ByteRecord) -> Result<Vec<String>, SourceError> {
    let mut names: Vec<String> = Vec::new();
    for (place, field) in record.iter().enumerate() {
        let name = std::str::from_utf8(field)
            .map_err(|_| source.at(1, "a name is no UTF-8; save the file as UTF-8"))?;
        let name =
            if name.trim().is_empty() { format!("column {}", place + 1) } else { name.trim().to_owned() };
        if names.contains(&name) {
            return Err(source.at(1, format!("two columns are called {name:?}; give each a name of its own")));
        }
        names.push(name);
    }
    let numbers = names.iter().filter(|name| name.parse::<f64>().is_ok()).count();
    if numbers > 0 && numbers == names.len() {
        return Err(source.at(1, "the first line holds numbers where names belong; give each column a name"));
    }
    Ok(names)
}

/// The value of a field; nothing where it is no text.
fn given(field: &[u8]) -> Option<Given<'_>> {
    let field = field.trim_ascii();
    let text = std::str::from_utf8(field).ok()?;
    Some(match field {
        [] => Given::Missing,
        [b'0'..=b'9' | b'-' | b'+' | b'.' | b'i' | b'I', ..] => {
            text.parse().map_or(Given::Text(text), number)
        }
        [b'N' | b'n' | b'\\', ..] if MISSING.contains(&text) => Given::Missing,
        [b't' | b'T', ..] if text.eq_ignore_ascii_case("true") => Given::Number(1.0),
        [b'f' | b'F', ..] if text.eq_ignore_ascii_case("false") => Given::Number(0.0),
        _ => Given::Text(text),
    })
}

fn number<'a>(number: f64) -> Given<'a> {
    Given::Number(number)
}

fn told(source: &Source, error: &csv::Error) -> SourceError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => source.at(
            line,
            format!(
                "{len} values where the first line names {expected_len} columns; a value that holds the delimiter \
                 stands in quotes"
            ),
        ),
        ErrorKind::Io(error) => source.whole(error.to_string()),
        _ => source.at(line, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_a_number_a_text_or_missing() {
        for (field, expected) in [
            ("", Given::Missing),
            (" NA ", Given::Missing),
            ("\\N", Given::Missing),
            ("-1.5e3", Given::Number(-1500.0)),
            ("inf", Given::Number(f64::INFINITY)),
            ("True", Given::Number(1.0)),
            ("false", Given::Number(0.0)),
            ("Norway", Given::Text("Norway")),
            ("1,5", Given::Text("1,5")),
            ("Infinite", Given::Text("Infinite")),
        ] {
            assert_eq!(given(field.as_bytes()), Some(expected), "{field:?}");
        }
        assert_eq!(given(b"\xff\xfe"), None);
    }
}

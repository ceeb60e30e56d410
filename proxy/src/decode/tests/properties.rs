//! Properties over random rows, random bytes and mutated captures.

use proptest::prelude::*;

use super::*;

/// Random rows of numbers, as wide and as many as the test's limits allow.
fn rows() -> impl Strategy<Value = Vec<Vec<f64>>> {
    (1..=COLUMNS_MAX, 1..=ROWS_MAX).prop_flat_map(|(width, height)| {
        prop::collection::vec(prop::collection::vec(number(), width), height)
    })
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), -1e3..1e3, (-1000..1000).prop_map(f64::from)]
}

/// Whitespace that JSON allows.
fn gap() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

/// A number as Python writes it.
fn written(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        _ if number.is_infinite() => if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        _ => serde_json::to_string(&number).expect("a finite number can be written"),
    }
}

fn list(items: impl Iterator<Item = String>, gap: &str) -> String {
    format!("[{gap}{}{gap}]", items.collect::<Vec<_>>().join(&format!("{gap},{gap}")))
}

fn nested(rows: &[Vec<f64>], gap: &str) -> String {
    list(rows.iter().map(|row| list(row.iter().map(|number| written(*number)), gap)), gap)
}

fn flat(rows: &[Vec<f64>], gap: &str) -> String {
    list(rows.iter().flatten().map(|number| written(*number)), gap)
}

fn tensor(rows: &[Vec<f64>], data: &str, gap: &str) -> String {
    let (height, width) = (rows.len(), rows[0].len());
    format!(
        r#"{{{gap}"inputs":{gap}[{{"name":"x","datatype":"FP64","shape":[{height},{width}],"data":{gap}{data}}}]}}"#
    )
}

/// A number in digits: as short as most, or as long as there are.
fn digits() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => r"-?(0|[1-9][0-9]{0,4})\.[0-9]{1,6}",
        2 => r"-?(0|[1-9][0-9]{0,8})",
        2 => r"-?(0|[1-9][0-9]{0,3})\.[0-9]{7,20}",
        1 => r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
    ]
}

/// The rows as one tensor for each column, the batch in the first dimension.
fn tensors_of_columns(rows: &[Vec<f64>]) -> String {
    let tensor = |column: usize| {
        let data = list(rows.iter().map(|row| written(row[column])), "");
        format!(r#"{{"name":"c{column}","datatype":"FP64","shape":[{}],"data":{data}}}"#, rows.len())
    };
    format!(r#"{{"inputs":{}}}"#, list((0..rows[0].len()).map(tensor), ""))
}

/// The rows as objects with a key for each column; odd rows name theirs in reverse.
fn records(rows: &[Vec<f64>]) -> String {
    let record = |(index, row): (usize, &Vec<f64>)| {
        let mut members: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, number)| format!(r#""c{column}":{}"#, written(*number)))
            .collect();
        if index % 2 == 1 {
            members.reverse();
        }
        format!("{{{}}}", members.join(","))
    };
    format!(r#"{{"dataframe_records":{}}}"#, list(rows.iter().enumerate().map(record), ""))
}

fn assert_rows(spec: &DecoderSpec, body: &str, rows: &[Vec<f64>]) {
    let features = decoded(built(spec).as_ref(), &HeaderMap::new(), Part::Question, body.as_bytes())
        .unwrap_or_else(|reason| panic!("{body} is not read: {reason:?}"));
    assert_consistent(&features, body.as_bytes(), body);
    assert_eq!((features.rows(), features.width), (rows.len(), rows[0].len()), "{body}");
    for (cell, number) in features.cells.iter().zip(rows.iter().flatten()) {
        let Cell::Number(read) = cell else { panic!("{cell:?} is no number in {body}") };
        assert!(read == number || (read.is_nan() && number.is_nan()), "{read} for {number}");
    }
}

proptest! {
    #[test]
    fn rows_are_read_however_they_are_written(rows in rows(), gap in gap()) {
        let (nested, flat) = (nested(&rows, &gap), flat(&rows, &gap));
        assert_rows(&oip_v2::SPEC, &tensor(&rows, &nested, &gap), &rows);
        assert_rows(&oip_v2::SPEC, &tensor(&rows, &flat, &gap), &rows);
        assert_rows(&mlflow::SPEC, &format!(r#"{{"inputs":{nested}}}"#), &rows);
        assert_rows(&mlflow::SPEC, &format!(r#"{{"dataframe_split":{{"data":{nested}}}}}"#), &rows);
        assert_rows(&generic::SPEC, &format!(r#"{gap}{{"features":{nested}}}{gap}"#), &rows);
    }

    #[test]
    fn every_number_of_a_list_is_the_nearest(
        numbers in prop::collection::vec((digits(), gap(), gap()), 1..=COLUMNS_MAX),
    ) {
        let items: Vec<String> =
            numbers.iter().map(|(number, before, after)| format!("{before}{number}{after}")).collect();
        let body = format!(r#"{{"inputs":[[{}]]}}"#, items.join(","));
        let features = decoded(built(&mlflow::SPEC).as_ref(), &HeaderMap::new(), Part::Question, body.as_bytes())
            .expect("a list of numbers is read");
        prop_assert_eq!(features.cells.len(), numbers.len(), "{}", &body);
        for ((cell, span), (number, ..)) in features.cells.iter().zip(&features.spans).zip(&numbers) {
            let nearest = if number == "-0" { 0.0 } else { number.parse::<f64>().expect("a number") };
            let Cell::Number(read) = cell else { panic!("{cell:?} is no number in {body}") };
            prop_assert_eq!(read.to_bits(), nearest.to_bits(), "{} in {}", number, &body);
            prop_assert_eq!(&body[span.start..span.end], number, "its place in {}", &body);
        }
    }

    #[test]
    fn columns_are_joined_to_rows(rows in rows()) {
        assert_rows(&oip_v2::SPEC, &tensors_of_columns(&rows), &rows);
        assert_rows(&mlflow::SPEC, &records(&rows), &rows);
    }

    #[test]
    fn a_number_can_be_replaced_in_place(rows in rows(), gap in gap(), chosen in any::<prop::sample::Index>()) {
        let mut body = tensor(&rows, &nested(&rows, &gap), &gap);
        let decoder = built(&oip_v2::SPEC);
        let before = decoded(decoder.as_ref(), &HeaderMap::new(), Part::Question, body.as_bytes()).expect("read");
        let at = chosen.index(before.spans.len());
        body.replace_range(before.spans[at].start..before.spans[at].end, "77.5");
        let after = decoded(decoder.as_ref(), &HeaderMap::new(), Part::Question, body.as_bytes()).expect("read");
        let mut expected = before.cells;
        expected[at] = Cell::Number(77.5);
        prop_assert_eq!(format!("{:?}", after.cells), format!("{:?}", expected), "nothing else changed");
    }

    #[test]
    fn wide_encodings_give_the_same_rows(rows in rows(), gap in gap()) {
        let body = tensor(&rows, &nested(&rows, &gap), &gap);
        let narrow = decoded(built(&oip_v2::SPEC).as_ref(), &HeaderMap::new(), Part::Question, body.as_bytes());
        for wide in wide_encodings(&body) {
            let read = decoded(built(&oip_v2::SPEC).as_ref(), &HeaderMap::new(), Part::Question, &wide);
            let (narrow, read) = (narrow.clone().expect("read"), read.expect("read"));
            prop_assert!(read.spans.is_empty(), "a transcoded body has no spans");
            prop_assert_eq!(format!("{:?}", read.cells), format!("{:?}", narrow.cells));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_survived(&body);
    }

    #[test]
    fn arbitrary_words_of_json_never_panic(words in prop::collection::vec(word(), 0..60)) {
        assert_survived(words.concat().as_bytes());
    }

    #[test]
    fn mutated_captures_never_panic(seed in any::<prop::sample::Index>(), edits in edits()) {
        let captures = captures();
        let mut body = seed.get(&captures).clone();
        for (at, byte, kind) in edits {
            mutate(&mut body, at, byte, kind);
        }
        assert_survived(&body);
    }
}

fn wide_encodings(body: &str) -> [Vec<u8>; 4] {
    let units = || body.encode_utf16();
    let scalars = || body.chars().map(u32::from);
    [
        units().flat_map(u16::to_le_bytes).collect(),
        units().flat_map(u16::to_be_bytes).collect(),
        scalars().flat_map(u32::to_le_bytes).collect(),
        scalars().flat_map(u32::to_be_bytes).collect(),
    ]
}

/// Words that bring random bodies past the first byte of a parser.
fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "1",
        "-",
        "e",
        ".",
        "\"",
        "\\u",
        "\\ud800",
        "d800",
        "null",
        "true",
        "NaN",
        "Infinity",
        "\"inputs\":",
        "\"outputs\":",
        "\"name\":",
        "\"shape\":",
        "\"data\":",
        "\"datatype\":",
        "\"FP32\"",
        "\"dataframe_split\":",
        "\"columns\":",
        "\"predictions\":",
        "\"features\":",
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[",
    ])
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..6)
}

fn mutate(body: &mut Vec<u8>, at: prop::sample::Index, byte: u8, kind: u8) {
    let at = at.index(body.len() + 1);
    match kind {
        0 => body.insert(at, byte),
        1 if at < body.len() => body[at] = byte,
        _ => body.truncate(at),
    }
}

/// The captured bodies of all decoders, without those that are only long.
fn captures() -> Vec<Vec<u8>> {
    let folders = DECODERS.iter().map(|spec| fixtures().join(spec.name));
    let bodies = folders.flat_map(|folder| PARTS.map(|(_, part)| bodies(&folder, part)));
    bodies.flatten().map(|(_, body)| body).filter(|body| body.len() < 1000).collect()
}

fn assert_survived(body: &[u8]) {
    for spec in DECODERS {
        for (part, _) in PARTS {
            if let Ok(features) = decoded(built(spec).as_ref(), &HeaderMap::new(), part, body) {
                assert_consistent(&features, body, spec.name);
            }
        }
    }
}

//! What must stay of an answer that is made coarse.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decode;

fn coarsen(protocol: &str, parameters: &Value, digits: u8, body: &[u8]) -> Coarsened {
    let decoder = (decode::spec(protocol).unwrap().build)(parameters).unwrap();
    let (coarse, mut features) = (Coarse { decoder: &*decoder, columns_max: 4096 }, Features::default());
    match coarse.read(&HeaderMap::new(), body, &mut features) {
        Ok(()) => coarse.coarsen(&features, body, digits),
        Err(reason) => Coarsened::Unreadable(reason),
    }
}

fn changed(protocol: &str, parameters: &Value, body: &str) -> String {
    match coarsen(protocol, parameters, 2, body.as_bytes()) {
        Coarsened::Changed(body) => String::from_utf8(body).unwrap(),
        other => panic!("{body} gave {other:?}"),
    }
}

fn tensor(shape: &[usize], data: &str) -> String {
    format!(
        r#"{{"model_name":"m", "outputs":[{{"name":"p","shape":{shape:?},"datatype":"FP64","data":[{data}]}}], "id" : "7.25"}}"#
    )
}

fn oip(shape: &[usize], data: &str) -> String {
    changed("oip_v2", &json!({}), &tensor(shape, data))
}

#[test]
fn numbers_are_rounded_in_place_and_not_one_byte_besides_changes() {
    let coarse = oip(&[4, 1], "1234.567, -0.0018374,\n 99.96 ,1.5e-7");
    assert_eq!(coarse, tensor(&[4, 1], "1200.0, -0.0018,\n 100.0 ,1.5e-7"));
}

#[test]
fn whole_numbers_and_what_is_no_number_stay() {
    let mixed = r#"{"outputs":[
        {"name":"label","shape":[2],"datatype":"INT64","data":[123456, 7]},
        {"name":"price","shape":[2],"datatype":"FP32","data":[123.456, 7.0]},
        {"name":"word","shape":[2],"datatype":"BYTES","data":["1.2345", "b"]}]}"#;
    assert_eq!(changed("oip_v2", &json!({}), mixed), mixed.replace("123.456", "120.0"));
}

#[test]
fn of_scores_that_add_up_to_one_the_best_class_alone_is_told() {
    assert_eq!(oip(&[1, 3], "0.0712, 0.8669, 0.0619"), tensor(&[1, 3], "0.065, 0.87, 0.065"));
    assert_eq!(
        oip(&[2, 2], "0.123456, 0.876544, 0.9999, 0.0001"),
        tensor(&[2, 2], "0.12, 0.88, 1.0, 0.0"),
        "row by row"
    );
    let list = r#"{"predictions": [[0.0712, 0.8669, 0.0619], [0.5, 0.25, 0.25]]}"#;
    let coarse = r#"{"predictions": [[0.065, 0.87, 0.065], [0.5, 0.25, 0.25]]}"#;
    assert_eq!(changed("mlflow", &json!({}), list), coarse);
}

#[test]
fn the_best_of_nearly_even_scores_stays_the_best() {
    assert_eq!(oip(&[1, 3], "0.3333, 0.3334, 0.3333"), tensor(&[1, 3], "0.33, 0.34, 0.33"));
}

#[test]
fn named_scores_of_a_row_count_together_and_a_label_beside_them_stays() {
    let named = r#"{"predictions": [{"no": 0.0712, "yes": 0.9288, "label": 1.0, "id": 77}]}"#;
    let coarse = r#"{"predictions": [{"no": 0.07, "yes": 0.93, "label": 1.0, "id": 77}]}"#;
    assert_eq!(changed("mlflow", &json!({}), named), coarse);
    let three = r#"{"predictions": [{"a": 0.1712, "b": 0.7288, "c": 0.1000, "label": 0.0}]}"#;
    let coarse = r#"{"predictions": [{"a": 0.135, "b": 0.73, "c": 0.135, "label": 0.0}]}"#;
    assert_eq!(changed("mlflow", &json!({}), three), coarse);
}

#[test]
fn every_protocol_is_coarsened() {
    let generic = json!({"features": "/x", "predictions": "/y"});
    let body = r#"{"y": [[19.987], [3.14159]], "took": 0.123456}"#;
    let coarse = r#"{"y": [[20.0], [3.1]], "took": 0.123456}"#;
    assert_eq!(changed("generic", &generic, body), coarse);
    let single = r#"{"predictions": [19.987, 3.14159]}"#;
    assert_eq!(changed("mlflow", &json!({}), single), r#"{"predictions": [20.0, 3.1]}"#);
}

#[test]
fn what_holds_nothing_to_round_or_cannot_be_changed_says_so() {
    let of = |body: &[u8]| coarsen("oip_v2", &json!({}), 2, body);
    assert_eq!(of(tensor(&[3], "1, 0.5, 2e3").as_bytes()), Coarsened::Unchanged);
    assert_eq!(of(tensor(&[2], "NaN, -Infinity").as_bytes()), Coarsened::Unchanged);
    assert_eq!(of(b"{"), Coarsened::Unreadable(NotInspected::Unparsable));
    let wide: Vec<u8> = tensor(&[1], "1.2345").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(of(&wide), Coarsened::Unreadable(NotInspected::Encoding));
}

/// Every number below `value`, in order.
fn numbers(value: &Value, found: &mut Vec<f64>) {
    match value {
        Value::Number(number) => found.extend(number.as_f64()),
        Value::Array(items) => items.iter().for_each(|item| numbers(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| numbers(field, found)),
        _ => {}
    }
}

fn data_of(body: &str) -> Vec<f64> {
    let body: Value = serde_json::from_str(body).unwrap();
    let mut found = Vec::new();
    numbers(&body["outputs"][0]["data"], &mut found);
    found
}

fn best(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, place| if row[place] > row[best] { place } else { best })
}

proptest! {
    /// Whatever a classifier says: the shape, the sum, the best class and the float type of its scores stay, and to make
    /// coarse what is coarse changes nothing more.
    #[test]
    fn scores_stay_a_distribution_with_the_same_best_class(
        rows in prop::collection::vec(prop::collection::vec(1e-6_f64..1.0, 5), 1..8),
        digits in 1..6_u8,
    ) {
        let shares: Vec<Vec<f64>> = rows.iter().map(|row| {
            let sum: f64 = row.iter().sum();
            row.iter().map(|value| value / sum).collect()
        }).collect();
        let data: Vec<String> = shares.iter().flatten().map(|share| format!("{share:?}")).collect();
        let body = tensor(&[shares.len(), 5], &data.join(","));
        let coarse = match coarsen("oip_v2", &json!({}), digits, body.as_bytes()) {
            Coarsened::Changed(coarse) => String::from_utf8(coarse).unwrap(),
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        let after = data_of(&coarse);
        prop_assert_eq!(after.len(), data.len());
        for (before, after) in shares.iter().zip(after.chunks(5)) {
            prop_assert!((after.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", after);
            prop_assert!(after.iter().all(|share| (0.0..=1.0).contains(share)), "{:?}", after);
            prop_assert!(after[best(before)] >= after[best(after)], "{:?} gave {:?}", before, after);
            let mut others: Vec<f64> = after.to_vec();
            others.remove(best(before));
            prop_assert!(others.iter().all(|share| *share == others[0]), "{:?} tells more than one class", after);
        }
        prop_assert!(coarse.split(['[', ']']).nth(4).unwrap().split(',').all(|text| text.contains(['.', 'e'])));
    }

    /// Whatever a regression says: so many digits, near the truth.
    #[test]
    fn rounding_keeps_so_many_digits_and_moves_no_number_far(values in prop::collection::vec(-1e9_f64..1e9, 1..20), digits in 1..8_u8) {
        let data: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let body = tensor(&[values.len(), 1], &data.join(","));
        let coarse = match coarsen("oip_v2", &json!({}), digits, body.as_bytes()) {
            Coarsened::Changed(coarse) => String::from_utf8(coarse).unwrap(),
            _ => body,
        };
        for (before, after) in values.iter().zip(data_of(&coarse)) {
            let allowed = before.abs() * 0.5 * 10_f64.powi(1 - i32::from(digits)) * (1.0 + 1e-9);
            prop_assert!((before - after).abs() <= allowed, "{} became {}", before, after);
            let written = format!("{after:e}");
            let kept = written.split('e').next().unwrap().chars().filter(char::is_ascii_digit).count();
            prop_assert!(kept <= usize::from(digits), "{} keeps {} digits", after, kept);
        }
    }

    /// Arbitrary bytes never end in a panic.
    #[test]
    fn arbitrary_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = coarsen("oip_v2", &json!({}), 2, &body);
        let _ = coarsen("mlflow", &json!({}), 2, &body);
    }
}

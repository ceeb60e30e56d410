use http::HeaderValue;
use http::header::CONTENT_TYPE;
use proptest::prelude::*;

use super::*;
use crate::decode::spec;

fn decoder(parameters: &Value) -> Box<dyn Decoder> {
    (spec("oip_grpc").expect("it is in the list").build)(parameters).expect("parameters hold")
}

fn in_frame(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0], &length[..], &message].concat()
}

fn tensor(name: &str, datatype: &str, shape: &[i64], contents: Option<Contents>) -> WireTensor {
    WireTensor {
        name: Bytes::copy_from_slice(name.as_bytes()),
        datatype: Bytes::copy_from_slice(datatype.as_bytes()),
        shape: shape.to_vec(),
        contents,
    }
}

fn question(inputs: Vec<WireTensor>, raw: Vec<Bytes>) -> InferRequest {
    InferRequest { model_name: Bytes::from_static(b"pricing"), inputs, raw, ..InferRequest::default() }
}

fn decoded(part: Part, body: &[u8], parameters: &Value) -> Result<Features, NotInspected> {
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))].into_iter().collect();
    let head = Head { headers: &headers, part, rows_max: 4, columns_max: 8 };
    let mut out = Features::default();
    decoder(parameters).decode(&head, body, &mut out).map(|()| out)
}

fn asked(inputs: Vec<WireTensor>, raw: Vec<Bytes>) -> Result<Features, NotInspected> {
    decoded(Part::Question, &in_frame(&question(inputs, raw)), &defaults())
}

fn floats(values: &[f32]) -> Option<Contents> {
    Some(Contents { floats: values.to_vec(), ..Contents::default() })
}

fn numbers(features: &Features) -> Vec<f64> {
    let number = |cell: &Cell| match cell {
        Cell::Number(number) => *number,
        _ => f64::NAN,
    };
    features.cells.iter().map(number).collect()
}

#[test]
fn listed_and_raw_values_give_the_same_rows() {
    let values = [1.5_f32, -2.0, 3.0, 4.0];
    let listed = asked(vec![tensor("x", "FP32", &[2, 2], floats(&values))], vec![]).expect("it is read");
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let raw = asked(vec![tensor("x", "FP32", &[2, 2], None)], vec![bytes.into()]).expect("it is read");
    assert_eq!(listed, raw);
    assert_eq!((listed.rows(), listed.width), (2, 2));
    assert_eq!(numbers(&listed), [1.5, -2.0, 3.0, 4.0]);
    assert_eq!(listed.name(1), "x[1]");
}

#[test]
fn tensors_stand_side_by_side() {
    let age = Contents { longs: vec![30, 40], ..Contents::default() };
    let kind = Contents {
        texts: vec![Bytes::from_static(b"new"), Bytes::from_static(b"old")],
        ..Contents::default()
    };
    let read = asked(
        vec![tensor("age", "INT64", &[2], Some(age)), tensor("kind", "BYTES", &[2, 1], Some(kind))],
        vec![],
    )
    .expect("it is read");
    assert_eq!(
        (read.rows(), read.width, read.name(0), read.name(1)),
        (2, 2, "age".to_owned(), "kind".to_owned())
    );
    let [Cell::Number(age), Cell::Text(start, end)] = *read.row(1) else { panic!("{read:?}") };
    assert_eq!((age, read.text_of(start, end)), (40.0, "old"));
}

#[test]
fn every_type_in_memory_is_read() {
    let cases: [(&str, Vec<u8>, f64); 13] = [
        ("BOOL", vec![1], 1.0),
        ("INT8", vec![0xFF], -1.0),
        ("INT16", (-2_i16).to_le_bytes().to_vec(), -2.0),
        ("INT32", (-3_i32).to_le_bytes().to_vec(), -3.0),
        ("INT64", (-4_i64).to_le_bytes().to_vec(), -4.0),
        ("UINT8", vec![0xFF], 255.0),
        ("UINT16", 65_535_u16.to_le_bytes().to_vec(), 65_535.0),
        ("UINT32", u32::MAX.to_le_bytes().to_vec(), f64::from(u32::MAX)),
        ("UINT64", 9_u64.to_le_bytes().to_vec(), 9.0),
        ("FP16", vec![0x00, 0xC0], -2.0),
        ("BF16", vec![0x80, 0x3F], 1.0),
        ("FP32", 0.5_f32.to_le_bytes().to_vec(), 0.5),
        ("FP64", 0.1_f64.to_le_bytes().to_vec(), 0.1),
    ];
    for (datatype, bytes, expected) in cases {
        let read = asked(vec![tensor("x", datatype, &[1], None)], vec![bytes.into()]);
        assert_eq!(read.map(|read| numbers(&read)), Ok(vec![expected]), "{datatype}");
    }
    let texts = Bytes::from_static(b"\x02\0\0\0ab\0\0\0\0");
    let read = asked(vec![tensor("x", "BYTES", &[2], None)], vec![texts]).expect("it is read");
    let [Cell::Text(start, end)] = *read.row(0) else { panic!("{read:?}") };
    assert_eq!((read.text_of(start, end), read.rows()), ("ab", 2));
}

#[test]
fn what_servers_would_read_differently_is_not_read() {
    let one = || floats(&[1.0]);
    let raw = || Bytes::from_static(&[0; 4]);
    let cases = [
        ("both kinds of values", vec![tensor("x", "FP32", &[1], one())], vec![raw()], NotInspected::Shape),
        ("no values: shared memory", vec![tensor("x", "FP32", &[1], None)], vec![], NotInspected::Datatype),
        (
            "one raw of two",
            vec![tensor("x", "FP32", &[1], None), tensor("y", "FP32", &[1], None)],
            vec![raw()],
            NotInspected::Datatype,
        ),
        (
            "two of one name",
            vec![tensor("x", "FP32", &[1], one()), tensor("x", "FP32", &[1], one())],
            vec![],
            NotInspected::DuplicateKey,
        ),
        (
            "unlike rows",
            vec![tensor("x", "FP32", &[1], one()), tensor("y", "FP32", &[2], floats(&[1.0, 2.0]))],
            vec![],
            NotInspected::Shape,
        ),
        ("too few values", vec![tensor("x", "FP32", &[2], one())], vec![], NotInspected::Shape),
        ("the list of another type", vec![tensor("x", "INT32", &[1], one())], vec![], NotInspected::Shape),
        (
            "half a value",
            vec![tensor("x", "FP32", &[1], None)],
            vec![Bytes::from_static(&[0; 6])],
            NotInspected::Shape,
        ),
        (
            "a text that is cut",
            vec![tensor("x", "BYTES", &[1], None)],
            vec![Bytes::from_static(b"\x09\0\0\0ab")],
            NotInspected::Shape,
        ),
        ("a type of no protocol", vec![tensor("x", "FP8", &[1], one())], vec![], NotInspected::Datatype),
        ("a negative shape", vec![tensor("x", "FP32", &[-1, -1], one())], vec![], NotInspected::Shape),
        (
            "a huge shape",
            vec![tensor("x", "FP32", &[i64::MAX, i64::MAX], one())],
            vec![],
            NotInspected::Shape,
        ),
        ("no tensor", vec![], vec![], NotInspected::Shape),
        ("too wide", vec![tensor("x", "FP32", &[1, 9], floats(&[0.0; 9]))], vec![], NotInspected::TooWide),
    ];
    for (case, inputs, raw, reason) in cases {
        assert_eq!(asked(inputs, raw), Err(reason), "{case}");
    }
    let garbage = [&[0, 0, 0, 0, 2][..], &[0xFF, 0xFF]].concat();
    assert_eq!(decoded(Part::Question, &garbage, &defaults()), Err(NotInspected::Unparsable));
}

#[test]
fn a_message_of_countless_empty_parts_is_not_taken_apart() {
    let empty = |count| question(vec![tensor("x", "FP32", &[1], floats(&[1.0]))], vec![Bytes::new(); count]);
    let of = |count| decoded(Part::Question, &in_frame(&empty(count)), &defaults());
    assert_eq!(of(FIELDS_MAX), Err(NotInspected::TooWide));
    assert_eq!(of(FIELDS_MAX - 2), Err(NotInspected::Datatype), "few enough to be looked at");
}

#[test]
fn rows_beyond_the_cap_are_counted() {
    let read = asked(vec![tensor("x", "FP32", &[6, 1], floats(&[0.0; 6]))], vec![]).expect("it is read");
    assert_eq!((read.rows(), read.rows_over), (4, 2));
}

#[test]
fn an_answer_is_read_like_a_question() {
    let answer = InferResponse {
        outputs: vec![tensor("price", "FP64", &[1], None)],
        raw: vec![Bytes::from_static(&[0; 8])],
        model_version: Bytes::from_static(b"2"),
    };
    let read = decoded(Part::Answer, &in_frame(&answer), &defaults()).expect("it is read");
    assert_eq!(read.version, "2", "the version that answered");
    assert_eq!((read.name(0), numbers(&read)), ("price".to_owned(), vec![0.0]));
}

#[test]
fn a_call_names_its_model() {
    let body = in_frame(&question(vec![tensor("x", "FP32", &[1], floats(&[1.0]))], vec![]));
    let of = |model: &str| serde_json::json!({ "model": model });
    assert!(decoded(Part::Question, &body, &of("pricing")).is_ok());
    assert_eq!(decoded(Part::Question, &body, &of("other")), Err(NotInspected::OtherModel));
    let refused = (SPEC.build)(&of("")).err().expect("no model has an empty name");
    assert_eq!(refused.path, ["model"]);
}

#[test]
fn one_call_is_claimed_and_by_its_exact_path() {
    let post = http::Method::POST;
    assert_eq!(claim(&post, MODEL_INFER), Some(Claim { model: None }));
    for other in [
        "/inference.GRPCInferenceService/ModelStreamInfer",
        "/inference.grpcinferenceservice/ModelInfer",
        "/",
    ] {
        assert_eq!(claim(&post, other), None, "{other}");
    }
    assert_eq!(claim(&http::Method::GET, MODEL_INFER), None);
}

proptest! {
    #[test]
    fn no_bytes_bring_it_down(message in prop::collection::vec(any::<u8>(), 0..300), part in any::<bool>()) {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        let body = [&[0], &length[..], &message].concat();
        let part = if part { Part::Question } else { Part::Answer };
        if let Ok(read) = decoded(part, &body, &defaults()) {
            prop_assert_eq!(read.cells.len(), read.rows() * read.width);
            prop_assert!(read.width <= 8 && read.rows() <= 4);
        }
    }

    #[test]
    fn whatever_is_written_is_read(rows in 1_usize..4, columns in 1_usize..8, seed in any::<u32>()) {
        let values: Vec<f64> = (0..rows * columns).map(|place| f64::from(seed) * place as f64).collect();
        let shape = [i64::try_from(rows).expect("small"), i64::try_from(columns).expect("small")];
        let contents = Contents { doubles: values.clone(), ..Contents::default() };
        let read = asked(vec![tensor("x", "FP64", &shape, Some(contents))], vec![]).expect("it is read");
        prop_assert_eq!(numbers(&read), values);
        prop_assert_eq!((read.rows(), read.width), (rows, columns));
    }
}

//! Bodies of the Open Inference Protocol, version 2, and of MLflow, as a client and a model server write them.

use serde_json::{Value, json};

/// Where a model of the Open Inference Protocol is asked.
#[must_use]
pub fn infer_path(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

/// A question of the Open Inference Protocol: one tensor `input`, one row of it for each row.
#[must_use]
pub fn question(rows: &[Vec<f64>]) -> Value {
    let width = rows.first().map_or(0, Vec::len);
    let data: Vec<f64> = rows.iter().flatten().copied().collect();
    json!({"inputs": [{"name": "input", "datatype": "FP64", "shape": [rows.len(), width], "data": data}]})
}

/// Its answer: one tensor `output`, one row of it for each prediction.
#[must_use]
pub fn answer(model: &str, predictions: &[Vec<f64>]) -> Value {
    let width = predictions.first().map_or(0, Vec::len);
    let data: Vec<f64> = predictions.iter().flatten().copied().collect();
    let output =
        json!({"name": "output", "datatype": "FP64", "shape": [predictions.len(), width], "data": data});
    json!({"model_name": model, "model_version": "1", "outputs": [output]})
}

/// The rows of a question written by [`question`]; none where it is not one.
#[must_use]
pub fn rows(question: &[u8]) -> Vec<Vec<f64>> {
    let Ok(question) = serde_json::from_slice::<Value>(question) else { return Vec::new() };
    let input = &question["inputs"][0];
    let width = input["shape"][1].as_u64().and_then(|width| usize::try_from(width).ok()).unwrap_or(0);
    let data: Vec<f64> = input["data"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    if width == 0 { Vec::new() } else { data.chunks(width).map(<[f64]>::to_vec).collect() }
}

/// The model's name in a path of the Open Inference Protocol; the whole path where it is none.
#[must_use]
pub fn model_of(path: &str) -> &str {
    path.strip_prefix("/v2/models/").and_then(|rest| rest.split('/').next()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_reads_back() {
        let asked = vec![vec![1.0, 2.5], vec![3.0, -4.0]];
        assert_eq!(rows(question(&asked).to_string().as_bytes()), asked);
        assert!(rows(b"{}").is_empty());
        assert_eq!(model_of(&infer_path("pricing")), "pricing");
    }
}

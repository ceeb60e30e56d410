//! How far the answers of generated rows can be relied upon: beside recorded answers to rows that it was not fitted to.

use super::honest::people;
use super::host::label;
use super::table::{Table, percent};
use crate::support::{model_of, reference, streams};

/// Recorded honest clients whose rows are no plain cases: they drift, interpolate or convert.
const HELD_OUT: [&str; 3] = ["drifted_digits", "sensor_digits", "followup_cancer"];

/// The table.
pub fn table() -> String {
    let mut table = Table::new(&[
        "recorded client, rows not used",
        "rows",
        "unsure answers, recorded",
        "nearest rows",
        "fitted",
        "same class, nearest rows",
        "fitted",
    ]);
    let kept = |name: &str| HELD_OUT.iter().any(|held| name.starts_with(held));
    for stream in streams("benign").iter().filter(|stream| kept(&stream.name)) {
        let people = people(model_of(&stream.name));
        let narrow = reference(&stream.name).margins().map_or(0.0, |margins| margins.narrow());
        let rows = stream.requests.iter().flat_map(|request| request.rows.iter().zip(&request.predictions));
        let answers = rows.filter(|(x, _)| !people.knows(x));
        let answers: Vec<[Vec<f64>; 3]> =
            answers.map(|(x, p)| [p.clone(), people.answer(x), people.fitted_answer(x)]).collect();
        let of = |fits: &dyn Fn(&[Vec<f64>; 3]) -> bool| {
            percent(answers.iter().filter(|all| fits(all)).count() as f64 / answers.len() as f64, 0)
        };
        table.row(&[
            stream.name.clone(),
            answers.len().to_string(),
            of(&|all| margin(&all[0]) < narrow),
            of(&|all| margin(&all[1]) < narrow),
            of(&|all| margin(&all[2]) < narrow),
            of(&|all| label(&all[0]) == label(&all[1])),
            of(&|all| label(&all[0]) == label(&all[2])),
        ]);
    }
    table.finish()
}

fn margin(answer: &[f64]) -> f64 {
    let mut sorted = answer.to_vec();
    sorted.sort_by(|left, right| right.total_cmp(left));
    sorted[0] - sorted[1]
}

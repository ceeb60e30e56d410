//! Laboratories with thirty measurements of each patient.

use super::super::{Ask, Draw};

pub fn patients(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(15, 100);
    draw.singly(rows, 30.0)
}

pub fn batches(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(40, 160);
    draw.in_batches(rows, 20, 60.0)
}

/// Every measure changed by a few percent, as precise as before.
fn again(draw: &mut Draw<'_>, patient: &[f64], by: f64) -> Vec<f64> {
    let common = draw.numbers.normal() * by;
    let measured = patient.iter().map(|value| value * (1.0 + common + draw.numbers.normal() * by)).collect();
    draw.people.on_grid(measured)
}

pub fn follow_up(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(15, 50) {
        let later = again(draw, &patient, 0.03);
        rows.extend([patient, later]);
    }
    draw.singly(rows, 120.0)
}

pub fn converted(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(15, 80);
    for row in &mut rows {
        for column in [0, 2, 20, 22] {
            row[column] = (row[column] / 25.4 * 100.0).round() / 100.0 * 25.4;
        }
    }
    draw.singly(rows, 30.0)
}

pub fn readings(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(10, 30) {
        for _ in 0..3 {
            rows.push(again(draw, &patient, 0.01));
        }
    }
    draw.singly(rows, 20.0)
}

pub fn imputed(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(20, 80);
    let usual = draw.case();
    for row in &mut rows {
        for column in 0..row.len() {
            if draw.numbers.chance(0.15) {
                row[column] = usual[column];
            }
        }
    }
    draw.singly(rows, 30.0)
}

pub fn uncalibrated(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(20, 100).into_iter().map(|row| row.iter().map(|value| value * 1.05).collect());
    let rows: Vec<Vec<f64>> = rows.collect();
    let rows = rows.into_iter().map(|row| draw.people.on_grid(row)).collect();
    draw.singly(rows, 30.0)
}

pub fn sensitivity(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(8, 25) {
        rows.push(patient.clone());
        for _ in 0..2 {
            let column = draw.numbers.whole(0, 9);
            for times in [0.9, 1.1] {
                let mut varied = patient.clone();
                varied[column] *= times;
                rows.push(draw.people.on_grid(varied));
            }
        }
    }
    draw.singly(rows, 5.0)
}

pub fn sorted(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(60, 160);
    rows.sort_by(|left, right| left[0].total_cmp(&right[0]));
    draw.in_batches(rows, 16, 5.0)
}

pub fn rounded(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(30, 120);
    for value in rows.iter_mut().flatten().filter(|value| **value > 0.0) {
        let digits = (2 - libm::log10(*value).floor() as i32).clamp(-3, 9);
        let scale = 10_f64.powi(digits);
        *value = (*value * scale).round() / scale;
    }
    draw.singly(rows, 30.0)
}

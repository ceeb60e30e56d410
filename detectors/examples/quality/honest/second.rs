//! Profiles that were written after the whole had been run once. Nothing was changed to please them.

use super::{Ask, Draw, Profile};

const EXCESSES: [f64; 5] = [0.0, 150.0, 300.0, 500.0, 1000.0];

/// All of them.
#[rustfmt::skip]
pub const PROFILES: &[Profile] = &[
    Profile { name: "two-car family", model: "pricing", dependent: true, does: "asks for two cars of each household, at three excesses", make: two_cars },
    Profile { name: "early renewals", model: "pricing", dependent: true, does: "prices the same portfolio again a month later, a year older", make: month_later },
    Profile { name: "price alert", model: "pricing", dependent: true, does: "asks for one customer each day, with a growing distance", make: price_alert },
    Profile { name: "regional report", model: "pricing", dependent: true, does: "prices five standard customers in all regions, one request a customer", make: regional },
    Profile { name: "discount finder", model: "pricing", dependent: true, does: "offers each customer the terms around the wanted ones, field by field", make: discount },
    Profile { name: "nightly delta", model: "pricing", dependent: true, does: "prices what changed since yesterday, in batches of 25", make: delta },
    Profile { name: "regression test", model: "pricing", dependent: true, does: "sends 50 fixed rows after every deployment", make: regression },
    Profile { name: "explanation report", model: "cancer", dependent: true, does: "puts the usual value into each of ten measures of a patient in turn", make: explanation },
    Profile { name: "tilted sheets", model: "digits", dependent: true, does: "scans with one edge darker than the other", make: tilted },
    Profile { name: "same writer", model: "digits", dependent: true, does: "sends digits that share a stroke width", make: writer },
    Profile { name: "smoothed scans", model: "digits", dependent: true, does: "smooths each image over its neighbours", make: smoothed },
    Profile { name: "measured in a row", model: "cancer", dependent: true, does: "measures a patient daily, a little changed each time", make: daily },
];

fn with(row: &[f64], column: usize, value: f64) -> Vec<f64> {
    let mut changed = row.to_vec();
    changed[column] = value;
    changed
}

fn two_cars(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for household in draw.cases(6, 20) {
        let mut second = household.clone();
        let other = draw.case();
        second[2..5].copy_from_slice(&other[2..5]);
        for excess in &EXCESSES[1..4] {
            rows.extend([with(&household, 8, *excess), with(&second, 8, *excess)]);
        }
    }
    draw.singly(rows, 4.0)
}

fn month_later(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(60, 150);
    let later = rows.iter().map(|row| {
        let older = with(row, 0, row[0] + 1.0);
        with(&older, 3, row[3] + 1.0)
    });
    let later: Vec<_> = later.collect();
    let mut asks = draw.in_batches(rows, 30, 2.0);
    let mut again = draw.in_batches(later, 30, 2.0);
    if let Some(first) = again.first_mut() {
        first.pause = 30.0 * 86_400.0;
    }
    asks.append(&mut again);
    asks
}

fn price_alert(draw: &mut Draw<'_>) -> Vec<Ask> {
    let customer = draw.case();
    let days = draw.numbers.whole(5, 30);
    let rows = (0..days).map(|day| with(&customer, 5, customer[5] + 100.0 * day as f64)).collect();
    draw.singly(rows, 86_400.0)
}

fn regional(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(5, 5) {
        rows.extend((0..20).map(|region| with(&customer, 7, f64::from(region))));
    }
    draw.in_batches(rows, 20, 3.0)
}

fn discount(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(5, 20) {
        rows.push(customer.clone());
        for (column, value) in [(5, customer[5] - 1000.0), (8, 500.0), (9, 1.0), (8, 1000.0)] {
            rows.push(with(&customer, column, value.max(0.0)));
        }
    }
    draw.singly(rows, 2.0)
}

fn delta(draw: &mut Draw<'_>) -> Vec<Ask> {
    let portfolio = draw.cases(40, 60);
    let mut rows = Vec::new();
    for _ in 0..5 {
        for row in &portfolio {
            if draw.numbers.chance(0.3) {
                let other = draw.case();
                let column = *draw.numbers.pick(&[2, 5, 6, 8]);
                rows.push(with(row, column, other[column]));
            }
        }
    }
    draw.in_batches(rows, 25, 600.0)
}

fn regression(draw: &mut Draw<'_>) -> Vec<Ask> {
    let fixed = draw.cases(50, 50);
    let rows = (0..4).flat_map(|_| fixed.clone()).collect();
    draw.in_batches(rows, 50, 900.0)
}

fn explanation(draw: &mut Draw<'_>) -> Vec<Ask> {
    let usual = draw.case();
    let mut rows = Vec::new();
    for patient in draw.cases(1, 5) {
        rows.push(patient.clone());
        rows.extend((0..10).map(|column| with(&patient, column, usual[column])));
    }
    draw.singly(rows, 1.0)
}

fn tilted(draw: &mut Draw<'_>) -> Vec<Ask> {
    let slope = draw.numbers.between(0.005, 0.015);
    let mut rows = draw.cases(40, 120);
    for row in &mut rows {
        for (pixel, value) in row.iter_mut().enumerate() {
            let darker = *value + slope * (pixel % 8) as f64;
            *value = (darker.min(1.0) * 16.0).round() / 16.0;
        }
    }
    draw.singly(rows, 1.0)
}

fn writer(draw: &mut Draw<'_>) -> Vec<Ask> {
    let width = draw.numbers.between(0.85, 1.25);
    let mut rows = draw.cases(40, 120);
    for value in rows.iter_mut().flatten() {
        *value = ((*value * width).min(1.0) * 16.0).round() / 16.0;
    }
    draw.singly(rows, 1.0)
}

fn smoothed(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(40, 120);
    let smooth = |row: &Vec<f64>| -> Vec<f64> {
        let at = |pixel: usize| {
            let left = if pixel.is_multiple_of(8) { row[pixel] } else { row[pixel - 1] };
            let right = if pixel % 8 < 7 { row[pixel + 1] } else { row[pixel] };
            ((0.8 * row[pixel] + 0.1 * (left + right)) * 16.0).round() / 16.0
        };
        (0..row.len()).map(at).collect()
    };
    let rows = rows.iter().map(smooth).collect();
    draw.singly(rows, 1.0)
}

fn daily(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut patient = draw.case();
    let mut rows = Vec::new();
    for _ in 0..draw.numbers.whole(5, 30) {
        rows.push(draw.people.on_grid(patient.clone()));
        for value in &mut patient {
            *value *= 1.0 + 0.02 * draw.numbers.normal();
        }
    }
    draw.singly(rows, 86_400.0)
}

//! Profiles that were written once rows of a few turned knobs were left out of near duplicates and that rule was frozen,
//! before any of them was run: people at forms, and tools that explain. Nothing was changed to please them.

use super::{Ask, Draw, Profile};

/// All of them.
#[rustfmt::skip]
pub const PROFILES: &[Profile] = &[
    Profile { name: "sliders with undo", model: "pricing", dependent: true, does: "drags two sliders forth and back in turn, and takes some of it back", make: undo },
    Profile { name: "preset and slider", model: "pricing", dependent: true, does: "drags the value under each of three presets of excess and payments", make: presets },
    Profile { name: "coarse to fine", model: "pricing", dependent: true, does: "looks for a distance, then for a value, in steps that shrink by five", make: coarse_to_fine },
    Profile { name: "two forms", model: "pricing", dependent: true, does: "asks each entry of a form under two offers that differ in three fields", make: two_forms },
    Profile { name: "sparse counterfactuals", model: "cancer", dependent: true, does: "moves one to three measures of a patient, chosen anew each time, part of the way to another's", make: sparse },
    Profile { name: "tornado again", model: "cancer", dependent: true, does: "charts six measures up and down, keeps one of the changes, and charts again", make: again },
    Profile { name: "sampled explanation", model: "cancer", dependent: true, does: "puts usual values into measures of a patient, as many and which by chance", make: sampled },
    Profile { name: "drawing canvas", model: "digits", dependent: true, does: "asks about a drawing after every few strokes, some of them wiped out again", make: canvas },
];

fn with(row: &[f64], column: usize, value: f64) -> Vec<f64> {
    let mut changed = row.to_vec();
    changed[column] = value;
    changed
}

fn undo(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(1, 4) {
        let mut states = vec![customer];
        for _ in 0..draw.numbers.whole(3, 9) {
            let (column, step) = *draw.numbers.pick(&[(5, 1000.0), (2, 500.0)]);
            let step = if draw.numbers.chance(0.4) { -step } else { step };
            for _ in 0..draw.numbers.whole(1, 8) {
                let now = &states[states.len() - 1];
                states.push(with(now, column, (now[column] + step).max(0.0)));
            }
            if draw.numbers.chance(0.3) {
                let back = states[draw.numbers.whole(0, states.len() - 1)].clone();
                states.push(back);
            }
        }
        rows.append(&mut states);
    }
    draw.singly(rows, 0.4)
}

fn presets(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(1, 4) {
        let stops = draw.numbers.whole(4, 11);
        for (excess, payments) in [(0.0, 12.0), (300.0, 4.0), (1000.0, 1.0)] {
            let preset = with(&with(&customer, 8, excess), 9, payments);
            rows.extend((0..stops).map(|stop| with(&preset, 2, preset[2] + 500.0 * stop as f64)));
        }
    }
    draw.singly(rows, 0.5)
}

fn coarse_to_fine(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for mut customer in draw.cases(1, 4) {
        for (column, steps) in [(5, [5000.0, 1000.0, 200.0]), (2, [2500.0, 500.0, 100.0])] {
            for step in steps {
                rows.push(customer.clone());
                for _ in 0..draw.numbers.whole(2, 6) {
                    customer = with(&customer, column, customer[column] + step);
                    rows.push(customer.clone());
                }
                customer = with(&customer, column, customer[column] - step);
            }
        }
    }
    draw.singly(rows, 0.8)
}

fn two_forms(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for mut customer in draw.cases(1, 4) {
        for _ in 0..draw.numbers.whole(6, 16) {
            let offer = with(&with(&customer, 8, 150.0), 9, 12.0);
            rows.push(offer.clone());
            rows.push(with(&with(&with(&offer, 8, 300.0), 9, 4.0), 5, offer[5] + 500.0));
            let (column, step) = *draw.numbers.pick(&[(0, 1.0), (1, 1.0), (2, 500.0), (4, 5.0), (5, 1000.0)]);
            customer = with(&customer, column, customer[column] + step);
        }
    }
    draw.singly(rows, 2.0)
}

fn sparse(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(1, 4) {
        let other = draw.case();
        rows.push(patient.clone());
        for _ in 0..draw.numbers.whole(10, 30) {
            let mut row = patient.clone();
            for _ in 0..draw.numbers.whole(1, 3) {
                let column = draw.numbers.whole(0, 29);
                let share = *draw.numbers.pick(&[0.1, 0.25, 0.5, 0.75, 1.0]);
                row[column] += share * (other[column] - patient[column]);
            }
            rows.push(draw.people.on_grid(row));
        }
    }
    draw.singly(rows, 0.5)
}

fn again(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for mut patient in draw.cases(1, 3) {
        for _ in 0..draw.numbers.whole(2, 4) {
            rows.push(patient.clone());
            for column in 0..6 {
                let chart = [0.95, 1.05].map(|by| with(&patient, column, patient[column] * by));
                rows.extend(chart.map(|row| draw.people.on_grid(row)));
            }
            let kept = draw.numbers.whole(0, 5);
            let changed = with(&patient, kept, patient[kept] * 1.05);
            patient = draw.people.on_grid(changed);
        }
    }
    draw.singly(rows, 1.0)
}

fn sampled(draw: &mut Draw<'_>) -> Vec<Ask> {
    let usual = draw.case();
    let mut rows = Vec::new();
    for patient in draw.cases(1, 3) {
        rows.push(patient.clone());
        for _ in 0..40 {
            let share = draw.numbers.uniform();
            let mut row = patient.clone();
            for (value, usual) in row.iter_mut().zip(&usual) {
                if draw.numbers.chance(share) {
                    *value = *usual;
                }
            }
            rows.push(row);
        }
    }
    draw.singly(rows, 0.3)
}

fn canvas(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for sheet in draw.cases(1, 4) {
        let mut drawn = vec![0.0; 64];
        for pixel in 0..64 {
            drawn[pixel] = sheet[pixel];
            if draw.numbers.chance(0.1) {
                drawn[draw.numbers.whole(0, pixel)] = 0.0;
            }
            if pixel % 3 == 2 {
                rows.push(drawn.clone());
            }
        }
    }
    draw.singly(rows, 1.0)
}

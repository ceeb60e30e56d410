//! Profiles that were written once families, notes and the rules for charts, drawn rows and bisections were frozen, before
//! any of them was run. Nothing was changed to please them.

use super::{Ask, Draw, Profile};

/// All of them.
#[rustfmt::skip]
pub const PROFILES: &[Profile] = &[
    Profile { name: "three sliders", model: "pricing", dependent: true, does: "drags distance, value and years without a claim on from where the slider before stopped", make: three_sliders },
    Profile { name: "tornado in two steps", model: "pricing", dependent: true, does: "moves each of seven fields of a customer by 5 and by 10 % up and down", make: tornado_in_two_steps },
    Profile { name: "portal with covers", model: "pricing", dependent: true, does: "asks 30 combinations of terms of each customer, six in a request", make: portal },
    Profile { name: "job by region", model: "pricing", dependent: true, does: "prices a portfolio that is sorted by region and age, in batches of 100", make: by_region },
    Profile { name: "cents", model: "pricing", dependent: true, does: "sends value and excess in cents", make: cents },
    Profile { name: "sensor on a belt", model: "digits", dependent: true, does: "sends frames on the way from one image to the next and back, with noise of one step", make: belt },
    Profile { name: "rescans in batches", model: "digits", dependent: true, does: "sends batches of 40 scans, a quarter of them scanned again with another lamp", make: rescans },
    Profile { name: "upside down", model: "digits", dependent: true, does: "scans sheets that lie upside down", make: upside_down },
    Profile { name: "random load test", model: "digits", dependent: false, does: "tests the load with pixels by chance", make: random_load },
    Profile { name: "laboratory follow-up", model: "cancer", dependent: true, does: "measures a third of the measures of each patient again, two to five times", make: laboratory },
    Profile { name: "counterfactuals", model: "cancer", dependent: true, does: "moves five measures of a patient a quarter, half and three quarters of the way to another's", make: counterfactuals },
    Profile { name: "inches", model: "cancer", dependent: true, does: "sends lengths in inches and areas in square inches", make: inches },
    Profile { name: "averaged readings", model: "cancer", dependent: true, does: "sends two readings of each patient, then their mean", make: averaged },
];

fn with(row: &[f64], column: usize, value: f64) -> Vec<f64> {
    let mut changed = row.to_vec();
    changed[column] = value;
    changed
}

fn three_sliders(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for mut customer in draw.cases(1, 4) {
        rows.push(customer.clone());
        for (column, step) in [(5, 1000.0), (2, 500.0), (1, 1.0)] {
            for _ in 0..draw.numbers.whole(5, 15) {
                customer = with(&customer, column, customer[column] + step);
                rows.push(customer.clone());
            }
        }
    }
    draw.singly(rows, 0.5)
}

fn tornado_in_two_steps(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(1, 4) {
        rows.push(customer.clone());
        for column in [0, 1, 2, 3, 4, 5, 8] {
            for part in [0.9, 0.95, 1.05, 1.1] {
                rows.push(with(&customer, column, (customer[column] * part).round()));
            }
        }
    }
    draw.singly(rows, 1.0)
}

fn portal(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(4, 15) {
        for excess in [0.0, 150.0, 300.0, 500.0, 1000.0] {
            for payments in [1.0, 4.0, 12.0] {
                for distance in [0.0, 3000.0] {
                    let row = with(&customer, 8, excess);
                    let row = with(&row, 9, payments);
                    rows.push(with(&row, 5, row[5] + distance));
                }
            }
        }
    }
    draw.in_batches(rows, 6, 2.0)
}

fn by_region(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(200, 500);
    rows.sort_by(|one, other| one[7].total_cmp(&other[7]).then(one[0].total_cmp(&other[0])));
    draw.in_batches(rows, 100, 5.0)
}

fn cents(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(30, 120);
    for row in &mut rows {
        row[2] *= 100.0;
        row[8] *= 100.0;
    }
    draw.singly(rows, 2.0)
}

fn belt(draw: &mut Draw<'_>) -> Vec<Ask> {
    let stops = draw.cases(3, 8);
    let mut rows = Vec::new();
    for pair in stops.windows(2) {
        for share in [0.0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25] {
            let frame: Vec<f64> = pair[0]
                .iter()
                .zip(&pair[1])
                .map(|(from, to)| from + share * (to - from) + draw.numbers.between(-0.06, 0.06))
                .map(|pixel| pixel.clamp(0.0, 1.0))
                .collect();
            rows.push(draw.people.on_grid(frame.iter().map(|pixel| (pixel * 16.0).round() / 16.0).collect()));
        }
    }
    draw.singly(rows, 0.2)
}

fn rescans(draw: &mut Draw<'_>) -> Vec<Ask> {
    let gain = draw.numbers.between(0.8, 0.95);
    let mut rows = Vec::new();
    for image in draw.cases(80, 200) {
        let again = draw.numbers.chance(0.25);
        let darker = image.iter().map(|pixel| (pixel * gain * 16.0).round() / 16.0).collect();
        rows.push(image);
        if again {
            rows.push(darker);
        }
    }
    draw.in_batches(rows, 40, 5.0)
}

fn upside_down(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(30, 100);
    rows.iter_mut().for_each(|row| row.reverse());
    draw.singly(rows, 1.0)
}

fn random_load(draw: &mut Draw<'_>) -> Vec<Ask> {
    let pixel = |draw: &mut Draw<'_>| draw.numbers.whole(0, 16) as f64 / 16.0;
    let rows = (0..100).map(|_| (0..64).map(|_| pixel(draw)).collect()).collect();
    draw.singly(rows, 0.05)
}

fn laboratory(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(6, 20) {
        rows.push(patient.clone());
        for _ in 0..draw.numbers.whole(2, 5) {
            let mut again = patient.clone();
            for value in again.iter_mut().step_by(3) {
                *value *= 1.0 + 0.02 * draw.numbers.normal();
            }
            rows.push(draw.people.on_grid(again));
        }
    }
    draw.singly(rows, 600.0)
}

fn counterfactuals(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(1, 5) {
        let other = draw.case();
        rows.push(patient.clone());
        for column in [0, 6, 13, 20, 27] {
            for share in [0.25, 0.5, 0.75] {
                let value = patient[column] + share * (other[column] - patient[column]);
                rows.push(draw.people.on_grid(with(&patient, column, value)));
            }
        }
    }
    draw.singly(rows, 1.0)
}

fn inches(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(20, 80);
    for row in &mut rows {
        for block in [0, 10, 20] {
            row[block] /= 25.4;
            row[block + 2] /= 25.4;
            row[block + 3] /= 25.4 * 25.4;
        }
    }
    let rows =
        rows.into_iter().map(|row| row.iter().map(|value| (value * 1e4).round() / 1e4).collect()).collect();
    draw.singly(rows, 20.0)
}

fn averaged(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(8, 25) {
        let mut readings = Vec::new();
        for _ in 0..2 {
            let reading = patient.iter().map(|value| value * (1.0 + 0.02 * draw.numbers.normal())).collect();
            readings.push(draw.people.on_grid(reading));
        }
        let mean = readings[0].iter().zip(&readings[1]).map(|(one, other)| (one + other) / 2.0).collect();
        readings.push(mean);
        rows.append(&mut readings);
    }
    draw.singly(rows, 120.0)
}

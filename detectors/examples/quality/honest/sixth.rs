//! Profiles that were written once mirror pairs and equal amounts were told and frozen, before any of them was run: people who
//! ask on both sides, tools that move many fields at once, and instruments finer than the reference. Nothing was changed to
//! please them.

use super::{Ask, Draw, Profile};

/// All of them.
#[rustfmt::skip]
pub const PROFILES: &[Profile] = &[
    Profile { name: "brighter and darker", model: "digits", dependent: true, does: "asks each image as it is, brighter and darker by one amount, not rounded", make: brightness },
    Profile { name: "robustness test", model: "digits", dependent: true, does: "asks each image with gain, offset and contrast up and down, not rounded", make: robustness },
    Profile { name: "finer scanner", model: "digits", dependent: true, does: "scans each sheet two to six times in 1,024 steps of grey, with noise of one or two of them", make: finer },
    Profile { name: "grey patches", model: "digits", dependent: true, does: "covers an image with a patch of mean grey, place after place", make: patches },
    Profile { name: "mean explanation", model: "cancer", dependent: true, does: "puts means, with all their decimals, into measures of a patient, which by chance", make: means },
    Profile { name: "chart in inches", model: "cancer", dependent: true, does: "moves each of five lengths of a patient, in inches, up and down by a tenth", make: inches },
    Profile { name: "scenarios", model: "pricing", dependent: true, does: "asks each customer with all amounts 3, 5 and 10 % up and down, not rounded", make: scenarios },
    Profile { name: "unit steps", model: "pricing", dependent: true, does: "moves each of six whole numbers of a customer up and down by one, and goes on from a change", make: units },
];

fn with(row: &[f64], column: usize, value: f64) -> Vec<f64> {
    let mut changed = row.to_vec();
    changed[column] = value;
    changed
}

fn all(image: &[f64], change: impl Fn(f64) -> f64) -> Vec<f64> {
    image.iter().map(|value| change(*value).clamp(0.0, 1.0)).collect()
}

fn brightness(draw: &mut Draw<'_>) -> Vec<Ask> {
    let by = draw.numbers.between(0.03, 0.2);
    let images = draw.cases(10, 40);
    let asked =
        |image: Vec<f64>| [image.clone(), all(&image, |value| value + by), all(&image, |value| value - by)];
    draw.singly(images.into_iter().flat_map(asked).collect(), 1.0)
}

fn robustness(draw: &mut Draw<'_>) -> Vec<Ask> {
    let (gain, offset, contrast) =
        (draw.numbers.between(0.05, 0.2), draw.numbers.between(0.03, 0.15), draw.numbers.between(0.05, 0.2));
    let images = draw.cases(8, 20);
    let asked = |image: Vec<f64>| {
        let changed = [1.0, -1.0].into_iter().flat_map(|way| {
            [
                all(&image, |value| value * (1.0 + way * gain)),
                all(&image, |value| value + way * offset),
                all(&image, |value| 0.5 + (value - 0.5) * (1.0 + way * contrast)),
            ]
        });
        std::iter::once(image.clone()).chain(changed).collect::<Vec<_>>()
    };
    draw.singly(images.into_iter().flat_map(asked).collect(), 0.5)
}

fn finer(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for sheet in draw.cases(10, 30) {
        for _ in 0..draw.numbers.whole(2, 6) {
            let scan = sheet.iter().map(|value| {
                let noise = draw.numbers.whole(0, 4) as f64 - 2.0;
                ((value * 1023.0 + noise).round() / 1023.0).clamp(0.0, 1.0)
            });
            rows.push(scan.collect());
        }
    }
    draw.singly(rows, 2.0)
}

fn patches(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for image in draw.cases(1, 3) {
        let grey = image.iter().sum::<f64>() / image.len() as f64;
        rows.push(image.clone());
        for place in 0..36 {
            let mut covered = image.clone();
            for pixel in 0..9 {
                covered[(place / 6 + pixel / 3) * 8 + place % 6 + pixel % 3] = grey;
            }
            rows.push(covered);
        }
    }
    draw.singly(rows, 0.3)
}

fn means(draw: &mut Draw<'_>) -> Vec<Ask> {
    let sample = draw.cases(30, 30);
    let mean: Vec<f64> = (0..30)
        .map(|column| sample.iter().map(|row| row[column]).sum::<f64>() / sample.len() as f64)
        .collect();
    let mut rows = Vec::new();
    for patient in draw.cases(1, 4) {
        for _ in 0..draw.numbers.whole(20, 40) {
            let put = |(own, mean): (&f64, &f64)| if draw.numbers.chance(0.5) { *own } else { *mean };
            rows.push(patient.iter().zip(&mean).map(put).collect());
        }
    }
    draw.singly(rows, 0.3)
}

fn inches(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(2, 6) {
        let mut patient = patient;
        for column in [0, 2, 10, 12, 20, 22] {
            patient[column] = (patient[column] / 25.4 * 1000.0).round() / 1000.0;
        }
        rows.push(patient.clone());
        for column in [0, 2, 10, 20, 22] {
            rows.extend([1.1, 0.9].map(|by| with(&patient, column, patient[column] * by)));
        }
    }
    draw.singly(rows, 1.0)
}

fn scenarios(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(5, 15) {
        rows.push(customer.clone());
        for by in [1.03, 0.97, 1.05, 0.95, 1.1, 0.9] {
            rows.push(with(
                &with(&with(&customer, 2, customer[2] * by), 5, customer[5] * by),
                8,
                customer[8] * by,
            ));
        }
    }
    draw.singly(rows, 1.0)
}

fn units(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for mut customer in draw.cases(1, 4) {
        for _ in 0..draw.numbers.whole(1, 3) {
            rows.push(customer.clone());
            for column in [0, 1, 3, 4, 6, 7] {
                rows.extend([1.0, -1.0].map(|by| with(&customer, column, (customer[column] + by).max(0.0))));
            }
            let kept = *draw.numbers.pick(&[0, 1, 3, 4]);
            customer = with(&customer, kept, customer[kept] + 1.0);
        }
    }
    draw.singly(rows, 1.0)
}

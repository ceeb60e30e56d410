//! Profiles that were written with a change of the sweep detectors, before the changed program was first run. Nothing was
//! changed to please them.

use super::{Ask, Draw, Profile};

/// All of them.
#[rustfmt::skip]
pub const PROFILES: &[Profile] = &[
    Profile { name: "two sliders", model: "pricing", dependent: true, does: "drags the distance over 4 to 14 stops, then the value over as many", make: two_sliders },
    Profile { name: "age curve", model: "pricing", dependent: true, does: "draws the price over the age in steps of five years, for three customers", make: age_curve },
    Profile { name: "fine slider", model: "pricing", dependent: true, does: "drags the value in steps of 100, 10 to 20 of them", make: fine_slider },
    Profile { name: "depreciation", model: "pricing", dependent: true, does: "asks each month for a vehicle that lost a hundredth of its value", make: depreciation },
    Profile { name: "whole form", model: "pricing", dependent: true, does: "tries another customer's entry in each of ten fields in turn", make: whole_form },
    Profile { name: "tornado chart", model: "pricing", dependent: true, does: "moves each of six fields of a customer up and down by a tenth", make: tornado },
    Profile { name: "bonus ladder", model: "pricing", dependent: true, does: "shows what each year without a claim would save, over 4 to 12 years", make: bonus },
    Profile { name: "occlusion", model: "cancer", dependent: true, does: "puts the usual value into each of thirty measures of a patient in turn", make: occlusion },
    Profile { name: "tornado of measures", model: "cancer", dependent: true, does: "moves each of eight measures of a patient up and down by a tenth, rounded", make: tornado_of_measures },
    Profile { name: "dose and response", model: "cancer", dependent: true, does: "moves one measure of a patient in 10 to 20 steps over its range", make: dose },
    Profile { name: "dead pixels", model: "digits", dependent: true, does: "blanks each of 5 to 20 pixels of an image in turn", make: dead_pixels },
    Profile { name: "lamp warming up", model: "digits", dependent: true, does: "scans one sheet 10 to 30 times under a lamp that grows brighter", make: lamp },
];

fn with(row: &[f64], column: usize, value: f64) -> Vec<f64> {
    let mut changed = row.to_vec();
    changed[column] = value;
    changed
}

fn two_sliders(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(2, 5) {
        rows.push(customer.clone());
        for (column, step) in [(5, 1000.0), (2, 500.0)] {
            let stops = draw.numbers.whole(4, 14);
            rows.extend(
                (1..=stops).map(|stop| with(&customer, column, customer[column] + step * stop as f64)),
            );
        }
    }
    draw.singly(rows, 0.4)
}

fn age_curve(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(3, 3) {
        rows.extend((0..13).map(|step| with(&customer, 0, 18.0 + 5.0 * f64::from(step))));
    }
    draw.singly(rows, 1.0)
}

fn fine_slider(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(1, 4) {
        let stops = draw.numbers.whole(10, 20);
        rows.extend((0..stops).map(|stop| with(&customer, 2, customer[2] + 100.0 * stop as f64)));
    }
    draw.singly(rows, 0.3)
}

fn depreciation(draw: &mut Draw<'_>) -> Vec<Ask> {
    let customer = draw.case();
    let months = draw.numbers.whole(6, 24);
    let value = |month: usize| (customer[2] * (1.0 - 0.01 * month as f64) / 100.0).round() * 100.0;
    let rows = (0..months).map(|month| with(&customer, 2, value(month))).collect();
    draw.singly(rows, 30.0 * 86_400.0)
}

fn whole_form(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(1, 6) {
        let other = draw.case();
        rows.push(customer.clone());
        rows.extend((0..10).map(|column| with(&customer, column, other[column])));
    }
    draw.singly(rows, 3.0)
}

fn tornado(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(1, 4) {
        rows.push(customer.clone());
        for column in [0, 1, 2, 3, 4, 5] {
            let by = (customer[column] * 0.1).round().max(1.0);
            rows.extend([-by, by].map(|by| with(&customer, column, (customer[column] + by).max(0.0))));
        }
    }
    draw.singly(rows, 1.0)
}

fn bonus(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(3, 12) {
        let years = draw.numbers.whole(4, 12);
        rows.extend((0..years).map(|year| with(&customer, 1, customer[1] + year as f64)));
    }
    draw.singly(rows, 2.0)
}

fn occlusion(draw: &mut Draw<'_>) -> Vec<Ask> {
    let usual = draw.case();
    let mut rows = Vec::new();
    for patient in draw.cases(1, 4) {
        rows.push(patient.clone());
        rows.extend((0..30).map(|column| with(&patient, column, usual[column])));
    }
    draw.singly(rows, 0.5)
}

fn tornado_of_measures(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(1, 4) {
        rows.push(patient.clone());
        for column in 0..8 {
            for by in [0.9, 1.1] {
                let moved = with(&patient, column, patient[column] * by);
                rows.push(draw.people.on_grid(moved));
            }
        }
    }
    draw.singly(rows, 0.5)
}

fn dose(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for patient in draw.cases(1, 3) {
        let column = draw.numbers.whole(0, 29);
        let (low, high) = draw.people.ranges[column];
        let steps = draw.numbers.whole(10, 20);
        for step in 0..steps {
            let value = low + (high - low) * step as f64 / steps as f64;
            rows.push(draw.people.on_grid(with(&patient, column, value)));
        }
    }
    draw.singly(rows, 5.0)
}

fn dead_pixels(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for image in draw.cases(1, 4) {
        rows.push(image.clone());
        for _ in 0..draw.numbers.whole(5, 20) {
            let pixel = draw.numbers.whole(0, 63);
            rows.push(with(&image, pixel, 0.0));
        }
    }
    draw.singly(rows, 0.5)
}

fn lamp(draw: &mut Draw<'_>) -> Vec<Ask> {
    let image = draw.case();
    let shots = draw.numbers.whole(10, 30);
    let mut rows = Vec::new();
    for shot in 0..shots {
        let gain = 0.7 + 0.3 * shot as f64 / shots as f64;
        rows.push(draw.people.on_grid(image.iter().map(|value| value * gain).collect()));
    }
    draw.singly(rows, 2.0)
}

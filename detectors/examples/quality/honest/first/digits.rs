//! Readers of handwritten digits: 8 by 8 pixels from 0 to 1 in steps of a sixteenth.

use super::super::{Ask, Draw};

const SIDE: usize = 8;

pub fn scans(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(20, 150);
    draw.singly(rows, 1.0)
}

pub fn batches(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(64, 256);
    draw.in_batches(rows, 32, 5.0)
}

pub fn one_class(draw: &mut Draw<'_>) -> Vec<Ask> {
    let digit = draw.numbers.whole(0, 9);
    let rows = (0..60).map(|_| draw.people.case_of(digit, &mut draw.numbers)).collect();
    draw.singly(rows, 1.0)
}

pub fn sensor(draw: &mut Draw<'_>) -> Vec<Ask> {
    let stops = draw.cases(4, 10);
    let mut rows = Vec::new();
    for pair in stops.windows(2) {
        let frames = draw.numbers.whole(6, 12);
        for frame in 0..frames {
            let share = frame as f64 / frames as f64;
            let between = pair[0].iter().zip(&pair[1]);
            rows.push(
                between.map(|(from, to)| ((from + share * (to - from)) * 16.0).round() / 16.0).collect(),
            );
        }
    }
    draw.singly(rows, 0.2)
}

/// The image moved by whole pixels; what comes in from outside is white.
fn moved(image: &[f64], down: isize, right: isize) -> Vec<f64> {
    let at = |row: isize, column: isize| {
        let inside = (0..SIDE as isize).contains(&row) && (0..SIDE as isize).contains(&column);
        if inside { image[row as usize * SIDE + column as usize] } else { 0.0 }
    };
    let places = (0..image.len() as isize).map(|pixel| (pixel / SIDE as isize, pixel % SIDE as isize));
    places.map(|(row, column)| at(row - down, column - right)).collect()
}

pub fn shifted(draw: &mut Draw<'_>) -> Vec<Ask> {
    let images = draw.cases(10, 40);
    let rows = images.iter().flat_map(|image| [image.clone(), moved(image, 0, 1), moved(image, 1, 0)]);
    let rows = rows.collect();
    draw.singly(rows, 0.3)
}

fn scaled(image: &[f64], gain: f64, base: f64) -> Vec<f64> {
    image.iter().map(|pixel| ((pixel * gain + base).clamp(0.0, 1.0) * 16.0).round() / 16.0).collect()
}

pub fn dark(draw: &mut Draw<'_>) -> Vec<Ask> {
    let (gain, base) = (draw.numbers.between(0.75, 0.95), draw.numbers.between(0.0, 0.07));
    let rows = draw.cases(60, 150).iter().map(|image| scaled(image, gain, base)).collect();
    draw.singly(rows, 1.0)
}

pub fn second_scans(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for sheet in draw.cases(15, 50) {
        rows.push(sheet.clone());
        for _ in 0..draw.numbers.whole(1, 3) {
            let noise = |numbers: &mut super::super::Numbers| [-1.0, 0.0, 0.0, 0.0, 1.0][numbers.whole(0, 4)];
            let scan = sheet.iter().map(|pixel| (pixel + noise(&mut draw.numbers) / 16.0).clamp(0.0, 1.0));
            rows.push(scan.collect());
        }
    }
    draw.singly(rows, 2.0)
}

pub fn binarised(draw: &mut Draw<'_>) -> Vec<Ask> {
    let images = draw.cases(40, 120);
    let black = |image: &Vec<f64>| image.iter().map(|pixel| f64::from(u8::from(*pixel > 0.5))).collect();
    let rows = images.iter().map(black).collect();
    draw.singly(rows, 1.0)
}

pub fn gains(draw: &mut Draw<'_>) -> Vec<Ask> {
    let images = draw.cases(15, 50);
    let rows = images.iter().flat_map(|image| [0.8, 1.0, 1.2].map(|gain| scaled(image, gain, 0.0)));
    let rows = rows.collect();
    draw.singly(rows, 0.5)
}

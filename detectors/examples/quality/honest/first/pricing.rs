//! Customers of a motor insurer. Columns: age, years of licence, value, age and power of the vehicle, km a year,
//! claims in five years, region, excess, payments a year.

use super::super::{Ask, Draw};

const EXCESSES: [f64; 5] = [0.0, 150.0, 300.0, 500.0, 1000.0];
const PAYMENTS: [f64; 4] = [1.0, 2.0, 4.0, 12.0];

fn with(row: &[f64], changes: &[(usize, f64)]) -> Vec<f64> {
    let mut changed = row.to_vec();
    for &(column, value) in changes {
        changed[column] = value;
    }
    changed
}

pub fn quotes(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(20, 200);
    draw.singly(rows, 4.0)
}

pub fn portfolio(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(100, 400);
    draw.in_batches(rows, 50, 2.0)
}

pub fn aggregator(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(400, 400);
    draw.singly(rows, 0.05)
}

pub fn shared_address(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for _ in 0..draw.numbers.whole(20, 60) {
        let customer = draw.case();
        rows.push(customer.clone());
        for _ in 0..draw.numbers.whole(0, 3) {
            let excess = *draw.numbers.pick(&EXCESSES);
            rows.push(with(&customer, &[(8, excess)]));
        }
    }
    draw.numbers.shuffle(&mut rows);
    draw.singly(rows, 0.2)
}

pub fn excess_chooser(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(10, 40) {
        let tried = if draw.numbers.chance(0.4) { EXCESSES.len() } else { 1 };
        rows.extend(EXCESSES[..tried].iter().map(|&excess| with(&customer, &[(8, excess)])));
    }
    draw.singly(rows, 3.0)
}

fn slide(draw: &mut Draw<'_>, customer: &[f64], stops: usize) -> Vec<Vec<f64>> {
    let (column, step, least) =
        *draw.numbers.pick(&[(5, 1000.0, 1000.0), (2, 500.0, 1000.0), (0, 1.0, 18.0)]);
    let start = (customer[column] - step * (stops / 2) as f64).max(least);
    (0..stops).map(|stop| with(customer, &[(column, start + step * stop as f64)])).collect()
}

pub fn short_slider(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(8, 25) {
        let stops = draw.numbers.whole(3, 8);
        rows.extend(slide(draw, &customer, stops));
    }
    draw.singly(rows, 1.0)
}

pub fn live_slider(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(3, 8) {
        let stops = draw.numbers.whole(6, 16);
        rows.extend(slide(draw, &customer, stops));
    }
    draw.singly(rows, 0.3)
}

pub fn what_if(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(10, 40) {
        rows.push(customer.clone());
        let other = draw.case();
        for _ in 0..draw.numbers.whole(1, 3) {
            let column = draw.numbers.whole(2, 9);
            rows.push(with(&customer, &[(column, other[column])]));
        }
    }
    draw.singly(rows, 5.0)
}

pub fn comparison(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(5, 25) {
        for excess in EXCESSES {
            rows.extend(PAYMENTS.iter().map(|&payments| with(&customer, &[(8, excess), (9, payments)])));
        }
    }
    draw.singly(rows, 0.2)
}

pub fn rate_card(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(1, 3) {
        for region in 0..20 {
            for excess in EXCESSES {
                let payments = *draw.numbers.pick(&PAYMENTS);
                rows.push(with(&customer, &[(7, f64::from(region)), (8, excess), (9, payments)]));
            }
        }
    }
    draw.in_batches(rows, 100, 5.0)
}

pub fn sorted(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(200, 500);
    rows.sort_by(|left, right| left[0].total_cmp(&right[0]).then(left[2].total_cmp(&right[2])));
    draw.in_batches(rows, 50, 1.0)
}

pub fn follow_up(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(20, 60) {
        let column = draw.numbers.whole(2, 6);
        let other = draw.case();
        rows.extend([customer.clone(), with(&customer, &[(column, other[column]), (8, other[8])])]);
    }
    draw.singly(rows, 60.0)
}

pub fn retry(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(30, 120) {
        rows.push(customer.clone());
        while draw.numbers.chance(0.2) {
            rows.push(customer.clone());
        }
    }
    draw.singly(rows, 0.7)
}

pub fn converted(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(20, 120);
    for row in &mut rows {
        row[4] = (row[4] * 1.359_62).round() * 0.735_499;
        row[5] = (row[5] / 1609.344).round() * 1609.344;
    }
    draw.singly(rows, 4.0)
}

pub fn drifted(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(60, 200);
    let dearer = draw.numbers.between(1.1, 1.4);
    for row in &mut rows {
        row[0] = (row[0] + 6.0).min(90.0);
        row[1] += 5.0;
        row[2] = (row[2] * dearer / 100.0).round() * 100.0;
    }
    draw.singly(rows, 3.0)
}

pub fn load(draw: &mut Draw<'_>) -> Vec<Ask> {
    let samples = draw.cases(20, 20);
    let rows = samples.iter().cycle().take(400).cloned().collect();
    draw.singly(rows, 0.01)
}

pub fn probe(draw: &mut Draw<'_>) -> Vec<Ask> {
    let samples = draw.cases(3, 3);
    let rows = samples.iter().cycle().take(150).cloned().collect();
    draw.singly(rows, 10.0)
}

pub fn backfill(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(400, 600);
    rows.sort_by(|left, right| left[0].total_cmp(&right[0]));
    draw.in_batches(rows, 200, 1.0)
}

pub fn pages(draw: &mut Draw<'_>) -> Vec<Ask> {
    let rows = draw.cases(200, 400);
    let pages = (0..rows.len().saturating_sub(50)).step_by(40);
    pages.map(|first| Ask { pause: 2.0, rows: rows[first..first + 50].to_vec() }).collect()
}

pub fn rounded(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = draw.cases(60, 200);
    for row in &mut rows {
        row[2] = (row[2] / 5000.0).round() * 5000.0;
        row[5] = (row[5] / 5000.0).round() * 5000.0;
    }
    draw.singly(rows, 3.0)
}

pub fn renewals(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(20, 80) {
        let value = (customer[2] * 0.9 / 100.0).round() * 100.0;
        let later = [(0, customer[0] + 1.0), (1, customer[1] + 1.0), (2, value), (3, customer[3] + 1.0)];
        rows.extend([customer.clone(), with(&customer, &later)]);
    }
    draw.singly(rows, 2.0)
}

pub fn fleet(draw: &mut Draw<'_>) -> Vec<Ask> {
    let company = draw.case();
    let mut rows = Vec::new();
    for vehicle in draw.cases(20, 80) {
        let of_vehicle: Vec<(usize, f64)> = (2..6).map(|column| (column, vehicle[column])).collect();
        rows.push(with(&company, &of_vehicle));
    }
    draw.in_batches(rows, 10, 20.0)
}

pub fn young_driver(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for family in draw.cases(8, 25) {
        rows.push(family.clone());
        for age in 0..draw.numbers.whole(1, 3) {
            rows.push(with(&family, &[(0, 18.0 + age as f64), (1, age as f64)]));
        }
    }
    draw.singly(rows, 8.0)
}

pub fn broker(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(4, 12) {
        let distance = (customer[5] / 1000.0).round() * 1000.0;
        for _ in 0..draw.numbers.whole(8, 15) {
            let terms = [
                (5, distance + 2000.0 * draw.numbers.whole(0, 2) as f64),
                (8, *draw.numbers.pick(&EXCESSES)),
                (9, *draw.numbers.pick(&PAYMENTS)),
            ];
            rows.push(with(&customer, &terms));
        }
    }
    draw.singly(rows, 6.0)
}

pub fn typing(draw: &mut Draw<'_>) -> Vec<Ask> {
    let mut rows = Vec::new();
    for customer in draw.cases(20, 80) {
        if draw.numbers.chance(0.3) {
            let (column, times) = *draw.numbers.pick(&[(2, 10.0), (5, 0.1), (4, 10.0)]);
            rows.push(with(&customer, &[(column, (customer[column] * times).round())]));
        }
        rows.push(customer);
    }
    draw.singly(rows, 5.0)
}

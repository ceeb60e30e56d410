//! Where attacks on wide rows are blocked, and that honest clients who send pictures never are.
//!
//! No stream of that width is recorded: pictures and the questions of attacks are made here, of the form that the
//! attacks' papers give, so the rows are an example and no measure of how many attacks are seen. A row that moves is a
//! change of behaviour: say why in the commit that changes it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use checkgate_detectors::reference::{Reference, Trust};
use support::{Request, Stream, client, engine, first_block, play, run};

const SIDE: usize = 32;
const WIDTH: usize = SIDE * SIDE * 3;

/// A small generator of numbers, the same on every run (Knuth's MMIX constants).
struct Numbers(u64);

impl Numbers {
    /// Evenly from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal with a deviation of 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() * limit as f64) as usize
    }
}

/// A spot of colour.
struct Spot {
    x: f64,
    y: f64,
    radius: f64,
    colour: [f64; 3],
}

/// Something to take pictures of: spots of colour, small and large, over 96 x 32 places.
struct Scene(Vec<Spot>);

impl Scene {
    fn new(seed: u64) -> Self {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
        let mut spot = || Spot {
            x: numbers.next() * 96.0,
            y: numbers.next() * SIDE as f64,
            radius: 2.0 + 14.0 * numbers.next() * numbers.next(),
            colour: [(); 3].map(|()| numbers.next() - 0.5),
        };
        Self((0..90).map(|_| spot()).collect())
    }

    /// A picture from `left` on, with so much noise, in steps of 1/255 as cameras give them.
    fn picture(&self, left: f64, noise: f64, seed: u64) -> Vec<f64> {
        let mut numbers = Numbers(seed);
        let mut picture = Vec::with_capacity(WIDTH);
        for place in 0..SIDE * SIDE {
            let (x, y) = (left + (place % SIDE) as f64, (place / SIDE) as f64);
            for channel in 0..3 {
                let light = |spot: &Spot| {
                    let far = ((x - spot.x) * (x - spot.x) + (y - spot.y) * (y - spot.y))
                        / (spot.radius * spot.radius);
                    spot.colour[channel] * (1.0 - far).max(0.0)
                };
                let value = 0.45 + self.0.iter().map(light).sum::<f64>() + noise * numbers.normal();
                picture.push((value.clamp(0.0, 1.0) * 255.0).round() / 255.0);
            }
        }
        picture
    }
}

fn trusted(scenes: impl Iterator<Item = Vec<f64>>) -> Reference {
    let features: Vec<String> = (0..WIDTH).map(|column| format!("p{column}")).collect();
    let mut text = serde_json::json!({ "features": features }).to_string();
    for (row, picture) in scenes.enumerate() {
        let share = 0.5 + 0.45 * (row % 10) as f64 / 10.0;
        text.push_str(&format!("\n{}", serde_json::json!({"x": picture, "p": [share, 1.0 - share]})));
    }
    Reference::from_json_lines(&text, Trust::Trusted).unwrap()
}

/// What the model usually sees: scenes of their own.
fn reference() -> Reference {
    trusted((0..150).map(|scene| Scene::new(10_000 + scene).picture(0.0, 0.004, scene)))
}

/// One request each `rows` rows, all answers sure.
fn stream(name: &str, rows: usize, pictures: Vec<Vec<f64>>) -> Stream {
    let request = |(number, rows): (usize, &[Vec<f64>])| Request {
        seconds: number as f64,
        rows: rows.to_vec(),
        predictions: vec![vec![0.9, 0.1]; rows.len()],
    };
    let requests = pictures.chunks(rows).enumerate().map(request).collect();
    Stream { name: name.to_owned(), requests }
}

fn moved(picture: &[f64], mut change: impl FnMut(usize) -> f64) -> Vec<f64> {
    picture.iter().enumerate().map(|(column, value)| (value + change(column)).clamp(0.0, 1.0)).collect()
}

/// Each question changes one more value for good (Guo et al., ICML 2019).
fn simba(victim: &[f64], numbers: &mut Numbers) -> Vec<Vec<f64>> {
    let mut now = victim.to_vec();
    (0..300)
        .map(|_| {
            let column = numbers.below(WIDTH);
            let step = if numbers.next() < 0.5 { 0.2 } else { -0.2 };
            now = moved(&now, |other| if other == column { step } else { 0.0 });
            now.clone()
        })
        .collect()
}

/// Each question changes one square, which stays where that helps (Andriushchenko et al., ECCV 2020).
fn square(victim: &[f64], numbers: &mut Numbers) -> Vec<Vec<f64>> {
    let stripes: Vec<f64> = (0..SIDE * 3).map(|_| if numbers.next() < 0.5 { 0.05 } else { -0.05 }).collect();
    let mut now = moved(victim, |column| stripes[column % (SIDE * 3)]);
    let mut asked = vec![now.clone()];
    for _ in 1..300 {
        let (left, top) = (numbers.below(SIDE - 8), numbers.below(SIDE - 8));
        let up = if numbers.next() < 0.5 { 0.05 } else { -0.05 };
        let in_square = |column: usize| {
            let (x, y) = (column / 3 % SIDE, column / 3 / SIDE);
            (left..left + 8).contains(&x) && (top..top + 8).contains(&y)
        };
        let next = now.iter().zip(victim).enumerate().map(|(column, (value, own))| {
            if in_square(column) { (own + up).clamp(0.0, 1.0) } else { *value }
        });
        let next: Vec<f64> = next.collect();
        asked.push(next.clone());
        if numbers.next() < 0.3 {
            now = next;
        }
    }
    asked
}

/// Batches of noise around one picture (Ilyas et al., ICML 2018).
fn nes(victim: &[f64], sigma: f64, numbers: &mut Numbers) -> Vec<Vec<f64>> {
    (0..300).map(|_| moved(victim, |_| sigma * numbers.normal())).collect()
}

/// Steps from a foreign picture toward the victim's (Brendel et al., ICLR 2018).
fn boundary(victim: &[f64], numbers: &mut Numbers) -> Vec<Vec<f64>> {
    let mut now = Scene::new(77).picture(0.0, 0.0, 77);
    let mut asked = Vec::new();
    for turn in 0..300 {
        let next = moved(&now, |_| 0.004 * numbers.normal());
        asked.push(next.clone());
        if turn % 3 == 0 {
            now = next.iter().zip(victim).map(|(value, own)| value + 0.03 * (own - value)).collect();
        }
    }
    asked
}

/// One coordinate after the other, a little up and a little down (Chen et al., AISec 2017).
fn zoo(victim: &[f64], numbers: &mut Numbers) -> Vec<Vec<f64>> {
    let mut pair = || {
        let column = numbers.below(WIDTH);
        [1e-4, -1e-4].map(|step| moved(victim, |other| if other == column { step } else { 0.0 }))
    };
    (0..150).flat_map(|_| pair()).collect()
}

fn attacks() -> Vec<Stream> {
    let victim = Scene::new(3).picture(0.0, 0.004, 3);
    let mut numbers = Numbers(11);
    vec![
        stream("simba", 1, simba(&victim, &mut numbers)),
        stream("square", 1, square(&victim, &mut numbers)),
        stream("zoo", 1, zoo(&victim, &mut numbers)),
        stream("nes, 50 a request", 50, nes(&victim, 0.004, &mut numbers)),
        stream("boundary", 1, boundary(&victim, &mut numbers)),
        stream("nes with more noise", 1, nes(&victim, 0.01, &mut numbers)),
        stream("nes with much noise", 1, nes(&victim, 0.02, &mut numbers)),
    ]
}

fn honest() -> Vec<Stream> {
    let shots = |each: u64, noise: f64| {
        let shot = move |number: u64| {
            let left = (number % each) as f64;
            Scene::new(20_000 + number / each).picture(left, noise, number)
        };
        (0..300).map(shot).collect::<Vec<_>>()
    };
    let panned = |step: f64| {
        let frame = move |number: u64| {
            let frames = (60.0 / step) as u64;
            let left = (number % frames) as f64 * step;
            Scene::new(30_000 + number / frames).picture(left, 0.004, number)
        };
        (0..300).map(frame).collect::<Vec<_>>()
    };
    vec![
        stream("single pictures", 1, shots(1, 0.004)),
        stream("single pictures, 20 a request", 20, shots(1, 0.004)),
        stream("three shots of each scene", 1, shots(3, 0.004)),
        stream("five shots of each scene", 1, shots(5, 0.008)),
        stream("a panning camera", 1, panned(2.0)),
        stream("a camera that pans slowly", 1, panned(1.0)),
    ]
}

fn block_of(stream: &Stream, reference: &Reference) -> Option<(usize, &'static str)> {
    let block = first_block(&run(stream, engine(Some(reference.clone()), &[])));
    println!("{:32} {block:?}", stream.name);
    block
}

#[test]
fn searches_around_a_picture_are_blocked_at_their_row() {
    let reference = reference();
    let found: Vec<_> = attacks().iter().map(|stream| block_of(stream, &reference)).collect();
    let by = |row| Some((row, "fingerprints"));
    assert_eq!(found, [by(11), by(10), by(10), by(100), by(146), by(98), None]);
}

#[test]
fn honest_clients_who_send_pictures_are_never_blocked() {
    let reference = reference();
    for stream in honest() {
        assert_eq!(block_of(&stream, &reference), None, "{}", stream.name);
    }
}

#[test]
fn a_camera_at_rest_is_spared_where_the_reference_knows_its_scene() {
    let scene = Scene::new(40_000);
    let frames = (0..100).map(|frame| scene.picture(0.0, 0.004, 1000 + frame)).collect();
    let others = (0..149).map(|scene| Scene::new(10_000 + scene).picture(0.0, 0.004, scene));
    let knows = trusted(others.chain([scene.picture(0.0, 0.004, 5)]));
    assert_eq!(block_of(&stream("a camera at rest", 1, frames), &knows), None);
}

/// Whatever others send between a victim's questions, the victim is judged by its own.
#[test]
fn near_copies_sent_by_others_block_no_victim() {
    let mut engine = engine(Some(reference()), &[]);
    let (mut id, mut others_blocked) = (0, false);
    let mut numbers = Numbers(4);
    for number in 0..10 {
        let picture = Scene::new(20_000 + number).picture(0.0, 0.004, number);
        for copy in 0..16_u16 {
            let rows = vec![moved(&picture, |_| 0.002 * numbers.normal())];
            let request = Request { seconds: id as f64, rows, predictions: vec![vec![0.9, 0.1]] };
            others_blocked |= !play(&mut engine, client(2 + copy % 2), id, &request).blocks.is_empty();
            id += 1;
        }
        let request = Request { seconds: id as f64, rows: vec![picture], predictions: vec![vec![0.9, 0.1]] };
        let out = play(&mut engine, client(1), id, &request);
        assert!(out.blocks.is_empty(), "framed at picture {number}: {:?}", out.records);
        id += 1;
    }
    assert!(others_blocked, "those who sent the copies");
}

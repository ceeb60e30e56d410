//! Requests as the load sends them: every one with rows that were not sent before.
//!
//! A proxy that looks into requests recognises a repeated row and has little to do with it, so a load that repeats
//! one body would flatter it. Two decimals of every number are drawn anew for each request; the length stays.

use std::fmt::Write as _;

use super::CLIENTS;

/// A request body by its size.
#[derive(Debug, PartialEq, Eq)]
pub struct Size {
    /// Its name.
    pub name: &'static str,
    /// Rows in it.
    pub rows: usize,
    /// Features of a row.
    pub columns: usize,
    /// Every so many-th number is drawn anew.
    pub fresh_every: usize,
}

/// All sizes, the smallest first.
pub const SIZES: &[Size] = &[
    Size { name: "0.25 KB", rows: 1, columns: 19, fresh_every: 1 },
    Size { name: "1 KB", rows: 1, columns: 104, fresh_every: 1 },
    Size { name: "10 KB", rows: 10, columns: 109, fresh_every: 1 },
    Size { name: "100 KB", rows: 100, columns: 109, fresh_every: 8 },
];

/// The size that the goals are about.
pub const USUAL: &Size = match SIZES {
    [_, usual, ..] => usual,
    _ => panic!("a list with one size"),
};

impl Size {
    /// The model that it is sent to: one for each size, since a model has rows of one width.
    #[must_use]
    pub fn model(&self) -> String {
        format!("pricing-{}x{}", self.rows, self.columns)
    }

    /// A body of the Open Inference Protocol with scaled features, as `json.dumps` of Python spaces it.
    #[must_use]
    pub fn body(&self, random: &mut Random) -> String {
        let (rows, columns) = (self.rows, self.columns);
        let mut body = format!(
            r#"{{"inputs": [{{"name": "input", "shape": [{rows}, {columns}], "datatype": "FP32", "data": ["#
        );
        for position in 0..rows * columns {
            let separator = if position == 0 { "" } else { ", " };
            let bell = (0..4).map(|_| random.unit()).sum::<f64>() - 2.0;
            // Writing to a string cannot fail.
            let _ = write!(body, "{separator}{bell:.5}");
        }
        body.push_str("]}]}");
        body
    }
}

/// How a contender is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// As a model is asked: POST to its path.
    Question,
    /// With the same body, but so that it asks no model: GET of a path that no model has.
    Plain,
}

impl Asked {
    /// Method and path.
    #[must_use]
    pub fn target(&self, size: &Size) -> (&'static str, String) {
        match self {
            Self::Question => ("POST", format!("/v2/models/{}/infer", size.model())),
            Self::Plain => ("GET", "/plain".to_owned()),
        }
    }
}

/// The head of a request of client number `client`.
#[must_use]
pub fn head(method: &str, path: &str, client: usize, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: models.example.com\r\nUser-Agent: python-requests/2.32.3\r\n\
         Accept: */*\r\nContent-Type: application/json\r\nX-API-Key: client-{client:06}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Requests without end, each of the next client and with fresh rows.
pub struct Requests {
    /// One for each client.
    buffers: Vec<Vec<u8>>,
    /// Where the fresh decimals stand.
    places: Vec<Vec<usize>>,
    random: Random,
    turn: usize,
}

impl Requests {
    /// Requests of that size.
    #[must_use]
    pub fn new(size: &Size, asked: &Asked, seed: u64) -> Self {
        let mut random = Random(seed);
        let body = size.body(&mut random);
        let (method, path) = asked.target(size);
        let whole = |client| format!("{}{body}", head(method, &path, client, body.len())).into_bytes();
        let buffers: Vec<Vec<u8>> = (0..CLIENTS).map(whole).collect();
        let places = buffers.iter().map(|buffer| fresh_places(buffer, body.len(), size)).collect();
        Self { buffers, places, random, turn: 0 }
    }

    /// The next one.
    pub fn fresh(&mut self) -> &[u8] {
        self.turn = (self.turn + 1) % self.buffers.len();
        let (Some(buffer), Some(places)) = (self.buffers.get_mut(self.turn), self.places.get(self.turn))
        else {
            return &[];
        };
        for place in places {
            if let Some([tenths, hundredths]) = buffer.get_mut(*place..*place + 2) {
                let drawn = self.random.below(100);
                (*tenths, *hundredths) = (b'0' + drawn / 10, b'0' + drawn % 10);
            }
        }
        buffer
    }
}

/// Places of the first two decimals of the numbers that are drawn anew.
fn fresh_places(request: &[u8], body_length: usize, size: &Size) -> Vec<usize> {
    let body = request.len() - body_length;
    let points = request.iter().enumerate().skip(body).filter(|(_, byte)| **byte == b'.');
    points.map(|(place, _)| place + 1).step_by(size.fresh_every).collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to and without 1.
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number from 0 up to and without `bound`.
    pub fn below(&mut self, bound: u8) -> u8 {
        u8::try_from((u128::from(self.draw()) * u128::from(bound)) >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_size_that_they_are_called_by() {
        for size in SIZES {
            let kilobytes: f64 = size.name.split(' ').next().unwrap().parse().unwrap();
            let share = size.body(&mut Random(1)).len() as f64 / (kilobytes * 1024.0);
            assert!((0.9..1.1).contains(&share), "{}: {share}", size.name);
        }
        assert_eq!(USUAL.columns, 104);
    }

    #[test]
    fn every_request_is_json_of_one_length_with_rows_of_its_own() {
        for size in SIZES {
            let mut requests = Requests::new(size, &Asked::Question, 7);
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..100 {
                let request = String::from_utf8(requests.fresh().to_vec()).unwrap();
                let (head, body) = request.split_once("\r\n\r\n").unwrap();
                assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
                serde_json::from_str::<serde_json::Value>(body).unwrap();
                assert!(seen.insert(body.to_owned()), "a body came twice");
            }
        }
    }
}

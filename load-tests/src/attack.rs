//! The simplest attack there is, and the simplest honest client, on a tariff: for tests of what follows a block.

use http::StatusCode;

use crate::client::{Client, Reply};
use crate::inference;

/// The model that is asked.
pub const MODEL: &str = "pricing";

/// One customer with everything as it is but the age, which is swept: row `step` of the attack.
#[must_use]
pub fn sweep_row(step: u32) -> Vec<f64> {
    vec![18.0 + f64::from(step) * 0.25, 12.0, 16_000.0, 4.0, 90.0, 15_000.0, 0.0, 7.0, 300.0, 1.0]
}

/// A customer of its own for each `number` and `seed`: no two share more than a few fields.
#[must_use]
pub fn honest_row(seed: u32, number: u32) -> Vec<f64> {
    let at = |field: u32, values: u32| f64::from(mixed(seed, number, field) % values);
    let age = 18.0 + at(0, 60);
    let value = 2_000.0 + 100.0 * at(2, 500);
    let distance = 4_000.0 + 100.0 * at(5, 300);
    vec![
        age,
        at(1, 40),
        value,
        at(3, 18),
        40.0 + at(4, 160),
        distance,
        at(6, 4),
        at(7, 20),
        150.0 * at(8, 7),
        at(9, 4),
    ]
}

/// A fixed scramble of three numbers (the finaliser of MurmurHash3, by Austin Appleby).
fn mixed(seed: u32, number: u32, field: u32) -> u32 {
    let mut hash =
        seed.wrapping_mul(0x9e37_79b9) ^ number.wrapping_mul(0x85eb_ca6b) ^ field.wrapping_mul(0xc2b2_ae35);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// Asks [`MODEL`] about one row.
///
/// # Errors
/// Where no whole answer comes.
pub async fn ask(client: &mut Client, row: Vec<f64>) -> anyhow::Result<Reply> {
    ask_model(client, MODEL, row).await
}

/// Asks `model` about one row.
///
/// # Errors
/// Where no whole answer comes.
pub async fn ask_model(client: &mut Client, model: &str, row: Vec<f64>) -> anyhow::Result<Reply> {
    client.post(&inference::infer_path(model), inference::question(&[row]).to_string()).await
}

/// What came of a sweep.
#[derive(Debug)]
pub struct Swept {
    /// Rows that were answered.
    pub answered: u32,
    /// The refusal that ended it, or nothing where it went through.
    pub refusal: Option<Reply>,
}

/// Sweeps [`MODEL`] with up to `steps` rows, until it is refused.
///
/// # Errors
/// Where an answer is neither 200 nor 403.
pub async fn sweep(client: &mut Client, steps: u32) -> anyhow::Result<Swept> {
    sweep_model(client, MODEL, steps).await
}

/// Sweeps `model` with up to `steps` rows, until it is refused.
///
/// # Errors
/// Where an answer is neither 200 nor 403.
pub async fn sweep_model(client: &mut Client, model: &str, steps: u32) -> anyhow::Result<Swept> {
    for step in 0..steps {
        let reply = ask_model(client, model, sweep_row(step)).await?;
        match reply.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => return Ok(Swept { answered: step, refusal: Some(reply) }),
            other => anyhow::bail!("row {step} was answered with {other}: {}", reply.text()),
        }
    }
    Ok(Swept { answered: steps, refusal: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_rows_differ_from_each_other_in_many_fields() {
        for number in 0..200 {
            for other in 0..number {
                let (row, earlier) = (honest_row(1, number), honest_row(1, other));
                let differing = row.iter().zip(&earlier).filter(|(a, b)| a != b).count();
                assert!(differing >= 3, "rows {other} and {number} differ in {differing} fields only");
            }
        }
    }
}

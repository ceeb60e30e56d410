//! The second act: branches ask for renewals, their customers change for a while, and the proxy tells of the drift.
//!
//! What is drift is judged against quotes like those that the model learned from, frozen into a reference before the
//! curtain rises. Nobody is an attacker here, and nobody is blocked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use checkgate_detectors::drift::bins::Value;
use checkgate_detectors::drift::reference::{Column, DriftReference, Settings, Table};
use checkgate_detectors::facts::Time;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::caller::{Caller, http_client};
use super::event::Reply;
use super::model_server::RENEWALS;
use super::random::Random;
use super::tariff::{AGE, LICENCE_YEARS, NAMES, Portfolio, Quote, draw_quote};
use crate::reference::file::{self, Header};

/// The branches.
pub const BRANCHES: [&str; 6] =
    ["branch Nord", "branch Sued", "branch Ost", "branch West", "branch Mitte", "branch Hafen"];
/// Quotes that the reference is made of.
const REFERENCE_QUOTES: usize = 10_000;
/// Rows of a stretch of the reference.
const STRETCH_ROWS: u32 = 400;
/// Microseconds between two quotes of the reference: the branches ask about as fast.
const QUOTE_EVERY: u64 = 500;
/// Quotes of a branch in one request.
const BATCH: usize = 20;
/// Between two rounds of all branches.
const ROUND_EVERY: Duration = Duration::from_millis(50);
/// A longer answer of the operators' listener is not read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Writes the reference that renewals are compared with; gives its file.
///
/// # Errors
/// Fails where it cannot be made or written.
pub fn write_reference(folder: &Path, random: &mut Random) -> anyhow::Result<PathBuf> {
    let quotes = Portfolio::draw(REFERENCE_QUOTES, random).quotes;
    let column = |(field, name): (usize, &&str)| Column {
        name: (*name).to_owned(),
        values: quotes
            .iter()
            .map(|quote| quote.get(field).map_or(Value::Missing, |cell| Value::Number(*cell)))
            .collect(),
    };
    let table = Table {
        columns: NAMES.iter().enumerate().map(column).collect(),
        times: (0..quotes.len() as u64).map(|row| Time(row * QUOTE_EVERY)).collect(),
    };
    let settings = Settings { stretch_rows: STRETCH_ROWS, ..Settings::default() };
    let reference = DriftReference::of(&table, &settings).context("the quotes are no reference")?;
    let path = folder.join("renewals.reference");
    std::fs::write(&path, file::write(Header::default(), &reference, None)?)
        .context("the reference cannot be written")?;
    Ok(path)
}

/// The branches' part: they ask as ever, then for young drivers, then as ever again. Each part lasts until the proxy says
/// so, and for `part` at least.
///
/// # Errors
/// Fails where no answer comes, or another one than prices.
pub async fn act(
    branches: Vec<Caller>,
    admin: SocketAddr,
    part: Duration,
    mut random: Random,
) -> anyhow::Result<()> {
    let (http, speaker) = (http_client(), branches.first().context("there is no branch")?);
    let mut stage = Stage { branches: &branches, http, admin, part, random: &mut random };
    stage.ask_until(&draw_quote, |state| !["learning", "warming"].contains(&state)).await?;
    speaker.say("renewals look like the reference; now a campaign for young drivers begins").await;
    stage.ask_until(&young, |state| state == "drifting").await?;
    speaker.say("the campaign is over, customers are as before").await;
    stage.ask_until(&draw_quote, |state| state != "drifting").await
}

/// A customer of the campaign: years younger than those whom the model learned from.
fn young(random: &mut Random) -> Quote {
    let mut quote = draw_quote(random);
    for (field, least) in [(AGE, 18.0), (LICENCE_YEARS, 0.0)] {
        if let Some(cell) = quote.get_mut(field) {
            *cell = (least + (*cell - least) * 0.3_f64).round();
        }
    }
    quote
}

struct Stage<'a> {
    branches: &'a [Caller],
    http: Client<HttpConnector, Full<Bytes>>,
    admin: SocketAddr,
    part: Duration,
    random: &'a mut Random,
}

impl Stage<'_> {
    async fn ask_until(
        &mut self,
        draw: &(dyn Fn(&mut Random) -> Quote + Send + Sync),
        is_done: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let least = Instant::now() + self.part;
        while !is_done(&self.state().await?) || Instant::now() < least {
            let mut round = JoinSet::new();
            for branch in self.branches {
                let quotes: Vec<Quote> = (0..BATCH).map(|_| draw(self.random)).collect();
                let branch = branch.clone();
                round.spawn(async move { branch.prices(&quotes).await });
            }
            while let Some(reply) = round.join_next().await {
                match reply?? {
                    Reply::Prices(_) => {}
                    other => bail!("a branch did not get its prices: {other:?}"),
                }
            }
            tokio::time::sleep(ROUND_EVERY).await;
        }
        Ok(())
    }

    /// How the drift of the renewals stands, as operators are told.
    async fn state(&self) -> anyhow::Result<String> {
        let uri = format!("http://{}/v1/models/{RENEWALS}/drift?features=1", self.admin).parse()?;
        let response = self.http.get(uri).await.context("the operators' listener does not answer")?;
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
        let told: serde_json::Value = serde_json::from_slice(&body).context("the answer is not JSON")?;
        let state = told.get("state").and_then(serde_json::Value::as_str);
        Ok(state.with_context(|| format!("the answer tells no state: {told}"))?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::regression::Regression;
    use super::*;

    #[test]
    fn the_reference_reads_back_and_knows_every_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_reference(folder.path(), &mut Random::new(11)).unwrap();
        let read = file::load(&path, None).unwrap().reference;
        let names: Vec<&str> = read.features().iter().map(|feature| feature.name.as_str()).collect();
        assert_eq!(names, NAMES);
        assert_eq!(read.rows(), REFERENCE_QUOTES as u64);
    }

    #[test]
    fn the_campaign_brings_young_drivers_whose_prices_are_positive() {
        let model = Regression::fit(&Portfolio::draw(3_000, &mut Random::new(11))).unwrap();
        let mut random = Random::new(4);
        let quotes: Vec<Quote> = (0..2_000).map(|_| young(&mut random)).collect();
        assert!(quotes.iter().all(|quote| (18.0..40.0).contains(&quote[AGE])));
        let lowest = quotes.iter().map(|quote| model.price(quote)).fold(f64::MAX, f64::min);
        assert!(lowest > 0.0, "a customer would be offered {lowest}");
    }
}

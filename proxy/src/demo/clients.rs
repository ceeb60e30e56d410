//! Honest clients: brokers, a comparison portal and customers who try a few values by hand.
//!
//! Their schedules follow from a seed. What they ask looks like prodding to a careless detector: portals send
//! grids, and people move one slider at a time.

use std::sync::Arc;
use std::time::Duration;

use super::caller::{Caller, Person};
use super::event::Role;
use super::random::Random;
use super::tariff::{EXCESS, EXCESSES, INSTALMENTS, MILEAGE, PAYMENTS, Quote, draw_quote};

/// What a client does all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// A broker's quote form: one quote for each customer.
    Form,
    /// A comparison portal: every excess and every payment plan for each customer, in one batch.
    Grid,
    /// A customer who varies a few values of one quote by hand.
    WhatIf,
}

/// One request of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    /// Time since the request before.
    pub pause: Duration,
    /// The rows to ask.
    pub quotes: Vec<Quote>,
    /// The same in words.
    pub question: String,
}

/// The honest clients by name and habit.
pub const CLIENTS: [(&str, Habit); 6] = [
    ("broker Ada", Habit::Form),
    ("broker Ben", Habit::Form),
    ("broker Cleo", Habit::Form),
    ("portal", Habit::Grid),
    ("customer Dan", Habit::WhatIf),
    ("customer Eve", Habit::WhatIf),
];

/// The person behind a name.
#[must_use]
pub fn person(name: &str, role: Role) -> Person {
    let key = format!("demo-{}", name.to_lowercase().replace(' ', "-"));
    Person { name: Arc::from(name), key, role }
}

/// Asks like `habit` until it is dropped.
///
/// # Errors
/// Fails where no answer comes at all.
pub async fn visit(caller: Caller, habit: Habit, mut random: Random) -> anyhow::Result<()> {
    loop {
        for visit in errand(habit, &mut random) {
            tokio::time::sleep(visit.pause).await;
            caller.ask(&visit.quotes, visit.question).await?;
        }
    }
}

/// The requests that one customer gives rise to.
#[must_use]
pub fn errand(habit: Habit, random: &mut Random) -> Vec<Visit> {
    let quote = draw_quote(random);
    match habit {
        Habit::Form => vec![Visit::new(pause(random, 0.35), vec![quote], "one customer's quote".to_owned())],
        Habit::Grid => vec![grid(&quote, random)],
        Habit::WhatIf => what_if(&quote, random),
    }
}

impl Visit {
    fn new(pause: Duration, quotes: Vec<Quote>, question: String) -> Self {
        Self { pause, quotes, question }
    }
}

fn pause(random: &mut Random, seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds * random.between(0.5, 1.5))
}

fn grid(quote: &Quote, random: &mut Random) -> Visit {
    let mut quotes = Vec::new();
    for excess in EXCESSES {
        quotes.extend(INSTALMENTS.map(|payments| with(&with(quote, EXCESS, excess), PAYMENTS, payments)));
    }
    let count = quotes.len();
    Visit::new(pause(random, 0.8), quotes, format!("a batch of {count} quotes"))
}

/// The quote itself, then other values of at most three fields, one at a time.
fn what_if(quote: &Quote, random: &mut Random) -> Vec<Visit> {
    let mut visits = vec![Visit::new(pause(random, 1.2), vec![*quote], "my car".to_owned())];
    let mileage = [4_000.0, 8_000.0, 16_000.0, 24_000.0].map(|value| (MILEAGE, value, "km_year"));
    let excess = [0.0, 300.0, 1_000.0].map(|value| (EXCESS, value, "excess"));
    let payments = [1.0, 12.0].map(|value| (PAYMENTS, value, "payments"));
    for (field, value, name) in mileage.into_iter().chain(excess).chain(payments) {
        if random.chance(0.6) {
            let question = format!("my car, with {name} {value}");
            visits.push(Visit::new(pause(random, 0.6), vec![with(quote, field, value)], question));
        }
    }
    visits
}

/// `quote` with another value in one field.
#[must_use]
pub fn with(quote: &Quote, field: usize, value: f64) -> Quote {
    let mut other = *quote;
    if let Some(cell) = other.get_mut(field) {
        *cell = value;
    }
    other
}

#[cfg(test)]
mod tests {
    use super::super::regression::Regression;
    use super::super::tariff::Portfolio;
    use super::*;

    fn quotes_of(habit: Habit, seed: u64) -> Vec<Quote> {
        let mut random = Random::new(seed);
        (0..300).flat_map(|_| errand(habit, &mut random)).flat_map(|visit| visit.quotes).collect()
    }

    #[test]
    fn one_seed_gives_one_schedule() {
        for (name, habit) in CLIENTS {
            let draw = |seed| errand(habit, &mut Random::new(seed));
            assert_eq!(draw(4), draw(4), "{name} behaves differently the second time");
            assert_ne!(draw(4), draw(5), "{name} always asks the same");
        }
    }

    #[test]
    fn no_honest_question_has_a_negative_answer() {
        let model = Regression::fit(&Portfolio::draw(3_000, &mut Random::new(11))).unwrap();
        for (name, habit) in CLIENTS {
            let lowest = quotes_of(habit, 9).iter().map(|quote| model.price(quote)).fold(f64::MAX, f64::min);
            assert!(lowest > 50.0, "{name} would be offered {lowest}");
        }
    }
}

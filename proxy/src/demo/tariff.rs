//! A motor insurance portfolio: quotes that people ask for, and what the insurer's books say they should cost.
//!
//! The tariff is made up, but shaped like real ones: a damage part that follows the car's worth, a liability part
//! in which young drivers, claims and mileage multiply, discounts for an excess, and noise on top.

use super::random::Random;

/// Columns of a quote.
pub const FIELDS: usize = 10;

/// One request for a price: the values of [`NAMES`], in that order.
pub type Quote = [f64; FIELDS];

/// Names of the columns.
pub const NAMES: [&str; FIELDS] = [
    "age",
    "licence_years",
    "vehicle_value",
    "vehicle_age",
    "power_kw",
    "km_year",
    "claims_5y",
    "region",
    "excess",
    "payments",
];

/// Column of the driver's age, in years.
pub const AGE: usize = 0;
/// Column of the years since the driver's test.
pub const LICENCE_YEARS: usize = 1;
/// Column of the car's worth, in euros.
pub const VEHICLE_VALUE: usize = 2;
/// Column of the car's age, in years.
pub const VEHICLE_AGE: usize = 3;
/// Column of the engine's power, in kilowatts.
pub const POWER: usize = 4;
/// Column of the distance driven in a year, in kilometres.
pub const MILEAGE: usize = 5;
/// Column of the part of a damage that the driver pays, in euros.
pub const EXCESS: usize = 8;
/// Column of the number of payments a year.
pub const PAYMENTS: usize = 9;

/// Excesses that the insurer sells, in euros.
pub const EXCESSES: [f64; 5] = [0.0, 150.0, 300.0, 500.0, 1000.0];
/// Payments a year that the insurer takes.
pub const INSTALMENTS: [f64; 4] = [1.0, 2.0, 4.0, 12.0];

/// Quotes with the prices that a model is to learn.
#[derive(Clone, Debug, Default)]
pub struct Portfolio {
    /// What was asked.
    pub quotes: Vec<Quote>,
    /// What it cost, in euros a year; as many as `quotes`.
    pub prices: Vec<f64>,
}

impl Portfolio {
    /// Draws `size` quotes and their noisy prices.
    #[must_use]
    pub fn draw(size: usize, random: &mut Random) -> Self {
        let quotes: Vec<Quote> = (0..size).map(|_| draw_quote(random)).collect();
        let prices = quotes.iter().map(|quote| premium(quote) * (1.0 + 0.04 * random.normal())).collect();
        Self { quotes, prices }
    }
}

/// A quote as an ordinary customer asks for it.
pub fn draw_quote(random: &mut Random) -> Quote {
    let age = (46.0 + 15.0 * random.normal()).clamp(18.0, 84.0).round();
    let vehicle_age = random.between(0.0, 17.0).floor();
    let new_value = 22_000.0 * (0.35 * random.normal()).exp();
    [
        age,
        (age - 18.0 - random.between(0.0, 6.0)).max(0.0).floor(),
        round_to(new_value * 0.91f64.powf(vehicle_age), 100.0),
        vehicle_age,
        (85.0 + 28.0 * random.normal()).clamp(35.0, 190.0).round(),
        round_to((12_500.0 + 5_000.0 * random.normal()).clamp(2_000.0, 32_000.0), 100.0),
        f64::from(u8::from(random.chance(0.22)) + u8::from(random.chance(0.07))),
        random.between(1.0, 20.0).floor(),
        random.pick(&EXCESSES),
        random.pick(&INSTALMENTS),
    ]
}

fn round_to(value: f64, step: f64) -> f64 {
    (value / step).round() * step
}

/// What a quote costs in a year by the books, in euros, before noise.
fn premium(quote: &Quote) -> f64 {
    let [age, licence_years, value, _, power, mileage, claims, region, excess, payments] = *quote;
    let damage = 95.0 + 0.021 * value * (1.0 - 0.36 * (excess / 1000.0));
    let youth = 1.0 + 0.9 * (-(age - 18.0) / 7.0).exp() + 0.25 * (-licence_years / 3.0).exp();
    let liability = 205.0 * youth * (mileage / 12_000.0).powf(0.4) * (power / 85.0).powf(0.35);
    let zone = 0.86 + 0.015 * region;
    let instalments = 1.0 + 0.004 * payments;
    (damage + liability * zone * 1.27f64.powf(claims)) * instalments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_draws_one_portfolio_of_plausible_prices() {
        let portfolio = Portfolio::draw(2_000, &mut Random::new(3));
        let again = Portfolio::draw(2_000, &mut Random::new(3));
        assert_eq!(portfolio.prices, again.prices);
        assert_eq!(portfolio.prices.len(), portfolio.quotes.len());
        let implausible = portfolio.prices.iter().find(|price| !(120.0..4_000.0).contains(*price));
        assert_eq!(implausible, None, "no customer pays such a price");
    }

    #[test]
    fn the_books_never_say_that_a_customer_is_paid_for_driving() {
        let mut quote = draw_quote(&mut Random::new(5));
        quote[VEHICLE_VALUE] = 0.0;
        quote[EXCESS] = 1_000.0;
        assert!(premium(&quote) > 0.0, "{quote:?}");
    }
}

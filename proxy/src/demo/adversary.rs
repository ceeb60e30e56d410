//! An adversary that hunts the cheapest price: it knows nothing of the model but the answers.
//!
//! It starts from a quote that anybody could ask for, pulls one field after the other to extremes that no form
//! would offer, keeps whatever is cheaper, and goes on in growing steps. Where a price is refused it has found an
//! edge, and halves its steps to come as close to it as it can. At the end it maps the tariff in even steps.

use std::ops::ControlFlow;
use std::time::Duration;

use super::caller::Caller;
use super::clients::with;
use super::event::Reply;
use super::tariff::{EXCESS, MILEAGE, NAMES, POWER, Quote, VEHICLE_AGE, VEHICLE_VALUE};

/// An ordinary quote for an ordinary car.
pub const START: Quote = [45.0, 25.0, 9_000.0, 8.0, 70.0, 10_000.0, 0.0, 8.0, 500.0, 1.0];

/// Fields in the order in which they are pulled: first what a driver may say without being found out.
const PULLED: [usize; 5] = [EXCESS, MILEAGE, POWER, VEHICLE_VALUE, VEHICLE_AGE];

/// The first pull on a field, as a multiple of its value.
const PULL: f64 = 6.0;
/// Pulls on one field before the next has its turn.
const PULLS_MAX: u32 = 4;
/// Values in the map of one field.
const MAP_VALUES: u32 = 40;

/// A hunt under way.
#[derive(Debug)]
pub struct Hunt {
    caller: Caller,
    pause: Duration,
    best: Quote,
    price: f64,
}

/// What the hunt ended with.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The key was blocked.
    Blocked,
    /// Nobody stopped it.
    Finished {
        /// The cheapest price it was offered, in euros.
        price: f64,
    },
}

/// A hunt goes on with a value, or breaks off: blocked, or no answer at all.
type Step<T> = ControlFlow<anyhow::Result<Ending>, T>;

/// What a price hunter learns from a reply.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Offer {
    Price(f64),
    Refused,
}

impl Hunt {
    /// A hunt that asks through `caller` and takes `pause` to think between two questions.
    #[must_use]
    pub fn new(caller: Caller, pause: Duration) -> Self {
        Self { caller, pause, best: START, price: f64::INFINITY }
    }

    /// Hunts until it is blocked or has tried everything.
    ///
    /// # Errors
    /// Fails where no answer comes at all.
    pub async fn run(&mut self) -> anyhow::Result<Ending> {
        match self.search().await {
            ControlFlow::Break(ending) => ending,
            ControlFlow::Continue(()) => Ok(Ending::Finished { price: self.price }),
        }
    }

    /// Asks for the best quote again, with the same key.
    ///
    /// # Errors
    /// Fails where no answer comes at all.
    pub async fn retry(&self) -> anyhow::Result<Reply> {
        self.caller.ask(&[self.best], "the best quote so far".to_owned()).await
    }

    async fn search(&mut self) -> Step<()> {
        self.caller.say("hunts the cheapest price: an ordinary quote first").await;
        if let Offer::Price(price) = self.offer(START, "an ordinary quote".to_owned()).await? {
            self.price = price;
        }
        for field in PULLED {
            self.pull(field).await?;
        }
        for field in PULLED {
            self.map(field).await?;
        }
        ControlFlow::Continue(())
    }

    /// Pulls one field to an extreme, and further in growing steps while the price falls.
    async fn pull(&mut self, field: usize) -> Step<()> {
        self.caller.say(format!("pulls {} to extremes", name(field))).await;
        let mut value = self.value(field).max(1.0) * PULL;
        for _ in 0..PULLS_MAX {
            match self.try_value(field, value).await? {
                Offer::Price(price) if price < self.price => self.accept(field, value, price),
                Offer::Price(_) => return ControlFlow::Continue(()),
                Offer::Refused => return self.squeeze(field, value).await,
            }
            value *= 2.0;
        }
        ControlFlow::Continue(())
    }

    /// Halves the way from the best value to a refused one, to whole numbers.
    async fn squeeze(&mut self, field: usize, mut refused: f64) -> Step<()> {
        self.caller.say(format!("has found an edge, and halves its steps in {}", name(field))).await;
        while (refused - self.value(field)).abs() > 1.0 {
            let middle = ((refused + self.value(field)) / 2.0).round();
            match self.try_value(field, middle).await? {
                Offer::Price(price) if price < self.price => self.accept(field, middle, price),
                Offer::Price(_) | Offer::Refused => refused = middle,
            }
        }
        ControlFlow::Continue(())
    }

    /// Maps the tariff along one field in even steps.
    async fn map(&mut self, field: usize) -> Step<()> {
        self.caller.say(format!("maps the tariff along {}", name(field))).await;
        let step = (START.get(field).copied().unwrap_or_default() / 10.0).max(1.0).round();
        for position in 1..=MAP_VALUES {
            self.try_value(field, f64::from(position) * step).await?;
        }
        ControlFlow::Continue(())
    }

    async fn try_value(&self, field: usize, value: f64) -> Step<Offer> {
        self.offer(with(&self.best, field, value), format!("{} {value}", name(field))).await
    }

    async fn offer(&self, quote: Quote, question: String) -> Step<Offer> {
        tokio::time::sleep(self.pause).await;
        match self.caller.ask(&[quote], question).await {
            Ok(Reply::Blocked { .. }) => ControlFlow::Break(Ok(Ending::Blocked)),
            Ok(Reply::Prices(prices)) => {
                ControlFlow::Continue(prices.first().map_or(Offer::Refused, |p| Offer::Price(*p)))
            }
            Ok(Reply::Refused(_) | Reply::Failed(..)) => ControlFlow::Continue(Offer::Refused),
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }

    fn accept(&mut self, field: usize, value: f64, price: f64) {
        self.best = with(&self.best, field, value);
        self.price = price;
    }

    fn value(&self, field: usize) -> f64 {
        self.best.get(field).copied().unwrap_or_default()
    }
}

fn name(field: usize) -> &'static str {
    NAMES.get(field).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::super::clients::person;
    use super::super::event::{Event, Role};
    use super::super::model_server::ModelServer;
    use super::super::random::Random;
    use super::super::regression::Regression;
    use super::super::tariff::Portfolio;
    use super::*;

    /// Hunts a model of its own, without a proxy in between; gives the prices in the order of the questions.
    async fn hunt_unprotected(seed: u64) -> Vec<f64> {
        let model = Regression::fit(&Portfolio::draw(3_000, &mut Random::new(seed))).unwrap();
        let (events, mut heard) = mpsc::channel(1_024);
        let adversary = person("adversary", Role::Adversary);
        let keys = HashMap::from([(adversary.key.clone(), Arc::clone(&adversary.name))]);
        let server = ModelServer::start(model, keys, events.clone()).await.unwrap();
        let caller = Caller::new(adversary, server.address, events);
        let ending = Hunt::new(caller, Duration::ZERO).run().await.unwrap();
        assert!(
            matches!(ending, Ending::Finished { .. }),
            "nobody is there to block it, but it ended with {ending:?}"
        );
        let mut offers = Vec::new();
        while let Ok(event) = heard.try_recv() {
            if let Event::Exchanged(exchange) = event {
                let Reply::Prices(prices) = exchange.reply else {
                    panic!("no price but {:?}", exchange.reply)
                };
                offers.extend(prices);
            }
        }
        offers
    }

    #[tokio::test]
    async fn an_unprotected_model_is_broken_before_a_detector_could_know() {
        for seed in [1, 2, 3, 11] {
            let offers = hunt_unprotected(seed).await;
            let first = offers.iter().position(|price| *price < 0.0);
            // A sweep is a sweep at 12 values of one field, so no content detector can speak before.
            let early = first.is_some_and(|first| first < 11);
            assert!(early, "seed {seed}: the first negative price came at {first:?} of {}", offers.len());
        }
    }
}

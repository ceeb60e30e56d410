//! The wrapper around every sink, with a scripted one inside, on virtual time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use checkgate_detectors::facts::Time;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::super::courier::{Courier, Order, Ready, Shown, Well};
use super::super::cursor::Cursor;
use super::super::dead::DeadLetters;
use super::super::office::{Premises, keep};
use super::super::spool::Spool;
use super::super::{Event, SINKS, Sink, SinkError};
use super::{book, settings};
use crate::ledger::book::Bounds;
use crate::ledger::disk::Disk;
use crate::ledger::disk::faulty::Memory;
use crate::ledger::line::tests::entry;
use crate::ledger::store::Store;
use crate::metrics::Metrics;

type Script = Box<dyn Fn(Duration, &[u64]) -> Result<(), SinkError> + Send + Sync>;

/// Answers as a script says, and keeps what it took.
struct Scripted {
    script: Script,
    took: Mutex<Vec<u64>>,
    began: Instant,
}

impl Sink for Scripted {
    fn send<'a>(&'a self, batch: &'a [Event]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let numbers: Vec<u64> = batch.iter().map(|event| event.number).collect();
            (self.script)(self.began.elapsed(), &numbers)?;
            self.took.lock().extend(numbers);
            Ok(())
        })
    }

    fn target(&self) -> String {
        "nowhere".into()
    }
}

/// A log, and a sink that reads it.
struct Place {
    state: tempfile::TempDir,
    store: Store,
    disk: Memory,
    written: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    sink: Arc<Scripted>,
}

/// The age of entries at [`long_after`] is a day and more.
fn long_after() -> Time {
    Time(2 * 86_400_000_000)
}

fn just_after() -> Time {
    Time(60_000_000)
}

impl Place {
    fn new(script: impl Fn(Duration, &[u64]) -> Result<(), SinkError> + Send + Sync + 'static) -> Self {
        let disk = Memory::default();
        let on: Arc<dyn Disk> = Arc::new(disk.clone());
        let (store, ..) = Store::open(&on, Bounds::default(), 4096).unwrap();
        let script = Box::new(script);
        Self {
            state: tempfile::tempdir().unwrap(),
            store,
            disk,
            written: watch::Sender::new(0),
            metrics: Metrics::new(&[], &[]).unwrap(),
            sink: Arc::new(Scripted { script, took: Mutex::default(), began: Instant::now() }),
        }
    }

    fn append(&mut self, numbers: std::ops::RangeInclusive<u64>) {
        let last = *numbers.end();
        let entries: Vec<_> = numbers.map(entry).map(Arc::new).collect();
        let batch = self.store.batch(entries.iter(), usize::MAX);
        self.store.write(&batch).unwrap();
        self.written.send_replace(last);
    }

    fn start(
        &self,
        now: fn() -> Time,
        change: impl FnOnce(&mut checkgate_config::settings::Sink),
    ) -> (JoinHandle<()>, watch::Sender<Order>, Arc<Mutex<Shown>>) {
        let mut settings = settings("tried", &SINKS[0], Value::Null);
        change(&mut settings);
        let shown = Arc::new(Mutex::new(Shown {
            name: "tried".into(),
            part: "scripted".into(),
            target: "nowhere".into(),
            state: "works",
            position: 0,
            backlog_entries: 0,
            backlog_age_seconds: 0,
            delivered: 0,
            last_delivered: None,
            last_error: None,
        }));
        let well = Well {
            spool: Spool::new(Arc::new(self.disk.clone())),
            written: self.written.subscribe(),
            about: book(),
            instance: "cg-0".into(),
            now,
        };
        let ready = Ready { settings: Arc::new(settings), sink: Arc::clone(&self.sink) as Arc<dyn Sink> };
        let files = (Cursor::new(self.path(), "tried"), DeadLetters::new(self.path(), "tried"));
        let courier = Courier::new(ready, well, files, self.metrics.sink("tried"), Arc::clone(&shown));
        let (orders, ordered) = watch::channel(Order::Go);
        (tokio::spawn(courier.run(ordered)), orders, shown)
    }

    fn path(&self) -> &Path {
        self.state.path()
    }

    fn took(&self) -> Vec<u64> {
        self.sink.took.lock().clone()
    }

    /// Waits until the sink took as many events, or an hour has passed.
    async fn until_took(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(7200);
        while self.sink.took.lock().len() < count && Instant::now() < deadline {
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn lost(&self, reason: &str) -> u64 {
        let name = format!("checkgate_sink_lost_total{{reason=\"{reason}\",sink=\"tried\"}} ");
        let text = self.metrics.encode();
        text.lines().find_map(|line| line.strip_prefix(&*name)).unwrap().parse().unwrap()
    }
}

async fn ended(task: JoinHandle<()>, orders: &watch::Sender<Order>, how: Order) {
    orders.send_replace(how);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_new_sink_begins_with_what_happens_from_then_on() {
    let mut place = Place::new(|_, _| Ok(()));
    place.append(1..=5);
    let (task, orders, _) = place.start(just_after, |_| {});
    sleep(Duration::from_millis(100)).await;
    place.append(6..=9);
    place.until_took(4).await;
    ended(task, &orders, Order::End).await;
    assert_eq!(place.took(), [6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_new_sink_that_has_delivered_nothing_begins_at_the_same_place_after_a_restart() {
    let mut place = Place::new(|_, _| Ok(()));
    place.append(1..=5);
    for _ in 0..3 {
        let (task, orders, _) = place.start(just_after, |_| {});
        sleep(Duration::from_millis(100)).await;
        ended(task, &orders, Order::Finish).await;
    }
    assert_eq!(place.took(), [0; 0], "what happened before it was configured was sent");
    assert_eq!(Cursor::new(place.path(), "tried").load().unwrap().unwrap().number, 5);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_the_last_batch_was_taken() {
    let mut place = Place::new(|_, _| Ok(()));
    place.append(1..=1);
    for last in [20, 40] {
        let (task, orders, _) = place.start(just_after, |_| {});
        sleep(Duration::from_millis(100)).await;
        place.append(last - 18..=last);
        place.until_took(usize::try_from(last - 1).unwrap()).await;
        ended(task, &orders, Order::Finish).await;
        place.append(last + 1..=last + 1);
    }
    assert_eq!(place.took(), (2..=40).collect::<Vec<_>>(), "each once");
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_outage_loses_nothing_and_repeats_nothing() {
    let hour = Duration::from_secs(3600);
    let mut place =
        Place::new(move |now, _| if now < hour { Err(SinkError::later("it is down")) } else { Ok(()) });
    place.append(1..=1);
    let (task, orders, shown) = place.start(just_after, |_| {});
    for step in 0..60 {
        sleep(Duration::from_secs(50)).await;
        place.append(2 + step * 10..=11 + step * 10);
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(shown.lock().state, "broken");
    assert_eq!(shown.lock().backlog_entries, 600);
    assert_eq!(shown.lock().last_error.as_deref(), Some("it is down"));
    place.until_took(600).await;
    ended(task, &orders, Order::End).await;
    assert_eq!(place.took(), (2..=601).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_goes_to_the_dead_letters_alone() {
    let mut place =
        Place::new(
            |_, batch| {
                if batch.contains(&17) { Err(SinkError::never("not this one")) } else { Ok(()) }
            },
        );
    place.append(1..=1);
    let (task, orders, _) = place.start(just_after, |_| {});
    sleep(Duration::from_millis(10)).await;
    place.append(2..=40);
    place.until_took(38).await;
    ended(task, &orders, Order::Finish).await;
    assert_eq!(place.took(), (2..=40).filter(|number| *number != 17).collect::<Vec<_>>());
    let letters = DeadLetters::new(place.path(), "tried").take().unwrap().letters;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].event.number, &*letters[0].why), (17, "not this one"));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_or_too_much_is_counted_to_the_unit() {
    let mut place = Place::new(|_, _| Ok(()));
    place.append(1..=1);
    let (task, orders, _) =
        place.start(long_after, |settings| settings.spool.age = Duration::from_secs(86_400));
    sleep(Duration::from_millis(10)).await;
    place.append(2..=30);
    sleep(Duration::from_secs(5)).await;
    ended(task, &orders, Order::Finish).await;
    assert_eq!((place.took().len(), place.lost("age")), (0, 29), "all of them are older than a day");

    let (task, orders, _) = place.start(just_after, |settings| settings.spool.bytes = 3000);
    sleep(Duration::from_millis(10)).await;
    place.append(31..=60);
    sleep(Duration::from_secs(5)).await;
    ended(task, &orders, Order::Finish).await;
    let took = place.took();
    assert!((2..10).contains(&took.len()), "{took:?}");
    assert_eq!(took.len() as u64 + place.lost("bytes"), 30, "what was not sent was counted");
    assert_eq!(*took.last().unwrap(), 60, "the newest are kept");
}

#[tokio::test(start_paused = true)]
async fn a_loss_during_an_outage_is_counted_once_however_often_it_is_tried() {
    let minute = Duration::from_secs(60);
    let mut place =
        Place::new(move |now, _| if now < minute { Err(SinkError::later("it is down")) } else { Ok(()) });
    place.append(1..=1);
    let (task, orders, _) = place.start(just_after, |_| {});
    sleep(Duration::from_millis(10)).await;
    // The writer found no room for 4 to 6.
    place.append(2..=3);
    let entries = [7, 8].map(entry).map(Arc::new);
    let batch = place.store.batch(entries.iter(), usize::MAX);
    place.store.write(&batch).unwrap();
    place.written.send_replace(8);
    place.until_took(4).await;
    ended(task, &orders, Order::Finish).await;
    assert_eq!((place.took(), place.lost("missing")), (vec![2, 3, 7, 8], 3));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_left_after_its_time() {
    let mut place = Place::new(|_, _| Ok(()));
    place.append(1..=1);
    struct Hangs;
    impl Sink for Hangs {
        fn send<'a>(&'a self, _: &'a [Event]) -> BoxFuture<'a, Result<(), SinkError>> {
            Box::pin(std::future::pending())
        }
        fn target(&self) -> String {
            "nowhere".into()
        }
    }
    let (task, orders, shown) = {
        let sink: Arc<dyn Sink> = Arc::new(Hangs);
        let mut settings = settings("hangs", &SINKS[0], Value::Null);
        settings.timeout = Duration::from_secs(3);
        let ready = Ready { settings: Arc::new(settings), sink };
        let (task, orders, shown) = place.start(just_after, |_| {});
        ended(task, &orders, Order::End).await;
        let well = Well {
            spool: Spool::new(Arc::new(place.disk.clone())),
            written: place.written.subscribe(),
            about: book(),
            instance: "cg-0".into(),
            now: just_after,
        };
        let files = (Cursor::new(place.path(), "hangs"), DeadLetters::new(place.path(), "hangs"));
        let courier = Courier::new(ready, well, files, place.metrics.sink("hangs"), Arc::clone(&shown));
        let (orders, ordered) = watch::channel(Order::Go);
        (tokio::spawn(courier.run(ordered)), orders, shown)
    };
    sleep(Duration::from_millis(10)).await;
    place.append(2..=2);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(shown.lock().backlog_entries, 1, "what is being sent is not done with");
    place.append(3..=3);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(shown.lock().backlog_entries, 2);
    assert_eq!(shown.lock().last_error.as_deref(), Some("no answer within 3s"));
    ended(task, &orders, Order::End).await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_begins_again_where_it_was() {
    let mut place = Place::new(|now, _| {
        assert!(now > Duration::from_secs(2), "a bug of this sink");
        Ok(())
    });
    place.append(1..=1);
    let settings = Arc::new(settings("tried", &SINKS[0], Value::Null));
    let ready = Ready { settings, sink: Arc::clone(&place.sink) as Arc<dyn Sink> };
    let well = Well {
        spool: Spool::new(Arc::new(place.disk.clone())),
        written: place.written.subscribe(),
        about: book(),
        instance: "cg-0".into(),
        now: just_after,
    };
    let premises = Premises {
        state: place.path().to_owned(),
        instance: "cg-0".into(),
        ledger: Arc::new(crate::ledger::Ledger::in_memory(Bounds::default())),
        metrics: Arc::clone(&place.metrics),
    };
    let (task, orders, shown) = place.start(just_after, |_| {});
    ended(task, &orders, Order::End).await;
    let (orders, ordered) = watch::channel(Order::Go);
    let task = tokio::spawn(keep(ready, well, premises, shown, ordered));
    sleep(Duration::from_millis(10)).await;
    place.append(2..=4);
    place.until_took(3).await;
    ended(task, &orders, Order::End).await;
    assert_eq!(place.took(), [2, 3, 4]);
    let text = place.metrics.encode();
    assert!(text.contains("checkgate_sink_failures_total{reason=\"panic\",sink=\"tried\"} 1"), "{text}");
}

/// How fast a backlog is delivered to a receiver that costs nothing: reading, verifying, parsing, rendering and the
/// position on disk after every batch. `cargo test -p checkgate sinks::tests::courier::a_backlog -- --ignored --nocapture`
/// prints it.
#[tokio::test]
#[ignore = "prints a figure; takes a while"]
async fn a_backlog_is_delivered_fast() {
    let mut place = Place::new(|_, _| Ok(()));
    place.append(1..=1);
    let (task, orders, _) = place.start(just_after, |settings| settings.batch.events = 500);
    sleep(Duration::from_millis(100)).await;
    let events = 20_000;
    place.append(2..=events + 1);
    let began = Instant::now();
    place.until_took(usize::try_from(events).unwrap()).await;
    let rate = events as f64 / began.elapsed().as_secs_f64();
    println!("{events} events in {:?}: {rate:.0} events/s", began.elapsed());
    ended(task, &orders, Order::Finish).await;
    assert_eq!(place.took().len() as u64, events);
}

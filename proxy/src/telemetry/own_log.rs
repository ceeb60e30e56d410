//! The program's own warnings and errors, on their way to the collector.

use std::fmt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::exporter::unix_nanos;
use super::logs::{Line, Told};
use super::queue::Queue;

/// Bytes of one text of a line.
const TEXT_MAX: usize = 4096;
/// What this room says of deliveries is not delivered: it would keep itself busy.
const OURS: &str = "checkgate::telemetry";

/// Leaves warnings and errors in the queue.
#[derive(Debug)]
pub struct OwnLog(Arc<Queue<Told>>);

impl OwnLog {
    /// Into this queue.
    pub fn new(queue: Arc<Queue<Told>>) -> Self {
        Self(queue)
    }
}

impl<S: Subscriber> Layer<S> for OwnLog {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let is_grave = *metadata.level() <= Level::WARN;
        // What libraries warn of concerns connections of clients mostly; it stays in the log on standard error.
        let is_own = metadata.target().starts_with("checkgate") && !metadata.target().starts_with(OURS);
        if !is_grave || !is_own {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        self.0.push(Told::Line(Box::new(Line {
            level: *metadata.level(),
            target: metadata.target(),
            message: said.message,
            fields: said.fields,
            at: unix_nanos(),
        })));
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = format!("{value:?}");
        let end = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn warnings_of_this_program_are_told_and_nothing_else() {
        let queue = Arc::new(Queue::new(16));
        let subscriber = tracing_subscriber::registry().with(OwnLog::new(Arc::clone(&queue)));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "checkgate::serve", model = "prices", rows = 7, "a reference is old");
            tracing::info!(target: "checkgate::serve", "nothing grave");
            tracing::error!(target: "hyper", "somebody else's");
            tracing::warn!("of deliveries");
            tracing::error!(target: "checkgate::lane", "{}", "ä".repeat(TEXT_MAX));
        });
        let lines = queue.take(16).into_iter().map(|told| match told {
            Told::Line(line) => *line,
            Told::Record(line) => panic!("{line}"),
        });
        let [first, second] = lines.collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((first.level, first.target), (Level::WARN, "checkgate::serve"));
        assert_eq!(first.message, "a reference is old");
        assert_eq!(first.fields, [("model", "prices".to_owned()), ("rows", "7".to_owned())]);
        assert_eq!(
            (second.level, second.message.len()),
            (Level::ERROR, TEXT_MAX),
            "it is cut between letters"
        );
    }
}

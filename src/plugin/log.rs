//! Log lines for the core: one JSON object per line on standard error, texts only.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Value as Json};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Sends log lines and panics to standard error; the level is that of `TF_LOG_PROVIDER`, else `TF_LOG`, else none.
pub(super) fn start() {
    let wanted =
        ["TF_LOG_PROVIDER", "TF_LOG"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let level = level(wanted.as_deref());
    if level != LevelFilter::OFF {
        // Fails only if something else in this process logs already.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Lines { level }));
    }
    std::panic::set_hook(Box::new(|panic| {
        let text = format!("panic: {panic}\n\n{}\n", std::backtrace::Backtrace::force_capture());
        let _ = std::io::stderr().write_all(text.as_bytes());
    }));
}

fn level(name: Option<&str>) -> LevelFilter {
    match name.map(str::to_ascii_uppercase).as_deref() {
        None | Some("OFF") => LevelFilter::OFF,
        Some("ERROR") => LevelFilter::ERROR,
        Some("WARN") => LevelFilter::WARN,
        Some("INFO") => LevelFilter::INFO,
        Some("DEBUG") => LevelFilter::DEBUG,
        // The core reads whatever it does not know, and `JSON`, as the most verbose level.
        Some(_) => LevelFilter::TRACE,
    }
}

struct Lines {
    level: LevelFilter,
}

struct Fields(Map<String, Json>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _context: Context<'_, S>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields(Map::new());
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.0.extend(outer.0.clone());
            }
        }
        event.record(&mut fields);
        let line = line(event.metadata(), fields.0, time::OffsetDateTime::now_utc());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

fn line(metadata: &tracing::Metadata<'_>, mut fields: Map<String, Json>, now: time::OffsetDateTime) -> String {
    let level = match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    let message = fields.remove("message").unwrap_or_else(|| Json::String(String::new()));
    fields.insert("@level".to_owned(), level.into());
    fields.insert("@message".to_owned(), message);
    fields.insert("@module".to_owned(), metadata.target().replace("::", ".").into());
    fields.insert("@timestamp".to_owned(), timestamp(now).into());
    format!("{}\n", Json::Object(fields))
}

/// The only form the core reads: exactly six digits of a second.
fn timestamp(now: time::OffsetDateTime) -> String {
    let (hour, minute, second, microsecond) = now.to_hms_micro();
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{microsecond:06}Z")
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.0.insert(field.name().to_owned(), text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_has_exactly_six_digits_of_a_second() {
        let now = time::OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(1_700_000_000_000_042);
        assert_eq!(timestamp(now), "2023-11-14T22:13:20.000042Z");
    }

    #[test]
    fn an_unset_level_logs_nothing() {
        assert_eq!(level(None), LevelFilter::OFF);
        assert_eq!(level(Some("warn")), LevelFilter::WARN);
        assert_eq!(level(Some("JSON")), LevelFilter::TRACE);
    }
}

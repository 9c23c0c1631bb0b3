//! Where log lines go: standard error, as logfmt or JSON.

use crate::cli::serve::{LogFormat, LogLevel};
use std::{fmt, io};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Starts logging for this process. The environment variable `VESTAL_LOG` overrides the level per module.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    // openraft logs every heartbeat at info; libraries speak from warnings on.
    let default = format!(
        "warn,node={level},raft={level},storage={level},scrape={level},api={level},promql={level},openraft=error"
    );
    let filter = EnvFilter::try_from_env("VESTAL_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter);
    let started = match format {
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
        LogFormat::Logfmt => subscriber.event_format(Logfmt).try_init(),
    };
    if let Err(error) = started {
        eprintln!("vestal: logging was started already: {error}");
    }
}

/// `time=... level=... target=... msg="..." key=value`, as Prometheus logs.
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("time=")?;
        SystemTime.format_time(&mut writer)?;
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        write!(writer, " level={level} component={}", event.metadata().target())?;
        let mut fields = LogfmtFields { writer: writer.by_ref(), result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        writeln!(writer)
    }
}

struct LogfmtFields<'a> {
    writer: Writer<'a>,
    result: fmt::Result,
}

impl Visit for LogfmtFields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
}

impl LogfmtFields<'_> {
    fn put(&mut self, field: &Field, value: &str) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        let plain =
            !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
        self.result = self.result.and_then(|()| {
            if plain {
                write!(self.writer, " {name}={value}")
            } else {
                write!(self.writer, " {name}={value:?}")
            }
        });
    }
}

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
/// Each line names the cluster, if it has a name.
pub(crate) fn start(level: LogLevel, format: LogFormat, cluster: &str) {
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
        LogFormat::Json => {
            let cluster = json_field(cluster);
            subscriber.json().flatten_event(true).map_event_format(|inner| Json { inner, cluster }).try_init()
        }
        LogFormat::Logfmt => subscriber.event_format(Logfmt { cluster: logfmt_field(cluster) }).try_init(),
    };
    if let Err(error) = started {
        eprintln!("vestal: logging was started already: {error}");
    }
}

/// The cluster's name as a field of each line; nothing if it has none.
fn logfmt_field(cluster: &str) -> String {
    let mut field = String::new();
    if !cluster.is_empty() {
        put(&mut Writer::new(&mut field), "cluster", cluster).expect("a string takes all text");
    }
    field
}

/// The same, in front of the other fields of an object.
fn json_field(cluster: &str) -> String {
    if cluster.is_empty() { String::new() } else { format!("\"cluster\":{},", serde_json::json!(cluster)) }
}

/// One object a line.
struct Json<F> {
    inner: F,
    cluster: String,
}

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.cluster.is_empty() {
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        write!(writer, "{{{}{}", self.cluster, line.strip_prefix('{').unwrap_or(&line))
    }
}

/// `time=... level=... component=... msg="..." key=value`, as Prometheus logs.
struct Logfmt {
    cluster: String,
}

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
        write!(writer, " level={level} component={}{}", event.metadata().target(), self.cluster)?;
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
        self.result = self.result.and_then(|()| put(&mut self.writer, name, value));
    }
}

/// Writes ` name=value`, in quotes where it needs them.
fn put(writer: &mut Writer<'_>, name: &str, value: &str) -> fmt::Result {
    let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
    if plain { write!(writer, " {name}={value}") } else { write!(writer, " {name}={value:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::util::SubscriberInitExt;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no holder panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged, behind the time.
    fn logged(format: LogFormat, cluster: &str) -> String {
        let lines = Lines::default();
        let made = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || made.clone());
        let _in_force = match format {
            LogFormat::Json => {
                let cluster = json_field(cluster);
                let subscriber = subscriber.json().flatten_event(true);
                subscriber.map_event_format(|inner| Json { inner, cluster }).set_default()
            }
            LogFormat::Logfmt => {
                subscriber.event_format(Logfmt { cluster: logfmt_field(cluster) }).set_default()
            }
        };
        tracing::warn!(target: "raft", peer = "b", "gone");
        String::from_utf8(lines.0.lock().expect("no holder panics").clone()).expect("text")
    }

    #[test]
    fn each_line_names_the_cluster_if_it_has_a_name() {
        let line = logged(LogFormat::Logfmt, "north 1");
        assert!(line.ends_with(" level=warn component=raft cluster=\"north 1\" msg=gone peer=b\n"), "{line}");
        let line = logged(LogFormat::Logfmt, "");
        assert!(line.ends_with(" level=warn component=raft msg=gone peer=b\n"), "{line}");
        let json = |cluster| serde_json::from_str(&logged(LogFormat::Json, cluster));
        let named: serde_json::Value = json("north \"1\"").expect("an object");
        assert_eq!((&named["cluster"], &named["message"]), (&"north \"1\"".into(), &"gone".into()));
        let unnamed: serde_json::Value = json("").expect("an object");
        assert_eq!((&unnamed["cluster"], &unnamed["peer"]), (&serde_json::Value::Null, &"b".into()));
    }
}

//! From the raw configuration to the checked one.

use super::{
    Config, ConfigError, Unsupported,
    raw::{
        Anything, Opt, RawConfig, RawFileSd, RawGlobal, RawLabels, RawRelabel, RawScrape, RawStatic, RawTls,
    },
};
use model::{DurationMs, Labels};
use scrape::{
    config::{
        Authorization, BasicAuth, ByteSize, FileSdConfig, HttpHeader, NameEscaping, NameValidation, Scheme,
        ScrapeConfig, ScrapeLimits, ScrapeProtocol, Secret, TlsConfig, TlsVersion, parse_duration,
    },
    relabel::{RelabelAction, RelabelConfig, RelabelSpec},
    target::TargetGroup,
    yaml_options,
};
use serde_saphyr::Spanned;
use std::{collections::BTreeSet, fmt::Display};

/// The largest text taken, bytes: what the cluster keeps.
const TEXT_BYTES_MAX: usize = raft::meta::CONFIG_BYTES_MAX;

/// Reads and checks a configuration. `file` is how the user names it.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse(file: &str, text: &str, unsupported: Unsupported) -> Result<Config, ConfigError> {
    let checker = Checker { file, unsupported, ignored: Vec::new() };
    if text.len() > TEXT_BYTES_MAX {
        return Err(checker
            .error(0, format!("{} bytes are too many; at most {TEXT_BYTES_MAX} are taken", text.len())));
    }
    let raw: Result<Option<RawConfig>, _> =
        serde_saphyr::from_str_with_options(text, yaml_options(TEXT_BYTES_MAX));
    let raw = raw.map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        checker.error(line, yaml_message(&error))
    })?;
    checker.config(raw.unwrap_or_default())
}

/// The parser's message without its drawing of the text, on one line.
fn yaml_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or("not YAML").trim();
    match text.split_once("unknown field `").and_then(|(_, rest)| rest.split_once('`')) {
        Some((field, _)) => format!("{field}: unknown field; remove it or correct its name"),
        None => text.to_owned(),
    }
}

struct Checker<'a> {
    file: &'a str,
    unsupported: Unsupported,
    ignored: Vec<String>,
}

type Checked<T> = Result<T, ConfigError>;

fn line_of<T>(value: &Spanned<T>) -> u64 {
    value.referenced.line()
}

/// The value, or the one of `global`, or Prometheus's default.
fn pick<T: Copy>(own: &Opt<T>, global: &Opt<T>, default: T) -> T {
    own.as_ref().or(global.as_ref()).map_or(default, |value| value.value)
}

/// A limit. Zero says nothing here, so a job cannot lift what `global` sets; if neither says anything there is none.
fn pick_limit(own: &Opt<u64>, global: &Opt<u64>) -> u64 {
    let set = |limit: &Opt<u64>| limit.as_ref().map(|limit| limit.value).filter(|limit| *limit > 0);
    set(own).or(set(global)).unwrap_or(0)
}

/// What a value of labels is: nothing behind the name is the empty text.
fn label_values(labels: &RawLabels) -> impl Iterator<Item = (&String, &str)> {
    labels.iter().map(|(name, value)| (name, value.as_deref().unwrap_or_default()))
}

impl Checker<'_> {
    fn error(&self, line: u64, message: impl Display) -> ConfigError {
        ConfigError { file: self.file.to_owned(), line, message: message.to_string() }
    }

    /// Applies `check` to a value that may be absent; its error gets line and field.
    fn optional<T, U, E: Display>(
        &self,
        field: &str,
        value: &Opt<T>,
        check: impl FnOnce(&T) -> Result<U, E>,
    ) -> Checked<Option<U>> {
        match value {
            None => Ok(None),
            Some(value) => {
                let checked = check(&value.value);
                checked.map(Some).map_err(|error| self.error(line_of(value), format!("{field}: {error}")))
            }
        }
    }

    /// An interval or a time-out. Zero says nothing, as in Prometheus: whoever asks takes what else there is.
    fn interval(&self, field: &str, value: &Opt<String>) -> Checked<Option<DurationMs>> {
        Ok(self.duration(field, value)?.filter(|span| span.0 > 0))
    }

    fn duration(&self, field: &str, value: &Opt<String>) -> Checked<Option<DurationMs>> {
        self.optional(field, value, |text| {
            parse_duration(text).map_err(|error| format!("{error}; write it like 15s or 1h30m"))
        })
    }

    fn size(&self, field: &str, value: &Opt<String>) -> Checked<Option<ByteSize>> {
        self.optional(field, value, |text| {
            ByteSize::parse(text).map_err(|error| format!("{error}; write it like 10MB"))
        })
    }

    /// A part that Prometheus knows and Vestal does not support yet.
    fn refuse(&mut self, field: &str, value: &Opt<Anything>) -> Checked<()> {
        let Some(value) = value.as_ref().filter(|value| !value.value.is_empty) else { return Ok(()) };
        self.refuse_at(field, line_of(value), "remove it")
    }

    /// Refuses a part, naming the remedy, or lists it as ignored.
    fn refuse_at(&mut self, field: &str, line: u64, remedy: &str) -> Checked<()> {
        match self.unsupported {
            Unsupported::Ignore => {
                self.ignored.push(field.to_owned());
                Ok(())
            }
            Unsupported::Refuse => Err(self.error(
                line,
                format!("{field}: not supported yet; {remedy}, or start with --config.ignore-unsupported"),
            )),
        }
    }

    fn config(mut self, raw: RawConfig) -> Checked<Config> {
        for (field, value) in [
            ("alerting", &raw.alerting),
            ("rule_files", &raw.rule_files),
            ("scrape_config_files", &raw.scrape_config_files),
            ("tracing", &raw.tracing),
            ("remote_write", &raw.remote_write),
            ("remote_read", &raw.remote_read),
            ("otlp", &raw.otlp),
        ] {
            self.refuse(field, value)?;
        }
        if raw.runtime.is_some() {
            self.ignored.push("runtime".to_owned()); // tunes Go's collector, of which there is none
        }
        let global = raw.global.unwrap_or_default();
        for (field, value) in [
            ("global.rule_query_offset", &global.rule_query_offset),
            ("global.scrape_failure_log_file", &global.scrape_failure_log_file),
        ] {
            self.refuse(field, value)?;
        }
        let storage = raw.storage.unwrap_or_default();
        let tsdb = storage.tsdb.unwrap_or_default();
        let retention = tsdb.retention.unwrap_or_default();
        for (field, value) in [
            ("storage.exemplars", &storage.exemplars),
            ("storage.tsdb.stale_series_compaction_threshold", &tsdb.stale_series_compaction_threshold),
            ("storage.tsdb.chunk_encoding", &tsdb.chunk_encoding),
            ("storage.tsdb.retention.percentage", &retention.percentage),
        ] {
            self.refuse(field, value)?;
        }
        let out_of_order =
            self.duration("storage.tsdb.out_of_order_time_window", &tsdb.out_of_order_time_window)?;
        let retention_time = self.duration("storage.tsdb.retention.time", &retention.time)?;
        let retention_size = self.size("storage.tsdb.retention.size", &retention.size)?;
        let evaluation_interval = self.interval("global.evaluation_interval", &global.evaluation_interval)?;
        let external_labels = self.external_labels(&global)?;
        let mut scrape_configs = Vec::new();
        let mut names = BTreeSet::new();
        for (i, section) in raw.scrape_configs.iter().flatten().enumerate() {
            let path = format!("scrape_configs[{i}]");
            let Some(scrape) = &section.value else {
                return Err(self.error(
                    line_of(section),
                    format!("{path}: empty or null scrape config section; remove it"),
                ));
            };
            let config = self.scrape(&path, line_of(section), scrape, &global)?;
            if !names.insert(config.job_name.clone()) {
                let line = scrape.job_name.as_ref().map_or(line_of(section), line_of);
                let name = &config.job_name;
                return Err(self.error(
                    line,
                    format!(
                        "{path}.job_name: found multiple scrape configs with job name {name:?}; rename one"
                    ),
                ));
            }
            scrape_configs.push(config);
        }
        Ok(Config {
            evaluation_interval: evaluation_interval.unwrap_or(DurationMs(60_000)),
            external_labels,
            query_log_file: global.query_log_file.map(|file| file.value).filter(|file| !file.is_empty()),
            out_of_order_time_window: out_of_order.unwrap_or_default(),
            retention_time,
            retention_size: retention_size.map(|size| size.0),
            scrape_configs,
            ignored: self.ignored,
        })
    }

    fn external_labels(&mut self, global: &RawGlobal) -> Checked<Labels> {
        let Some(labels) = &global.external_labels else { return Ok(Labels::empty()) };
        for name in labels.value.keys() {
            if name.is_empty() || name == "__name__" {
                let what = format!("global.external_labels: {name:?} is not a valid label name; rename it");
                return Err(self.error(line_of(labels), what));
            }
        }
        let mut expanded = Vec::new();
        for (name, value) in label_values(&labels.value) {
            let value = match without_variables(value) {
                Ok(value) => value,
                Err(variable) => {
                    // Each node has an environment of its own, and all of them must give the same answers.
                    let field = format!("global.external_labels.{name}: environment variable {variable}");
                    self.refuse_at(&field, line_of(labels), "write its value, or $$ for a dollar sign")?;
                    value.to_owned()
                }
            };
            expanded.push((name, value));
        }
        Ok(Labels::from_pairs(expanded.iter().map(|(name, value)| (name.as_str(), value.as_str()))))
    }

    fn scrape(
        &mut self,
        path: &str,
        line: u64,
        raw: &RawScrape,
        global: &RawGlobal,
    ) -> Checked<ScrapeConfig> {
        for (name, section) in raw.unsupported_discovery() {
            self.refuse(&format!("{path}.{name}"), section)?;
        }
        for (name, value) in [
            ("oauth2", &raw.oauth2),
            ("proxy_url", &raw.proxy_url),
            ("no_proxy", &raw.no_proxy),
            ("proxy_from_environment", &raw.proxy_from_environment),
            ("proxy_connect_header", &raw.proxy_connect_header),
            ("scrape_failure_log_file", &raw.scrape_failure_log_file),
        ] {
            self.refuse(&format!("{path}.{name}"), value)?;
        }
        let nhcb = raw.convert_classic_histograms_to_nhcb.as_ref();
        if let Some(nhcb) = nhcb.or(global.convert_classic_histograms_to_nhcb.as_ref()).filter(|on| on.value)
        {
            let field = format!("{path}.convert_classic_histograms_to_nhcb");
            self.refuse_at(&field, line_of(nhcb), "remove it")?;
        }
        if raw.enable_http2.as_ref().is_some_and(|on| on.value) {
            self.ignored.push(format!("{path}.enable_http2")); // scrapes speak HTTP/1.1
        }

        let job_name = raw.job_name.as_ref().map_or("", |name| name.value.as_str());
        let at = raw.job_name.as_ref().map_or(line, line_of);
        if job_name.is_empty() {
            return Err(self.error(at, format!("{path}.job_name: job_name is empty; give the job a name")));
        }
        let mut config = ScrapeConfig::new(job_name);
        let field = |name: &str| format!("{path}.{name}");
        self.schedule(&mut config, path, raw, global)?;
        let protocols = |names: &Vec<String>| {
            let parsed: Result<Vec<_>, _> = names.iter().map(|name| ScrapeProtocol::parse(name)).collect();
            parsed
        };
        let all = self.optional("global.scrape_protocols", &global.scrape_protocols, protocols)?;
        let own = self.optional(&field("scrape_protocols"), &raw.scrape_protocols, protocols)?;
        config.fallback_scrape_protocol =
            self.optional(&field("fallback_scrape_protocol"), &raw.fallback_scrape_protocol, |name| {
                ScrapeProtocol::parse(name)
            })?;
        config.scrape_native_histograms =
            pick(&raw.scrape_native_histograms, &global.scrape_native_histograms, false);
        config.scrape_protocols = own.or(all).unwrap_or_else(|| match config.scrape_native_histograms {
            true => ScrapeProtocol::DEFAULT_NATIVE.to_vec(), // no other format carries them
            false => ScrapeProtocol::DEFAULT.to_vec(),
        });
        config.always_scrape_classic_histograms =
            pick(&raw.always_scrape_classic_histograms, &global.always_scrape_classic_histograms, false);
        config.extra_scrape_metrics = pick(&raw.extra_scrape_metrics, &global.extra_scrape_metrics, false);
        if let Some(path) = &raw.metrics_path {
            config.metrics_path.clone_from(&path.value);
        }
        let scheme =
            |text: &String| Scheme::parse(text).ok_or(format!("{text:?} is no scheme; write http or https"));
        config.scheme = self.optional(&field("scheme"), &raw.scheme, scheme)?.unwrap_or_default();
        config.params = raw.params.clone().unwrap_or_default().into_iter().collect();
        config.honor_labels = pick(&raw.honor_labels, &None, false);
        config.honor_timestamps = pick(&raw.honor_timestamps, &None, true);
        config.track_timestamps_staleness = pick(&raw.track_timestamps_staleness, &None, false);
        config.follow_redirects = pick(&raw.follow_redirects, &None, true);
        config.enable_compression = pick(&raw.enable_compression, &None, true);
        self.credentials(&mut config, path, line, raw)?;
        if let Some(tls) = &raw.tls_config {
            config.tls = self.tls(&field("tls_config"), line_of(tls), &tls.value)?;
        }
        config.http_headers =
            raw.http_headers.iter().flat_map(|headers| &headers.value).map(http_header).collect();
        config.limits = self.limits(path, raw, global)?;
        config.keep_dropped_targets = pick_limit(&raw.keep_dropped_targets, &global.keep_dropped_targets);
        self.names(&mut config, path, raw, global)?;
        config.relabel_configs = self.relabelling(
            &field("relabel_configs"),
            "target relabeling rule",
            raw.relabel_configs.as_deref(),
            config.name_validation,
        )?;
        config.metric_relabel_configs = self.relabelling(
            &field("metric_relabel_configs"),
            "metric relabeling rule",
            raw.metric_relabel_configs.as_deref(),
            config.name_validation,
        )?;
        for (i, section) in raw.static_configs.iter().flatten().enumerate() {
            let path = format!("{path}.static_configs[{i}]");
            // With relabelling it is the final address that counts: a probe's targets are URLs that become a parameter.
            if config.relabel_configs.is_empty() {
                self.check_addresses(&path, section)?;
            }
            config.static_configs.push(self.static_config(&path, i, section)?);
        }
        for (i, section) in raw.file_sd_configs.iter().flatten().enumerate() {
            config.file_sd_configs.push(self.file_sd(&format!("{path}.file_sd_configs[{i}]"), section)?);
        }
        config.check().map_err(|error| self.error(at, format!("{path}: {error}")))?;
        Ok(config)
    }

    fn schedule(
        &self,
        config: &mut ScrapeConfig,
        path: &str,
        raw: &RawScrape,
        global: &RawGlobal,
    ) -> Checked<()> {
        let global_interval = self.interval("global.scrape_interval", &global.scrape_interval)?;
        let global_interval = global_interval.unwrap_or(DurationMs(60_000));
        let global_timeout = self.interval("global.scrape_timeout", &global.scrape_timeout)?;
        let interval = self.interval(&format!("{path}.scrape_interval"), &raw.scrape_interval)?;
        let timeout = self.interval(&format!("{path}.scrape_timeout"), &raw.scrape_timeout)?;
        config.scrape_interval = interval.unwrap_or(global_interval);
        // Like Prometheus, a time-out that was not asked for here never exceeds the interval.
        let global_timeout_or_default = global_timeout.unwrap_or(DurationMs(10_000).min(global_interval));
        let inherited = global_timeout_or_default.min(config.scrape_interval);
        config.scrape_timeout = timeout.unwrap_or(inherited);
        if let (Some(timeout), true) = (&raw.scrape_timeout, config.scrape_timeout > config.scrape_interval) {
            let what = "scrape timeout greater than scrape interval; lower it or raise scrape_interval";
            return Err(self.error(line_of(timeout), format!("{path}.scrape_timeout: {what}")));
        }
        if let (Some(timeout), true) =
            (&global.scrape_timeout, global_timeout.is_some_and(|timeout| timeout > global_interval))
        {
            let what =
                "global scrape timeout greater than scrape interval; lower it or raise scrape_interval";
            return Err(self.error(line_of(timeout), format!("global.scrape_timeout: {what}")));
        }
        Ok(())
    }

    fn credentials(&self, config: &mut ScrapeConfig, path: &str, line: u64, raw: &RawScrape) -> Checked<()> {
        let one_of =
            |field: &str, line: u64, what: &str, inline: &Option<String>, file: &Option<String>| match (
                inline, file,
            ) {
                (Some(_), Some(_)) => Err(self.error(
                    line,
                    format!("{path}.{field}: at most one of {what} & {what}_file must be configured"),
                )),
                (Some(text), None) => Ok(Some(Secret::Inline(text.clone()))),
                (None, Some(file)) => Ok(Some(Secret::File(file.clone()))),
                (None, None) => Ok(None),
            };
        let bearer = raw.bearer_token.is_some() || raw.bearer_token_file.is_some();
        let ways = [raw.basic_auth.is_some(), raw.authorization.is_some(), bearer];
        if ways.iter().filter(|way| **way).count() > 1 {
            let what = if bearer {
                "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured"
            } else {
                "at most one of basic_auth, oauth2 & authorization must be configured"
            };
            return Err(self.error(line, format!("{path}: {what}")));
        }
        if let Some(auth) = &raw.basic_auth {
            let (line, auth) = (line_of(auth), &auth.value);
            let username = one_of("basic_auth", line, "username", &auth.username, &auth.username_file)?;
            let password = one_of("basic_auth", line, "password", &auth.password, &auth.password_file)?;
            let none = || Secret::Inline(String::new());
            config.basic_auth = Some(BasicAuth {
                username: username.unwrap_or_else(none),
                password: password.unwrap_or_else(none),
            });
        }
        if let Some(auth) = &raw.authorization {
            let (line, auth) = (line_of(auth), &auth.value);
            let kind = auth.kind.as_deref().map_or("", str::trim);
            if kind.eq_ignore_ascii_case("basic") {
                let what = "authorization type cannot be set to \"basic\", use \"basic_auth\" instead";
                return Err(self.error(line, format!("{path}.authorization.type: {what}")));
            }
            let secret =
                one_of("authorization", line, "credentials", &auth.credentials, &auth.credentials_file)?;
            config.authorization = Some(Authorization {
                kind: if kind.is_empty() { "Bearer".to_owned() } else { kind.to_owned() },
                credentials: secret.unwrap_or_else(|| Secret::Inline(String::new())),
            });
        }
        if bearer {
            let line = raw.bearer_token.as_ref().or(raw.bearer_token_file.as_ref()).map_or(line, line_of);
            let text = |value: &Opt<String>| value.as_ref().map(|value| value.value.clone());
            let inline = text(&raw.bearer_token);
            let secret =
                one_of("bearer_token", line, "bearer_token", &inline, &text(&raw.bearer_token_file))?;
            config.authorization =
                secret.map(|credentials| Authorization { kind: "Bearer".to_owned(), credentials });
        }
        Ok(())
    }

    fn tls(&self, path: &str, line: u64, raw: &RawTls) -> Checked<TlsConfig> {
        let one_of = |what: &str, inline: &Option<String>, file: &Option<String>| match (inline, file) {
            (Some(_), Some(_)) => {
                Err(self
                    .error(line, format!("{path}: at most one of {what} and {what}_file must be configured")))
            }
            (Some(text), None) => Ok(Some(Secret::Inline(text.clone()))),
            (None, Some(file)) => Ok(Some(Secret::File(file.clone()))),
            (None, None) => Ok(None),
        };
        let version = |text: &String| match text.as_str() {
            "TLS10" => Ok(TlsVersion::Tls10),
            "TLS11" => Ok(TlsVersion::Tls11),
            "TLS12" => Ok(TlsVersion::Tls12),
            "TLS13" => Ok(TlsVersion::Tls13),
            other => Err(format!("unknown TLS version: {other}; write TLS12 or TLS13")),
        };
        let tls = TlsConfig {
            ca: one_of("ca", &raw.ca, &raw.ca_file)?,
            cert: one_of("cert", &raw.cert, &raw.cert_file)?,
            key: one_of("key", &raw.key, &raw.key_file)?,
            server_name: raw.server_name.clone(),
            insecure_skip_verify: raw.insecure_skip_verify.unwrap_or(false),
            min_version: self.optional(&format!("{path}.min_version"), &raw.min_version, version)?,
            max_version: self.optional(&format!("{path}.max_version"), &raw.max_version, version)?,
        };
        if tls.cert.is_some() != tls.key.is_some() {
            let what =
                "exactly one of cert or cert_file must be configured when a key is, and the other way round";
            return Err(self.error(line, format!("{path}: {what}")));
        }
        Ok(tls)
    }

    fn limits(&self, path: &str, raw: &RawScrape, global: &RawGlobal) -> Checked<ScrapeLimits> {
        let global_body = self.size("global.body_size_limit", &global.body_size_limit)?;
        let body = self.size(&format!("{path}.body_size_limit"), &raw.body_size_limit)?;
        let body = body.filter(|size| size.0 > 0);
        let factor = raw.native_histogram_min_bucket_factor.as_ref().map(|factor| factor.value);
        Ok(ScrapeLimits {
            body_size: body.or(global_body).unwrap_or_default(),
            samples: pick_limit(&raw.sample_limit, &global.sample_limit),
            labels: pick_limit(&raw.label_limit, &global.label_limit),
            label_name_length: pick_limit(&raw.label_name_length_limit, &global.label_name_length_limit),
            label_value_length: pick_limit(&raw.label_value_length_limit, &global.label_value_length_limit),
            targets: pick_limit(&raw.target_limit, &global.target_limit),
            native_histogram_buckets: pick_limit(&raw.native_histogram_bucket_limit, &None),
            native_histogram_schema: factor.map(scrape::schema_of_bucket_factor),
        })
    }

    fn names(
        &self,
        config: &mut ScrapeConfig,
        path: &str,
        raw: &RawScrape,
        global: &RawGlobal,
    ) -> Checked<()> {
        // The empty text says nothing.
        let validation = |text: &String| match text.as_str() {
            "" => Ok(None),
            "utf8" => Ok(Some(NameValidation::Utf8)),
            "legacy" => Ok(Some(NameValidation::Legacy)),
            other => Err(format!("unrecognized ValidationScheme: {other:?}; write utf8 or legacy")),
        };
        let escaping = |text: &String| match text.as_str() {
            "" => Ok(None),
            "allow-utf-8" => Ok(Some(NameEscaping::AllowUtf8)),
            "underscores" => Ok(Some(NameEscaping::Underscores)),
            "dots" => Ok(Some(NameEscaping::Dots)),
            "values" => Ok(Some(NameEscaping::Values)),
            other => Err(format!(
                "unknown escaping scheme {other:?}; write allow-utf-8, underscores, dots or values"
            )),
        };
        let of = |name: &str| format!("{path}.{name}");
        let field = "metric_name_validation_scheme";
        let own_validation = self.optional(&of(field), &raw.metric_name_validation_scheme, validation)?;
        let own_validation = own_validation.flatten();
        let all = self.optional(
            "global.metric_name_validation_scheme",
            &global.metric_name_validation_scheme,
            validation,
        )?;
        config.name_validation = own_validation.or(all.flatten()).unwrap_or_default();
        let field = "metric_name_escaping_scheme";
        let own = self.optional(&of(field), &raw.metric_name_escaping_scheme, escaping)?.flatten();
        let all = self.optional(
            "global.metric_name_escaping_scheme",
            &global.metric_name_escaping_scheme,
            escaping,
        )?;
        // A job with a validation of its own has nothing from global: its `legacy` does not go with utf-8 of all.
        let all = all.flatten().filter(|_| own_validation.is_none());
        let default = match config.name_validation {
            NameValidation::Utf8 => NameEscaping::AllowUtf8,
            NameValidation::Legacy => NameEscaping::Underscores,
        };
        config.name_escaping = own.or(all).unwrap_or(default);
        if config.name_validation == NameValidation::Legacy && config.name_escaping == NameEscaping::AllowUtf8
        {
            let line =
                raw.metric_name_escaping_scheme.as_ref().or(global.metric_name_escaping_scheme.as_ref());
            let what = "utf8 metric names requested but validation scheme is not set to UTF8";
            return Err(self.error(line.map_or(0, line_of), format!("{}: {what}", of(field))));
        }
        Ok(())
    }

    fn relabelling(
        &self,
        path: &str,
        what: &str,
        rules: Option<&[Spanned<Option<RawRelabel>>]>,
        names: NameValidation,
    ) -> Checked<Vec<RelabelConfig>> {
        let text = |value: &Opt<String>| value.as_ref().map(|value| value.value.clone());
        let rule = |(i, rule): (usize, &Spanned<Option<RawRelabel>>)| {
            let path = format!("{path}[{i}]");
            let Some(raw) = &rule.value else {
                return Err(self.error(
                    line_of(rule),
                    format!("{path}: empty or null {what} in scrape config; remove it"),
                ));
            };
            let action =
                self.optional(&format!("{path}.action"), &raw.action, |name| RelabelAction::parse(name))?;
            let spec = RelabelSpec {
                source_labels: raw.source_labels.clone().unwrap_or_default(),
                separator: text(&raw.separator),
                target_label: raw.target_label.clone().unwrap_or_default(),
                regex: text(&raw.regex),
                modulus: raw.modulus.unwrap_or(0),
                replacement: text(&raw.replacement),
                action: action.unwrap_or_default(),
            };
            RelabelConfig::new(spec, names)
                .map_err(|error| self.error(line_of(rule), format!("{path}: {error}")))
        };
        rules.unwrap_or_default().iter().enumerate().map(rule).collect()
    }

    fn check_addresses(&self, path: &str, section: &Spanned<Option<RawStatic>>) -> Checked<()> {
        let targets = section.value.iter().flat_map(|raw| &raw.targets);
        match targets.enumerate().find(|(_, target)| target.value.contains('/')) {
            None => Ok(()),
            Some((j, target)) => {
                let what = format!("{:?} is not a valid hostname; write HOST:PORT", target.value);
                Err(self.error(line_of(target), format!("{path}.targets[{j}]: {what}")))
            }
        }
    }

    fn static_config(
        &self,
        path: &str,
        i: usize,
        section: &Spanned<Option<RawStatic>>,
    ) -> Checked<TargetGroup> {
        let Some(raw) = &section.value else {
            return Err(self.error(
                line_of(section),
                format!("{path}: empty or null section in static_configs; remove it"),
            ));
        };
        let mut group =
            TargetGroup::of_addresses(i.to_string(), raw.targets.iter().map(|target| target.value.as_str()));
        let labels = raw.labels.iter().flat_map(|labels| label_values(&labels.value));
        group.labels = labels.map(|(name, value)| (name.clone(), value.to_owned())).collect();
        Ok(group)
    }

    fn file_sd(&self, path: &str, section: &Spanned<Option<RawFileSd>>) -> Checked<FileSdConfig> {
        let Some(raw) = &section.value else {
            return Err(self.error(
                line_of(section),
                format!("{path}: empty or null section in file_sd_configs; remove it"),
            ));
        };
        if raw.files.is_empty() {
            let what = "file service discovery config must contain at least one path name";
            return Err(self.error(line_of(section), format!("{path}.files: {what}")));
        }
        for (j, file) in raw.files.iter().enumerate() {
            let name = file.value.as_str();
            let error = |what: String| {
                Err(self.error(line_of(file), format!("{path}.files[{j}]: path name {name:?} {what}")))
            };
            let known =
                [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"].iter().any(|end| name.ends_with(end));
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            if !known || folder.contains('*') {
                return error(
                    "is not valid for file discovery; one * in the last part, and .json, .yml or .yaml at the end"
                        .to_owned(),
                );
            }
            if let Some(sign) = name.chars().find(|sign| ['?', '[', '\\'].contains(sign)) {
                return error(format!(
                    "has {sign:?}, of the signs of patterns only * is supported; name the files"
                ));
            }
        }
        let refresh = self.duration(&format!("{path}.refresh_interval"), &raw.refresh_interval)?;
        let files = raw.files.iter().map(|file| file.value.clone()).collect();
        Ok(FileSdConfig { files, refresh_interval: refresh.unwrap_or(DurationMs(300_000)) })
    }
}

/// The text with `$$` for a dollar sign as Go's `os.Expand` reads it, or the first environment variable in it. A dollar
/// sign with no name behind it stays.
fn without_variables(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        match rest.chars().next() {
            Some('$') => rest = &rest[1..],
            Some('{') => {
                let end = rest.find('}').map_or(rest.len(), |end| end + 1);
                return Err(format!("${}", &rest[..end]));
            }
            Some(sign) if sign.is_ascii_digit() || "*#@!?-".contains(sign) => return Err(format!("${sign}")),
            Some(sign) if sign.is_ascii_alphabetic() || sign == '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                return Err(format!("${}", &rest[..end]));
            }
            _ => {}
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn http_header((name, raw): (&String, &super::raw::RawHeader)) -> HttpHeader {
    let inline = raw.values.iter().chain(&raw.secrets).map(|text| Secret::Inline(text.clone()));
    let files = raw.files.iter().map(|path| Secret::File(path.clone()));
    HttpHeader { name: name.clone(), values: inline.chain(files).collect() }
}

#[cfg(test)]
mod tests;

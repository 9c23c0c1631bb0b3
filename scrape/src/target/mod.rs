//! Targets: what is scraped, made of discovered groups and a configuration.

mod group;
mod url;

pub use group::{GROUP_FILE_BYTES_MAX, GroupError, TargetGroup};
pub use url::TargetUrl;

use crate::DROPPED_TARGETS_MAX;
use crate::config::{Scheme, ScrapeConfig, UnitError, format_duration, parse_duration};
use crate::relabel::relabel;
use model::{DurationMs, Labels, LabelsBuilder, SourceKey};
use std::collections::BTreeMap;
use std::sync::Arc;

const ADDRESS: &str = "__address__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PATH: &str = "__metrics_path__";
const SCHEME: &str = "__scheme__";
const NHCB: &str = "__convert_classic_histograms_to_nhcb__";
const CLASSIC: &str = "__always_scrape_classic_histograms__";
const NATIVE: &str = "__scrape_native_histograms__";
const PARAM_PREFIX: &str = "__param_";
const META_PREFIX: &str = "__meta_";
const RESERVED_PREFIX: &str = "__";

/// One thing to scrape.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its identity: job, labels, URL.
    pub source: Arc<SourceKey>,
    /// The configuration that it came from.
    pub config: Arc<ScrapeConfig>,
    /// Its labels before relabelling.
    pub discovered: Labels,
    /// The labels that its series get.
    pub labels: Labels,
    /// Where it is.
    pub url: TargetUrl,
    /// How often it is scraped; relabelling may have changed it.
    pub interval: DurationMs,
    /// How long a scrape may take.
    pub timeout: DurationMs,
    /// Whether its histograms are kept in native form; relabelling may have changed it.
    pub native_histograms: bool,
    /// Whether classic buckets are kept beside native ones; relabelling may have changed it.
    pub classic_histograms: bool,
    /// Why every scrape of it fails, if it is not to be asked at all (`target_limit`, an unknown scheme).
    pub forced_error: Option<String>,
}

/// A discovered target that cannot become one; Prometheus's texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It has no `__address__`.
    #[error("no address")]
    NoAddress,
    /// The address is a URL.
    #[error("{0:?} is not a valid hostname")]
    Address(String),
    /// `__scrape_interval__` is none.
    #[error("error parsing scrape interval: {0}")]
    Interval(UnitError),
    /// `__scrape_interval__` is zero.
    #[error("scrape interval cannot be 0")]
    NoInterval,
    /// `__scrape_timeout__` is none.
    #[error("error parsing scrape timeout: {0}")]
    Timeout(UnitError),
    /// `__scrape_timeout__` is zero.
    #[error("scrape timeout cannot be 0")]
    NoTimeout,
    /// The time-out is longer than the interval.
    #[error("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})")]
    TimeoutBeyondInterval {
        /// As written.
        timeout: String,
        /// As written.
        interval: String,
    },
    /// A label that switches something is neither true nor false.
    #[error("error parsing {what}: strconv.ParseBool: parsing {value:?}: invalid syntax")]
    Switch {
        /// What it switches.
        what: &'static str,
        /// As written.
        value: String,
    },
    /// `__convert_classic_histograms_to_nhcb__` is true.
    #[error("converting classic histograms to nhcb is not supported yet")]
    Nhcb,
}

/// What a configuration and its groups yield.
#[derive(Clone, Debug, Default)]
pub struct TargetSet {
    /// To be scraped, each once, in order of their identity.
    pub active: Vec<Arc<Target>>,
    /// Labels before relabelling of targets that relabelling dropped, as many as are to be remembered.
    pub dropped: Vec<Labels>,
    /// How many were dropped.
    pub dropped_count: usize,
    /// What was wrong with others: `instance 3 in group FILE:0: no address`.
    pub errors: Vec<String>,
}

/// Whether something can be the address of a target: not a URL.
pub(crate) fn check_address(address: &str) -> bool {
    !address.contains('/')
}

impl TargetSet {
    /// Makes targets of groups. Equal ones, by labels and URL, become one.
    #[must_use]
    pub fn build(config: &Arc<ScrapeConfig>, groups: &[TargetGroup]) -> TargetSet {
        let mut set = TargetSet::default();
        let mut active: BTreeMap<Arc<SourceKey>, Target> = BTreeMap::new();
        let remembered = match usize::try_from(config.keep_dropped_targets) {
            Ok(0) | Err(_) => DROPPED_TARGETS_MAX,
            Ok(some) => some.min(DROPPED_TARGETS_MAX),
        };
        for group in groups {
            for (i, own) in group.targets.iter().enumerate() {
                let discovered = discovered(config, &group.labels, own);
                match Target::of_discovered(config, discovered.clone()) {
                    Ok(Some(target)) => {
                        active.entry(target.source.clone()).or_insert(target);
                    }
                    Ok(None) => {
                        set.dropped_count += 1;
                        if set.dropped.len() < remembered {
                            set.dropped.push(discovered);
                        }
                    }
                    Err(error) if set.errors.len() < DROPPED_TARGETS_MAX => {
                        set.errors.push(format!("instance {i} in group {}: {error}", group.source));
                    }
                    Err(_) => {}
                }
            }
        }
        let limit = config.limits.targets;
        let over = limit > 0 && active.len() as u64 > limit;
        let error = over
            .then(|| format!("target_limit exceeded (number of targets: {}, limit: {limit})", active.len()));
        set.active = active
            .into_values()
            .map(|target| match &error {
                Some(error) => Arc::new(Target { forced_error: Some(error.clone()), ..target }),
                None => Arc::new(target),
            })
            .collect();
        set
    }
}

/// The labels of a target before relabelling.
fn discovered(
    config: &ScrapeConfig,
    common: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
) -> Labels {
    let mut labels = LabelsBuilder::default();
    for (name, value) in common.iter().chain(own) {
        labels.set(name, value);
    }
    let defaults = [
        ("job", config.job_name.clone()),
        (INTERVAL, format_duration(config.scrape_interval)),
        (TIMEOUT, format_duration(config.scrape_timeout)),
        (PATH, config.metrics_path.clone()),
        (SCHEME, config.scheme.as_str().to_owned()),
        (NHCB, false.to_string()), // a configuration that says otherwise is refused
        (CLASSIC, config.always_scrape_classic_histograms.to_string()),
        (NATIVE, config.scrape_native_histograms.to_string()),
    ];
    for (name, value) in &defaults {
        if labels.get(name).is_empty() {
            labels.set(name, value);
        }
    }
    for (name, values) in &config.params {
        let label = format!("{PARAM_PREFIX}{name}");
        if let Some(first) = values.first()
            && labels.get(&label).is_empty()
        {
            labels.set(&label, first);
        }
    }
    labels.build()
}

impl Target {
    /// Makes a target of its labels before relabelling; `None` if relabelling drops it.
    ///
    /// # Errors
    /// If what relabelling leaves is no target.
    pub fn of_discovered(
        config: &Arc<ScrapeConfig>,
        discovered: Labels,
    ) -> Result<Option<Target>, TargetError> {
        let mut labels = discovered.to_builder();
        if !relabel(&mut labels, &config.relabel_configs) {
            return Ok(None);
        }
        let address = labels.get(ADDRESS).to_owned();
        if address.is_empty() {
            return Err(TargetError::NoAddress);
        }
        if !check_address(&address) {
            return Err(TargetError::Address(address));
        }
        let (interval, timeout) = interval_and_timeout(&labels)?;
        if switch(&labels, NHCB, "convert classic histograms to nhcb")? == Some(true) {
            return Err(TargetError::Nhcb);
        }
        let classic = switch(&labels, CLASSIC, "always scrape classic histograms")?;
        let native = switch(&labels, NATIVE, "scrape native histograms")?;
        if labels.get("instance").is_empty() {
            labels.set("instance", &address);
        }
        let scheme = labels.get(SCHEME).to_owned();
        let mut url = TargetUrl::new(
            Scheme::parse(&scheme).unwrap_or_default(),
            &address,
            labels.get(PATH),
            &params(config, &labels),
        );
        let mut forced_error = None;
        if Scheme::parse(&scheme).is_none() {
            url.scheme_unknown = Some(scheme.clone());
            forced_error = Some(format!("Get {:?}: unsupported protocol scheme {scheme:?}", url.to_string()));
        }
        labels.retain(|name, _| !name.starts_with(RESERVED_PREFIX));
        let labels = labels.build();
        let source = SourceKey::Scrape {
            job_name: config.job_name.clone(),
            labels: labels.clone(),
            url: url.to_string(),
        };
        Ok(Some(Target {
            source: Arc::new(source),
            config: config.clone(),
            discovered,
            labels,
            url,
            interval,
            timeout,
            native_histograms: native.unwrap_or(config.scrape_native_histograms),
            classic_histograms: classic.unwrap_or(config.always_scrape_classic_histograms),
            forced_error,
        }))
    }

    /// The address as the API's `globalUrl` has it: one that is local to the scraping node is replaced by the node's
    /// own host name, the port kept.
    #[must_use]
    pub fn global_url(&self, host_name: &str) -> TargetUrl {
        let mut url = self.url.clone();
        if matches!(url.host(), "localhost" | "127.0.0.1" | "::1") {
            url.authority = match url.authority.rsplit_once(':') {
                Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => {
                    format!("{host_name}:{port}")
                }
                _ => host_name.to_owned(),
            };
        }
        url
    }

    /// Where in its interval it is scraped, the same on every node and for as long as its identity is the same.
    #[must_use]
    pub fn offset(&self) -> DurationMs {
        let mut identity = self.labels.as_bytes().to_vec();
        identity.push(0xff);
        identity.extend_from_slice(self.url.to_string().as_bytes());
        identity.extend_from_slice(self.config.job_name.as_bytes());
        DurationMs(xxhash_rust::xxh3::xxh3_64(&identity) % self.interval.0)
    }
}

fn interval_and_timeout(labels: &LabelsBuilder) -> Result<(DurationMs, DurationMs), TargetError> {
    let interval = parse_duration(labels.get(INTERVAL)).map_err(TargetError::Interval)?;
    let timeout = parse_duration(labels.get(TIMEOUT)).map_err(TargetError::Timeout)?;
    match (interval.0, timeout.0) {
        (0, _) => Err(TargetError::NoInterval),
        (_, 0) => Err(TargetError::NoTimeout),
        _ if timeout > interval => Err(TargetError::TimeoutBeyondInterval {
            timeout: labels.get(TIMEOUT).to_owned(),
            interval: labels.get(INTERVAL).to_owned(),
        }),
        _ => Ok((interval, timeout)),
    }
}

/// What a label says that switches something, in Go's words for true and false; `None` if there is none.
fn switch(labels: &LabelsBuilder, label: &str, what: &'static str) -> Result<Option<bool>, TargetError> {
    match labels.get(label) {
        "" => Ok(None),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        value => Err(TargetError::Switch { what, value: value.to_owned() }),
    }
}

/// The parameters of the URL: those configured, the first value of each replaced by its `__param_` label.
fn params(config: &ScrapeConfig, labels: &LabelsBuilder) -> Vec<(String, Vec<String>)> {
    let mut params: BTreeMap<String, Vec<String>> = config.params.iter().cloned().collect();
    for (name, value) in labels.iter() {
        if let Some(name) = name.strip_prefix(PARAM_PREFIX) {
            let values = params.entry(name.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            }
        }
    }
    params.into_iter().collect()
}

/// Whether a label is for relabelling only.
#[must_use]
pub fn is_meta_label(name: &str) -> bool {
    name.starts_with(META_PREFIX)
}

#[cfg(test)]
mod tests;

//! From the labels of a sample to the labels of its series: the target's labels, honor_labels, metric relabelling,
//! and what then must hold of them.

use crate::config::{ScrapeConfig, ScrapeLimits};
use crate::exposition::{quote, shorten};
use crate::relabel::{is_valid_series, relabel};
use model::{Labels, LabelsBuilder, METRIC_NAME};
use std::borrow::Cow;

/// The series is such that its whole scrape fails; Prometheus's texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SeriesError {
    #[error("missing metric name (__name__ label)")]
    NoName,
    #[error("invalid metric name or label names: {0}")]
    BadName(Labels),
    #[error("label name {0:?} is not unique: invalid sample")]
    Repeated(String),
    #[error("label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})")]
    Count { metric: String, count: u64, limit: u64 },
    #[error(
        "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
    )]
    NameLength { metric: String, name: String, length: u64, limit: u64 },
    #[error(
        "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {value}, length: {length}, \
         limit: {limit})"
    )]
    ValueLength { metric: String, name: String, value: String, length: u64, limit: u64 },
}

/// A name and a value as they were scraped.
pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Makes the labels of a series; `None` if metric relabelling drops it.
///
/// # Errors
/// If it breaks a rule or limit that fails the scrape.
pub(crate) fn series_labels<'a>(
    config: &ScrapeConfig,
    target: &Labels,
    name: Cow<'a, str>,
    scraped: impl Iterator<Item = Pair<'a>>,
) -> Result<Option<Labels>, SeriesError> {
    // With empty values, because an empty scraped label can hold the target's one off.
    let mut own: Vec<Pair<'a>> = Vec::with_capacity(16);
    own.push((METRIC_NAME.into(), name));
    own.extend(scraped);
    own.sort_by(|(a, _), (b, _)| a.cmp(b));
    if let Some(pair) = own.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(SeriesError::Repeated(pair[0].0.clone().into_owned()));
    }
    let labels = if config.metric_relabel_configs.is_empty() && !clashes(config, target, &own) {
        merged(own, target)
    } else {
        match relabelled(config, target, &own) {
            Some(labels) => labels,
            None => return Ok(None),
        }
    };
    if labels.metric_name().is_empty() {
        return Err(SeriesError::NoName);
    }
    if !is_valid_series(&labels, config.name_validation) {
        return Err(SeriesError::BadName(labels));
    }
    check_limits(&labels, &config.limits)?;
    Ok(Some(labels))
}

fn value_of<'p>(own: &'p [Pair<'_>], name: &str) -> Option<&'p str> {
    own.binary_search_by(|(own, _)| own.as_ref().cmp(name)).ok().map(|at| own[at].1.as_ref())
}

/// Whether a scraped label must give way to one of the target's.
fn clashes(config: &ScrapeConfig, target: &Labels, own: &[Pair<'_>]) -> bool {
    !config.honor_labels && target.iter().any(|(name, _)| value_of(own, name).is_some())
}

/// Both together, where nothing clashes or the scraped ones win.
fn merged<'a>(mut own: Vec<Pair<'a>>, target: &'a Labels) -> Labels {
    let scraped = own.len();
    for (name, value) in target.iter() {
        if value_of(&own[..scraped], name).is_none() {
            own.push((name.into(), value.into()));
        }
    }
    own.sort_by(|(a, _), (b, _)| a.cmp(b));
    let present = own.iter().filter(|(name, value)| !name.is_empty() && !value.is_empty());
    Labels::from_sorted(present.map(|(name, value)| (name.as_ref(), value.as_ref())))
}

/// The long way: clashes, then the rules; `None` if they drop the series.
fn relabelled(config: &ScrapeConfig, target: &Labels, own: &[Pair<'_>]) -> Option<Labels> {
    let mut labels = LabelsBuilder::default();
    for (name, value) in own {
        labels.set(name, value);
    }
    if config.honor_labels {
        for (name, value) in target.iter().filter(|(name, _)| value_of(own, name).is_none()) {
            labels.set(name, value);
        }
    } else {
        overrule(&mut labels, target);
    }
    // An empty set is Prometheus's way to say "dropped".
    (relabel(&mut labels, &config.metric_relabel_configs) && labels.iter().next().is_some())
        .then(|| labels.build())
}

/// Sets the target's labels; scraped ones of the same name become `exported_`, repeated until there is room.
fn overrule(labels: &mut LabelsBuilder, target: &Labels) {
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for (name, value) in target.iter() {
        let scraped = labels.get(name);
        if !scraped.is_empty() {
            conflicts.push((name.to_owned(), scraped.to_owned()));
        }
        labels.set(name, value);
    }
    conflicts.sort_by_key(|(name, _)| name.len());
    for (name, value) in conflicts {
        let mut free = format!("exported_{name}");
        while !labels.get(&free).is_empty() {
            free.insert_str(0, "exported_");
        }
        labels.set(&free, &value);
    }
}

fn check_limits(labels: &Labels, limits: &ScrapeLimits) -> Result<(), SeriesError> {
    let ScrapeLimits { labels: 0, label_name_length: 0, label_value_length: 0, .. } = *limits else {
        return check_set_limits(labels, limits);
    };
    Ok(())
}

fn check_set_limits(labels: &Labels, limits: &ScrapeLimits) -> Result<(), SeriesError> {
    let metric = || shorten(labels.metric_name(), 50).to_owned();
    let count = labels.len() as u64;
    if limits.labels > 0 && count > limits.labels {
        return Err(SeriesError::Count { metric: metric(), count, limit: limits.labels });
    }
    for (name, value) in labels.iter() {
        let limit = limits.label_name_length;
        if limit > 0 && name.len() as u64 > limit {
            let (length, name) = (name.len() as u64, shorten(name, 50).to_owned());
            return Err(SeriesError::NameLength { metric: metric(), name, length, limit });
        }
        let limit = limits.label_value_length;
        if limit > 0 && value.len() as u64 > limit {
            let length = value.len() as u64;
            let value = quote(shorten(value, 50).as_bytes());
            let name = shorten(name, 50).to_owned();
            return Err(SeriesError::ValueLength { metric: metric(), name, value, length, limit });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(honor: bool, scraped: &[(&str, &str)]) -> String {
        let config = ScrapeConfig { honor_labels: honor, ..ScrapeConfig::new("j") };
        made(&config, scraped).expect("good").expect("kept").to_string()
    }

    fn made(config: &ScrapeConfig, scraped: &[(&str, &str)]) -> Result<Option<Labels>, SeriesError> {
        let target = Labels::from_pairs([("job", "j"), ("instance", "i")]);
        let scraped = scraped.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        series_labels(config, &target, "m".into(), scraped)
    }

    fn limited(limits: ScrapeLimits, scraped: &[(&str, &str)]) -> String {
        let config = ScrapeConfig { limits, ..ScrapeConfig::new("j") };
        made(&config, scraped).unwrap_err().to_string()
    }

    #[test]
    fn the_targets_labels_win_and_scraped_ones_are_kept_beside_them() {
        assert_eq!(
            labels(false, &[("job", "x"), ("exported_job", "y")]),
            r#"{__name__="m", exported_exported_job="x", exported_job="y", instance="i", job="j"}"#
        );
    }

    #[test]
    fn honoured_labels_win_even_if_they_are_empty() {
        assert_eq!(labels(true, &[("job", "x"), ("instance", "")]), r#"{__name__="m", job="x"}"#);
    }

    #[test]
    fn a_label_stands_once() {
        let error = made(&ScrapeConfig::new("j"), &[("a", "1"), ("a", "2")]).unwrap_err();
        assert_eq!(error.to_string(), "label name \"a\" is not unique: invalid sample");
    }

    #[test]
    fn a_limit_is_named_with_what_broke_it() {
        assert_eq!(
            limited(ScrapeLimits { labels: 3, ..ScrapeLimits::default() }, &[("a", "1")]),
            "label_limit exceeded (metric: m, number of labels: 4, limit: 3)"
        );
        assert_eq!(
            limited(ScrapeLimits { label_name_length: 8, ..ScrapeLimits::default() }, &[("too_long_", "1")]),
            "label_name_length_limit exceeded (metric: m, label name: too_long_, length: 9, limit: 8)"
        );
        assert_eq!(
            limited(ScrapeLimits { label_value_length: 3, ..ScrapeLimits::default() }, &[("a", "1\"34")]),
            "label_value_length_limit exceeded (metric: m, label name: a, value: \"1\\\"34\", length: 4, limit: 3)"
        );
    }
}

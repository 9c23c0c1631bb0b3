//! Sources: what produces rows of values with one timestamp.

use crate::{Labels, ShardId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Identity of a source. Two sources are never merged in storage, even if their series have equal labels; queries
/// merge those by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKey {
    /// A scrape target.
    Scrape {
        /// `job_name` of its scrape configuration.
        job_name: String,
        /// The target's labels after relabelling, `job` and `instance` included.
        labels: Labels,
        /// The URL that is scraped.
        url: String,
    },
    /// What remote writers send for one `job` and `instance`, which are empty where the series have none.
    RemoteWrite {
        /// The series' `job` label.
        job: String,
        /// The series' `instance` label.
        instance: String,
    },
}

impl SourceKey {
    /// The `job` and `instance` that decide the shard.
    #[must_use]
    pub fn job_and_instance(&self) -> (&str, &str) {
        match self {
            SourceKey::Scrape { labels, .. } => {
                (labels.get("job").unwrap_or(""), labels.get("instance").unwrap_or(""))
            }
            SourceKey::RemoteWrite { job, instance } => (job, instance),
        }
    }

    /// The data shard of this source among shards `1..=shards`.
    #[must_use]
    pub fn shard(&self, shards: u32) -> ShardId {
        let (job, instance) = self.job_and_instance();
        shard_of(job, instance, shards)
    }
}

/// Rendezvous hash: the data shard among `1..=shards` for what carries this `job` and `instance`. A scrape and a
/// remote write of one target meet, and a change of the number of shards moves as little as possible.
///
/// # Panics
/// If `shards` is 0: a cluster has at least one data shard.
#[must_use]
pub fn shard_of(job: &str, instance: &str, shards: u32) -> ShardId {
    let mut key = Vec::with_capacity(job.len() + instance.len() + 1);
    key.extend_from_slice(job.as_bytes());
    key.push(0xff); // no UTF-8 text contains it, so ("a", "bc") and ("ab", "c") differ
    key.extend_from_slice(instance.as_bytes());
    let best = (1..=shards).max_by_key(|shard| (xxh3_64_with_seed(&key, u64::from(*shard)), *shard));
    ShardId(best.expect("at least one data shard"))
}

/// How a [`SourceKey`] travels: serde form with packed labels.
#[derive(Serialize, Deserialize)]
enum Wire {
    Scrape(String, Vec<u8>, String),
    RemoteWrite(String, String),
}

impl Serialize for SourceKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SourceKey::Scrape { job_name, labels, url } => {
                Wire::Scrape(job_name.clone(), labels.as_bytes().to_vec(), url.clone())
            }
            SourceKey::RemoteWrite { job, instance } => Wire::RemoteWrite(job.clone(), instance.clone()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SourceKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Wire::deserialize(deserializer)? {
            Wire::Scrape(job_name, labels, url) => SourceKey::Scrape {
                job_name,
                labels: Labels::from_bytes(&labels)
                    .ok_or_else(|| serde::de::Error::custom("source key with malformed labels"))?,
                url,
            },
            Wire::RemoteWrite(job, instance) => SourceKey::RemoteWrite { job, instance },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_and_a_remote_write_of_one_target_meet_in_one_shard() {
        let labels = Labels::from_pairs([("job", "node"), ("instance", "a:9100"), ("dc", "x")]);
        let scrape = SourceKey::Scrape { job_name: "n".into(), labels, url: "http://a:9100/metrics".into() };
        let write = SourceKey::RemoteWrite { job: "node".into(), instance: "a:9100".into() };
        assert_eq!(scrape.shard(6), write.shard(6));
    }

    #[test]
    fn sources_spread_over_all_shards() {
        let shards: std::collections::BTreeSet<_> =
            (0..100).map(|i| shard_of("node", &i.to_string(), 6)).collect();
        assert_eq!(shards.len(), 6);
    }

    #[test]
    fn one_more_shard_moves_only_what_goes_to_it() {
        let moved = (0..1000).map(|i| (shard_of("j", &i.to_string(), 6), shard_of("j", &i.to_string(), 7)));
        assert!(moved.filter(|(old, new)| old != new).all(|(_, new)| new == ShardId(7)));
    }
}

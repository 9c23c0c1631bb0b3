//! The configuration file as people write it. Unknown keys are errors, absent ones are `None`; every value that is
//! checked later remembers its line.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, fmt};

/// An optional value with its line.
pub(super) type Opt<T> = Option<Spanned<T>>;

/// A part that is not supported: only whether it is empty matters. A list or mapping of what is empty is empty, too,
/// like the `alerting` of Prometheus's own example.
#[derive(Debug)]
pub(super) struct Anything {
    pub(super) is_empty: bool,
}

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = bool;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_unit<E>(self) -> Result<bool, E> {
                Ok(true)
            }
            fn visit_none<E>(self) -> Result<bool, E> {
                Ok(true)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
                deserializer.deserialize_any(Any)
            }
            fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
                Ok(!value)
            }
            fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
                Ok(false)
            }
            fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
                Ok(false)
            }
            fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
                Ok(false)
            }
            fn visit_str<E>(self, text: &str) -> Result<bool, E> {
                Ok(text.is_empty())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
                let mut empty = true;
                while let Some(value) = seq.next_element::<Anything>()? {
                    empty &= value.is_empty;
                }
                Ok(empty)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
                let mut empty = true;
                while let Some((_, value)) = map.next_entry::<IgnoredAny, Anything>()? {
                    empty &= value.is_empty;
                }
                Ok(empty)
            }
        }
        Ok(Anything { is_empty: deserializer.deserialize_any(Any)? })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub(super) global: Option<RawGlobal>,
    pub(super) runtime: Opt<Anything>,
    pub(super) alerting: Opt<Anything>,
    pub(super) rule_files: Opt<Anything>,
    pub(super) scrape_config_files: Opt<Anything>,
    pub(super) scrape_configs: Option<Vec<Spanned<Option<RawScrape>>>>,
    pub(super) storage: Option<RawStorage>,
    pub(super) tracing: Opt<Anything>,
    pub(super) remote_write: Opt<Anything>,
    pub(super) remote_read: Opt<Anything>,
    pub(super) otlp: Opt<Anything>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGlobal {
    pub(super) scrape_interval: Opt<String>,
    pub(super) scrape_timeout: Opt<String>,
    pub(super) scrape_protocols: Opt<Vec<String>>,
    pub(super) evaluation_interval: Opt<String>,
    pub(super) rule_query_offset: Opt<Anything>,
    pub(super) query_log_file: Opt<String>,
    pub(super) scrape_failure_log_file: Opt<Anything>,
    pub(super) external_labels: Opt<RawLabels>,
    pub(super) body_size_limit: Opt<String>,
    pub(super) sample_limit: Opt<u64>,
    pub(super) target_limit: Opt<u64>,
    pub(super) label_limit: Opt<u64>,
    pub(super) label_name_length_limit: Opt<u64>,
    pub(super) label_value_length_limit: Opt<u64>,
    pub(super) keep_dropped_targets: Opt<u64>,
    pub(super) metric_name_validation_scheme: Opt<String>,
    pub(super) metric_name_escaping_scheme: Opt<String>,
    pub(super) scrape_native_histograms: Opt<bool>,
    pub(super) convert_classic_histograms_to_nhcb: Opt<bool>,
    pub(super) always_scrape_classic_histograms: Opt<bool>,
    pub(super) extra_scrape_metrics: Opt<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStorage {
    pub(super) tsdb: Option<RawTsdb>,
    pub(super) exemplars: Opt<Anything>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTsdb {
    pub(super) out_of_order_time_window: Opt<String>,
    pub(super) retention: Option<RawRetention>,
    pub(super) stale_series_compaction_threshold: Opt<Anything>,
    pub(super) chunk_encoding: Opt<Anything>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetention {
    pub(super) time: Opt<String>,
    pub(super) size: Opt<String>,
    pub(super) percentage: Opt<Anything>,
}

/// Kinds of discovery that Prometheus has and Vestal does not support yet.
macro_rules! raw_scrape {
    ($($sd:ident),* $(,)?) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(super) struct RawScrape {
            pub(super) job_name: Opt<String>,
            pub(super) scrape_interval: Opt<String>,
            pub(super) scrape_timeout: Opt<String>,
            pub(super) scrape_protocols: Opt<Vec<String>>,
            pub(super) fallback_scrape_protocol: Opt<String>,
            pub(super) scrape_native_histograms: Opt<bool>,
            pub(super) always_scrape_classic_histograms: Opt<bool>,
            pub(super) convert_classic_histograms_to_nhcb: Opt<bool>,
            pub(super) native_histogram_bucket_limit: Opt<u64>,
            pub(super) native_histogram_min_bucket_factor: Opt<f64>,
            #[serde(deserialize_with = "zero_if_null")]
            pub(super) metrics_path: Opt<String>,
            #[serde(deserialize_with = "zero_if_null")]
            pub(super) scheme: Opt<String>,
            pub(super) params: Option<BTreeMap<String, Vec<String>>>,
            pub(super) honor_labels: Opt<bool>,
            #[serde(deserialize_with = "zero_if_null")]
            pub(super) honor_timestamps: Opt<bool>,
            pub(super) track_timestamps_staleness: Opt<bool>,
            #[serde(deserialize_with = "zero_if_null")]
            pub(super) enable_compression: Opt<bool>,
            pub(super) extra_scrape_metrics: Opt<bool>,
            pub(super) body_size_limit: Opt<String>,
            pub(super) sample_limit: Opt<u64>,
            pub(super) target_limit: Opt<u64>,
            pub(super) label_limit: Opt<u64>,
            pub(super) label_name_length_limit: Opt<u64>,
            pub(super) label_value_length_limit: Opt<u64>,
            pub(super) keep_dropped_targets: Opt<u64>,
            pub(super) metric_name_validation_scheme: Opt<String>,
            pub(super) metric_name_escaping_scheme: Opt<String>,
            pub(super) scrape_failure_log_file: Opt<Anything>,
            pub(super) basic_auth: Opt<RawBasicAuth>,
            pub(super) authorization: Opt<RawAuthorization>,
            pub(super) bearer_token: Opt<String>,
            pub(super) bearer_token_file: Opt<String>,
            pub(super) oauth2: Opt<Anything>,
            pub(super) tls_config: Opt<RawTls>,
            #[serde(deserialize_with = "zero_if_null")]
            pub(super) follow_redirects: Opt<bool>,
            pub(super) enable_http2: Opt<bool>,
            pub(super) proxy_url: Opt<Anything>,
            pub(super) no_proxy: Opt<Anything>,
            pub(super) proxy_from_environment: Opt<Anything>,
            pub(super) proxy_connect_header: Opt<Anything>,
            pub(super) http_headers: Opt<BTreeMap<String, RawHeader>>,
            pub(super) static_configs: Option<Vec<Spanned<Option<RawStatic>>>>,
            pub(super) file_sd_configs: Option<Vec<Spanned<Option<RawFileSd>>>>,
            pub(super) relabel_configs: Option<Vec<Spanned<Option<RawRelabel>>>>,
            pub(super) metric_relabel_configs: Option<Vec<Spanned<Option<RawRelabel>>>>,
            $(pub(super) $sd: Opt<Anything>,)*
        }

        impl RawScrape {
            /// Discovery sections that are not supported, with their names.
            pub(super) fn unsupported_discovery(&self) -> Vec<(&'static str, &Opt<Anything>)> {
                vec![$((stringify!($sd), &self.$sd)),*]
            }
        }
    };
}

raw_scrape!(
    aws_sd_configs,
    azure_sd_configs,
    consul_sd_configs,
    digitalocean_sd_configs,
    dns_sd_configs,
    docker_sd_configs,
    dockerswarm_sd_configs,
    ec2_sd_configs,
    ecs_sd_configs,
    eureka_sd_configs,
    gce_sd_configs,
    hetzner_sd_configs,
    http_sd_configs,
    ionos_sd_configs,
    kubernetes_sd_configs,
    kuma_sd_configs,
    lightsail_sd_configs,
    linode_sd_configs,
    marathon_sd_configs,
    msk_sd_configs,
    nerve_sd_configs,
    nomad_sd_configs,
    oci_sd_configs,
    openstack_sd_configs,
    outscale_sd_configs,
    ovhcloud_sd_configs,
    puppetdb_sd_configs,
    rds_sd_configs,
    scaleway_sd_configs,
    serverset_sd_configs,
    stackit_sd_configs,
    triton_sd_configs,
    uyuni_sd_configs,
    vultr_sd_configs,
);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBasicAuth {
    pub(super) username: Option<String>,
    pub(super) username_file: Option<String>,
    pub(super) password: Option<String>,
    pub(super) password_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAuthorization {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) credentials: Option<String>,
    pub(super) credentials_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) ca: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) server_name: Option<String>,
    pub(super) insecure_skip_verify: Option<bool>,
    pub(super) min_version: Opt<String>,
    pub(super) max_version: Opt<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHeader {
    pub(super) values: Vec<String>,
    pub(super) secrets: Vec<String>,
    pub(super) files: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStatic {
    pub(super) targets: Vec<Spanned<String>>,
    pub(super) labels: Opt<RawLabels>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFileSd {
    pub(super) files: Vec<Spanned<String>>,
    pub(super) refresh_interval: Opt<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRelabel {
    pub(super) source_labels: Option<Vec<String>>,
    #[serde(deserialize_with = "zero_if_null")]
    pub(super) separator: Opt<String>,
    pub(super) target_label: Option<String>,
    /// Null is the empty expression, which matches only the empty text.
    #[serde(deserialize_with = "zero_if_null")]
    pub(super) regex: Opt<String>,
    pub(super) modulus: Option<u64>,
    /// Null is the empty text, which deletes a label.
    #[serde(deserialize_with = "zero_if_null")]
    pub(super) replacement: Opt<String>,
    #[serde(deserialize_with = "zero_if_null")]
    pub(super) action: Opt<String>,
}

/// Labels; one with nothing behind it is the empty text.
pub(super) type RawLabels = BTreeMap<String, Option<String>>;

/// Tells an absent key, which has its default, from one with nothing behind it, which is empty or false as in
/// Prometheus. Needed only where the default is something else.
fn zero_if_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<Opt<T>, D::Error> {
    let Spanned { value, referenced, defined } = Spanned::<Option<T>>::deserialize(deserializer)?;
    Ok(Some(Spanned::new(value.unwrap_or_default(), referenced, defined)))
}

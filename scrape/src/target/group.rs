//! Target groups: addresses with labels in common, as `static_configs` and the files of `file_sd_configs` hold them.

use crate::yaml_options;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The longest file of target groups that is read, in bytes: as much as a cluster keeps of its configuration with all
/// files.
pub const GROUP_FILE_BYTES_MAX: usize = 8 << 20;

/// Targets that were discovered together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// Who discovered it; a later group of the same source replaces this one.
    pub source: String,
    /// Labels of each target; the address is `__address__`.
    pub targets: Vec<BTreeMap<String, String>>,
    /// Labels of all targets; a target's own come first.
    pub labels: BTreeMap<String, String>,
}

/// A file of target groups cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Too long.
    #[error("{file}: more than {GROUP_FILE_BYTES_MAX} bytes")]
    TooLong {
        /// The file.
        file: String,
    },
    /// Neither `.json` nor `.yml` nor `.yaml`.
    #[error("{file}: the name of a file of targets must end in .json, .yml or .yaml")]
    Extension {
        /// The file.
        file: String,
    },
    /// Not what it should be; the parser says where.
    #[error("{file}: {what}")]
    Malformed {
        /// The file.
        file: String,
        /// Where, and what is wrong.
        what: String,
    },
}

/// A group as a file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    #[serde(default)]
    targets: Option<Vec<String>>,
    /// A value with nothing behind it is the empty text.
    #[serde(default)]
    labels: Option<BTreeMap<String, Option<String>>>,
}

const ADDRESS: &str = "__address__";
const FILE_PATH: &str = "__meta_filepath";

impl TargetGroup {
    /// A group of addresses without further labels.
    pub fn of_addresses<A: Into<String>>(
        source: impl Into<String>,
        addresses: impl IntoIterator<Item = A>,
    ) -> TargetGroup {
        let target = |address: A| BTreeMap::from([(ADDRESS.to_owned(), address.into())]);
        TargetGroup {
            source: source.into(),
            targets: addresses.into_iter().map(target).collect(),
            labels: BTreeMap::new(),
        }
    }

    /// The addresses of its targets.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().filter_map(|target| target.get(ADDRESS)).map(String::as_str)
    }

    /// Reads the contents of a file of `file_sd_configs`; `file` is its path, whose ending says the format and which
    /// becomes `__meta_filepath`.
    ///
    /// # Errors
    /// If the contents are not a list of groups.
    pub fn parse_file(file: &str, contents: &str) -> Result<Vec<TargetGroup>, GroupError> {
        let name = || file.to_owned();
        if contents.len() > GROUP_FILE_BYTES_MAX {
            return Err(GroupError::TooLong { file: name() });
        }
        let malformed = |what: String| GroupError::Malformed { file: name(), what };
        let ending = file.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        let raw: Option<Vec<Option<RawGroup>>> = match ending.as_deref() {
            Some("json") => serde_json::from_str(contents).map_err(|e| malformed(e.to_string()))?,
            Some("yml" | "yaml") => {
                serde_saphyr::from_str_with_options(contents, yaml_options(GROUP_FILE_BYTES_MAX))
                    .map_err(|e| malformed(e.to_string()))?
            }
            _ => return Err(GroupError::Extension { file: name() }),
        };
        let group = |(i, raw): (usize, Option<RawGroup>)| {
            let raw = raw.ok_or_else(|| malformed(format!("nil target group item found (index {i})")))?;
            let mut group = TargetGroup::of_addresses(format!("{file}:{i}"), raw.targets.unwrap_or_default());
            let labels = raw.labels.unwrap_or_default().into_iter();
            group.labels = labels.map(|(name, value)| (name, value.unwrap_or_default())).collect();
            if let Some(label) = group.labels.keys().find(|label| label.is_empty()) {
                return Err(malformed(format!("{label:?} is not a valid label name")));
            }
            group.labels.insert(FILE_PATH.to_owned(), name());
            Ok(group)
        };
        raw.unwrap_or_default().into_iter().enumerate().map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, contents: &str) -> Vec<TargetGroup> {
        TargetGroup::parse_file(file, contents).expect("a good file")
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let yaml = read("t.yml", "- targets: ['a:1', \"b:2\"]\n  labels:\n    dc: x\n    rack: 1.10\n");
        let json = read("t.json", r#"[{"targets": ["a:1", "b:2"], "labels": {"dc": "x", "rack": "1.10"}}]"#);
        assert_eq!(yaml[0].addresses().collect::<Vec<_>>(), ["a:1", "b:2"]);
        assert_eq!(yaml[0].labels["rack"], "1.10");
        assert_eq!(yaml[0].labels["__meta_filepath"], "t.yml");
        assert_eq!(yaml[0].targets, json[0].targets);
    }

    #[test]
    fn a_label_with_nothing_behind_it_is_empty() {
        let yaml = read("T.YML", "- targets: ['a:1']\n  labels: {dc: , rack: ~, row: 'null'}\n");
        assert_eq!((yaml[0].labels["dc"].as_str(), yaml[0].labels["rack"].as_str()), ("", ""));
        assert_eq!(yaml[0].labels["row"], "null");
        assert_eq!(read("t.JSON", r#"[{"labels": {"dc": null}}]"#)[0].labels["dc"], "");
    }

    #[test]
    fn a_file_is_bounded_by_its_length_and_not_by_its_number_of_targets() {
        let addresses: String = (0..300_000).map(|i| format!("  - h{i}:9100\n")).collect();
        assert_eq!(read("t.yml", &format!("- targets:\n{addresses}"))[0].targets.len(), 300_000);
    }

    #[test]
    fn any_number_of_groups_share_one_anchor() {
        let group = "- {targets: ['a:1'], labels: *l}\n".repeat(500);
        let groups = read("t.yml", &format!("- {{targets: ['a:1'], labels: &l {{dc: x}}}}\n{group}"));
        assert_eq!(groups[500].labels["dc"], "x");
    }

    #[test]
    fn an_empty_file_is_no_targets() {
        assert_eq!(read("t.yml", ""), []);
        assert_eq!(read("t.json", "[]"), []);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let error = |file, text| TargetGroup::parse_file(file, text).unwrap_err().to_string();
        assert!(error("t.json", "[{\"tragets\": []}]").contains("unknown field `tragets`"));
        assert!(error("t.yml", "- targets: []\n  lables: {}\n").contains("lables"));
        assert!(error("t.json", "[null]").contains("nil target group item found (index 0)"));
        assert!(error("t.txt", "").contains("must end in .json"));
    }
}

//! Relabelling: rules that rewrite, keep or drop label sets.
//!
//! Rules run in order over one label set; a rule may drop it. Names, defaults, order of checks and texts are
//! Prometheus's (`model/relabel`).

use crate::config::NameValidation;
use crate::names::{is_valid_label_name, is_valid_metric_name};
use md5::{Digest, Md5};
use model::{AnchoredRegex, Labels, LabelsBuilder};
use std::fmt;

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RelabelAction {
    /// Sets the target label to the expanded replacement where the regex matches.
    #[default]
    Replace,
    /// Drops the set unless the regex matches.
    Keep,
    /// Drops the set if the regex matches.
    Drop,
    /// Drops the set unless the joined value equals the target label's.
    KeepEqual,
    /// Drops the set if the joined value equals the target label's.
    DropEqual,
    /// Sets the target label to a hash of the joined value modulo the modulus.
    HashMod,
    /// Copies labels whose names match to the expanded replacement.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets the target label to the joined value in lower case.
    Lowercase,
    /// Sets the target label to the joined value in upper case.
    Uppercase,
}

impl RelabelAction {
    const ALL: [(RelabelAction, &'static str); 11] = [
        (RelabelAction::Replace, "replace"),
        (RelabelAction::Keep, "keep"),
        (RelabelAction::Drop, "drop"),
        (RelabelAction::KeepEqual, "keepequal"),
        (RelabelAction::DropEqual, "dropequal"),
        (RelabelAction::HashMod, "hashmod"),
        (RelabelAction::LabelMap, "labelmap"),
        (RelabelAction::LabelDrop, "labeldrop"),
        (RelabelAction::LabelKeep, "labelkeep"),
        (RelabelAction::Lowercase, "lowercase"),
        (RelabelAction::Uppercase, "uppercase"),
    ];

    /// The action of a name, in any case.
    ///
    /// # Errors
    /// If there is none of this name, or the name is empty.
    pub fn parse(name: &str) -> Result<RelabelAction, RelabelError> {
        if name.is_empty() {
            return Err(RelabelError::NoAction);
        }
        let lower = name.to_lowercase();
        let found = Self::ALL.iter().find(|(_, known)| *known == lower);
        found.map(|(action, _)| *action).ok_or_else(|| RelabelError::UnknownAction(name.to_owned()))
    }
}

impl fmt::Display for RelabelAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(action, _)| action == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// A rule that Prometheus would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelabelError {
    /// The action is the empty text.
    #[error("relabel action cannot be empty")]
    NoAction,
    /// There is no such action.
    #[error("unknown relabel action {0:?}")]
    UnknownAction(String),
    /// A hash without modulus.
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    NoModulus,
    /// Nowhere to write.
    #[error("relabel configuration for {0} action requires 'target_label' value")]
    NoTarget(RelabelAction),
    /// No label can have this name.
    #[error("{name:?} is invalid 'target_label' for {action} action")]
    Target {
        /// What stands there.
        name: String,
        /// The action.
        action: RelabelAction,
    },
    /// No label can have this name.
    #[error("{name:?} is invalid 'replacement' for {action} action")]
    Replacement {
        /// What stands there.
        name: String,
        /// The action.
        action: RelabelAction,
    },
    /// A replacement that would not be used.
    #[error("'replacement' can not be set for {0} action")]
    UnusedReplacement(RelabelAction),
    /// Fields that would not be used.
    #[error("{0} action requires only 'source_labels' and `target_label`, and no other fields")]
    OnlyLabels(RelabelAction),
    /// Fields that would not be used.
    #[error("{0} action requires only 'regex', and no other fields")]
    OnlyRegex(RelabelAction),
    /// The expression is none.
    #[error(transparent)]
    Regex(#[from] model::RegexError),
}

/// A rule as it is written; absent fields have Prometheus's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelabelSpec {
    /// `source_labels`
    pub source_labels: Vec<String>,
    /// `separator`, by default `;`
    pub separator: Option<String>,
    /// `target_label`
    pub target_label: String,
    /// `regex`, by default `(.*)`
    pub regex: Option<String>,
    /// `modulus`
    pub modulus: u64,
    /// `replacement`, by default `$1`
    pub replacement: Option<String>,
    /// `action`
    pub action: RelabelAction,
}

const SEPARATOR: &str = ";";
const REGEX: &str = "(.*)";
const REPLACEMENT: &str = "$1";

/// A checked rule.
#[derive(Clone, Debug)]
pub struct RelabelConfig {
    source_labels: Vec<String>,
    separator: String,
    target_label: String,
    regex: AnchoredRegex,
    modulus: u64,
    replacement: String,
    action: RelabelAction,
    validation: NameValidation,
}

impl PartialEq for RelabelConfig {
    fn eq(&self, other: &Self) -> bool {
        self.to_spec() == other.to_spec() && self.validation == other.validation
    }
}

impl Eq for RelabelConfig {}

impl RelabelConfig {
    /// Checks a rule.
    ///
    /// # Errors
    /// As Prometheus refuses it.
    pub fn new(spec: RelabelSpec, validation: NameValidation) -> Result<RelabelConfig, RelabelError> {
        use RelabelAction::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase};
        use RelabelAction::{Replace, Uppercase};
        let action = spec.action;
        let target = || RelabelError::Target { name: spec.target_label.clone(), action };
        let separator = spec.separator.as_deref().unwrap_or(SEPARATOR);
        let regex = spec.regex.as_deref().unwrap_or(REGEX);
        let replacement = spec.replacement.as_deref().unwrap_or(REPLACEMENT);

        if action == HashMod && spec.modulus == 0 {
            return Err(RelabelError::NoModulus);
        }
        let writes = matches!(action, Replace | KeepEqual | DropEqual | HashMod | Lowercase | Uppercase);
        if writes && spec.target_label.is_empty() {
            return Err(RelabelError::NoTarget(action));
        }
        if writes && !is_name_template(&spec.target_label, validation, action == Replace) {
            return Err(target());
        }
        if matches!(action, Lowercase | Uppercase | KeepEqual | DropEqual) && replacement != REPLACEMENT {
            return Err(RelabelError::UnusedReplacement(action));
        }
        if action == LabelMap && !is_name_template(replacement, validation, true) {
            return Err(RelabelError::Replacement { name: replacement.to_owned(), action });
        }
        let defaults_stand = spec.modulus == 0 && separator == SEPARATOR && replacement == REPLACEMENT;
        if matches!(action, DropEqual | KeepEqual) && !(defaults_stand && regex == REGEX) {
            return Err(RelabelError::OnlyLabels(action));
        }
        let only_regex = defaults_stand && spec.source_labels.is_empty() && spec.target_label.is_empty();
        if matches!(action, LabelDrop | LabelKeep) && !only_regex {
            return Err(RelabelError::OnlyRegex(action));
        }
        Ok(RelabelConfig {
            regex: AnchoredRegex::new(regex)?,
            separator: separator.to_owned(),
            replacement: replacement.to_owned(),
            source_labels: spec.source_labels,
            target_label: spec.target_label,
            modulus: spec.modulus,
            action,
            validation,
        })
    }

    /// The rule with all its fields written out.
    #[must_use]
    pub fn to_spec(&self) -> RelabelSpec {
        RelabelSpec {
            source_labels: self.source_labels.clone(),
            separator: Some(self.separator.clone()),
            target_label: self.target_label.clone(),
            regex: Some(self.regex.source().to_owned()),
            modulus: self.modulus,
            replacement: Some(self.replacement.clone()),
            action: self.action,
        }
    }

    /// Applies the rule; says whether the set is kept.
    #[must_use]
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        match self.action {
            RelabelAction::Keep => return self.regex.is_match(&self.joined(labels)),
            RelabelAction::Drop => return !self.regex.is_match(&self.joined(labels)),
            RelabelAction::KeepEqual => return labels.get(&self.target_label) == self.joined(labels),
            RelabelAction::DropEqual => return labels.get(&self.target_label) != self.joined(labels),
            RelabelAction::Replace => self.replace(labels),
            RelabelAction::HashMod => {
                let hash = Md5::digest(self.joined(labels).as_bytes());
                let half = u64::from_be_bytes(hash[8..16].try_into().expect("MD5 has 16 bytes"));
                labels.set(&self.target_label, &(half % self.modulus).to_string());
            }
            RelabelAction::LabelMap => self.map_names(labels),
            RelabelAction::LabelDrop => {
                labels.retain(|name, _| !self.regex.is_match(name));
            }
            RelabelAction::LabelKeep => {
                labels.retain(|name, _| self.regex.is_match(name));
            }
            RelabelAction::Lowercase => {
                let value = self.joined(labels).to_lowercase();
                labels.set(&self.target_label, &value);
            }
            RelabelAction::Uppercase => {
                let value = self.joined(labels).to_uppercase();
                labels.set(&self.target_label, &value);
            }
        }
        true
    }

    fn joined(&self, labels: &LabelsBuilder) -> String {
        let mut joined = String::new();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                joined.push_str(&self.separator);
            }
            joined.push_str(labels.get(name));
        }
        joined
    }

    fn replace(&self, labels: &mut LabelsBuilder) {
        let value = self.joined(labels);
        let Some(target) = self.regex.expand(&value, &self.target_label) else {
            return;
        };
        let replacement = self.regex.expand(&value, &self.replacement).unwrap_or_default();
        if is_valid_label_name(&target, self.validation) {
            labels.set(&target, &replacement); // an empty replacement removes the label
        }
    }

    fn map_names(&self, labels: &mut LabelsBuilder) {
        let mapped: Vec<(String, String)> = labels
            .iter()
            .filter_map(|(name, value)| {
                let target = self.regex.expand(name, &self.replacement)?;
                Some((target, value.to_owned()))
            })
            .collect();
        for (name, value) in mapped {
            labels.set(&name, &value);
        }
    }
}

/// Whether a label may be called so; with `template`, whether it may once `$1` and `${1}` are filled in.
fn is_name_template(name: &str, validation: NameValidation, template: bool) -> bool {
    if validation == NameValidation::Utf8 || !template || !name.contains('$') {
        return is_valid_label_name(name, validation);
    }
    // `^(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+$` without the machinery: variables count as letters.
    let filled = name.replace("${", "").replace(['$', '}'], "");
    !filled.is_empty() && filled.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Runs the rules over a label set; says whether it is kept.
#[must_use]
pub fn relabel(labels: &mut LabelsBuilder, rules: &[RelabelConfig]) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

/// Whether a metric may be called so; kept beside the rules because both serve a series on its way in.
pub(crate) fn is_valid_series(labels: &Labels, validation: NameValidation) -> bool {
    labels.iter().all(|(name, value)| {
        if name == model::METRIC_NAME {
            is_valid_metric_name(value, validation)
        } else {
            is_valid_label_name(name, validation)
        }
    })
}

#[cfg(test)]
mod tests;

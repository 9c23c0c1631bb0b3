//! Which names metrics and labels may have.

use crate::config::NameValidation;

/// Whether a label may be called so.
pub(crate) fn is_valid_label_name(name: &str, validation: NameValidation) -> bool {
    match validation {
        NameValidation::Utf8 => !name.is_empty(),
        NameValidation::Legacy => is_legacy(name, |b| b == b'_'),
    }
}

/// Whether a metric may be called so.
pub(crate) fn is_valid_metric_name(name: &str, validation: NameValidation) -> bool {
    match validation {
        NameValidation::Utf8 => !name.is_empty(),
        NameValidation::Legacy => is_legacy(name, |b| b == b'_' || b == b':'),
    }
}

fn is_legacy(name: &str, special: impl Fn(u8) -> bool) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || special(b);
    name.bytes().next().is_some_and(|first| allowed(first) && !first.is_ascii_digit())
        && name.bytes().all(allowed)
}

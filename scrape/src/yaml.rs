//! How YAML is read: what bounds a text is its length, which the caller has checked.
//!
//! The parser's own defaults are made for texts of strangers. They refuse what people write here: a file of 100,000
//! targets, or one anchor for the labels of a hundred groups.

use serde_saphyr::Options;

/// Bytes of a text for each of its nodes: text, list or mapping. What people write has three to ten times as many.
const NODE_BYTES_MIN: usize = 4;

/// Options for texts of at most `bytes_max` bytes. How much aliases may unfold to, and how deep a text may be nested,
/// stays bounded by the parser's defaults.
#[must_use]
pub fn yaml_options(bytes_max: usize) -> Options {
    let nodes_max = bytes_max / NODE_BYTES_MIN;
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: nodes_max,
            max_events: 2 * nodes_max, // the end of a list or mapping is an event, too
            enforce_alias_anchor_ratio: false,
        },
    }
}

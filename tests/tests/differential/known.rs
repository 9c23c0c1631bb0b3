//! Where an older Prometheus rightly answers otherwise than 3.14, which Vestal follows; each with its reason.

use crate::{answer::Difference, peer::Version};

/// A difference that is not ours.
struct Known {
    /// The first version that answers as Vestal does.
    until: Version,
    /// Whether it concerns this query and this difference.
    concerns: fn(&str, &Difference) -> bool,
    /// Why; printed by nobody, read by whoever wonders.
    #[expect(dead_code, reason = "for the reader")]
    why: &'static str,
}

const ALL: &[Known] = &[];

/// Whether a difference is known.
pub(crate) fn explains(query: &str, version: Version, difference: &Difference) -> bool {
    ALL.iter().any(|known| version < known.until && (known.concerns)(query, difference))
}

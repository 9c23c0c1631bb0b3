//! O11: what has a bound stays within it, at every moment that is looked at.

use crate::violation::Violation;
use node::Bound;

/// Looks at what a node says of itself.
///
/// # Errors
/// With the first bound that is passed.
pub fn judge(machine: &str, bounds: &[Bound]) -> Result<(), Violation> {
    match bounds.iter().find(|bound| bound.used > bound.max) {
        None => Ok(()),
        Some(Bound { name, used, max }) => {
            let text = format!("{machine}: {name} has {used}, at most {max} are allowed");
            Err(Violation { invariant: "O11", text })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_its_bound_is_seen() {
        let bound = |used| Bound { name: "log bytes".to_owned(), used, max: 10 };
        assert!(judge("n1", &[bound(0), bound(10)]).is_ok());
        assert!(judge("n1", &[bound(0), bound(11)]).is_err());
    }
}

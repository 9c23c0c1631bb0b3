//! O13: a broken configuration is refused and changes nothing; one that was accepted is in force everywhere.

use std::collections::BTreeSet;

/// What is wrong with the texts that the nodes have in force; `None` if nothing is.
#[must_use]
pub fn differ(in_force: &[(&str, String)], offered: &BTreeSet<String>) -> Option<String> {
    let (first, text) = in_force.first()?;
    if let Some((other, _)) = in_force.iter().find(|(_, other)| other != text) {
        return Some(format!("{first} and {other} have other configurations in force"));
    }
    (!offered.contains(text))
        .then(|| format!("{first} has a configuration in force that nobody offered: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::differ;
    use std::collections::BTreeSet;

    #[test]
    fn one_offered_text_is_in_force_everywhere() {
        let offered = BTreeSet::from(["a".to_owned()]);
        assert_eq!(differ(&[("n1", "a".to_owned()), ("n2", "a".to_owned())], &offered), None);
        assert!(differ(&[("n1", "a".to_owned()), ("n2", "b".to_owned())], &offered).is_some());
        assert!(differ(&[("n1", "b".to_owned()), ("n2", "b".to_owned())], &offered).is_some());
    }
}

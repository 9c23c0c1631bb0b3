//! O13: a broken configuration is refused and changes nothing; one that was accepted is in force everywhere, until
//! another is.

use crate::ledger::Offer;

/// What is wrong with the texts that the nodes have in force; `None` if nothing is. The first offer is what the cluster
/// was formed with. Offers are shown to people with secrets masked; so are these.
#[must_use]
pub fn differ(in_force: &[(&str, String)], offers: &[Offer]) -> Option<String> {
    let (first, text) = in_force.first()?;
    if let Some((other, _)) = in_force.iter().find(|(_, other)| other != text) {
        return Some(format!("{first} and {other} have other configurations in force"));
    }
    let Some(offer) = offers.iter().find(|offer| offer.text == *text) else {
        return Some(format!("{first} has a configuration in force that nobody offered: {text:?}"));
    };
    let status = offer.answered.map(|(status, _)| status);
    if status.is_some_and(|status| status / 100 == 4) {
        return Some(format!("{first} has a configuration in force that was refused: {text:?}"));
    }
    // What was accepted begins to be in force before its answer, and what nobody answered may be at any time.
    let later = |other: &&Offer| {
        let accepted = other.answered.is_some_and(|(status, _)| status / 100 == 2);
        accepted && offer.answered.is_some_and(|(_, at)| other.asked > at)
    };
    let lost = offers.iter().find(later)?;
    Some(format!(
        "{first} has a configuration in force that was accepted before another was, which is lost: {:?}",
        lost.text
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn offer(text: &str, asked: u64, answered: Option<(u16, u64)>) -> Offer {
        let answered = answered.map(|(status, at)| (status, Duration::from_secs(at)));
        Offer { text: text.to_owned(), asked: Duration::from_secs(asked), answered }
    }

    fn judge(texts: &[&str], offers: &[Offer]) -> bool {
        let in_force: Vec<_> = texts.iter().map(|text| ("n", (*text).to_owned())).collect();
        differ(&in_force, offers).is_none()
    }

    #[test]
    fn one_offered_text_is_in_force_everywhere() {
        let offers = [offer("a", 0, Some((200, 0)))];
        assert!(judge(&["a", "a"], &offers));
        assert!(!judge(&["a", "b"], &offers));
        assert!(!judge(&["b", "b"], &offers), "nobody offered it");
    }

    #[test]
    fn what_was_accepted_is_not_lost_and_what_was_refused_is_not_in_force() {
        let first = offer("a", 0, Some((200, 0)));
        let with = |other| [first.clone(), other];
        assert!(!judge(&["a"], &with(offer("b", 1, Some((200, 2))))), "lost");
        assert!(judge(&["b"], &with(offer("b", 1, Some((200, 2))))));
        assert!(!judge(&["b"], &with(offer("b", 1, Some((422, 2))))), "refused");
        for unknown in [None, Some((503, 2))] {
            assert!(judge(&["a"], &with(offer("b", 1, unknown))));
            assert!(judge(&["b"], &with(offer("b", 1, unknown))));
        }
        let both = [first, offer("b", 1, Some((200, 4))), offer("c", 3, Some((200, 5)))];
        assert!(judge(&["b"], &both) && judge(&["c"], &both), "at the same time");
    }
}

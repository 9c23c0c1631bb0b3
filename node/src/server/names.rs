//! Who answers under which name while a cluster forms. Pure: time comes in.
//!
//! Two processes under one name could both promise for it and would both be the same member, with two votes. So a
//! name that two answer to counts for nothing until one of them has been silent for [`DISPUTE`].

use std::{collections::BTreeMap, time::Duration};

/// How long a name stays disputed after the second one was heard last.
const DISPUTE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
struct Holder {
    /// Where it says that it is to be reached: what tells processes apart.
    advertised: String,
    /// Where it was reached.
    dialled: String,
    heard: Duration,
    disputed_until: Duration,
}

/// The names that were heard.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, Holder>);

impl Names {
    /// Somebody who advertises one address answered at another under this name.
    ///
    /// # Errors
    /// If two answer to the name; the text is for people.
    pub(super) fn hear(
        &mut self,
        now: Duration,
        name: &str,
        advertised: &str,
        dialled: &str,
    ) -> Result<(), String> {
        let (advertised, dialled) = (advertised.to_owned(), dialled.to_owned());
        let new = Holder { advertised, dialled, heard: now, disputed_until: Duration::ZERO };
        let Some(holder) = self.0.get_mut(name) else {
            self.0.insert(name.to_owned(), new);
            return Ok(());
        };
        if holder.advertised == new.advertised {
            *holder = Holder { disputed_until: holder.disputed_until, ..new };
        } else if now.saturating_sub(holder.heard) < DISPUTE {
            holder.disputed_until = now + DISPUTE;
        } else {
            *holder = new;
            return Ok(());
        }
        if now >= holder.disputed_until {
            return Ok(());
        }
        Err(format!(
            "two nodes answer to the name {name:?}, one of them at {}; give one another --node.name, or stop it",
            holder.advertised
        ))
    }

    /// Where the one of this name was reached, if there is only one.
    pub(super) fn address(&self, now: Duration, name: &str) -> Option<String> {
        let holder = self.0.get(name).filter(|holder| now >= holder.disputed_until)?;
        Some(holder.dialled.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_node_may_be_reached_in_several_ways() {
        let mut names = Names::default();
        assert_eq!(names.hear(s(1), "b", "b:1", "b:1"), Ok(()));
        assert_eq!(names.hear(s(1), "b", "b:1", "10.0.0.2:1"), Ok(()));
        assert_eq!(names.address(s(1), "b").as_deref(), Some("10.0.0.2:1"));
    }

    #[test]
    fn a_name_that_two_answer_to_counts_for_nothing() {
        let mut names = Names::default();
        assert_eq!(names.hear(s(1), "b", "b:1", "b:1"), Ok(()));
        assert!(names.hear(s(2), "b", "c:1", "c:1").expect_err("taken").contains("b:1"));
        assert!(names.hear(s(3), "b", "b:1", "b:1").is_err(), "nobody knows which is the right one");
        assert_eq!(names.address(s(3), "b"), None);
    }

    #[test]
    fn a_name_is_free_again_when_one_of_the_two_has_fallen_silent() {
        let mut names = Names::default();
        assert_eq!(names.hear(s(1), "b", "b:1", "b:1"), Ok(()));
        assert!(names.hear(s(2), "b", "c:1", "c:1").is_err());
        assert_eq!(names.hear(s(12), "b", "b:1", "b:1"), Ok(()), "the other was stopped");
        assert_eq!(names.hear(s(22), "b", "c:1", "c:1"), Ok(()), "it moved");
    }
}

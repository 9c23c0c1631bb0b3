//! Forming a cluster: a durable agreement of all initial members, or nothing.
//!
//! ```text
//!            ask all            all unformed, I am first         all promised
//!  Unformed ─────────▶ heard ─────────────────────────▶ Promised ────────────▶ Member
//!     │  ▲ offer of the first, same members: promise ──────▲  │ the first is a member of what I promised
//!     │  └──────────────────────────────────────────────────  └──────────────────────────────▲
//!     └─ somebody is a member: join instead
//! ```
//!
//! Only the first name proposes (the smallest, whatever the order in which the names are given), and only after it
//! heard from all others that they are unformed and know the same names. A promise is on disk before it is given,
//! and never withdrawn. Raft is initialised only when all have promised, so two clusters of the same names cannot
//! be: each would need the one promise of every node. A node that belongs to a cluster answers with it, for ever.
//!
//! Whoever performs the effects does so in order; one that follows a `Save` only when that is synced.

use crate::identity::{Proposal, Standing};
use model::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most members that may form a cluster together.
pub const INITIAL_MEMBERS_MAX: usize = 64;

/// What this node was told about the cluster to form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormingOptions {
    /// This node's name; one of the members.
    pub name: String,
    /// The names of all initial members, the same on all.
    pub members: BTreeSet<String>,
    /// Data shards that the cluster is to have, if this node proposes.
    pub shards: u32,
}

/// What nodes ask of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FormingRequest {
    /// "How do you stand?"
    Ask,
    /// "Promise this, and never another."
    Offer(Proposal),
}

/// How a node stands, as it tells others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FormingAnswer {
    /// It belongs to no cluster and has promised nothing; these are the members it was told.
    Unformed(BTreeSet<String>),
    /// It has promised this cluster.
    Promised(ClusterId),
    /// It belongs to this cluster.
    Member(ClusterId),
    /// It will not promise this; the text says why.
    Refused(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormingEvent {
    /// Time to ask again. `random` becomes the cluster's id if this node proposes now.
    Tick {
        /// 128 random bits.
        random: u128,
    },
    /// Another node asks; a `Reply` is among the effects.
    Request(FormingRequest),
    /// Another node, by its name, answered a request.
    Answer(String, FormingAnswer),
}

/// What to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormingEffect {
    /// Make this durable before anything that follows; if that fails, stop the node.
    Save(Standing),
    /// Answer the request of this step.
    Reply(FormingAnswer),
    /// Ask every other node how it stands.
    AskAll,
    /// Offer the proposal to this node.
    Offer(String, Proposal),
    /// All have promised: this node is a member now. Add the groups and initialise them with all members.
    Formed(Proposal),
    /// Somebody is a member of this cluster: do not form, join.
    Join(ClusterId),
    /// Nothing goes on before people have done something; the text says why and what.
    Hint(String),
    /// This node cannot go on; the text says why and what to do.
    Stuck(String),
}

/// The state of the agreement at one node.
#[derive(Clone, Debug)]
pub struct Forming {
    options: FormingOptions,
    standing: Standing,
    /// What was heard since this process began.
    heard: BTreeMap<String, FormingAnswer>,
    /// How often in a row the first name said that it is unformed, after this node had promised what it proposed.
    forgotten: u32,
}

impl Forming {
    /// Goes on from what is on disk.
    ///
    /// # Errors
    /// If the options contradict themselves; the text names the flag.
    pub fn new(options: FormingOptions, standing: Standing) -> Result<Forming, String> {
        if !options.members.contains(&options.name) {
            return Err(format!(
                "--cluster.initial-members must contain this node's name, {:?}",
                options.name
            ));
        }
        if options.members.len() > INITIAL_MEMBERS_MAX || options.members.contains("") {
            return Err(format!(
                "--cluster.initial-members must be at most {INITIAL_MEMBERS_MAX} names, none empty"
            ));
        }
        if options.shards == 0 {
            return Err("--cluster.shards must be at least 1".to_owned());
        }
        Ok(Forming { options, standing, heard: BTreeMap::new(), forgotten: 0 })
    }

    /// How this node stands.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Advances the agreement. Never blocks, never reads a clock.
    #[must_use]
    pub fn step(&mut self, event: FormingEvent) -> Vec<FormingEffect> {
        let mut effects = Vec::new();
        match event {
            FormingEvent::Tick { random } => self.tick(ClusterId(random), &mut effects),
            FormingEvent::Request(FormingRequest::Ask) => effects.push(FormingEffect::Reply(self.answer())),
            FormingEvent::Request(FormingRequest::Offer(proposal)) => self.offered(proposal, &mut effects),
            FormingEvent::Answer(name, answer) => {
                if name != self.options.name {
                    self.notice(&name, &answer, &mut effects);
                    self.heard.insert(name, answer);
                    self.conclude(&mut effects);
                }
            }
        }
        effects
    }

    fn answer(&self) -> FormingAnswer {
        match &self.standing {
            Standing::Unformed => FormingAnswer::Unformed(self.options.members.clone()),
            Standing::Promised(proposal) => FormingAnswer::Promised(proposal.cluster),
            Standing::Member { cluster, .. } => FormingAnswer::Member(*cluster),
        }
    }

    fn first(&self) -> Option<&String> {
        self.options.members.first()
    }

    fn others(&self) -> impl Iterator<Item = &String> {
        self.options.members.iter().filter(|name| **name != self.options.name)
    }

    fn tick(&mut self, cluster: ClusterId, effects: &mut Vec<FormingEffect>) {
        if matches!(self.standing, Standing::Member { .. }) {
            return;
        }
        self.propose(cluster, effects);
        self.conclude(effects);
        if !matches!(self.standing, Standing::Member { .. }) {
            effects.push(FormingEffect::AskAll);
        }
        if let Standing::Promised(proposal) = &self.standing
            && self.first() == Some(&self.options.name)
        {
            let promised =
                |name: &&String| self.heard.get(*name) == Some(&FormingAnswer::Promised(proposal.cluster));
            let missing = self.others().filter(|name| !promised(name));
            effects.extend(missing.map(|name| FormingEffect::Offer(name.clone(), proposal.clone())));
        }
    }

    /// The first name proposes when all others are unformed and know the same members.
    fn propose(&mut self, cluster: ClusterId, effects: &mut Vec<FormingEffect>) {
        let unformed = FormingAnswer::Unformed(self.options.members.clone());
        let ready = self.standing == Standing::Unformed
            && self.first() == Some(&self.options.name)
            && self.others().all(|name| self.heard.get(name) == Some(&unformed));
        if !ready {
            return;
        }
        let members =
            (1..).map(NodeId).zip(&self.options.members).map(|(id, name)| (name.clone(), id)).collect();
        let proposal = Proposal { cluster, members, shards: self.options.shards };
        self.save(Standing::Promised(proposal), effects);
    }

    fn save(&mut self, standing: Standing, effects: &mut Vec<FormingEffect>) {
        self.standing = standing.clone();
        effects.push(FormingEffect::Save(standing));
    }

    /// Promises what the first name proposes, if nothing else was promised before.
    fn offered(&mut self, proposal: Proposal, effects: &mut Vec<FormingEffect>) {
        let names: BTreeSet<String> = proposal.members.keys().cloned().collect();
        if self.standing == Standing::Unformed {
            if names != self.options.members {
                let (theirs, ours) = (Vec::from_iter(&names), Vec::from_iter(&self.options.members));
                let text = format!(
                    "--cluster.initial-members differ: {theirs:?} there, {ours:?} at {:?}",
                    self.options.name
                );
                return effects.push(FormingEffect::Reply(FormingAnswer::Refused(text)));
            }
            self.save(Standing::Promised(proposal), effects);
        }
        effects.push(FormingEffect::Reply(self.answer()));
    }

    /// The first name saves its own promise before it offers. If it is unformed later, its disk was emptied, and the
    /// promises of the others, which they cannot take back, wait for ever. The first such answer may have been under
    /// way since before the offer.
    fn notice(&mut self, name: &String, answer: &FormingAnswer, effects: &mut Vec<FormingEffect>) {
        let Standing::Promised(proposal) = &self.standing else { return };
        if self.first() != Some(name) {
            return;
        }
        let cluster = proposal.cluster;
        self.forgotten = if matches!(answer, FormingAnswer::Unformed(_)) { self.forgotten + 1 } else { 0 };
        if self.forgotten > 1 {
            effects.push(FormingEffect::Hint(format!(
                "node {name:?} has forgotten cluster {cluster}, which it proposed and this node promised: its data directory \
                 was emptied before the cluster was formed; nothing is stored yet, so stop all nodes that promised, this one \
                 among them, move their data directories away, and start them again"
            )));
        }
    }

    /// What follows from what was heard.
    fn conclude(&mut self, effects: &mut Vec<FormingEffect>) {
        let member_of = self.heard.values().find_map(|answer| match answer {
            FormingAnswer::Member(cluster) => Some(*cluster),
            _ => None,
        });
        match self.standing.clone() {
            Standing::Member { .. } => {}
            Standing::Unformed => effects.extend(member_of.map(FormingEffect::Join)),
            Standing::Promised(proposal) => {
                let agreed = |name: &String| match self.heard.get(name) {
                    Some(FormingAnswer::Promised(cluster) | FormingAnswer::Member(cluster)) => {
                        *cluster == proposal.cluster
                    }
                    _ => false,
                };
                let all = self.first() == Some(&self.options.name) && self.others().all(agreed);
                match member_of {
                    Some(cluster) if cluster != proposal.cluster => {
                        effects.push(FormingEffect::Stuck(format!(
                            "this node promised to form cluster {}, but others are in cluster {cluster}: \
                         move this node's data directory away and start it again, it will join",
                            proposal.cluster
                        )))
                    }
                    Some(_) => self.become_member(proposal, effects),
                    None if all => self.become_member(proposal, effects),
                    None => {}
                }
            }
        }
    }

    fn become_member(&mut self, proposal: Proposal, effects: &mut Vec<FormingEffect>) {
        let Some(node) = proposal.members.get(&self.options.name).copied() else { return };
        let standing = Standing::Member {
            cluster: proposal.cluster,
            node,
            name: self.options.name.clone(),
            formed: Some(proposal.clone()),
        };
        self.save(standing, effects);
        effects.push(FormingEffect::Formed(proposal));
    }
}

#[cfg(test)]
mod tests;

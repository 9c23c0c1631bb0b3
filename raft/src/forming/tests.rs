//! The agreement under crashes, lost and repeated messages, and emptied disks.

use super::*;
use proptest::prelude::*;

fn names(count: usize) -> BTreeSet<String> {
    (0..count).map(|i| format!("node-{i}")).collect()
}

fn options(name: &str, count: usize) -> FormingOptions {
    FormingOptions { name: name.to_owned(), members: names(count), shards: 6 }
}

fn forming(i: usize, count: usize) -> Forming {
    Forming::new(options(&format!("node-{i}"), count), Standing::Unformed).expect("options")
}

/// What the outside does next.
#[derive(Clone, Debug)]
enum Move {
    /// A node's timer fires; it dies after so many of the effects.
    Tick(usize, usize),
    /// One of the messages under way arrives; the receiver dies after so many of the effects.
    Deliver(usize, usize),
    /// One of the messages under way is lost.
    Lose(usize),
    /// A node starts again with its disk.
    Restart(usize),
    /// A node starts again with an empty disk.
    Wipe(usize),
}

#[derive(Clone, Debug)]
enum Letter {
    Request { from: usize, life: u64, to: usize, request: FormingRequest },
    Answer { from: usize, to: usize, life: u64, answer: FormingAnswer },
}

struct Node {
    core: Forming,
    disk: Standing,
    /// Answers reach only the process that asked.
    life: u64,
}

struct Sim {
    nodes: Vec<Node>,
    letters: Vec<Letter>,
    wiped: BTreeSet<usize>,
    random: u128,
    /// Every cluster that anybody ever was a member of.
    clusters: BTreeSet<ClusterId>,
}

impl Sim {
    fn new(count: usize) -> Sim {
        let node = |i| Node { core: forming(i, count), disk: Standing::Unformed, life: 0 };
        let nodes = (0..count).map(node).collect();
        Sim { nodes, letters: Vec::new(), wiped: BTreeSet::new(), random: 0, clusters: BTreeSet::new() }
    }

    fn restart(&mut self, node: usize) {
        let count = self.nodes.len();
        let disk = self.nodes[node].disk.clone();
        let core = Forming::new(options(&format!("node-{node}"), count), disk.clone()).expect("options");
        let life = self.nodes[node].life + 1;
        self.nodes[node] = Node { core, disk, life };
    }

    /// Steps a node and performs its effects, all but those behind its death.
    fn step(&mut self, node: usize, event: FormingEvent, dies_after: usize, reply_to: Option<(usize, u64)>) {
        let effects = self.nodes[node].core.step(event);
        let dies = effects.len() > dies_after;
        for effect in effects.into_iter().take(dies_after) {
            self.perform(node, effect, reply_to);
        }
        if dies {
            self.restart(node);
        }
    }

    fn perform(&mut self, node: usize, effect: FormingEffect, reply_to: Option<(usize, u64)>) {
        let life = self.nodes[node].life;
        match effect {
            FormingEffect::Save(standing) => {
                if let Standing::Member { cluster, .. } = &standing {
                    self.clusters.insert(*cluster);
                }
                self.nodes[node].disk = standing;
            }
            FormingEffect::Reply(answer) => {
                let (to, life) = reply_to.expect("only requests are answered");
                self.letters.push(Letter::Answer { from: node, to, life, answer });
            }
            FormingEffect::AskAll => {
                let others = (0..self.nodes.len()).filter(|to| *to != node);
                self.letters.extend(others.map(|to| Letter::Request {
                    from: node,
                    life,
                    to,
                    request: FormingRequest::Ask,
                }));
            }
            FormingEffect::Offer(name, proposal) => {
                let to = name.trim_start_matches("node-").parse().expect("number");
                self.letters.push(Letter::Request {
                    from: node,
                    life,
                    to,
                    request: FormingRequest::Offer(proposal),
                });
            }
            FormingEffect::Formed(proposal) => {
                let holds = |node: &Node| match &node.disk {
                    Standing::Promised(promised) => promised.cluster == proposal.cluster,
                    Standing::Member { cluster, .. } => *cluster == proposal.cluster,
                    Standing::Unformed => false,
                };
                let kept = self.nodes.iter().enumerate().filter(|(i, _)| !self.wiped.contains(i));
                assert!(kept.clone().all(|(_, node)| holds(node)), "formed without a promise of everybody");
            }
            FormingEffect::Join(_) | FormingEffect::Hint(_) | FormingEffect::Stuck(_) => {}
        }
    }

    fn play(&mut self, action: &Move) {
        let count = self.nodes.len();
        match *action {
            Move::Tick(node, dies_after) => {
                self.random += 1;
                self.step(node % count, FormingEvent::Tick { random: self.random }, dies_after, None);
            }
            Move::Deliver(which, dies_after) if !self.letters.is_empty() => {
                let which = which % self.letters.len();
                self.deliver(which, dies_after);
            }
            Move::Lose(which) if !self.letters.is_empty() => {
                let which = which % self.letters.len();
                self.letters.swap_remove(which);
            }
            Move::Restart(node) => self.restart(node % count),
            // Somebody always keeps the memory: with all disks empty a new cluster is a new cluster.
            Move::Wipe(node) if self.wiped.len() + 1 < count || self.wiped.contains(&(node % count)) => {
                self.wiped.insert(node % count);
                self.nodes[node % count].disk = Standing::Unformed;
                self.restart(node % count);
            }
            _ => {}
        }
    }

    fn deliver(&mut self, which: usize, dies_after: usize) {
        match self.letters[which].clone() {
            Letter::Request { from, life, to, request } => {
                // A request may arrive again, however late.
                self.step(to, FormingEvent::Request(request), dies_after, Some((from, life)));
            }
            Letter::Answer { from, to, life, answer } => {
                self.letters.swap_remove(which);
                if self.nodes[to].life == life {
                    self.step(to, FormingEvent::Answer(format!("node-{from}"), answer), dies_after, None);
                }
            }
        }
    }

    /// No more faults: everything is delivered, timers fire.
    fn settle(&mut self) {
        self.letters.clear();
        for _ in 0..12 {
            (0..self.nodes.len()).for_each(|node| self.play(&Move::Tick(node, usize::MAX)));
            for _ in 0..200 {
                let Some(last) = self.letters.len().checked_sub(1) else { break };
                let request = matches!(self.letters[last], Letter::Request { .. });
                let letter = self.letters[last].clone();
                self.deliver(last, usize::MAX);
                if request {
                    let at =
                        self.letters.iter().position(|other| format!("{other:?}") == format!("{letter:?}"));
                    self.letters.swap_remove(at.expect("still there"));
                }
            }
        }
    }
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let life = prop_oneof![4 => Just(usize::MAX), 1 => 0_usize..3];
    let action = prop_oneof![
        4 => (0_usize..5, life.clone()).prop_map(|(node, life)| Move::Tick(node, life)),
        12 => (any::<usize>(), life).prop_map(|(which, life)| Move::Deliver(which, life)),
        2 => any::<usize>().prop_map(Move::Lose),
        1 => (0_usize..5).prop_map(Move::Restart),
        1 => (0_usize..5).prop_map(Move::Wipe),
    ];
    proptest::collection::vec(action, 0..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn there_are_never_two_clusters(count in 1_usize..6, moves in moves()) {
        let mut sim = Sim::new(count);
        for action in &moves {
            sim.play(action);
            prop_assert!(sim.clusters.len() <= 1, "{:?}", sim.clusters);
        }
    }

    #[test]
    fn without_an_emptied_disk_everybody_ends_in_the_same_cluster(count in 1_usize..6, moves in moves()) {
        let mut sim = Sim::new(count);
        moves.iter().filter(|action| !matches!(action, Move::Wipe(_))).for_each(|action| sim.play(action));
        sim.settle();
        let members = sim.nodes.iter().filter(|node| matches!(node.disk, Standing::Member { .. })).count();
        prop_assert_eq!((sim.clusters.len(), members), (1, count));
    }
}

#[test]
fn one_name_forms_at_once() {
    let effects = forming(0, 1).step(FormingEvent::Tick { random: 7 });
    assert!(
        matches!(effects.last(), Some(FormingEffect::Formed(proposal)) if proposal.cluster == ClusterId(7)),
        "{effects:?}"
    );
}

#[test]
fn a_promise_is_saved_before_it_is_given_and_never_replaced() {
    let mut node = forming(1, 2);
    let members: BTreeMap<String, NodeId> =
        [("node-0".to_owned(), NodeId(1)), ("node-1".to_owned(), NodeId(2))].into();
    let offer = |cluster| Proposal { cluster: ClusterId(cluster), members: members.clone(), shards: 6 };
    let first = node.step(FormingEvent::Request(FormingRequest::Offer(offer(1))));
    let promised = FormingEffect::Reply(FormingAnswer::Promised(ClusterId(1)));
    assert_eq!(first, [FormingEffect::Save(Standing::Promised(offer(1))), promised.clone()]);
    assert_eq!(node.step(FormingEvent::Request(FormingRequest::Offer(offer(2)))), [promised]);
}

#[test]
fn a_first_name_that_forgot_what_it_proposed_is_noticed_but_not_a_late_answer() {
    let mut node = forming(1, 3);
    let members = names(3).into_iter().zip((1..).map(NodeId)).collect();
    let offer = Proposal { cluster: ClusterId(1), members, shards: 6 };
    let _promised = node.step(FormingEvent::Request(FormingRequest::Offer(offer)));
    let mut hears = |name: &str, answer| node.step(FormingEvent::Answer(name.to_owned(), answer));
    let unformed = FormingAnswer::Unformed(names(3));
    assert_eq!(hears("node-0", unformed.clone()), [], "under way since before the offer");
    assert_eq!(hears("node-0", FormingAnswer::Promised(ClusterId(1))), []);
    assert_eq!(hears("node-2", unformed.clone()), []);
    assert_eq!(hears("node-2", unformed.clone()), [], "not the one who proposed");
    assert_eq!(hears("node-0", unformed.clone()), []);
    let effects = hears("node-0", unformed);
    assert!(matches!(&effects[..], [FormingEffect::Hint(text)] if text.contains("node-0")), "{effects:?}");
}

#[test]
fn nobody_promises_a_cluster_of_other_names() {
    let members: BTreeMap<String, NodeId> =
        [("node-0".to_owned(), NodeId(1)), ("stranger".to_owned(), NodeId(2))].into();
    let offer = Proposal { cluster: ClusterId(1), members, shards: 6 };
    let effects = forming(0, 2).step(FormingEvent::Request(FormingRequest::Offer(offer)));
    assert!(matches!(&effects[..], [FormingEffect::Reply(FormingAnswer::Refused(_))]), "{effects:?}");
}

#[test]
fn who_finds_a_cluster_joins_instead_of_forming() {
    let found = FormingEvent::Answer("node-1".to_owned(), FormingAnswer::Member(ClusterId(9)));
    assert_eq!(forming(0, 3).step(found), [FormingEffect::Join(ClusterId(9))]);
}

#[test]
fn a_node_that_is_not_among_the_members_is_refused_by_flag() {
    let error = Forming::new(options("stranger", 3), Standing::Unformed).expect_err("not a member");
    assert!(error.contains("--cluster.initial-members"), "{error}");
}

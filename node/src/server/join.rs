//! Becoming a member: alone, by forming a cluster, by joining one under a known name, or by having been one before.
//!
//! ```text
//!  no identity ─┬─ no cluster flags ─▶ a cluster of one
//!               ├─ all initial members unformed ─▶ Forming ─▶ member of the first hour
//!               └─ a peer is a member ─▶ JOIN: a new id that replaces the silent former self ─▶ learner, then voter
//!  identity ────▶ member again, unless the cluster removed this id
//! ```

use super::{Node, ServeOptions, calls, names::Names, ownership};
use anyhow::{Context, bail};
use bytes::Bytes;
use futures::future::join_all;
use model::{BoxFuture, ClusterId, Fs, NodeId, ShardId};
use raft::{
    Forming, FormingAnswer, FormingEffect, FormingEvent, FormingOptions, FormingRequest, OPEN_KIND_MIN,
    PeerName, Proposal, Standing,
    meta::{MetaCommand, MetaResponse},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// Forming: ask, offer.
const FORMING: u16 = OPEN_KIND_MIN;
/// Join under a known name.
const JOIN: u16 = OPEN_KIND_MIN + 1;
/// Ask whether an id is still welcome.
const STANDING: u16 = OPEN_KIND_MIN + 2;

/// Between two rounds of asking.
const ROUND: Duration = Duration::from_millis(300);
/// Between two rounds once everybody is known.
const ROUND_SETTLED: Duration = Duration::from_secs(5);
/// Patience with one call.
const CALL_PATIENCE: Duration = Duration::from_secs(2);
/// Patience with meta.
const META_PATIENCE: Duration = Duration::from_secs(5);
/// How long the former self must have been silent before it is replaced.
const SILENCE_MIN: Duration = Duration::from_secs(10);
/// Remembers the nonce of a join until the node is a member.
const JOINING: &str = "joining";
/// What exists in a data directory only when its node was a member.
pub(super) const MEMBER_DATA: [&str; 2] = ["shard-1", "meta/meta.state"];

/// "I am new here and have this name."
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct JoinRequest {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) nonce: u64,
}

/// What a member says to a newcomer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum JoinAnswer {
    /// It has an id now; these are the members.
    Welcome { cluster: ClusterId, node: NodeId, members: Vec<(NodeId, String)> },
    /// Not yet: ask again.
    Later(String),
    /// Not under this name.
    Refused(String),
}

/// What a member says of an id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum StandingAnswer {
    Member,
    Removed,
}

/// Who this node is before it has asked anybody.
pub(super) fn standing(options: &ServeOptions, fs: &dyn Fs) -> anyhow::Result<Standing> {
    Ok(Standing::load(fs, &options.data, &MEMBER_DATA)?)
}

/// Waits for a reason to take no part any more; makes it durable, so that no later process of this node votes, and
/// ends the node.
async fn fence_when_told(node: Arc<Node>) {
    let mut fenced = node.raft.fenced();
    let Ok(reason) = fenced.wait_for(Option::is_some).await.map(|reason| reason.clone().unwrap_or_default())
    else {
        return;
    };
    if let Err(error) = raft::fence(&*node.ports.fs, &node.options.data, &reason) {
        tracing::error!(%error, "fencing could not be made durable");
    }
    node.unwelcome.send_replace(Some(reason));
}

/// What peers are told at first.
pub(super) fn peer_name(options: &ServeOptions, standing: &Standing) -> PeerName {
    let (cluster, node, name) = match standing {
        Standing::Member { cluster, node, name, .. } => (Some(*cluster), Some(*node), name.clone()),
        _ => (None, None, options.node_name.clone()),
    };
    PeerName { cluster, node, name, address: options.advertised() }
}

/// A node on its way to membership.
struct Joining {
    node: Arc<Node>,
    /// When this process began, monotonic: who was not heard since then may have been silent for no longer.
    began: Duration,
    forming: Mutex<Option<Forming>>,
    formed: watch::Sender<Option<Proposal>>,
    /// Where names were heard.
    names: Mutex<Names>,
    /// What people were told last, so that they are not told all the time.
    told: Mutex<Option<String>>,
}

/// Becomes a member and hosts meta; returns when the cluster has begun, as far as this node has applied.
pub(super) async fn become_member(node: &Arc<Node>, standing: Standing) -> anyhow::Result<()> {
    let joining = Arc::new(Joining {
        node: node.clone(),
        began: node.ports.clock.monotonic(),
        forming: Mutex::new(None),
        formed: watch::Sender::new(None),
        names: Mutex::default(),
        told: Mutex::default(),
    });
    joining.register();
    let formed = match standing {
        Standing::Member { formed, .. } => formed,
        _ if !node.options.clustered => Some(joining.become_alone()?),
        standing => joining.find_cluster(standing).await?,
    };
    node.spawn("peers", find_peers(node.clone()));
    node.spawn("fence", fence_when_told(node.clone()));
    ownership::claim(node).await?; // before the first vote
    let meta = node.meta.clone();
    node.raft.add_group(ShardId::META, meta).await?;
    model::point!("join.meta.hosted");
    if let Some(proposal) = &formed {
        let members: BTreeSet<NodeId> = proposal.members.values().copied().collect();
        node.raft.initialize(ShardId::META, &members).await?;
    }
    begin(node, formed).await
}

/// Waits until the cluster has begun; whoever leads meta first says so.
async fn begin(node: &Arc<Node>, formed: Option<Proposal>) -> anyhow::Result<()> {
    let mut meta = node.meta.watch();
    loop {
        if meta.borrow_and_update().cluster_id.is_some() {
            return Ok(());
        }
        let leads = node.raft.status(ShardId::META).is_some_and(|status| status.ready);
        if let (true, Some(proposal)) = (leads, &formed) {
            let members = proposal.members.iter().map(|(name, id)| (*id, name.clone())).collect();
            let begin = MetaCommand::Begin { cluster_id: proposal.cluster, shards: proposal.shards, members };
            match node.propose_meta(&begin, META_PATIENCE).await {
                Ok(MetaResponse::Refused(refusal)) => bail!("the cluster does not begin: {refusal}"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the cluster has not begun yet"),
            }
        }
        if let Some(text) = node.unwelcome.borrow().clone() {
            bail!(text);
        }
        let _changed_or_time_to_look_again = tokio::time::timeout(ROUND, meta.changed()).await;
    }
}

/// What answers one kind of call.
type Work = fn(Arc<Joining>, PeerName, Bytes) -> BoxFuture<'static, Result<Bytes, String>>;

impl Joining {
    /// Answers others from now on, for as long as this node runs.
    fn register(self: &Arc<Self>) {
        let raft = &self.node.raft;
        let handler = |this: &Arc<Self>, work: Work| {
            let this = this.clone();
            let handler: raft::CallHandler = Arc::new(move |from, body| work(this.clone(), from, body));
            handler
        };
        raft.register(
            FORMING,
            handler(self, |this, _, body| Box::pin(async move { this.answer_forming(&body) })),
        );
        raft.register(
            JOIN,
            handler(self, |this, _, body| Box::pin(async move { this.answer_join(&body).await })),
        );
        raft.register(
            STANDING,
            handler(self, |this, from, _| Box::pin(async move { Ok(this.answer_standing(&from)) })),
        );
    }

    fn become_alone(&self) -> anyhow::Result<Proposal> {
        let options = &self.node.options;
        let proposal = Proposal {
            cluster: ClusterId(self.random()),
            members: BTreeMap::from([(options.node_name.clone(), NodeId(1))]),
            shards: options.shards,
        };
        self.save(&member(&proposal, &options.node_name, NodeId(1)))?;
        Ok(proposal)
    }

    fn random(&self) -> u128 {
        let rng = &self.node.ports.rng;
        u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())
    }

    /// Makes a standing durable, and if it is membership tells raft.
    fn save(&self, standing: &Standing) -> anyhow::Result<()> {
        let options = &self.node.options;
        if let Err(error) = standing.save(&*self.node.ports.fs, &options.data) {
            // What was promised in memory must not be said: this node stops.
            self.node.unwelcome.send_replace(Some(format!("standing not saved: {error}")));
            return Err(error.into());
        }
        if matches!(standing, Standing::Member { .. }) {
            self.node.raft.set_identity(peer_name(options, standing));
        }
        Ok(())
    }

    /// Asks around until this node is a member: by forming a cluster, or by joining one. Yields the proposal if it
    /// was formed.
    async fn find_cluster(self: &Arc<Self>, standing: Standing) -> anyhow::Result<Option<Proposal>> {
        let options = &self.node.options;
        if options.initial_members.contains(&options.node_name) {
            let forming_options = FormingOptions {
                name: options.node_name.clone(),
                members: options.initial_members.iter().cloned().collect(),
                shards: options.shards,
            };
            let forming = Forming::new(forming_options, standing).map_err(anyhow::Error::msg)?;
            *self.forming.lock().unwrap_or_else(PoisonError::into_inner) = Some(forming);
        } else if let Standing::Promised(_) = standing {
            bail!(
                "--cluster.initial-members: this node promised to form a cluster; give the same names as before"
            );
        }
        tracing::info!(members = ?options.initial_members, "looking for the cluster");
        loop {
            let random = self.random();
            for effect in self.step(FormingEvent::Tick { random })? {
                self.perform(effect).await?;
            }
            if self.forming.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                self.ask_all().await?;
            }
            if let Some(proposal) = self.formed.borrow().clone() {
                return Ok(Some(proposal));
            }
            if self.node.raft.identity().node.is_some() {
                return Ok(None); // it has joined
            }
            sleep(ROUND).await;
        }
    }

    /// Advances forming and makes durable what it promised; other effects are left to the caller.
    fn step(&self, event: FormingEvent) -> anyhow::Result<Vec<FormingEffect>> {
        let mut forming = self.forming.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(forming) = forming.as_mut() else { return Ok(Vec::new()) };
        let mut rest = Vec::new();
        for effect in forming.step(event) {
            match effect {
                FormingEffect::Save(standing) => self.save(&standing)?,
                FormingEffect::Formed(proposal) => self.take_addresses(&proposal),
                other => rest.push(other),
            }
        }
        Ok(rest)
    }

    fn take_addresses(&self, proposal: &Proposal) {
        for (name, id) in &proposal.members {
            if let Some(address) = self.address_of(name) {
                self.node.raft.set_peer_address(*id, &address);
            }
        }
        tracing::info!(cluster = %proposal.cluster, members = ?proposal.members, "cluster formed");
        model::point!("join.formed");
        self.formed.send_replace(Some(proposal.clone()));
    }

    async fn perform(self: &Arc<Self>, effect: FormingEffect) -> anyhow::Result<()> {
        match effect {
            FormingEffect::AskAll => self.ask_all().await,
            FormingEffect::Offer(name, proposal) => {
                if let Some(address) = self.address_of(&name) {
                    self.ask(&address, &FormingRequest::Offer(proposal)).await?;
                }
                Ok(())
            }
            FormingEffect::Join(cluster) => {
                tracing::debug!(%cluster, "a peer is a member: joining");
                self.try_join().await
            }
            FormingEffect::Hint(text) => {
                self.tell(text);
                Ok(())
            }
            FormingEffect::Stuck(text) => bail!(text),
            FormingEffect::Save(_) | FormingEffect::Formed(_) | FormingEffect::Reply(_) => Ok(()),
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address_of(&self, name: &str) -> Option<String> {
        self.names().address(self.node.ports.clock.monotonic(), name)
    }

    /// Notes who answered at an address; an error if another node has that name, which may be ours.
    fn hear(&self, peer: &PeerName, address: &str) -> Result<(), String> {
        let us = self.node.raft.identity();
        if peer.name == us.name && peer.node.is_none() && peer.address != us.address {
            return Err(format!(
                "the node at {} has this node's name, {:?}; give one of them another --node.name, or stop it",
                peer.address, peer.name
            ));
        }
        self.names().hear(self.node.ports.clock.monotonic(), &peer.name, &peer.address, address)
    }

    /// Says what only people can mend, once.
    fn tell(&self, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() != Some(&text) {
            tracing::error!(reason = text, "the cluster does not form");
            *told = Some(text);
        }
    }

    async fn ask_all(self: &Arc<Self>) -> anyhow::Result<()> {
        let asked = self.node.options.peers.iter().map(|address| self.ask(address, &FormingRequest::Ask));
        join_all(asked).await.into_iter().collect()
    }

    /// Asks one peer, and acts on its answer.
    fn ask<'a>(
        self: &'a Arc<Self>,
        address: &'a str,
        request: &FormingRequest,
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        let body = calls::encode(request);
        Box::pin(async move {
            let called = self.node.raft.call_address(address, FORMING, body, CALL_PATIENCE).await;
            let (peer, answer) = match called {
                Ok(called) => called,
                Err(error) => {
                    tracing::debug!(address, %error, "peer does not answer");
                    return Ok(());
                }
            };
            let answer: FormingAnswer = match calls::decode(&answer) {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::warn!(address, %error, "peer's answer");
                    return Ok(());
                }
            };
            if let FormingAnswer::Refused(reason) = &answer {
                tracing::error!(peer = %peer, reason, "peer refuses to form a cluster with this node");
            }
            if let Err(text) = self.hear(&peer, address) {
                self.tell(text);
                return Ok(());
            }
            if matches!(answer, FormingAnswer::Member(_)) && self.node.raft.identity().node.is_none() {
                let no_forming = self.forming.lock().unwrap_or_else(PoisonError::into_inner).is_none();
                if no_forming {
                    return self.try_join().await;
                }
            }
            for effect in self.step(FormingEvent::Answer(peer.name, answer))? {
                self.perform(effect).await?;
            }
            Ok(())
        })
    }

    /// Asks every peer for membership under this node's name.
    async fn try_join(&self) -> anyhow::Result<()> {
        if self.node.raft.identity().node.is_some() {
            return Ok(());
        }
        let options = &self.node.options;
        let request = JoinRequest {
            name: options.node_name.clone(),
            address: options.advertised(),
            nonce: self.nonce()?,
        };
        for address in &options.peers {
            let called =
                self.node.raft.call_address(address, JOIN, calls::encode(&request), META_PATIENCE).await;
            let answer =
                called.map_err(|error| error.to_string()).and_then(|(_, answer)| calls::decode(&answer));
            match answer {
                Ok(JoinAnswer::Welcome { cluster, node, members }) => {
                    tracing::info!(%cluster, id = %node, "joining the cluster");
                    let name = options.node_name.clone();
                    self.save(&Standing::Member { cluster, node, name, formed: None })?;
                    // Only now: a link says at its beginning who we are.
                    for (id, address) in members {
                        self.node.raft.set_peer_address(id, &address);
                    }
                    let _not_needed_any_more = self.node.ports.fs.remove_file(&options.data.join(JOINING));
                    return Ok(());
                }
                Ok(JoinAnswer::Later(reason)) => {
                    tracing::info!(address, reason, "the cluster does not take this node yet")
                }
                Ok(JoinAnswer::Refused(reason)) => bail!("{address} refuses this node: {reason}"),
                Err(error) => tracing::debug!(address, error, "peer does not answer"),
            }
        }
        Ok(())
    }

    /// A number that stays the same over crashes until this node is a member, so that it is given one id only.
    fn nonce(&self) -> anyhow::Result<u64> {
        let (fs, path) = (&self.node.ports.fs, self.node.options.data.join(JOINING));
        if let Some(nonce) = fs.read(&path).ok().and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
            return Ok(u64::from_be_bytes(nonce));
        }
        let nonce = self.node.ports.rng.next_u64() | 1; // 0 is the first members'
        fs.replace(&path, &nonce.to_be_bytes()).with_context(|| format!("write {}", path.display()))?;
        Ok(nonce)
    }

    fn answer_forming(&self, body: &[u8]) -> Result<Bytes, String> {
        if let Some(cluster) = self.node.raft.identity().cluster {
            return Ok(calls::encode(&FormingAnswer::Member(cluster)));
        }
        let effects =
            self.step(FormingEvent::Request(calls::decode(body)?)).map_err(|error| format!("{error:#}"))?;
        let reply = effects.into_iter().find_map(|effect| match effect {
            FormingEffect::Reply(answer) => Some(answer),
            _ => None,
        });
        let none = || {
            FormingAnswer::Refused(
                "this node forms no cluster: it has no --cluster.initial-members".to_owned(),
            )
        };
        Ok(calls::encode(&reply.unwrap_or_else(none)))
    }

    async fn answer_join(&self, body: &[u8]) -> Result<Bytes, String> {
        let request: JoinRequest = calls::decode(body)?;
        Ok(calls::encode(&self.admit(request).await))
    }

    /// A newcomer under a known name replaces its former self once that has been silent for long enough.
    async fn admit(&self, request: JoinRequest) -> JoinAnswer {
        let node = &self.node;
        let Some(cluster) = node.raft.identity().cluster else {
            return JoinAnswer::Later("this node is no member itself yet".to_owned());
        };
        let state = node.meta.state();
        let Some((old, record)) = state.member_by_name(&request.name) else {
            let names: Vec<_> = state.members().map(|(_, node)| node.name.clone()).collect();
            return JoinAnswer::Refused(format!(
                "no node of the name {:?} is known to this cluster, whose nodes are {names:?}; adding further nodes \
                 is not supported yet, a new host takes the name of the one it replaces (--node.name)",
                request.name
            ));
        };
        if record.nonce != request.nonce {
            let silent = match node.raft.silence().get(&old) {
                _ if old == node.id() => Duration::ZERO,
                Some(Some(silent)) => *silent,
                // Never heard since this node started: its own time counts.
                Some(None) | None => node.ports.clock.monotonic().saturating_sub(self.began),
            };
            if silent < SILENCE_MIN {
                let there = &record.cluster_address;
                let text = format!(
                    "the name {:?} is taken: this node is at {}, the living one at {there}; give one of them another \
                     --node.name, or stop the other for {} s if this one is to replace it",
                    request.name,
                    request.address,
                    SILENCE_MIN.as_secs()
                );
                let lives = silent < Duration::from_secs(2) && !there.is_empty() && there != &request.address;
                return if lives { JoinAnswer::Refused(text) } else { JoinAnswer::Later(text) };
            }
            if self.answers(old, &record.cluster_address).await {
                let there = &record.cluster_address;
                return JoinAnswer::Later(format!(
                    "the name {:?} is taken: node {old} at {there} was silent, but answers; stop it if the node at {} is \
                     to replace it",
                    request.name, request.address
                ));
            }
        }
        let allocate = MetaCommand::Allocate {
            name: request.name,
            cluster_address: request.address,
            nonce: request.nonce,
        };
        match node.propose_meta(&allocate, META_PATIENCE).await {
            Ok(MetaResponse::Allocated(id)) => {
                let state = node.meta.state();
                let members = state
                    .members()
                    .filter(|(member, node)| *member != id && !node.cluster_address.is_empty());
                let members = members.map(|(id, node)| (id, node.cluster_address.clone())).collect();
                JoinAnswer::Welcome { cluster, node: id, members }
            }
            Ok(MetaResponse::Refused(refusal)) => JoinAnswer::Later(refusal.to_string()),
            Ok(other) => JoinAnswer::Later(format!("meta answered {other:?}")),
            Err(error) => JoinAnswer::Later(error.to_string()),
        }
    }

    /// Whether a node lives. That it was not heard here says little: this process may have been stopped itself, or cut
    /// off, so it is asked over a connection of its own, and whoever answers says who it is.
    async fn answers(&self, node: NodeId, address: &str) -> bool {
        if node == self.node.id() {
            return true;
        }
        let called = self.node.raft.call_address(address, STANDING, Bytes::new(), CALL_PATIENCE).await;
        called.is_ok_and(|(peer, _)| peer.node == Some(node))
    }

    fn answer_standing(&self, from: &PeerName) -> Bytes {
        let state = self.node.meta.state();
        let removed = from.cluster == state.cluster_id
            && from.node.and_then(|id| state.nodes.get(&id)).is_some_and(|node| node.removed_at.is_some());
        calls::encode(&if removed { StandingAnswer::Removed } else { StandingAnswer::Member })
    }
}

fn member(proposal: &Proposal, name: &str, node: NodeId) -> Standing {
    Standing::Member {
        cluster: proposal.cluster,
        node,
        name: name.to_owned(),
        formed: Some(proposal.clone()),
    }
}

/// Keeps the addresses of peers up to date: from meta, and from asking at the addresses of the flags, which works
/// also when meta is not to be read.
async fn find_peers(node: Arc<Node>) {
    let mut known: BTreeMap<NodeId, String> = BTreeMap::new();
    loop {
        let state = node.meta.state();
        let us = node.id();
        for (id, _) in state.nodes.iter().filter(|(_, record)| record.removed_at.is_some()) {
            node.raft.forget_peer(*id);
        }
        // Nobody waits for who does not answer.
        let linked = node.raft.silence();
        for (id, record) in state.members().filter(|(id, _)| *id != us && !linked.contains_key(id)) {
            if !record.cluster_address.is_empty() {
                node.raft.set_peer_address(id, &record.cluster_address);
            }
        }
        let greeted = join_all(node.options.peers.iter().map(|address| greet(&node, address))).await;
        let greeted: BTreeMap<NodeId, &str> = greeted.into_iter().flatten().collect();
        let silence = node.raft.silence();
        let of_meta = state.members().filter(|(_, record)| !record.cluster_address.is_empty());
        let of_meta: BTreeMap<NodeId, &str> =
            of_meta.map(|(id, record)| (id, record.cluster_address.as_str())).collect();
        let removed = |id: &NodeId| state.nodes.get(id).is_some_and(|record| record.removed_at.is_some());
        let peers: BTreeSet<NodeId> = of_meta.keys().chain(greeted.keys()).copied().collect();
        for id in peers.into_iter().filter(|id| *id != us && !removed(id)) {
            let silent = silence.get(&id).copied().flatten();
            let meta = of_meta.get(&id).copied();
            let before = known.get(&id).map(String::as_str);
            if let Some(address) = new_address(silent, greeted.get(&id).copied(), meta, before) {
                node.raft.set_peer_address(id, address);
            }
        }
        known = of_meta.into_iter().map(|(id, address)| (id, address.to_owned())).collect();
        let silence = node.raft.silence();
        let heard = |id| silence.get(&id).copied().flatten().is_some_and(|silent| silent < ROUND_SETTLED);
        let settled = state.cluster_id.is_some() && state.members().all(|(id, _)| id == us || heard(id));
        sleep(if settled { ROUND_SETTLED } else { ROUND * 3 }).await;
    }
}

/// Where a peer is from now on, if that changes; `silent` is for how long it was not heard, `before` where meta had it a
/// round ago. A link that works is left alone, whatever meta says, unless that is new: an address that others cannot
/// reach, or not from here, would tear it down. Else it is where it answered just now, or where meta has it.
fn new_address<'a>(
    silent: Option<Duration>,
    greeted: Option<&'a str>,
    meta: Option<&'a str>,
    before: Option<&str>,
) -> Option<&'a str> {
    let moved = before.is_some() && meta.is_some() && before != meta;
    match silent.is_none_or(|silent| silent >= ROUND_SETTLED) {
        true => greeted.or(meta),
        false if moved => meta,
        false => None,
    }
}

/// Asks whoever answers at an address who it is, and whether we are still welcome; yields which peer it is.
async fn greet<'a>(node: &Arc<Node>, address: &'a str) -> Option<(NodeId, &'a str)> {
    let called = node.raft.call_address(address, STANDING, Bytes::new(), CALL_PATIENCE).await;
    let (peer, answer) = called.ok()?;
    let us = node.raft.identity();
    let mut found = None;
    match (peer.cluster, peer.node) {
        (Some(cluster), Some(id)) if Some(cluster) == us.cluster && Some(id) != us.node => {
            found = Some((id, address));
        }
        (Some(cluster), _) if us.cluster.is_some_and(|ours| ours != cluster) => {
            tracing::warn!(address, theirs = %cluster, "the node at this address belongs to another cluster");
        }
        _ => {}
    }
    if matches!(calls::decode(&answer), Ok(StandingAnswer::Removed)) {
        let id = node.id();
        let text = format!(
            "node {id} was removed from this cluster, because another replaced it; its data is kept untouched: start \
             with an empty --storage.tsdb.path to join again"
        );
        node.unwelcome.send_replace(Some(text));
    }
    found
}

/// Tells meta where this node is, whenever that differs from what meta knows.
pub(super) async fn announce(node: Arc<Node>) {
    loop {
        let state = node.meta.state();
        let id = node.id();
        let announce = MetaCommand::Announce {
            node: id,
            cluster_address: node.options.advertised(),
            web_address: node.web_address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let known = state.nodes.get(&id).is_some_and(|record| {
            record.cluster_address == node.options.advertised()
                && record.web_address == node.web_address
                && record.version == env!("CARGO_PKG_VERSION")
        });
        if !known {
            match node.propose_meta(&announce, META_PATIENCE).await {
                Ok(MetaResponse::Refused(refusal)) => tracing::error!(%refusal, "meta refuses this node"),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "not announced yet"),
            }
        }
        sleep(ROUND_SETTLED).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD: Option<Duration> = Some(Duration::from_millis(20));

    #[test]
    fn a_link_that_works_is_left_alone_unless_its_peer_moves() {
        assert_eq!(new_address(HEARD, Some("a:1"), Some("b:1"), None), None);
        assert_eq!(new_address(HEARD, Some("a:1"), Some("b:1"), Some("b:1")), None);
        assert_eq!(new_address(HEARD, None, Some("c:1"), Some("b:1")), Some("c:1"));
    }

    #[test]
    fn a_silent_peer_is_looked_for_where_it_answers_else_where_meta_has_it() {
        assert_eq!(new_address(None, Some("a:1"), Some("b:1"), Some("b:1")), Some("a:1"));
        assert_eq!(new_address(Some(ROUND_SETTLED), None, Some("b:1"), Some("b:1")), Some("b:1"));
        assert_eq!(new_address(None, None, None, None), None);
    }
}

//! The shell around [`Forming`]: asks over the peer server, saves to the data directory, asks again.

use crate::{
    CallHandler, Forming, FormingAnswer, FormingEffect, FormingEvent, FormingOptions, FormingRequest,
    IdentityError, OPEN_KIND_MIN, PeerName, Proposal, RaftNode, Standing,
};
use bytes::Bytes;
use model::{BoxFuture, ClusterId, Fs, NodeId};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// The open call with which nodes agree.
const FORMING_KIND: u16 = OPEN_KIND_MIN;
/// Between two rounds of questions.
const ROUND: Duration = Duration::from_millis(250);
const CALL_PATIENCE: Duration = Duration::from_secs(2);
/// Addresses that are asked in one round.
const ADDRESSES_MAX: usize = 256;

/// Where other nodes may be, HOST:PORT of their peer servers: from flags and gossip, asked anew in each round.
pub type Addresses = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// This node is one of those who formed the cluster: add the groups and initialise each with all members.
    Formed {
        /// What was agreed.
        proposal: Proposal,
        /// This node's id in it.
        node: NodeId,
    },
    /// There is a cluster: join it, by way of the node at this address.
    Join {
        /// The cluster.
        cluster: ClusterId,
        /// A member's address.
        address: String,
    },
}

/// The agreement can not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgreementError {
    /// The flags contradict themselves.
    #[error("{0}")]
    Options(String),
    /// The promise could not be saved; the node must stop.
    #[error("save the identity")]
    Save(#[source] Arc<IdentityError>),
    /// People have to decide.
    #[error("{0}")]
    Stuck(String),
}

/// The agreement of this node, and where it is kept.
struct Shell {
    core: Mutex<Forming>,
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// A save that failed: nothing is said any more.
    failed: watch::Sender<Option<Arc<IdentityError>>>,
    /// Wakes the round when an offer changed the standing.
    changed: tokio::sync::Notify,
}

impl Shell {
    /// Steps, and saves before anything else is told. Yields what is left to do.
    fn step(&self, event: FormingEvent) -> Result<Vec<FormingEffect>, Arc<IdentityError>> {
        if let Some(error) = &*self.failed.borrow() {
            return Err(error.clone());
        }
        // The lock is held over the save: no other step may answer from a standing that is not on disk yet.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = Vec::new();
        for effect in core.step(event) {
            match effect {
                FormingEffect::Save(standing) => {
                    if let Err(error) = standing.save(&*self.fs, &self.dir) {
                        let error = Arc::new(error);
                        self.failed.send_replace(Some(error.clone()));
                        return Err(error);
                    }
                    self.changed.notify_one();
                }
                other => rest.push(other),
            }
        }
        Ok(rest)
    }

    /// Answers another node.
    fn answer(&self, body: &[u8]) -> Result<Bytes, String> {
        let request: FormingRequest =
            postcard::from_bytes(body).map_err(|error| format!("malformed request: {error}"))?;
        let effects = self.step(FormingEvent::Request(request)).map_err(|error| error.to_string())?;
        let answer = effects.into_iter().find_map(|effect| match effect {
            FormingEffect::Reply(answer) => Some(answer),
            _ => None,
        });
        let answer = answer.ok_or("no answer")?;
        postcard::to_stdvec(&answer).map(Bytes::from).map_err(|error| error.to_string())
    }
}

/// Answers other nodes' questions about forming from now on, and forever; ends for this node when a cluster is
/// formed or found. `standing` is what [`Standing::load`] gave; a member ends at once and goes on answering.
///
/// # Errors
/// See [`AgreementError`].
pub async fn agree(
    raft: &RaftNode,
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: FormingOptions,
    standing: Standing,
    addresses: Addresses,
) -> Result<Agreed, AgreementError> {
    let name = options.name.clone();
    let core = Forming::new(options, standing).map_err(AgreementError::Options)?;
    let shell = Arc::new(Shell {
        core: Mutex::new(core),
        fs,
        dir,
        failed: watch::Sender::new(None),
        changed: tokio::sync::Notify::new(),
    });
    let answering = shell.clone();
    let handler: CallHandler =
        Arc::new(move |_: PeerName, body: Bytes| -> BoxFuture<'static, Result<Bytes, String>> {
            let answer = answering.answer(&body);
            Box::pin(std::future::ready(answer))
        });
    raft.register(FORMING_KIND, handler);
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    loop {
        if let Standing::Member { node, formed: Some(proposal), .. } =
            shell.core.lock().unwrap_or_else(PoisonError::into_inner).standing().clone()
        {
            return Ok(Agreed::Formed { proposal, node });
        }
        let rng = &raft.0.ports.rng;
        let random = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        let mut todo = shell.step(FormingEvent::Tick { random }).map_err(AgreementError::Save)?;
        while let Some(effect) = todo.pop() {
            match effect {
                FormingEffect::AskAll => {
                    let asked = addresses()
                        .into_iter()
                        .take(ADDRESSES_MAX)
                        .map(|address| ask(raft, address, FormingRequest::Ask));
                    for (address, peer, answer) in
                        futures::future::join_all(asked).await.into_iter().flatten()
                    {
                        if peer != name {
                            known.insert(peer.clone(), address);
                        }
                        todo.extend(
                            shell.step(FormingEvent::Answer(peer, answer)).map_err(AgreementError::Save)?,
                        );
                    }
                }
                FormingEffect::Offer(to, proposal) => {
                    let Some(address) = known.get(&to).cloned() else { continue };
                    if let Some((_, peer, answer)) = ask(raft, address, FormingRequest::Offer(proposal)).await
                    {
                        if let FormingAnswer::Refused(reason) = &answer {
                            tracing::warn!(node = to, reason, "forming is refused");
                        }
                        todo.extend(
                            shell.step(FormingEvent::Answer(peer, answer)).map_err(AgreementError::Save)?,
                        );
                    }
                }
                FormingEffect::Join(cluster) => {
                    // Any address will do: whoever is no member says who is.
                    if let Some(address) = member_address(raft, &known, cluster).await {
                        return Ok(Agreed::Join { cluster, address });
                    }
                }
                FormingEffect::Hint(reason) => tracing::error!(reason, "the cluster does not form"),
                FormingEffect::Stuck(reason) => return Err(AgreementError::Stuck(reason)),
                FormingEffect::Formed(_) | FormingEffect::Save(_) | FormingEffect::Reply(_) => {}
            }
        }
        tokio::select! {
            () = tokio::time::sleep(ROUND) => {}
            () = shell.changed.notified() => {}
        }
    }
}

/// Asks one address; `None` if there is no sensible answer.
async fn ask(
    raft: &RaftNode,
    address: String,
    request: FormingRequest,
) -> Option<(String, String, FormingAnswer)> {
    let body = postcard::to_stdvec(&request).ok()?;
    let (peer, answer) = raft.call_address(&address, FORMING_KIND, body.into(), CALL_PATIENCE).await.ok()?;
    Some((address, peer.name, postcard::from_bytes(&answer).ok()?))
}

async fn member_address(
    raft: &RaftNode,
    known: &BTreeMap<String, String>,
    cluster: ClusterId,
) -> Option<String> {
    for address in known.values() {
        let answer = ask(raft, address.clone(), FormingRequest::Ask).await;
        if answer.is_some_and(|(_, _, answer)| answer == FormingAnswer::Member(cluster)) {
            return Some(address.clone());
        }
    }
    None
}

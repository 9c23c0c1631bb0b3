//! Three nodes that find each other, lose one, and find it again.

mod world;

use model::{ClusterId, NodeId};
use raft::{Gossip, GossipMeta, GossipOptions, Liveness, MemberlistGossip};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use world::{TestNet, World, address};

/// Until a node is believed dead, a test machine being slow and shared.
const PATIENCE: Duration = Duration::from_secs(120);

fn gossip_address(node: u64) -> SocketAddr {
    SocketAddr::new(address(node).ip(), 9391)
}

fn meta(node: u64) -> GossipMeta {
    GossipMeta {
        name: format!("node-{node}"),
        node: Some(NodeId(node)),
        cluster: Some(ClusterId(1)),
        address: address(node).to_string(),
        web_address: format!("{}:9090", address(node).ip()),
        version: "0.1.0".to_owned(),
    }
}

async fn start(world: &World, node: u64, meta: GossipMeta) -> MemberlistGossip {
    let listen = gossip_address(node);
    let seeds = (1..=3).filter(|seed| *seed != node).map(|seed| gossip_address(seed).to_string()).collect();
    let options = GossipOptions { listen, advertise: listen, seeds };
    MemberlistGossip::start(Arc::new(TestNet::new(world, node)), options, meta).await.expect("starts")
}

/// Waits until a node sees others so, by name.
async fn sees(gossip: &MemberlistGossip, expected: &[(&str, Liveness)]) {
    let mut peers = gossip.peers();
    let seen = peers.wait_for(|peers| {
        let seen: Vec<_> = peers.iter().map(|peer| (peer.meta.name.as_str(), peer.liveness)).collect();
        seen == expected
    });
    let seen = tokio::time::timeout(PATIENCE, seen).await.map(|_| ());
    assert!(seen.is_ok(), "expected {expected:?}, saw {:?}", gossip.peers().borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_cut_off_is_found_again() {
    let world = World::default();
    let (a, b, c) =
        (start(&world, 1, meta(1)).await, start(&world, 2, meta(2)).await, start(&world, 3, meta(3)).await);
    sees(&a, &[("node-2", Liveness::Alive), ("node-3", Liveness::Alive)]).await;
    sees(&c, &[("node-1", Liveness::Alive), ("node-2", Liveness::Alive)]).await;
    world.isolate(3, &[1, 2]);
    sees(&a, &[("node-2", Liveness::Alive), ("node-3", Liveness::Dead)]).await;
    world.heal();
    sees(&a, &[("node-2", Liveness::Alive), ("node-3", Liveness::Alive)]).await;
    sees(&c, &[("node-1", Liveness::Alive), ("node-2", Liveness::Alive)]).await;
    b.leave().await;
    sees(&a, &[("node-2", Liveness::Dead), ("node-3", Liveness::Alive)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_announcement_spreads_and_a_foreign_cluster_is_not_seen() {
    let world = World::default();
    let foreign = GossipMeta { cluster: Some(ClusterId(2)), ..meta(3) };
    let (a, b, _c) =
        (start(&world, 1, meta(1)).await, start(&world, 2, meta(2)).await, start(&world, 3, foreign).await);
    sees(&a, &[("node-2", Liveness::Alive)]).await;
    b.announce(GossipMeta { version: "0.2.0".to_owned(), ..meta(2) }).expect("fits");
    let mut peers = a.peers();
    let newer = peers.wait_for(|peers| peers.first().is_some_and(|peer| peer.meta.version == "0.2.0"));
    assert!(tokio::time::timeout(PATIENCE, newer).await.is_ok());
}

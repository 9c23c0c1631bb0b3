//! Three nodes that find each other, lose one, and find it again.

mod world;

use model::{BoxFuture, ClientIo, ClusterId, DatagramSocket, Listener, Net, NodeId};
use raft::{Gossip, GossipMeta, GossipOptions, Liveness, MemberlistGossip};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
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
    start_over(Arc::new(TestNet::new(world, node)), node, meta).await
}

async fn start_over(net: Arc<dyn Net>, node: u64, meta: GossipMeta) -> MemberlistGossip {
    let listen = gossip_address(node);
    let seeds = (1..=3).filter(|seed| *seed != node).map(|seed| gossip_address(seed).to_string()).collect();
    let options = GossipOptions { listen, advertise: listen, seeds };
    MemberlistGossip::start(net, options, meta).await.expect("starts")
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

/// A network whose next datagram makes who sends it panic.
#[derive(Clone, Debug)]
struct Trap {
    net: Arc<dyn Net>,
    armed: Arc<AtomicBool>,
}

impl Net for Trap {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn ClientIo>>> {
        self.net.connect(address)
    }
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.net.listen(address)
    }
    fn bind_datagram(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn DatagramSocket>>> {
        Box::pin(async move {
            let socket = TrappedSocket(self.net.bind_datagram(address).await?, self.armed.clone());
            Ok(Box::new(socket) as Box<dyn DatagramSocket>)
        })
    }
    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.net.resolve(address)
    }
}

#[derive(Debug)]
struct TrappedSocket(Box<dyn DatagramSocket>, Arc<AtomicBool>);

impl DatagramSocket for TrappedSocket {
    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        assert!(!self.1.swap(false, Ordering::SeqCst), "on purpose");
        self.0.send_to(data, to)
    }
    fn recv_from<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        self.0.recv_from(buf)
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Found by simulation: after a panic in one of memberlist's tasks a node heard no gossip until it was restarted.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_panic_of_a_part_of_it_gossip_begins_anew() {
    let (world, armed) = (World::default(), Arc::new(AtomicBool::new(false)));
    let net = Trap { net: Arc::new(TestNet::new(&world, 1)), armed: armed.clone() };
    let (a, b) = (start_over(Arc::new(net), 1, meta(1)).await, start(&world, 2, meta(2)).await);
    sees(&a, &[("node-2", Liveness::Alive)]).await;
    armed.store(true, Ordering::SeqCst);
    // What is heard of a later node is heard by the list that came after.
    while a.restarts() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _c = start(&world, 3, meta(3)).await;
    sees(&a, &[("node-2", Liveness::Alive), ("node-3", Liveness::Alive)]).await;
    sees(&b, &[("node-1", Liveness::Alive), ("node-3", Liveness::Alive)]).await;
    assert_eq!(a.restarts(), 1);
}

/// Found by simulation: memberlist forgot a node that was gone, and then panicked where it looked up another.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_for_a_while_and_comes_back_again_and_again_breaks_nothing() {
    let world = World::default();
    let (a, b) = (start(&world, 1, meta(1)).await, start(&world, 2, meta(2)).await);
    for _ in 0..2 {
        let c = start(&world, 3, meta(3)).await;
        sees(&a, &[("node-2", Liveness::Alive), ("node-3", Liveness::Alive)]).await;
        sees(&b, &[("node-1", Liveness::Alive), ("node-3", Liveness::Alive)]).await;
        c.leave().await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        sees(&a, &[("node-2", Liveness::Alive), ("node-3", Liveness::Dead)]).await;
    }
    assert_eq!([a.restarts(), b.restarts()], [0; 2]);
}

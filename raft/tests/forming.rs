//! Five nodes form one cluster over the network; one more finds it.

mod world;

use model::{ClusterId, Fs};
use raft::{Agreed, FormingOptions, RaftNode, Standing, agree};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};
use storage::log::testing::MemFs;
use world::{World, address, unformed};

fn names() -> BTreeSet<String> {
    (1..=5).map(|node| format!("node-{node}")).collect()
}

async fn agreed(raft: RaftNode, node: u64, fs: MemFs) -> Agreed {
    let options = FormingOptions { name: format!("node-{node}"), members: names(), shards: 6 };
    let dir = PathBuf::from("data");
    let standing = Standing::load(&fs, &dir, &["log"]).expect("loads");
    let addresses = Arc::new(|| (1..=5).map(|node| address(node).to_string()).collect());
    let agreement = agree(&raft, Arc::new(fs), dir, options, standing, addresses);
    tokio::time::timeout(Duration::from_secs(20), agreement).await.expect("within 20 s").expect("agrees")
}

fn cluster_of(agreed: &Agreed) -> ClusterId {
    match agreed {
        Agreed::Formed { proposal, .. } => proposal.cluster,
        Agreed::Join { cluster, .. } => *cluster,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_form_one_cluster_and_an_emptied_one_joins_it() {
    let world = World::default();
    let disks: Vec<MemFs> = (1..=5).map(|_| MemFs::default()).collect();
    let mut nodes = Vec::new();
    for node in 1..=5 {
        nodes.push(unformed(&world, node).await);
    }
    let all =
        (1..=5).zip(&nodes).zip(&disks).map(|((node, raft), fs)| agreed(raft.clone(), node, fs.clone()));
    let ends = futures::future::join_all(all).await;
    let clusters: BTreeSet<_> = ends.iter().map(cluster_of).collect();
    assert_eq!(clusters.len(), 1, "{ends:?}");
    assert!(ends.iter().all(|end| matches!(end, Agreed::Formed { .. })), "{ends:?}");
    assert!(disks.iter().all(|fs| fs.exists(&PathBuf::from("data/identity"))));
    let again = agreed(nodes[0].clone(), 1, MemFs::default()).await;
    assert!(matches!(again, Agreed::Join { .. }), "{again:?}");
    assert!(clusters.contains(&cluster_of(&again)));
}

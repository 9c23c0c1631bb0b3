//! Gossip: hints where peers are. Nothing here decides anything; what meta knows is tried first.

use super::{Node, ServeOptions};
use anyhow::Context;
use model::Net;
use raft::{Gossip, GossipMeta, GossipOptions, MemberlistGossip};
use std::{net::SocketAddr, sync::Arc};

/// The gossip address beside a cluster address: the same host, the next port.
fn beside(address: &str) -> Option<String> {
    let (host, port) = address.rsplit_once(':')?;
    Some(format!("{host}:{}", port.parse::<u16>().ok()?.checked_add(1)?))
}

async fn options(net: &dyn Net, options: &ServeOptions) -> anyhow::Result<GossipOptions> {
    let mut listen = options.cluster_listen_address;
    listen.set_port(
        listen.port().checked_add(1).context("--cluster.listen-address: gossip needs the next port")?,
    );
    let advertised = options.advertised();
    let addresses = net.resolve(&advertised).await;
    let addresses =
        addresses.with_context(|| format!("--cluster.advertise-address: resolve {advertised}"))?;
    let found: Option<SocketAddr> = addresses.into_iter().find(|found| found.is_ipv4() == listen.is_ipv4());
    let mut advertise =
        found.with_context(|| format!("--cluster.advertise-address: {advertised} has no address"))?;
    advertise.set_port(listen.port());
    let seeds = options.peers.iter().filter_map(|peer| beside(peer)).collect();
    Ok(GossipOptions { listen, advertise, seeds })
}

/// Starts gossip and follows it for as long as the node runs.
pub(super) async fn run(node: Arc<Node>) {
    let us = node.raft.identity();
    let meta = GossipMeta {
        name: us.name.clone(),
        node: us.node,
        cluster: us.cluster,
        address: us.address.clone(),
        web_address: node.web_address.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let started = async {
        let options = options(&*node.ports.net, &node.options).await?;
        anyhow::Ok(MemberlistGossip::start(node.ports.net.clone(), options, meta).await?)
    };
    let gossip = match started.await {
        Ok(gossip) => node.gossip.get_or_init(|| gossip),
        Err(error) => {
            tracing::error!(
                error = format!("{error:#}"),
                "gossip does not start; peers are found by flags and meta only"
            );
            return;
        }
    };
    let mut peers = gossip.peers();
    loop {
        let heard = peers.borrow_and_update().clone();
        let state = node.meta.state();
        for peer in heard {
            let Some(id) =
                peer.meta.node.filter(|id| Some(*id) != us.node && peer.meta.cluster == us.cluster)
            else {
                continue;
            };
            // Meta knows better where it knows anything.
            let known = state.nodes.get(&id).is_some_and(|record| !record.cluster_address.is_empty());
            if !known && !peer.meta.address.is_empty() {
                node.raft.set_peer_address(id, &peer.meta.address);
            }
        }
        if peers.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn gossip_lives_on_the_next_port() {
        assert_eq!(beside("a.example:9390").as_deref(), Some("a.example:9391"));
        assert_eq!(beside("[::1]:9390").as_deref(), Some("[::1]:9391"));
        assert_eq!(beside("a.example"), None);
        assert_eq!(beside("a.example:65535"), None);
    }
}

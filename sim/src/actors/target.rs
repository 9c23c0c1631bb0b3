//! A scripted target: each scrape tells a serial number that no other target tells, so that every sample names the
//! answer it comes from.

use super::http::next_request;
use crate::{dice::Dice, ledger::Ledger, net::SimNet, trace};
use futures::AsyncWriteExt;
use model::{ClientIo, Net};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

/// How a target misbehaves, in so many of a hundred scrapes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// It takes seconds.
    pub slow_percent: u64,
    /// It answers 500.
    pub failing_percent: u64,
    /// It breaks off in the middle.
    pub breaking_percent: u64,
}

/// The first serial of a target. Small enough that sums of such numbers are compared to a thousandth.
fn first_serial(address: SocketAddr) -> u64 {
    let last = match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    u64::from(last) * 1_000_000
}

/// Serves scrapes at `address` for ever.
pub async fn run(net: SimNet, address: SocketAddr, ledger: Arc<Mutex<Ledger>>, dice: Dice, manners: Manners) {
    let Ok(listener) = net.listen(address).await else { return };
    let dice = Arc::new(Mutex::new(dice));
    while let Ok((io, _)) = listener.accept().await {
        let (ledger, dice) = (ledger.clone(), dice.clone());
        tokio::spawn(async move {
            let _scraper_is_gone = serve(io, address, &ledger, &dice, manners).await;
        });
    }
}

async fn serve(
    mut io: Box<dyn ClientIo>,
    address: SocketAddr,
    ledger: &Mutex<Ledger>,
    dice: &Mutex<Dice>,
    manners: Manners,
) -> std::io::Result<()> {
    let roll = |percent| dice.lock().unwrap_or_else(PoisonError::into_inner).chance(percent);
    while next_request(&mut io).await?.is_some() {
        if roll(manners.slow_percent) {
            let pause = dice.lock().unwrap_or_else(PoisonError::into_inner).millis(500, 6000);
            tokio::time::sleep(pause).await;
        }
        if roll(manners.failing_percent) {
            io.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").await?;
            continue;
        }
        let body = {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.work.scrapes += 1;
            let target = ledger.targets.entry(address.to_string()).or_default();
            let serial = first_serial(address) + target.served.len() as u64;
            target.served.insert(serial, trace::now());
            // One series comes and goes, so that layouts change.
            let visitor = if serial % 7 < 3 {
                format!("sim_visitor{{turn=\"{}\"}} 1\n", serial / 7)
            } else {
                String::new()
            };
            let body = format!(
                "# TYPE sim_serial counter\nsim_serial {serial}\nsim_double {}\n{visitor}",
                serial * 2
            );
            ledger.offered_bytes += body.len() as u64;
            body
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        io.write_all(head.as_bytes()).await?;
        if roll(manners.breaking_percent) {
            io.write_all(&body.as_bytes()[..body.len() / 2]).await?;
            return io.close().await;
        }
        io.write_all(body.as_bytes()).await?;
    }
    Ok(())
}

//! Targets that cost little to serve, for measuring: each of many series, whose values move like a host's.

use crate::now_ms;
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Targets on loopback that live until the process ends.
#[derive(Debug)]
pub struct Bodies {
    addresses: Vec<String>,
    served: Arc<AtomicU64>,
}

impl Bodies {
    /// Starts `targets` targets of `series` series each. Of these a third is constant, a third are counters and a
    /// third are gauges with two decimals.
    ///
    /// # Panics
    /// If there is no port for one.
    #[must_use]
    pub fn start(targets: usize, series: usize) -> Bodies {
        let served = Arc::new(AtomicU64::new(0));
        let start = |target: usize| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("a bound socket has an address").to_string();
            let served = served.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let served = served.clone();
                    thread::spawn(move || serve(&stream, target, series, &served));
                }
            });
            address
        };
        Bodies { addresses: (0..targets).map(start).collect(), served }
    }

    /// `HOST:PORT` of each.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Samples served so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

/// The value of a series of a host at a second: a third constant, a third counters, a third gauges.
#[must_use]
pub fn value_at(host: usize, series: usize, second: i64) -> f64 {
    let seed = (host * 7919 + series * 104_729) as i64;
    match series % 3 {
        0 => (seed % 1_000_000) as f64,
        1 => (seed % 1_000_000 + second.rem_euclid(10_000_000) * (1 + seed % 97)) as f64,
        _ => (seed.wrapping_mul(second).rem_euclid(10_000)) as f64 / 100.0,
    }
}

fn serve(stream: &TcpStream, target: usize, series: usize, served: &AtomicU64) {
    let mut lines = BufReader::new(stream);
    let mut out = stream;
    let (mut line, mut body) = (String::new(), String::new());
    loop {
        line.clear();
        match lines.read_line(&mut line) {
            Ok(n) if n > 0 => {}
            _ => return,
        }
        if line != "\r\n" {
            continue;
        }
        body.clear();
        let second = now_ms() / 1000;
        for i in 0..series {
            let value = value_at(target, i, second);
            writeln!(body, "metric_{}{{part=\"p{}\",of=\"bench\"}} {value}", i % 100, i / 100)
                .expect("a string takes all");
        }
        served.fetch_add(series as u64, Ordering::Relaxed);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if out.write_all(head.as_bytes()).and_then(|()| out.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

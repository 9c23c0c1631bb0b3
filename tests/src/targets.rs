//! Scrape targets that count who comes when.

use crate::now_ms;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Targets, each with its own port; they serve a counter, a gauge and the number of scrapes so far.
#[derive(Debug)]
pub struct Targets {
    listeners: Vec<TcpListener>,
    addresses: Vec<String>,
    scrapes: Arc<Vec<Mutex<Vec<i64>>>>,
    holding: Arc<Holding>,
    stopped: Arc<AtomicBool>,
}

/// Requests that are answered only when somebody says so.
#[derive(Debug, Default)]
struct Holding {
    /// Targets whose next request is to be held, and those that hold one.
    targets: Mutex<(BTreeSet<usize>, BTreeSet<usize>)>,
    changed: Condvar,
}

impl Holding {
    /// Called with each request of target `i`; returns when it may be answered.
    fn pass(&self, i: usize) {
        let mut targets = self.targets.lock().expect("no target panics");
        if targets.0.remove(&i) {
            targets.1.insert(i);
            while targets.1.contains(&i) {
                targets = self.changed.wait(targets).expect("no target panics");
            }
        }
    }
}

impl Targets {
    /// Starts `count` targets on loopback.
    ///
    /// # Panics
    /// If there is no port for one.
    #[must_use]
    pub fn start(count: usize) -> Targets {
        Targets::start_at(Ipv4Addr::LOCALHOST.into(), count)
    }

    /// Starts `count` targets at one of this host's addresses.
    ///
    /// # Panics
    /// If there is no port for one.
    #[must_use]
    pub fn start_at(ip: IpAddr, count: usize) -> Targets {
        let scrapes: Arc<Vec<_>> = Arc::new((0..count).map(|_| Mutex::new(Vec::new())).collect());
        let stopped = Arc::new(AtomicBool::new(false));
        let holding = Arc::new(Holding::default());
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for i in 0..count {
            let listener = TcpListener::bind((ip, 0)).expect("a free port");
            addresses.push(listener.local_addr().expect("a bound socket has an address").to_string());
            listeners.push(listener.try_clone().expect("a second handle"));
            let (scrapes, stopped, holding) = (scrapes.clone(), stopped.clone(), holding.clone());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let (scrapes, stopped, holding) = (scrapes.clone(), stopped.clone(), holding.clone());
                    if let Ok(stream) = stream {
                        thread::spawn(move || serve(&stream, &scrapes[i], &stopped, || holding.pass(i)));
                    }
                }
            });
        }
        Targets { listeners, addresses, scrapes, holding, stopped }
    }

    /// `IP:PORT` of each, as a YAML list.
    #[must_use]
    pub fn yaml_list(&self) -> String {
        let addresses: Vec<_> = self.addresses.iter().map(|address| format!("'{address}'")).collect();
        format!("[{}]", addresses.join(", "))
    }

    /// `IP:PORT` of each.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// When target `i` was scraped, milliseconds since the epoch.
    ///
    /// # Panics
    /// If a target's thread panicked.
    #[must_use]
    pub fn scrapes(&self, i: usize) -> Vec<i64> {
        self.scrapes[i].lock().expect("no target panics").clone()
    }

    /// The next request of each of these targets is not answered before [`Targets::release`].
    ///
    /// # Panics
    /// If a target's thread panicked.
    pub fn hold_next(&self, targets: &[usize]) {
        self.holding.targets.lock().expect("no target panics").0 = targets.iter().copied().collect();
    }

    /// The targets that hold a request.
    ///
    /// # Panics
    /// If a target's thread panicked.
    #[must_use]
    pub fn held(&self) -> Vec<usize> {
        self.holding.targets.lock().expect("no target panics").1.iter().copied().collect()
    }

    /// Answers what is held.
    ///
    /// # Panics
    /// If a target's thread panicked.
    pub fn release(&self) {
        *self.holding.targets.lock().expect("no target panics") = Default::default();
        self.holding.changed.notify_all();
    }

    /// Number of targets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.release();
        for listener in &self.listeners {
            // SAFETY: `shutdown` takes a descriptor that is open and a flag. It ends `accept` in whatever network
            // namespace the listener lives, where a connection from here may not get.
            #[expect(unsafe_code, reason = "the standard library cannot shut a listener down")]
            unsafe {
                libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR);
            }
        }
    }
}

/// Answers requests on one connection until it is closed.
fn serve(stream: &TcpStream, scrapes: &Mutex<Vec<i64>>, stopped: &AtomicBool, pass: impl Fn()) {
    let mut lines = BufReader::new(stream);
    let mut out = stream;
    let mut line = String::new();
    loop {
        let mut first = true;
        loop {
            line.clear();
            match lines.read_line(&mut line) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            if line == "\r\n" && !first {
                break;
            }
            first = false;
        }
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let count = {
            let mut scrapes = scrapes.lock().expect("no target panics");
            scrapes.push(now_ms());
            scrapes.len()
        };
        pass();
        let body = format!(
            "# TYPE served_total counter\nserved_total {count}\n# TYPE clock gauge\nclock {}\n",
            now_ms()
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if out.write_all(head.as_bytes()).and_then(|()| out.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

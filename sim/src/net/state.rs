//! What the network is at a moment.

use crate::dice::Dice;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    task::Waker,
    time::Duration,
};
use xxhash_rust::xxh3::Xxh3;

/// Bytes of one direction of a connection that nobody has read yet.
const WINDOW: usize = 256 << 10;
/// Datagrams that wait at a socket.
const DATAGRAMS_MAX: usize = 1024;
/// How late a late datagram is, at most, in milliseconds.
const LATE_MS_MAX: u64 = 1500;
/// The shortest delay: one step.
const STEP: Duration = Duration::from_millis(1);

/// How a link is, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Nothing passes.
    pub cut: bool,
    /// Delay, at least.
    pub delay_min: Duration,
    /// Delay, at most.
    pub delay_max: Duration,
    /// Of a hundred datagrams so many are lost.
    pub loss_percent: u64,
    /// Of a hundred datagrams so many come twice.
    pub double_percent: u64,
    /// Of a hundred datagrams so many come late, so that others overtake them.
    pub late_percent: u64,
    /// What of streams passes in a millisecond; 0 for as much as is sent.
    pub bytes_per_ms: u64,
}

impl Default for LinkState {
    fn default() -> Self {
        LinkState {
            cut: false,
            delay_min: STEP,
            delay_max: 2 * STEP,
            loss_percent: 0,
            double_percent: 0,
            late_percent: 0,
            bytes_per_ms: 0,
        }
    }
}

/// What was carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetStats {
    /// Connections that were opened.
    pub connections: u64,
    /// Pieces of streams.
    pub pieces: u64,
    /// Bytes of streams.
    pub bytes: u64,
    /// Datagrams that arrived.
    pub datagrams: u64,
    /// A digest of everything, in its order.
    pub digest: u64,
}

pub(super) enum Event {
    Syn(u64),
    Accepted(u64),
    Refused(u64),
    Data { conn: u64, side: usize, bytes: Vec<u8> },
    Fin { conn: u64, side: usize },
    Reset { conn: u64, side: usize },
    Datagram { to: SocketAddr, from: SocketAddr, data: Vec<u8> },
}

impl Event {
    fn number(&self) -> (u8, u64, usize) {
        match self {
            Event::Syn(conn) => (1, *conn, 0),
            Event::Accepted(conn) => (2, *conn, 0),
            Event::Refused(conn) => (3, *conn, 0),
            Event::Data { conn, side, .. } => (4, *conn, *side),
            Event::Fin { conn, side } => (5, *conn, *side),
            Event::Reset { conn, side } => (6, *conn, *side),
            Event::Datagram { to, from, .. } => (7, u64::from(to.port()), usize::from(from.port())),
        }
    }
}

/// What has arrived at one end of a connection.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) data: VecDeque<Vec<u8>>,
    /// Read so far of the first piece.
    pub(super) read: usize,
    /// Sent and not read.
    pub(super) unread: usize,
    pub(super) eof: bool,
    pub(super) reset: bool,
    pub(super) reader: Option<Waker>,
    /// Who writes at the other end and waits for room.
    pub(super) writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
    Refused,
}

pub(super) struct Conn {
    pub(super) phase: Phase,
    /// Client, server.
    pub(super) ends: [SocketAddr; 2],
    /// Whether somebody holds the end.
    pub(super) held: [bool; 2],
    pub(super) inbox: [Inbox; 2],
    pub(super) connecting: Option<Waker>,
    /// When the last event arrives at each end: streams keep their order.
    last: [Duration; 2],
}

#[derive(Default)]
pub(super) struct Listening {
    pub(super) queue: VecDeque<u64>,
    pub(super) waker: Option<Waker>,
}

#[derive(Default)]
pub(super) struct Datagrams {
    pub(super) queue: VecDeque<(Vec<u8>, SocketAddr)>,
    pub(super) waker: Option<Waker>,
}

#[derive(Clone, Copy, Default)]
struct Host {
    up: bool,
    life: u64,
}

pub(super) struct State {
    dice: Dice,
    now: Duration,
    number: u64,
    agenda: BTreeMap<(Duration, u64), Event>,
    held: BTreeMap<(IpAddr, IpAddr), Vec<Event>>,
    links: BTreeMap<(IpAddr, IpAddr), LinkState>,
    /// When a narrow link has passed what was sent over it.
    busy: BTreeMap<(IpAddr, IpAddr), Duration>,
    hosts: BTreeMap<IpAddr, Host>,
    pub(super) conns: BTreeMap<u64, Conn>,
    pub(super) listeners: BTreeMap<SocketAddr, Listening>,
    pub(super) datagrams: BTreeMap<SocketAddr, Datagrams>,
    next_conn: u64,
    stats: NetStats,
    digest: Xxh3,
}

impl State {
    pub(super) fn new(dice: Dice) -> State {
        State {
            dice,
            now: Duration::ZERO,
            number: 0,
            agenda: BTreeMap::new(),
            held: BTreeMap::new(),
            links: BTreeMap::new(),
            busy: BTreeMap::new(),
            hosts: BTreeMap::new(),
            conns: BTreeMap::new(),
            listeners: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            next_conn: 0,
            stats: NetStats::default(),
            digest: Xxh3::new(),
        }
    }

    pub(super) fn stats(&self) -> NetStats {
        NetStats { digest: self.digest.digest(), ..self.stats }
    }

    fn link(&self, from: IpAddr, to: IpAddr) -> LinkState {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    pub(super) fn life(&self, host: IpAddr) -> Option<u64> {
        self.hosts.get(&host).filter(|host| host.up).map(|host| host.life)
    }

    pub(super) fn begin(&mut self, host: IpAddr) {
        let host = self.hosts.entry(host).or_default();
        host.up = true;
        host.life += 1;
    }

    pub(super) fn end(&mut self, host: IpAddr, silent: bool, woken: &mut Vec<Waker>) {
        if let Some(host) = self.hosts.get_mut(&host) {
            host.up = false;
        }
        self.listeners.retain(|address, _| address.ip() != host);
        self.datagrams.retain(|address, _| address.ip() != host);
        let ours: Vec<(u64, usize)> = self
            .conns
            .iter()
            .flat_map(|(id, conn)| (0..2).map(move |side| (*id, side, conn)))
            .filter(|(_, side, conn)| conn.ends[*side].ip() == host && conn.held[*side])
            .map(|(id, side, _)| (id, side))
            .collect();
        for (id, side) in ours {
            self.release(id, side);
            if !silent {
                self.send_on(id, 1 - side, |conn, side| Event::Reset { conn, side });
            }
            if let Some(conn) = self.conns.get_mut(&id) {
                let inbox = &mut conn.inbox[side];
                inbox.reset = true;
                woken.extend(inbox.reader.take());
                woken.extend(conn.inbox[1 - side].writer.take());
            }
        }
    }

    pub(super) fn set_link(&mut self, from: IpAddr, to: IpAddr, link: LinkState) {
        self.links.insert((from, to), link);
        if !link.cut {
            self.release_held(from, to);
        }
    }

    pub(super) fn heal(&mut self) {
        self.links.clear();
        let held: Vec<_> = self.held.keys().copied().collect();
        held.into_iter().for_each(|(from, to)| self.release_held(from, to));
    }

    fn release_held(&mut self, from: IpAddr, to: IpAddr) {
        for event in self.held.remove(&(from, to)).unwrap_or_default() {
            self.schedule(from, to, event);
        }
    }

    /// Puts an event on its way from one host to another.
    fn schedule(&mut self, from: IpAddr, to: IpAddr, event: Event) {
        let link = self.link(from, to);
        if link.cut {
            self.held.entry((from, to)).or_default().push(event);
            return;
        }
        let range = link.delay_max.saturating_sub(link.delay_min).as_millis() as u64;
        let mut at = self.now + link.delay_min.max(STEP) + Duration::from_millis(self.dice.below(range + 1));
        if let Event::Data { bytes, .. } = &event
            && let Some(takes) = (bytes.len() as u64).checked_div(link.bytes_per_ms)
        {
            let busy = self.busy.entry((from, to)).or_default();
            *busy = (*busy).max(self.now) + Duration::from_millis(takes);
            at = at.max(*busy + link.delay_min);
        }
        if matches!(event, Event::Datagram { .. }) && self.dice.chance(link.late_percent) {
            at += Duration::from_millis(self.dice.below(LATE_MS_MAX));
        }
        let side = match &event {
            Event::Syn(_) => Some(1),
            Event::Accepted(_) | Event::Refused(_) => Some(0),
            Event::Data { side, .. } | Event::Fin { side, .. } | Event::Reset { side, .. } => Some(*side),
            Event::Datagram { .. } => None,
        };
        let (_, conn, _) = event.number();
        if let Some((side, conn)) = side.and_then(|side| Some((side, self.conns.get_mut(&conn)?))) {
            at = at.max(conn.last[side]);
            conn.last[side] = at;
        }
        self.number += 1;
        self.agenda.insert((at, self.number), event);
    }

    /// Sends an event to one side of a connection.
    fn send_on(&mut self, id: u64, side: usize, event: impl FnOnce(u64, usize) -> Event) {
        if let Some(conn) = self.conns.get(&id) {
            let (from, to) = (conn.ends[1 - side].ip(), conn.ends[side].ip());
            self.schedule(from, to, event(id, side));
        }
    }

    pub(super) fn connect(&mut self, from: IpAddr, to: SocketAddr) -> u64 {
        self.next_conn += 1;
        let id = self.next_conn;
        let ephemeral = SocketAddr::new(from, 10_000 + (id % 50_000) as u16);
        let conn = Conn {
            phase: Phase::Connecting,
            ends: [ephemeral, to],
            held: [true, false],
            inbox: Default::default(),
            connecting: None,
            last: [Duration::ZERO; 2],
        };
        self.conns.insert(id, conn);
        self.schedule(from, to.ip(), Event::Syn(id));
        id
    }

    /// Takes bytes from the end `side`; how many, or `None` if there is no room.
    pub(super) fn write(&mut self, id: u64, side: usize, data: &[u8]) -> io::Result<Option<usize>> {
        let broken = || io::Error::from(io::ErrorKind::ConnectionReset);
        let conn = self.conns.get_mut(&id).ok_or_else(broken)?;
        if conn.inbox[side].reset || !conn.held[side] {
            return Err(broken());
        }
        let other = &mut conn.inbox[1 - side];
        let room = WINDOW.saturating_sub(other.unread).min(data.len());
        if room == 0 && !data.is_empty() {
            return Ok(None);
        }
        other.unread += room;
        let bytes = data[..room].to_vec();
        self.send_on(id, 1 - side, |conn, side| Event::Data { conn, side, bytes });
        Ok(Some(room))
    }

    /// The end `side` says nothing more.
    pub(super) fn finish(&mut self, id: u64, side: usize) {
        self.send_on(id, 1 - side, |conn, side| Event::Fin { conn, side });
    }

    /// Nobody holds the end `side` any more.
    pub(super) fn release(&mut self, id: u64, side: usize) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.held[side] = false;
        }
    }

    pub(super) fn send_datagram(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let link = self.link(from.ip(), to.ip());
        if link.cut || self.dice.chance(link.loss_percent) {
            return;
        }
        let copies = 1 + u64::from(self.dice.chance(link.double_percent));
        for _ in 0..copies {
            self.schedule(from.ip(), to.ip(), Event::Datagram { to, from, data: data.to_vec() });
        }
    }

    pub(super) fn reset_one(&mut self, hosts: &[IpAddr], woken: &mut Vec<Waker>) -> bool {
        let open: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.phase == Phase::Open && conn.held == [true, true])
            .filter(|(_, conn)| conn.ends.iter().all(|end| hosts.contains(&end.ip())))
            .map(|(id, _)| *id)
            .collect();
        if open.is_empty() {
            return false;
        }
        let id = *self.dice.pick(&open);
        for side in 0..2 {
            self.deliver(Event::Reset { conn: id, side }, woken);
        }
        true
    }

    pub(super) fn advance(&mut self, now: Duration, woken: &mut Vec<Waker>) {
        self.now = now;
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= now
        {
            let event = entry.remove();
            let (kind, id, side) = event.number();
            self.digest.update(&[kind, side as u8]);
            self.digest.update(&id.to_le_bytes());
            self.digest.update(&(now.as_millis() as u64).to_le_bytes());
            if let Event::Data { bytes, .. } = &event {
                self.stats.pieces += 1;
                self.stats.bytes += bytes.len() as u64;
                self.digest.update(bytes);
            }
            self.deliver(event, woken);
        }
    }

    fn deliver(&mut self, event: Event, woken: &mut Vec<Waker>) {
        match event {
            Event::Syn(id) => self.deliver_syn(id, woken),
            Event::Accepted(id) => {
                let Some(conn) = self.conns.get_mut(&id) else { return };
                conn.phase = Phase::Open;
                woken.extend(conn.connecting.take());
                if !conn.held[0] {
                    self.send_on(id, 1, |conn, side| Event::Reset { conn, side });
                }
            }
            Event::Refused(id) => {
                let Some(conn) = self.conns.get_mut(&id) else { return };
                conn.phase = Phase::Refused;
                woken.extend(conn.connecting.take());
            }
            Event::Data { conn: id, side, bytes } => {
                let Some(conn) = self.conns.get_mut(&id) else { return };
                if conn.held[side] {
                    conn.inbox[side].data.push_back(bytes);
                    woken.extend(conn.inbox[side].reader.take());
                } else if self.hosts.get(&conn.ends[side].ip()).is_some_and(|host| host.up) {
                    self.send_on(id, 1 - side, |conn, side| Event::Reset { conn, side });
                }
            }
            Event::Fin { conn: id, side } => {
                let Some(conn) = self.conns.get_mut(&id) else { return };
                conn.inbox[side].eof = true;
                woken.extend(conn.inbox[side].reader.take());
                self.forget(id);
            }
            Event::Reset { conn: id, side } => {
                let Some(conn) = self.conns.get_mut(&id) else { return };
                conn.inbox[side].reset = true;
                woken.extend(conn.inbox[side].reader.take());
                woken.extend(conn.inbox[1 - side].writer.take());
                woken.extend(conn.connecting.take());
                self.forget(id);
            }
            Event::Datagram { to, from, data } => {
                let Some(socket) = self.datagrams.get_mut(&to) else { return };
                self.stats.datagrams += 1;
                if socket.queue.len() < DATAGRAMS_MAX {
                    socket.queue.push_back((data, from));
                }
                woken.extend(socket.waker.take());
            }
        }
    }

    fn deliver_syn(&mut self, id: u64, woken: &mut Vec<Waker>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let to = conn.ends[1];
        if !self.hosts.get(&to.ip()).is_some_and(|host| host.up) {
            return; // no power: silence
        }
        let any = SocketAddr::new([0, 0, 0, 0].into(), to.port());
        let address = if self.listeners.contains_key(&to) { to } else { any };
        let Some(listening) = self.listeners.get_mut(&address) else {
            self.send_on(id, 0, |conn, _| Event::Refused(conn));
            return;
        };
        conn.held[1] = true;
        listening.queue.push_back(id);
        woken.extend(listening.waker.take());
        self.stats.connections += 1;
        self.send_on(id, 0, |conn, _| Event::Accepted(conn));
    }

    /// Forgets a connection that nobody holds.
    pub(super) fn forget(&mut self, id: u64) {
        if self.conns.get(&id).is_some_and(|conn| conn.held == [false, false]) {
            self.conns.remove(&id);
        }
    }
}

//! The lines of a target's body that were seen before, and in which order.
//!
//! A steady body is compared with what is expected next, byte for byte, and neither hashed nor parsed. A line out of
//! order is found by its hash, and the chain of expectations heals itself around it.
//!
//! ```text
//! arena   # TYPE a gauge⏎a{x="1"}a{x="2"}...          lines[i] = (place in arena, what it is, when seen, next)
//! ```

use crate::exposition::{BoundLabel, MetricKind};
use model::SlotId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::xxh3_64;

/// Hashes keys that are hashes already by doing nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// From hashes to numbers. A collision takes the next free hash, so nothing is ever removed singly.
pub(crate) type HashIndex = HashMap<u64, u32, BuildHasherDefault<AsIs>>;

/// The position of a line.
pub(crate) type LineId = u32;

/// No line.
pub(crate) const NO_LINE: LineId = LineId::MAX;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// The text of a series, up to its value.
    Series(SlotId),
    /// The text of a series that metric relabelling drops.
    Dropped,
    /// A whole `TYPE` line.
    Kind(MetricKind),
    /// A whole line of other metadata.
    Metadata,
    /// A whole comment.
    Comment,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    start: u32,
    length: u32,
    /// What followed it the last time.
    pub(crate) next: LineId,
    /// The scrape that saw it last.
    pub(crate) seen: u32,
    pub(crate) kind: LineKind,
    /// The label that was taken for a bound when the line was read, if another `TYPE` could have made a difference.
    pub(crate) bound: Bound,
}

/// How the bound in a series' text was read, which depends on the `TYPE` line before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The text has neither `le` nor `quantile`.
    Any,
    /// It has, and this one of them is a bound.
    Label(Option<BoundLabel>),
}

impl Bound {
    /// Whether the line means the same where `label` is a bound.
    #[inline]
    pub(crate) fn holds(self, label: Option<BoundLabel>) -> bool {
        match self {
            Bound::Any => true,
            Bound::Label(read) => read == label,
        }
    }
}

/// All lines of a target.
#[derive(Debug)]
pub(crate) struct Lines {
    arena: Vec<u8>,
    lines: Vec<Line>,
    index: HashIndex,
    first: LineId,
}

impl Default for Lines {
    fn default() -> Self {
        Lines { arena: Vec::new(), lines: Vec::new(), index: HashIndex::default(), first: NO_LINE }
    }
}

impl Lines {
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The line that a body is expected to begin with.
    pub(crate) fn first(&self) -> LineId {
        self.first
    }

    pub(crate) fn get(&self, id: LineId) -> Option<&Line> {
        self.lines.get(id as usize)
    }

    pub(crate) fn get_mut(&mut self, id: LineId) -> Option<&mut Line> {
        self.lines.get_mut(id as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Line, &[u8])> {
        self.lines.iter().map(|line| (line, self.text(line)))
    }

    pub(crate) fn text(&self, line: &Line) -> &[u8] {
        &self.arena[line.start as usize..(line.start + line.length) as usize]
    }

    /// Looks a text up; else the hash under which it can be added.
    pub(crate) fn find(&self, text: &[u8]) -> Result<LineId, u64> {
        let mut hash = xxh3_64(text);
        while let Some(id) = self.index.get(&hash) {
            if self.text(&self.lines[*id as usize]) == text {
                return Ok(*id);
            }
            hash = hash.wrapping_add(1);
        }
        Err(hash)
    }

    /// Adds a line under the hash that [`Lines::find`] gave; `None` if 4 GiB of text are full.
    pub(crate) fn add(&mut self, hash: u64, text: &[u8], kind: LineKind, seen: u32) -> Option<LineId> {
        let start = u32::try_from(self.arena.len()).ok()?;
        let length = u32::try_from(text.len()).ok()?;
        start.checked_add(length)?;
        let id = LineId::try_from(self.lines.len()).ok().filter(|id| *id != NO_LINE)?;
        self.arena.extend_from_slice(text);
        self.lines.push(Line { start, length, next: NO_LINE, seen, kind, bound: Bound::Any });
        self.index.insert(hash, id);
        Some(id)
    }

    /// Remembers that `id` followed `previous`, or came first.
    pub(crate) fn link(&mut self, previous: LineId, id: LineId) {
        match self.lines.get_mut(previous as usize) {
            Some(line) => line.next = id,
            None => self.first = id,
        }
    }

    /// The lines for which `keep` gives a kind, in their order in the last body as far as known.
    pub(crate) fn rebuilt(&self, mut keep: impl FnMut(&Line) -> Option<LineKind>) -> Lines {
        let mut lines = Lines::default();
        let mut moved = vec![NO_LINE; self.lines.len()];
        for (old, line) in self.lines.iter().enumerate() {
            let Some(kind) = keep(line) else { continue };
            let text = self.text(line);
            if let Err(hash) = lines.find(text) {
                moved[old] = lines.add(hash, text, kind, line.seen).unwrap_or(NO_LINE);
            }
            if let Some(new) = lines.get_mut(moved[old]) {
                new.bound = line.bound;
            }
        }
        let new_id = |old: LineId| moved.get(old as usize).copied().unwrap_or(NO_LINE);
        for (old, line) in self.lines.iter().enumerate() {
            if let Some(new) = lines.get_mut(moved[old]) {
                new.next = new_id(line.next);
            }
        }
        lines.first = new_id(self.first);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_text() {
        let mut lines = Lines::default();
        let hash = lines.find(b"a").unwrap_err();
        let id = lines.add(hash, b"a", LineKind::Series(7), 1).unwrap();
        assert_eq!(lines.find(b"a"), Ok(id));
        assert!(lines.find(b"b").is_err());
    }

    #[test]
    fn texts_with_one_hash_are_told_apart() {
        let mut lines = Lines::default();
        let hash = lines.find(b"a").unwrap_err();
        lines.add(hash, b"not a", LineKind::Dropped, 1).unwrap(); // as if its hash were that of "a"
        let free = lines.find(b"a").unwrap_err();
        assert_eq!(free, hash.wrapping_add(1));
        let id = lines.add(free, b"a", LineKind::Dropped, 1).unwrap();
        assert_eq!(lines.find(b"a"), Ok(id));
    }

    #[test]
    fn what_is_not_kept_leaves_the_chain() {
        let mut lines = Lines::default();
        for (text, previous) in [(b"a", NO_LINE), (b"b", 0), (b"c", 1)] {
            let hash = lines.find(text).unwrap_err();
            let id = lines.add(hash, text, LineKind::Dropped, u32::from(text != b"b")).unwrap();
            lines.link(previous, id);
        }
        let rebuilt = lines.rebuilt(|line| (line.seen == 1).then_some(line.kind));
        assert_eq!(rebuilt.len(), 2);
        assert_eq!(rebuilt.first(), 0);
        assert!(rebuilt.find(b"c").is_ok() && rebuilt.find(b"b").is_err());
    }
}

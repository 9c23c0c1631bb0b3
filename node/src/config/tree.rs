//! YAML as a tree, to be shown: comments, anchors and styles are gone, and every scalar is still what was written.
//!
//! Only `mask` needs it. What a configuration means is read elsewhere, by types.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};
use std::{borrow::Cow, collections::BTreeMap, rc::Rc};

/// Lists and mappings within each other.
const DEPTH_MAX: usize = 100;

/// A part of the tree. One that has an anchor stands in several places.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A text, a number, nothing: as it is written, without quotes. `plain` if it had none.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Rc<Node>>),
    /// A mapping.
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

impl Node {
    /// Reads the first document of a text; `None` if it is none.
    pub(super) fn parse(yaml: &str) -> Option<Rc<Node>> {
        let events = Parser::new_from_str(yaml).map_while(Result::ok).map(|(event, _)| event);
        let mut builder = Builder { events, anchors: BTreeMap::new() };
        loop {
            match builder.events.next()? {
                Event::DocumentStart(..) => return builder.node(0)?,
                Event::StreamEnd => return Some(Rc::new(Node::null())),
                _ => {}
            }
        }
    }

    /// What stands where nothing does.
    fn null() -> Node {
        Node::Scalar { text: String::new(), plain: true }
    }

    /// The value of a key of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Rc<Node>> {
        let Node::Map(pairs) = self else { return None };
        pairs.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// The entries of a list.
    pub(super) fn entries(&self) -> &[Rc<Node>] {
        if let Node::List(entries) = self { entries } else { &[] }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        if let Node::Scalar { text, .. } = self { Some(text) } else { None }
    }
}

struct Builder<'y, E: Iterator<Item = Event<'y>>> {
    events: E,
    anchors: BTreeMap<usize, Rc<Node>>,
}

impl<'y, E: Iterator<Item = Event<'y>>> Builder<'y, E> {
    /// The next node, or `Some(None)` at the end of the list or mapping; `None` if the text ends before that.
    fn node(&mut self, depth: usize) -> Option<Option<Rc<Node>>> {
        if depth > DEPTH_MAX {
            return None;
        }
        let (anchor, node) = match self.events.next()? {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                // The parser writes `~` where there is nothing.
                let nothing = plain && text == "~";
                let text = if nothing { String::new() } else { text.into_owned() };
                (anchor, Node::Scalar { text, plain })
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut entries = Vec::new();
                while let Some(entry) = self.node(depth + 1)? {
                    entries.push(entry);
                }
                (anchor, Node::List(entries))
            }
            Event::MappingStart(_, anchor, _) => {
                let mut pairs = Vec::new();
                while let Some(key) = self.node(depth + 1)? {
                    pairs.push((key, self.node(depth + 1)??));
                }
                (anchor, Node::Map(pairs))
            }
            Event::Alias(anchor) => return Some(Some(self.anchors.get(&anchor)?.clone())),
            Event::SequenceEnd | Event::MappingEnd => return Some(None),
            _ => return None,
        };
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Some(Some(node))
    }
}

/// A scalar as it is written in a block: without quotes if it had none.
pub(super) fn scalar(text: &str, plain: bool) -> Cow<'_, str> {
    if plain && !text.contains('\n') {
        return Cow::Borrowed(text);
    }
    if !text.chars().any(char::is_control) {
        return Cow::Owned(format!("'{}'", text.replace('\'', "''")));
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_keep_what_was_written() {
        let tree = Node::parse("a: 1.10 # one\n'b: c': \"x\\ty\"\nd: |\n  two\n  lines\ne:\n").expect("YAML");
        let Node::Map(pairs) = &*tree else { panic!("a mapping") };
        let shown = |node: &Node| match node {
            Node::Scalar { text, plain } => scalar(text, *plain).into_owned(),
            other => panic!("{other:?}"),
        };
        let all: Vec<_> = pairs.iter().map(|(key, value)| (shown(key), shown(value))).collect();
        let expected = [("a", "1.10"), ("'b: c'", "\"x\\u0009y\""), ("d", "\"two\\nlines\\n\""), ("e", "")];
        assert_eq!(all, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_alias_is_what_its_anchor_was() {
        let tree = Node::parse("a: &x {b: c}\nd: *x\n").expect("YAML");
        assert_eq!(tree.get("d").and_then(|d| d.get("b")).and_then(|b| b.text()), Some("c"));
    }

    #[test]
    fn the_empty_text_is_nothing_and_a_broken_one_is_no_tree() {
        assert_eq!(Node::parse("").and_then(|node| node.text().map(str::to_owned)).as_deref(), Some(""));
        assert!(Node::parse("a: [b\n").is_none());
        assert!(Node::parse(&"[".repeat(150)).is_none());
    }
}

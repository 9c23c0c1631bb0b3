//! Expressions made at random, spelled as Go allows, against their meaning under Go's rules: a matcher of sets of
//! positions that knows nothing of the translation.

use super::AnchoredRegex;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What an expression means.
#[derive(Clone, Debug)]
enum Node {
    /// A character, and how it is spelled.
    Char(char, u8),
    /// `.`, which is every character, newlines too
    Any,
    Class(Vec<Item>, bool),
    /// `\d`, `\w`, `\s` and their opposites
    Perl(char),
    Start,
    End,
    WordBoundary(bool),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    /// A group, by its spelling.
    Group(Box<Node>, u8),
    /// `(?i:...)`
    Folded(Box<Node>),
    /// At least so often, at most so often, lazily.
    Repeat(Box<Node>, usize, Option<usize>, bool),
}

/// What stands in a class.
#[derive(Clone, Debug)]
enum Item {
    Char(char),
    Range(char, char),
    Perl(char),
    Posix(&'static str, bool),
}

const ALPHABET: [char; 24] = [
    'a', 'b', 'k', 'K', 's', 'S', '\u{17f}', '\u{212a}', 'é', 'É', '1', '0', '-', '_', ' ', '\n', '\u{b}',
    '&', '[', ']', '{', '~', '\\', '^',
];

/// Characters that are one when case does not matter, by Unicode's simple folding.
fn variants(c: char) -> Vec<char> {
    let orbits: [&[char]; 3] = [&['k', 'K', '\u{212a}'], &['s', 'S', '\u{17f}'], &['é', 'É']];
    match orbits.iter().find(|orbit| orbit.contains(&c)) {
        Some(orbit) => orbit.to_vec(),
        None if c.is_ascii_alphabetic() => vec![c.to_ascii_lowercase(), c.to_ascii_uppercase()],
        None => vec![c],
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn perl(kind: char, c: char) -> bool {
    match kind.to_ascii_lowercase() {
        'd' => c.is_ascii_digit(),
        'w' => is_word(c),
        _ => matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}'), // unlike elsewhere, no vertical tab
    }
}

/// Whether some character that counts as `c` is in a set.
fn any_variant(c: char, fold: bool, is_in: impl Fn(char) -> bool) -> bool {
    if fold { variants(c).into_iter().any(is_in) } else { is_in(c) }
}

impl Item {
    fn has(&self, c: char, fold: bool) -> bool {
        match self {
            Item::Char(own) => any_variant(c, fold, |c| c == *own),
            Item::Range(first, last) => any_variant(c, fold, |c| (*first..=*last).contains(&c)),
            Item::Perl(kind) => any_variant(c, fold, |c| perl(*kind, c)) != kind.is_ascii_uppercase(),
            Item::Posix(name, negated) => {
                let inside = |c: char| match *name {
                    "alpha" => c.is_ascii_alphabetic(),
                    "space" => c.is_ascii_whitespace() || c == '\u{b}',
                    _ => c.is_ascii_punctuation(),
                };
                any_variant(c, fold, inside) != *negated
            }
        }
    }
}

/// Where a match that begins at `from` may end.
fn ends(node: &Node, text: &[char], from: usize, fold: bool) -> BTreeSet<usize> {
    let one = |fits: bool| if fits { BTreeSet::from([from + 1]) } else { BTreeSet::new() };
    let here = |fits: bool| if fits { BTreeSet::from([from]) } else { BTreeSet::new() };
    let next = text.get(from).copied();
    match node {
        Node::Char(own, _) => one(next.is_some_and(|c| any_variant(c, fold, |c| c == *own))),
        Node::Any => one(next.is_some()),
        Node::Class(items, negated) => {
            one(next.is_some_and(|c| items.iter().any(|item| item.has(c, fold)) != *negated))
        }
        Node::Perl(kind) => one(next.is_some_and(|c| Item::Perl(*kind).has(c, fold))),
        Node::Start => here(from == 0),
        Node::End => here(from == text.len()),
        Node::WordBoundary(wanted) => {
            let before = from > 0 && is_word(text[from - 1]);
            here((before != next.is_some_and(is_word)) == *wanted)
        }
        Node::Sequence(parts) => parts.iter().fold(BTreeSet::from([from]), |at, part| {
            at.into_iter().flat_map(|from| ends(part, text, from, fold)).collect()
        }),
        Node::Either(parts) => parts.iter().flat_map(|part| ends(part, text, from, fold)).collect(),
        Node::Group(inner, _) => ends(inner, text, from, fold),
        Node::Folded(inner) => ends(inner, text, from, true),
        Node::Repeat(inner, least, most, _) => {
            let mut at = BTreeSet::from([from]);
            let mut all = if *least == 0 { at.clone() } else { BTreeSet::new() };
            for times in 1..=most.unwrap_or(least + text.len() + 1) {
                at = at.into_iter().flat_map(|from| ends(inner, text, from, fold)).collect();
                if times >= *least {
                    all.extend(&at);
                }
            }
            all
        }
    }
}

fn spell_char(c: char, spelling: u8, out: &mut String) {
    let code = c as u32;
    match spelling {
        0 if c != '\\' => out.push_str(&format!("\\Q{c}\\E")),
        1 => out.push_str(&format!("\\x{{{code:X}}}")),
        2 if code < 0x100 => out.push_str(&format!("\\x{code:02x}")),
        3 if (0o100..0o1000).contains(&code) => out.push_str(&format!("\\{code:o}")),
        4 if c == '{' => out.push('{'), // no count follows
        _ if c.is_ascii_punctuation() => out.extend(['\\', c]),
        _ => out.push(c),
    }
}

fn spell_item(item: &Item, out: &mut String) {
    let mut inside = |c: char| {
        if matches!(c, ']' | '\\' | '^' | '-') {
            out.push('\\');
        }
        out.push(c); // `[`, `&` and `~` as they are: they may come twice
    };
    match item {
        Item::Char(c) => inside(*c),
        Item::Range(first, last) => {
            inside(*first);
            out.push('-');
            let mut last_out = String::new();
            spell_item(&Item::Char(*last), &mut last_out);
            out.push_str(&last_out);
        }
        Item::Perl(kind) => out.extend(['\\', *kind]),
        Item::Posix(name, negated) => {
            out.push_str(&format!("[:{}{name}:]", if *negated { "^" } else { "" }));
        }
    }
}

fn spell(node: &Node, out: &mut String) {
    match node {
        Node::Char(c, spelling) => spell_char(*c, *spelling, out),
        Node::Any => out.push('.'),
        Node::Class(items, negated) => {
            out.push_str(if *negated { "[^" } else { "[" });
            items.iter().for_each(|item| spell_item(item, out));
            out.push(']');
        }
        Node::Perl(kind) => out.extend(['\\', *kind]),
        Node::Start => out.push('^'),
        Node::End => out.push('$'),
        Node::WordBoundary(wanted) => out.push_str(if *wanted { "\\b" } else { "\\B" }),
        Node::Sequence(parts) => parts.iter().for_each(|part| spell(part, out)),
        Node::Either(parts) => {
            out.push_str("(?:");
            for (i, part) in parts.iter().enumerate() {
                out.push_str(if i > 0 { "|" } else { "" });
                spell(part, out);
            }
            out.push(')');
        }
        Node::Group(inner, spelling) => {
            out.push_str(["(", "(?:", "(?P<9x>", "(?<n_1>"][usize::from(*spelling % 4)]);
            spell(inner, out);
            out.push(')');
        }
        Node::Folded(inner) => {
            out.push_str("(?i:");
            spell(inner, out);
            out.push(')');
        }
        Node::Repeat(inner, least, most, lazy) => {
            out.push_str("(?:");
            spell(inner, out);
            out.push(')');
            match (least, most) {
                (0, None) => out.push('*'),
                (1, None) => out.push('+'),
                (0, Some(1)) => out.push('?'),
                (least, None) => out.push_str(&format!("{{{least},}}")),
                (least, Some(most)) => out.push_str(&format!("{{{least},{most}}}")),
            }
            out.push_str(if *lazy { "?" } else { "" });
        }
    }
}

/// A text that matches, if the choices are lucky: no look around, least repetitions.
fn sample(node: &Node, choices: &mut impl Iterator<Item = usize>, out: &mut String) {
    match node {
        Node::Char(c, _) => out.push(*c),
        Node::Any | Node::Perl(_) | Node::Class(..) => {
            let c = ALPHABET[choices.next().unwrap_or(0) % ALPHABET.len()];
            let fits = |c: char| !ends(node, &[c], 0, false).is_empty();
            out.extend(std::iter::once(c).chain(ALPHABET).find(|c| fits(*c)));
        }
        Node::Start | Node::End | Node::WordBoundary(_) => {}
        Node::Sequence(parts) => parts.iter().for_each(|part| sample(part, choices, out)),
        Node::Either(parts) => sample(&parts[choices.next().unwrap_or(0) % parts.len()], choices, out),
        Node::Group(inner, _) | Node::Folded(inner) => sample(inner, choices, out),
        Node::Repeat(inner, least, most, _) => {
            let more = choices.next().unwrap_or(0) % (most.map_or(2, |most| most - least) + 1);
            (0..least + more).for_each(|_| sample(inner, choices, out));
        }
    }
}

fn letter() -> impl Strategy<Value = char> {
    prop::sample::select(ALPHABET.to_vec())
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        4 => letter().prop_map(Item::Char),
        2 => (letter(), letter()).prop_map(|(a, b)| Item::Range(a.min(b), a.max(b))),
        1 => prop::sample::select(vec!['d', 'w', 's', 'D', 'W', 'S']).prop_map(Item::Perl),
        1 => (prop::sample::select(vec!["alpha", "space", "punct"]), any::<bool>())
            .prop_map(|(name, negated)| Item::Posix(name, negated)),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        8 => (letter(), 0..8_u8).prop_map(|(c, spelling)| Node::Char(c, spelling)),
        1 => Just(Node::Any),
        3 => (prop::collection::vec(item(), 1..4), any::<bool>()).prop_map(|(items, not)| Node::Class(items, not)),
        2 => prop::sample::select(vec!['d', 'w', 's', 'D', 'W', 'S']).prop_map(Node::Perl),
        1 => prop_oneof![Just(Node::Start), Just(Node::End)],
        1 => any::<bool>().prop_map(Node::WordBoundary),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..4).prop_map(Node::Sequence),
            2 => prop::collection::vec(inner, 1..4).prop_map(Node::Either),
            1 => (boxed.clone(), any::<u8>()).prop_map(|(inner, spelling)| Node::Group(inner, spelling)),
            1 => boxed.clone().prop_map(Node::Folded),
            2 => (boxed, 0..3_usize, prop::option::of(0..3_usize), any::<bool>())
                .prop_map(|(inner, least, more, lazy)| Node::Repeat(inner, least, more.map(|m| least + m), lazy)),
        ]
    })
}

fn matches_whole(node: &Node, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    ends(node, &text, 0, false).contains(&text.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_expression_matches_what_it_matches_in_go(
        node in node(),
        choices in prop::collection::vec(0..100_usize, 8),
        other in prop::collection::vec(letter(), 0..5),
    ) {
        let mut pattern = String::new();
        spell(&node, &mut pattern);
        let regex = AnchoredRegex::new(&pattern);
        let regex = regex.unwrap_or_else(|error| panic!("Go accepts {pattern:?}: {error}"));
        let mut likely = String::new();
        sample(&node, &mut choices.iter().copied(), &mut likely);
        let other: String = other.into_iter().collect();
        let longer = format!("{likely}{other}");
        let swapped: String = likely.chars().map(|c| variants(c)[choices[0] % variants(c).len()]).collect();
        for text in [likely.as_str(), &other, &longer, &swapped, ""] {
            prop_assert_eq!(regex.is_match(text), matches_whole(&node, text), "{:?} on {:?}", pattern, text);
        }
    }

    #[test]
    fn no_text_is_too_strange_to_be_translated(pattern in "[-a-z0-9\\[\\]\\\\(){}?*+|^$.,:<>!&~PQEpLxs \\n]{0,24}") {
        if let Ok(regex) = AnchoredRegex::new(&pattern) {
            let _no_panic = regex.is_match("a-b");
        }
    }
}

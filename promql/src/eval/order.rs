//! Orders: of values with NaN last, of texts with numbers in them.

use std::cmp::Ordering;

/// Ascending or descending, NaN last either way.
pub(crate) fn order(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
    }
}

/// The text before the first character of the other class, and the rest.
fn chunk(text: &str) -> (&str, bool, &str) {
    let digits = text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    (&text[..end], digits, &text[end..])
}

/// The order of texts in which runs of digits compare as numbers (`instance2` before `instance10`).
pub(crate) fn natural_order(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() && !b.is_empty() {
        let ((x, x_digits, a_rest), (y, y_digits, b_rest)) = (chunk(a), chunk(b));
        let order = if x_digits && y_digits {
            let (p, q) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            p.len().cmp(&q.len()).then_with(|| p.cmp(q)).then_with(|| x.len().cmp(&y.len()))
        } else {
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_compare_as_numbers() {
        assert_eq!(natural_order("node2", "node10"), Ordering::Less);
        assert_eq!(natural_order("a1b2", "a1b2"), Ordering::Equal);
        assert_eq!(natural_order("a", "a1"), Ordering::Less);
    }
}

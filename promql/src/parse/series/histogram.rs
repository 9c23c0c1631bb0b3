//! Histograms in series descriptions: `{{schema:1 sum:3 count:4 buckets:[1 2] offset:-1}}`.

use crate::ast::PosRange;
use crate::parse::lex::token::{Descriptor, Kind};
use crate::parse::parser::{Parsed, Parser};
use model::{FloatHistogram, Span};
use std::sync::Arc;

/// What error texts expect after a property.
const KEY: &str = "histogram description key, e.g. buckets:[5 10 7]";

/// A histogram that is being read.
#[derive(Default)]
struct Draft {
    histogram: FloatHistogram,
    positive_offset: i32,
    negative_offset: i32,
    seen: Vec<Descriptor>,
}

impl Parser<'_> {
    /// A histogram in double braces, and whether it has a counter reset hint.
    pub(super) fn histogram(&mut self) -> Parsed<(FloatHistogram, bool)> {
        self.expect(Kind::OpenHistogram)?;
        let mut draft = Draft::default();
        if self.take_if(Kind::Space).is_some() {
            self.expect(Kind::CloseHistogram)?;
            return Ok((draft.histogram, false));
        }
        if self.peek() != Kind::CloseHistogram {
            self.property(&mut draft)?;
        }
        self.properties(&mut draft).map_err(|stop| self.unexpected(stop, "histogram description", KEY))?;
        let hint_is_set = draft.seen.contains(&Descriptor::CounterResetHint);
        Ok((draft.finish(), hint_is_set))
    }

    /// Further properties, up to the closing braces.
    fn properties(&mut self, draft: &mut Draft) -> Parsed<()> {
        loop {
            if self.take_if(Kind::CloseHistogram).is_some() {
                return Ok(());
            }
            self.expect(Kind::Space)?;
            if self.take_if(Kind::CloseHistogram).is_some() {
                return Ok(());
            }
            self.property(draft)?;
        }
    }

    fn property(&mut self, draft: &mut Draft) -> Parsed<()> {
        let Kind::Descriptor(key) = self.peek() else { return self.fail() };
        let token = self.take();
        self.expect(Kind::Colon)?;
        let mut ignored = Draft::default();
        let is_new = !draft.seen.contains(&key);
        let target = if is_new { &mut *draft } else { &mut ignored };
        let h = &mut target.histogram;
        match key {
            Descriptor::Sum => h.sum = self.signed_or_unsigned()?,
            Descriptor::Count => h.count = self.signed_or_unsigned()?,
            Descriptor::ZeroBucket => h.zero_count = self.signed_or_unsigned()?,
            Descriptor::ZeroBucketWidth => h.zero_threshold = self.unsigned_number()?,
            Descriptor::Schema => h.schema = self.integer()?,
            Descriptor::Offset => target.positive_offset = self.integer()?,
            Descriptor::NegativeOffset => target.negative_offset = self.integer()?,
            Descriptor::Buckets => h.positive_buckets = self.bucket_set()?,
            Descriptor::NegativeBuckets => h.negative_buckets = self.bucket_set()?,
            Descriptor::CustomValues => h.custom_values = Arc::from(self.bucket_set()?),
            Descriptor::CounterResetHint => {
                let Kind::ResetHint(hint) = self.peek() else { return self.fail() };
                self.take();
                h.counter_reset_hint = hint;
            }
        }
        if is_new {
            draft.seen.push(key);
        } else {
            let name = self.text_of(&token).to_ascii_lowercase();
            self.error(PosRange::default(), format!("duplicate key \"{name}\" in histogram"));
        }
        Ok(())
    }

    /// Digits, perhaps after a minus.
    fn integer(&mut self) -> Parsed<i32> {
        let negative = self.take_if(Kind::Sub).is_some();
        let value = self.unsigned()?;
        // Go cuts to 32 bits; nothing real is that large.
        let value = i32::try_from(value).unwrap_or(i32::MAX);
        Ok(if negative { -value } else { value })
    }

    /// `[1 2 3]`
    fn bucket_set(&mut self) -> Parsed<Vec<f64>> {
        self.expect(Kind::LeftBracket)?;
        let mut counts = vec![self.signed_or_unsigned()?];
        loop {
            if self.take_if(Kind::RightBracket).is_some() {
                return Ok(counts);
            }
            self.expect(Kind::Space)?;
            if self.take_if(Kind::RightBracket).is_some() {
                return Ok(counts);
            }
            counts.push(self.signed_or_unsigned()?);
        }
    }
}

impl Draft {
    fn finish(self) -> FloatHistogram {
        let mut h = self.histogram;
        h.positive_spans = spans(self.positive_offset, h.positive_buckets.len());
        h.negative_spans = spans(self.negative_offset, h.negative_buckets.len());
        h
    }
}

fn spans(offset: i32, buckets: usize) -> Vec<Span> {
    let length = u32::try_from(buckets).unwrap_or(u32::MAX);
    if length == 0 { Vec::new() } else { vec![Span { offset, length }] }
}

//! The envelope of a successful answer, with its warnings, infos and view.

use crate::{
    json,
    output::{Encoding, Output},
};
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use model::{Budget, ViewIndexes};
use std::sync::Arc;

/// Names the view an answer was computed on, and asks for one at least as new.
pub(crate) const VIEW_HEADER: HeaderName = HeaderName::from_static("x-vestal-view");

/// Annotations of each kind that are rendered.
const ANNOTATIONS_MAX: usize = 10;

/// An answer on its way: `data` is appended to [`Answer::data`], then [`Answer::finish`].
pub(crate) struct Answer {
    out: Output,
    warnings: Vec<String>,
    infos: Vec<String>,
    view: Option<HeaderValue>,
}

impl Answer {
    pub(crate) fn new(encoding: Encoding) -> Answer {
        let mut out = Output::new(encoding);
        out.buf().extend_from_slice(br#"{"status":"success","data":"#);
        Answer { out, warnings: Vec::new(), infos: Vec::new(), view: None }
    }

    /// Where `data` goes.
    pub(crate) fn data(&mut self) -> &mut Vec<u8> {
        self.out.buf()
    }

    /// Between parts of a large answer; yields bytes handed on.
    pub(crate) fn roll(&mut self) -> usize {
        self.out.roll()
    }

    /// Keeps a budget for as long as the answer is in memory.
    pub(crate) fn hold(&mut self, budget: Arc<Budget>) {
        self.out.hold(budget);
    }

    pub(crate) fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        add(&mut self.warnings, warnings);
    }

    pub(crate) fn inform(&mut self, infos: impl IntoIterator<Item = String>) {
        add(&mut self.infos, infos);
    }

    pub(crate) fn view(&mut self, indexes: &ViewIndexes) {
        self.view = HeaderValue::from_str(&format_view(indexes)).ok();
    }

    pub(crate) fn finish(mut self) -> Response {
        annotations(self.out.buf(), "warnings", "warning", &self.warnings);
        annotations(self.out.buf(), "infos", "info", &self.infos);
        self.out.buf().push(b'}');
        let mut response = self.out.into_response(StatusCode::OK, "application/json");
        if let Some(view) = self.view {
            response.headers_mut().insert(VIEW_HEADER, view);
        }
        response
    }
}

fn add(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for text in more {
        if !list.contains(&text) {
            list.push(text);
        }
    }
}

fn annotations(out: &mut Vec<u8>, name: &str, kind: &str, list: &[String]) {
    if list.is_empty() {
        return;
    }
    let omitted = list.len().saturating_sub(ANNOTATIONS_MAX);
    let more = (omitted > 0).then(|| format!("{omitted} more {kind} annotations omitted"));
    out.push(b',');
    json::text(out, name);
    out.push(b':');
    json::texts(out, list.iter().take(ANNOTATIONS_MAX).chain(&more).map(String::as_str));
}

/// `1:100,2:57`: shard and applied index.
pub(crate) fn format_view(indexes: &ViewIndexes) -> String {
    let parts: Vec<String> = indexes.0.iter().map(|(shard, index)| format!("{shard}:{index}")).collect();
    parts.join(",")
}

/// Reads what [`format_view`] writes.
pub(crate) fn parse_view(text: &str) -> Option<ViewIndexes> {
    let mut indexes = ViewIndexes::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (shard, index) = part.split_once(':')?;
        indexes.0.insert(model::ShardId(shard.parse().ok()?), model::LogIndex(index.parse().ok()?));
    }
    Some(indexes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_reads_back_as_it_was_written() {
        let view = parse_view("1:100,2:57").unwrap();
        assert_eq!(format_view(&view), "1:100,2:57");
        assert_eq!(parse_view(""), Some(ViewIndexes::default()));
        assert_eq!(parse_view("1"), None);
        assert_eq!(parse_view("x:1"), None);
    }

    #[test]
    fn ten_annotations_are_said_and_the_rest_counted() {
        let list: Vec<String> = (0..12).map(|i| format!("w{i}")).collect();
        let mut out = Vec::new();
        annotations(&mut out, "warnings", "warning", &list);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with(r#""w9","2 more warning annotations omitted"]"#), "{text}");
    }
}

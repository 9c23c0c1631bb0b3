//! What a large answer takes at the most, counted by the allocator: its text never exists twice, nor beside the whole
//! of its values.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code)]
#[path = "it/files.rs"]
mod files;
#[allow(dead_code)]
#[path = "it/memory.rs"]
mod memory;
#[allow(dead_code)]
#[path = "it/world.rs"]
mod world;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use memory::NOW;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};
use tower::ServiceExt;
use world::World;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator and only counts.
#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[tokio::test]
async fn the_text_of_an_answer_exists_once() {
    let series = (0..100).map(|i| (i.to_string(), [(NOW.0, 0.123_456_789_012_345 + f64::from(i))]));
    let world = series.fold(World::default(), |world, (i, samples)| world.and(&[("i", &i)], &samples));
    let asked = world.open();
    let (start, end) = (NOW.0 as f64 / 1000.0, NOW.0 as f64 / 1000.0 + 250.0);
    let path = format!("/api/v1/query_range?query=%7Bi!=%22%22%7D&start={start}&end={end}&step=0.025");
    let request = Request::get(&path).body(Body::empty()).unwrap();
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let response = asked.router.clone().oneshot(request).await.unwrap();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let text = response.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap();
    assert!(text > 30_000_000, "{text} bytes");
    assert!(peak < text + text / 4, "{peak} bytes at the most for {text} of text");
    let mut body = response.into_body();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame.unwrap().into_data().unwrap().len();
    }
    drop(body);
    assert_eq!(received, text);
    assert!(HELD.load(Ordering::Relaxed) < before + 1_000_000, "what was sent is freed");
}

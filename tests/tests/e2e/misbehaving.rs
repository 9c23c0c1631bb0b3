//! Targets that misbehave: their `lastError` says it, `up` is 0, and nobody else suffers.

use crate::load::{PATIENCE, options, slots};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread::{self, sleep},
    time::Duration,
};
use tests::{Cluster, Targets, my_turn, now_ms, wait_until};

/// Serves every connection with `answer`, which writes what it likes. Lives until the process ends.
pub(crate) fn target(
    answer: impl Fn(&mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address").to_string();
    let answer = std::sync::Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let _may_be_closed = answer(&mut &stream);
            });
        }
    });
    address
}

fn text(body: &'static str) -> String {
    target(move |out| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n")?;
        write!(out, "Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    })
}

#[test]
fn a_target_that_misbehaves_is_down_with_a_reason_and_the_others_are_scraped_in_time() {
    let _turn = my_turn();
    let broken = text("a{b=\"1\" 2\n");
    let huge = target(|out| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")?;
        loop {
            out.write_all(&b"# endless\n".repeat(1_000))?;
        }
    });
    let slow = target(|out| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n")?;
        loop {
            out.write_all(b"#")?;
            out.flush()?;
            sleep(Duration::from_millis(200));
        }
    });
    let circle =
        target(|out| write!(out, "HTTP/1.1 302 Found\r\nLocation: /metrics\r\nContent-Length: 0\r\n\r\n"));
    let many = text("m 1\nn 1\no 1\n");
    let good = Targets::start(4);
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\nscrape_configs:\n\
         - {{job_name: good, static_configs: [{{targets: {}}}]}}\n\
         - {{job_name: bad, body_size_limit: 1MB, sample_limit: 2, static_configs: [{{targets: ['{broken}', '{huge}', '{slow}', '{circle}', '{many}']}}]}}\n",
        good.yaml_list()
    );
    let cluster = Cluster::start(options(config, &[]));
    let began = now_ms();
    for address in [&broken, &huge, &slow, &circle, &many] {
        wait_until(&format!("{address} is down with a reason"), PATIENCE, || {
            let answer = cluster.client(1).get("/api/v1/targets", &[])?;
            let json = answer.json();
            let active = json["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            let mine = active.iter().find(|t| t["labels"]["instance"] == address.as_str());
            let said = mine.is_some_and(|t| t["health"] == "down" && t["lastError"] != "");
            if said { Ok(()) } else { Err(format!("{mine:?}")) }
        });
        // The page of targets tells of the scrape as soon as it ended; its row is committed a batch later.
        let up = format!("up{{instance=\"{address}\"}}");
        wait_until(&format!("{up} is 0"), PATIENCE, || {
            let answer = cluster.client(2).query(&up, None)?;
            let zero = answer.first().is_some_and(|series| series["value"][1] == "0");
            if zero { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }
    wait_until("the good ones have been scraped for a moment", PATIENCE, || {
        let least = (0..good.len()).map(|i| good.scrapes(i).len()).min().unwrap_or(0);
        if least > 10 { Ok(()) } else { Err(least.to_string()) }
    });
    for address in good.addresses() {
        slots(&cluster.client(3), address, began, now_ms() - 3_000);
    }
}

/// Its labels alone are more than an entry of the log may hold, and a scrape is one row. It never came in: there was not
/// even an `up`.
#[test]
fn a_target_whose_labels_are_more_than_an_entry_holds_comes_in() {
    const SERIES: usize = 70_000;
    let _turn = my_turn();
    let filler = "x".repeat(230);
    let body: String = (0..SERIES).map(|i| format!("m{{i=\"{i}\",filler=\"{filler}\"}} {i}\n")).collect();
    let large = target(move |out| {
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n")?;
        write!(out, "Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    });
    let good = Targets::start(4);
    let config = format!(
        "global: {{scrape_interval: 5s}}\nscrape_configs:\n\
         - {{job_name: good, static_configs: [{{targets: {}}}]}}\n\
         - {{job_name: large, static_configs: [{{targets: ['{large}']}}]}}\n",
        good.yaml_list()
    );
    let cluster = Cluster::start(options(config, &[]));
    let query = format!("count(m{{instance=\"{large}\"}}) * on () up{{instance=\"{large}\"}}");
    let wanted = SERIES.to_string();
    wait_until("all series are there", 3 * PATIENCE, || {
        let answer = cluster.client(2).query(&query, None)?;
        let all = answer.first().is_some_and(|series| series["value"][1].as_str() == Some(&*wanted));
        if all { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    for address in good.addresses() {
        wait_until("the others are scraped, too", PATIENCE, || {
            let answer = cluster.client(1).query(&format!("up{{instance=\"{address}\"}}"), None)?;
            let up = answer.first().is_some_and(|series| series["value"][1] == "1");
            if up { Ok(()) } else { Err(format!("{answer:?}")) }
        });
    }
}

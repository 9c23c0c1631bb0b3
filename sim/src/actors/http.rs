//! As much HTTP as actors need: one request per connection, bodies of known length or until the end.

use crate::net::SimNet;
use futures::{AsyncReadExt, AsyncWriteExt};
use model::{ClientIo, Net};
use std::{io, time::Duration};
use tokio::time::timeout;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks `address` and waits at most `patience`.
///
/// # Errors
/// If there is no whole answer in time.
pub async fn ask(
    net: &SimNet,
    address: &str,
    head: &str,
    body: &[u8],
    patience: Duration,
) -> io::Result<Answer> {
    let exchange = async {
        let mut io = net.connect(address).await?;
        // 1.0: the answer ends with the connection.
        let head = format!("{head}Host: {address}\r\nContent-Length: {}\r\n\r\n", body.len());
        io.write_all(head.as_bytes()).await?;
        io.write_all(body).await?;
        let mut answer = Vec::new();
        let mut piece = vec![0; 16 << 10];
        loop {
            match io.read(&mut piece).await? {
                0 => break,
                count => answer.extend_from_slice(&piece[..count]),
            }
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        parse(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    timeout(patience, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = answer[end + 4..].to_vec();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    // A connection that broke in the middle is no answer.
    (length.is_none_or(|length| length == body.len())).then_some(Answer { status, body })
}

/// Reads the head of the next request; `None` at the end of the connection.
pub(super) async fn next_request(io: &mut Box<dyn ClientIo>) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if io.read(&mut byte).await? == 0 || head.len() > 16 << 10 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

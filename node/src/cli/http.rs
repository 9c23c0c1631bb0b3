//! A small HTTP client for the subcommands that ask a running node.

use crate::outside::SystemNet;
use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use model::Net;
use std::time::Duration;
use tokio_util::compat::FuturesAsyncReadCompatExt;

/// Patience with a node.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The largest answer taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How much of an answer that is not the API's is looked at for a reason.
const REASON_BYTES_MAX: usize = 1024;

/// Sends one request and returns status and body.
pub(crate) fn request(
    method: Method,
    url: &str,
    content_type: &str,
    body: String,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, send(method, url, content_type, body))
            .await
            .with_context(|| format!("{url}: no answer within {} s", TIMEOUT.as_secs()))?
            .with_context(|| url.to_owned())
    })
}

async fn send(
    method: Method,
    url: &str,
    content_type: &str,
    body: String,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let uri: Uri = url.parse().context("not a URL")?;
    anyhow::ensure!(uri.scheme_str() == Some("http"), "only http:// URLs are supported");
    let authority = uri.authority().context("URL without a host")?.clone();
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let stream = SystemNet.connect(&address).await.context("connect")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream.compat())).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, content_type)
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?;
    Ok((status, body.to_bytes()))
}

/// The `data` of an API answer, or its `error`.
pub(crate) fn api_data(method: Method, url: &str, body: String) -> anyhow::Result<serde_json::Value> {
    let (status, answer) = request(method, url, "application/x-www-form-urlencoded", body)?;
    data_of(url, status, &answer)
}

fn data_of(url: &str, status: StatusCode, body: &[u8]) -> anyhow::Result<serde_json::Value> {
    let answer: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    match answer {
        Some(mut answer) if answer["status"] == "success" => Ok(answer["data"].take()),
        None if status.is_success() => anyhow::bail!("{url}: {status}, and not an API answer"),
        _ => anyhow::bail!("{url}: {}", reason(status, body)),
    }
}

/// Why a node did not do what it was asked: its `error`, or the text that it answers instead, as while it starts.
pub(crate) fn reason(status: StatusCode, body: &[u8]) -> String {
    let answer: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    if let Some(error) = answer.as_ref().and_then(|answer| answer["error"].as_str()) {
        return error.to_owned();
    }
    // Who answers may be anybody, a proxy with a page of its own included.
    let text = String::from_utf8_lossy(&body[..body.len().min(REASON_BYTES_MAX)]);
    match text.trim_start().lines().next().map(str::trim_end) {
        Some(line) if answer.is_none() && !line.is_empty() && !line.starts_with('<') => {
            let line = line.strip_prefix("Service Unavailable: ").unwrap_or(line);
            format!("{status}: {line}")
        }
        _ => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: StatusCode, body: &str) -> String {
        data_of("http://a/x", status, body.as_bytes()).expect_err("no data").to_string()
    }

    #[test]
    fn an_answer_without_data_is_told_by_the_reason_that_its_body_gives() {
        let starting = "Service Unavailable: this node is starting, or is not yet a member of its cluster\n";
        assert_eq!(
            refused(StatusCode::SERVICE_UNAVAILABLE, starting),
            "http://a/x: 503 Service Unavailable: this node is starting, or is not yet a member of its cluster"
        );
        let error = r#"{"status":"error","errorType":"bad_data","error":"invalid limit"}"#;
        assert_eq!(refused(StatusCode::BAD_REQUEST, error), "http://a/x: invalid limit");
        assert_eq!(refused(StatusCode::BAD_GATEWAY, "<html>no</html>"), "http://a/x: 502 Bad Gateway");
        assert_eq!(refused(StatusCode::OK, "hello"), "http://a/x: 200 OK, and not an API answer");
        let good = data_of("http://a/x", StatusCode::OK, br#"{"status":"success","data":1}"#);
        assert_eq!(good.expect("data"), 1);
    }
}

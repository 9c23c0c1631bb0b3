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
    let mut answer: serde_json::Value =
        serde_json::from_slice(&answer).with_context(|| format!("{url}: {status}, and not an API answer"))?;
    match answer["status"].as_str() {
        Some("success") => Ok(answer["data"].take()),
        _ => anyhow::bail!("{}", answer["error"].as_str().unwrap_or("the node gave no reason")),
    }
}

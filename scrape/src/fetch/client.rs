//! The client of one target. Keeps its connection between scrapes.

use super::body::BodySink;
use super::io::PortStream;
use super::room::{BodyRoom, Held};
use super::secrets::{SecretFiles, Secrets};
use super::{ScrapeError, tls};
use crate::config::{Scheme, ScrapeConfig};
use crate::exposition::accept_header;
use crate::target::{Target, TargetUrl};
use base64::Engine;
use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use model::{Clock, Fs, Net, Spawner};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};

/// How often a scrape is redirected at most; as Go.
const REDIRECTS_MAX: usize = 10;

/// Packed bytes that are unpacked before room is asked for, at most: they may become a thousand times as many.
const PACKED_PIECE_BYTES: usize = 256;

/// The outside, as a client needs it.
#[derive(Clone, Debug)]
pub(crate) struct ClientPorts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) net: Arc<dyn Net>,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) spawner: Arc<dyn Spawner>,
    pub(crate) secrets: Arc<SecretFiles>,
    pub(crate) bodies: Arc<BodyRoom>,
}

/// What a target answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
    /// The body's part of the node's room for bodies.
    pub(crate) _held: Held,
}

type Sender = SendRequest<Empty<Bytes>>;

/// A connection that may be used again.
#[derive(Debug)]
struct Connection {
    scheme: Scheme,
    authority: String,
    sender: Sender,
}

/// Fetches one target.
#[derive(Debug)]
pub(crate) struct Client {
    target: Arc<Target>,
    ports: ClientPorts,
    body_bytes_max: u64,
    kept: Option<Connection>,
    accept: HeaderValue,
    timeout_seconds: HeaderValue,
    /// Length of the last body, which the next one will have, too.
    length: usize,
    /// The file of a secret whose contents are waited for.
    reading: Mutex<Option<String>>,
    /// Whether room for the body is waited for.
    waits_for_room: bool,
}

impl Client {
    pub(crate) fn new(target: Arc<Target>, ports: ClientPorts, body_bytes_max: u64) -> Client {
        let config = &target.config;
        let limit = config.limits.body_size.0;
        let accept = accept_header(&config.scrape_protocols, config.name_escaping);
        let seconds = target.timeout.0 as f64 / 1000.0;
        Client {
            body_bytes_max: if limit == 0 { body_bytes_max } else { limit.min(body_bytes_max) },
            accept: HeaderValue::try_from(accept).expect("made of letters and signs"),
            timeout_seconds: HeaderValue::try_from(seconds.to_string()).expect("digits"),
            target,
            ports,
            kept: None,
            length: 0,
            reading: Mutex::default(),
            waits_for_room: false,
        }
    }

    /// Why [`Client::get`] was not done in time, once it was given up.
    pub(crate) fn late(&self) -> ScrapeError {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner).take();
        match reading {
            Some(path) => {
                let what = "its read has not ended; is it on a file system that hangs?".to_owned();
                ScrapeError::Secret { path, what }
            }
            None if self.waits_for_room => {
                ScrapeError::NoRoom { url: self.target.url.to_string(), bytes: self.ports.bodies.bytes() }
            }
            None => ScrapeError::Deadline { url: self.target.url.to_string() },
        }
    }

    /// Fetches the target. Dropping the future breaks the connection off.
    ///
    /// # Errors
    /// If there is no good answer. Time-outs are the caller's.
    pub(crate) async fn get(&mut self) -> Result<Reply, ScrapeError> {
        self.waits_for_room = false;
        // Files of TLS are read when a connection is made; those of credentials, at each scrape.
        let secrets = self.secrets(Scheme::Http).await;
        let mut url = self.target.url.clone();
        let mut seen = vec![url.clone()];
        loop {
            let (response, sender) = self.ask(&url, &secrets).await?;
            let status = response.status();
            let redirect = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let refuse = |what: &str| ScrapeError::Redirect { url: url.to_string(), what: what.to_owned() };
            match location.filter(|_| redirect && self.target.config.follow_redirects) {
                Some(location) => {
                    let next =
                        url.join(location).ok_or_else(|| refuse("redirected to what is no http URL"))?;
                    if seen.contains(&next) {
                        return Err(refuse("redirected in a circle"));
                    }
                    if seen.len() > REDIRECTS_MAX {
                        return Err(refuse("stopped after 10 redirects"));
                    }
                    seen.push(next.clone());
                    url = next;
                }
                None if status != StatusCode::OK => {
                    let reason = status.canonical_reason().unwrap_or("");
                    return Err(ScrapeError::Status(
                        format!("{} {reason}", status.as_u16()).trim_end().to_owned(),
                    ));
                }
                None => return self.receive(&url, response, sender).await,
            }
        }
    }

    async fn secrets(&self, scheme: Scheme) -> Secrets {
        let ClientPorts { fs, spawner, secrets, .. } = &self.ports;
        Secrets::read(&self.target.config, scheme, (fs, &**spawner), secrets, &self.reading).await
    }

    /// Sends the request, over the kept connection if it still lives.
    async fn ask(
        &mut self,
        url: &TargetUrl,
        secrets: &Secrets,
    ) -> Result<(Response<Incoming>, Sender), ScrapeError> {
        let broken = |what: String| ScrapeError::Connection { url: url.to_string(), what };
        let kept = self.kept.take().filter(|c| c.scheme == url.scheme && c.authority == url.authority);
        if let Some(Connection { mut sender, .. }) = kept {
            // A kept connection that breaks before the answer was closed by the peer meanwhile: try a new one.
            if sender.ready().await.is_ok()
                && let Ok(response) = sender.send_request(self.request(url, secrets)?).await
            {
                return Ok((response, sender));
            }
        }
        let request = self.request(url, secrets)?;
        let mut sender = self.connect(url).await?;
        let response = sender.send_request(request).await.map_err(|error| broken(describe(&error)))?;
        Ok((response, sender))
    }

    async fn connect(&self, url: &TargetUrl) -> Result<Sender, ScrapeError> {
        let broken = |what: String| ScrapeError::Connection { url: url.to_string(), what };
        let address = url.host_and_port();
        let stream = self.ports.net.connect(&address).await;
        let stream = PortStream(stream.map_err(|error| broken(format!("dial tcp {address}: {error}")))?);
        match url.scheme {
            Scheme::Http => self.handshake(stream).await.map_err(broken),
            Scheme::Https => {
                let tls = &self.target.config.tls;
                let config = tls::client_config(tls, &self.secrets(url.scheme).await, &self.ports.clock)?;
                let name = tls::server_name(tls, url.host())?;
                let connecting = tokio_rustls::TlsConnector::from(config).connect(name, stream);
                let stream = connecting.await.map_err(|error| broken(format!("tls: {error}")))?;
                self.handshake(stream).await.map_err(broken)
            }
        }
    }

    async fn handshake<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        stream: S,
    ) -> Result<Sender, String> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let drive = async move {
            // Its errors come out where the answer is awaited.
            let _ = connection.await;
        };
        self.ports.spawner.spawn("scrape connection", Box::pin(drive));
        Ok(sender)
    }

    fn request(&self, url: &TargetUrl, secrets: &Secrets) -> Result<Request<Empty<Bytes>>, ScrapeError> {
        let invalid = |what: String| ScrapeError::Url { url: url.to_string(), what };
        let mut request = Request::builder()
            .uri(&url.path_and_query)
            .body(Empty::new())
            .map_err(|error| invalid(error.to_string()))?;
        let config = &self.target.config;
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(&url.authority).map_err(|error| invalid(error.to_string()))?;
        headers.insert(HOST, host);
        headers.insert(ACCEPT, self.accept.clone());
        let encoding = if config.enable_compression { "gzip" } else { "identity" };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Vestal/", env!("CARGO_PKG_VERSION"))));
        headers.insert("x-prometheus-scrape-timeout-seconds", self.timeout_seconds.clone());
        // What proves who we are is for the target alone, not for whom it redirects us to.
        if url.scheme == self.target.url.scheme && url.authority == self.target.url.authority {
            credentials(headers, config, secrets)?;
        }
        Ok(request)
    }

    async fn receive(
        &mut self,
        url: &TargetUrl,
        response: Response<Incoming>,
        sender: Sender,
    ) -> Result<Reply, ScrapeError> {
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or("").trim().to_owned()
        };
        let content_type = header("content-type");
        let gzip = match header("content-encoding").to_ascii_lowercase().as_str() {
            "" | "identity" => false,
            "gzip" | "x-gzip" => true,
            other => return Err(ScrapeError::Encoding(other.to_owned())),
        };
        let mut held = Held::new(&self.ports.bodies);
        let guess = self.length.min(usize::try_from(self.body_bytes_max).unwrap_or(usize::MAX));
        self.make_room(&mut held, guess as u64).await;
        let mut sink = BodySink::new(gzip, self.body_bytes_max, guess);
        let piece_bytes = if gzip { PACKED_PIECE_BYTES } else { usize::MAX };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let broken = |error: hyper::Error| ScrapeError::Connection {
                url: url.to_string(),
                what: describe(&error),
            };
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                for piece in data.chunks(piece_bytes) {
                    sink.take(piece)?;
                    self.make_room(&mut held, sink.len()).await;
                }
            }
        }
        let body = sink.finish()?;
        self.length = body.len() + 1;
        self.kept = Some(Connection { scheme: url.scheme, authority: url.authority.clone(), sender });
        Ok(Reply { content_type, body, _held: held })
    }

    /// Waits until there is room for so many bytes.
    async fn make_room(&mut self, held: &mut Held, bytes: u64) {
        self.waits_for_room = true;
        held.grow(bytes).await;
        self.waits_for_room = false;
    }
}

fn credentials(headers: &mut HeaderMap, config: &ScrapeConfig, secrets: &Secrets) -> Result<(), ScrapeError> {
    let secret = |name: &str, text: String| {
        let value = HeaderValue::try_from(text).map_err(|_| ScrapeError::Header { name: name.to_owned() });
        value.map(|mut value| {
            value.set_sensitive(true);
            value
        })
    };
    if let Some(auth) = &config.basic_auth {
        let pair = format!("{}:{}", secrets.text(&auth.username)?, secrets.text(&auth.password)?);
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        headers.insert(AUTHORIZATION, secret("authorization", format!("Basic {encoded}"))?);
    } else if let Some(auth) = &config.authorization {
        let text = format!("{} {}", auth.kind, secrets.text(&auth.credentials)?);
        headers.insert(AUTHORIZATION, secret("authorization", text)?);
    }
    for header in &config.http_headers {
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| ScrapeError::Header { name: header.name.clone() })?;
        for value in &header.values {
            headers.append(&name, secret(&header.name, secrets.text(value)?.to_owned())?);
        }
    }
    Ok(())
}

/// An error of hyper with what is behind it.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

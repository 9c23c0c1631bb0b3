//! A client of one node's HTTP API.

use serde_json::Value;
use std::time::Duration;
use ureq::Agent;

/// Patience with one request.
pub const DATA_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Asks one node.
#[derive(Clone, Debug)]
pub struct Client {
    /// `http://HOST:PORT`.
    pub base: String,
    agent: Agent,
}

impl Client {
    /// A client of the node at `base`, with `timeout` for each request.
    #[must_use]
    pub fn new(base: impl Into<String>, timeout: Duration) -> Client {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout));
        Client { base: base.into(), agent: config.build().into() }
    }

    /// GET; the error is that of the connection.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Answer, String> {
        let request = self.agent.get(format!("{}{path}", self.base)).query_pairs(parameters.iter().copied());
        read(request.call())
    }

    /// POST of a body.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, String> {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send(body))
    }

    /// An instant query; `data.result` of the answer.
    ///
    /// # Errors
    /// If there is no answer or it is an error.
    pub fn query(&self, query: &str, time: Option<f64>) -> Result<Vec<Value>, String> {
        let time = time.map(|t| format!("{t:.3}"));
        let mut parameters = vec![("query", query)];
        parameters.extend(time.as_deref().map(|t| ("time", t)));
        result(&self.get("/api/v1/query", &parameters)?)
    }

    /// A range query; `data.result` of the answer.
    ///
    /// # Errors
    /// If there is no answer or it is an error.
    pub fn query_range(&self, query: &str, start: f64, end: f64, step: f64) -> Result<Vec<Value>, String> {
        let (start, end, step) = (format!("{start:.3}"), format!("{end:.3}"), format!("{step:.3}"));
        let parameters = [("query", query), ("start", &start), ("end", &end), ("step", &step)];
        result(&self.get("/api/v1/query_range", &parameters)?)
    }

    /// `/api/v1/status/cluster`.
    ///
    /// # Errors
    /// If there is no answer or it is an error.
    pub fn status(&self) -> Result<Value, String> {
        let answer = self.get("/api/v1/status/cluster", &[])?;
        let mut json = answer.json();
        if json["status"] == "success" { Ok(json["data"].take()) } else { Err(format!("{answer:?}")) }
    }
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, String> {
    let mut response = response.map_err(|error| error.to_string())?;
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    Ok(Answer { status: response.status().as_u16(), body: body.map_err(|error| error.to_string())? })
}

fn result(answer: &Answer) -> Result<Vec<Value>, String> {
    let mut json = answer.json();
    let success = json["status"] == "success";
    match json["data"]["result"].take() {
        Value::Array(result) if success => Ok(result),
        _ => Err(format!("{} {}", answer.status, answer.body)),
    }
}

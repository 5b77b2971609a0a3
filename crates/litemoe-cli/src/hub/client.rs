//! HTTP client of the Hub: bounded redirects, bounded waiting, and the token for the Hub alone.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail};
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

use super::access;
use super::url::{self, origin, redirected};
use super::watchdog::Watchdog;

/// Redirects of one request; the Hub needs two.
const MAX_REDIRECTS: usize = 5;

/// HTTP client of the configured endpoint.
pub(super) struct Client {
    agent: Agent,
    endpoint: Uri,
    token: Option<String>,
    watchdog: Watchdog,
}

impl Client {
    /// Client with the environment's endpoint, token and patience.
    pub(super) fn new() -> anyhow::Result<Self> {
        let endpoint = access::endpoint();
        let endpoint = url::parse(&endpoint).context("the hub's address, from HF_ENDPOINT")?;
        let patience = access::patience()?;
        let config = Agent::config_builder()
            .user_agent(concat!("litemoe/", env!("CARGO_PKG_VERSION")))
            // Redirects are followed by `get`, which decides who receives the token.
            .max_redirects(0)
            .http_status_as_error(false)
            // The watchdog does not interrupt these two.
            .timeout_resolve(Some(patience / 2))
            .timeout_connect(Some(patience / 2))
            .build();
        let agent = Agent::new_with_config(config);
        let watchdog = Watchdog::of(agent.clone(), patience);
        Ok(Self { agent, endpoint, token: access::token()?, watchdog })
    }

    /// Sends a GET request for a path below the endpoint, from a byte on, and follows redirects. The watchdog runs
    /// until the answer is dropped.
    pub(super) fn get(&self, path: &str, from: u64) -> anyhow::Result<Answer<'_>> {
        let base = self.endpoint.to_string();
        let mut url = url::parse(&format!("{}{path}", base.trim_end_matches('/')))?;
        self.watchdog.restart();
        let running = Running(&self.watchdog);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&url, from)?;
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                if response.headers().contains_key(CONTENT_ENCODING) {
                    bail!("{} compresses what was asked for uncompressed", origin(&url));
                }
                return Ok(Answer { response, running });
            }
            let location = header(response.headers(), LOCATION.as_str());
            let location = location.with_context(|| {
                format!("{} redirects with status {status}, but to nowhere", origin(&url))
            })?;
            url = redirected(&url, location)?;
        }
        bail!("{} redirects more than {MAX_REDIRECTS} times", self.origin())
    }

    fn send(&self, url: &Uri, from: u64) -> anyhow::Result<Response<Body>> {
        let mut request = self.agent.get(url).header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == self.origin()) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let sent = request.call().map_err(anyhow::Error::new);
        sent.with_context(|| self.cannot_reach(url))
    }

    fn cannot_reach(&self, url: &Uri) -> String {
        match self.watchdog.expired() {
            true => format!("{} {}", origin(url), gives_up(self.watchdog.patience())),
            false => format!("cannot reach {}", origin(url)),
        }
    }

    /// Origin of the endpoint.
    pub(super) fn origin(&self) -> String {
        origin(&self.endpoint)
    }
}

/// Response to a request, whose time runs.
pub(super) struct Answer<'c> {
    response: Response<Body>,
    running: Running<'c>,
}

/// Stops the watchdog on drop.
struct Running<'c>(&'c Watchdog);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Answer<'_> {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// A header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(self.response.headers(), name)
    }

    /// Reads some bytes of the body. It does not restart the time limit.
    ///
    /// # Errors
    /// When the connection breaks, or the time limit passes.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> anyhow::Result<usize> {
        let read = self.response.body_mut().as_reader().read(bytes);
        match self.running.0.expired() {
            true => bail!("the hub {}", gives_up(self.running.0.patience())),
            false => Ok(read?),
        }
    }

    /// Restarts the time limit.
    pub(super) fn progress(&self) {
        self.running.0.restart();
    }

    /// Reads the whole body within one time limit.
    ///
    /// # Errors
    /// When it is longer than `max` bytes.
    pub(super) fn body(mut self, max: usize) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut block = vec![0; 1 << 16];
        loop {
            match self.read(&mut block)? {
                0 => return Ok(body),
                n => body.extend_from_slice(&block[..n]),
            }
            if body.len() > max {
                bail!("the answer is longer than {max} bytes");
            }
        }
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn gives_up(patience: Duration) -> String {
    format!("sends nothing, or next to nothing, for {} s", patience.as_secs())
}

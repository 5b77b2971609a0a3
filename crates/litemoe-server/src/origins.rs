use axum::http::HeaderValue;
use axum::http::uri::Authority;

use crate::ServerError;
use crate::hosts::is_host;

/// Allowed `Origin` headers: of pages that are not the server's own.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    /// In lower case, as browsers send them.
    allowed: Vec<String>,
    is_any: bool,
}

impl Origins {
    /// Reads the allowed origins: each a scheme and a host with an optional port; `*` is any, `null` that of files and
    /// sandboxed pages.
    pub(crate) fn parse(values: &[String]) -> Result<Self, ServerError> {
        let named = values.iter().filter(|value| *value != "*");
        let allowed: Result<Vec<_>, _> = named.map(|value| origin(value)).collect();
        Ok(Self { allowed: allowed?, is_any: values.iter().any(|value| value == "*") })
    }

    /// Whether none is allowed.
    pub(crate) fn is_empty(&self) -> bool {
        self.allowed.is_empty() && !self.is_any
    }

    pub(crate) fn allows(&self, origin: &HeaderValue) -> bool {
        let is_named =
            |allowed: &String| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes());
        self.is_any || self.allowed.iter().any(is_named)
    }
}

/// Whether a page's origin is the host that its request is for.
pub(crate) fn is_own(origin: &HeaderValue, host: Option<&Authority>) -> bool {
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some(("http" | "https", origin)), Some(host)) => {
            origin.eq_ignore_ascii_case(host.as_str())
        }
        _ => false,
    }
}

/// An origin as browsers send it: in lower case, without its scheme's default port.
fn origin(value: &str) -> Result<String, ServerError> {
    let invalid = || ServerError::AllowedOrigin { value: value.to_owned() };
    if value == "null" {
        return Ok(value.to_owned());
    }
    let lower = value.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://").ok_or_else(invalid)?;
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let authority: Authority = authority.parse().map_err(|_| invalid())?;
    if scheme.is_empty() || !scheme.chars().all(in_scheme) || !is_host(&authority) {
        return Err(invalid());
    }
    let host = authority.host();
    Ok(match (scheme, authority.port_u16()) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(allowed: &str, origin: &'static str) -> bool {
        Origins::parse(&[allowed.to_owned()]).unwrap().allows(&HeaderValue::from_static(origin))
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (allowed, origin) in [
            ("https://App.example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:8080", "http://app.example:8080"),
            ("http://[::1]:80", "http://[::1]"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("null", "null"),
            ("*", "https://any.example"),
        ] {
            assert!(allows(allowed, origin), "{allowed} {origin}");
        }
        for (allowed, origin) in [
            ("https://app.example", "http://app.example"),
            ("https://app.example", "https://app.example.evil.example"),
            ("https://app.example", "https://x.app.example"),
            ("https://app.example", "https://app.example:8443"),
            ("https://app.example", "null"),
        ] {
            assert!(!allows(allowed, origin), "{allowed} {origin}");
        }
    }

    #[test]
    fn the_own_origin_has_the_requests_host() {
        let host: Authority = "localhost:8080".parse().unwrap();
        let own = |origin| is_own(&HeaderValue::from_static(origin), Some(&host));
        assert!(own("http://localhost:8080") && own("https://LOCALHOST:8080"));
        assert!(!own("http://localhost") && !own("http://localhost:3000") && !own("null"));
        assert!(!own("file://localhost:8080") && !own("localhost:8080"));
        assert!(!is_own(&HeaderValue::from_static("http://localhost:8080"), None));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for value in [
            "",
            "app.example",
            "https://",
            "https://a/",
            "https://a/b",
            "://a",
            "https://u@a",
            "https://a:b",
        ] {
            let error = Origins::parse(&[value.to_owned()]).unwrap_err();
            assert!(
                matches!(error, ServerError::AllowedOrigin { value: named } if named == value),
                "{value}"
            );
        }
    }
}

//! Absolute URLs of the hub, and where a redirect may lead.

use anyhow::{Context, bail};
use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// Characters of a URL that an error shows.
const SHOWN: usize = 200;

/// Parses an absolute `http` or `https` URL without user information.
pub(super) fn parse(text: &str) -> anyhow::Result<Uri> {
    let shown: String = text.chars().take(SHOWN).collect();
    let url: Uri = text.parse().with_context(|| format!("{shown:?} is not a URL"))?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let is_http = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&url.scheme());
    // A port that is none would be read as the scheme's own.
    let is_whole = url.port_u16().is_some() || url.host() == Some(authority);
    if !is_http || authority.is_empty() || authority.contains('@') || !is_whole {
        bail!("{shown:?} is not of the form https://host");
    }
    Ok(url)
}

/// URL of a redirect: absolute, or a path on the same host.
///
/// # Errors
/// When it is anything else, or leads from `https` to `http`.
pub(super) fn redirected(from: &Uri, location: &str) -> anyhow::Result<Uri> {
    let is_path = location.starts_with('/') && !location.starts_with("//");
    let to = match is_path {
        true => parse(&format!("{}{location}", origin(from))),
        false => parse(location),
    };
    let to =
        to.with_context(|| format!("{} redirects to an address that is none", origin(from)))?;
    if from.scheme() == Some(&Scheme::HTTPS) && to.scheme() != Some(&Scheme::HTTPS) {
        bail!("{} redirects to {}, which is not encrypted", origin(from), origin(&to));
    }
    Ok(to)
}

/// Origin of a URL: scheme, host and port, in lower case and without the scheme's own port.
pub(super) fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let host = url.host().unwrap_or_default().to_ascii_lowercase();
    match (scheme, url.port_u16()) {
        ("https", Some(443)) | ("http", Some(80)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(from: &str, location: &str) -> Option<String> {
        let from = parse(from).expect(from);
        redirected(&from, location).ok().map(|url| url.to_string())
    }

    #[test]
    fn redirects_lead_to_urls_and_paths() {
        let from = "https://Hub.example:443/a/b?c";
        for (location, expected) in [
            ("/x?y=1", "https://hub.example/x?y=1"),
            ("https://cdn.example/x#part", "https://cdn.example/x"),
            ("https://cdn.example:8443/x", "https://cdn.example:8443/x"),
        ] {
            assert_eq!(to(from, location).as_deref(), Some(expected), "{location}");
        }
        assert_eq!(
            to("http://a.example/", "https://b.example/").as_deref(),
            Some("https://b.example/")
        );
    }

    #[test]
    fn redirects_to_anything_else_are_refused() {
        for location in [
            "",
            "x",
            "../x",
            "//other.example/x",
            "http://hub.example/x",
            "file:///etc/passwd",
            "ftp://hub.example/x",
            "https://",
            "https:///x",
            "https://user@hub.example/x",
            "https://hub.example:99999/x",
            "https://hub.example:/x",
            "https://hub .example/x",
            "/x y",
        ] {
            assert_eq!(to("https://hub.example/", location), None, "{location}");
        }
    }

    #[test]
    fn origins_are_compared_without_case_and_default_ports() {
        let same = |x: &str, y: &str| origin(&parse(x).expect(x)) == origin(&parse(y).expect(y));
        assert!(same("https://hub.example/a", "https://HUB.example:443/b"));
        assert!(same("http://hub.example", "http://hub.example:80"));
        assert!(!same("https://hub.example", "https://hub.example:8443"));
        assert!(!same("https://hub.example", "http://hub.example"));
        assert!(!same("https://hub.example", "https://hub.example.evil.example"));
    }
}

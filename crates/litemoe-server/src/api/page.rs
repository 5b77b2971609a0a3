use axum::http::header;
use axum::response::IntoResponse;

/// A page to try the models in a browser: all of it, with no files or connections but the server's interface.
const PAGE: &str = include_str!("page.html");

/// What the page may do: run its own script and style, by their hashes, and ask this server.
const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-pgdmdeD0Xooo08q02ZdAE1JsTPVfTm2H883XTMeYkrc='; \
    style-src 'sha256-CkT3hcumE93aoHKsU1epwnjxHl4xIgVqcWUZktM7pig='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`
pub(crate) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE)
}

//! The page in a browser.

use axum::body::Body;
use sha2::{Digest, Sha256};

use crate::client::{get, send, serving, text};
use crate::toy::Toy;

/// What is between two marks, of which the text has one pair.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let mut parts = text.split(begin);
    let (_, inside, none) = (parts.next(), parts.next().unwrap(), parts.next());
    assert!(none.is_none(), "{begin} twice");
    inside.split_once(end).unwrap().0
}

fn base64(bytes: &[u8]) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(*three.get(at).unwrap_or(&0)));
        let letter = |at: usize| match at <= three.len() {
            true => char::from(letters[(bits >> (18 - 6 * at)) as usize % 64]),
            false => '=',
        };
        (0..4).map(letter).collect::<String>()
    };
    bytes.chunks(3).map(of).collect()
}

#[tokio::test]
async fn the_page_runs_its_own_script_and_nothing_else() {
    let router = serving(Toy::saying("x"));
    let response = get(&router, "/").await;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let policy = headers["content-security-policy"].to_str().unwrap();
    let page = text(response).await;
    let mut expected = vec!["default-src 'none'".to_owned()];
    for name in ["script", "style"] {
        let text = between(&page, &format!("<{name}>"), &format!("</{name}>"));
        let hash = base64(&Sha256::digest(text.as_bytes()));
        expected.push(format!("{name}-src 'sha256-{hash}'"));
    }
    let rest = [
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ];
    expected.extend(rest.map(str::to_owned));
    assert_eq!(policy, expected.join("; "));
    assert_eq!(send(&router, "POST", "/", Body::empty()).await.status(), 405);
}

#[tokio::test]
async fn the_page_has_no_other_files_and_inserts_text_alone() {
    let page = text(get(&serving(Toy::saying("x")), "/").await).await;
    for odd in ["http:", "https:", "//cdn", "src=", "@import", "url(", " on", "style="] {
        let is_attribute = page.split('<').any(|tag| {
            tag.split_once('>')
                .is_some_and(|(tag, _)| tag.contains(odd) && tag.starts_with(char::is_alphabetic))
        });
        assert!(!is_attribute, "{odd}");
    }
    let script = between(&page, "<script>", "</script>");
    for odd in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "import(",
        "Storage",
        "cookie",
    ] {
        assert!(!script.contains(odd), "{odd}");
    }
}

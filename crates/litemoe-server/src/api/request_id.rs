use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::identity::random_id;

/// Header with the id of a request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LENGTH: usize = 128;

/// The id of a request: the client's if it is plain, else a random one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let mut given = headers.get_all(REQUEST_ID).iter();
    match (given.next(), given.next()) {
        (Some(id), None) if is_plain(id.as_bytes()) => id.clone(),
        _ => HeaderValue::try_from(format!("req-{}", random_id())).expect("letters and digits"),
    }
}

fn is_plain(id: &[u8]) -> bool {
    let in_id = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(in_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(given: &[&str]) -> String {
        let header = |id: &&str| (REQUEST_ID, HeaderValue::from_str(id).unwrap());
        request_id(&given.iter().map(header).collect()).to_str().unwrap().to_owned()
    }

    #[test]
    fn a_plain_id_is_kept_and_others_are_replaced() {
        let longest = "a".repeat(MAX_LENGTH);
        for given in ["1", "0d9f-11ee_a.b:c", &longest] {
            assert_eq!(id(&[given]), given);
        }
        let too_long = "a".repeat(MAX_LENGTH + 1);
        for given in [&[][..], &[""], &["a b"], &["a\"b"], &["a\tb"], &[&too_long], &["a", "b"]] {
            let id = id(given);
            assert!(id.starts_with("req-") && id.len() == 20 && is_plain(id.as_bytes()), "{id}");
        }
        assert_ne!(id(&[]), id(&[]));
    }
}

//! From the handler's answer to what is stored of it, and back to an answer.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode};

use crate::policy::RoutePolicy;
use crate::problem::forbid_retry;
use crate::stored::StoredResponse;

/// What is kept of an answer; a mark where that is longer than the store takes.
pub(crate) fn stored(
    head: &Parts,
    body: &Bytes,
    trailers: Option<&HeaderMap>,
    policy: &RoutePolicy,
    outcome_bytes_max: usize,
) -> StoredResponse {
    let mut stored = StoredResponse::new(head.status, body.clone());
    stored.headers = policy.kept(&head.headers);
    stored.trailers = trailers.map(|trailers| policy.kept(trailers)).unwrap_or_default();
    if stored.encoded_len() > outcome_bytes_max {
        return StoredResponse::mark(head.status);
    }
    stored
}

/// The answer that was stored, marked as a replay; `None` if only a mark was.
pub(crate) fn response(
    stored: StoredResponse,
    policy: &RoutePolicy,
) -> Option<(Response<Bytes>, Option<HeaderMap>)> {
    let mut response = Response::new(stored.body?);
    *response.status_mut() = stored.status;
    *response.headers_mut() = stored.headers;
    let headers = response.headers_mut();
    headers.insert(policy.replayed_header.clone(), HeaderValue::from_static("true"));
    if invites_retry(stored.status) {
        forbid_retry(headers);
    }
    Some((response, Some(stored.trailers).filter(|trailers| !trailers.is_empty())))
}

/// True for a status that SDKs repeat a request for. Repeated, it would be replayed again.
fn invites_retry(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429)
}

#[cfg(test)]
mod tests {
    use super::{response, stored};
    use crate::policy::RoutePolicy;
    use bytes::Bytes;
    use http::Response;

    #[test]
    fn a_replay_has_what_is_kept_of_the_answer_and_its_mark_and_no_cookie() {
        let policy = RoutePolicy::new();
        let head = Response::builder()
            .status(201)
            .header("location", "/payments/7")
            .header("link", "</a>")
            .header("link", "</b>")
            .header("set-cookie", "session=secret")
            .header("x-other", "1")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let kept = stored(&head, &Bytes::from_static(b"paid"), None, &policy, 1 << 20);
        let (replay, trailers) = response(kept, &policy).unwrap();
        assert_eq!((replay.status().as_u16(), replay.body().as_ref()), (201, &b"paid"[..]));
        assert_eq!(replay.headers()["location"], "/payments/7");
        assert_eq!(replay.headers()["idempotency-replayed"], "true");
        let links: Vec<_> = replay.headers().get_all("link").iter().collect();
        assert_eq!(links, ["</a>", "</b>"]);
        assert_eq!((replay.headers().len(), trailers), (4, None));
    }

    #[test]
    fn a_replayed_error_is_not_to_be_sent_again() {
        for status in [200, 404, 500, 503, 429, 409] {
            let head = Response::builder().status(status).body(()).unwrap().into_parts().0;
            let policy = RoutePolicy::new();
            let kept = stored(&head, &Bytes::new(), None, &policy, 1 << 20);
            let (replay, _) = response(kept, &policy).unwrap();
            let told = replay.headers().get("x-should-retry").is_some_and(|value| value == "false");
            assert_eq!(told, status != 200 && status != 404, "{status}");
            assert_eq!(replay.headers().contains_key("stripe-should-retry"), told);
        }
    }

    #[test]
    fn what_the_store_does_not_take_becomes_a_mark() {
        let policy = RoutePolicy::new();
        let head = Response::new(()).into_parts().0;
        let body = Bytes::from(vec![0; 100]);
        let whole = stored(&head, &body, None, &policy, 116);
        assert_eq!((whole.body().is_some(), whole.encode().len()), (true, 116));
        assert!(stored(&head, &body, None, &policy, 115).body().is_none());
    }
}

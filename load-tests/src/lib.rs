//! What the black-box tests stand on: the real binary, scriptable model servers, clients with addresses of their
//! own, and recorded streams. Nothing here knows the inside of checkgate: it speaks HTTP and reads JSON lines.

pub mod attack;
pub mod bench;
pub mod checkgate;
pub mod client;
pub mod faulty_server;
pub mod http2;
pub mod inference;
pub mod model_server;
pub mod oracle;
pub mod scenario;
pub mod streams;
pub mod tls;

/// A body of a request or an answer, sent as the other side takes it.
pub type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, std::io::Error>;

/// Waits for `happening`, which the test demands.
///
/// # Errors
/// Says that `what` did not happen within [`PATIENCE`](checkgate::PATIENCE).
pub async fn within<T>(what: &str, happening: impl Future<Output = T>) -> anyhow::Result<T> {
    let waited = tokio::time::timeout(checkgate::PATIENCE, happening).await;
    waited.map_err(|_| anyhow::anyhow!("{what} did not happen within {:?}", checkgate::PATIENCE))
}

/// Asks again and again until `holds`.
///
/// # Errors
/// Says that `what` did not come to hold within [`PATIENCE`](checkgate::PATIENCE).
pub async fn until(what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    within(what, async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await
}

/// A body that is known whole: it goes out with its length.
#[must_use]
pub fn whole(content: impl Into<bytes::Bytes>) -> Body {
    use http_body_util::BodyExt;
    http_body_util::Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A fingerprint of `content` that an assertion can print.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    format!("{} bytes, hash {:016x}", content.len(), hasher.finish())
}

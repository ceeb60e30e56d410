//! Active health checks: what a row of results says of a server, and how one is asked.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use checkgate_config::settings::{HealthCheck, HttpVersion};
use http::header::{DATE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use tokio::time::timeout;

use super::connect::{Connector, Patience};
use super::connection::{Unbounded, Wanted};
use crate::way::body::WayBody;

/// What the checks say of one server. A server counts as healthy until they say otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    unhealthy: bool,
    /// Results in a row that speak against the present state.
    against: u32,
}

impl Health {
    /// Whether the checks speak for the server.
    pub fn is_healthy(self) -> bool {
        !self.unhealthy
    }

    /// Takes note of a result; says whether the state changed.
    pub fn observe(&mut self, success: bool, check: &HealthCheck) -> bool {
        if success == self.is_healthy() {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = if success { check.healthy_after } else { check.unhealthy_after };
        let changes = self.against >= enough;
        if changes {
            *self = Self { unhealthy: !success, against: 0 };
        }
        changes
    }
}

/// Asks a server once, on a connection of its own: whether it still accepts connections is part of the question.
///
/// # Errors
/// Says why the server does not count as healthy.
pub async fn ask(connector: &Connector, check: &HealthCheck, http: HttpVersion) -> Result<(), String> {
    let Looked { status, .. } = look(connector, check, http).await?;
    let is_success = (200..300).contains(&status);
    if is_success { Ok(()) } else { Err(format!("status {status}")) }
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The status.
    pub status: u16,
    /// The server's own time.
    pub date: Option<SystemTime>,
}

/// Asks a server once, on a connection of its own.
///
/// # Errors
/// Says why there is no answer.
pub async fn look(connector: &Connector, check: &HealthCheck, http: HttpVersion) -> Result<Looked, String> {
    timeout(check.timeout, answered(connector, check, http))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {:?}", check.timeout)))
}

async fn answered(connector: &Connector, check: &HealthCheck, http: HttpVersion) -> Result<Looked, String> {
    let wanted = if http == HttpVersion::Http2 { Wanted::Http2 } else { connector.usual() };
    let patience = Patience { connect: check.timeout, stalled: check.timeout };
    let mut connection = connector.connect(wanted, patience).await.map_err(|error| error.to_string())?;
    connection.drive_apart();
    let request = request(connector, check).map_err(|error| error.to_string())?;
    let sent = connection.send(request, connector.origin(), &mut Unbounded).await;
    sent.ok_or("no answer")?.map_err(|unanswered| unanswered.error.to_string())?;
    let answer = connection.answer().take().ok_or("no answer")?;
    let date =
        answer.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let looked = Looked { status: answer.status().as_u16(), date };
    drain(answer.into_body()).await;
    Ok(looked)
}

fn request(connector: &Connector, check: &HealthCheck) -> http::Result<Request<WayBody>> {
    let nothing = Empty::<Bytes>::new().map_err(|never| match never {});
    Request::builder()
        .method(Method::GET)
        .uri(check.path.as_str())
        .header(HOST, connector.origin().host())
        .header(USER_AGENT, HeaderValue::from_static("checkgate-health"))
        .body(nothing.boxed_unsync())
}

/// Reads what there is of the answer, so that the server does not see a client that breaks off.
async fn drain(mut body: hyper::body::Incoming) {
    const FRAMES_MAX: usize = 64;
    for _ in 0..FRAMES_MAX {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// How long to wait before the first check, so that the servers of an upstream are not asked at the same moment.
pub fn first_after(check: &HealthCheck, server: usize, servers: usize) -> Duration {
    check.every.saturating_mul(u32::try_from(server).unwrap_or(0))
        / u32::try_from(servers.max(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheck {
        HealthCheck {
            path: "/ready".to_owned(),
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
        }
    }

    fn states(results: &[bool]) -> Vec<bool> {
        let mut health = Health::default();
        results
            .iter()
            .map(|success| {
                health.observe(*success, &check());
                health.is_healthy()
            })
            .collect()
    }

    #[test]
    fn a_server_is_taken_out_and_brought_back_by_results_in_a_row() {
        let results = [false, false, true, false, false, false, true, false, true, true];
        let healthy = [true, true, true, true, true, false, false, false, false, true];
        assert_eq!(states(&results), healthy);
    }

    #[test]
    fn only_a_change_is_reported() {
        let mut health = Health::default();
        let changes: Vec<bool> =
            [false; 5].iter().map(|success| health.observe(*success, &check())).collect();
        assert_eq!(changes, [false, false, true, false, false]);
    }

    #[test]
    fn first_checks_are_spread_over_the_interval() {
        let starts: Vec<u64> =
            (0..4).map(|server| first_after(&check(), server, 4).as_millis() as u64).collect();
        assert_eq!(starts, [0, 2_500, 5_000, 7_500]);
    }
}

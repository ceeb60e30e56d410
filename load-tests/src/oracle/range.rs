//! The shooting range: many inputs at one proxy, each judged by what the recorder got of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::http2::{self, Frame};
use super::proxies::Proxy;
use super::recorder::Recorder;
use super::vectors::Vector;
use super::verdict::{Case, Received, Verdict, judge, judge_downgrade};
use super::wire::{Exchange, exchange};
use super::{excerpt, wire};

/// Exchanges that are open at once: enough that one that waits for silence holds up nobody.
const AT_ONCE: usize = 48;

/// One input and what it asks.
#[derive(Clone, Debug)]
pub struct Shot {
    /// For messages.
    pub title: String,
    /// What is asked.
    pub case: Case,
    /// What is sent, segment by segment.
    pub segments: Vec<Vec<u8>>,
}

impl Shot {
    /// A vector as it stands in its file.
    ///
    /// # Errors
    /// Where the file does not follow the format.
    pub fn of(vector: &Vector) -> anyhow::Result<Self> {
        Ok(Self { title: vector.title(), case: Case::of(vector), segments: vector.segments()? })
    }
}

/// One input and how it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of the input.
    pub title: String,
    /// The judgement.
    pub verdict: Verdict,
    /// What went over the wire, for messages.
    pub seen: String,
}

impl Outcome {
    /// One paragraph for a message.
    #[must_use]
    pub fn told(&self) -> String {
        format!("{}: {:?}\n  {}", self.title, self.verdict, self.seen)
    }

    /// Dirty bytes went upstream, an honest request was refused, or the proxy hangs.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self.verdict, Verdict::Fail(_) | Verdict::Hang)
    }

    /// Forwarded in a clean form.
    #[must_use]
    pub fn is_lenient(&self) -> bool {
        matches!(self.verdict, Verdict::Lenient(_))
    }
}

fn seen(exchange: &Exchange) -> String {
    let Exchange { sent, received, closed, .. } = exchange;
    format!("sent {}\n  got {} ({closed:?})", excerpt(sent), excerpt(received))
}

/// What a batch came to.
#[derive(Debug)]
pub struct Batch {
    /// In the order of the inputs.
    pub outcomes: Vec<Outcome>,
    /// Whole messages at the upstream that name none of the clients, or several.
    pub unclaimed: Vec<Vec<u8>>,
}

/// Aims `shots` at `proxy`, in front of `recorder`, and judges each.
///
/// # Errors
/// Where the proxy no longer accepts connections, or keeps its upstream connections open.
pub async fn aim(proxy: &Proxy, recorder: &Recorder, shots: Vec<Shot>) -> anyhow::Result<Batch> {
    if !proxy.names_clients {
        return aim_one_by_one(proxy, recorder, shots).await;
    }
    let (places, address) = (Arc::new(Semaphore::new(AT_ONCE)), proxy.http1);
    let mut open = JoinSet::new();
    for (index, shot) in shots.into_iter().enumerate() {
        let place = Arc::clone(&places).acquire_owned().await?;
        open.spawn(async move {
            let exchanged = exchange(address, &shot.segments).await;
            drop(place);
            (index, shot, exchanged)
        });
    }
    let mut done = open.join_all().await;
    done.sort_by_key(|(index, ..)| *index);
    recorder.settled().await?;
    let received = Received::sorted(recorder.take());
    let judged = done.into_iter().map(|(_, shot, exchanged)| {
        let exchange = exchanged?;
        let verdict = judge(&shot.case, &exchange, received.of(exchange.source));
        Ok(Outcome { title: shot.title, verdict, seen: seen(&exchange) })
    });
    Ok(Batch { outcomes: judged.collect::<anyhow::Result<_>>()?, unclaimed: received.unclaimed.clone() })
}

/// Whatever comes upstream between two exchanges belongs to the first of them.
async fn aim_one_by_one(proxy: &Proxy, recorder: &Recorder, shots: Vec<Shot>) -> anyhow::Result<Batch> {
    let mut outcomes = Vec::new();
    for shot in shots {
        let exchange = exchange(proxy.http1, &shot.segments).await?;
        recorder.settled().await?;
        let upstream: Vec<Vec<u8>> = recorder.take().into_iter().filter(|bytes| !bytes.is_empty()).collect();
        let verdict = judge(&shot.case, &exchange, &upstream);
        outcomes.push(Outcome { title: shot.title, verdict, seen: seen(&exchange) });
    }
    Ok(Batch { outcomes, unclaimed: Vec::new() })
}

/// How long an HTTP/2 connection may say nothing before it counts as hanging.
const HTTP2_PATIENCE: Duration = Duration::from_secs(4);

/// Sends each vector's frames to `proxy` on a connection of its own, and judges what became of them in HTTP/1.1.
///
/// # Errors
/// Where a vector does not follow the format, or the proxy no longer accepts connections.
pub async fn aim_frames(proxy: &Proxy, recorder: &Recorder, vectors: &[Vector]) -> anyhow::Result<Batch> {
    let (places, address) = (Arc::new(Semaphore::new(AT_ONCE)), proxy.http2);
    let mut open = JoinSet::new();
    for (index, vector) in vectors.iter().enumerate() {
        let place = Arc::clone(&places).acquire_owned().await?;
        let (frames, source) = (http2::frames(&vector.text)?, wire::source());
        open.spawn(async move {
            let ending = http2::exchange(address, source, &frames, HTTP2_PATIENCE).await;
            drop(place);
            (index, source, frames, ending)
        });
    }
    let mut done = open.join_all().await;
    done.sort_by_key(|(index, ..)| *index);
    recorder.settled().await?;
    let received = Received::sorted(recorder.take());
    let judged = done.into_iter().zip(vectors).map(|((_, source, frames, ending), vector)| {
        let (ending, upstream) = (ending?, received.of(source));
        let verdict = judge_downgrade(&Case::of(vector), &body(&frames), &ending, upstream);
        let seen = format!("got {ending:?}, upstream {}", excerpt(&upstream.concat()));
        Ok(Outcome { title: vector.title(), verdict, seen })
    });
    Ok(Batch { outcomes: judged.collect::<anyhow::Result<_>>()?, unclaimed: received.unclaimed.clone() })
}

/// The body that the DATA frames carry, without padding.
fn body(frames: &[Frame]) -> Vec<u8> {
    let data = frames.iter().filter(|frame| frame.kind == http2::kind::DATA);
    data.flat_map(|frame| match frame.payload.split_first() {
        Some((padding, rest)) if frame.flags & http2::flag::PADDED != 0 => {
            rest[..rest.len().saturating_sub(usize::from(*padding))].to_vec()
        }
        _ => frame.payload.clone(),
    })
    .collect()
}

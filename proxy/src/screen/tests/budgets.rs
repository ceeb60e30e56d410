use std::collections::BTreeSet;
use std::time::Duration;

use super::super::Refused;
use super::super::frames::{FRAME_BYTES_MAX, Frames};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;

const END_STREAM: u8 = 1;
const ACKNOWLEDGED: u8 = 1;
const PADDED: u8 = 8;

/// What a flood must end within.
const FLOOD_FRAMES_MAX: usize = 10_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head.as_slice(), payload].concat()
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, 4 | END_STREAM, stream, &[0x82, 0x87, 0x84])
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// The number of the `n`th stream of a client.
fn nth(n: usize) -> u32 {
    u32::try_from(2 * n + 1).expect("few streams")
}

/// A connection behind preface and first SETTINGS.
fn connection() -> Frames {
    let mut frames = Frames::default();
    frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Duration::ZERO).expect("the preface");
    frames.read(&frame(SETTINGS, 0, 0, &[]), Duration::ZERO).expect("the first SETTINGS");
    frames
}

/// How many rounds pass at one moment before the connection ends, and why it does.
fn ends(round: impl Fn(usize) -> Vec<u8>) -> Option<(usize, Refused)> {
    let mut frames = connection();
    let mut rounds = 0..=FLOOD_FRAMES_MAX;
    rounds.find_map(|n| Some((n, frames.read(&round(n), Duration::ZERO).err()?)))
}

/// A way to waste the server's time.
type Flood = fn(usize) -> Vec<u8>;

const FLOODS: [(&str, Refused, Flood); 17] = [
    ("requests that are reset at once", Refused::RapidResets, |n| [request(nth(n)), reset(nth(n))].concat()),
    ("resets of one stream", Refused::RapidResets, |_| [request(1), reset(1)].concat()),
    ("resets of a stream that was never opened", Refused::RapidResets, |_| reset(9)),
    ("PING", Refused::Pings, |_| frame(PING, 0, 0, &[0; 8])),
    ("answers to a PING that nobody sent", Refused::Pings, |_| frame(PING, ACKNOWLEDGED, 0, &[0; 8])),
    ("empty SETTINGS", Refused::Settings, |_| frame(SETTINGS, 0, 0, &[])),
    ("SETTINGS", Refused::Settings, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
    ("SETTINGS acknowledged", Refused::Settings, |_| frame(SETTINGS, ACKNOWLEDGED, 0, &[])),
    ("empty DATA", Refused::EmptyData, |_| frame(DATA, 0, 1, &[])),
    ("DATA of padding", Refused::EmptyData, |_| frame(DATA, PADDED, 1, &[3, 0, 0, 0])),
    ("CONTINUATION of one block", Refused::Continuations, |_| frame(CONTINUATION, 0, 1, &[0x82])),
    ("empty CONTINUATION", Refused::Continuations, |_| frame(CONTINUATION, 0, 1, &[])),
    ("WINDOW_UPDATE by 1", Refused::WindowUpdates, |_| window_update(0, 1)),
    ("WINDOW_UPDATE by 0", Refused::OddFrames, |_| window_update(1, 0)),
    ("PRIORITY", Refused::Priorities, |n| frame(PRIORITY, 0, nth(n), &[0, 0, 0, 0, 1])),
    ("PRIORITY_UPDATE", Refused::Priorities, |_| frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 0, 1, b'u'])),
    ("frames of an unknown type", Refused::OddFrames, |_| frame(99, 0, 0, &[])),
];

/// The reasons that the tests of this file name.
pub fn reasons() -> BTreeSet<&'static str> {
    let alone = [Refused::Preface, Refused::FrameTooLarge, Refused::Resets];
    FLOODS.iter().map(|(_, reason, _)| *reason).chain(alone).map(Refused::as_str).collect()
}

#[test]
fn every_flood_ends_within_ten_thousand_frames() {
    for (name, reason, flood) in FLOODS {
        let (_, found) = ends(flood).unwrap_or_else(|| panic!("{name} go on"));
        assert_eq!(found, reason, "{name}");
    }
}

#[test]
fn fifty_thousand_rapid_resets_open_fewer_than_two_hundred_streams() {
    let one_by_one = ends(|n| [request(nth(n)), reset(nth(n))].concat());
    let (streams, _) = one_by_one.expect("it ends");
    assert!(streams < 100, "{streams} streams were opened one by one");
    let hundred = |n: usize| 100 * n..100 * (n + 1);
    let by_the_hundred = ends(|n| {
        let requests = hundred(n).map(|n| request(nth(n)));
        requests.chain(hundred(n).map(|n| reset(nth(n)))).collect::<Vec<_>>().concat()
    });
    assert_eq!(by_the_hundred, Some((0, Refused::RapidResets)), "a hundred at once, then their resets");
}

#[test]
fn large_window_updates_end_too() {
    let mut frames = connection();
    let update = window_update(0, 65_535);
    let passed = (0..60_000).take_while(|_| frames.read(&update, Duration::ZERO).is_ok()).count();
    assert_eq!(passed, 50_000, "as many as a client of the fastest download sends");
}

#[test]
fn resets_of_streams_that_have_been_open_are_counted_too() {
    let mut frames = connection();
    for n in 0..600 {
        frames.read(&request(nth(n)), Duration::ZERO).expect("a request");
    }
    let later = Duration::from_secs(11);
    let end = (0..600).find_map(|n| Some((n, frames.read(&reset(nth(n)), later).err()?)));
    assert_eq!(end, Some((256, Refused::Resets)), "more than may be open at once, and not without end");
}

#[test]
fn a_budget_comes_back_with_the_next_window_and_a_lifetime_does_not() {
    let round = |n: usize| [request(nth(n)), reset(nth(n))].concat();
    let mut frames = connection();
    let mut end = None;
    for n in 0..100_000 {
        // 30 in each window of 10 s.
        let now = Duration::from_secs(n / 30 * 10);
        end = frames.read(&round(usize::try_from(n).expect("small")), now).err().map(|reason| (n, reason));
        if end.is_some() {
            break;
        }
    }
    assert_eq!(end, Some((2_000, Refused::RapidResets)), "a thousand, and one for every two streams opened");
}

#[test]
fn an_odd_beginning_is_refused() {
    let mut frames = Frames::default();
    assert_eq!(frames.read(b"GET / HTTP/1.1\r\n", Duration::ZERO), Err(Refused::Preface));
}

#[test]
fn a_frame_may_have_16_kib_and_no_more() {
    let largest = vec![0; usize::try_from(FRAME_BYTES_MAX).expect("small")];
    let mut frames = connection();
    assert_eq!(frames.read(&frame(DATA, 0, 1, &largest), Duration::ZERO), Ok(()));
    let larger = frame(DATA, 0, 1, &[largest.as_slice(), &[0]].concat());
    assert_eq!(frames.read(&larger[..9], Duration::ZERO), Err(Refused::FrameTooLarge), "by its head alone");
}

/// What an honest client sends in one second.
type Second = fn(usize) -> Vec<u8>;

const HONEST: [(&str, Second); 7] = [
    ("gRPC, 1,000 questions a second, a tenth of them given up", |second| {
        let streams = (1_000 * second..1_000 * second + 1_000).map(nth);
        streams.flat_map(|n| [request(n), if n % 20 == 1 { reset(n) } else { vec![] }].concat()).collect()
    }),
    ("a gRPC stream that measures bandwidth 400 times a second", |_| frame(PING, 0, 0, &[7; 8]).repeat(400)),
    ("a keep-alive PING and the answer to the server's", |_| {
        [frame(PING, 0, 0, &[1; 8]), frame(PING, ACKNOWLEDGED, 0, &[2; 8])].concat()
    }),
    ("a download of 60 MB a second, acknowledged frame by frame", |_| {
        [window_update(0, 16_384), window_update(1, 16_384)].concat().repeat(2_400)
    }),
    ("200 small events a second, each acknowledged", |_| {
        [window_update(0, 120), window_update(1, 120)].concat().repeat(200)
    }),
    ("windows that grow", |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 2, 0, 0])),
    ("an upload of full frames with an empty last one", |second| {
        let data = frame(DATA, 0, nth(second), &[0; 16_384]).repeat(100);
        [request(nth(second)), data, frame(DATA, END_STREAM, nth(second), &[])].concat()
    }),
];

#[test]
fn honest_clients_stay_connected_for_ten_minutes() {
    for (name, second) in HONEST {
        let mut frames = connection();
        for n in 0..600 {
            let now = Duration::from_secs(u64::try_from(n).expect("small"));
            assert_eq!(frames.read(&second(n), now), Ok(()), "{name}, second {n}");
        }
    }
}

#[test]
fn a_browser_may_order_and_give_up_a_page() {
    let mut frames = connection();
    let mut sent = Vec::new();
    for n in 0..60 {
        sent.extend(frame(PRIORITY, 0, nth(n), &[0, 0, 0, 0, 200]));
        sent.extend(frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 0, 1, b'u', b'=', b'3']));
        sent.extend(request(nth(n)));
    }
    sent.extend((0..60).flat_map(|n| reset(nth(n))));
    assert_eq!(frames.read(&sent, Duration::ZERO), Ok(()));
}

#[test]
fn slices_of_one_byte_count_the_same() {
    for (name, _, flood) in FLOODS {
        let whole = ends(flood);
        let mut frames = connection();
        let bytewise = (0..=FLOOD_FRAMES_MAX).find_map(|n| {
            let bytes = flood(n);
            Some((n, bytes.iter().find_map(|byte| frames.read(&[*byte], Duration::ZERO).err())?))
        });
        assert_eq!(bytewise, whole, "{name}");
    }
}

use proptest::prelude::*;

use super::super::http1::{Bad, Http1, Phase};
use super::{BOUNDS, generated, vectors};

/// What came of a connection: its messages and its phase, and the fault with the place from which nothing may go on.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    heads: u64,
    phase: Phase,
    fault: Option<Bad>,
}

/// Reads `bytes` in slices whose lengths come from `lengths`, over and over. Beside the outcome, where the slice with
/// the fault began.
fn read(bytes: &[u8], lengths: &[usize]) -> (Outcome, usize) {
    let mut screen = Http1::new(BOUNDS);
    let mut lengths = lengths.iter().cycle();
    let (mut start, mut fault) = (0, None);
    while start < bytes.len() && fault.is_none() {
        let end = bytes.len().min(start + lengths.next().expect("a length"));
        fault = screen.read(&bytes[start..end]).err().map(|bad| Bad { clean: bad.clean + start, ..bad });
        start = if fault.is_none() { end } else { start };
    }
    (Outcome { heads: screen.heads(), phase: screen.phase(), fault }, start)
}

fn assert_slices_do_not_matter(bytes: &[u8], lengths: &[usize]) {
    let (whole, _) = read(bytes, &[usize::MAX / 2]);
    let (sliced, start) = read(bytes, lengths);
    // What came with earlier slices has gone on already.
    let fault = whole.fault.map(|bad| Bad { clean: bad.clean.max(start), ..bad });
    assert_eq!(sliced.fault, fault, "the fault of {lengths:?} of {:?}", bytes.escape_ascii().to_string());
    if fault.is_none() {
        assert_eq!(sliced, whole, "the end of {lengths:?} of {:?}", bytes.escape_ascii().to_string());
    }
}

#[test]
fn vectors_get_the_same_verdict_in_slices() {
    let vectors = vectors::accepted().into_iter().chain(vectors::refused());
    for vector in vectors {
        for lengths in [[1, 1, 1], [2, 2, 2], [1, 7, 3], [16, 1, 64]] {
            assert_slices_do_not_matter(&vector.bytes, &lengths);
        }
    }
}

proptest! {
    #[test]
    fn any_stream_gets_the_same_verdict_in_slices(
        bytes in generated::mutated(),
        lengths in prop::collection::vec(1..30_usize, 1..6),
    ) {
        assert_slices_do_not_matter(&bytes, &lengths);
    }

    #[test]
    fn clean_streams_are_accepted(bytes in generated::clean()) {
        let mut screen = Http1::new(BOUNDS);
        prop_assert_eq!(screen.read(&bytes), Ok(()), "{}", bytes.escape_ascii());
        prop_assert_eq!(screen.phase(), Phase::Idle, "all of it was read");
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        assert_slices_do_not_matter(&bytes, &[1]);
    }
}

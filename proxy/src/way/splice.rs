//! A body with some of its values replaced and not one byte besides.

use checkgate_detectors::facts::Span;

/// `body` with the text at each span replaced; of several edits at one place the first counts. Nothing where a span
/// lies outside of the body or two overlap.
pub fn spliced(body: &[u8], mut edits: Vec<(Span, String)>) -> Option<Vec<u8>> {
    edits.sort_by_key(|(span, _)| span.start);
    edits.dedup_by_key(|(span, _)| span.start);
    let mut spliced = Vec::with_capacity(body.len());
    let mut copied = 0;
    for (span, text) in &edits {
        spliced.extend_from_slice(body.get(copied..span.start)?);
        spliced.extend_from_slice(text.as_bytes());
        copied = span.end;
    }
    spliced.extend_from_slice(body.get(copied..)?);
    Some(spliced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(start: usize, end: usize, text: &str) -> (Span, String) {
        (Span { start, end }, text.to_owned())
    }

    #[test]
    fn the_text_at_each_span_is_replaced_in_whatever_order() {
        let spliced = spliced(b"[1, 22, 333]", vec![edit(8, 11, "c"), edit(1, 2, "aaaa"), edit(8, 11, "d")]);
        assert_eq!(spliced.as_deref(), Some(&b"[aaaa, 22, c]"[..]));
    }

    #[test]
    fn spans_that_do_not_fit_give_nothing() {
        assert_eq!(spliced(b"[1]", vec![edit(1, 9, "x")]), None, "outside");
        assert_eq!(spliced(b"[123]", vec![edit(1, 3, "x"), edit(2, 4, "y")]), None, "overlapping");
    }
}

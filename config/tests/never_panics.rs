//! Whatever stands in a file, reading it ends in settings or in problems.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail loudly, as tests do")]

mod support;

use checkgate_config::{problem, read};
use proptest::prelude::*;
use support::PARTS;

/// Shipped files and mistakes, as seeds.
fn seeds() -> Vec<String> {
    ["examples", "invalid"]
        .iter()
        .map(|folder| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

/// Pieces that mean something to YAML or to a setting.
const PIECES: &[&str] = &[
    "\n",
    "  ",
    "\t",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|",
    ">-",
    "&a ",
    "*a",
    "!!int ",
    "? ",
    "---\n",
    "...",
    "%YAML 1.2",
    "~",
    "null",
    ".nan",
    "-1",
    "1e400",
    "99999999999999999999",
    "0x",
    "${",
    "\u{feff}",
    "\u{0}",
    "\r",
    "\u{2028}",
    "é",
    "models",
    "off",
    "{fallback: x}",
    "http://[::1]:1",
    "10.0.0.0/8",
    "1MiB",
    "15m",
];

fn mutated() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(PIECES));
    (prop::sample::select(seeds()), prop::collection::vec(edit, 1..6)).prop_map(|(text, edits)| {
        let mut letters: Vec<char> = text.chars().collect();
        for (at, removed, piece) in edits {
            let start = at.index(letters.len() + 1);
            let end = (start + removed).min(letters.len());
            letters.splice(start..end, piece.chars());
        }
        letters.into_iter().collect()
    })
}

fn ends_well(text: &str) -> Result<(), TestCaseError> {
    if let Err(problems) = read(text, "checkgate.yaml", &PARTS) {
        prop_assert!(!problems.is_empty(), "a refusal must say why");
        for one in &problems {
            prop_assert!(
                one.place.is_some_and(|place| place.line > 0 && place.column > 0),
                "no place: {one:?}"
            );
        }
        prop_assert!(!problem::render(&problems).is_empty());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_examples_end_in_settings_or_problems(text in mutated()) {
        ends_well(&text)?;
    }

    #[test]
    fn arbitrary_bytes_end_in_settings_or_problems(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        ends_well(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn heaps_of_pieces_end_in_settings_or_problems(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..80),
    ) {
        ends_well(&pieces.concat())?;
    }
}

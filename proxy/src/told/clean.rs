//! Texts of unknown origin on their way to people, and into formats that have no escapes of their own.
//!
//! The rule, one everywhere: what steers is written as `\uXXXX`, as JSON has it (one UTF-16 unit in four small hexadecimal
//! digits; two of them for a character beyond U+FFFF), and so is a backslash that stands before `u` and four hexadecimal
//! digits. Everything else stands as it is. Whoever replaces each `\uXXXX` by its unit, once and from left to right, has
//! the text as it was.

use std::fmt::Write;

/// Digits of an escape.
const DIGITS: usize = 4;

/// The text with everything that steers escaped. Not to be used twice: the second time escapes the escapes.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (letter, escape) in letters(text) {
        if escape {
            write_escape(letter, "\\", &mut shown);
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// The letters of a text, each with whether it has to be escaped.
pub fn letters(text: &str) -> impl Iterator<Item = (char, bool)> {
    text.char_indices().map(|(at, letter)| {
        let looks_escaped = || letter == '\\' && text.get(at + 1..).is_some_and(goes_on_as_escape);
        (letter, steers(letter) || looks_escaped())
    })
}

fn goes_on_as_escape(rest: &str) -> bool {
    let digits = rest.strip_prefix('u').and_then(|rest| rest.as_bytes().get(..DIGITS));
    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// Writes a letter as its escape; `backslash` is how the format writes one.
pub fn write_escape(letter: char, backslash: &str, shown: &mut String) {
    for unit in letter.encode_utf16(&mut [0; 2]) {
        // Writing to a String cannot fail.
        let _ = write!(shown, "{backslash}u{unit:04x}");
    }
}

/// JSON in which what steers is escaped as well, though JSON does not ask for it: many tools show what they get.
#[must_use]
pub fn clean_json(plain: String) -> String {
    // Between values JSON may have ends of lines; within a text it has none.
    let risky = |letter: char| steers(letter) && letter != '\n';
    if !plain.contains(risky) {
        return plain;
    }
    let mut text = String::with_capacity(plain.len() + 64);
    for letter in plain.chars() {
        if risky(letter) {
            write_escape(letter, "\\", &mut text);
        } else {
            text.push(letter);
        }
    }
    text
}

/// What another program says about itself, with U+FFFD for everything that steers: it is shown in several places on its
/// way, and nobody needs it back.
#[must_use]
pub fn replaced(text: &str) -> String {
    text.chars().map(|letter| if steers(letter) { '\u{fffd}' } else { letter }).collect()
}

/// Whether a character could steer a terminal, end a line, have text read in another order than it stands, hide text, or
/// is none that XML may hold.
#[must_use]
pub fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            // Marks, embeddings, overrides and isolates of the bidirectional algorithm, and its deprecated switches.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Ends of lines and of paragraphs, for some readers.
            | '\u{2028}' | '\u{2029}'
            // A byte order mark, annotations that hide what they annotate, and what is no character.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            // Tags: letters that nothing shows and some programs read.
            | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a text back by the rule alone.
    pub(crate) fn read_back(shown: &str) -> String {
        let (mut units, mut rest) = (Vec::new(), shown);
        while let Some(letter) = rest.chars().next() {
            let digits = rest.strip_prefix("\\u").and_then(|rest| rest.get(..DIGITS));
            match digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) {
                Some(unit) => {
                    units.push(unit);
                    rest = &rest[2 + DIGITS..];
                }
                None => {
                    units.extend_from_slice(letter.encode_utf16(&mut [0; 2]));
                    rest = &rest[letter.len_utf8()..];
                }
            }
        }
        String::from_utf16(&units).unwrap_or_else(|_| panic!("{shown:?} holds half a character"))
    }

    #[test]
    fn every_naughty_string_shows_nothing_that_steers_and_reads_back() {
        for text in naughty_strings::BLNS.iter().chain(&crate::sinks::tests::HOSTILE) {
            let shown = clean(text);
            assert!(!shown.contains(steers), "{shown:?}");
            assert_eq!(read_back(&shown), *text, "{shown:?}");
        }
    }

    #[test]
    fn what_looks_like_an_escape_is_told_apart_from_one() {
        for (text, shown) in [
            ("a\u{1b}[2J", "a\\u001b[2J"),
            ("a\\u001b", "a\\u005cu001b"),
            ("\\\u{1b}\\\\u001B\\u00", "\\\\u001b\\\\u005cu001B\\u00"),
            ("\\ud83d\u{e0041}", "\\u005cud83d\\udb40\\udc41"),
            ("C:\\users\\prices", "C:\\users\\prices"),
        ] {
            assert_eq!(clean(text), shown);
            assert_eq!(read_back(shown), text);
        }
    }

    #[test]
    fn json_that_is_cleaned_says_the_same() {
        for text in naughty_strings::BLNS {
            let value = serde_json::json!({ *text: [text] });
            for plain in [value.to_string(), format!("{value:#}")] {
                let shown = clean_json(plain);
                assert!(!shown.contains(|letter| steers(letter) && letter != '\n'), "{shown:?}");
                assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back(text in "\\PC{0,20}|[\\x00-\\x1f\\\\u0-9a-fA-F\u{202e}\u{e0041}]{0,40}") {
            let shown = clean(&text);
            prop_assert!(!shown.contains(steers));
            prop_assert_eq!(read_back(&shown), text);
        }
    }
}
